"""Downloads and archives: whatever server, disk, Ctrl-C or kill -9 do, the next run ends with the right files."""

import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from synthetic import REPOSITORY, run

from common import InputError
from datasets import archives, download, session
from datasets.archives import Archive, fetch_archive
from datasets.download import fetch_file, read_url
from tools.runtime import files, progress

FILE = "dev_ToyCar.zip"
FILE_CALLS = {"open", "write", "mkdir", "rename", "replace", "unlink", "rmdir"}  # where a run is stopped


def noise(seed: int, n_bytes: int = 20_000) -> bytes:
    return random.Random(seed).randbytes(n_bytes)


CLIPS = {f"train/section_00_source_train_normal_{i:04d}.wav": noise(i) for i in range(5)} | {
    "test/section_00_source_test_anomaly_0000.wav": noise(9),
    "attributes_00.csv": b"file_name,d1p,d1v\n",
}
LATER = {  # the archive's next version: a clip replaced, one gone, a folder gone, a folder new
    "train/section_00_source_train_normal_0000.wav": noise(20),
    "train/section_00_source_train_normal_0001.wav": noise(1),
    "supplemental/section_00_supplemental_0000.wav": noise(21),
    "attributes_00.csv": b"file_name,d1p,d1v,d2p\n",
}


def make_zip(files: dict, machine_type: str = "ToyCar") -> bytes:
    """Return a zip of files below a machine type, always the same; keys that are a ZipInfo stand as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(f"{machine_type}/{name}")
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files of a machine type by name, without those of datasets/archives.py."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".fetched" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class Handler(BaseHTTPRequestHandler):
    """Serves bytes from memory, with ranges, after the fault that is next in line."""

    disable_nagle_algorithm = True  # no waiting for the other side's acknowledgement

    def do_GET(self):
        """Answer."""
        server: FileServer = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        fault = server.faults.pop(0) if server.faults else {}
        server.may_answer.wait(20)
        content = server.files.get(self.path)
        status = fault.get("status", 404 if content is None else 200)
        headers, content, start = fault.get("headers", {}), content or b"", 0
        etag = f'"{md5(content)}"'
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_same = self.headers.get("If-Range", etag) == etag or not server.heeds_if_range
        if status == 200 and wanted and server.has_ranges and is_same:
            start = int(wanted[1])
            status = 206 if start < len(content) else 416
            end = min(len(content), start + server.longest_range)
            headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"} if status == 206 else {}
            content = content[:end]
        self.send_response(status)
        body = content[start:] if status in (200, 206) else b""
        if server.has_etag:
            headers = headers | {"ETag": etag}
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: fault.get("break_after")])

    def log_message(self, *_):
        """Say nothing."""


class FileServer(ThreadingHTTPServer):
    """A server on this machine; `faults` are what goes wrong with the next requests, one each."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: list[dict] = []
        self.requests: list[tuple[str, str | None]] = []
        self.longest_range = sys.maxsize
        self.has_ranges = self.has_etag = self.heeds_if_range = True
        self.may_answer = threading.Event()
        self.may_answer.set()

    def url(self, name: str) -> str:
        """Return the address of a file."""
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def offer(self, files: dict, file: str = FILE, **fields) -> Archive:
        """Serve a zip of these files, and return its line of the catalogue, changed as `fields` say."""
        content = self.files[f"/{file}"] = make_zip(files)
        return Archive(**{"url": self.url(file), "file": file, "machine_type": "ToyCar", "md5": md5(content)} | fields)

    def ranges(self) -> list[str | None]:
        """Return the Range of each request so far."""
        return [wanted for _, wanted in self.requests]


def python(*lines: str) -> list[str]:
    """Return the command of a Python that finds this repository's modules."""
    folders = [str(REPOSITORY), str(REPOSITORY / "tests")]
    return [sys.executable, "-c", "\n".join(("import sys", f"sys.path[:0] = {folders!r}", *lines))]


