"""The processor's cores: how many there are, and work on several of them at once."""

import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

_n_jobs = 1  # that share the cores, this process included


def share_cores(n_jobs: int) -> None:
    """Limit this process to its share of the cores, since `n_jobs` processes run side by side."""
    global _n_jobs
    _n_jobs = n_jobs


def available_cores() -> int:
    """Count the cores for this process, by affinity, control group quota and its share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    limit = re.match(r"(\d+) (\d+)", quota.read_text(encoding="utf-8")) if quota.is_file() else None
    return max(1, min(cores, math.ceil(int(limit[1]) / int(limit[2])) if limit else cores) // _n_jobs)


def in_order(work: Callable[[Any], Any], items: Iterable, n_threads: int) -> Iterator:
    """Yield what `work` makes of each item, in order, on `n_threads` threads, only a few items ahead."""
    if n_threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        begun: deque[Future] = deque()
        try:
            for item in items:
                begun.append(pool.submit(work, item))
                if len(begun) > 2 * n_threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
