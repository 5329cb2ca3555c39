#!/usr/bin/env python3
"""The program of 01_train.sh and the test scripts: calls train.py for each machine type and section of a challenge."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from common import BY_NAME, Settings, Stopped

from runtime.command import command, exit_now
from tools.jobs.command_line import make_parser, parse_jobs
from tools.jobs.stages import PROGRAM, TRAIN, Stage, check_inputs, freeze, make_jobs, score_stage


def run(stage: Stage, settings: Settings) -> int:
    """Run the jobs of a stage and return the exit status."""
    jobs = make_jobs(stage, settings)
    if not settings.dry_run:
        check_inputs(stage, settings, jobs)
    jobs = make_jobs(stage, freeze(settings))
    if settings.dry_run:
        for job in jobs:
            print(shlex.join([sys.executable, str(PROGRAM), *job.words]))
        return 0
    alone = f"[1/1] {stage.verb.format(jobs[0].name)}"
    several = f"{len(jobs)} jobs of {settings.challenge}; loading the libraries once for all of them"
    print(alone if len(jobs) == 1 else several, flush=True)
    from runtime.forkserver import start_server  # with multiprocessing, which --help need not wait for
    from tools.jobs.pool import default_parallel, has_cuda, run_jobs, run_program

    if len(jobs) == 1:
        run_program(jobs[0].words)
    start_server(["tools.jobs.pool", *stage.libraries])
    parallel, why = settings.jobs, "set by --jobs"
    if parallel is None:
        parallel, why = default_parallel(settings.threads, settings.use_cuda and has_cuda())
    parallel = min(parallel, len(jobs))
    if parallel > 1:
        print(f"{parallel} jobs in parallel ({why})", flush=True)
    try:
        return run_jobs(jobs, parallel, stage.verb)
    except Stopped as stop:
        if stage is TRAIN and parallel > 1:
            stop.say("finished epochs are saved; the same command with --restart resumes there")
        raise


@command
def main(argv: Sequence[str]) -> int:
    """Run a script's command line: its name, `train` or `test`, and its arguments."""
    prog, kind, *words = argv
    is_legacy = words[:1] == ["--legacy"]
    is_training = kind == "train"
    description = (
        "Train a network for each machine type and section of a challenge."
        if is_training
        else "Test the networks of 01_train.sh: anomaly scores, decisions and metrics of each machine type and section."
    )
    parser = make_parser(f"bash {prog}", description, is_training, is_legacy)
    if sum(word.partition("=")[0] == "--score" for word in words) > 1:  # 02a_test.sh and 02b_test.sh give the first
        parser.error("--score may be given once, and not to 02a_test.sh and 02b_test.sh; tools/02_test.sh takes any")
    settings = parse_jobs(parser, words[is_legacy:], [name for name in BY_NAME if name != "score" or not is_training])
    return run(TRAIN if is_training else score_stage(settings.score), settings)


if __name__ == "__main__":
    exit_now(main(sys.argv[1:]))
