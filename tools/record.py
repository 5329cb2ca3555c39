"""The record of a training run, written and read: what its network comes from, as JSON beside it."""

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from common import AVX2_VARIABLES, REPOSITORY, ExperimentPaths, InputError, atomic_write
from datasets.features import FeatureConfig
from datasets.loaders import ClipSource, VectorConfig
from networks.autoencoder import AutoEncoder
from networks.checkpoint import load_network
from tools.options import BY_NAME, read_defaults
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


def read_parameters(path: Path, names: Iterable[str]) -> dict[str, object] | None:
    """Read parameters out of a record; None where there is no file.

    Raises
    ------
    InputError
        The file is no record, or a value is out of range.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: BY_NAME[name].kind.convert(content[name]) for name in names}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is no record of a training run ({error!r}); train again or remove it") from error


def load_network_of(path: Path, device: torch.device) -> tuple[AutoEncoder, FeatureConfig, VectorConfig]:
    """Load a network and how its vectors are made: as its record says, without one (the reference's) as baseline.yaml.

    Clips may have any number of channels.

    Raises
    ------
    InputError
        The network or its record cannot be used.
    """
    named = {config: [f.name for f in fields(config) if f.name in BY_NAME] for config in (FeatureConfig, VectorConfig)}
    values = read_parameters(path.with_suffix(".json"), [name for names in named.values() for name in names])
    values = values or read_defaults()
    features = FeatureConfig(**{name: values[name] for name in named[FeatureConfig]}, channels=None)
    vectors = VectorConfig(**{name: values[name] for name in named[VectorConfig]})
    return load_network(path, features.n_mels, vectors.frames, device), features, vectors


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
