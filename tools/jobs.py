#!/usr/bin/env python3
"""The program of 01_train.sh and the test scripts: calls train.py for each seed, machine type and section.

The challenge's networks are trained for one section each, so a job is one call of train.py. Jobs run side by side, each
a process with a log of its own, or one after another on this program's output; `--dry_run` prints their command lines
instead, for xargs, GNU parallel or a cluster's scheduler (tools/slurm_array.sh).
"""

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import (
    BY_NAME,
    NETWORKS,
    PATH,
    REPOSITORY,
    SEEDS,
    InputError,
    Settings,
    Stopped,
    as_text,
    choice,
    integer,
    option_type,
    optional,
    parse_settings,
    read_values,
)

import yaml

from datasets.catalogue import OWN, load_challenge, runnable_names
from datasets.clips import MachineFolders
from networks.names import Experiment, Run, check_applies, is_joint, similar_networks
from runtime.command import command, exit_now, no_stop_signals, printable
from runtime.cores import available_cores, share_cores
from runtime.files import atomic_write
from runtime.forkserver import end_with_parent, start_server
from runtime.progress import say
from runtime.wording import counted, listed

PROGRAM = REPOSITORY / "train.py"
LIBRARIES = ("tools.jobs", "train", "networks.mahalanobis", "scipy.stats")  # imported once for all jobs
JOB_MEMORY = 2**30  # bytes; tools/benchmark.py measures less for 1,000 clips
GRACE = 30  # seconds for a stopped job to save its work
INTERVAL = 0.2  # seconds between two looks at the logs
CONTEXT = multiprocessing.get_context("forkserver")


class Job(NamedTuple):
    """A call of train.py."""

    name: str  # in messages: fan section 00 seed 1
    words: list[str]  # of the command line
    log: Path  # for the output, when jobs run side by side
    clips: list[Path]  # folders of the clips that it reads
    network: Path | None  # that it tests


@command
def main(argv: Sequence[str]) -> int:
    """Run a script's command line: its name; `train`, `test`, or the score that it tests by; and its arguments."""
    if len(argv) < 2:
        raise InputError("tools/jobs.py is the program of 01_train.sh, 02a_test.sh and 02b_test.sh; run one of these")
    prog, stage, *words = argv
    settings = freeze(parse_arguments(prog, stage, words))
    jobs = make_jobs(settings)
    if settings.dry_run:
        for job in jobs:
            print(shlex.join([sys.executable, str(PROGRAM), *job.words]))
        return 0
    check_inputs(jobs, settings)
    action = "training {}" if settings.train_only else f"testing {{}} by {settings.score}"
    if len(jobs) == 1:
        say(f"[1/1] {action.format(jobs[0].name)}")
        run_program(jobs[0].words)
    say(f"{len(jobs)} jobs of {settings.challenge}; loading the libraries once for all of them")
    further = ["sklearn.metrics"]
    if settings.train_only:  # torch's optimisers import torch._dynamo; the baseline's own step needs none
        further = [] if settings.model in NETWORKS.builtin else ["torch._dynamo"]
    start_server([*LIBRARIES, *further])
    n_parallel = min(len(jobs), settings.jobs or default_parallel(settings))
    if n_parallel > 1:
        say(f"{n_parallel} jobs in parallel")
    run_jobs(jobs, n_parallel, action)
    return 0


# --- the command line -------------------------------------------------------------------------------------------------


