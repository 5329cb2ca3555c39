"""Downloads that are stopped, run in parallel or meet a full disk: the next run ends with the right files."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from servers import CLIPS, FILE, LATER, assert_in_place, fetch_code, leave_part, noise, tree
from synthetic import python

from common import InputError
from datasets import download
from datasets.archives import Archive, fetch_archive
from tools.runtime import files

pytestmark = pytest.mark.usefixtures("slept")
FILE_CALLS = {"open", "write", "mkdir", "rename", "replace", "unlink", "rmdir"}  # where a run is stopped


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
    assert_in_place(raw)


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
    assert_in_place(raw)


def test_a_folder_that_cannot_be_written_is_reported(server, tmp_path):
    (tmp_path / "raw").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write .*raw"):
        fetch_archive(server.offer(CLIPS), tmp_path / "raw")


@pytest.mark.parametrize("kind", ["symlink", "hard link", "dangling", "fifo"])
def test_links_at_temporary_names_are_not_followed(server, tmp_path, raw, kind):
    """A planted `X.part` used to be appended to, a planted folder unpacked into."""
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
    assert_in_place(raw)


# --- Ctrl-C and kill -9 -----------------------------------------------------------------------------------------------


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
    command = python("import test_stopped_downloads", "test_stopped_downloads.fork_and_kill()")
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
def test_a_run_stopped_at_any_call_leaves_whole_clips_and_the_next_completes_them(
    server, tmp_path, request, stop, former
):
    stop, before = request.getfixturevalue(stop), tmp_path / "before"
    before.mkdir()
    if former:
        fetch_archive(server.offer(former), before / "raw")
        leave_part(server, server.offer(CLIPS | {"train/short_lived.wav": noise(40)}), before / "raw")
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
        assert_in_place(raw, LATER)
    assert n > 30


def test_concurrent_processes_download_once(server, raw):
    archive = server.offer(CLIPS)
    server.may_answer.clear()
    command = python(fetch_code(archive, raw))
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    threading.Timer(1, server.may_answer.set).start()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert len(server.requests) == 1
    assert sorted("in place" in line for line in said) == [False, True, True]
    assert any("waiting for another process" in line for line in said)
    assert_in_place(raw)


def test_leftovers_of_killed_runs_are_removed_even_if_the_archive_is_in_place(server, raw):
    archive = server.offer(CLIPS)
    fetch_archive(archive, raw)
    downloads, fetched = raw.parent / "downloads", raw / "ToyCar" / ".fetched"
    for path in (downloads / FILE, downloads / f"{FILE}.part", downloads / f"{FILE}.part.json"):
        path.write_bytes(b"x")
    (fetched / f"{FILE}.x1.unpacking" / "train").mkdir(parents=True)
    for name in (f".{FILE}.json.1.partial", f".{FILE}.json.²³.partial", f"{files._prefix(Path(FILE))}0a.partial"):
        (fetched / name).write_bytes(b"x")
    assert "in place" in fetch_archive(archive, raw)
    assert_in_place(raw)
