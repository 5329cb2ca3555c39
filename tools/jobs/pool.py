"""Jobs, each in a process of its own: one after the other, or several side by side.

Side by side each job writes to its own log, and here a line a job says how far it is: on a terminal (standard error)
the last line of each running job's log, in a log file (standard output) what is new in it, of the epochs each tenth.
"""

import math
import multiprocessing
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path

from common import InputError, Stopped, print_error, run_command

JOB_MEMORY = 2**30  # bytes; benchmark.py measures less for 1,000 clips
INTERVAL = 0.5  # seconds between two looks at the logs
PAUSE = 0.2  # seconds from a Ctrl-C, which has reached the jobs too, to the signal that reaches them in any case
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 10  # seconds that a job has to end by itself
IN_LOG_ONLY = ("device: ", "training ", "testing ", "wrote ", "seconds: ", "error: ")  # lines that begin so
EPOCH = re.compile(r"epoch +(\d+)/(\d+): ")
PROGRESS = re.compile(r"epoch .*|.*: \d+ % of \d+ \w+")


@dataclass(frozen=True)
class Job:
    """A call of train.py: its command line, and the file that its output goes to where jobs run side by side."""

    name: str
    words: list[str]
    log: Path


def default_parallel(threads: int, on_cuda: bool) -> tuple[int, str]:
    """Return how many jobs to run side by side, and why: one a core, as far as memory reaches; one a CUDA device."""
    if on_cuda:
        return 1, "one at a time on a CUDA device; -j N runs more"
    cores, memory = available_cores(), available_memory()
    by_cores, by_memory = max(1, cores // threads), max(1, memory // JOB_MEMORY)
    if by_memory < by_cores:
        return by_memory, f"{memory / 2**30:.1f} GiB of memory are free, 1 GiB for each"
    return by_cores, f"{cores} core{'s' if cores > 1 else ''}, {threads} thread{'s' if threads > 1 else ''} for each"


def available_cores() -> int:
    """Return the number of cores that this process may use: its affinity, and the quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = re.match(r"(\d+) (\d+)", _text("/sys/fs/cgroup/cpu.max"))
    return min(cores, max(1, math.ceil(int(quota[1]) / int(quota[2])))) if quota else cores


def available_memory() -> int:
    """Return the bytes of memory that are free, at most what the control group may have."""
    free = re.search(r"MemAvailable: +(\d+) kB", _text("/proc/meminfo"))
    limit = re.match(r"\d+", _text("/sys/fs/cgroup/memory.max"))
    return min(int(free[1]) * 1024 if free else sys.maxsize, int(limit[0]) if limit else sys.maxsize)


def run_in_turn(jobs: list[Job], run: Callable[[list[str]], int], verb: str) -> int:
    """Run one job after the other, with its output on ours; return 0, or the exit status of the first that failed."""
    for number, job in enumerate(jobs, 1):
        print(f"[{number}/{len(jobs)}] {verb} {job.name}", flush=True)
        process = _start(run, job.words)
        try:
            process.join()
        except Stopped as stop:
            _end([process])
            if process.exitcode in (128 + signal.SIGINT, 128 + signal.SIGTERM):
                stop.say("")  # the job has
            raise
        status = process.exitcode
        if status != 0:
            print_error(InputError(f"{verb} {job.name} failed with exit status {status}; the rest was not begun"))
            return status if status > 0 else 128 - status  # killed by a signal: as the shell counts
    return 0


def run_side_by_side(jobs: list[Job], n_parallel: int, run: Callable[[list[str]], int], verb: str) -> int:
    """Run up to `n_parallel` jobs at once; a failed one is named and the others go on. Return 0, or 1 if any failed.

    Raises
    ------
    InputError
        A job's log cannot be written; nothing was begun then.
    """
    for job in jobs:
        _empty(job.log)
    waiting, running, failed = deque(enumerate(jobs, 1)), {}, {}
    shown = _Lines() if not sys.stderr.isatty() else _Bars(min(n_parallel, len(jobs)))
    try:
        while waiting or running:
            while waiting and len(running) < n_parallel:
                number, job = waiting.popleft()
                shown.say(f"[{number}/{len(jobs)}] {verb} {job.name}, log: {job.log}")
                running[_start(run, job.words, job.log)] = (job, _Tail(job.log), time.monotonic())
            connection.wait([process.sentinel for process in running], timeout=INTERVAL)
            ended = [process for process in running if not process.is_alive()]
            for job, tail, _ in running.values():
                shown.news(job.name, tail.new_lines())
            for process in ended:
                job, tail, began = running.pop(process)
                tail.file.close()
                shown.end(job.name)
                if process.exitcode == 0:
                    shown.say(f"{job.name}: done in {time.monotonic() - began:.1f} s")
                else:
                    failed[job.name] = f"{_failure(process.exitcode, tail.error)}; log: {job.log}"
                    shown.say(f"{job.name}: {failed[job.name]}")
    except Stopped:
        _end(list(running))
        raise
    finally:
        shown.close()
    if failed:
        name, how = next(iter(failed.items()))
        names = ", ".join(failed)
        print_error(
            InputError(f"{verb} failed for {len(failed)} of {len(jobs)} jobs: {names}; the first: {name} {how}")
        )
    return 1 if failed else 0


def _start(run: Callable[[list[str]], int], words: list[str], log: Path | None = None):
    """Start a process; on Linux a fork, which has this one's libraries."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    process = context.Process(target=_run, args=(run, words, log))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # until the process can say something of them
    process.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return process


def _run(run: Callable[[list[str]], int], words: list[str], log: Path | None) -> None:
    if log is not None:
        file = log.open("a", encoding="utf-8")
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())

    def begin() -> int:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return run(words)

    sys.exit(run_command(begin))


