#!/usr/bin/env python3
"""Measure what a run costs, on synthetic data of full size, beside the floor that the processor sets.

The floor of a training step is the time of its matrix products alone: torch.mm, float32, with the batch, for each of
the ten layers forward, for the gradient of its weights and, but for the first layer, for the gradient of its input: 29
products. Floor and step are measured in turn, with the same number of threads; medians of the pairs. Two jobs: two
processes take steps at the same time, and the time of a step is that of both together over the steps of both.
"""

import argparse
import math
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
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import REPOSITORY, SCORES, InputError, run_command, set_instruction_set
from tools.options import read_defaults

set_instruction_set(str(read_defaults()["instruction_set"]))  # as train.py does, before NumPy is imported

import numpy as np
import soundfile
import torch

from datasets.cache import Features
from datasets.catalogue import load_challenge
from datasets.clips import parse_clip
from datasets.loaders import VectorConfig, Vectors, make_training_loaders
from networks.autoencoder import BOTTLENECK, HIDDEN, N_HIDDEN, AutoEncoder
from networks.engine import train_batches
from networks.training_step import TrainingStep
from tools.job_pool import available_cores

SAMPLING_RATE = 16000  # Hz
CLIP_SECONDS = 10
BATCH, N_MELS, FRAMES = 256, 128, 5
STEPS = 20  # of each side of a pair
MACHINE_TYPE = "fan"


def write_data_set(directory: Path, n_training: int, n_test: int) -> None:
    """Write noise clips of 10 s in the challenge's layout: 1 of 100 training clips of the target domain, as there."""
    rng = np.random.default_rng(0)
    raw = directory / "dcase2023t2" / "dev_data" / "raw" / MACHINE_TYPE
    names = [
        f"train/section_00_{'target' if i % 100 == 99 else 'source'}_train_normal_{i:05d}.wav"
        for i in range(n_training)
    ] + [
        f"test/section_00_{('source', 'target')[i % 2]}_test_{('normal', 'anomaly')[i // 2 % 2]}_{i:05d}.wav"
        for i in range(n_test)
    ]
    for name in names:
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        noise = rng.standard_normal(SAMPLING_RATE * CLIP_SECONDS, dtype=np.float32)
        soundfile.write(raw / name, 0.1 * noise, SAMPLING_RATE, subtype="PCM_16")


def floor_step() -> Callable[[], None]:
    """Return a function that makes the 29 products of one step."""
    hidden = [HIDDEN] * N_HIDDEN
    units = [FRAMES * N_MELS, *hidden, BOTTLENECK, *hidden, FRAMES * N_MELS]
    products = []
    for layer, (n_in, n_out) in enumerate(pairwise(units)):
        inputs, weights, gradients = torch.randn(BATCH, n_in), torch.randn(n_out, n_in), torch.randn(BATCH, n_out)
        products += [(inputs, weights.T), (gradients.T, inputs)]  # forward, gradient of the weights
        if layer > 0:
            products.append((gradients, weights))  # gradient of the input
    return lambda: [torch.mm(a, b) for a, b in products]


def training_steps(threads: int) -> Callable[[], None]:
    """Return a function that takes STEPS steps on full batches, loader included."""
    torch.set_num_threads(threads)
    frames = np.random.default_rng(0).standard_normal((200 * 313, N_MELS), dtype=np.float32) * 20 - 40
    clips = [parse_clip(Path(f"section_00_source_train_normal_{i:04d}.wav")) for i in range(200)]
    vectors = Vectors(Features(frames, (313,) * 200), clips, VectorConfig(FRAMES, 1), torch.device("cpu"))
    loader = make_training_loaders(vectors, BATCH, True, 0.1).training
    step = TrainingStep(AutoEncoder(N_MELS, FRAMES), 1e-3)
    n_full = len(loader) - 1

    def full_batches() -> Iterator:
        while True:
            yield from islice(loader, n_full)

    batches = full_batches()
    return lambda: train_batches(step, islice(batches, STEPS))


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_steps(threads: int, n_pairs: int) -> tuple[float, float, float]:
    """Return the medians of milliseconds a step (loader included), of the floor, and of their ratio in each pair."""
    steps, floor = training_steps(threads), floor_step()
    return _medians(lambda: timed(steps), floor, n_pairs)


def measure_two_jobs(threads: int, n_pairs: int) -> tuple[float, float, float]:
    """Return as measure_steps, of two processes side by side: milliseconds of both over the steps of both."""
    context = multiprocessing.get_context("spawn")
    ends, processes = [], []
    for _ in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=_take_steps, args=(theirs, threads), daemon=True)
        process.start()
        ends.append(ours)
        processes.append(process)

    def both() -> float:
        for end in ends:
            end.send(True)
        return max(end.recv() for end in ends) / 2

    for end in ends:
        end.recv()  # ready
    torch.set_num_threads(threads)
    medians = _medians(both, floor_step(), n_pairs)
    for end, process in zip(ends, processes, strict=True):
        end.send(False)
        process.join()
    return medians


def _take_steps(end, threads: int) -> None:
    steps = training_steps(threads)
    end.send(True)
    while end.recv():
        end.send(timed(steps))


def _medians(steps: Callable[[], float], floor: Callable[[], object], n_pairs: int) -> tuple[float, float, float]:
    """Measure STEPS floors, then STEPS steps, again and again; return the medians a step, in ms, and of the ratio."""
    pairs = []
    for _ in range(n_pairs + 1):
        floors = timed(lambda: [floor() for _ in range(STEPS)])
        pairs.append((steps() / STEPS * 1e3, floors / STEPS * 1e3))
    step, floor_time = (statistics.median(column) for column in zip(*pairs[1:], strict=True))  # the first warms up
    return step, floor_time, statistics.median(s / f for s, f in pairs[1:])


@dataclass(frozen=True)
class Run:
    """What a run of a train.py took: its output, wall time in seconds and peak memory in MB."""

    output: str
    seconds: float
    memory: float


def run_program(repository: Path, *options: object) -> Run:
    """Run a checkout's train.py in its own folder, since the reference runs nowhere else."""
    command = [sys.executable, str(repository / "train.py"), *map(str, options)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise InputError(f"train.py failed (its message is above): {' '.join(command)}")
    return Run(output, time.perf_counter() - start, usage.ru_maxrss / 1024)


def options_of_run(directory: Path) -> list[str]:
    """Return the options for this checkout's train.py: data set and folders."""
    options = ["--dataset", f"DCASE2023T2{MACHINE_TYPE}", "-d", "--use_cuda", "false"]
    for name, folder in (("dataset", "data"), ("result", "results"), ("model", "models"), ("log", "logs")):
        options += [f"--{name}_directory", str(directory / folder)]
    return options


def stages_of(run: Run) -> dict[str, float]:
    """Return the seconds of a run's stages, as it prints them."""
    stages = re.search(r"^seconds: (.*)$", run.output, re.MULTILINE)[1]
    return {name: float(value) for name, value in re.findall(r"([\w ,-]+?) ([\d.]+)(?:, |$)", stages)}


def epochs_of(output: str) -> list[float]:
    """Return the seconds of each epoch, as a run prints them."""
    return [float(s) for s in re.findall(r"^epoch .*\(([\d.]+) s\)$", output, re.MULTILINE)]


def compare(other: Path, args: argparse.Namespace) -> None:
    """Run the same work in turn with another checkout's train.py and with this one's, and print the ratios.

    The other one gets the reference's options alone, so it leaves what it writes elsewhere in its own folder, under
    the export_dir `benchmark`. Both make their features anew in each pair.
    """
    if not (other / "train.py").is_file():
        raise InputError(f"--compare {other}: there is no train.py; give the folder of a checkout")
    stages = {"train": ["--train_only"]} | {s: ["--test_only", "--score", s] for s in SCORES}
    ratios = {stage: [] for stage in stages}
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="benchmark.") as directory:
        data, results = Path(directory, "data"), Path(directory, "results")
        print(
            f"{args.clips} training and {args.test_clips} test clips, {args.epochs} epochs, {args.pairs} pairs",
            flush=True,
        )
        write_data_set(data, args.clips, args.test_clips)
        words = ["--dataset", f"DCASE2023T2{MACHINE_TYPE}", "-d", "--export_dir", "benchmark", "--epochs", args.epochs]
        words += ["--dataset_directory", data, "--result_directory", results]
        for pair in range(1, args.pairs + 1):
            runs = {}
            for repository in (other, REPOSITORY):
                for folder in data.glob("*/*/processed"):
                    shutil.rmtree(folder)
                for stage, options in stages.items():
                    runs[repository, stage] = run_program(repository, *words, *options)
            for stage in stages:
                theirs, ours = runs[other, stage], runs[REPOSITORY, stage]
                ratios[stage].append((theirs.seconds / ours.seconds, theirs.memory / ours.memory))
                print(
                    f"pair {pair}, {stage:6s}: {theirs.seconds:7.1f} s and {theirs.memory:6.0f} MB there, "
                    f"{ours.seconds:7.1f} s and {ours.memory:6.0f} MB here",
                    flush=True,
                )
    for stage, values in ratios.items():
        seconds, memory = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"{stage:6s}: {seconds:.2f} times this checkout's wall time, {memory:.2f} times its memory (medians)")


