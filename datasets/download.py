"""Files over HTTP: tried again with patience, resumed after a break, never glued together from two versions.

While `X` is fetched, `X.part` holds what has come so far (always a beginning of the file) and `X.part.json` which
version that is: address, ETag, Last-Modified and size. Both stay when a fetch ends early; the next one goes on there.

pooch's own downloader begins anew after a break, knows neither Retry-After nor back-off and does not look at the disk;
pooch.retrieve verifies a temporary file that is lost with the process. So `download` does what they lack, and has the
signature of pooch's downloaders: pooch.retrieve(url, known_hash, downloader=download) works.
"""

import contextlib
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from common import InputError
from tools.runtime.files import atomic_write, process_lock as exclusive

if TYPE_CHECKING:
    import requests

TRIES = 6  # in succession that bring nothing new
BACK_OFF = 1.0  # seconds before the second try, doubled for each further one
LONGEST_WAIT = 600.0  # seconds; whoever asks for more is not waited for
TIMEOUT = (10, 60)  # seconds: to connect, between two pieces of an answer
CHUNK = 1 << 16  # bytes
DISK_FACTOR = 2.5  # bytes on disk for each byte of an archive: itself, and its clips with some room
LINE_INTERVAL = 5  # seconds between two lines in a log file, at least
PASSING = (408, 425, 429)  # HTTP statuses that may pass, beside 5xx

T = TypeVar("T")
sleep = time.sleep  # tests shorten it


class TransientError(Exception):
    """A request failed in a way that may pass; `wait`: how many seconds the server asks to wait, if it does."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


def download(url: str, output_file: str | Path, pooch: object = None) -> None:
    """Fetch an archive, going on from what an earlier call left of it.

    Parameters
    ----------
    output_file
        Written by a rename once all bytes are there; what they are worth is the caller's to verify.
    pooch
        Not used; a downloader of pooch has it.

    Raises
    ------
    InputError
        The server refuses, or does not get it done in TRIES tries; the disk is or would be full.
    """
    output = Path(output_file)
    part, sidecar = partial_files(output)
    with writing(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
        _persist(url, lambda: _fetch_rest(url, part, sidecar), TRIES, lambda: _size(part))
        part.replace(output)
        sidecar.unlink(missing_ok=True)


def fetch_file(url: str, path: Path) -> None:
    """Fetch a small file, such as a list of labels; `path` is as it was before unless all went well.

    Raises
    ------
    InputError
        The server refuses, or does not get it done in TRIES tries; the file cannot be written.
    """
    content = read_url(url)
    with atomic_write(path, "wb") as file:
        file.write(content)


def read_url(url: str, tries: int = TRIES) -> bytes:
    """Return what is at an address; InputError where it cannot be had in so many tries."""

    def read() -> bytes:
        with _get(url, {}) as response:
            return b"".join(_body(response))

    return _persist(url, read, tries)


def partial_files(output_file: Path) -> tuple[Path, Path]:
    """Return where the part of a file that has come so far is, and what is known of it."""
    return tuple(output_file.with_name(output_file.name + suffix) for suffix in (".part", ".part.json"))


def check_space(folder: Path, needed: float) -> None:
    """Raise InputError where a folder's disk has fewer free bytes than needed."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder} has {megabytes(free)} free, but {megabytes(needed)} are needed; free {megabytes(needed - free)} "
            "there, or name another --dataset_directory"
        )


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses within the block into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot read or write below {folder} ({error.strerror or error}); free space there or name another "
            "--dataset_directory, then run again: what has been fetched is kept"
        ) from error


def megabytes(n_bytes: float) -> str:
    """Return a number of bytes as people read it."""
    return f"{n_bytes / 1e6:,.1f} MB"


