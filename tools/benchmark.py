#!/usr/bin/env python3
"""Measure what a run costs, on synthetic data of full size, beside the floor that the processor sets.

The floor of a training step is the time of its matrix products alone: torch.mm, float32, with the batch, for each of
the ten layers forward, for the gradient of its weights and, but for the first layer, for the gradient of its input: 29
products. Floor and step are measured in turn, in one process, with the same number of threads; medians of the pairs.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import REPOSITORY, InputError, print_error, set_instruction_set
from tools.options import read_defaults

set_instruction_set(str(read_defaults()["instruction_set"]))  # as train.py does, before NumPy is imported

import numpy as np
import soundfile
import torch

from datasets.cache import Features
from datasets.clips import parse_clip
from datasets.loaders import VectorConfig, Vectors, make_training_loaders
from networks.autoencoder import BOTTLENECK, HIDDEN, N_HIDDEN, AutoEncoder
from networks.engine import train_batches
from networks.training_step import TrainingStep

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


def measure_steps(threads: int, n_pairs: int) -> tuple[float, float, float]:
    """Return the medians of milliseconds a step (loader included), of the floor, and of their ratio in each pair."""
    torch.set_num_threads(threads)
    frames = np.random.default_rng(0).standard_normal((200 * 313, N_MELS), dtype=np.float32) * 20 - 40
    clips = [parse_clip(Path(f"section_00_source_train_normal_{i:04d}.wav")) for i in range(200)]
    vectors = Vectors(Features(frames, (313,) * 200), clips, VectorConfig(FRAMES, 1), torch.device("cpu"))
    loader = make_training_loaders(vectors, BATCH, True, 0.1).training
    network = AutoEncoder(N_MELS, FRAMES)
    step = TrainingStep(network, 1e-3)
    products = floor_step()
    batches = iter(loader)
    pairs = []
    for _ in range(n_pairs + 1):
        start = time.perf_counter()
        for _ in range(STEPS):
            products()
        middle = time.perf_counter()
        losses = train_batches(step, islice(batches, STEPS))
        end = time.perf_counter()
        if len(losses.total) < STEPS:  # the pass is over: begin another, and do not count this pair
            batches = iter(loader)
            continue
        pairs.append(((end - middle) / STEPS * 1e3, (middle - start) / STEPS * 1e3))
    steps, floors = zip(*pairs[1:], strict=True)  # the first one warms up
    return statistics.median(steps), statistics.median(floors), statistics.median(s / f for s, f in pairs[1:])


def run_train_py(directory: Path, *options: str) -> tuple[dict[str, float], float, list[float]]:
    """Run train.py; return the seconds of its stages, its peak memory in MB and the seconds of each epoch."""
    command = [sys.executable, str(REPOSITORY / "train.py"), "--dataset", f"DCASE2023T2{MACHINE_TYPE}", "-d"]
    for name, folder in (("dataset", "data"), ("result", "results"), ("model", "models"), ("log", "logs")):
        command += [f"--{name}_directory", str(directory / folder)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise InputError(f"train.py failed (its message is above): {' '.join([*command, *options])}")
    stages = re.search(r"^seconds: (.*)$", output, re.MULTILINE)[1]
    seconds = {name: float(value) for name, value in re.findall(r"([\w ,-]+?) ([\d.]+)(?:, |$)", stages)}
    return (
        seconds,
        usage.ru_maxrss / 1024,
        [float(s) for s in re.findall(r"^epoch .*\(([\d.]+) s\)$", output, re.MULTILINE)],
    )


def measure_run(directory: Path, args: argparse.Namespace) -> None:
    """Train and test on synthetic data of full size and print what it took."""
    print(
        f"writing {args.clips} training and {args.test_clips} test clips of {CLIP_SECONDS} s to {directory}", flush=True
    )
    write_data_set(directory / "data", args.clips, args.test_clips)
    threads = ["--threads", str(args.threads), "--use_cuda", "false"]
    print(f"training {args.epochs} epochs", flush=True)
    seconds, memory, epochs = run_train_py(directory, "--train_only", "--epochs", str(args.epochs), *threads)
    print(f"features              {args.clips / seconds['features']:8.1f} clips/s ({seconds['features']:.1f} s)")
    print(
        f"epoch                 {statistics.median(epochs):8.2f} s (median of {len(epochs)}, training and validation)"
    )
    print(f"covariances, threshold{seconds['covariances and thresholds']:8.2f} s")
    print(f"training peak memory  {memory:8.0f} MB", flush=True)
    run_train_py(directory, "--test_only", *threads)  # makes the features
    for score in ("MSE", "MAHALA"):
        seconds, memory, _ = run_train_py(directory, "--test_only", "--score", score, *threads)
        beyond = seconds["total"] - seconds["imports"]
        print(
            f"test stage, {score:6s}    {beyond:8.2f} s beyond {seconds['imports']:.2f} s of imports, cached features"
        )
    print(f"test peak memory      {memory:8.0f} MB", flush=True)


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Measure what a run costs.", allow_abbrev=False)
    parser.add_argument("--clips", type=int, default=1000, help="training clips of 10 s [default: 1000]")
    parser.add_argument("--test_clips", type=int, default=200, help="test clips of 10 s [default: 200]")
    parser.add_argument("--epochs", type=int, default=3, help="epochs to train [default: 3]")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads [default: 1]")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of step and floor [default: 20]")
    parser.add_argument("--directory", type=Path, help="where to write the clips [default: a temporary folder]")
    args = parser.parse_args()
    if min(args.clips, args.test_clips, args.epochs, args.threads, args.pairs) < 1:
        parser.error("all numbers are from 1")
    try:
        step, floor, ratio = measure_steps(args.threads, args.pairs)
        print(f"training step         {step:8.2f} ms, batch {BATCH}, {args.threads} thread(s), loader included")
        print(f"floor of a step       {floor:8.2f} ms, its 29 matrix products alone")
        print(f"step / floor          {ratio:8.2f}  (median of {args.pairs} pairs of {STEPS} steps)", flush=True)
        with tempfile.TemporaryDirectory(dir=args.directory, prefix="benchmark.") as directory:
            measure_run(Path(directory), args)
    except InputError as error:
        print_error(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
