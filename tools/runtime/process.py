"""How a command starts and ends: exit status, signals, errors in one sentence.

Exit status: 0 done, 1 failed, 2 wrong usage, 128 + number after SIGINT (Ctrl-C), SIGTERM or SIGHUP.
"""

import contextlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

from common import InputError, extension_error
from tools.runtime.progress import Level, Line, report

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asks the program to end; `status` is its exit status then, as a shell counts."""

    def __init__(self, number: int):
        super().__init__()
        self.name, self.status = signal.Signals(number).name, 128 + number
        self.say("nothing is half-written; run the same command again to start over")

    def say(self, what: str) -> None:
        """Set what the user is told about finished work and how to resume; nothing: it has been said already."""
        self.args = (f"stopped by {self.name}; {what}",) if what else ()


def run_command(work: Callable[[], int | None]) -> int:
    """Run a command's work and return its exit status: that of `work`, else 0; 1 after an error.

    An error is reported in one sentence; the traceback of one that nobody expected goes to a file. An output that
    nobody reads any more ends the command silently.
    """
    stopping = False

    def stop(number: int, _frame: object) -> None:
        nonlocal stopping
        if not stopping:  # the work that the first signal causes, such as a checkpoint, is not interrupted by a second
            stopping = True
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # until the end, after our handlers are gone
            raise Stopped(number)

    try:
        with _handlers(stop):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # tools/python.sh and the pool block them
            return work() or 0
    except InputError as error:
        print_error(error)
        return 1
    except Stopped as stopped:
        if stopped.args:
            print_error(stopped)
        return stopped.status
    except BrokenPipeError:
        _drop_output()
        return 1
    except Exception as error:
        hidden = _stopped_behind(error)
        if hidden is not None:
            print_error(hidden)
            return hidden.status
        _drop_output()
        print_error(extension_error(error) or _unexpected(error))
        return 1


def _stopped_behind(error: BaseException | None) -> Stopped | None:
    """Return the Stopped that an error replaced, raised in a `finally` block of argparse, say, while it passed."""
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error


def _unexpected(error: Exception) -> InputError:
    """Return one sentence about an error that nobody expected, with the file that holds its traceback."""
    if isinstance(error, ModuleNotFoundError):
        return InputError(
            f"{sys.executable} has no package {error.name}; run bash tools/install.sh, or set PYTHON to a Python with "
            "the packages of requirements.txt"
        )
    if isinstance(error, OSError) and error.strerror:
        return InputError(f"{error.strerror}{f': {error.filename}' if error.filename else ''}")
    summary = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="baseline_error_", suffix=".txt", delete=False) as file:
            traceback.print_exception(error, file=file)
    except OSError:
        return InputError(f"unexpected {summary}; please report it with the command")
    return InputError(f"unexpected {summary}; please report it with the command and the traceback in {file.name}")


@contextlib.contextmanager
def no_stop_signals() -> Iterator[None]:
    """Defer stop signals until the block is done, for work that must not be interrupted."""
    waiting: list[int] = []
    with _handlers(lambda number, _frame: waiting.append(number)):
        yield
    if waiting:
        signal.raise_signal(waiting[0])


def exit_now(status: int) -> NoReturn:
    """End the process without the clean-up of imported libraries, which takes torch half a second."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


@contextlib.contextmanager
def immediate_exit() -> Iterator[None]:
    """End at once on a stop signal, for imports of libraries: they may swallow what a handler raises."""
    with _handlers(lambda number, _frame: os._exit(128 + number)):
        yield


@contextlib.contextmanager
def _handlers(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handle stop signals by `handler` in the block; those that are ignored on entry, as under nohup, stay ignored."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    numbers = [number for number in STOP_SIGNALS if number != signal.SIGHUP or before[number] != signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def _drop_output() -> None:
    """Redirect standard output to nowhere if what is still buffered cannot be written: Python flushes it on exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(error: BaseException) -> None:
    """Print an error's sentence to standard error, and report it to whoever listens to this process."""
    text = printable(str(error))
    with contextlib.suppress(OSError, ValueError):  # where even that cannot be written, the exit status tells
        print(f"error: {text}", file=sys.stderr, flush=True)
    report(Line(text, Level.ERROR))


def printable(text: str) -> str:
    """Return a text with control characters escaped, so that no name can control a terminal."""
    text = text.encode(errors="backslashreplace").decode()  # names need not be UTF-8
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )
