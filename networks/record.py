"""A network's record, a JSON file beside it: what it was trained on and with, and the SHA-256 of the files it owns.

Programs that score clips take the parameters from it, and refuse files that do not belong together. It is written last:
the files of a run that was killed while writing do not match the old record. A score that needs no network has its own
record, which holds only the score.
"""

import contextlib
import datetime
import hashlib
import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING

from common import FRONT_ENDS, NETWORKS, SCORES, InputError, Settings, as_text, code_hashes

from datasets.clips import manifest
from networks.names import Run, score_state_path
from runtime.files import content_checksum, sha256_of
from runtime.progress import Stopwatch
from runtime.sources import COMMIT, TRAINING

if TYPE_CHECKING:  # 03 reads records without torch
    import torch

    from datasets.run_data import RunData
    from datasets.vectors import Vectors
    from networks.checkpoint import TrainingState

PACKAGES = ("torch", "numpy", "scipy", "librosa", "soundfile", "scikit-learn", "matplotlib")
FORMAT = 3


@dataclass(frozen=True)
class Record:
    """The record beside a network; `content` is its JSON."""

    path: Path
    content: dict

    @property
    def network(self) -> Path:
        """The network's file."""
        return self.path.with_suffix(".pth")

    def has_fitted(self, score: str, settings: Settings) -> bool:
        """Return whether a score has been fitted with the same options, and an extension's by the same code."""
        cls, entry = SCORES.get(score), self.fitted(score)
        is_same_code = cls.extension is None or entry.get("sources") == code_hashes(cls)
        return is_same_code and entry.get("fitted_with") == settings.of_class(cls)

    def fitted(self, score: str) -> dict:
        """Return the record's entry for a score; {} if there is none."""
        return self.content.get("scores", {}).get(score, {})

    def code_behind(self, score: str) -> dict[str, str]:
        """Return the hashes of the code that trained the network and fitted a score; {} where neither is recorded."""
        return self.content.get("sources", {}) | self.fitted(score).get("sources", {})

    def check_file(self, path: Path, sha256: str | None) -> None:
        """Raise InputError if a file is not the one that the record describes; None: it describes no such file."""
        if sha256 is not None and not path.is_file():
            raise InputError(
                f"there is no {path}, which {self.path.name} describes; restore it (a run's files keep their names), "
                "or make it again with 01_train.sh --restart"
            )
        if sha256 is not None and sha256_of(path) != sha256:
            raise InputError(
                f"{path} is not the file that {self.path.name} describes: it is damaged, was replaced, or belongs to "
                "a run that was interrupted while writing; train again, or finish the run with 01_train.sh --restart"
            )

    def check_network(self) -> None:
        """Raise InputError if the network's file is not the one that the record describes."""
        self.check_file(self.network, self.content.get("network_sha256"))

    def check_score(self, score: str) -> None:
        """Raise InputError if a score's tensors are not those that the record describes."""
        self.check_file(score_state_path(self.network, score), self.fitted(score).get("state_sha256"))

    def write(self, file: IO) -> None:
        """Write the record to an open file."""
        json.dump({**self.content, "checksum": content_checksum(self.content)}, file, indent=1)
        file.write("\n")


def read_record(path: Path) -> Record | None:
    """Read a record; None if there is no file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError("it was written by another version of this project")
        if not all(isinstance(entry, dict) for entry in content["scores"].values()):
            raise ValueError("it has an unexpected structure")
        if content["checksum"] != content_checksum(content):
            raise ValueError("it was changed or is damaged")
        return Record(path, content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a record of a training run ({error}); train again or remove it") from error


def is_intact(files: Run) -> bool:
    """Return whether all files of a training run exist and belong together."""
    try:
        record = read_record(files.record)
        if record is None:
            return False
        record.check_network()
        for score in record.content["scores"]:
            record.check_score(score)
    except InputError:
        return False
    return all(path.is_file() and path.stat().st_size > 0 for path in (files.log_csv, files.log_png))


def options_text(score: str, settings: Settings) -> str:
    """Return a score's name, and in brackets its options, as in `KNN (knn_k 3)`."""
    options = settings.of_class(SCORES.get(score))
    return score + (f" ({', '.join(f'{name} {as_text(value)}' for name, value in options.items())})" if options else "")


def missing_scores(names: list[str], settings: Settings, files: Run) -> list[str]:
    """Return the scores not fitted with these options and by this code of their extension."""
    record = read_record(files.record)
    if record is None:
        return [name for name in names if name not in SCORES.builtin]
    return [name for name in names if not record.has_fitted(name, settings)]


def add_scores(files: Run, entries: dict[str, dict]) -> Record:
    """Return a run's record with the entries of newly fitted scores."""
    record = read_record(files.record)
    content: dict = {"format": FORMAT, "run": files.name, "scores": {}} if record is None else record.content
    return Record(files.record, {**content, "scores": {**content.get("scores", {}), **entries}})


def run_identity(settings: Settings, data: "RunData", vectors: "Vectors", device: str) -> dict[str, object]:
    """Return what a run must share with the run it resumes: all that decides numbers, except the epochs."""
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
        "device": device,
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "sources": network_code(settings, TRAINING),
        **({"initial_weights": sha256_of(settings.initial_weights)} if settings.initial_weights else {}),
    }


def network_record(
    settings: Settings,
    files: Run,
    vectors: "Vectors",
    state: "TrainingState",
    watch: Stopwatch,
    network: bytes,
    scores: dict[str, dict],
) -> Record:
    """Return the record of a newly trained network; `network` is its file's content."""
    content = {
        "format": FORMAT,
        "run": files.name,
        "date": now(),
        "export_dir": files.experiment.export_dir,
        "dataset_directory": str(settings.dataset_directory),
        **{p.name: settings.values[p.name] for p in settings.parameters("features", "training")},
        **state.identity,
        "extensions": {
            option: str(extension.path)
            for option, registry in (("model", NETWORKS), ("front_end", FRONT_ENDS))
            if (extension := registry.get(str(settings.values[option])).extension)
        },
        **({"initial_weights_file": str(settings.initial_weights)} if settings.initial_weights else {}),
        "n_clips": len(vectors.clips),
        "n_target_clips": sum(clip.is_target for clip in vectors.clips),
        "sampling_rate": vectors.features.sampling_rate,
        "clip_channels": vectors.features.channels,
        "resumed_from": state.resumed_from,
        "loss_unit": state.loss_unit,
        **environment(state.network.cov_source.device),
        "seconds": {stage: round(seconds, 3) for stage, seconds in watch.seconds.items()},
        "seconds_in_total": round(sum(watch.seconds.values()), 3),
        "network_sha256": hashlib.sha256(network).hexdigest(),
        "scores": scores,
    }
    return Record(files.record, content)


def network_code(settings: Settings, modules: tuple[str, ...] = ()) -> dict[str, str]:
    """Hash the code of the network and the front end that settings name, and of further modules."""
    return code_hashes(NETWORKS.get(settings.model), FRONT_ENDS.get(settings.front_end), modules=modules)


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def environment(device: "torch.device") -> dict[str, object]:
    """Return device, the instruction sets in force, versions and commit."""
    import numpy as np  # here, since 03 reads records without NumPy and torch
    import torch

    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "instructions": {
            "numpy": np.show_config(mode="dicts")["SIMD Extensions"].get("found", []),
            "torch": torch.backends.cpu.get_cpu_capability(),
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "commit": COMMIT,
    }


def _version(package: str) -> str | None:
    with contextlib.suppress(PackageNotFoundError):
        return version(package)
    return None