def parse_arguments(prog: str, stage: str, words: Sequence[str]) -> Settings:
    """Parse a script's arguments on top of baseline.yaml; `stage` is `train`, `test`, or the score to test by."""
    is_training = stage == "train"
    what = "Train a network" if is_training else "Test the network of 01_train.sh (scores, decisions, metrics)"
    parser = argparse.ArgumentParser(
        prog=f"bash {prog}",
        usage=f"bash {prog} (-d | -e) [MACHINE_TYPE ...] [option ...]",
        description=f"{what} for each machine type and section of a challenge.",
        epilog="Defaults are those of baseline.yaml. Exit status: 0 done, 1 failed, 2 wrong usage.",
        allow_abbrev=False,
    )
    parser.set_defaults(train_only=is_training, restart=False, checkpoint_path=None)  # the stage's options of train.py
    run = parser.add_argument_group("what to do")
    run.add_argument("machine_types", nargs="*", metavar="MACHINE_TYPE", help="e.g. fan ToyCar [default: all]")
    subset = run.add_mutually_exclusive_group(required=True)
    subset.add_argument("-d", "--dev", action="store_true", help="development data set")
    subset.add_argument("-e", "--eval", action="store_true", help="evaluation data set")
    run.add_argument(
        "--challenge",
        type=option_type(choice(*runnable_names())),
        default="DCASE2023T2",
        metavar="NAME",
        help=f"{', '.join(runnable_names())} [default: %(default)s]; MINE: your own machines, the folders in "
        "mine/dev_data/raw",
    )
    run.add_argument(
        "--seeds",
        nargs="+",
        type=option_type(SEEDS),
        default=(),
        metavar="N",
        help="run a job for each of these seeds; 03_summarize_results.sh --seeds gives mean and deviation",
    )
    run.add_argument(
        "-j",
        "--jobs",
        type=option_type(integer(1, 1000)),
        metavar="N",
        help="number of jobs (one per machine type and section) to run in parallel; results do not depend on it "
        "[default: one per core, as far as memory allows; on a CUDA device 1]; with 1, the first failure ends the run",
    )
    run.add_argument("--dry_run", action="store_true", help="print the commands of the jobs, one per line")
    if is_training:
        run.add_argument("--restart", action="store_true", help="resume from each job's checkpoint, if it has one")
        kind = option_type(optional(PATH))
        run.add_argument("--checkpoint_path", type=kind, metavar="FILE", help="resume from another run's checkpoint")
    if stage not in ("train", "test") and any(word.partition("=")[0] == "--score" for word in words):
        parser.error(f"{prog} tests by {stage}; another score: bash tools/02_test.sh --score NAME")
    settings = parse_settings(parser, words, [name for name in BY_NAME if name != "score" or stage == "test"])
    if settings.seeds and "seed" in settings.given:
        parser.error("give either --seed or --seeds")
    return settings if stage in ("train", "test") else settings.replace(score=stage)


def freeze(settings: Settings) -> Settings:
    """Copy baseline.yaml and the --config file for the jobs, which may start days later; return changed settings.

    A copy's folder is named by its content, so that commands share it. Paths in it are absolute.
    """
    copies = {}
    for option in ("defaults", "config"):
        if path := getattr(settings, option):
            values = {name: as_text(value) for name, value in read_values(path).items()}
            text = f"# {path}, copied when its jobs were made\n{yaml.safe_dump(values, sort_keys=False)}"
            number = hashlib.sha256(text.encode()).hexdigest()[:8]
            copies[option] = settings.log_directory / settings.export_dir / "parameters" / number / path.name
            with atomic_write(copies[option], advice="choose another --log_directory") as file:
                file.write(text)
    return settings.replace(**copies)


# --- the jobs ---------------------------------------------------------------------------------------------------------


def make_jobs(settings: Settings) -> list[Job]:
    """Return the jobs for every seed, machine type and section, in the catalogue's order.

    A joint network is trained by one job for each seed. Each job gets the parameters given on the command line, and the
    files of `freeze`; training also --restart and --checkpoint_path.
    """
    if not settings.train_only:
        check_applies(settings.score, settings.model)
    challenge = load_challenge(settings.challenge, settings.eval, settings.dataset_directory)
    log, options = f"02_test_{settings.score}", ["--test_only", f"--score={settings.score}"]
    if settings.train_only:
        log, options = "01_train", ["--train_only"] + ["--restart"] * settings.restart
    names = [name for name in ("defaults", "config", "checkpoint_path") if settings.values[name]]
    names += [name for name in settings.values if name in settings.given - {"score"}]
    options += [f"--{name}={as_text(settings.values[name])}" for name in names]
    options += [f"--extension={path}" for path in settings.extension]
    subset = "-e" if settings.eval else "-d"
    folders = {
        name: MachineFolders(settings.dataset_directory, settings.challenge, name, settings.eval)
        for name in challenge.choose(settings.machine_types)
    }
    jobs = []
    for seed in dict.fromkeys(settings.seeds) or (settings.seed,):
        experiment = Experiment.of(settings.replace(seed=seed), settings.eval)
        seed_name, further = (f" seed {seed}", [*options, f"--seed={seed}"]) if settings.seeds else ("", options)
        if settings.train_only and is_joint(settings.model):
            run = Run(experiment, settings.challenge, "")
            name = f"{settings.model} on {counted(len(folders), 'machine type')}{seed_name}"
            words = ["--dataset", run.dataset, subset, "--machine_types", *folders, *further]
            jobs.append(Job(name, words, run.output(log), [each.train for each in folders.values()], None))
            continue
        for machine_type, section in challenge.section_keys(settings.machine_types):
            run = experiment.run(settings.challenge, machine_type, section)
            name = f"{machine_type} section {section:02d}{seed_name}"
            words = ["--dataset", run.dataset, subset, "-tag", run.tag, "--use_ids", str(section), *further]
            clips = folders[machine_type].train if settings.train_only else folders[machine_type].test
            needs_network = not settings.train_only and run.scored_by(settings.score) is run
            jobs.append(Job(name, words, run.output(log), [clips], run.network if needs_network else None))
    return jobs


