"""Jobs side by side: each a process with a log of its own, whose last line the screen shows."""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import TextIO

from common import InputError, Stopped

from runtime.command import exit_now, no_stop_signals, print_error, printable
from runtime.cores import available_cores, share_cores
from runtime.files import writing
from runtime.forkserver import end_with_parent
from runtime.progress import say
from runtime.wording import counted
from tools.jobs.stages import PROGRAM, Job

JOB_MEMORY = 2**30  # bytes; tools/benchmark.py measures less for 1,000 clips
GRACE = 30  # seconds for a stopped job to save its work
INTERVAL = 0.2  # seconds between two looks at the logs
HAS_CUDA = 10  # exit status
CONTEXT = multiprocessing.get_context("forkserver")


# --- how many ---------------------------------------------------------------------------------------------------------


def default_parallel(threads: int, on_cuda: bool) -> tuple[int, str]:
    """Return how many jobs to run in parallel, and why: one per core, as far as memory allows; one per CUDA device."""
    if on_cuda:
        return 1, "one at a time on a CUDA device; -j N runs more"
    cores, memory = available_cores(), available_memory()
    by_cores, by_memory = max(1, cores // threads), max(1, memory // JOB_MEMORY)
    if by_memory < by_cores:
        return by_memory, f"{memory / 2**30:.1f} GiB of memory are free, 1 GiB for each"
    return by_cores, f"{counted(cores, 'core')}, {counted(threads, 'thread')} for each"


def has_cuda() -> bool:
    """Return whether there is a CUDA device, asked in another process: one that has used CUDA cannot be forked."""
    process = CONTEXT.Process(target=_tell_cuda, daemon=True)
    process.start()
    process.join()
    return process.exitcode == HAS_CUDA


def _tell_cuda() -> None:
    import torch  # which only this process needs

    os._exit(HAS_CUDA if torch.cuda.is_available() else 0)


def available_memory() -> int:
    """Return the free memory in bytes, within the control group's limit."""
    sizes = []
    for path, pattern, unit in (
        ("/proc/meminfo", r"MemAvailable: +(\d+) kB", 1024),
        ("/sys/fs/cgroup/memory.max", r"\d+", 1),
    ):
        with contextlib.suppress(OSError):
            sizes += [int(size) * unit for size in re.findall(pattern, Path(path).read_text(encoding="utf-8"))]
    return min(sizes, default=sys.maxsize)


# --- the parent -------------------------------------------------------------------------------------------------------


@dataclass
class _Running:
    """A running job; its log is open for reading, None if it writes to our output."""

    job: Job
    process: multiprocessing.process.BaseProcess
    log: TextIO | None
    began: float
    line: str = ""  # the last of the log
    tenths: int = 0  # of the epochs, according to the log


def run_jobs(jobs: list[Job], n_parallel: int, verb: str) -> int:
    """Run up to `n_parallel` jobs at once and return the exit status.

    In parallel, each job's output goes to its log; a failed job is reported, the others continue, and the status is 1.
    One at a time, jobs write to our output, and the first failure ends the run. `verb` is the stage's.
    """
    in_turn = n_parallel == 1
    waiting = deque(enumerate(jobs, 1))
    running: list[_Running] = []
    failed: list[_Running] = []
    try:
        while running or (waiting and not (in_turn and failed)):
            while waiting and len(running) < n_parallel:
                number, job = waiting.popleft()
                _say(f"[{number}/{len(jobs)}] {verb.format(job.name)}" + ("" if in_turn else f", log: {job.log}"))
                with no_stop_signals():
                    running.append(_start(job, n_parallel))
            connection.wait([each.process.sentinel for each in running], None if in_turn else INTERVAL)
            ended = [each for each in running if each.process.exitcode is not None]
            for each in running:
                _follow(each)
            for each in ended:
                running.remove(each)
                failed += [each] if each.process.exitcode else []
                if each.log is not None:
                    _say(f"{each.job.name}: {_outcome(each)}")
                    each.log.close()
            _show([f"{each.job.name}: {each.line}" for each in running if each.line])
    except Stopped as stop:
        _show([])
        _stop(running, stop.number)
        if in_turn and any(each.process.exitcode == stop.status for each in running):
            stop.say("")  # the job has said it
        raise
    if not failed:
        return 0
    names, first = ", ".join(each.job.name for each in failed), failed[0].job
    text = f"{len(failed)} of {len(jobs)} jobs failed: {names}; log of the first: {first.log}"
    if in_turn:
        text = f"{verb.format(first.name)} {_ending(failed[0].process)}; the others were not started"
    print_error(InputError(text))
    return 1


def _start(job: Job, n_parallel: int) -> _Running:
    """Start a job, with a new log: one of an earlier run that is still saving its work keeps the old file."""
    log = None
    if n_parallel > 1:
        with writing(job.log, "choose another --log_directory"):
            job.log.parent.mkdir(parents=True, exist_ok=True)
            job.log.unlink(missing_ok=True)
            log = job.log.open("x+", encoding="utf-8", errors="replace")
    process = CONTEXT.Process(target=_work, args=(job.words, log and job.log, n_parallel))
    process.start()
    return _Running(job, process, log, time.monotonic())


def _stop(running: list[_Running], number: int) -> None:
    """Pass a signal on to the jobs and wait until they have saved their work."""
    for each in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each.process.pid or 0, number)
    deadline = time.monotonic() + GRACE
    for each in running:
        each.process.join(max(0, deadline - time.monotonic()))
        each.process.kill()
        each.process.join()


