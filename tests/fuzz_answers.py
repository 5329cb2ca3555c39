"""Broken answers of a server, for fuzz.py: a download succeeds or fails in one sentence, and the next one succeeds."""

import json
import threading
from pathlib import Path

import numpy as np
from mutations import call, mutate
from servers import RawServer, make_zip, md5

from datasets import download
from datasets.archives import Archive
from tools import data_download

CLIPS = {f"train/section_00_source_train_normal_{i:04d}_spd_1.wav": bytes(range(200)) * 20 for i in range(3)}
PIECES = (
    *(
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b": ",
        b"\0",
        b"\xff",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/0.9",
        b"PK\x05\x06",
    ),
    *(b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n", "Content-Length: ٣\r\n".encode()),
    *(b"Content-Range: bytes 0-0/0\r\n", b"Content-Range: bytes 5-1/\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"Retry-After: -5\r\n", b"Retry-After: Fri, 99 Foo\r\n", b"ETag: \x01\r\n"),
    *(
        b"Location: /\r\n",
        b"Location: file:///etc/passwd\r\n",
        b"Location: http://[\r\n",
        b"a: " + b"b" * 70_000 + b"\r\n",
    ),
    *(b"<html>", b"ffffffffff\r\n", b"Set-Cookie: a\r\n" * 200, b"Last-Modified: never\r\n", b'ETag: W/"x"\r\n'),
)
STATUSES = (
    b"200 OK",
    b"206 Partial Content",
    b"301 Moved",
    b"404 Not Found",
    b"416 Range",
    b"429 Busy",
    b"503 Busy",
    b"999 ?",
)


ARCHIVE = make_zip(CLIPS, "fan")
API = json.dumps({"files": [{"key": "fan.zip", "checksum": f"md5:{md5(ARCHIVE)}"}]}).encode()
_LOCK = threading.Lock()
_servers: list["_Server"] = []


class _Server(RawServer):
    """Answers /archive and /api, correctly if `rng` is None."""

    rng: np.random.Generator | None = None

    def __init__(self):
        super().__init__(self.reply)

    def reply(self, request: bytes) -> list[bytes]:
        """Return head and body."""
        body = ARCHIVE if request.split()[1].endswith(b".zip") else API
        head = b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: "1"\r\nConnection: close\r\n\r\n' % len(body)
        if self.rng is None:
            return [head, body]
        with _LOCK:
            if self.rng.integers(0, 3) == 0:
                head = head.replace(b"200 OK", STATUSES[self.rng.integers(0, len(STATUSES))])
            return [self._broken(head), self._broken(body) if self.rng.integers(0, 3) == 0 else body]

    def _broken(self, data: bytes) -> bytes:
        return mutate(self.rng, data, list(PIECES)) if self.rng.integers(0, 4) else data


def fuzz_answers(rng: np.random.Generator, folder: Path) -> str:
    """A server's answers to a download."""
    if not _servers:
        server = _Server()
        _servers.append(server)
        download.sleep = lambda _: None
        download.TIMEOUT = (2, 2)
        archive = Archive(server.url("fan.zip"), "fan.zip", "fan", None, server.url("api"))
        download.list_archives = lambda *_: [archive]
    server, data = _servers[0], folder / "data"
    words = ("DCASE2023T2", "dev", "fan", "--dataset_directory", data)
    server.rng = rng
    first = call(data_download.main, *words)
    server.rng = None
    assert call(data_download.main, *words) == 0
    raw = data / "dcase2023t2/dev_data/raw/fan"
    found = {str(path.relative_to(raw)): path.read_bytes() for path in raw.rglob("*.wav")}
    left = [path for path in data.rglob("*") if path.suffix in (".part", ".zip", ".unpacking")]
    assert (found, left) == (CLIPS, []), f"{sorted(found)} {left}"
    for path in sorted(data.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return "refused, then fetched" if first else "fetched"
