"""The processor's cores: how many there are, and work on several of them at once."""

import contextlib
import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of cores that this process may use: its affinity, and the quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    limit = re.match(r"(\d+) (\d+)", quota.read_text(encoding="utf-8")) if quota.is_file() else None
    return min(cores, max(1, math.ceil(int(limit[1]) / int(limit[2])))) if limit else cores


def in_order(work: Callable[[Item], Result], items: Iterable[Item], n_threads: int) -> Iterator[Result]:
    """Yield what `work` makes of each item, in order, on up to `n_threads` threads; few items are taken ahead.

    All threads but one run only where a core is idle (Linux), so that jobs side by side do not slow each other down.
    """
    if n_threads == 1:
        yield from map(work, items)
        return
    numbers = count()

    def begin() -> None:
        if next(numbers) > 0 and hasattr(os, "SCHED_IDLE"):
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # of this thread alone

    with ThreadPoolExecutor(n_threads, initializer=begin) as pool:
        begun: deque[Future[Result]] = deque()
        try:
            for item in items:
                begun.append(pool.submit(work, item))
                if len(begun) > 2 * n_threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