@contextlib.contextmanager
def show_bytes(what: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], object]]:
    """Give a function that counts bytes: a bar on a terminal; else a line at each 10 %, LINE_INTERVAL apart."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(desc=what, total=total, initial=done, unit="B", unit_scale=True, leave=False) as bar:
            yield bar.update
        return
    began = said = time.monotonic()
    first = done

    def count(n_bytes: int) -> None:
        nonlocal done, said
        done, now = done + n_bytes, time.monotonic()
        is_tenth = total and done * 10 // total > (done - n_bytes) * 10 // total
        if is_tenth and now - said >= LINE_INTERVAL:
            said = now
            speed = megabytes((done - first) / max(now - began, 1e-9))
            print(f"{what}: {done * 100 // total} % of {megabytes(total)}, {speed}/s", flush=True)

    yield count


def _persist(url: str, attempt: Callable[[], T], tries: int, reached: Callable[[], int] = lambda: 0) -> T:
    """Call attempt() until it succeeds, or fails `tries` times with no more bytes reached than ever before."""
    failures, furthest = 0, reached()
    while True:
        try:
            return attempt()
        except TransientError as error:
            failure = error
        failures = 1 if reached() > furthest else failures + 1
        furthest = max(furthest, reached())
        if failures >= tries:
            raise InputError(
                f"{url} cannot be fetched: {failure}, {tries} times in succession; run again later"
            ) from failure
        wait = min(BACK_OFF * 2 ** (failures - 1), LONGEST_WAIT) if failure.wait is None else failure.wait
        if wait > LONGEST_WAIT:
            raise InputError(
                f"{url} cannot be fetched: {failure}, and the server asks to wait {wait:.0f} s; run again then"
            ) from failure
        print(f"{url}: {failure}; next try in {wait:.0f} s ({failures} of {tries} failed)", flush=True)
        sleep(wait)


def _fetch_rest(url: str, part: Path, sidecar: Path) -> None:
    """Fetch what a partial file lacks; all of it, where the server does not continue or has another version."""
    held, known = _read_part(url, part, sidecar)
    if held and held == known["size"]:
        return
    with _get(url, _range_headers(held, known)) as response:
        version = _version(url, response)
        if response.status_code == 200:  # the whole file: not asked for less, ranges not served, or another version
            held = 0
        elif not _continues(response, held, known, version):
            part.unlink(missing_ok=True)
            raise TransientError("the file there is not the one that was begun")
        size = version["size"]
        check_space(part.parent, DISK_FACTOR * (size or 0) - held)
        if not held:
            part.unlink(missing_ok=True)  # first, so that no part ever stands beside another version's description
            with atomic_write(sidecar) as file:
                json.dump(version, file)
        with show_bytes(part.stem, size, held) as count, part.open("ab") as file:
            for chunk in _body(response):
                file.write(chunk)
                count(len(chunk))
    if size not in (None, _size(part)):
        raise TransientError(f"it ended after {_size(part)} of {size} bytes")


def _read_part(url: str, part: Path, sidecar: Path) -> tuple[int, dict]:
    """Return how many bytes of a file are there already, and of which version."""
    try:
        known = json.loads(sidecar.read_text(encoding="utf-8"))
        held = _size(part)
        is_known = known.keys() == {"url", "etag", "modified", "size"} and known["url"] == url
        if is_known and (known["size"] is None or held <= known["size"]):
            return held, known
    except (FileNotFoundError, ValueError, AttributeError, TypeError):  # whatever is not what _fetch_rest writes
        pass
    return 0, {}


def _range_headers(held: int, known: dict) -> dict[str, str]:
    """Ask for what is missing, on condition (If-Range) that the file is still the same."""
    if not held:
        return {}
    is_strong = known["etag"] and not known["etag"].startswith("W/")
    validator = known["etag"] if is_strong else known["modified"]
    return {"Range": f"bytes={held}-"} | ({"If-Range": validator} if validator else {})


def _version(url: str, response: "requests.Response") -> dict:
    """Return what an answer tells of the version of the file."""
    headers = response.headers
    size = headers.get("Content-Range", headers.get("Content-Length", "")).rpartition("/")[2]
    return {
        "url": url,
        "etag": headers.get("ETag"),
        "modified": headers.get("Last-Modified"),
        "size": int(size) if size.isdecimal() else None,
    }


def _continues(response: "requests.Response", held: int, known: dict, version: dict) -> bool:
    """Tell whether an answer goes on where the part ends, with the same file."""
    begins_there = re.match(rf"bytes {held}-", response.headers.get("Content-Range", ""))
    is_same = all(None in (known[key], version[key]) or known[key] == version[key] for key in known)
    return response.status_code == 206 and held > 0 and begins_there is not None and is_same


def _get(url: str, headers: dict[str, str]) -> "requests.Response":
    """Begin a request; return the answer where it is one that can be used, its body not yet read."""
    import requests

    with _http_errors(url):
        headers = {"Accept-Encoding": "identity", **headers}
        response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    status = response.status_code
    if status == 200 or ("Range" in headers and status in (206, 416)):
        return response
    response.close()
    answer = f"the server answers {status} {response.reason or ''}".strip()
    if status in PASSING or status >= 500:
        raise TransientError(answer, _retry_after(response))
    raise InputError(f"{url} cannot be fetched: {answer}; check the address in datasets/catalogue.yaml")


def _body(response: "requests.Response") -> Iterator[bytes]:
    """Yield the bytes of an answer."""
    with _http_errors(response.url):
        yield from response.iter_content(CHUNK)


def _retry_after(response: "requests.Response") -> float | None:
    """Return the seconds that Retry-After asks for, as a number or as a date."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return Retry().parse_retry_after(response.headers["Retry-After"])
    except (KeyError, InvalidHeader, ValueError, OverflowError):
        return None


@contextlib.contextmanager
def _http_errors(url: str) -> Iterator[None]:
    """Turn the errors of requests into a TransientError where they may pass, else into an InputError."""
    import requests

    passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    try:
        yield
    except requests.RequestException as error:
        cause: BaseException = error
        while cause.__context__ is not None:  # what lies at the bottom says it best
            cause = cause.__context__
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        if isinstance(error, passing):
            raise TransientError(reason) from error
        raise InputError(f"{url} cannot be fetched: {reason}; check the address in datasets/catalogue.yaml") from error


def _size(path: Path) -> int:
    """Return a file's size, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0
