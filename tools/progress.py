"""What a user sees of long work: a bar on a terminal (standard error), plain lines in a log file (standard output)."""

import sys
import time
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from networks.engine import EpochLosses

LINE_INTERVAL = 5  # seconds


def progress(items: Iterable, total: int, what: str, unit: str) -> Iterator:
    """Pass the items on: with a bar on a terminal; in a log file with a line at each 10 %, at least 5 s apart."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=what, unit=unit, leave=False)
        return
    said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        is_tenth = done * 10 // total > (done - 1) * 10 // total
        if is_tenth and time.monotonic() - said > LINE_INTERVAL:
            said = time.monotonic()
            print(
                f"{what}: {done * 100 // total} % of {total} {unit}{'es' if unit.endswith('ch') else 's'}", flush=True
            )


class TrainingProgress:
    """Shows a training run: on a terminal one bar over all its batches, in a log file a line for each epoch."""

    def __init__(self, epochs: int, done: int, n_batches: int, log_interval: int):
        self.epochs, self.done, self.log_interval = epochs, done, log_interval
        self.started = time.perf_counter()
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(desc="training", total=epochs * n_batches, initial=done * n_batches, unit="batch")

    def batches(self, loader: Collection) -> Iterator:
        """Pass an epoch's batches on and count them."""
        if self.bar is None:
            yield from loader
            return
        for n, batch in enumerate(loader, 1):
            yield batch
            if n % self.log_interval == 0 or n == len(loader):
                self.bar.update((n - 1) % self.log_interval + 1)

    def epoch_done(self, losses: "EpochLosses") -> None:
        """Say what the epoch gave and how long it took."""
        self.done += 1
        now = time.perf_counter()
        seconds, self.started = now - self.started, now
        text = f"loss {losses.loss:.4f}, val_loss {losses.val_loss:.4f}"
        if self.bar is not None:
            self.bar.set_postfix_str(f"epoch {self.done}/{self.epochs}, {text}")
        else:
            print(f"epoch {self.done:3d}/{self.epochs}: {text} ({seconds:.2f} s)", flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()


class Stopwatch:
    """Adds up the wall time of named stages: `lap("features")` gives the time since the last lap to that stage."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Give the time since the last call to a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def __str__(self) -> str:
        stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in self.seconds.items())
        return f"seconds: {stages}, total {sum(self.seconds.values()):.2f}"
