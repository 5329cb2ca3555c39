#!/usr/bin/env python3
"""Measure the time and memory that each stage of a run takes on full-size synthetic clips.

python -m tools.benchmark
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import REPOSITORY, SCORES, InputError

import numpy as np
import soundfile

from runtime.command import command

SAMPLING_RATE = 16000  # Hz
DATASET, MACHINE_TYPE = "DCASE2023T2", "fan"


def write_data_set(root: Path, args: argparse.Namespace) -> Path:
    """Write noise clips, 1 of 100 training clips from the target domain as in the challenge; return the folder raw."""
    raw = root / "data" / DATASET.lower() / "dev_data" / "raw"
    rng = np.random.default_rng(0)
    domains = ["target" if i % 100 == 99 else "source" for i in range(args.clips)]
    groups = [(("source", "target")[i % 2], ("normal", "anomaly")[i // 2 % 2]) for i in range(args.test_clips)]
    names = [f"train/section_00_{domain}_train_normal_{i:05d}.wav" for i, domain in enumerate(domains)]
    names += [f"test/section_00_{domain}_test_{label}_{i:05d}.wav" for i, (domain, label) in enumerate(groups)]
    for name in names:
        path = raw / MACHINE_TYPE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.standard_normal(int(SAMPLING_RATE * args.seconds), dtype=np.float32)
        soundfile.write(path, 0.1 * noise, SAMPLING_RATE, subtype="PCM_16")
    return raw


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


def stages_of(root: Path, raw: Path, epochs: int) -> dict[str, list]:
    """List the command of each stage, for the clips in `raw`; its output goes to `root`."""
    folders = {"dataset": "data", "result": "results", "model": "models", "log": "logs"}
    directories = [word for kind, folder in folders.items() for word in (f"--{kind}_directory", root / folder)]
    train = [sys.executable, "train.py", "--dataset", DATASET + MACHINE_TYPE, "-d", "-tag", "id(0_)", "--use_ids", 0]
    train += directories
    tests = {f"test by {s}": [*train, "--test_only", "--score", s] for s in SCORES.names()}
    tables = ["bash", "03_summarize_results.sh", DATASET, "-d", *directories]
    network = root / f"models/saved_model/baseline/DCASE2023T2-AE_{DATASET}{MACHINE_TYPE}_id(0_)_seed13711.pth"
    return {
        "features": [*train, "--train_only", "--epochs", 1],
        "train": [*train, "--train_only", "--epochs", epochs],
        "01_train.sh": ["bash", "01_train.sh", "-d", MACHINE_TYPE, *directories, "--epochs", 1],
        "test features": tests["test by MSE"],
        **tests,
        "tables": tables,
        "report": [*tables, "--report"],
        "score clips": [sys.executable, "tools/score.py", network, raw / MACHINE_TYPE / "test"],
    }


@command
def main() -> None:
    """Run every stage and print its costs."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark", description="Measure what a run costs.", allow_abbrev=False
    )
    parser.add_argument("--clips", type=int, default=1000, help="training clips [default: 1000]")
    parser.add_argument("--test_clips", type=int, default=200, help="test clips [default: 200]")
    parser.add_argument("--seconds", type=float, default=10, help="length of a clip [default: 10]")
    parser.add_argument("--epochs", type=int, default=3, help="epochs to train [default: 3]")
    parser.add_argument("--cores", type=int, help="use only this many cores (Linux)")
    args = parser.parse_args()
    if args.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    with tempfile.TemporaryDirectory(prefix="benchmark.") as directory:
        raw = write_data_set(Path(directory), args)
        print(f"{args.clips} training, {args.test_clips} test clips of {args.seconds:g} s, {args.epochs} epochs:")
        for stage, words in stages_of(Path(directory), raw, args.epochs).items():
            if stage.endswith("features"):  # the stages after it use them
                shutil.rmtree(raw.with_name("processed"), ignore_errors=True)
            for unit, cost in measure(words).items():
                print(f"{stage:16s}{cost:9.2f} {unit}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