def measure_run(directory: Path, args: argparse.Namespace) -> None:
    """Train and test on synthetic data of full size and print what it took."""
    options = [*options_of_run(directory), "--threads", str(args.threads)]
    print(f"training {args.epochs} epochs on {args.clips} clips of {CLIP_SECONDS} s", flush=True)
    run = run_program(REPOSITORY, *options, "--train_only", "--epochs", args.epochs)
    stages, epochs = stages_of(run), epochs_of(run.output)
    print(f"features              {args.clips / stages['features']:8.1f} clips/s ({stages['features']:.1f} s)")
    print(f"epoch                 {statistics.median(epochs):8.2f} s (median of {len(epochs)}, validation included)")
    print(f"covariances, threshold{stages['covariances and thresholds']:8.2f} s")
    print(f"training peak memory  {run.memory:8.0f} MB", flush=True)
    run_program(REPOSITORY, *options, "--test_only")  # makes the features
    for score in SCORES:
        run = run_program(REPOSITORY, *options, "--test_only", "--score", score)
        stages = stages_of(run)
        beyond = stages["total"] - stages["imports"]
        print(f"test stage, {score:6s}    {beyond:8.2f} s beyond {stages['imports']:.2f} s of imports, cached features")
    print(f"test peak memory      {run.memory:8.0f} MB", flush=True)


def measure_challenge(directory: Path, args: argparse.Namespace) -> None:
    """Train seven machine types with 01_train.sh, and say what 100 epochs would take in proportion."""
    raw = directory / "data" / "dcase2023t2" / "dev_data" / "raw"
    machine_types = load_challenge("DCASE2023T2", is_eval=False).machine_types
    for machine_type in machine_types:
        if not (raw / machine_type).exists():
            (raw / machine_type).symlink_to(raw / MACHINE_TYPE)
    print(f"training {args.epochs} epochs of {len(machine_types)} machine types", flush=True)
    options = [*options_of_run(directory)[3:], "--export_dir", "challenge", "--epochs", str(args.epochs)]
    command = ["bash", str(REPOSITORY / "01_train.sh"), "-d", *options, "--threads", str(args.threads)]
    start = time.perf_counter()
    environment = {**os.environ, "PYTHON": sys.executable}
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    seconds = time.perf_counter() - start
    if output.returncode != 0:
        raise InputError(f"01_train.sh failed: {output.stdout[-300:]}")
    logs = sorted((directory / "logs" / "challenge").glob("*/01_train.log"))
    epoch = statistics.median(second for log in logs for second in epochs_of(log.read_text()))
    parallel = int(re.search(r"^(\d+) jobs side by side", output.stdout, re.MULTILINE)[1])
    rounds = math.ceil(len(machine_types) / parallel)
    total = seconds + (100 - args.epochs) * epoch * rounds
    print(f"seven machine types   {seconds:8.1f} s for {args.epochs} epochs, {parallel} jobs side by side")
    print(f"epoch, side by side   {epoch:8.2f} s (median of {len(logs)} times {args.epochs})")
    print(f"100 epochs, computed  {total / 60:8.1f} min ({rounds} rounds of {parallel} jobs)", flush=True)


def measure(args: argparse.Namespace) -> None:
    """Measure steps, then whole runs."""
    step, floor, ratio = measure_steps(args.threads, args.pairs)
    print(f"training step         {step:8.2f} ms, batch {BATCH}, {args.threads} thread(s), loader included")
    print(f"floor of a step       {floor:8.2f} ms, its 29 matrix products alone")
    print(f"step / floor          {ratio:8.2f} (median of {args.pairs} pairs of {STEPS} steps)", flush=True)
    if available_cores() > 1:
        step, floor, ratio = measure_two_jobs(args.threads, args.pairs)
        print(f"two jobs              {step:8.2f} ms a step and job, floor {floor:.2f} ms")
        print(f"two jobs / floor      {ratio:8.2f} (median of {args.pairs} pairs)", flush=True)
    with tempfile.TemporaryDirectory(dir=args.directory, prefix="benchmark.") as directory:
        write_data_set(Path(directory, "data"), args.clips, args.test_clips)
        measure_run(Path(directory), args)
        if args.challenge:
            measure_challenge(Path(directory), args)


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Measure what a run costs.", allow_abbrev=False)
    parser.add_argument("--clips", type=int, default=1000, help="training clips of 10 s [default: 1000]")
    parser.add_argument("--test_clips", type=int, default=200, help="test clips of 10 s [default: 200]")
    parser.add_argument("--epochs", type=int, default=3, help="epochs to train [default: 3]")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads [default: 1]")
    parser.add_argument("--pairs", type=int, help="pairs of step and floor [default: 20], or of runs to compare [3]")
    parser.add_argument("--directory", type=Path, help="where to write the clips [default: a temporary folder]")
    parser.add_argument("--challenge", action="store_true", help="train seven machine types too")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="DIR",
        help="instead, run the same work in turn with the train.py of another checkout, which may be the reference",
    )
    args = parser.parse_args()
    args.pairs = args.pairs if args.pairs is not None else 3 if args.compare else 20
    if min(args.clips, args.test_clips, args.epochs, args.threads, args.pairs) < 1:
        parser.error("all numbers are from 1")
    return run_command(lambda: compare(args.compare.resolve(), args) if args.compare else measure(args))


if __name__ == "__main__":
    sys.exit(main())
