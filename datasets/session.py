"""One HTTP request: retried, bounded in time, redirected. Imports requests, so download.py imports it when needed.

urllib3's Retry repeats what fails before an answer begins; a body that breaks off is for download.py to resume.
A server must answer within WINDOW and then send MINIMUM_RATE, or its connection is closed: a time limit on each read
would let one that sends 2 bytes a second go on for ever.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.exceptions import HTTPError, InvalidHeader

from common import InputError

BACK_OFF = 1.0  # seconds before the second try, doubled for each further one
LONGEST_WAIT = 600.0  # seconds; a server that asks for more is not waited for
TIMEOUT = (10, 60)  # seconds: to connect, for one read
WINDOW = 60.0  # seconds in which an answer must begin, and over which MINIMUM_RATE is measured
MINIMUM_RATE = 1000  # bytes a second
MAX_REDIRECTS = 10
TRANSIENT = (408, 425, 429, *range(500, 600))  # HTTP statuses that are retried

sleep = time.sleep  # tests shorten it


class TransientError(Exception):
    """A request failed in a way that may pass; `is_slow`: the server sends, but not enough."""

    def __init__(self, reason: str, is_slow: bool = False):
        super().__init__(reason)
        self.is_slow = is_slow


def pause(url: str, reason: str, seconds: float) -> None:
    """Wait before the next try, and say so."""
    print(f"{url}: {reason}; next try in {seconds:.0f} s", flush=True)
    sleep(seconds)


@contextlib.contextmanager
def request(url: str, headers: dict[str, str], tries: int, method: str = "GET") -> Iterator[requests.Response]:
    """Make a request; give the answer, its body not yet read. InputError if it cannot be used after so many tries.

    An answer is used if it is 200, or 206 or 416 to a request with a Range.
    """
    headers = {"Accept-Encoding": "identity", **headers}
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(max_retries=_Retry.of(url, tries)))
        with _request_errors(url, tries):
            response = _follow(session, method, url, headers)
        with response:
            status = response.status_code
            if status not in (200, *((206, 416) if "Range" in headers else ())):
                answer = f"the server answers {status} {response.reason or ''}".strip()
                raise _failure(url, answer, tries if status in TRANSIENT else None)
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise _failure(url, f"the server sends {encoding[:40]!r} compression, which was not asked for", None)
            yield response


def body(response: requests.Response, piece_size: int) -> Iterator[bytes]:
    """Yield the bytes of an answer as they come; TransientError if it breaks off or is too slow."""
    n_bytes = 0
    try:
        with _watch(response.raw.shutdown, lambda: n_bytes):
            while piece := response.raw.read1(piece_size, decode_content=False):
                n_bytes += len(piece)
                yield piece
    except (HTTPError, OSError) as error:
        raise TransientError(_reason(error), isinstance(error, TimeoutError)) from error


def _follow(session: requests.Session, method: str, url: str, headers: dict[str, str]) -> requests.Response:
    """Make a request and follow redirects; requests itself would read a redirect's body, which may never end."""
    for _ in range(MAX_REDIRECTS):
        response = session.request(method, url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False)
        target = session.get_redirect_target(response)
        if target is None:
            return response
        response.close()
        url = urljoin(url, target)
    raise requests.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")


class _Retry(Retry):
    """urllib3's Retry with our back-off; it says what it waits for, and does not wait longer than LONGEST_WAIT."""

    address = ""

    @classmethod
    def of(cls, address: str, tries: int) -> "_Retry":
        retry = cls(tries - 1, raise_on_status=False)
        retry.address = address
        return retry

    def new(self, **kw: object) -> "_Retry":
        retry = super().new(**kw)
        retry.address = self.address
        return retry

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        return status_code in TRANSIENT

    def increment(self, method=None, url=None, response=None, error=None, _pool=None, _stacktrace=None):
        if response is not None:
            response.close()  # urllib3 would read its body to the end
        return super().increment(method, url, response, error, _pool, _stacktrace)

    def get_backoff_time(self) -> float:
        return min(BACK_OFF * 2 ** (len(self.history) - 1), LONGEST_WAIT)

    def get_retry_after(self, response) -> float | None:
        try:
            return super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):
            return None

    def sleep(self, response=None) -> None:
        last = self.history[-1]
        reason = f"the server answers {last.status}" if last.error is None else _reason(last.error)
        wait = self.get_retry_after(response) if response is not None else None
        if wait is not None and wait > LONGEST_WAIT:
            raise InputError(
                f"{self.address} cannot be fetched: {reason} and asks to wait {wait:.0f} s; run again then"
            )
        pause(self.address, reason, self.get_backoff_time() if wait is None else wait)


class _Adapter(HTTPAdapter):
    """requests' adapter, with connections whose answers must begin in time."""

    def get_connection_with_tls_context(self, *args, **kwargs):
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        if not issubclass(pool.ConnectionCls, _Watched):
            pool.ConnectionCls = type("Connection", (_Watched, pool.ConnectionCls), {})
        return pool


class _Watched:
    """Part of a connection: the head of an answer must come within WINDOW."""

    def getresponse(self):
        with _watch(lambda: self.sock.shutdown(socket.SHUT_RDWR), lambda: 0):
            return super().getresponse()


@contextlib.contextmanager
def _watch(shut: Callable[[], None], received: Callable[[], int]) -> Iterator[None]:
    """Shut a connection that brings less than MINIMUM_RATE over WINDOW; the block ends with TimeoutError then."""
    ended, is_slow = threading.Event(), threading.Event()

    def watch() -> None:
        before = 0
        while not ended.wait(WINDOW):
            now = received()
            if now - before < MINIMUM_RATE * WINDOW:
                is_slow.set()
                with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):  # it has just ended
                    shut()
                return
            before = now

    too_slow = f"it sent less than {MINIMUM_RATE} bytes a second for {WINDOW:.0f} s"
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except (HTTPError, OSError) as error:
        if is_slow.is_set():
            raise TimeoutError(too_slow) from error
        raise
    finally:
        ended.set()
    if is_slow.is_set():
        raise TimeoutError(too_slow)


@contextlib.contextmanager
def _request_errors(url: str, tries: int) -> Iterator[None]:
    """Turn the errors of requests into an InputError; those that were retried say so."""
    try:
        yield
    except requests.RequestException as error:
        was_retried = isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.RetryError)
        raise _failure(url, _reason(error), tries if was_retried else None) from error
    except (HTTPError, OSError, UnicodeError, ValueError) as error:
        raise _failure(url, _reason(error), None) from error


def _failure(url: str, reason: str, tries: int | None) -> InputError:
    advice = "check the address in datasets/catalogue.yaml"
    if tries is not None:
        reason, advice = f"{reason}, {tries} times in succession", "run again later"
    return InputError(f"{url} cannot be fetched: {reason}; {advice}")


def _reason(error: BaseException) -> str:
    """Return what lies at the bottom of an error, which says it best."""
    while error.__context__ is not None and not isinstance(error, TimeoutError):
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
