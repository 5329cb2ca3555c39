"""One HTTP request with redirects, bounded in time. Imports requests, so download.py, which retries, imports it late.

A server must answer within WINDOW and then send at least MINIMUM_RATE, or its connection is closed: with only a time
limit per read, a server that sends 2 bytes a second would block the program for ever.
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

LONGEST_WAIT = 600.0  # seconds; a server that asks for a longer wait is an error
TIMEOUT = (10, 60)  # seconds: to connect, for one read
WINDOW = 60.0  # seconds in which a response must begin, and over which MINIMUM_RATE is measured
MINIMUM_RATE = 1000  # bytes a second
MAX_REDIRECTS = 10
TRANSIENT = (408, 425, 429, *range(500, 600))  # HTTP statuses that are retried

sleep = time.sleep  # tests shorten it


class TransientError(Exception):
    """A failure worth a retry; `is_slow`: the server sends too little; `wait`: seconds that it asks to wait."""

    def __init__(self, reason: str, is_slow: bool = False, wait: float = 0):
        super().__init__(reason)
        self.is_slow, self.wait = is_slow, wait


@contextlib.contextmanager
def request(url: str, headers: dict[str, str], method: str = "GET") -> Iterator[requests.Response]:
    """Make a request; yield the response, its body unread. TransientError: a retry may help.

    Status 200 is accepted, and 206 and 416 if the request has a Range.
    """
    headers = {"Accept-Encoding": "identity", **headers}
    with _Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter())
        try:
            response = _follow(session, method, url, headers)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise TransientError(_reason(error)) from error
        except (requests.RequestException, HTTPError, OSError, UnicodeError, ValueError) as error:
            raise _failure(url, _reason(error)) from error
        with response:
            status = response.status_code
            answer = f"the server answers {status} {response.reason or ''}".strip()
            if status in TRANSIENT:
                wait = _retry_after(response)
                if wait > LONGEST_WAIT:
                    raise InputError(f"{url} cannot be fetched: {answer} and asks to wait {wait:.0f} s; run again then")
                raise TransientError(answer, wait=wait)
            if status not in (200, *((206, 416) if "Range" in headers else ())):
                raise _failure(url, answer)
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise _failure(url, f"the server sends {encoding[:40]!r} compression, which was not asked for")
            yield response


def body(response: requests.Response, piece_size: int) -> Iterator[bytes]:
    """Yield a response's bytes as they arrive; TransientError if it ends early or is too slow."""
    n_bytes = 0
    try:
        with _watch(response.raw.shutdown, lambda: n_bytes):
            while piece := response.raw.read1(piece_size, decode_content=False):
                n_bytes += len(piece)
                yield piece
    except (HTTPError, OSError) as error:
        raise TransientError(_reason(error), isinstance(error, TimeoutError)) from error


class _Session(requests.Session):
    """A session that leaves redirects to _follow: requests would read a redirect's body, which may never end."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def _follow(session: _Session, method: str, url: str, headers: dict[str, str]) -> requests.Response:
    """Make a request and follow redirects."""
    for _ in range(MAX_REDIRECTS):
        response = session.request(method, url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False)
        if not response.is_redirect:
            return response
        response.close()
        url = urljoin(url, response.headers["Location"])
    raise requests.TooManyRedirects(f"more than {MAX_REDIRECTS} redirects")


def _retry_after(response: requests.Response) -> float:
    """Return how many seconds a response asks to wait."""
    try:
        return Retry().get_retry_after(response.raw) or 0
    except (InvalidHeader, ValueError, OverflowError):
        return 0


class _Adapter(HTTPAdapter):
    """requests' adapter, with connections whose responses must begin in time."""

    def get_connection_with_tls_context(self, *args, **kwargs):
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        if not issubclass(pool.ConnectionCls, _Watched):
            pool.ConnectionCls = type("Connection", (_Watched, pool.ConnectionCls), {})
        return pool


class _Watched:
    """A mix-in for connections: a response's head must arrive within WINDOW."""

    def getresponse(self):
        with _watch(lambda: self.sock.shutdown(socket.SHUT_RDWR), lambda: 0):
            return super().getresponse()


@contextlib.contextmanager
def _watch(shut: Callable[[], None], received: Callable[[], int]) -> Iterator[None]:
    """Shut down a connection slower than MINIMUM_RATE over WINDOW, and end the block with TimeoutError."""
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
    except Exception as error:
        if is_slow.is_set():
            raise TimeoutError(too_slow) from error
        raise
    finally:
        ended.set()
    if is_slow.is_set():
        raise TimeoutError(too_slow)


def _failure(url: str, reason: str) -> InputError:
    return InputError(f"{url} cannot be fetched: {reason}; check the address in datasets/catalogue.yaml")


def _reason(error: BaseException) -> str:
    """Return the message of an error's root cause."""
    while error.__context__ is not None and not isinstance(error, TimeoutError):
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
