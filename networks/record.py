"""The record of a network, JSON beside it: what it was trained on and with, and the SHA-256 of the files it owns.

It is the network's passport. Whoever scores clips takes the parameters from it, and refuses files that do not belong
together. It is written last, so that a run that was killed while it wrote its files leaves a record that they do not
match. A score that needs no network has a record of its own, which holds the score alone.
"""

import contextlib
import datetime
import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

import torch

from common import (
    AVX2_VARIABLES,
    DEFAULTS,
    FRONT_ENDS,
    NETWORKS,
    NOT_RECORDED,
    REPOSITORY,
    REQUIRED,
    SCORES,
    InputError,
    Run,
    Settings,
    as_text,
    score_state_path,
    threshold_path,
)
from datasets.cache import Features
from datasets.clips import manifest
from datasets.front_ends import FrontEnd, make_front_end
from datasets.run_data import RunData
from datasets.vectors import Vectors
from networks.checkpoint import TrainingState, dump_tensors, load_network, load_tensors
from networks.network import Network
from networks.scores import FittedScore, Score, make_score
from networks.threshold import GammaDistribution, dump_gamma, load_gamma
from tools.runtime.files import FileGroup, sha256_of
from tools.runtime.progress import Level, Stopwatch, say

PACKAGES = ("torch", "numpy", "scipy", "librosa", "soundfile", "scikit-learn", "matplotlib")
FORMAT = 2  # 1: without hashes and scores


@dataclass(frozen=True)
class Record:
    """The record beside a network, of which `content` is the JSON."""

    path: Path
    content: dict

    @property
    def network(self) -> Path:
        """The network's file."""
        return self.path.with_suffix(".pth")

    @property
    def has_hashes(self) -> bool:
        """Whether the record tells which files belong together; those of earlier versions do not."""
        return self.content.get("format") == FORMAT

    def has_fitted(self, score: str, settings: Settings) -> bool:
        """Return whether a score has been fitted to the network, with the same options by the same extension."""
        if score in SCORES.builtin and "network_sha256" not in self.content:  # nothing tells otherwise
            return True
        entry = self.content["scores"].get(score, {}) if self.has_hashes else {}
        return entry.get("fitted_with") == fitted_with(score, settings)

    def check_file(self, path: Path, sha256: str | None) -> None:
        """Raise InputError if a file is not the one that the record describes; None: it describes no such file."""
        if sha256 is not None and (not path.is_file() or sha256_of(path) != sha256):
            raise InputError(
                f"{path} is not the file that {self.path.name} describes: it is damaged, was replaced, or belongs to "
                "a run that was interrupted while it wrote; train again, or 01_train.sh --restart to finish it"
            )

    def check_network(self) -> None:
        """Raise InputError if the network's file is not the one that the record describes."""
        self.check_file(self.network, self.content.get("network_sha256"))

    def check_score(self, score: str) -> None:
        """Raise InputError if a score's files are not those that the record describes."""
        entry = self.content["scores"].get(score, {}) if self.has_hashes else {}
        self.check_file(threshold_path(self.network, score), entry.get("threshold_sha256"))
        self.check_file(score_state_path(self.network, score), entry.get("state_sha256"))

    @property
    def is_intact(self) -> bool:
        """Whether the files of the network and of all its scores are there and belong together."""
        try:
            self.check_network()
            for score in self.content["scores"]:
                self.check_score(score)
        except (InputError, KeyError):
            return False
        return "network_sha256" in self.content

    def write(self, file: IO) -> None:
        """Write the record to an open file."""
        json.dump({**self.content, "checksum": _checksum(self.content)}, file, indent=1)
        file.write("\n")


def read_record(path: Path) -> Record | None:
    """Read a record; None if there is no file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or (
            content.get("format") == FORMAT
            and not (
                isinstance(content["scores"], dict) and all(isinstance(e, dict) for e in content["scores"].values())
            )
        ):
            raise ValueError("it has another form")
        if content.get("checksum", checksum := _checksum(content)) != checksum:  # earlier versions wrote none
            raise ValueError("it was changed or is damaged")
        return Record(path, content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise InputError(f"{path} is not a record of a training run ({error}); train again or remove it") from error


def _checksum(content: dict) -> str:
    """Return the SHA-256 of a record's content, which makes a changed parameter as evident as a changed file."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def fitted_with(score: str, settings: Settings) -> dict[str, object]:
    """Return what a fitted score depends on beside the network: its options and its extension."""
    cls = SCORES.get(score)
    extension = cls.extension  # type: ignore[attr-defined]
    return {**settings.of_class(cls), "extension_sha256": extension and extension.sha256}


