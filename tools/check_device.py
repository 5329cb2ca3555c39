#!/usr/bin/env python3
"""Check the device that training would use: fast step against plain, an epoch against the CPU's, two runs, memory.

    python -m tools.check_device                     exit status 1 if a check fails
    python -m tools.check_device --use_cuda false

The data is synthetic and full-size. The losses of the first batches must be those of the plain step on the CPU, the
epoch's only roughly, since Adam amplifies rounding: just another library for the products moved it by 0.1 % on a CPU.
"""

import argparse
import copy
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import Settings, parse_settings, read_defaults, set_instruction_set
from tools.runtime.device import seed_everything, select_device
from tools.runtime.process import command

set_instruction_set(str(read_defaults()["instruction_set"]))  # as train.py does, before NumPy is imported

import numpy as np
import torch

from datasets.cache import Features
from datasets.clips import parse_clip
from datasets.vectors import Vectors, make_batches
from networks.checkpoint import dump_tensors
from networks.fast_step import FastStep
from networks.graph_step import CapturableStep, GraphStep
from networks.mahalanobis import fit_covariances
from networks.network import Network, make_network
from networks.record import environment
from networks.steps import PROOF_STEPS, PROOF_TOLERANCE, make_step, step_difference
from networks.training import Epoch, PlainStep, Step, train_epoch

CLIPS, FRAMES_PER_CLIP = 100, 313  # of 10 s
ROUNDS, STEPS = 5, 20
FIRST_BATCHES, FIRST_TOLERANCE, EPOCH_TOLERANCE = 3, 1e-4, 1e-2  # relative

Maker = Callable[[Network], Step]


@command
def main() -> int:
    """Print the table; return 1 if a check failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.check_device", description="Check the device that training would use.", allow_abbrev=False
    )
    settings = parse_settings(parser, names=["use_cuda", "gpu_id", "threads"])
    device = select_device(settings.use_cuda, settings.gpu_id, settings.threads)
    is_cuda = device.type == "cuda"
    versions: dict = environment(device)["versions"]  # type: ignore[assignment]
    text = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "numpy"))
    row("versions", f"{text}, CUDA {torch.version.cuda or 'none'}, {platform.system()} {platform.machine()}")
    fast: Maker = GraphStep if is_cuda else lambda network: FastStep(network, settings.learning_rate)  # type: ignore[arg-type]
    network = make_network(settings, settings.n_mels).to(device)
    passed, makers = [], {"plain": PlainStep, "fast": fast}
    try:
        difference = step_difference(network, fast, CapturableStep if is_cuda else PlainStep)
        passed.append(row("fast step", f"{PROOF_STEPS} steps, {difference:.1e} off", difference <= PROOF_TOLERANCE))
    except Exception as error:  # the many ways in which a device can refuse
        passed.append(row("fast step", " ".join(str(error).split())[:200], False))
        del makers["fast"]
    for name, milliseconds in time_steps(network, makers).items():
        row(f"{name} step", f"{milliseconds:.2f} ms, batch {settings.batch_size}")

    start = time.perf_counter()
    epoch, content = train(settings, device, make_step)
    row("epoch and covariances", f"{time.perf_counter() - start:.2f} s, {CLIPS} clips of 10 s")
    passed.append(row("two runs", "the same bytes", (epoch, content) == train(settings, device, make_step)))
    expected, _ = train(settings, torch.device("cpu"), PlainStep)
    pairs = zip(epoch.batch_losses[:FIRST_BATCHES], expected.batch_losses, strict=False)
    difference = max(abs(ours / theirs - 1) for ours, theirs in pairs)
    passed.append(row("first losses", f"{FIRST_BATCHES} batches, {difference:.1e} off", difference <= FIRST_TOLERANCE))
    difference = abs(epoch.losses.loss / expected.losses.loss - 1)
    passed.append(row("epoch's loss", f"{difference:.1e} off", difference <= EPOCH_TOLERANCE))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    n_bytes = torch.cuda.max_memory_allocated(device) if is_cuda else resident
    row("peak memory", f"{n_bytes / 1e6:.0f} MB {'on the device' if is_cuda else 'of the process'}")
    return 0 if all(passed) else 1


def row(what: str, text: str, passed: bool | None = None) -> bool | None:
    """Print a line of the table and return `passed`; None: there is nothing to check."""
    print(f"{what:24s}{'' if passed is None else 'passed' if passed else 'FAILED':8s}{text}", flush=True)
    return passed


def make_vectors(settings: Settings, device: torch.device) -> Vectors:
    """Return the vectors of clips with eight sources and noise, in dB; one clip in ten is from the target domain."""
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((CLIPS * FRAMES_PER_CLIP, 8)) @ rng.standard_normal((8, settings.n_mels))
    frames = (5 * sources + 3 * rng.standard_normal(sources.shape) - 40).astype(np.float32)
    names = [f"section_00_{'source' if i % 10 else 'target'}_train_normal_{i:04d}.wav" for i in range(CLIPS)]
    features = Features(frames, (FRAMES_PER_CLIP,) * CLIPS)
    return Vectors(features, [parse_clip(Path(name)) for name in names], settings, device)


def train(settings: Settings, device: torch.device, make: Maker) -> tuple[Epoch, bytes]:
    """Train an epoch and fit the covariances; return the losses and the network's file."""
    seed_everything(settings.seed)
    batches = make_batches(make_vectors(settings, device), settings)
    network = make_network(settings, settings.n_mels).to(device)
    epoch = train_epoch(network, make(network), batches.training, batches.validation, len(batches.training))
    fit_covariances(network, batches.training)
    return epoch, dump_tensors(network.state_dict())


def time_steps(network: Network, makers: dict[str, Maker]) -> dict[str, float]:
    """Return the time of a step of each kind in ms: medians of rounds in which the kinds take turns."""
    steps = {name: make(copy.deepcopy(network).train()) for name, make in makers.items()}
    vectors = torch.randn(network.settings.batch_size, network.n_values, device=network.cov_source.device)
    times: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(ROUNDS + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                losses = step(vectors).reconstruction
            losses.sum().item()  # waits for the device
            times[name].append((time.perf_counter() - start) / STEPS * 1e3)
    return {name: statistics.median(each[1:]) for name, each in times.items()}  # the first round warms up


if __name__ == "__main__":
    sys.exit(main())
