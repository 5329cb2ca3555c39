"""The record of a training run: what its network comes from, as JSON beside it."""

import contextlib
import json
import os
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from common import AVX2_VARIABLES, REPOSITORY, ExperimentPaths, atomic_write
from datasets.loaders import ClipSource
from tools.progress import Stopwatch

PACKAGES = ("torch", "numpy", "scipy", "librosa", "soundfile", "scikit-learn", "matplotlib")


def make_record(source: ClipSource, paths: ExperimentPaths, device: torch.device, watch: Stopwatch) -> dict:
    """Return where data and files are, the feature parameters, device, versions, commit, and seconds by stage."""
    return {
        "run": paths.run,
        "export_dir": paths.export_dir,
        "evaluation": paths.is_eval,
        "dataset_directory": str(source.folders.dataset_directory),
        "sections": source.sections,
        **asdict(source.features),
        **asdict(source.vectors),
        "model": paths.model,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "instructions": {name: os.environ.get(name) for name in AVX2_VARIABLES},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "commit": _commit(),
        "seconds": {stage: round(seconds, 3) for stage, seconds in watch.seconds.items()},
        "seconds_in_total": round(sum(watch.seconds.values()), 3),
    }


def write_record(path: Path, record: dict) -> None:
    """Write a record."""
    with atomic_write(path) as file:
        json.dump(record, file, indent=1)
        file.write("\n")


def _version(package: str) -> str | None:
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return None


def _commit() -> str | None:
    """Return the repository's commit, with -dirty where files differ from it; None without git."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if (REPOSITORY / ".git").exists():
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
            return done.stdout.strip()
    return None