def _follow(each: _Running) -> None:
    """Read what a job has added to its log; print warnings, results and, in a log file, each tenth of the epochs."""
    for text in each.log or ():
        before, each.line = each.tenths, re.sub(r"^section \d+: ", "", text.rstrip())
        if epoch := re.match(r"epoch +(\d+)/(\d+): ", text):
            each.tenths = int(epoch[1]) * 10 // int(epoch[2])
        if text.startswith(("warning: ", "section ")) or (each.tenths > before and not _on_terminal()):
            _say(f"{each.job.name}: {each.line}")


def _outcome(ended: _Running) -> str:
    """Describe how a job that ran in parallel with others ended."""
    if ended.process.exitcode == 0:
        return f"done in {time.monotonic() - ended.began:.1f} s"
    error = f" ({ended.line.removeprefix('error: ')})" if ended.line.startswith("error: ") else ""
    return f"{_ending(ended.process)}{error}; log: {ended.job.log}"


def _ending(process: multiprocessing.process.BaseProcess) -> str:
    """Describe how a process failed."""
    status = process.exitcode or 0
    memory = " (as the kernel does when memory runs out)" if status == -signal.SIGKILL else ""
    return f"failed with exit status {status}" if status > 0 else f"was killed by signal {-status}{memory}"


# --- the screen: permanent lines on standard output; below them, on a terminal, the last line of each running job -----


def _on_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _say(text: str) -> None:
    """Print a permanent line."""
    _show([])
    say(printable(text))


def _show(lines: Sequence[str]) -> None:
    """Show these lines on a terminal in place of the last ones; the cursor rests at their start, where ^C is shown."""
    if _on_terminal():
        from tqdm.utils import disp_trim  # which only a terminal needs

        size = shutil.get_terminal_size()
        shown = [disp_trim(printable(line), size.columns - 1) for line in lines][: size.lines - 1]
        up = f"\x1b[{len(shown) - 1}A" if len(shown) > 1 else ""
        sys.stderr.write("\r\x1b[J" + "\n".join(shown) + f"\r{up}")
        sys.stderr.flush()


# --- a job ------------------------------------------------------------------------------------------------------------


def _work(words: list[str], log: Path | None, n_parallel: int) -> None:
    """Run a job in its process, which begins with stop signals blocked."""
    if log is not None:
        with log.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), sys.stdout.fileno())
            os.dup2(file.fileno(), sys.stderr.fileno())
    share_cores(n_parallel)
    end_with_parent()
    run_program(words)


def run_program(words: list[str]) -> None:
    """Run train.py in this process, which ends with it."""
    import train  # here, since it imports torch; jobs side by side find it imported, as it was when the command started

    sys.argv = [str(PROGRAM), *words]
    exit_now(train.main())
