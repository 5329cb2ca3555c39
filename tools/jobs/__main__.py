#!/usr/bin/env python3
"""What 01_train.sh, 02a_test.sh, 02b_test.sh and their legacy twins share: call train.py for one job after the other.

A job is one machine type and one section, since the challenge's networks are trained for one section each; it runs in
a process of its own, beside others (tools/job_pool.py).
"""

import importlib
import os
import shlex
import signal
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import train
from common import REPOSITORY, InputError, Stopped, print_error, run_command, set_instruction_set
from datasets.catalogue import load_challenge, runnable_names
from tools.job_pool import Job, default_parallel, run_in_turn, run_side_by_side

SCRIPTS = {"train": "01_train.sh", "MSE": "02a_test.sh", "MAHALA": "02b_test.sh"}
VERBS = {"train": "training", "MSE": "testing (MSE)", "MAHALA": "testing (MAHALA)"}
LIBRARIES = {  # 02b_test.sh finds the features that 02a_test.sh has made, as a rule, and needs no librosa
    "train": ("tools.training", "scipy.stats", "librosa"),
    "MSE": ("tools.testing", "sklearn.metrics", "scipy.stats", "librosa"),
    "MAHALA": ("tools.testing", "sklearn.metrics", "scipy.stats"),
}
TAKE_A_VALUE = ("--challenge", "-j", "--jobs", "--seeds")
SET_BY_SCRIPT = ("--dataset", "--use_ids", "-tag", "--model_name_suffix", "--train_only", "--test_only", "--score")
USAGE = """usage: bash {script} (-d|--dev|-e|--eval) [MACHINE_TYPE ...] [option ...] [train.py option ...]
       bash tools/{legacy} CHALLENGE (-d|--dev|-e|--eval) [MACHINE_TYPE ...] [option ...] [train.py option ...]

This is {verb} of the challenge's machine types, section by section.

  -d, --dev         development data set
  -e, --eval        evaluation data set
  MACHINE_TYPE      before the first option: which ones, e.g. fan ToyCar [default: all of the challenge]
  --challenge NAME  {challenges} [default: DCASE2023T2];
                    MINE: your own machines, the folders in mine/dev_data/raw
  --seeds N ...     train or test once with each seed; 03_summarize_results.sh --seeds gives mean and deviation
  -j N, --jobs N    jobs (a machine type's section each) side by side; no result depends on it [default: as many as pay:
                    one a core, as far as memory reaches]; with 1 the first that fails ends the run
  --dry_run         show the jobs' commands, a line each, and do nothing
  -h, --help        this text

All further options go to train.py (see python train.py --help), e.g. --epochs 30 --dataset_directory /x.
Exit status: 0 done, 1 failed, 2 wrong usage."""


class UsageError(InputError):
    """The command line is not as the usage says."""


@dataclass(frozen=True)
class CommandLine:
    """What a script's command line says: `options` are for train.py."""

    is_eval: bool
    challenge: str
    machine_types: list[str]
    options: list[str]
    seeds: tuple[int, ...] = ()  # none: the one that the options or baseline.yaml say
    parallel: int | None = None  # None: as many jobs as pay
    is_dry_run: bool = False


def parse_command_line(words: list[str]) -> CommandLine:
    """Part the scripts' own options, which are taken wherever they stand, from machine types and train.py's options.

    Raises
    ------
    UsageError
        Neither or both of -d and -e are given, or an option that the script itself sets, or one of its own options
        has no value or a wrong one.
    """
    modes, challenge, seeds, parallel, is_dry_run, others = set(), "DCASE2023T2", (), None, False, []
    remaining = deque(words)
    while remaining:
        word = remaining.popleft()
        name, equals, value = word.partition("=")
        if name in TAKE_A_VALUE and not equals:
            value = remaining.popleft() if remaining else ""
        if word in ("-d", "--dev", "-e", "--eval"):
            modes.add(word in ("-e", "--eval"))
        elif name == "--challenge":
            challenge = value
        elif name in ("-j", "--jobs"):
            parallel = _number(name, value, 1, 1000)
        elif name == "--seeds":
            texts = [value]
            while remaining and remaining[0].isdigit():
                texts.append(remaining.popleft())
            seeds = tuple(dict.fromkeys(_number(name, text, 0, 2**32 - 1) for text in texts))
        elif word == "--dry_run":
            is_dry_run = True
        elif name in SET_BY_SCRIPT:
            raise UsageError(f"{name} is set by this script for each job; call train.py itself to choose it")
        else:
            others.append(word)
    if len(modes) != 1:
        raise UsageError("give either -d (development) or -e (evaluation)")
    if challenge not in runnable_names():
        raise UsageError(f"--challenge '{challenge}': give one of {', '.join(runnable_names())}")
    if seeds and any(word.partition("=")[0] == "--seed" for word in others):
        raise UsageError("--seed and --seeds: give one of them")
    first_option = next((i for i, word in enumerate(others) if word.startswith("-")), len(others))
    return CommandLine(
        modes.pop(), challenge, others[:first_option], others[first_option:], seeds, parallel, is_dry_run
    )


