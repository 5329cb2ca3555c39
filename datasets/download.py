"""Files over HTTP: retried, resumed after an interruption, never assembled from two versions.

While `X` is fetched, `X.part` holds the bytes received so far and `X.part.json` describes their version: address, ETag,
Last-Modified and size. Both are kept when a fetch ends early, and the next one resumes.

pooch's own downloader starts over after an interruption, supports neither Retry-After nor back-off, and ignores free
disk space. `download` has the signature of pooch's downloaders.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from common import InputError
from tools.runtime.files import atomic_write, writing
from tools.runtime.progress import Progress

if TYPE_CHECKING:
    import requests

TRIES = 6  # in a row, without new bytes
CHUNK = 1 << 16  # bytes
DISK_FACTOR = 2.5  # bytes on disk per byte of an archive: itself, its clips and some room
LARGEST = 50_000_000_000  # bytes of an archive: Zenodo's limit for a record
LARGEST_TEXT = 20_000_000  # bytes of a list of labels or an answer of Zenodo's API; 40,000 labels take 4 MB

ADVICE = "choose another --dataset_directory, then run again: what has been fetched is kept"

T = TypeVar("T")


def download(url: str, output_file: str | Path, pooch: object = None) -> None:
    """Fetch an archive, resuming an earlier call's partial download.

    Parameters
    ----------
    output_file
        Created once all bytes have arrived; the caller verifies them.
    pooch
        Not used; part of the signature of pooch's downloaders.
    """
    output = Path(output_file)
    part, description = partial_files(output)
    with writing(output.parent, ADVICE, "read or write below"):
        output.parent.mkdir(parents=True, exist_ok=True)
        _retry(url, lambda: _fetch_rest(url, part, description), TRIES, lambda: _size(part))
        part.replace(output)
        description.unlink(missing_ok=True)


def fetch_file(url: str, path: Path, check: Callable[[bytes], object] = lambda content: None) -> None:
    """Fetch a small file; `path` changes only if all goes well and `check` accepts the content."""
    content = read_url(url)
    check(content)
    with atomic_write(path, "wb") as file:
        file.write(content)


def read_url(url: str, tries: int = TRIES) -> bytes:
    """Return a small file's content."""
    from datasets import session

    def read() -> bytes:
        content = bytearray()
        with session.request(url, {}) as response:
            for piece in session.body(response, CHUNK):
                content += piece
                if len(content) > LARGEST_TEXT:
                    raise InputError(
                        f"{url} cannot be used: it is longer than {megabytes(LARGEST_TEXT)}; check the address in "
                        "datasets/catalogue.yaml"
                    )
        return bytes(content)

    return _retry(url, read, tries)


def remote_size(url: str) -> str:
    """Return a file's size on the server as text, or `size unknown`."""
    from datasets import session

    try:
        with session.request(url, {}, "HEAD") as response:
            return megabytes(int(response.headers["Content-Length"]))
    except (InputError, session.TransientError, KeyError, ValueError):
        return "size unknown"


def partial_files(output_file: Path) -> tuple[Path, Path]:
    """Return the paths of a file's partial download and of the description of its version."""
    return output_file.with_name(f"{output_file.name}.part"), output_file.with_name(f"{output_file.name}.part.json")