def write_scores(group: FileGroup, network: Path, fitted: list[FittedScore]) -> dict[str, dict]:
    """Write the files of fitted scores beside a network; return their entries in its record."""
    entries = {}
    for score in fitted:
        extension = SCORES.get(score.name).extension  # type: ignore[attr-defined]
        threshold = dump_gamma(score.distribution)
        state = dump_tensors(score.state) if score.state else None
        group.open(threshold_path(network, score.name), "wb").write(threshold)
        if state is not None:
            group.open(score_state_path(network, score.name), "wb").write(state)
        entries[score.name] = {
            "fitted_with": fitted_with(score.name, score.settings),
            "extension": extension and str(extension.path),
            "threshold_sha256": hashlib.sha256(threshold).hexdigest(),
            "state_sha256": None if state is None else hashlib.sha256(state).hexdigest(),
            "date": now(),
        }
    return entries


def missing_scores(names: list[str], settings: Settings, files: Run) -> list[str]:
    """Return the scores that are not fitted, or were with other options or by another version of their extension."""
    record = read_record(files.record)
    if record is None:
        return [name for name in names if name not in SCORES.builtin]
    return [name for name in names if not record.has_fitted(name, settings)]


def add_scores(files: Run, entries: dict[str, dict]) -> Record:
    """Return a run's record with entries of scores that have been fitted since."""
    record = read_record(files.record)
    content: dict = {"format": FORMAT, "run": files.name, "scores": {}} if record is None else record.content
    return Record(files.record, {**content, "scores": {**content.get("scores", {}), **entries}})


def run_identity(settings: Settings, data: RunData, vectors: Vectors, device: torch.device) -> dict[str, object]:
    """Return what a run must agree with to resume another: everything that decides numbers but the epochs."""
    parameters = settings.affecting("features", "training")
    del parameters["epochs"]
    return {
        **parameters,
        "dataset": data.dataset,
        "evaluation": data.is_eval,
        "sections": data.sections,
        "channels": data.channels,
        "clips_manifest": manifest(vectors.clips),
        "data": vectors.features.sha256,
        "device": device.type,
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "extensions": _extensions(settings),
        **({"initial_weights": sha256_of(settings.initial_weights)} if settings.initial_weights else {}),
    }


def network_record(
    settings: Settings,
    files: Run,
    data: RunData,
    vectors: Vectors,
    state: TrainingState,
    watch: Stopwatch,
    network: bytes,
    scores: dict[str, dict],
) -> Record:
    """Return the record of a network that has just been trained, of which `network` is the file's content."""
    device = state.network.cov_source.device
    content = {
        "format": FORMAT,
        "run": files.name,
        "date": now(),
        "export_dir": files.experiment.export_dir,
        "dataset_directory": str(data.folders.dataset_directory),
        **{p.name: settings.values[p.name] for p in settings.parameters("features", "training")},
        **state.identity,
        **({"initial_weights_file": str(settings.initial_weights)} if settings.initial_weights else {}),
        "n_clips": len(vectors.clips),
        "n_target_clips": sum(clip.is_target for clip in vectors.clips),
        "sampling_rate": vectors.features.sampling_rate,
        "clip_channels": vectors.features.channels,
        "resumed_from": state.resumed_from,
        **environment(device),
        "seconds": {stage: round(seconds, 3) for stage, seconds in watch.seconds.items()},
        "seconds_in_total": round(sum(watch.seconds.values()), 3),
        "network_sha256": hashlib.sha256(network).hexdigest(),
        "scores": scores,
    }
    return Record(files.record, content)


def _extensions(settings: Settings) -> dict[str, dict[str, str]]:
    """Return file and hash of the extensions that register the network and the front end."""
    found = {"model": NETWORKS.get(settings.model).extension, "front_end": FRONT_ENDS.get(settings.front_end).extension}  # type: ignore[attr-defined]
    return {name: {"file": str(e.path), "sha256": e.sha256} for name, e in found.items() if e is not None}


def trained_settings(record: Record, settings: Settings) -> Settings:
    """Return settings with the parameters that a record holds.

    One given on the command line that differs is an error; one that differs in baseline.yaml is reported in a line.
    """
    found, reported = {}, []
    for name in ("model", "front_end"):
        registry = NETWORKS if name == "model" else FRONT_ENDS
        value = record.content.get(name, settings.values[name])
        if value not in registry.names():
            file = (record.content.get("extensions") or {}).get(name)
            advice = (
                f"give --extension {file['file']}" if isinstance(file, dict) and "file" in file else "check --extension"
            )
            raise InputError(
                f"{record.path} names the {name} {str(value)[:60]!r}, which no given file registers; {advice}"
            )
    wanted = settings.replace(
        model=record.content.get("model", settings.model), front_end=record.content.get("front_end", "log_mel")
    )
    for parameter in wanted.parameters("features", "training"):
        name = parameter.name
        if name in NOT_RECORDED:
            continue
        if name in record.content:
            value = parameter.type.read(as_text(record.content[name]), f"{record.path}: {name}: ")
        elif parameter.since_absent is not REQUIRED:
            value = parameter.since_absent
        else:
            continue
        if value != settings.values[name]:
            if name in settings.given:
                raise InputError(
                    f"--{name} {as_text(settings.values[name])}, but {record.path.stem} was trained with "
                    f"{as_text(value)}; leave the option out, or train with it"
                )
            file = Path(str(settings.values.get("config") or DEFAULTS)).name
            reported.append(f"{name} {as_text(value)} ({file}: {as_text(settings.values[name])})")
        found[name] = value
    reported = [text for text in reported if not text.startswith(("model ", "front_end ", "seed ", "epochs "))]
    if reported:
        say(f"parameters of the network's record: {', '.join(reported)}", Level.DETAIL)
    _check_extensions(record)
    return settings.replace(**found)


def _check_extensions(record: Record) -> None:
    """Raise InputError if the file that registers the network or the front end has changed since training."""
    for name, entry in (record.content.get("extensions") or {}).items():
        registry = NETWORKS if name == "model" else FRONT_ENDS
        extension = registry.get(record.content[name]).extension  # type: ignore[attr-defined]
        if entry is not None and (extension is None or extension.sha256 != entry["sha256"]):
            raise InputError(
                f"{entry['file']} has changed since {record.path.stem} was trained with it; restore it or train again"
            )


@dataclass(frozen=True)
class Trained:
    """A network on a device, and the parameters that it was trained with. `record` None: it has none."""

    network: Network
    front_end: FrontEnd
    settings: Settings
    record: Record | None

    def check_training_clips(self, features: Features) -> None:
        """Raise InputError if clips are not those that the network was trained on, by their features' hash."""
        known = self.record and self.record.content.get("data")
        if known not in (None, features.sha256):
            raise InputError(
                f"the training clips have changed since {self.record.path.stem} was trained on them; "  # type: ignore[union-attr]
                "restore them or train again"
            )

    def check_clips(self, name: object, features: Features) -> None:
        """Raise InputError if clips have another sampling rate or number of channels than the training clips."""
        if features.sampling_rate is not None:
            self.check_clip(f"the clips of {name} have", features.sampling_rate, features.channels)

    def check_clip(self, what: str, rate: int, channels: int | None) -> None:
        """Raise InputError if a rate in Hz or number of channels is not the training clips'; `what` begins it."""
        content = {} if self.record is None else self.record.content
        known_rate, known_channels = content.get("sampling_rate"), content.get("clip_channels")
        if known_rate not in (None, rate):
            raise InputError(
                f"{what} a sampling rate of {rate} Hz, but the network was trained at {known_rate} Hz; resample or "
                "train another network"
            )
        if channels is not None and known_channels not in (None, channels):
            raise InputError(
                f"{what} {channels} channel(s), but the network's training clips had {known_channels}; convert or "
                "train another network"
            )


def load_trained(path: Path, settings: Settings, device: torch.device) -> Trained:
    """Load a network with the parameters of its record; without one (the reference's) those of the settings count."""
    if not path.is_file():
        raise InputError(f"there is no network {path}; train first, with the same data set, tag, seed and export_dir")
    record = read_record(path.with_suffix(".json"))
    if record is None:
        say(f"{path.name} has no record beside it: it is taken to be trained with the given parameters", Level.DETAIL)
    else:
        settings = trained_settings(record, settings)
        record.check_network()
    front_end = make_front_end(settings)
    return Trained(load_network(path, settings, front_end.n_bins, device), front_end, settings, record)


def load_score(
    name: str, settings: Settings, record: Record | None, network: Network | None, path: Path
) -> tuple[Score, GammaDistribution | None]:
    """Load a score that has been fitted to the network at `path`, and the distribution of its threshold."""
    score = make_score(name, settings, network)
    if record is not None:
        if not record.has_fitted(name, settings):
            raise InputError(
                f"{name} has not been fitted to {path.name} with these options; run tools/02_test.sh --score {name} "
                "with them first"
            )
        record.check_score(name)
    state = score_state_path(path, name)
    score.load(load_tensors(state) if state.is_file() and score.extension is not None else {})
    return score, load_gamma(threshold_path(path, name))


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def environment(device: torch.device) -> dict[str, object]:
    """Return device, instruction set, versions and commit."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "instructions": {name: os.environ.get(name) for name in AVX2_VARIABLES},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return None


def _commit() -> str | None:
    """Return the repository's commit, with -dirty if files differ from it; None without git."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if (REPOSITORY / ".git").exists():
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
            return done.stdout.strip()
    return None
