"""Trained networks: loaded with the parameters of their record and the scores fitted to them, and written with it."""

import contextlib
import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import (
    DEFAULTS,
    FRONT_ENDS,
    NETWORKS,
    NOT_RECORDED,
    REQUIRED,
    SCORES,
    InputError,
    Settings,
    as_text,
    code_hashes,
    extension_parameters,
)

import torch

from datasets.clips import Clip
from datasets.front_ends import FrontEnd, make_front_end
from datasets.run_data import RunData
from datasets.vectors import ClipInput
from networks.checkpoint import TrainingState
from networks.names import Run, check_applies, lock_path, score_state_path, similar_networks
from networks.network import make_network
from networks.record import FORMAT, Record, network_code, now, options_text, read_record
from networks.scores import Score, TrainingData, fit_scores, make_score
from networks.tensor_files import dump_tensors, load_tensors, load_weights
from networks.threshold import Calibration, Threshold, choose_threshold
from networks.training_set import Part
from runtime.device import environment
from runtime.files import FileGroup, atomic_write, process_lock
from runtime.progress import Stopwatch, say
from runtime.sources import changed_since
from runtime.wording import counted


@dataclass(frozen=True)
class Trained:
    """A network on a device, its file, and the parameters that it was trained with; `record` is None if it has none.

    `network` is None for a score that needs none: `path` then has no file, only a record.
    """

    path: Path
    network: Any  # a Network
    front_end: FrontEnd
    settings: Settings
    record: Record | None

    def inputs(self, clips: list[Clip], data: RunData, device: torch.device, training: bool = False) -> list[ClipInput]:
        """Return clips as inputs of scores; `training` clips must be those that the network was trained on."""
        if self.network is None:
            return [ClipInput(clip.path, None, clip.is_target) for clip in clips]
        vectors = data.vectors(clips, self.settings, device)
        features = vectors.features
        self.check_clip(f"the clips of {clips[0].path.parent} have", features.sampling_rate, features.channels)
        if training and self.record and self.record.content["data"] != features.sha256:
            raise InputError(
                f"the training clips have changed since {self.path.stem} was trained on them; restore them or train "
                "again"
            )
        return list(vectors.of_each_clip())

    def check_clip(self, subject: str, rate: int | None, channels: int | None) -> None:
        """Raise InputError if a rate in Hz or number of channels is known and not the training clips'.

        `subject` begins the error message, `x.wav has`.
        """
        content = self.record.content if self.record else {}
        trained_rate, trained_channels = content.get("sampling_rate"), content.get("clip_channels")
        if rate and trained_rate not in (None, rate):
            raise InputError(
                f"{subject} a sampling rate of {rate} Hz, but the network was trained at {trained_rate} Hz; resample "
                "or train another network"
            )
        if channels and trained_channels not in (None, channels):
            raise InputError(
                f"{subject} {counted(channels, 'channel')}, but the network's training clips had {trained_channels}; "
                "convert the clips, or train another network"
            )


# --- loading ----------------------------------------------------------------------------------------------------------


def load_trained(path: Path, settings: Settings, device: torch.device) -> Trained:
    """Load a network with its record's parameters.

    Without a record, as for the reference's networks, the parameters are those of the settings.
    """
    if not path.with_suffix(".json").is_file():
        path = path.resolve()  # a link's record is beside the file it points to
    if not path.is_file():
        raise InputError(
            f"there is no network {path.absolute()}{similar_networks(path)}; check the path, or the --model, --seed "
            "and --export_dir of its training; train first, or finish an interrupted one with 01_train.sh --restart"
        )
    record = read_record(path.with_suffix(".json"))
    if record is None:
        names = ("model", *settings.affecting("features"), "frames", "frame_hop_length")
        values = [f"{name} {as_text(settings.values[name])}" for name in names]
        say(f"{path.name} has no record ({path.stem}.json) beside it; assumed: {', '.join(values)}")
    else:
        settings = _trained_settings(record, settings)
        record.check()
        if changed := changed_since(record.content["sources"], network_code(settings), record.content["commit"]):
            say(f"warning: {path.name} was trained before {changed}; its weights are used by the changed code")
    front_end = make_front_end(settings)
    network = make_network(settings, front_end.n_bins, record.content.get("labels", {}) if record else {})
    load_weights(network, path)
    return Trained(path, network.to(device), front_end, settings, record)