def fetching(archive: Archive, raw: Path) -> str:
    """Return the code of a fetch in a process of its own."""
    imports = "from pathlib import Path\nfrom datasets.archives import Archive, fetch_archive\n"
    return f"{imports}print(fetch_archive({archive!r}, Path({str(raw)!r})))"


@pytest.fixture
def server():
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def slept(monkeypatch) -> list[float]:
    """Return the waits that were asked for; nobody waits, neither for a server nor for the disk (fsync)."""
    waits = []
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(session, "sleep", waits.append)
    monkeypatch.setattr(download, "CHUNK", 4096)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return waits


@pytest.fixture
def raw(tmp_path) -> Path:
    return tmp_path / "data" / "dcase2023t2" / "dev_data" / "raw"


def assert_settled(raw: Path, files: dict = CLIPS) -> None:
    """Check that the files are there and nothing that is no longer needed."""
    assert tree(raw / "ToyCar") == files
    downloads = raw.parent / "downloads"
    assert not downloads.exists() or list(downloads.iterdir()) == []
    assert {path.suffix for path in (raw / "ToyCar" / ".fetched").iterdir()} <= {".json", ""}
    assert not list(raw.rglob("*.unpacking"))


def break_off(server: FileServer, archive: Archive, raw: Path, after: int = 50_000) -> None:
    """Leave a part of an archive behind."""
    server.faults = [{"break_after": after}, *[{"status": 500}] * download.TRIES]
    with pytest.raises(InputError):
        fetch_archive(archive, raw)
    server.faults = []


# --- fetching ---------------------------------------------------------------------------------------------------------


def test_an_archive_is_fetched_verified_and_unpacked(server, raw):
    line = fetch_archive(server.offer(CLIPS), raw)
    assert re.fullmatch(r"ToyCar: dev_ToyCar.zip fetched \(0.1 MB, md5 of the catalogue\), 7 files unpacked", line)
    assert_settled(raw)


def test_a_second_run_asks_the_server_nothing(server, raw):
    archive = server.offer(CLIPS)
    fetch_archive(archive, raw)
    server.requests.clear()
    assert fetch_archive(archive, raw) == "ToyCar: dev_ToyCar.zip is in place"
    assert server.requests == []


def test_a_second_run_is_quick_it_does_not_even_import_the_packages_of_a_download(server, raw):
    archive = server.offer(CLIPS)
    fetch_archive(archive, raw)
    loaded = "print({'requests', 'pooch', 'fasteners', 'tqdm', 'numpy'} & set(sys.modules))"
    process = run(*python(fetching(archive, raw), loaded))
    assert process.stdout == "ToyCar: dev_ToyCar.zip is in place\nset()\n", process.stderr


@pytest.mark.parametrize("damage", ["gone", "shortened", "receipt gone", "receipt broken"])
def test_what_is_no_longer_complete_is_fetched_again(server, raw, damage):
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
    assert_settled(raw)


def test_a_replaced_archive_replaces_its_clips_and_no_others(server, raw):
    fetch_archive(server.offer(CLIPS), raw)
    (raw / "ToyCar" / "train" / "mine.wav").write_bytes(b"mine")
    assert "4 files unpacked" in fetch_archive(server.offer(LATER), raw)
    assert_settled(raw, LATER | {"train/mine.wav": b"mine"})
    assert not (raw / "ToyCar" / "test").exists()


def test_two_archives_of_a_machine_type_stand_side_by_side(server, raw):
    test = {"test/section_00_0000.wav": noise(30), "attributes_00.csv": b"of the second\n"}
    offered = [server.offer(LATER, "train.zip"), server.offer(test, "test.zip")]
    for archive in offered:
        fetch_archive(archive, raw)
    assert_settled(raw, LATER | test)
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
    assert_settled(raw, LATER)


# --- what a server does -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_etag", [True, False])
def test_a_download_resumes_after_a_break(server, raw, slept, has_etag):
    server.has_etag = has_etag
    server.faults = [{"break_after": 50_000}, {"break_after": 30_000}]
    fetch_archive(server.offer(CLIPS), raw)
    first, second, third = server.ranges()
    assert first is None
    assert 40_000 < int(second[6:-1]) <= 50_000
    assert 70_000 < int(third[6:-1]) <= 80_000
    assert slept == [1, 1]  # each try brought something new
    assert_settled(raw)


