"""The progress of long work: a bar on a terminal (standard error), plain lines in a log file (standard output)."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from runtime.errors import Stopped

LINE_INTERVAL = 5  # seconds
BAR_FORMAT = "{desc} {percentage:3.0f} %|{bar:12}| {n_fmt}/{total_fmt} {unit}, {remaining} left{postfix}"


def say(text: str) -> None:
    """Print a line to standard output; one that is closed or cannot be written stops the program like a signal."""
    try:
        print(text, flush=True)
    except OSError as error:
        is_closed = isinstance(error, BrokenPipeError)
        cause = "the output was closed" if is_closed else f"cannot write the output: {error.strerror}"
        raise Stopped(signal.SIGTERM, cause) from error


@dataclass
class Progress:
    """Shows the progress of some work: a bar on a terminal, else a line at a tenth of the work, at least 5 s apart."""

    what: str
    total: int | None  # units, if known
    unit: str  # such as `clips`
    done: int = 0  # units done before
    lines: bool = True  # print lines without a terminal
    scale: bool = False  # show millions of units, such as MB
    interval: int | None = None  # units between two updates of the bar

    def __post_init__(self) -> None:
        self._said = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm  # which only a terminal needs

            self._bar = tqdm(
                desc=self.what,
                total=self.total,
                initial=self.done,
                unit=self.unit,
                unit_scale=self.scale,
                miniters=self.interval,
                leave=False,
                dynamic_ncols=True,
                bar_format=BAR_FORMAT,
            )

    def update(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        before, self.done = self.done, self.done + n
        if self._bar is not None:
            self._bar.update(n)
        elif self.lines and self.total:
            is_tenth = self.done * 10 // self.total > before * 10 // self.total
            if is_tenth and time.monotonic() - self._said > LINE_INTERVAL:
                self._said = time.monotonic()
                total = f"{self.total / 1e6:.1f} M" if self.scale else f"{self.total} "
                say(f"{self.what}: {100 * self.done / self.total:.0f} % of {total}{self.unit}")

    def over(self, items: Iterable) -> Iterator:
        """Yield the items, and count each as done."""
        for item in items:
            yield item
            self.update()

    def note(self, text: str) -> bool:
        """Show a text beside the bar; return False if there is no bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        return self._bar is not None

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


def progress(items: Iterable, total: int, what: str, unit: str) -> Iterator:
    """Yield the items and show how many are done."""
    with contextlib.closing(Progress(what, total, unit)) as shown:
        yield from shown.over(items)


class Stopwatch:
    """Adds up the wall time of named stages: `lap("features")` adds the time since the last lap to that stage."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Add the time since the last call to a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def __str__(self) -> str:
        stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in self.seconds.items())
        return f"seconds: {stages}, total {sum(self.seconds.values()):.2f}"
