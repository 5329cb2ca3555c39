"""Files written safely: a temporary file beside the target, then a rename, so that a file is complete or absent.

Temporary files have random names and are locked by their writer, so that the leftovers of a killed process can be told
from the files of a running one, even in another container or on another machine.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from runtime.command import no_stop_signals
from runtime.errors import InputError
from runtime.progress import say

ADVICE = "choose another directory"
# Of a lock or a sync on a file system that has none: Lustre without flock, FUSE, NFS without lockd.
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class FileGroup:
    """Files that change together or not at all: `open` them in a `with FileGroup() as files` block.

    They are renamed to their final names, in the order in which they were opened, when the block succeeds.
    """

    def __init__(self, advice: str = ADVICE):
        self.advice = advice
        self._open: dict[Path, tuple[Path, IO]] = {}  # by final path: temporary path and file

    def open(self, path: Path, mode: str = "w") -> Any:
        """Open a temporary file for `path`, text (UTF-8) or binary; its folder is created."""
        prefix = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}."  # short for any name
        text = {} if "b" in mode else {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
        with writing(path, self.advice):
            path.parent.mkdir(parents=True, exist_ok=True)
            for abandoned in path.parent.glob(f"{prefix}*.partial"):
                with contextlib.suppress(OSError), abandoned.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
                    abandoned.unlink()
            while True:
                temporary = path.with_name(f"{prefix}{secrets.token_hex(8)}.partial")
                file = temporary.open(mode.replace("w", "x"), **text)  # type: ignore[call-overload]
                with _if_supported():
                    fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file.fileno()).st_nlink:  # else another process took it for abandoned before it was locked
                    break
                file.close()
            self._open[path] = temporary, file
        return file

    def __enter__(self) -> "FileGroup":
        return self

    def __exit__(self, kind, error, _traceback) -> None:
        try:
            if kind is None:
                self._publish()
            elif isinstance(error, OSError) and error.filename is None and self._open:  # a write: no name is known
                with writing(list(self._open)[-1], self.advice):
                    raise error
        finally:
            for temporary, file in self._open.values():
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                    file.close()

    def _publish(self) -> None:
        for path, (_, file) in self._open.items():
            with writing(path, self.advice), _if_supported():
                file.flush()
                os.fsync(file.fileno())
        with no_stop_signals():
            for path, (temporary, _) in self._open.items():
                with writing(path, self.advice):
                    temporary.replace(path)


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w", advice: str = ADVICE) -> Iterator[Any]:
    """Write one file: it gets its final name only if the block succeeds."""
    with FileGroup(advice) as files:
        yield files.open(path, mode)


@contextlib.contextmanager
def _if_supported(warning: str = "") -> Iterator[None]:
    """Go on, with a warning, if the file system lacks the block's lock or sync."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        if warning:
            say(f"warning: {warning}")


@contextlib.contextmanager
def writing(path: Path, advice: str, what: str = "write") -> Iterator[None]:
    """Report errors of the file system in the block as "cannot write `path`", with advice."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot {what} {path}: {what_helps(error, advice)}") from error


def what_helps(error: OSError, advice: str) -> str:
    """Join an error's text and advice, which is another if space or open files are lacking."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = f"free space there or {advice}"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        advice = "allow more open files (ulimit -n)"
    return f"{error.strerror or error}; {advice}"


@contextlib.contextmanager
def process_lock(path: Path, what: str, advice: str = ADVICE) -> Iterator[None]:
    """Hold a lock between processes, the file `path`; waits, and says so, while another process holds it.

    The lock is released when its process dies. On a file system without locks, the block runs without one. `what`
    completes "waiting for another process that ...".
    """
    with writing(path, advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    with lock:
        no_locks = "this file system has no locks; do not run the same command twice at the same time"
        with writing(path, advice), _if_supported(no_locks):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process that {what}", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_writable(folder: Path) -> None:
    """Raise InputError before the work, rather than after it, if a folder cannot be written to."""
    probe = folder / ".writable"
    with atomic_write(probe, advice="choose another --model_directory or --log_directory"):
        pass
    probe.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_checksum(content: dict) -> str:
    """Hash a JSON file's content, apart from the key `checksum`, where the hash is kept."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