def test_a_connection_cut_at_random_bytes_again_and_again_ends_right(server, raw, slept):
    generator = random.Random(2023)
    cuts = [generator.randrange(20_000) for _ in range(20)]
    server.faults = [{"break_after": cut} for cut in cuts]
    fetch_archive(server.offer(CLIPS), raw)
    assert len(server.requests) > 5
    assert_settled(raw)


def test_the_next_run_resumes(server, raw, monkeypatch):
    archive = server.offer(CLIPS)
    server.faults = [{"break_after": 50_000}]
    with monkeypatch.context() as patch, pytest.raises(InputError, match="run again later"):
        patch.setattr(download, "TRIES", 1)
        fetch_archive(archive, raw)
    assert tree(raw / "ToyCar") == {}
    fetch_archive(archive, raw)
    assert int(server.ranges()[1][6:-1]) > 40_000
    assert_settled(raw)


def test_a_server_may_send_less_than_the_rest(server, raw):
    server.longest_range, server.faults = 20_000, [{"break_after": 50_000}]
    fetch_archive(server.offer(CLIPS), raw)
    assert len(server.requests) == 1 + 4
    assert_settled(raw)


def test_from_a_server_without_ranges_the_download_starts_over(server, raw):
    server.has_ranges = False
    server.faults = [{"break_after": 50_000}]
    fetch_archive(server.offer(CLIPS), raw)
    assert_settled(raw)


def test_breaks_that_bring_nothing_new_are_bounded_and_those_that_do_are_not(server, raw, slept):
    server.faults = [{"break_after": 8_192}] * 10
    fetch_archive(server.offer(CLIPS), raw)
    server.has_ranges, server.faults = False, [{"break_after": 8_192}] * 10
    with pytest.raises(InputError, match=rf"{FILE} cannot be fetched.*{download.TRIES} times in succession"):
        fetch_archive(server.offer(LATER), raw)
    assert tree(raw / "ToyCar") == CLIPS


@pytest.mark.parametrize("has_etag", [True, False])
@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_two_versions_are_never_mixed(server, raw, has_etag, heeds_if_range):
    old, new = server.offer(CLIPS), make_zip(LATER)
    server.has_etag, server.heeds_if_range = has_etag, heeds_if_range
    break_off(server, old, raw)
    server.files[f"/{FILE}"] = new
    fetch_archive(Archive(old.url, FILE, "ToyCar", md5(new), None), raw)
    assert_settled(raw, LATER)


def test_a_part_longer_than_the_file_is_thrown_away(server, raw):
    server.heeds_if_range = False
    break_off(server, server.offer(CLIPS), raw, after=120_000)
    fetch_archive(server.offer(LATER), raw)  # 416, then the whole
    assert_settled(raw, LATER)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for(server, raw, slept, status):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    server.faults = [{"status": status, "headers": {"Retry-After": value}} for value in ("7", date, "nonsense")]
    fetch_archive(server.offer(CLIPS), raw)
    assert slept[0] == 7
    assert 60 < slept[1] <= 90
    assert slept[2] == 4  # the back-off of the third failure
    assert_settled(raw)


def test_a_server_that_asks_for_hours_is_left_alone(server, raw, slept):
    server.faults = [{"status": 429, "headers": {"Retry-After": "7200"}}]
    with pytest.raises(InputError, match="asks to wait 7200 s"):
        fetch_archive(server.offer(CLIPS), raw)
    assert slept == []


def test_server_errors_are_retried_with_back_off(server, raw, slept):
    server.faults = [{"status": 500}] * download.TRIES
    with pytest.raises(InputError, match="500"):
        fetch_archive(server.offer(CLIPS), raw)
    assert slept == [1, 2, 4, 8, 16]
    assert len(server.requests) == download.TRIES


