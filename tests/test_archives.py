"""Archives: verified, unpacked completely or not at all, and installed once."""

import json
import re
import time
import zipfile

import pytest
from servers import CLIPS, FILE, LATER, assert_in_place, fetch_code, make_zip, md5, noise, tree
from synthetic import python, run

from common import InputError
from datasets import archives
from datasets.archives import fetch_archive

pytestmark = pytest.mark.usefixtures("slept")


def test_an_archive_is_fetched_verified_and_unpacked(server, raw):
    line = fetch_archive(server.offer(CLIPS), raw)
    assert re.fullmatch(r"ToyCar: dev_ToyCar.zip fetched \(0.1 MB, md5 of the catalogue\), 7 files unpacked", line)
    assert_in_place(raw)


def test_a_second_run_sends_no_request(server, raw):
    archive = server.offer(CLIPS)
    fetch_archive(archive, raw)
    server.requests.clear()
    assert fetch_archive(archive, raw) == "ToyCar: dev_ToyCar.zip is in place"
    assert server.requests == []


def test_a_second_run_does_not_import_the_packages_that_download(server, raw):
    archive = server.offer(CLIPS)
    fetch_archive(archive, raw)
    loaded = "print({'requests', 'pooch', 'fasteners', 'tqdm', 'numpy'} & set(sys.modules))"
    process = run(*python(fetch_code(archive, raw), loaded))
    assert process.stdout == "ToyCar: dev_ToyCar.zip is in place\nset()\n", process.stderr


@pytest.mark.parametrize("damage", ["gone", "shortened", "receipt gone", "receipt broken"])
def test_incomplete_clips_or_receipts_are_fetched_again(server, raw, damage):
    archive = server.offer(CLIPS)
    fetch_archive(archive, raw)
    clip = raw / "ToyCar" / next(iter(CLIPS))
    receipt = raw / "ToyCar" / ".fetched" / f"{FILE}.json"
    if damage == "gone":
        clip.unlink()
    elif damage == "shortened":
        clip.write_bytes(b"RIFF")
    elif damage == "receipt gone":
        receipt.unlink()
    else:
        receipt.write_text('{"md5": ')
    assert "7 files unpacked" in fetch_archive(archive, raw)
    assert_in_place(raw)


def test_a_replaced_archive_replaces_its_clips_and_no_others(server, raw):
    fetch_archive(server.offer(CLIPS), raw)
    (raw / "ToyCar" / "train" / "mine.wav").write_bytes(b"mine")
    assert "4 files unpacked" in fetch_archive(server.offer(LATER), raw)
    assert_in_place(raw, LATER | {"train/mine.wav": b"mine"})
    assert not (raw / "ToyCar" / "test").exists()


def test_two_archives_of_a_machine_type_are_kept_side_by_side(server, raw):
    test = {"test/section_00_0000.wav": noise(30), "attributes_00.csv": b"of the second\n"}
    offered = [server.offer(LATER, "train.zip"), server.offer(test, "test.zip")]
    for archive in offered:
        fetch_archive(archive, raw)
    assert_in_place(raw, LATER | test)
    assert all("in place" in fetch_archive(archive, raw) for archive in offered)  # a file of both asks for neither