def check_space(folder: Path, needed: float) -> None:
    """Raise InputError if a folder's disk has fewer free bytes than needed."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder} has {megabytes(free)} free, but {megabytes(needed)} are needed; free {megabytes(needed - free)} "
            "there, or choose another --dataset_directory"
        )


def megabytes(n_bytes: float) -> str:
    """Return a number of bytes as text."""
    return f"{n_bytes / 1e6:,.1f} MB"


def _retry(url: str, attempt: Callable[[], T], tries: int, reached: Callable[[], int] = lambda: 0) -> T:
    """Call attempt() until it succeeds, or fails `tries` times in a row without new bytes.

    A response that is too slow counts as one without new bytes.
    """
    from datasets import session

    failures, furthest = 0, reached()
    while True:
        try:
            return attempt()
        except session.TransientError as error:
            failure = error
        failures = 1 if reached() > furthest and not failure.is_slow else failures + 1
        furthest = max(furthest, reached())
        if failures >= tries:
            raise InputError(
                f"{url} cannot be fetched: {failure}, {tries} times in a row; run again later, or give archives "
                "you have to tools/data_download.sh with --from_directory"
            ) from failure
        wait = failure.wait or min(2 ** (failures - 1), session.LONGEST_WAIT)
        print(f"{url}: {failure}; next try in {wait:.0f} s", flush=True)
        session.sleep(wait)


def _fetch_rest(url: str, part: Path, description: Path) -> None:
    """Fetch the rest of a partial file, or the whole if the server cannot resume or has another version."""
    from datasets import session

    held, known = _read_part(url, part, description)
    if held and held == known["size"]:
        return
    with session.request(url, _range_headers(held, known)) as response:
        version = _version(url, response)
        if response.status_code == 200:  # the whole file: no range asked for or served, or a new version
            held = 0
        elif not _resumes(response, held, known, version):
            part.unlink(missing_ok=True)
            raise session.TransientError("the file has changed since its download began")
        size = version["size"]
        limit = _size_limit(url, part.parent, size, held)
        if not held:
            part.unlink(missing_ok=True)  # first, so that no part is ever beside another version's description
            description.unlink(missing_ok=True)
            with description.open("x", encoding="utf-8") as file:
                json.dump(version, file)
        with Progress(part.stem, size, "B", done=held, scale=True) as shown, _open_part(part) as target:
            for piece in session.body(response, CHUNK):
                if target.tell() + len(piece) > limit:
                    part.unlink()
                    raise InputError(
                        f"{url} cannot be used: it sends more than {megabytes(limit)}, the announced size or "
                        "what fits on the disk, and was removed; check the address in datasets/catalogue.yaml"
                    )
                target.write(piece)
                shown.update(len(piece))
    if size not in (None, _size(part)):
        raise session.TransientError(f"it ended after {_size(part)} of {size} bytes")


def _size_limit(url: str, folder: Path, size: int | None, held: int) -> float:
    """Return how many bytes to accept: the announced number, else what fits on the disk."""
    if size is not None and size > LARGEST:
        raise InputError(
            f"{url} cannot be used: its size is {megabytes(size)}, an archive's at most {megabytes(LARGEST)}; check "
            "the address in datasets/catalogue.yaml"
        )
    check_space(folder, DISK_FACTOR * (size or 0) - held)
    return size if size is not None else min(LARGEST, held + shutil.disk_usage(folder).free / DISK_FACTOR)


def _open_part(part: Path) -> BinaryIO:
    """Open a partial file for appending, without following a link in its place."""
    return os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666), "ab")


def _read_part(url: str, part: Path, description: Path) -> tuple[int, dict]:
    """Return the number of received bytes and their version; anything but two plain files is removed."""
    for path in (part, description):
        if os.path.lexists(path) and not _is_plain(path):
            path.unlink()
    try:
        known = json.loads(description.read_text(encoding="utf-8"))
        held = _size(part)
        is_known = known.keys() == {"url", "etag", "modified", "size"} and known["url"] == url
        texts = [known[key] for key in ("etag", "modified") if known[key] is not None]
        is_sound = all(text.isascii() and text.isprintable() for text in texts)  # fit for a header
        if is_known and is_sound and (known["size"] is None or held <= known["size"]):
            return held, known
    except (FileNotFoundError, ValueError, AttributeError, TypeError, RecursionError):  # not what _fetch_rest writes
        pass
    return 0, {}


def _is_plain(path: Path) -> bool:
    """Return whether a path is a regular file under this name only: neither a link, nor linked from elsewhere."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _range_headers(held: int, known: dict) -> dict[str, str]:
    """Return the headers that ask for the rest of the file if it is still the same (If-Range)."""
    if not held:
        return {}
    is_strong = known["etag"] and not known["etag"].startswith("W/")
    validator = known["etag"] if is_strong else known["modified"]
    return {"Range": f"bytes={held}-"} | ({"If-Range": validator} if validator else {})


def _version(url: str, response: "requests.Response") -> dict:
    """Return the file's version from a response's headers."""
    headers = response.headers
    size = headers.get("Content-Range", headers.get("Content-Length", "")).rpartition("/")[2].strip()
    return {
        "url": url,
        "etag": headers.get("ETag"),
        "modified": headers.get("Last-Modified"),
        "size": int(size) if re.fullmatch(r"\d{1,18}", size, re.ASCII) else None,
    }


def _resumes(response: "requests.Response", held: int, known: dict, version: dict) -> bool:
    """Return whether a response continues the same file where the part ends."""
    begins_there = re.match(rf"bytes {held}-", response.headers.get("Content-Range", ""))
    is_same = all(None in (known[key], version[key]) or known[key] == version[key] for key in known)
    return response.status_code == 206 and held > 0 and begins_there is not None and is_same


def _size(path: Path) -> int:
    """Return a file's size, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0