def _trained_settings(record: Record, settings: Settings) -> Settings:
    """Return settings with a record's parameters.

    A different value on the command line is an error; a different one in baseline.yaml is reported.
    """
    trained, reported = {}, []
    for option, registry in (("model", NETWORKS), ("front_end", FRONT_ENDS)):
        trained[option] = record.content[option]
        if trained[option] not in registry.names():
            extension = record.content["extensions"].get(option, "FILE.py")
            raise InputError(
                f"{record.path} names the {option} {trained[option]!r}, which no given file registers; give "
                f"--extension {extension}"
            )
    for parameter in settings.replace(**trained).parameters("features", "training"):
        name, given = parameter.name, settings.values[parameter.name]
        value = record.content.get(name, parameter.since_absent)
        if name in NOT_RECORDED or value is REQUIRED:
            continue
        trained[name] = value = parameter.type.read(as_text(value), f"{record.path}: {name}: ")
        if value != given and name in settings.given:
            raise InputError(
                f"--{name} {as_text(given)}, but {record.path.stem} was trained with {as_text(value)}; leave the "
                "option out, or train with it"
            )
        if value != given and name not in ("model", "front_end", "seed", "epochs"):
            file = Path(str(settings.config)) if name in settings.configured else DEFAULTS
            reported.append(f"{name} {as_text(value)} ({file.name}: {as_text(given)})")
    if reported:
        say(f"parameters of the network's record: {', '.join(reported)}")
    return settings.replace(**trained)


def load_score(name: str, trained: Trained) -> tuple[Score, Threshold | None]:
    """Load a score fitted to a network, and its threshold, or None without one.

    Options of the score that are not given are those it was fitted with.
    """
    settings, record, path = trained.settings, trained.record, trained.path
    check_applies(name, settings.model)
    cls = SCORES.get(name)
    fitted = record.fitted(name) if record else {}
    before, named = fitted.get("fitted_with", {}), settings.given | settings.configured
    kept = {n: before[n] for n in settings.of_class(cls) if n in before and n not in named}
    settings = settings.replace(**{n: extension_parameters()[n].type.read(as_text(v)) for n, v in kept.items()})
    text = options_text(name, settings.of_class(cls))
    if not (record.has_fitted(name, settings) if record else cls.extension is None):
        other = "by other code" if before == settings.of_class(cls) else options_text(name, before)
        only = f", only {other}" if fitted else ""
        raise InputError(
            f"{text} is not fitted to {path.name}{only}; run tools/02_test.sh --score {name} with these options first"
        )
    if record:
        record.check(name)
        if changed := changed_since(fitted["sources"], code_hashes(cls), record.content.get("commit")):
            say(f"warning: {name} was fitted to {path.name} before {changed}")
    score = make_score(name, settings, trained.network)
    score.load(load_tensors(score_state_path(path, name)) if fitted.get("state_sha256") else {})
    threshold = choose_threshold(settings, fitted)
    if threshold is not None:
        say(f"threshold of {text}: {threshold:g}, {threshold.source}")
        if threshold.problem:
            say(threshold.warning(name))
    return score, threshold


# --- fitting and writing ----------------------------------------------------------------------------------------------


def load_for_test(
    run: Run, settings: Settings, data: RunData, device: torch.device
) -> tuple[Trained, Score, Threshold | None]:
    """Load a run's network, the score that settings name, fitted now unless it is, and its threshold.

    Waits while another process trains the run.
    """
    name = settings.score
    is_lockable = os.access(run.lock, os.W_OK) or _is_missing(name, settings, run)
    with process_lock(run.lock, f"trains {run.name}") if is_lockable else contextlib.nullcontext():
        if _is_missing(name, settings, run):
            _fit_now(name, settings, run, data, device)
    trained = _load_run(run, name, settings, device)
    return (trained, *load_score(name, trained))