def test_an_archive_replaced_after_a_run_stopped_midway_leaves_no_strays(server, raw, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        merge = archives._merge
        patch.setattr(archives, "_merge", lambda *folders: (merge(*folders), stop()))
        fetch_archive(server.offer(CLIPS), raw)
    assert tree(raw / "ToyCar") == CLIPS
    fetch_archive(server.offer(LATER), raw)
    assert_in_place(raw, LATER)


# --- checksums --------------------------------------------------------------------------------------------------------


def test_a_wrong_checksum_unpacks_nothing_and_the_next_run_is_right(server, raw):
    archive = server.offer(CLIPS)
    server.files[f"/{FILE}"] = make_zip(LATER)
    with pytest.raises(InputError, match=rf"its md5 is {md5(make_zip(LATER))}, but the catalogue has {archive.md5}"):
        fetch_archive(archive, raw)
    assert tree(raw / "ToyCar") == {}
    server.files[f"/{FILE}"] = make_zip(CLIPS)
    fetch_archive(archive, raw)
    assert_in_place(raw)


def test_an_unknown_checksum_is_requested_from_zenodo(server, raw):
    archive = server.offer(CLIPS, md5=None, api_url=server.url("api/records/1"))
    record = {"files": [{"key": "other.zip"}, {"key": FILE, "checksum": "md5:" + "0" * 32, "size": 1}]}
    server.files["/api/records/1"] = json.dumps(record).encode()
    with pytest.raises(InputError, match="but Zenodo's API has 0000"):
        fetch_archive(archive, raw)
    record["files"][1]["checksum"] = f"md5:{md5(server.files[f'/{FILE}'])}"
    server.files["/api/records/1"] = json.dumps(record).encode()
    assert "(0.1 MB, md5 of Zenodo's API)" in fetch_archive(archive, raw)
    server.requests.clear()
    assert "in place" in fetch_archive(archive, raw)
    assert server.requests == []


@pytest.mark.parametrize("answer", [None, b"<html>", b"[]", b'{"files": [{"key": "dev_ToyCar.zip"}]}'])
def test_without_a_checksum_size_and_crc_are_verified(server, raw, answer):
    archive = server.offer(CLIPS, md5=None, api_url=server.url("api/records/1"))
    if answer is not None:
        server.files["/api/records/1"] = answer
    whole = server.files[f"/{FILE}"]
    flipped = bytearray(whole)
    flipped[30_000] ^= 1
    longer = bytearray(whole)
    longer[whole.rindex(b"PK\1\2") + 24] += 1  # the last member's size in the directory
    for broken in (whole[:-100], whole[:50_000], bytes(flipped), bytes(longer), b"", b"<html>"):
        server.files[f"/{FILE}"] = broken
        with pytest.raises(InputError, match="truncated, damaged or not a zip"):
            fetch_archive(archive, raw)
        assert tree(raw / "ToyCar") == {}
    server.files[f"/{FILE}"] = whole
    assert "no md5 known: size and zip CRC" in fetch_archive(archive, raw)
    assert_in_place(raw)


def test_a_complete_download_of_an_earlier_run_is_verified_and_not_fetched_again(server, raw):
    archive = server.offer(CLIPS)
    (raw.parent / "downloads").mkdir(parents=True)
    (raw.parent / "downloads" / FILE).write_bytes(server.files[f"/{FILE}"])
    fetch_archive(archive, raw)
    assert server.requests == []
    assert_in_place(raw)
    (raw.parent / "downloads" / FILE).write_bytes(make_zip(CLIPS))
    later = server.offer(LATER)
    fetch_archive(later, raw)
    assert_in_place(raw, LATER)


# --- contents ---------------------------------------------------------------------------------------------------------


def symlink(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        *[
            (name, "not a plain relative path")
            for name in ("../evil", "ToyCar/../../evil", "/evil", "C:/evil", "ToyCar/train/..\\evil", "ToyCar//evil")
        ],
        *[(name, "not below ToyCar") for name in ("evil", "ToyCar", "fan/train/evil.wav", "toycar/evil")],
        (symlink("ToyCar/train"), "a link"),
        ("ToyCar/attributes_00.csv", "occurs twice"),
        ("ToyCar/train", "damaged"),  # a file and a folder of one name
        (f"ToyCar/{'x' * 300}", "damaged"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_a_harmful_member_is_refused_as_a_whole(server, tmp_path, raw, member, reason):
    info = member if isinstance(member, zipfile.ZipInfo) else zipfile.ZipInfo("x")
    info.filename = member if isinstance(member, str) else member.filename
    archive = server.offer(CLIPS | {info: b"/tmp"})
    with pytest.raises(InputError, match=reason):
        fetch_archive(archive, raw)
    assert not [path for path in tmp_path.rglob("*") if path.name == "evil"]
    assert tree(raw / "ToyCar") == {}


def test_an_archive_that_expands_too_much_is_refused(server, raw):
    with pytest.raises(InputError, match="more than 20 times its size"):
        fetch_archive(server.offer({"train/a.wav": bytes(10_000_000)}), raw)
    assert tree(raw / "ToyCar") == {}


def test_files_that_macos_adds_to_archives_are_skipped(server, raw):
    extra = {zipfile.ZipInfo(name): b"x" for name in ("__MACOSX/ToyCar/._a", ".DS_Store", "ToyCar/.fetched/x.json")}
    fetch_archive(server.offer(CLIPS | extra), raw)
    assert_in_place(raw)


def test_many_tiny_files_are_not_unpacked(server, raw):
    """60,000 empty members used to be unpacked one by one."""
    many = {f"train/section_00_source_train_normal_{i:05d}.wav": b"" for i in range(60_000)}
    started = time.monotonic()
    with pytest.raises(InputError, match=r"it holds 60000 files of 0.0 MB in total, too small for clips"):
        fetch_archive(server.offer(many), raw)
    assert time.monotonic() - started < 60
    assert tree(raw / "ToyCar") == {}


# --- receipts ---------------------------------------------------------------------------------------------------------


OUTSIDE = ("../../precious.wav", "train/../../../precious.wav", "{root}/precious.wav", "linked/precious.wav")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_crafted_receipt_deletes_nothing_outside(server, tmp_path, raw, name):
    precious = [raw.parent / "precious.wav", raw / "precious.wav", tmp_path / "precious.wav"]
    fetch_archive(server.offer(CLIPS), raw)
    for path in precious:
        path.write_bytes(b"mine")
    (raw / "ToyCar" / "linked").symlink_to(tmp_path)
    receipt = raw / "ToyCar" / ".fetched" / f"{FILE}.json"
    content = json.loads(receipt.read_text())
    content["files"][name.format(root=tmp_path)] = 4
    receipt.write_text(json.dumps(content))
    fetch_archive(server.offer(LATER), raw)
    assert [path.read_bytes() for path in precious] == [b"mine"] * 3


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "1",
        "null",
        '{"md5": "x"}',
        '{"md5": 1, "files": {}}',
        '{"md5": "x", "files": []}',
        '{"md5": "x", "files": {"train/a.wav": "4"}}',
        '{"md5": "x", "files": {"train/a.wav": null}}',
        '{"md5": "x", "files": {"\\ud800": 4}}',
        '{"md5": "x", "files": {"' + "x" * 5000 + '": 4}}',
        '{"md5": "x", "files": {"train": 4}}',
        '{"md5": "x", "files": {".fetched/lock": 0}}',
        "[" * 100_000,
        '{"md5": "x", "files": {"a": ' + "9" * 5000 + "}}",
        "\udcff",
    ],
)
def test_a_broken_receipt_is_ignored(server, raw, content):
    archive = server.offer(CLIPS)
    fetch_archive(archive, raw)
    receipt = raw / "ToyCar" / ".fetched" / f"{FILE}.json"
    receipt.write_bytes(content.encode(errors="surrogatepass"))
    assert "7 files unpacked" in fetch_archive(archive, raw)
    assert_in_place(raw)


# --- the user's own archives ------------------------------------------------------------------------------------------


def test_archives_are_taken_from_a_directory_and_left_there(server, raw, tmp_path):
    archive = server.offer(CLIPS)
    (tmp_path / FILE).write_bytes(server.files[f"/{FILE}"])
    line = fetch_archive(archive, raw, tmp_path)
    assert line.endswith(f"taken from {tmp_path} (0.1 MB, md5 of the catalogue), 7 files unpacked")
    assert "in place" in fetch_archive(archive, raw, tmp_path / "nowhere")
    later = server.offer(LATER, md5=None, api_url=server.url("api/records/1"))
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / FILE).write_bytes(make_zip(LATER))
    assert "(0.1 MB, no md5 known: zip CRC)" in fetch_archive(later, tmp_path / "raw of later", tmp_path / "later")
    assert server.requests == []
    assert md5((tmp_path / FILE).read_bytes()) == archive.md5
    assert_in_place(raw)


