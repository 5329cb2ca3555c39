"""How a command starts and ends: exit status, signals, errors in one sentence.

Exit status: 0 done, 1 failed, 2 wrong usage, 128 + number after SIGINT (Ctrl-C), SIGTERM or SIGHUP.
"""

import contextlib
import functools
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from runtime.errors import InputError, Stopped

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NO_MEMORY = "allocate memory|out of memory|start new thread"


def run_command(work: Callable[[], int | None]) -> int:
    """Run a command's work and return its exit status: that of `work`, else 0; 1 after an error.

    An error that a user can mend is reported in one sentence, any other by its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # characters that the locale lacks are escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    stopping = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:  # the work that the first signal causes, such as a checkpoint, is not interrupted by a second
            return
        stopping = True
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # until the end, after our handlers are gone
        raise Stopped(number)

    try:
        with _handlers(stop):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # tools/python.sh and the pool block them
            return work() or 0
    except Stopped as stopped:
        _drop_output()
        if stopped.args:
            print_error(stopped)
        return stopped.status
    except BrokenPipeError:
        _drop_output()
        return 1
    except BaseException as error:
        sentence = error if isinstance(error, InputError) else _in_extension(error) or _lacking(error)
        if sentence is None and not isinstance(error, Exception):
            raise  # SystemExit of argparse; an extension's must not pass for success
        _drop_output()
        if sentence is None:
            traceback.print_exception(error)
        else:
            print_error(sentence)
        return 1


def command(work: Callable[..., int | None]) -> Callable[..., int]:
    """Turn a function that does a command's work into the command itself, run by run_command."""
    return functools.wraps(work)(lambda *words: run_command(lambda: work(*words)))


def _in_extension(error: BaseException) -> InputError | None:
    """Name the line of an extension's file that an error passed through last; None if it met no extension."""
    lines = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if "__source__" in frame.f_globals]
    if not lines:
        return None
    frame, line = lines[-1]
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return InputError(f"{frame.f_code.co_filename}, line {line}: {text}; correct the extension")


def _lacking(error: BaseException) -> InputError | None:
    """Put a lack of memory, or a file's error, into a sentence; None for any other error."""
    if lacks_memory(error):
        return InputError(
            f"there is not enough memory ({' '.join(str(error).split())[:200] or 'none is left'}); free some, run "
            "fewer jobs at once, or lower --n_mels, --frames or --batch_size"
        )
    if isinstance(error, OSError) and error.strerror:
        return InputError(f"{error.strerror}{f': {error.filename}' if error.filename else ''}")
    return None


def lacks_memory(error: BaseException) -> bool:
    """Tell whether memory or threads have run out; torch raises RuntimeError then."""
    return isinstance(error, MemoryError) or re.search(NO_MEMORY, str(error), re.IGNORECASE) is not None


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
    if "multiprocessing.util" in sys.modules:
        sys.modules["multiprocessing.util"]._exit_function()  # removes the folder of the forkserver's socket
    os._exit(status)


@contextlib.contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle stop signals by `handler` in the block; those that are ignored on entry, as under nohup, stay ignored."""
    before = {
        number: signal.signal(number, handler)
        for number in STOP_SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _drop_output() -> None:
    """Discard standard output if its buffer cannot be written, since Python flushes it on exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_error(error: BaseException) -> None:
    """Print an error's sentence to standard error."""
    with contextlib.suppress(OSError, ValueError):  # if even that cannot be written, the exit status tells
        print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Escape control characters, so that no name can control a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