def _load_run(run: Run, score: str, settings: Settings, device: torch.device) -> Trained:
    """Load a run's network, or only the record of a score that needs none."""
    if SCORES.get(score).needs_network:
        return load_trained(run.network, settings, device)
    return Trained(run.network, None, make_front_end(settings), settings, read_record(run.record))


def _is_missing(score: str, settings: Settings, run: Run) -> bool:
    """Return whether a score is not fitted with these options and by this code of its extension."""
    record = read_record(run.record)
    return score not in SCORES.builtin if record is None else not record.has_fitted(score, settings)


def _fit_now(score: str, settings: Settings, run: Run, data: RunData, device: torch.device) -> None:
    """Fit a score to the training clips of a run that is trained already, and add it to the record."""
    text = options_text(score, settings.of_class(SCORES.get(score)))
    say(f"fitting {text} to the training clips of {data.folders.train}")
    trained = _load_run(run, score, settings, device)
    inputs = trained.inputs(data.training_clips(), data, device, training=True)
    fitted = fit_scores([score], trained.settings, trained.network, TrainingData(inputs))
    record = trained.record or Record(run.record, {"format": FORMAT, "run": run.name, "scores": {}})
    with FileGroup() as group:
        record = record.with_scores(_write_scores(group, run.network, fitted))
        record.write_to(group.open(run.record))


def _write_scores(group: FileGroup, network: Path, fitted: dict[Score, dict]) -> dict[str, dict]:
    """Write the tensors of fitted scores beside a network; return the scores' entries in its record."""
    entries = {}
    for score, threshold in fitted.items():
        state = score.state()
        content = dump_tensors(state) if state else None
        if content:
            group.open(score_state_path(network, score.name), "wb").write(content)
        entries[score.name] = {
            "fitted_with": score.settings.of_class(type(score)),
            "sources": code_hashes(type(score)),
            "extension": score.extension and str(score.extension.path),
            "state_sha256": content and hashlib.sha256(content).hexdigest(),
            "date": now(),
            **threshold,
        }
    return entries


def write_trained(
    group: FileGroup, part: Part, state: TrainingState, fitted: dict[Score, dict], watch: Stopwatch
) -> None:
    """Write a network for one part, its scores' tensors and, last, its record."""
    run, vectors, settings = part.run, part.vectors, state.network.settings
    scores = _write_scores(group, run.network, fitted)
    content = dump_tensors(state.network.state_dict())
    sha256 = hashlib.sha256(content).hexdigest()
    group.open(run.network, "wb").write(content)
    of_network, kept = state.kept_scores.get(run, (None, {}))
    if of_network == sha256:
        scores |= {name: entry | scores.get(name, {}) for name, entry in kept.items()}
    extensions = {"model": NETWORKS.get(settings.model), "front_end": FRONT_ENDS.get(settings.front_end)}
    record = {
        "format": FORMAT,
        "run": run.name,
        "date": now(),
        "export_dir": run.experiment.export_dir,
        "dataset_directory": str(settings.dataset_directory),
        **{p.name: settings.values[p.name] for p in settings.parameters("features", "training")},
        **state.identity,
        **part.facts,
        **({"trained_on": {name: state.identity[name] for name in part.facts}} if state.network.joint else {}),
        "extensions": {option: str(cls.extension.path) for option, cls in extensions.items() if cls.extension},
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
        "network_sha256": sha256,
        "scores": scores,
    }
    Record(run.record, record).write_to(group.open(run.record))


def write_calibration(record: Record, score: str, calibration: Calibration) -> None:
    """Write a score's calibration into a network's record, unless the score has been fitted again meanwhile."""
    with process_lock(lock_path(record.network), f"trains or calibrates {record.path.stem}"):
        current = read_record(record.path)
        entry = current.fitted(score) if current else {}
        if current is None or entry.get("date") != record.fitted(score)["date"]:
            raise InputError(
                f"{record.path} was changed meanwhile, for example by training; run the same command again"
            )
        with atomic_write(record.path) as file:
            current.with_scores({score: {**entry, "calibration": asdict(calibration)}}).write_to(file)