def check_inputs(jobs: list[Job], settings: Settings) -> None:
    """Raise InputError if several jobs lack their clips or their network; a single one fails, and the others run."""
    kind, part = ("training", "add") if settings.train_only else ("test", "eval")
    script = f"bash tools/data_download.sh {settings.challenge} {part if settings.eval else 'dev'}"
    get = "put them there" if settings.challenge == OWN else f"download them ({script})"
    empty = {job.name: folder for job in jobs for folder in job.clips if not any(folder.glob("*"))}
    no_network = {job.name: job.network for job in jobs if job.network and not job.network.is_file()}
    train = (
        f"train them first (bash 01_train.sh {'-e' if settings.eval else '-d'} and the same options; --restart resumes)"
    )
    for missing, what, advice in (
        ({} if settings.is_auto_download else empty, f"{kind} clips", f"{get}, or give another --dataset_directory"),
        (no_network, "trained network", train),
    ):
        if len(missing) > 1:
            others = dict.fromkeys(job.name.partition(" ")[0] for job in jobs if job.name not in missing)
            only = f", or run only the machine types that have them: {', '.join(others)}" if others else ""
            path = next(iter(missing.values()))
            example = f"{len(missing)} of {len(jobs)} jobs have no {what}, for example {path}{similar_networks(path)}"
            raise InputError(f"{example}: {listed(missing, 3)}; {advice}{only}")


# --- side by side -----------------------------------------------------------------------------------------------------


