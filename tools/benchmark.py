#!/usr/bin/env python3
"""Measure the time and memory that each stage of a run takes on full-size synthetic clips.

python -m tools.benchmark
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import REPOSITORY, SCORES, InputError

from datasets.clips import MachineFolders
from runtime.command import command

DATASET, MACHINE_TYPE = "DCASE2023T2", "fan"


def measure(words: list[object]) -> dict[str, float]:
    """Run a command in the repository; measure time, peak memory, and the times that it prints of its parts."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [str(word) for word in words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environment) as process:
        output = process.stdout.read()  # type: ignore[union-attr]
        _, status, usage = os.wait4(process.pid, 0)  # its memory; the system counts this process's as the least
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise InputError(f"the command failed (its message is above): {' '.join(command)[:500]}")
    figures = {"s": time.perf_counter() - start, "MB": usage.ru_maxrss / 1024}
    for parts in re.findall(r"^seconds: (.*), total", output, re.MULTILINE):
        figures |= {f"s, {part}": float(value) for part, value in re.findall(r"([^,]+) ([\d.]+)(?:, |$)", parts)}
    epochs = re.findall(r"^epoch .*\(([\d.]+) s\)$", output, re.MULTILINE)
    return figures | ({"s an epoch": statistics.median(map(float, epochs))} if epochs else {})


def stages_of(root: Path, args: argparse.Namespace) -> dict[str, list]:
    """List the command of each stage, the first of which makes the clips; its output goes to `root`."""
    clips = [sys.executable, "tools/make_demo_dataset.py", root / "data", "--machine_types", MACHINE_TYPE]
    clips += ["--train_clips", args.clips, "--test_clips", args.test_clips, "--clip_seconds", args.seconds]
    folders = {"dataset": "data", "result": "results", "model": "models", "log": "logs"}
    directories = [word for kind, folder in folders.items() for word in (f"--{kind}_directory", root / folder)]
    train = [sys.executable, "train.py", "--dataset", DATASET + MACHINE_TYPE, "-d", "-tag", "id(0_)", "--use_ids", 0]
    train += directories
    tests = {f"test by {s}": [*train, "--test_only", "--score", s] for s in SCORES.names()}
    tables = ["bash", "03_summarize_results.sh", DATASET, "-d", *directories]
    network = root / f"models/saved_model/baseline/DCASE2023T2-AE_{DATASET}{MACHINE_TYPE}_id(0_)_seed13711.pth"
    return {
        "clips": clips,
        "features": [*train, "--train_only", "--epochs", 1],  # the stages after it use them
        "train": [*train, "--train_only", "--epochs", args.epochs],
        "01_train.sh": ["bash", "01_train.sh", "-d", MACHINE_TYPE, *directories, "--epochs", 1],
        "test features": tests["test by MSE"],
        **tests,
        "tables": tables,
        "report": [*tables, "--report"],
        "score clips": [
            sys.executable,
            "tools/score.py",
            network,
            MachineFolders(root / "data", DATASET, MACHINE_TYPE, False).test,
        ],
    }


@command
def main() -> None:
    """Run every stage and print its costs."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark", description="Measure what a run costs.", allow_abbrev=False
    )
    for name, kind, default, text in (
        ("clips", int, 1000, "training clips"),
        ("test_clips", int, 200, "test clips"),
        ("seconds", float, 10.0, "length of a clip"),
        ("epochs", int, 3, "epochs to train"),
        ("cores", int, None, "use only this many cores (Linux)"),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} [default: {default or 'all'}]")
    args = parser.parse_args()
    if args.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    with tempfile.TemporaryDirectory(prefix="benchmark.") as directory:
        print(f"{args.clips} training, {args.test_clips} test clips of {args.seconds:g} s, {args.epochs} epochs:")
        for stage, words in stages_of(Path(directory), args).items():
            for unit, cost in measure(words).items():
                print(f"{stage:16s}{cost:9.2f} {unit}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
