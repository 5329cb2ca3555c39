#!/usr/bin/env python3
"""Measure the cost of a run on full-size synthetic clips, and of a training step compared with its floor.

    python -m tools.benchmark

The floor of a training step is the time of its matrix products alone: torch.mm, float32, with the batch, for each of
the ten layers forward, for the gradient of its weights and, except in the first layer, for the gradient of its input:
29 products. Floor, fast step (networks/fast_step.py) and plain step (networks/training.py) are measured in turn, with
the same number of threads; medians of the rounds. Two jobs: two processes take steps at the same time; the elapsed time
is divided by the steps of both.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import REPOSITORY, SCORES, InputError, Settings, read_defaults

import numpy as np
import soundfile
import torch

from datasets.cache import Features
from datasets.clips import parse_clip
from datasets.vectors import Vectors, make_batches
from networks.autoencoder import BOTTLENECK, HIDDEN, N_HIDDEN, AutoEncoder
from networks.fast_step import FastStep
from networks.training import PlainStep, train_epoch
from runtime.command import command
from runtime.cores import available_cores

SAMPLING_RATE = 16000  # Hz
STEPS = 20  # of each kind in a round
DATASET, MACHINE_TYPE = "DCASE2023T2", "fan"
KINDS = ("fast", "plain")


def write_data_set(directory: Path, args: argparse.Namespace) -> Path:
    """Write noise clips, 1 of 100 training clips from the target domain as in the challenge; return the folder raw."""
    raw = directory / DATASET.lower() / "dev_data" / "raw"
    rng = np.random.default_rng(0)
    names = [
        f"train/section_00_{'target' if i % 100 == 99 else 'source'}_train_normal_{i:05d}.wav"
        for i in range(args.clips)
    ] + [
        f"test/section_00_{('source', 'target')[i % 2]}_test_{('normal', 'anomaly')[i // 2 % 2]}_{i:05d}.wav"
        for i in range(args.test_clips)
    ]
    for name in names:
        path = raw / MACHINE_TYPE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.standard_normal(int(SAMPLING_RATE * args.seconds), dtype=np.float32)
        soundfile.write(path, 0.1 * noise, SAMPLING_RATE, subtype="PCM_16")
    return raw


# --- steps ------------------------------------------------------------------------------------------------------------


def make_floor(settings: Settings) -> Callable[[], object]:
    """Return a function that computes the 29 products of a step, STEPS times."""
    hidden, n_values, n = [HIDDEN] * N_HIDDEN, settings.frames * settings.n_mels, settings.batch_size
    products = []
    for layer, (n_in, n_out) in enumerate(pairwise([n_values, *hidden, BOTTLENECK, *hidden, n_values])):
        inputs, weights, gradients = torch.randn(n, n_in), torch.randn(n_out, n_in), torch.randn(n, n_out)
        products += [(inputs, weights.T), (gradients.T, inputs)]  # forward, gradient of the weights
        if layer > 0:
            products.append((gradients, weights))  # gradient of the input
    return lambda: [torch.mm(a, b) for _ in range(STEPS) for a, b in products]


def make_steps(settings: Settings, kind: str) -> Callable[[], object]:
    """Return a function that trains STEPS full batches, gathering and logging included, by the fast or plain step."""
    torch.set_num_threads(settings.threads)
    frames = np.random.default_rng(0).standard_normal((200 * 313, settings.n_mels), dtype=np.float32) * 20 - 40
    clips = [parse_clip(Path(f"section_00_source_train_normal_{i:04d}.wav")) for i in range(200)]
    training = make_batches(Vectors(Features(frames, (313,) * 200), clips, settings, torch.device("cpu")), settings)
    network = AutoEncoder(settings, settings.n_mels)
    step = FastStep(network, settings.learning_rate) if kind == "fast" else PlainStep(network)

    def full_batches() -> Iterator:
        while True:
            yield from islice(training.training, len(training.training) - 1)

    batches, validation = full_batches(), [(torch.zeros(2, network.n_values), torch.zeros(2, dtype=torch.bool))]
    return lambda: train_epoch(network, step, islice(batches, STEPS), validation, STEPS)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_steps(settings: Settings, n_rounds: int) -> None:
    """Print the median time of a step in ms, and its median ratio to the floor, for one job and for two."""
    torch.set_num_threads(settings.threads)
    floor = make_floor(settings)
    measured: dict[str, Callable[[], float]] = {"floor": partial(timed, floor)}
    measured |= {f"{kind} step": partial(timed, make_steps(settings, kind)) for kind in KINDS}

    def both(kind: str) -> float:
        return max(two.map(_take_steps, (kind, kind))) / 2

    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn, initializer=_prepare, initargs=(settings,)) as two:
        if available_cores() > 1:
            measured |= {f"{kind} step, two jobs": partial(both, kind) for kind in KINDS}
        rounds = [{name: work() for name, work in measured.items()} for _ in range(n_rounds + 1)][1:]  # 1 to warm up
    print(f"a step of batch {settings.batch_size}, {settings.threads} thread(s), medians of {n_rounds} rounds:")
    for name in measured:
        milliseconds = statistics.median(each[name] for each in rounds) / STEPS * 1e3
        ratio = statistics.median(each[name] / each["floor"] for each in rounds)
        print(f"{name:24s}{milliseconds:8.2f} ms{ratio:8.2f} times the floor", flush=True)


def _prepare(settings: Settings) -> None:
    """Make the steps of one of two processes."""
    _steps.update({kind: make_steps(settings, kind) for kind in KINDS})


def _take_steps(kind: str) -> float:
    return timed(_steps[kind])


_steps: dict[str, Callable[[], object]] = {}


# --- whole runs -------------------------------------------------------------------------------------------------------


def measure_command(command: list[object]) -> dict[str, float]:
    """Run a command in the repository; return its figures.

    These are total seconds, seconds to its first line, peak memory, and what it prints itself: the seconds of its parts
    and of an epoch, validation included (median). The system counts this process's peak memory as the command's too, so
    steps, which need more, come last.
    """
    start = time.perf_counter()
    words = [str(word) for word in command]
    environment = {**os.environ, "PYTHON": sys.executable}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environment) as process:
        first = process.stdout.readline()  # type: ignore[union-attr]
        first_line = time.perf_counter() - start
        output = first + process.stdout.read()  # type: ignore[union-attr]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise InputError(f"the command failed (its message is above): {' '.join(words)[:500]}")
    figures = {"s": time.perf_counter() - start, "s to the first line": first_line, "MB": usage.ru_maxrss / 1024}
    parts = re.search(r"^seconds: (.*), total", output, re.MULTILINE)
    figures |= {
        f"s, {name}": float(value) for name, value in re.findall(r"([^,]+) ([\d.]+)(?:, |$)", parts[1] if parts else "")
    }
    epochs = re.findall(r"^epoch .*\(([\d.]+) s\)$", output, re.MULTILINE)
    return figures | ({"s an epoch": statistics.median(map(float, epochs))} if epochs else {})


def stages_of(root: Path, args: argparse.Namespace) -> dict[str, list[object]]:
    """Return the command of each stage, for the clips in `root`, where its output goes too."""
    name = f"DCASE2023T2-AE_{DATASET}{MACHINE_TYPE}_id(0_)_seed13711"
    folders = {"dataset": "data", "result": "results", "model": "models", "log": "logs"}
    common = [word for kind, folder in folders.items() for word in (f"--{kind}_directory", root / folder)]
    program = [sys.executable, "train.py", "--dataset", DATASET + MACHINE_TYPE, "-d", "-tag", "id(0_)", "--use_ids", 0]
    tests = {f"test by {s}": [*program, *common, "--test_only", "--score", s] for s in SCORES.names()}
    tables = ["bash", "03_summarize_results.sh", DATASET, "-d", *common]
    clips = sorted((root / "data" / DATASET.lower() / "dev_data" / "raw" / MACHINE_TYPE / "test").iterdir())
    scoring = [sys.executable, "tools/score.py", root / "models/saved_model/baseline" / f"{name}.pth"]
    return {
        "features": [*program, *common, "--train_only", "--epochs", 1],
        "train": [*program, *common, "--train_only", "--epochs", args.epochs],
        "01_train.sh": ["bash", "01_train.sh", "-d", MACHINE_TYPE, *common, "--epochs", 1],
        "test features": next(iter(tests.values())),
        **tests,
        "tables": tables,
        "score 1 clip": [*scoring, clips[0]],
        "score clips": [*scoring, *clips],
        "report": [*tables, "--report"],
    }


def measure_stages(args: argparse.Namespace) -> None:
    """Run every stage and print its costs, medians of `args.runs`.

    Stages whose names end with "features" start without features, so that "train" and the tests find theirs.
    """
    costs: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="benchmark.") as directory:
        raw = write_data_set(Path(directory, "data"), args)
        print(f"{args.clips} training, {args.test_clips} test clips of {args.seconds:g} s, {args.epochs} epochs:")
        for _ in range(args.runs):
            for stage, words in stages_of(Path(directory), args).items():
                if stage.endswith("features"):
                    shutil.rmtree(raw.with_name("processed"), ignore_errors=True)
                took = measure_command(words)
                if stage == "score clips" and args.test_clips > 1:
                    seconds = took["s"] - costs["score 1 clip"][-1]["s"]
                    took["clips/s after the first"] = (args.test_clips - 1) / seconds
                costs.setdefault(stage, []).append(took)
    for stage, runs in costs.items():
        for unit in runs[-1]:
            print(f"{stage:16s}{statistics.median(run[unit] for run in runs):9.2f} {unit}", flush=True)


@command
def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmark", description="Measure what a run costs.", allow_abbrev=False
    )
    parser.add_argument("--clips", type=int, default=1000, help="training clips [default: 1000]")
    parser.add_argument("--test_clips", type=int, default=200, help="test clips [default: 200]")
    parser.add_argument("--seconds", type=float, default=10, help="length of a clip [default: 10]")
    parser.add_argument("--epochs", type=int, default=3, help="epochs to train [default: 3]")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads for the steps [default: 1]")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of floor and steps [default: 20]")
    parser.add_argument("--runs", type=int, default=1, help="runs of every stage [default: 1]")
    parser.add_argument("--cores", type=int, help="use only this many cores (Linux)")
    parser.add_argument("--directory", type=Path, help="where to write the clips [default: a temporary folder]")
    parser.add_argument("--steps_only", action="store_true", help="measure the steps only")
    args = parser.parse_args()
    if min(args.clips, args.test_clips, args.epochs, args.threads, args.rounds, args.runs, args.cores or 1) < 1:
        parser.error("all numbers but --seconds must be at least 1")
    if args.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    if not args.steps_only:
        measure_stages(args)
    measure_steps(Settings(read_defaults()).replace(threads=args.threads), args.rounds)


if __name__ == "__main__":
    sys.exit(main())
