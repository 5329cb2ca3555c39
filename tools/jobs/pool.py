"""Jobs, each in its own process: one after another, or several in parallel.

The processes are forked from the forkserver, so that a job starts at once and with no CUDA context but its own. A job
reports its lines (runtime/progress.py) through a pipe. The same pipe stops it: its parent sends a signal's
number, or has ended, which closes the pipe.
"""

import contextlib
import multiprocessing
import os
import re
import runpy
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path

from common import InputError, Stopped

from runtime import progress
from runtime.command import no_stop_signals, print_error, run_command
from runtime.cores import available_cores, share_cores
from runtime.progress import Level, Line
from tools.jobs.display import Display
from tools.jobs.stages import PROGRAM, Job

JOB_MEMORY = 2**30  # bytes; tools/benchmark.py measures less for 1,000 clips
GRACE = 30  # seconds for a stopped job to save its work


# --- how many ---------------------------------------------------------------------------------------------------------


def default_parallel(threads: int, on_cuda: bool) -> tuple[int, str]:
    """Return how many jobs to run in parallel, and why: one per core, as far as memory allows; one per CUDA device."""
    if on_cuda:
        return 1, "one at a time on a CUDA device; -j N runs more"
    cores, memory = available_cores(), available_memory()
    by_cores, by_memory = max(1, cores // threads), max(1, memory // JOB_MEMORY)
    if by_memory < by_cores:
        return by_memory, f"{memory / 2**30:.1f} GiB of memory are free, 1 GiB for each"
    return by_cores, f"{cores} core{'s' if cores > 1 else ''}, {threads} thread{'s' if threads > 1 else ''} for each"


def available_memory() -> int:
    """Return the free memory in bytes, within the control group's limit."""
    free = re.search(r"MemAvailable: +(\d+) kB", _text("/proc/meminfo"))
    limit = re.match(r"\d+", _text("/sys/fs/cgroup/memory.max"))
    return min(int(free[1]) * 1024 if free else sys.maxsize, int(limit[0]) if limit else sys.maxsize)


def _text(path: str) -> str:
    """Return a system file's content, empty if there is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


# --- the parent -------------------------------------------------------------------------------------------------------


def wait_for_server() -> bool:
    """Wait until the libraries are imported; return whether there is a CUDA device.

    torch is asked in a separate process, since a process that has used CUDA cannot be forked.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("forkserver").Process(target=_tell_cuda, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    answer = _receive(ours)
    process.join()
    return bool(answer)


def _tell_cuda(pipe: Connection) -> None:
    import torch

    _send(pipe, torch.cuda.is_available())


@dataclass
class _Running:
    """A running job, and the sentence it reported its failure in."""

    job: Job
    process: multiprocessing.process.BaseProcess
    began: float
    error: str = ""


def run_jobs(jobs: list[Job], n_parallel: int, verb: str, program: Path = PROGRAM) -> int:
    """Run up to `n_parallel` jobs at once and return the exit status.

    In parallel, each job's output goes to its log; a failed job is reported, the others continue, and the status is 1.
    One at a time, jobs write to our output, and the first failure ends the run with its status. `verb` is the stage's.
    """
    in_turn = n_parallel == 1
    for job in () if in_turn else jobs:
        _new_log(job.log)
    waiting = deque(enumerate(jobs, 1))
    failed: dict[str, _Running] = {}
    running: dict[Connection, _Running] = {}
    display = Display()
    try:
        while running or (waiting and not (in_turn and failed)):
            while waiting and len(running) < n_parallel:
                number, job = waiting.popleft()
                display.say(
                    f"[{number}/{len(jobs)}] {verb.format(job.name)}" + ("" if in_turn else f", log: {job.log}")
                )
                with no_stop_signals():
                    pipe, process = _start(program, job.words, None if in_turn else job.log, n_parallel)
                    running[pipe] = _Running(job, process, time.monotonic())
            for pipe in [pipe for pipe in connection.wait(list(running)) if isinstance(pipe, Connection)]:
                line, active = _receive(pipe), running[pipe]
                if line is None:
                    active.process.join()
                    del running[pipe]
                    display.end(active.job.name)
                    if active.process.exitcode != 0:
                        failed[active.job.name] = active
                    if not in_turn:
                        display.say(f"{active.job.name}: {_outcome(active)}")
                elif line.level is Level.ERROR:
                    active.error = line.text
                elif not in_turn:
                    display.report(active.job.name, line)
    except Stopped as stop:
        display.close()
        _end(running, stop)
        if in_turn and any(active.process.exitcode == stop.status for active in running.values()):
            stop.say("")  # the job has said it
        raise
    finally:
        display.close()
    if not failed:
        return 0
    first = next(iter(failed.values()))
    if in_turn:
        status = first.process.exitcode or 1
        print_error(InputError(f"{verb.format(first.job.name)} {_ending(status)}; the others were not started"))
        return status if status > 0 else 128 - status  # killed by a signal: as a shell counts
    print_error(
        InputError(f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}; log of the first: {first.job.log}")
    )
    return 1


def _start(
    program: Path, words: list[str], log: Path | None, n_parallel: int
) -> tuple[Connection, multiprocessing.process.BaseProcess]:
    """Start a job; return the pipe to it, and its process."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("forkserver").Process(
        target=_work, args=(program, words, log, n_parallel, theirs)
    )
    process.start()
    theirs.close()
    return ours, process


def _receive(pipe: Connection):
    """Return what a process sends next; None if it has ended."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return None


def _outcome(active: _Running) -> str:
    """Describe how a job that ran in parallel with others ended."""
    if active.process.exitcode == 0:
        return f"done in {time.monotonic() - active.began:.1f} s"
    error = f" ({active.error})" if active.error else ""
    return f"{_ending(active.process.exitcode or 1)}{error}; log: {active.job.log}"


def _ending(status: int) -> str:
    return f"failed with exit status {status}" if status > 0 else f"was killed by signal {-status}"


def _new_log(log: Path) -> None:
    """Begin a job's log as a new file: a job of an earlier run that is still saving its work keeps the old one."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        log.touch()
    except OSError as error:
        raise InputError(f"cannot write {log}: {error.strerror or error}; choose another --log_directory") from error


def _end(running: dict[Connection, _Running], stop: Stopped) -> None:
    """Pass a signal on to the jobs and wait until they have saved their work."""
    for pipe in running:
        with contextlib.suppress(OSError):
            pipe.send(stop.number)
        pipe.close()  # so that a job does not block on its last lines
    deadline = time.monotonic() + GRACE
    with no_stop_signals():
        for active in running.values():
            active.process.join(timeout=max(0, deadline - time.monotonic()))
            active.process.kill()
            active.process.join()


# --- a job ------------------------------------------------------------------------------------------------------------


def _work(program: Path, words: list[str], log: Path | None, n_parallel: int, pipe: Connection) -> None:
    """Run a program like a command, in a job's process."""
    if log is not None:
        with log.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), sys.stdout.fileno())
            os.dup2(file.fileno(), sys.stderr.fileno())
    share_cores(n_parallel)
    progress.report_to(partial(_send, pipe))
    threading.Thread(target=_obey, args=(pipe, threading.main_thread().ident), daemon=True).start()
    sys.exit(run_command(partial(run_program, words, program)))


def run_program(words: list[str], program: Path = PROGRAM) -> int:
    """Run a program in this process, as a command with these arguments, and return its exit status."""
    sys.argv = [str(program), *words]
    try:
        runpy.run_path(str(program), run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    return 0


def _send(pipe: Connection, line: Line | bool) -> None:
    with contextlib.suppress(OSError):  # the parent has ended, or only waits for the end
        pipe.send(line)


def _obey(pipe: Connection, main_thread: int) -> None:
    """Raise the stop signal that the parent sends, or SIGTERM when it has ended."""
    signal.pthread_kill(main_thread, _receive(pipe) or signal.SIGTERM)
