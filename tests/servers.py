"""Local servers for the tests of downloads, and the archives they serve."""

import hashlib
import io
import os
import random
import socketserver
import threading
import zipfile
from collections.abc import Iterator
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


class Handler(BaseHTTPRequestHandler):
    """Serves bytes from memory, with ranges, after the next fault in line."""

    disable_nagle_algorithm = True  # no waiting for the other side's acknowledgement

    def do_GET(self):
        """Answer."""
        server: FileServer = self.server
        asked = int(self.headers.get("Range", "bytes=0-")[6:-1])
        server.requests.append(asked)
        fault = server.faults.pop(0) if server.faults else {}
        server.may_answer.wait(20)
        content = server.files.get(self.path)
        status = fault.get("status", 404 if content is None else 200)
        start = asked if server.has_ranges and status == 200 else 0
        if start:
            status = 206 if start < len(content) else 416
        body = (content or b"")[start:] if status in (200, 206) else b""
        self.send_response(status)
        for name, value in {**fault.get("headers", {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: fault.get("break_after")])

    do_HEAD = do_GET

    def log_message(self, *_):
        """Log nothing."""


class FileServer(socketserver.ThreadingTCPServer):
    """Serves `files` on this machine; `faults` has one fault for each of the next requests.

    `requests` has the first byte that each request asked for.
    """

    daemon_threads = True

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.faults: list[dict] = []
        self.requests: list[int] = []
        self.has_ranges = True
        self.may_answer = threading.Event()
        self.may_answer.set()
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Yield a server of files."""
    with FileServer() as server:
        yield server
        server.shutdown()


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """Return the waits that a download asks for; they are skipped, as are those for the disk (fsync)."""
    waits: list[float] = []
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("datasets.download.sleep", waits.append)
    monkeypatch.setattr("datasets.download.CHUNK", 4096)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return waits
