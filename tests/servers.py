"""Local servers for the tests of downloads, and the archives they serve."""

import contextlib
import hashlib
import io
import os
import random
import re
import socket
import socketserver
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

FILE = "dev_ToyCar.zip"


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
    """Return a zip of files below a machine type, always the same; keys that are a ZipInfo are used as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(f"{machine_type}/{name}")
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by name, without those of hidden folders."""
    paths = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {
        name.as_posix(): path.read_bytes() for name, path in paths.items() if not any(p[0] == "." for p in name.parts)
    }


class LocalServer(socketserver.ThreadingTCPServer):
    """A server on this machine, from its construction until `stop`."""

    daemon_threads = True

    def __init__(self, handler: type | None = None):
        super().__init__(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def url(self, name: str) -> str:
        """Return the address of a file."""
        return f"{self.address}/{name}"

    def stop(self) -> None:
        """Stop answering."""
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """Serves bytes from memory, with ranges, after the next fault in line."""

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
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if status == 200 and wanted and server.has_ranges:
            start = int(wanted[1])
            status = 206 if start < len(content) else 416
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if status == 206 else {}
        self.send_response(status)
        body = content[start:] if status in (200, 206) else b""
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: fault.get("break_after")])
        if fault.get("waits"):
            server.may_end.wait(20)

    do_HEAD = do_GET

    def log_message(self, *_):
        """Log nothing."""


class FileServer(LocalServer):
    """Serves `files`; `faults` has one fault for each of the next requests."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.faults: list[dict] = []
        self.requests: list[tuple[str, str | None]] = []
        self.has_ranges = True
        self.may_answer, self.may_end = threading.Event(), threading.Event()
        self.may_answer.set()
        super().__init__(Handler)

    def ranges(self) -> list[str | None]:
        """Return the Range of each request so far."""
        return [wanted for _, wanted in self.requests]


class RawServer(LocalServer):
    """Answers a request with what `answer` yields for its bytes."""

    def __init__(self, answer: Callable[[bytes], Iterable[bytes]]):
        self.answer = answer
        super().__init__()

    def finish_request(self, request: socket.socket, client_address: object) -> None:
        """Send the answer until the other side leaves."""
        with contextlib.suppress(OSError):
            for piece in self.answer(request.recv(1 << 16)):
                request.sendall(piece)


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Yield a server of files."""
    server = FileServer()
    yield server
    server.stop()


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """Return the waits that a download asks for; they are skipped, as are those for the disk (fsync)."""
    waits: list[float] = []
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("datasets.download.sleep", waits.append)
    monkeypatch.setattr("datasets.download.CHUNK", 4096)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return waits
