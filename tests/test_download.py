"""Downloads from a local server that cuts, refuses, delays and lies: one sentence, or the right clips."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile

import pytest
from servers import CLIPS, FILE, LATER, make_zip, md5, noise, tree
from synthetic import call, python

from datasets import catalogue
from runtime import progress
from tools import data_download

ADDRESS, API = f"/records/1/files/{FILE}", "/api/records/1"
NEXT = LATER | {"test/section_00_source_test_normal_0000.wav": b"RIFF"}
EVAL, LIST = "/records/3/files/eval_ToyCar.zip", b"ToyCar\nsection_00_0000.wav,section_00_source_test_normal_0000.wav\n"
LABELLED = {
    f"{folder}/{name}.wav": noise(30)
    for folder, name in zip(
        ("test", "test_rename"), ("section_00_0000", "section_00_source_test_normal_0000"), strict=True
    )
}
RENAMES = {"os.rename", "os.link", "os.remove"}  # Python's audit events of changed files
FILE_EVENTS = RENAMES | {"open", "os.mkdir", "os.rmdir"}
CATALOGUE = """
zenodo:
  file: https://zenodo.invalid/records/{record}/files/{file}
  record: https://zenodo.invalid/api/records/{record}
DCASE2099T2:
  channels: 1
  label_list: https://labels.invalid/list.csv
  dev:
    machine_types: [ToyCar]
    sections: [0]
    archives:
      dev: {record: 1, file: "dev_{m}.zip"}
  eval:
    machine_types: [ToyCar]
    sections: [0]
    archives:
      add: {record: 2, file: "add_{m}.zip", files: {ToyCar: add_ToyCar_r2.zip}}
      eval: {record: 3, file: "eval_{m}.zip"}
  md5: {}