def test_a_refused_connection_is_retried(server, raw, slept):
    archive = server.offer(CLIPS, url="http://127.0.0.1:1/x.zip")
    with pytest.raises(InputError, match=r"http://127.0.0.1:1/x.zip cannot be fetched: Connection refused"):
        fetch_archive(archive, raw)
    assert len(slept) == download.TRIES - 1


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_the_server_refuses_is_not_retried(server, raw, slept, status):
    server.faults = [{"status": status}]
    with pytest.raises(InputError, match=rf"http://.*{FILE} cannot be fetched: the server answers {status}.*catalogue"):
        fetch_archive(server.offer(CLIPS), raw)
    assert slept == []


def test_an_invalid_address_is_reported(server, raw):
    with pytest.raises(InputError, match="zenodo cannot be fetched"):
        fetch_archive(server.offer(CLIPS, url="zenodo"), raw)


def test_pooch_can_use_the_downloader(server, tmp_path):
    import pooch

    archive = server.offer(CLIPS)
    server.faults = [{"break_after": 50_000}]
    path = pooch.retrieve(archive.url, f"md5:{archive.md5}", FILE, tmp_path, downloader=download.download)
    assert Path(path).read_bytes() == server.files[f"/{FILE}"]
    assert os.listdir(tmp_path) == [FILE]  # noqa: PTH208


def test_a_small_file_is_written_whole_or_not_at_all(server, tmp_path):
    path = tmp_path / "labels" / "eval_data_list_2023.csv"
    server.files["/list"] = b"ToyDrone\n"
    server.faults = [{"break_after": 4}, {"status": 503}]
    fetch_file(server.url("list"), path)
    server.faults = [{"status": 404}]
    with pytest.raises(InputError, match="list cannot be fetched"):
        fetch_file(server.url("list"), path)
    assert path.read_bytes() == b"ToyDrone\n"


def test_progress_is_lines_in_a_log_and_a_bar_on_a_terminal(server, raw, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0)
    fetch_archive(server.offer(CLIPS), raw)
    shown = capsys.readouterr().out
    assert re.search(r"^dev_ToyCar.zip: 5\d ?% of [\d.,]+ M?B", shown, re.MULTILINE)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch_archive(server.offer(LATER), raw)
    assert re.search(r"dev_ToyCar.zip .*%.*/60.7k B, ", capsys.readouterr().err)


# --- verifying --------------------------------------------------------------------------------------------------------


def test_a_wrong_checksum_unpacks_nothing_and_the_next_run_is_right(server, raw):
    archive = server.offer(CLIPS)
    server.files[f"/{FILE}"] = make_zip(LATER)
    with pytest.raises(InputError, match=rf"its md5 is {md5(make_zip(LATER))}, but the catalogue has {archive.md5}"):
        fetch_archive(archive, raw)
    assert tree(raw / "ToyCar") == {}
    server.files[f"/{FILE}"] = make_zip(CLIPS)
    fetch_archive(archive, raw)
    assert_settled(raw)


def test_an_unknown_checksum_is_asked_of_zenodo(server, raw):
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
def test_without_any_checksum_size_and_crc_decide(server, raw, answer):
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
    assert_settled(raw)


def test_an_archive_that_a_run_left_whole_is_verified_and_not_fetched_again(server, raw):
    archive = server.offer(CLIPS)
    (raw.parent / "downloads").mkdir(parents=True)
    (raw.parent / "downloads" / FILE).write_bytes(server.files[f"/{FILE}"])
    fetch_archive(archive, raw)
    assert server.requests == []
    assert_settled(raw)
    (raw.parent / "downloads" / FILE).write_bytes(make_zip(CLIPS))
    later = server.offer(LATER)
    fetch_archive(later, raw)
    assert_settled(raw, LATER)


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
def test_an_archive_with_a_member_that_may_do_harm_is_refused_as_a_whole(server, tmp_path, raw, member, reason):
    info = member if isinstance(member, zipfile.ZipInfo) else zipfile.ZipInfo("x")
    info.filename = member if isinstance(member, str) else member.filename
    archive = server.offer(CLIPS | {info: b"/tmp"})
    with pytest.raises(InputError, match=reason):
        fetch_archive(archive, raw)
    assert not [path for path in tmp_path.rglob("*") if path.name == "evil"]
    assert tree(raw / "ToyCar") == {}


