"""Random generators, the device that torch works on, and the environment that a record describes."""

import contextlib
import os
import platform
import random
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import numpy as np
import torch

from runtime.errors import InputError
from runtime.progress import say
from runtime.sources import COMMIT
from runtime.wording import counted

RECORDED_PACKAGES = ("torch", "numpy", "scipy", "librosa", "soundfile", "scikit-learn", "matplotlib")


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, once, before anything draws.

    Draws that follow, in the reference's order: the split of the vectors (NumPy), the network's initial weights
    (torch), then one torch draw for each pass over the batches and one more if it shuffles: training and validation
    pass of each epoch; after the last epoch MAHALA's covariance pass, then the training and the validation pass of
    the batches' scores. Other scores draw from none of these generators.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state() -> dict[str, object]:
    """Return the states of Python's, NumPy's and torch's generators, in types that load without pickle."""
    name, keys, *further = cast(tuple, np.random.get_state())
    states: dict[str, object] = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *further),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_random(states: dict) -> None:
    """Set Python's, NumPy's and torch's generators."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])


def select_device(use_cuda: bool, gpu_id: int, threads: int):
    """Choose torch's device, say which it is, and set the CPU's number of threads."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; cuBLAS is deterministic then

    torch.set_num_threads(threads)
    if use_cuda and torch.cuda.is_available():
        count = torch.cuda.device_count()
        if gpu_id >= count:
            raise InputError(f"--gpu_id {gpu_id}: there are {count} CUDA devices, numbered from 0; give one of them")
        # torch warns of an extension's operation that has no deterministic form. TF32: --precision.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        device = torch.device("cuda", gpu_id)
        torch.cuda.set_device(device)
        say(f"device: {device} ({torch.cuda.get_device_name(device)})")
        return device
    why = "no CUDA device is available" if use_cuda else "use_cuda is false"
    say(f"device: CPU, {counted(threads, 'thread')} ({why})")
    return torch.device("cpu")


def environment(device: torch.device) -> dict[str, object]:
    """Return device, the instruction sets in force, versions and commit."""
    versions: dict[str, str | None] = {"python": platform.python_version(), **dict.fromkeys(RECORDED_PACKAGES)}
    for name in RECORDED_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "instructions": {
            "numpy": np.show_config(mode="dicts")["SIMD Extensions"].get("found", []),
            "torch": torch.backends.cpu.get_cpu_capability(),
        },
        "versions": versions,
        "commit": COMMIT,
    }