def test_an_archive_missing_from_the_directory_is_reported_and_not_downloaded(server, raw, tmp_path):
    with pytest.raises(InputError, match=rf"{tmp_path} has no {FILE}"):
        fetch_archive(server.offer(CLIPS), raw, tmp_path)
    with pytest.raises(InputError, match=rf"there is no folder {tmp_path}/nowhere; correct --from_directory"):
        fetch_archive(server.offer(CLIPS), raw, tmp_path / "nowhere")
    assert server.requests == []
    assert not raw.exists()


def test_a_wrong_archive_in_the_directory_is_refused_and_left_there(server, raw, tmp_path):
    archive = server.offer(CLIPS)
    (tmp_path / FILE).write_bytes(make_zip(LATER))
    with pytest.raises(InputError, match=rf"{tmp_path / FILE} cannot be used: its md5 is"):
        fetch_archive(archive, raw, tmp_path)
    assert (tmp_path / FILE).read_bytes() == make_zip(LATER)


def test_the_directory_may_be_the_downloads_folder(server, raw):
    archive = server.offer(CLIPS)
    directory = raw.parent / "downloads"
    directory.mkdir(parents=True)
    (directory / FILE).write_bytes(server.files[f"/{FILE}"])
    for _ in range(2):
        fetch_archive(archive, raw, directory)
        assert (directory / FILE).exists()
    assert tree(raw / "ToyCar") == CLIPS