def test_an_archive_that_swells_is_refused(server, raw):
    with pytest.raises(InputError, match="more than 20 times its size"):
        fetch_archive(server.offer({"train/a.wav": bytes(10_000_000)}), raw)
    assert tree(raw / "ToyCar") == {}


def test_what_macos_leaves_in_archives_is_skipped(server, raw):
    extra = {zipfile.ZipInfo(name): b"x" for name in ("__MACOSX/ToyCar/._a", ".DS_Store", "ToyCar/.fetched/x.json")}
    fetch_archive(server.offer(CLIPS | extra), raw)
    assert_settled(raw)


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_free_space_is_checked_before_downloading_and_unpacking(server, raw, tmp_path, monkeypatch):
    archive = server.offer(CLIPS)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: download.shutil._ntuple_diskusage(0, 0, 100_000))
    with pytest.raises(InputError, match=r"downloads has 0.1 MB free, but 0.3 MB are needed; free 0.2 MB there"):
        fetch_archive(archive, raw)
    (tmp_path / FILE).write_bytes(server.files[f"/{FILE}"])
    with pytest.raises(InputError, match=r"free 0.0 MB there"):
        fetch_archive(archive, raw, tmp_path)
    assert tree(raw / "ToyCar") == {}
    monkeypatch.undo()
    fetch_archive(archive, raw)
    assert_settled(raw)


@pytest.mark.parametrize("suffix", [".part", ".wav"])
def test_a_disk_that_fills_up_is_reported_and_the_next_run_resumes(server, raw, monkeypatch, suffix):
    class FullFile(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > 16_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    def opened(path, mode="r", *args, **kwargs):
        full = path.suffix == suffix and mode == "xb"
        return FullFile(path, mode) if full else open(path, mode, *args, **kwargs)  # noqa: PTH123

    archive = server.offer(CLIPS)
    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"No space left on device.*free space there"):
        patch.setattr(Path, "open", opened)
        if suffix == ".part":
            patch.setattr(download, "_open_part", lambda part: FullFile(part, "ab"))
        fetch_archive(archive, raw)
    assert tree(raw / "ToyCar") == {}
    assert not list(raw.rglob("*.unpacking"))
    fetch_archive(archive, raw)
    first, *others = server.ranges()
    assert first is None
    assert len(others) == (suffix == ".part")
    assert all(10_000 < int(wanted[6:-1]) <= 16_000 for wanted in others)  # what the disk took was kept
    assert_settled(raw)


def test_a_folder_that_cannot_be_written_is_reported(server, tmp_path):
    (tmp_path / "raw").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write .*raw"):
        fetch_archive(server.offer(CLIPS), tmp_path / "raw")


# --- archives that the user has ---------------------------------------------------------------------------------------


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
    assert_settled(raw)


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


def test_the_directory_may_be_the_one_of_the_downloads(server, raw):
    archive = server.offer(CLIPS)
    directory = raw.parent / "downloads"
    directory.mkdir(parents=True)
    (directory / FILE).write_bytes(server.files[f"/{FILE}"])
    for _ in range(2):
        fetch_archive(archive, raw, directory)
        assert (directory / FILE).exists()
    assert tree(raw / "ToyCar") == CLIPS


# --- several processes, Ctrl-C, kill -9 -------------------------------------------------------------------------------


def stop_at(n: int, stop) -> None:
    """Call stop() at the n-th call that touches the file system, from now on."""
    calls = iter(range(1, n + 1))

    def look(_, event, call) -> None:
        is_text = isinstance(getattr(call, "__self__", None), str | io.TextIOBase)
        if event == "c_call" and call.__name__ in FILE_CALLS and not is_text and next(calls, None) == n:
            stop()

    sys.setprofile(look)