def _number(name: str, text: str, lowest: int, highest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and lowest <= int(text) <= highest):
        raise UsageError(f"{name} '{text}': give a whole number from {lowest} to {highest}")
    return int(text)


def make_jobs(stage: str, line: CommandLine) -> list[Job]:
    """Return the calls of train.py for every seed, machine type and section, in the catalogue's order.

    Raises
    ------
    InputError
        A machine type is not one of the challenge's, or baseline.yaml is not as it should be. (Where an option is wrong
        for train.py, this program ends with status 2.)
    """
    mode = "-e" if line.is_eval else "-d"
    common = train.parse_arguments(["--dataset", line.challenge, mode, *line.options])
    challenge = load_challenge(line.challenge, line.is_eval, common.dataset_directory)
    challenge.check_machine_types(line.machine_types)
    stage_options = ["--train_only"] if stage == "train" else ["--test_only", "--score", stage]
    jobs = []
    for seed in line.seeds or (None,):
        seed_options = [] if seed is None else ["--seed", str(seed)]
        for machine_type in line.machine_types or challenge.machine_types:
            for section in challenge.sections[machine_type]:
                words = ["--dataset", line.challenge + machine_type, mode, "-tag", f"id({section}_)"]
                words += ["--use_ids", str(section), *stage_options, *seed_options, *line.options]
                paths = train.experiment_paths(train.parse_arguments(words))
                name = f"{machine_type} section {section:02d}" + ("" if seed is None else f" seed {seed}")
                jobs.append(Job(name, words, paths.output(SCRIPTS[stage].removesuffix(".sh"))))
    return jobs


def run_jobs(stage: str, line: CommandLine) -> int:
    """Run train.py for every machine type and section, and return the exit status.

    Raises
    ------
    InputError
        As make_jobs, or a job's log cannot be written.
    """
    jobs = make_jobs(stage, line)
    if line.is_dry_run:
        for job in jobs:
            print(shlex.join([sys.executable, str(REPOSITORY / "train.py"), *job.words]))
        return 0
    arguments = train.parse_arguments(jobs[0].words)
    verb = VERBS[stage]
    if len(jobs) == 1:
        return run_in_turn(jobs, run_train, verb)
    print(f"{len(jobs)} jobs of {line.challenge}; loading the libraries once for all of them", flush=True)
    set_instruction_set(arguments.instruction_set)
    handlers = {n: signal.signal(n, signal.SIG_DFL) for n in (signal.SIGINT, signal.SIGTERM)}
    import_libraries(stage)  # which could swallow what a handler raises
    for number, handler in handlers.items():
        signal.signal(number, handler)
    parallel, why = line.parallel, "as --jobs says"
    if parallel is None:
        parallel, why = default_parallel(arguments.threads, arguments.use_cuda and _cuda_is_available())
    if parallel == 1:
        return run_in_turn(jobs, run_train, verb)
    print(f"{min(parallel, len(jobs))} jobs side by side ({why})", flush=True)
    try:
        return run_side_by_side(jobs, parallel, run_train, verb)
    except Stopped as stop:
        if stage == "train":
            stop.say("the epochs that are done are saved, the same command with --restart goes on there")
        raise


def _cuda_is_available() -> bool:
    """Ask the driver's management library, since a process that has used CUDA itself cannot be forked."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.is_available()


def import_libraries(stage: str) -> None:
    """Import what every job of a stage needs, some seconds' work, so that the processes forked for the jobs have it.

    Nothing is computed here: no library has threads of its own yet that a fork would lose.
    """
    for name in LIBRARIES[stage]:
        importlib.import_module(name)
    if "librosa" in LIBRARIES[stage]:
        import librosa

        librosa.stft, librosa.filters.mel, librosa.util.frame  # noqa: B018 (naming imports them)


def run_train(words: list[str]) -> int:
    """Call train.py with a command line, in this process; return its exit status."""
    sys.argv = [str(REPOSITORY / "train.py"), *words]
    return train.main()


def main(stage: str, words: list[str]) -> int:
    """Run the command line of a script and return its exit status."""
    usage = USAGE.format(
        script=SCRIPTS[stage],
        legacy=SCRIPTS[stage].replace(".sh", "_legacy.sh"),
        verb=VERBS[stage],
        challenges=", ".join(runnable_names()),
    )
    if "-h" in words or "--help" in words:
        print(usage)
        return 0
    if words[:1] == ["--legacy"]:  # what the legacy scripts put first: their first word is the challenge
        words = [f"--challenge={words[1] if len(words) > 1 else ''}", *words[2:]]

    def run() -> int:
        try:
            line = parse_command_line(words)
        except UsageError as error:
            print(usage.partition("\n\n")[0], file=sys.stderr)
            print_error(error)
            return 2
        return run_jobs(stage, line)

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