def _end(processes: list) -> None:
    """Have processes end by themselves, as train.py does on SIGTERM, and wait for them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(PAUSE)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE
    for process in processes:
        process.join(timeout=max(0, deadline - time.monotonic()))
        process.kill()
        process.join()


def _is_due(line: str) -> bool:
    """Tell whether a line is of no epoch, or of one in which a further tenth of all was done."""
    epoch = EPOCH.match(line)
    if epoch is None:
        return True
    done, total = int(epoch[1]), int(epoch[2])
    return done * 10 // total > (done - 1) * 10 // total


def _failure(status: int, error: str) -> str:
    """Say how a process ended that did not end well."""
    how = f"failed with exit status {status}" if status > 0 else f"was ended by signal {-status}"
    return f"{how} ({error})" if error else how


def _empty(log: Path) -> None:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"cannot write {log}: {error.strerror or error}; name another folder with --log_directory"
        ) from error


def _text(path: str) -> str:
    """Return what a file of the system says; nothing where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


class _Tail:
    """Reads what is added to a log; `error` is its last error message."""

    def __init__(self, log: Path):
        self.file = log.open(encoding="utf-8", errors="replace")
        self.rest, self.error = "", ""

    def new_lines(self) -> list[str]:
        """Return the lines that were added and are complete."""
        *lines, self.rest = (self.rest + self.file.read()).split("\n")
        for line in lines:
            if line.startswith("error: "):
                self.error = line.removeprefix("error: ")
        return [line for line in lines if line]


class _Lines:
    """What a log file shows: lines."""

    def say(self, line: str) -> None:
        print(line, flush=True)

    def news(self, name: str, lines: list[str]) -> None:
        for line in lines:
            if not line.startswith(IN_LOG_ONLY) and _is_due(line):
                print(f"{name}: {line}", flush=True)

    def end(self, name: str) -> None:
        """Nothing is left of a job."""

    def close(self) -> None:
        """Nothing is left at all."""


class _Bars:
    """What a terminal shows: for each running job a line that changes, above them lines that stay."""

    def __init__(self, n_lines: int):
        from tqdm import tqdm

        self.tqdm = tqdm
        self.free = [
            tqdm(bar_format="{desc}", position=i, leave=False, dynamic_ncols=True) for i in reversed(range(n_lines))
        ]
        self.used = {}

    def say(self, line: str) -> None:
        self.tqdm.write(line, file=sys.stdout)

    def news(self, name: str, lines: list[str]) -> None:
        if name not in self.used:
            self.used[name] = self.free.pop()
        for line in lines:
            self.used[name].set_description_str(f"{name}: {line}")
            if not line.startswith(IN_LOG_ONLY) and not PROGRESS.fullmatch(line):
                self.say(f"{name}: {line}")

    def end(self, name: str) -> None:
        bar = self.used.pop(name)
        bar.set_description_str("")
        self.free.append(bar)

    def close(self) -> None:
        for bar in [*self.used.values(), *self.free]:
            bar.close()