def fork_and_kill() -> None:
    """Fork a fetch for each line of standard input, kill it at the n-th call, print its status; run by `kill`."""
    import fasteners  # noqa: F401 (these here once, so that no fork imports them)
    import pooch  # noqa: F401
    import requests  # noqa: F401

    download.CHUNK, os.fsync = 32_768, lambda _: None
    for line in sys.stdin:
        n, archive, raw = json.loads(line)
        child = os.fork()
        if child == 0:
            stop_at(n, lambda: os.kill(os.getpid(), signal.SIGKILL))
            fetch_archive(Archive(**archive), Path(raw))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


@pytest.fixture
def kill():
    """Fetch in a process that is killed at the n-th call; return whether it was."""
    command = python("import test_download", "test_download.fork_and_kill()")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def call(n: int, archive: Archive, raw: Path) -> bool:
            print(json.dumps([n, asdict(archive), str(raw)]), file=process.stdin, flush=True)
            status = int(process.stdout.readline())
            assert status in (0, -signal.SIGKILL)
            return status != 0

        yield call
        process.stdin.close()


@pytest.fixture
def interrupt(monkeypatch):
    """Fetch with Ctrl-C at the n-th call; return whether there was one."""

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "CHUNK", 32_768)

    def call(n: int, archive: Archive, raw: Path) -> bool:
        try:
            stop_at(n, stop)
            fetch_archive(archive, raw)
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(None)
        return False

    return call


@pytest.mark.parametrize(("stop", "former"), [("kill", {}), ("kill", CLIPS), ("interrupt", CLIPS)])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file whose closing is interrupted
def test_a_run_stopped_at_any_call_leaves_whole_clips_and_the_next_ends_right(server, tmp_path, request, stop, former):
    stop, before = request.getfixturevalue(stop), tmp_path / "before"
    before.mkdir()
    if former:
        fetch_archive(server.offer(former), before / "raw")
        break_off(server, server.offer(CLIPS | {"train/short_lived.wav": noise(40)}), before / "raw")
    archive = server.offer(LATER)
    n, stopped = 0, True
    while stopped:
        n += 1
        raw = shutil.copytree(before, tmp_path / str(n)) / "raw"
        stopped = stop(n, archive, raw)
        for name, content in tree(raw / "ToyCar").items():
            assert content in (former.get(name), LATER.get(name)), (n, name)
        line = fetch_archive(archive, raw)
        assert stopped or "in place" in line
        assert_settled(raw, LATER)
    assert n > 30


def test_processes_at_once_download_once(server, raw):
    archive = server.offer(CLIPS)
    server.may_answer.clear()
    command = python(fetching(archive, raw))
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    threading.Timer(1, server.may_answer.set).start()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert len(server.requests) == 1
    assert sorted("in place" in line for line in said) == [False, True, True]
    assert any("waiting for another process" in line for line in said)
    assert_settled(raw)


def test_what_killed_runs_left_is_removed_even_where_all_is_in_place(server, raw):
    archive = server.offer(CLIPS)
    fetch_archive(archive, raw)
    downloads, fetched = raw.parent / "downloads", raw / "ToyCar" / ".fetched"
    for path in (downloads / FILE, downloads / f"{FILE}.part", downloads / f"{FILE}.part.json"):
        path.write_bytes(b"x")
    (fetched / f"{FILE}.x1.unpacking" / "train").mkdir(parents=True)
    for name in (f".{FILE}.json.1.partial", f".{FILE}.json.²³.partial", f"{files._prefix(Path(FILE))}0a.partial"):
        (fetched / name).write_bytes(b"x")
    assert "in place" in fetch_archive(archive, raw)
    assert_settled(raw)


# --- attacks ----------------------------------------------------------------------------------------------------------