def default_parallel(settings: Settings) -> int:
    """Return how many jobs to run in parallel: one per core, as far as memory allows; one on a CUDA device."""
    if settings.use_cuda and _has_cuda():
        return 1
    return max(1, min(available_cores() // settings.threads, free_memory() // JOB_MEMORY))


def _has_cuda() -> bool:
    """Return whether a CUDA device exists; a forked process asks, since this one does not import torch."""
    process = CONTEXT.Process(target=_tell_cuda)
    process.start()
    process.join()
    return process.exitcode == 1


def _tell_cuda() -> NoReturn:
    import torch  # which the server has imported

    os._exit(torch.cuda.is_available())  # 1: yes


def free_memory() -> int:
    """Return the free memory in bytes, within the control group's limit."""
    sizes = [sys.maxsize]
    with contextlib.suppress(OSError):
        free = re.findall(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        sizes += [int(size) * 1024 for size in free]
        sizes += map(int, re.findall(r"\d+", Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(sizes)


@dataclass
class Running:
    """A running job; its log is open for reading, None if it writes to our output."""

    job: Job
    process: multiprocessing.process.BaseProcess
    log: TextIO | None
    began: float
    line: str = ""  # the last of the log


def run_jobs(jobs: list[Job], n_parallel: int, action: str) -> None:
    """Run up to `n_parallel` jobs at once; raise InputError if one fails.

    In parallel, each job's output goes to its log, and the others continue after a failure. One at a time, jobs write
    to our output, and the first failure ends the run. `action` describes a job, with {} for its name.
    """
    waiting, running, failed = deque(jobs), list[Running](), list[Running]()
    try:
        while running or (waiting and not (failed and n_parallel == 1)):
            while waiting and len(running) < n_parallel:
                job = waiting.popleft()
                log = "" if n_parallel == 1 else f", log: {job.log}"
                _say(f"[{len(jobs) - len(waiting)}/{len(jobs)}] {action.format(job.name)}{log}")
                with no_stop_signals():
                    running.append(_start(job, n_parallel))
            connection.wait([each.process.sentinel for each in running], None if n_parallel == 1 else INTERVAL)
            ended = [each for each in running if each.process.exitcode is not None]
            for each in running:
                _follow(each)
            for each in ended:
                running.remove(each)
                if each.process.exitcode:
                    failed.append(each)
                if each.log is not None:
                    each.log.close()
                    _say(f"{each.job.name}: {_outcome(each)}")
            _show([f"{each.job.name}: {each.line}" for each in running if each.line])
    except Stopped as stop:
        _show([])
        for each in running:
            each.process.terminate()
        deadline = time.monotonic() + GRACE
        for each in running:
            each.process.join(max(0, deadline - time.monotonic()))
            each.process.kill()
            each.process.join()
        if n_parallel == 1:
            stop.say("")  # the job has said it
        elif "--train_only" in jobs[0].words:
            stop.say("finished epochs are saved; the same command with --restart resumes there")
        raise
    if failed and n_parallel == 1:
        raise InputError(f"{action.format(failed[0].job.name)} {_outcome(failed[0])}; the others were not started")
    if failed:
        names = ", ".join(each.job.name for each in failed)
        raise InputError(f"{len(failed)} of {len(jobs)} jobs failed: {names}; log of the first: {failed[0].job.log}")


def _start(job: Job, n_parallel: int) -> Running:
    """Start a job, with a new log unless it writes to our output."""
    log = None
    if n_parallel > 1:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        log = job.log.open("w+", encoding="utf-8", errors="replace")
    process = CONTEXT.Process(target=_work, args=(job, n_parallel))
    process.start()
    return Running(job, process, log, time.monotonic())


def _follow(each: Running) -> None:
    """Read what a job has added to its log; print warnings, results and, in a log file, each tenth of the epochs."""
    for text in each.log or ():
        each.line = re.sub(r"^section \d+: ", "", text.rstrip())
        epoch = re.match(r"epoch +(\d+)/(\d+): ", text)
        is_tenth = epoch is not None and int(epoch[1]) * 10 % int(epoch[2]) < 10
        if text.startswith(("warning: ", "section ")) or (is_tenth and not sys.stderr.isatty()):
            _say(f"{each.job.name}: {each.line}")


def _outcome(ended: Running) -> str:
    """Describe how a job ended."""
    status = ended.process.exitcode or 0
    if status == 0:
        return f"done in {time.monotonic() - ended.began:.1f} s"
    memory = " (as the kernel does when memory runs out)" if status == -signal.SIGKILL else ""
    ending = f"failed with exit status {status}" if status > 0 else f"was killed by signal {-status}{memory}"
    error = f" ({ended.line.removeprefix('error: ')})" if ended.line.startswith("error: ") else ""
    return f"{ending}{error}" + (f"; log: {ended.job.log}" if ended.log else "")


def _work(job: Job, n_parallel: int) -> NoReturn:
    """Run a job in its process, which begins with stop signals blocked."""
    if n_parallel > 1:
        with job.log.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), sys.stdout.fileno())
            os.dup2(file.fileno(), sys.stderr.fileno())
    share_cores(n_parallel)
    end_with_parent()
    run_program(job.words)


def run_program(words: list[str]) -> NoReturn:
    """Run train.py in this process, which ends with it."""
    import train  # here, since it imports torch; jobs side by side find it imported, as it was when the command started

    sys.argv = [str(PROGRAM), *words]
    exit_now(train.main())


# --- the screen: permanent lines on standard output; below them, on a terminal, the last line of each running job -----


def _say(text: str) -> None:
    """Print a permanent line."""
    _show([])
    say(printable(text))


def _show(lines: Sequence[str]) -> None:
    """Show these lines on a terminal in place of the last ones; the cursor rests at their start, where ^C is shown."""
    if sys.stderr.isatty():
        size = shutil.get_terminal_size()
        shown = [printable(line)[: size.columns - 1] for line in lines][: size.lines - 1]
        up = f"\x1b[{len(shown) - 1}A" if len(shown) > 1 else ""
        sys.stderr.write("\r\x1b[J" + "\n".join(shown) + f"\r{up}")
        sys.stderr.flush()


if __name__ == "__main__":
    exit_now(main(sys.argv[1:]))