"""
pytestmark = pytest.mark.usefixtures("slept")


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def raw(data):
    """Return the folder of the clips."""
    return data / "dcase2099t2/dev_data/raw/ToyCar"


@pytest.fixture
def offer(server, tmp_path, monkeypatch):
    """Return a function that puts a zip of files on the server, and its md5, if wanted, into the catalogue."""
    sums = {}
    monkeypatch.setattr(catalogue, "CATALOGUE", tmp_path / "catalogue.yaml")

    def put(files: dict, address: str = ADDRESS, has_md5: bool = True) -> bytes:
        content = server.files[address] = make_zip(files)
        sums.pop(address.rpartition("/")[2], None)
        if has_md5:
            sums[address.rpartition("/")[2]] = md5(content)
        catalogue.CATALOGUE.write_text(CATALOGUE.replace("md5: {}", f"md5: {json.dumps(sums)}"))
        catalogue._read.cache_clear()
        return content

    put({})
    yield put
    catalogue._read.cache_clear()


@pytest.fixture
def fetch(server, data, offer, call_command):
    """Return a function that calls the command for a part of the challenge."""

    def fetch(*words: object):
        words = ("--dataset_directory", data, "--mirror", server.address, *(words or ("dev",)))
        return call_command(data_download.main, "DCASE2099T2", *words)

    return fetch


def assert_complete(raw, files=CLIPS):
    """Check that the files are in place, and no temporary ones left."""
    assert tree(raw) == files
    data = raw.parents[3]
    assert [path for path in data.rglob("*") if path.suffix in (".zip", ".part", ".unpacking", ".partial")] == []


def succeed(outcome):
    assert outcome.status == 0, outcome.err
    return outcome.out


def fail(outcome):
    """Check that a download failed in one sentence; return it."""
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1 and "unexpected" not in outcome.err
    return outcome.err


# --- what is installed ------------------------------------------------------------------------------------------------


def test_an_archive_is_fetched_verified_and_unpacked_and_a_second_run_sends_no_request(server, offer, fetch, raw):
    offer(NEXT)
    out = succeed(fetch())
    assert "ToyCar: dev_ToyCar.zip fetched (0.1 MB, md5 of the catalogue), 5 files unpacked\n" in out
    assert "supplemental/section_00_supplemental_0000.wav" in tree(raw)
    assert_complete(raw, NEXT)
    server.requests.clear()
    assert succeed(fetch()) == "ToyCar: dev_ToyCar.zip is in place\n"
    assert server.requests == []


def test_two_archives_of_a_machine_type_are_installed_side_by_side(server, offer, fetch, data):
    """The second has the name that the catalogue gives for this machine type."""
    train = {name: content for name, content in CLIPS.items() if not name.startswith("test")}
    offer(train, "/records/2/files/add_ToyCar_r2.zip")
    offer({"test/section_00_0000.wav": noise(30), "supplemental/a.wav": noise(31)}, EVAL)
    server.files["/list.csv"] = LIST
    for part in ("add", "eval", "add"):
        succeed(fetch(part))
    assert_complete(data / "dcase2099t2/eval_data/raw/ToyCar", train | LABELLED | {"supplemental/a.wav": noise(31)})
    assert len(server.requests) == 3


def test_the_domains_of_2021_are_merged_into_test(server, offer, fetch, raw):
    clips = {f"{d}_test/section_00_{d}_test_normal_0000.wav": noise(i) for i, d in enumerate(("source", "target"))}
    train = {"train/section_00_source_train_normal_0000.wav": noise(3)}
    offer(train | clips)
    assert "ToyCar: 2 clips of source_test and target_test merged into test" in succeed(fetch())
    merged = {f"test/{name.partition('/')[2]}": content for name, content in clips.items()}
    assert_complete(raw, train | clips | merged)
    server.requests.clear()
    assert "in place" in succeed(fetch())
    assert server.requests == []


def test_clips_that_are_already_in_place_are_completed_and_no_others_removed(offer, fetch, raw):
    (raw / "train").mkdir(parents=True)
    (raw / "train" / "section_00_normal_0099.wav").write_bytes(b"mine")
    offer(CLIPS)
    succeed(fetch())
    assert_complete(raw, CLIPS | {"train/section_00_normal_0099.wav": b"mine"})


def test_a_machine_type_whose_test_clips_are_gone_is_fetched_again(offer, fetch, raw):
    offer(CLIPS)
    succeed(fetch())
    shutil.rmtree(raw / "test")
    succeed(fetch())
    assert_complete(raw)


def test_fewer_clips_than_the_catalogue_has_are_reported(offer, fetch, raw):
    offer(CLIPS)
    text = catalogue.CATALOGUE.read_text()
    catalogue.CATALOGUE.write_text(
        text.replace("  eval:\n", "    clips: {train: {source normal: 4, target normal: 1}, test: {}}\n  eval:\n", 1)
    )
    catalogue._read.cache_clear()
    succeed(fetch())
    assert succeed(fetch()) == f"ToyCar: {FILE} is in place\n"
    next((raw / "train").iterdir()).unlink()
    problem = f"train has 4 of 5 clips; remove {raw} to fetch it again"
    assert succeed(fetch()) == f"ToyCar: {FILE} is in place, but {problem}\n"


def test_files_that_macos_adds_to_archives_are_skipped(offer, fetch, raw):
    extra = {zipfile.ZipInfo(name): b"x" for name in ("__MACOSX/ToyCar/._a", ".DS_Store", "ToyCar/train/._a.wav")}
    offer(CLIPS | extra)
    succeed(fetch())
    assert_complete(raw)
    assert not [path for path in raw.parent.rglob("*") if path.name.startswith(("._", ".DS", "__"))]


# --- the network ------------------------------------------------------------------------------------------------------


def test_a_download_cut_three_times_is_resumed(server, offer, fetch, raw):
    offer(CLIPS)
    server.faults = [{"break_after": 50_000}, {"break_after": 30_000}, {"break_after": 10_000}]
    succeed(fetch())
    starts = [int(wanted[6:-1]) for wanted in server.ranges()[1:]]
    assert server.ranges()[0] is None
    assert starts == sorted(starts) and 40_000 < starts[0] < 50_001 and 75_000 < starts[2] < 90_001
    assert_complete(raw)


def test_only_tries_without_new_bytes_are_limited(server, offer, fetch, raw, slept):
    offer(CLIPS)
    server.faults = [{"break_after": 9_000}] * 10
    succeed(fetch())
    assert slept == [1] * 10
    assert_complete(raw)


def test_a_server_without_ranges_is_asked_for_the_whole_again(server, offer, fetch, raw):
    offer(CLIPS)
    server.has_ranges, server.faults = False, [{"break_after": 50_000}]
    succeed(fetch())
    assert_complete(raw)


def test_a_process_killed_while_it_receives_is_resumed_by_the_next(server, offer, fetch, raw, data):
    offer(CLIPS)
    server.faults = [{"break_after": 60_000, "waits": True}]
    words = ("DCASE2099T2", "dev", "--dataset_directory", data, "--mirror", server.address)
    child = os.fork()
    if child == 0:
        os._exit(call(data_download.main, *words))
    part, deadline = data / f"dcase2099t2/dev_data/downloads/{FILE}.part", time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 50_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    server.may_end.set()
    succeed(fetch())
    assert int(server.ranges()[1][6:-1]) > 50_000
    assert_complete(raw)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(server, offer, fetch, raw, slept, status):
    offer(CLIPS)
    server.faults = [{"status": status, "headers": {"Retry-After": value}} for value in ("7", "nonsense")]
    out = succeed(fetch())
    assert slept == [7, 2]  # 2: the second failure's own wait
    assert f"the server answers {status}" in out and "next try in 7 s" in out
    assert_complete(raw)


def test_a_server_that_stays_broken_ends_in_one_sentence_and_the_next_run_resumes(server, offer, fetch, raw, slept):
    offer(CLIPS)
    server.faults = [{"break_after": 50_000}, *[{"status": 502}] * 10]
    sentence = fail(fetch())
    assert f"{FILE} cannot be fetched: the server answers 502" in sentence and "run again later" in sentence
    assert slept == [1, 2, 4, 8, 16]
    server.faults.clear()
    server.requests.clear()
    succeed(fetch())
    assert int(server.ranges()[0][6:-1]) > 40_000
    assert_complete(raw)


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_not_retried(server, offer, fetch, slept, status):
    server.faults = [{"status": status}]
    assert f"{FILE} cannot be fetched: the server answers {status}" in fail(fetch())
    assert slept == []


def test_an_unreachable_server_ends_in_one_sentence(offer, fetch, slept):
    assert f"{FILE} cannot be fetched: Connection refused" in fail(fetch("dev", "--mirror", "http://127.0.0.1:1"))
    assert len(slept) == 5


def test_a_redirect_is_followed(server, offer, fetch, raw):
    offer(CLIPS)
    server.faults = [{"status": 302, "headers": {"Location": ADDRESS}}, {"break_after": 50_000}]
    succeed(fetch())
    assert_complete(raw)


def test_progress_is_lines_in_a_log_and_a_bar_on_a_terminal(offer, fetch, raw, monkeypatch):
    offer(CLIPS)
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0)
    assert re.search(r"^dev_ToyCar.zip: \d\d ?% of [\d.,]+ M?B", succeed(fetch()), re.MULTILINE)
    shutil.rmtree(raw)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert re.search(r"dev_ToyCar.zip .*%.*/1\d\dk B, ", fetch().err)


# --- wrong content ----------------------------------------------------------------------------------------------------


def test_wrong_bytes_are_refused_and_removed_and_the_next_run_is_right(server, offer, fetch, raw):
    right = offer(CLIPS)
    server.files[ADDRESS] = make_zip(LATER)
    assert f"its md5 is {md5(make_zip(LATER))}, but the catalogue has {md5(right)}" in fail(fetch())
    assert_complete(raw, {})
    server.files[ADDRESS] = right
    succeed(fetch())
    assert_complete(raw)


@pytest.mark.parametrize("received", [50_000, 120_000])
def test_a_file_replaced_on_the_server_is_never_mixed_with_what_was_received(server, offer, fetch, raw, received):
    """Even if the new one is shorter: a sentence, then the right clips."""
    offer(CLIPS)
    server.faults = [{"break_after": received}, *[{"status": 500}] * 6]
    fail(fetch())
    offer(NEXT)
    server.faults.clear()
    assert "its md5 is" in fail(fetch())
    succeed(fetch())
    assert_complete(raw, NEXT)


def test_a_file_shorter_than_announced_is_refused(server, offer, fetch, raw):
    offer(CLIPS)
    server.has_ranges, server.faults = False, [{"break_after": 50_000}] * 10
    assert "run again later" in fail(fetch())
    assert tree(raw) == {}
    server.faults.clear()
    succeed(fetch())
    assert_complete(raw)


def test_an_unknown_md5_is_requested_from_zenodo(server, offer, fetch, raw):
    content = offer(CLIPS, has_md5=False)
    record = {"files": [{"key": "other.zip"}, {"key": FILE, "checksum": "md5:" + "0" * 32}]}
    server.files[API] = json.dumps(record).encode()
    assert "but Zenodo's API has 0000" in fail(fetch())
    record["files"][1]["checksum"] = f"md5:{md5(content)}"
    server.files[API] = json.dumps(record).encode()
    assert "(0.1 MB, md5 of Zenodo's API)" in succeed(fetch())
    assert_complete(raw)
    server.requests.clear()
    assert "in place" in succeed(fetch())
    assert server.requests == []


@pytest.mark.parametrize("answer", [None, b"<html>", b"[]", b'{"files": [{"key": "dev_ToyCar.zip"}]}'])
def test_without_any_md5_the_zips_crc_is_verified(server, offer, fetch, raw, answer):
    whole = offer(CLIPS, has_md5=False)
    if answer is not None:
        server.files[API] = answer
    flipped = bytearray(whole)
    flipped[30_000] ^= 1
    for broken in (whole[:-100], whole[:50_000], bytes(flipped), b"", b"<html>"):
        server.files[ADDRESS] = broken
        assert "truncated, damaged or not a zip" in fail(fetch())
        assert_complete(raw, {})
    server.files[ADDRESS] = whole
    assert "no md5 known: size and zip CRC" in succeed(fetch())
    assert_complete(raw)


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        *[(zipfile.ZipInfo(name), "") for name in ("../evil", "ToyCar/../../evil", "/evil", "../ToyCar/evil")],
        *[(zipfile.ZipInfo(name), "not below ToyCar/") for name in ("evil", "fan/train/evil.wav", "toycar/evil")],
        (link("ToyCar/evil"), "a link"),
        (link("ToyCar/train"), "a link"),
    ],
)
def test_an_archive_with_a_member_outside_its_folder_or_a_link_is_refused(offer, fetch, tmp_path, raw, member, reason):
    offer(CLIPS | {member: b"/tmp"})
    sentence = fail(fetch())
    assert repr(member.filename) in sentence and reason in sentence
    assert not [path for path in tmp_path.rglob("*") if path.name == "evil"]
    assert_complete(raw, {})


# --- the disk, kills and other processes ------------------------------------------------------------------------------


@pytest.mark.parametrize(("is_while_unpacking"), [False, True])
def test_a_disk_that_takes_no_more_ends_in_one_sentence_and_the_next_run_is_right(
    server, offer, fetch, raw, is_while_unpacking
):
    files = CLIPS | ({"train/section_00_long.wav": noise(1, 10_000) * 16} if is_while_unpacking else {})
    offer(files)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000 if is_while_unpacking else 50_000, limits[1]))
    try:
        sentence = fail(fetch())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large; choose another --dataset_directory" in sentence
    assert tree(raw) == {}
    server.requests.clear()
    succeed(fetch())
    assert server.ranges() == ([] if is_while_unpacking else ["bytes=50000-"])
    assert_complete(raw, files)


def test_a_folder_that_cannot_be_written_is_reported(offer, fetch, data):
    data.write_text("a file")
    offer(CLIPS)
    assert "data" in fail(fetch())


def stop_at(n: int, data, events: set[str], number: int) -> None:
    """Send this process a signal at the n-th of these events that changes a file below the data folder."""
    left = iter(range(1, n + 1))

    def look(event: str, arguments: tuple) -> None:
        is_there = any(str(argument).startswith(str(data)) for argument in arguments)
        is_change = event in events and not (event == "open" and arguments[2] & os.O_ACCMODE == os.O_RDONLY)
        if is_there and is_change and next(left, None) == n:
            os.kill(os.getpid(), number)

    sys.addaudithook(look)


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("server", signal.SIGKILL),
        ("directory", signal.SIGKILL),
        ("directory", signal.SIGINT),
        ("labels", signal.SIGKILL),
    ],
)
def test_a_run_killed_at_any_call_leaves_whole_clips_and_the_next_completes_them(
    server, offer, fetch, data, tmp_path, source, number
):
    """Between two renames too: train there, test not. The archive is deleted last."""
    (tmp_path / FILE).write_bytes(offer(NEXT))
    part, files = ("eval", LABELLED) if source == "labels" else ("dev", NEXT)
    words = (part, "--from_directory", tmp_path) if source == "directory" else (part,)
    raw = data / f"dcase2099t2/{part}_data/raw/ToyCar"
    offer({name: content for name, content in LABELLED.items() if name.startswith("test/")}, EVAL)
    server.files["/list.csv"] = LIST
    n, status = 0, 1
    while status != 0:
        n += 1
        child = os.fork()
        if child == 0:
            stop_at(n, data, FILE_EVENTS if source == "server" else RENAMES, number)
            os._exit(
                call(data_download.main, "DCASE2099T2", *words, "--dataset_directory", data, "--mirror", server.address)
            )
        status = os.waitpid(child, 0)[1]
        found = tree(raw)
        assert found.items() <= files.items(), n
        has_archive = (raw.parents[1] / "downloads" / FILE).exists()
        assert found in ({}, files) or has_archive or source != "server", n
        succeed(fetch(*words))
        assert_complete(raw, files)
        shutil.rmtree(data)
    assert n > 4


def test_two_processes_at_once_fetch_once(server, offer, raw, data):
    offer(CLIPS)
    server.may_answer.clear()
    words = ["x", "DCASE2099T2", "dev", "--dataset_directory", str(data), "--mirror", server.address]
    command = python(
        "from pathlib import Path; from datasets import catalogue; from tools import data_download",
        f"catalogue.CATALOGUE, sys.argv = Path({str(catalogue.CATALOGUE)!r}), {words!r}",
        "sys.exit(data_download.main())",
    )
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    threading.Timer(1.5, server.may_answer.set).start()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted("in place" in line for line in said) == [False, True]
    assert len(server.requests) == 1
    assert_complete(raw)


# --- the user's own archives ------------------------------------------------------------------------------------------


def test_archives_are_taken_from_a_directory_and_left_there(server, offer, fetch, raw, data, tmp_path):
    content = offer(CLIPS)
    (tmp_path / FILE).write_bytes(content)
    part = data / f"dcase2099t2/dev_data/downloads/{FILE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"PK")  # of a download that was stopped
    line = f"ToyCar: {FILE} taken from {tmp_path} (0.1 MB, md5 of the catalogue), 7 files unpacked\n"
    assert succeed(fetch("dev", "--from_directory", tmp_path)) == line
    assert "in place" in succeed(fetch("dev", "--from_directory", tmp_path / "nowhere"))
    assert_complete(raw)
    shutil.rmtree(data)
    offer(CLIPS, has_md5=False)
    assert "(0.1 MB, no md5 known: zip CRC)" in succeed(fetch("dev", "--from_directory", tmp_path))
    assert (tmp_path / FILE).read_bytes() == content
    assert server.requests == []
    assert_complete(raw)


def test_a_missing_or_wrong_archive_in_the_directory_is_reported_and_not_downloaded(
    server, offer, fetch, data, tmp_path
):
    offer(CLIPS)
    assert f"{tmp_path} has no {FILE}; put it there" in fail(fetch("dev", "--from_directory", tmp_path))
    assert f"{tmp_path / 'no'}" in fail(fetch("dev", "--from_directory", tmp_path / "no"))
    assert not data.exists()
    (tmp_path / FILE).write_bytes(make_zip(LATER))
    sentence = fail(fetch("dev", "--from_directory", tmp_path))
    assert f"{tmp_path / FILE} cannot be used: its md5 is" in sentence
    assert (tmp_path / FILE).read_bytes() == make_zip(LATER)
    assert server.requests == []


def test_the_directory_may_be_the_downloads_folder(server, offer, fetch, raw, data):
    directory = data / "dcase2099t2/dev_data/downloads"
    directory.mkdir(parents=True)
    (directory / FILE).write_bytes(offer(CLIPS))
    for _ in range(2):
        succeed(fetch("dev", "--from_directory", directory))
        assert (directory / FILE).exists()
    assert tree(raw) == CLIPS
    assert server.requests == []


def test_an_archive_in_the_downloads_folder_is_verified_and_not_fetched_again(server, offer, fetch, raw, data):
    content, directory = offer(CLIPS), data / "dcase2099t2/dev_data/downloads"
    directory.mkdir(parents=True)
    (directory / FILE).write_bytes(content)
    succeed(fetch())
    assert server.requests == []
    assert_complete(raw)
    shutil.rmtree(raw)
    (directory / FILE).write_bytes(content[:-1])
    succeed(fetch())
    assert len(server.requests) == 1
    assert_complete(raw)