class Raw(threading.Thread):
    """A server on this machine that answers each connection with what a generator yields, as slowly as it yields it."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.answer, self.n_connections = answer, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/{FILE}"
        self.start()

    def run(self):
        """Answer each connection in a thread of its own."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.n_connections += 1
                threading.Thread(target=self.reply, args=(connection,), daemon=True).start()

    def reply(self, connection: socket.socket) -> None:
        """Send what the generator yields until the other side leaves."""
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            for piece in self.answer():
                connection.sendall(piece)


@pytest.fixture
def serve():
    """Return a function that starts a Raw server."""
    servers = []

    def start(answer) -> Raw:
        servers.append(Raw(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.socket.close()


def endless(head: bytes):
    """Return an answer whose body never ends."""

    def answer():
        yield head + b"\r\n\r\n"
        while True:
            yield bytes(1 << 20)

    return answer


def trickle(head: bytes, piece: bytes = b"x"):
    """Return an answer of 20 bytes a second, after its head."""

    def answer():
        yield head
        for _ in range(600):
            yield piece
            time.sleep(0.05)

    return answer


def test_an_archive_that_never_ends_does_not_fill_the_disk_and_nothing_of_it_is_kept(serve, raw, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 5_000_000)
    server = serve(endless(b"HTTP/1.1 200 OK"))
    with pytest.raises(InputError, match=r"it sends more than 5.0 MB, more than it announced or the disk takes"):
        fetch_archive(Archive(server.url, FILE, "ToyCar", "0" * 32), raw)
    assert server.n_connections == 1
    assert not list((raw.parent / "downloads").glob("*.part"))


def test_an_archive_of_unknown_size_may_take_what_the_disk_has_and_no_more(serve, raw, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: download.shutil._ntuple_diskusage(0, 0, 10_000_000))
    server = serve(endless(b"HTTP/1.1 200 OK"))
    with pytest.raises(InputError, match=r"it sends more than 4.0 MB"):
        fetch_archive(Archive(server.url, FILE, "ToyCar", "0" * 32), raw)
    assert not list((raw.parent / "downloads").glob("*.part"))


def test_an_archive_that_claims_more_than_any_has_is_refused(serve, raw):
    server = serve(endless(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999"))
    with pytest.raises(InputError, match=r"it has 999,999\.9+\d* MB|it has 1,000,000.0 MB"):
        fetch_archive(Archive(server.url, FILE, "ToyCar", "0" * 32), raw)
    assert not list((raw.parent / "downloads").glob("*.part"))


def test_a_small_file_that_never_ends_is_refused(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST_TEXT", 3_000_000)
    with pytest.raises(InputError, match=r"it is longer than 3\.0 MB"):
        fetch_file(serve(endless(b"HTTP/1.1 200 OK")).url, tmp_path / "list.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [b"404 Not Found", b"503 Busy", b"302 Found\r\nLocation: /elsewhere"])
def test_the_endless_body_of_an_error_or_a_redirect_is_not_read(serve, slept, status):
    server = serve(endless(b"HTTP/1.1 " + status))
    started = time.monotonic()
    with pytest.raises(InputError, match="cannot be fetched"):
        read_url(server.url, 3)
    assert time.monotonic() - started < 5


def test_a_compressed_answer_is_refused(serve, tmp_path):
    bomb = gzip.compress(bytes(50_000_000))
    server = serve(lambda: [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + bomb])
    with pytest.raises(InputError, match="the server sends 'gzip' compression, which was not asked for"):
        fetch_file(server.url, tmp_path / "list.csv")


def test_no_compression_is_asked_for(serve):
    received = []

    class Listening(Raw):
        def run(self):
            connection, _ = self.socket.accept()
            with connection:
                received.append(connection.recv(1 << 16))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    server = Listening(None)
    assert read_url(server.url) == b"ok"
    server.socket.close()
    assert b"accept-encoding: identity\r\n" in received[0].lower()


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),  # the body
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),  # the length of a chunk
        (b"HTTP/1.1 200 OK\r\n", b"X-Long: 1\r\n"),  # headers
        (b"HTTP/1.1 200", b"0"),  # the status
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_server_that_sends_a_few_bytes_a_second_is_given_up(serve, slept, raw, monkeypatch, head, piece):
    """Each byte came in time, so it held the program for ever."""
    monkeypatch.setattr(session, "WINDOW", 0.4)
    monkeypatch.setattr(download, "TRIES", 3)
    server = serve(trickle(head, piece))
    started = time.monotonic()
    with pytest.raises(InputError, match=r"less than 1000 bytes a second.*3 times in succession; run again later"):
        fetch_archive(Archive(server.url, FILE, "ToyCar", "0" * 32), raw)
    assert time.monotonic() - started < 10
    assert slept == [1, 2]


def test_redirects_are_followed_and_their_number_is_bounded(server, raw):
    archive = server.offer(CLIPS)
    server.faults = [{"status": 302, "headers": {"Location": f"/{FILE}"}}, {"break_after": 50_000}]
    fetch_archive(archive, raw)
    assert_settled(raw)
    server.faults = [{"status": 302, "headers": {"Location": "/again"}}] * 30
    with pytest.raises(InputError, match="more than 10 redirects"):
        read_url(server.url("first"))
    server.faults = [{"status": 302, "headers": {"Location": "file:///etc/passwd"}}]
    with pytest.raises(InputError, match="cannot be fetched"):
        read_url(server.url("first"))


def test_many_tiny_files_are_not_unpacked(server, raw):
    """60,000 empty members were unpacked one by one."""
    many = {f"train/section_00_source_train_normal_{i:05d}.wav": b"" for i in range(60_000)}
    started = time.monotonic()
    with pytest.raises(InputError, match=r"it holds 60000 files of 0.0 MB together, too small for clips"):
        fetch_archive(server.offer(many), raw)
    assert time.monotonic() - started < 60
    assert tree(raw / "ToyCar") == {}


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
def test_a_broken_receipt_counts_as_none(server, raw, content):
    archive = server.offer(CLIPS)
    fetch_archive(archive, raw)
    receipt = raw / "ToyCar" / ".fetched" / f"{FILE}.json"
    receipt.write_bytes(content.encode(errors="surrogatepass"))
    assert "7 files unpacked" in fetch_archive(archive, raw)
    assert_settled(raw)


@pytest.mark.parametrize("kind", ["symlink", "hard link", "dangling", "fifo"])
def test_links_at_temporary_names_are_not_followed(server, tmp_path, raw, kind):
    """A planted `X.part` was appended to, a planted folder unpacked into."""
    precious, folder = tmp_path / "precious", tmp_path / "folder"
    precious.write_bytes(b"mine")
    folder.mkdir()
    downloads, fetched = raw.parent / "downloads", raw / "ToyCar" / ".fetched"
    downloads.mkdir(parents=True)
    fetched.mkdir(parents=True)
    archive = server.offer(CLIPS)
    for path in (downloads / f"{FILE}.part", downloads / f"{FILE}.part.json", downloads / FILE):
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "hard link":
            path.hardlink_to(precious)
        else:
            path.symlink_to(precious if kind == "symlink" else tmp_path / "nothing")
    for name in (f"{FILE}.unpacking", "x.unpacking"):
        (fetched / name).symlink_to(folder)
    fetch_archive(archive, raw)
    assert precious.read_bytes() == b"mine"
    assert not (tmp_path / "nothing").exists()
    assert list(folder.iterdir()) == []
    assert_settled(raw)


def test_a_part_is_resumed_only_with_a_sound_description(server, raw):
    archive = server.offer(CLIPS)
    description = raw.parent / "downloads" / f"{FILE}.part.json"
    for change in ({"etag": "x\r\nEvil: 1"}, {"modified": 7}, {"size": "all"}, {"etag": []}, {"url": "elsewhere"}):
        break_off(server, archive, raw)
        description.write_text(json.dumps(json.loads(description.read_text()) | change))
        server.requests.clear()
        fetch_archive(archive, raw)
        assert server.ranges() == [None]
        assert_settled(raw)
        shutil.rmtree(raw / "ToyCar")
