"""Trained networks and the scores fitted to them: loaded with the parameters of their record, and written with it."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from common import (
    BY_NAME,
    DEFAULTS,
    FRONT_ENDS,
    NETWORKS,
    NOT_RECORDED,
    REQUIRED,
    SCORES,
    InputError,
    Registry,
    Settings,
    as_text,
    code_hashes,
    extension_parameters,
)

import torch

from datasets.cache import Features
from datasets.front_ends import FrontEnd, make_front_end
from datasets.run_data import RunData
from networks.checkpoint import dump_tensors, load_network, load_tensors
from networks.names import Run, lock_path, score_state_path
from networks.network import Network
from networks.record import (
    Record,
    add_scores,
    missing_scores,
    network_code,
    now,
    options_text,
    read_record,
)
from networks.scores import FittedScore, Score, TrainingData, fit_scores, make_score, path_clips
from networks.threshold import Calibration, Threshold, choose_threshold, problem_text
from runtime.files import FileGroup, atomic_write, process_lock
from runtime.progress import say
from runtime.sources import changed_since
from runtime.wording import counted


def trained_settings(record: Record, settings: Settings) -> Settings:
    """Return settings with a record's parameters.

    A different value on the command line is an error; a different one in baseline.yaml is reported.
    """
    wanted = settings.replace(
        model=record.content.get("model", settings.model), front_end=record.content.get("front_end", "log_mel")
    )
    for name, registry in (("model", NETWORKS), ("front_end", FRONT_ENDS)):
        _check_registered(record, name, wanted.values[name], registry)
    found, reported = {}, []
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
            if name not in ("model", "front_end", "seed", "epochs"):
                file = DEFAULTS.name if name in BY_NAME else "default"
                file = Path(str(settings.config)).name if name in settings.configured else file
                reported.append(f"{name} {as_text(value)} ({file}: {as_text(settings.values[name])})")
        found[name] = value
    if reported:
        say(f"parameters of the network's record: {', '.join(reported)}")
    return settings.replace(**found)


def _check_registered(record: Record, option: str, name: object, registry: Registry) -> None:
    """Raise InputError if the record's network or front end is unknown."""
    entry = record.content.get("extensions", {}).get(option)
    if name not in registry.names():
        advice = f"give --extension {entry}" if entry else "check --extension"
        raise InputError(
            f"{record.path} names the {option} {str(name)[:60]!r}, which no given file registers; {advice}"
        )


@dataclass(frozen=True)
class Trained:
    """A network on a device, its file, and the parameters that it was trained with; `record` is None if it has none."""

    path: Path
    network: Network
    front_end: FrontEnd
    settings: Settings
    record: Record | None

    def check_training_clips(self, features: Features) -> None:
        """Raise InputError if the features' hash shows that the network was trained on other clips."""
        known = self.record and self.record.content.get("data")
        if known not in (None, features.sha256):
            raise InputError(
                f"the training clips have changed since {self.record.path.stem} was trained on them; "  # type: ignore[union-attr]
                "restore them or train again"
            )

    def check_clip(self, what: str, rate: int | None, channels: int | None) -> None:
        """Raise InputError if a rate in Hz or number of channels is not the training clips'; None: unknown.

        `what` is the subject of the error message.
        """
        content = {} if self.record is None else self.record.content
        known_rate, known_channels = content.get("sampling_rate"), content.get("clip_channels")
        if rate is not None and known_rate not in (None, rate):
            raise InputError(
                f"{what} a sampling rate of {rate} Hz, but the network was trained at {known_rate} Hz; resample or "
                "train another network"
            )
        if channels is not None and known_channels not in (None, channels):
            raise InputError(
                f"{what} {counted(channels, 'channel')}, but the network's training clips had {known_channels}; "
                "convert or train another network"
            )


def load_trained(where: Path | Run, settings: Settings, device: torch.device) -> Trained:
    """Load a network, given its file or its run, with its record's parameters.

    Without a record, as for the reference's networks, the parameters are those of the settings.
    """
    path = where.network if isinstance(where, Run) else where
    if not path.with_suffix(".json").is_file():
        path = path.resolve()  # a link's record is beside the file it points to
    if not path.is_file():
        raise _no_network(path, where.checkpoint if isinstance(where, Run) else None)
    record = read_record(path.with_suffix(".json"))
    if record is None:
        names = ("model", *settings.affecting("features"), "frames", "frame_hop_length")
        values = [f"{name} {as_text(settings.values[name])}" for name in names]
        say(f"{path.name} has no record ({path.stem}.json) beside it; assumed: {', '.join(values)}")
    else:
        settings = trained_settings(record, settings)
        record.check_network()
        recorded, commit = record.content.get("sources", {}), record.content.get("commit")
        if changed := changed_since(recorded, network_code(settings), commit):
            say(f"warning: {path.name} was trained before {changed}; its weights are used by the changed code")
    front_end = make_front_end(settings)
    return Trained(path, load_network(path, settings, front_end.n_bins, device), front_end, settings, record)


def _no_network(path: Path, checkpoint: Path | None) -> InputError:
    """Return the error for a missing network; `checkpoint` is its run's, if it belongs to one."""
    if checkpoint is None:
        return InputError(f"there is no file {path.absolute()}; check the path (quote a name with spaces or brackets)")
    if checkpoint.is_file():
        content: object = load_tensors(checkpoint)
        epochs = content.get("epochs") if isinstance(content, dict) else None
        number = len(epochs) if isinstance(epochs, list) else "some"
        advice = f"its training stopped after {number} epochs; the same 01_train.sh with --restart finishes it"
    else:
        advice = "train first, with the same data set, tag, seed and export_dir"
    return InputError(f"there is no network {path}; {advice}")


def load_score(
    name: str, settings: Settings, record: Record | None, network: Network | None, path: Path
) -> tuple[Score, Threshold | None]:
    """Load a score fitted to the network at `path`, and its threshold, None if there is none.

    Options of the score that are not given are those it was fitted with.
    """
    if record is not None:
        entry, options = record.fitted(name).get("fitted_with"), settings.of_class(SCORES.get(name))
        known = {n: entry[n] for n, v in options.items() if entry.get(n, v) != v} if isinstance(entry, dict) else {}
        named = settings.given | settings.configured
        kept = {n: extension_parameters()[n].type.read(as_text(v)) for n, v in known.items() if n not in named}
        settings = settings.replace(**kept)
        if not record.has_fitted(name, settings):
            other = [f"{n} {as_text(v)}" for n, v in known.items() if n in named]
            how = " and ".join(other) or ("other code of its extension" if entry is not None else "")
            raise InputError(
                f"{options_text(name, settings)} is not fitted to {path.name}{how and f', only with {how}'}; run "
                f"tools/02_test.sh --score {name} with these options first"
            )
        record.check_score(name)
        sources, commit = record.fitted(name).get("sources", {}), record.content.get("commit")
        if changed := changed_since(sources, code_hashes(SCORES.get(name)), commit):
            say(f"warning: {name} was fitted to {path.name} before {changed}")
    score = make_score(name, settings, network)
    state = score_state_path(path, name)
    score.load(load_tensors(state) if state.is_file() and score.extension is not None else {})
    fitted = {} if record is None else record.fitted(name)
    threshold = choose_threshold(settings, fitted)
    if threshold is not None:
        say(f"threshold of {options_text(name, settings)}: {threshold:g}, {threshold.source}")
        if threshold.problem:
            say(problem_text(name, threshold))
    return score, threshold


def write_scores(group: FileGroup, network: Path, fitted: list[FittedScore]) -> dict[str, dict]:
    """Write the files of fitted scores beside a network; return their entries in its record."""
    entries = {}
    for score in fitted:
        cls = SCORES.get(score.name)
        state = dump_tensors(score.state) if score.state else None
        if state is not None:
            group.open(score_state_path(network, score.name), "wb").write(state)
        entries[score.name] = {
            "fitted_with": score.settings.of_class(cls),
            "sources": code_hashes(cls),
            "extension": cls.extension and str(cls.extension.path),
            "state_sha256": None if state is None else hashlib.sha256(state).hexdigest(),
            "date": now(),
            **score.threshold,
        }
    return entries


def write_calibration(record: Record, score: str, calibration: Calibration) -> None:
    """Write a score's calibration into a network's record; neither may have changed since the record was read."""

    def calibrated(of: Record) -> list:
        return [of.content.get("network_sha256"), {**of.fitted(score), "calibration": None}]

    with process_lock(lock_path(record.network), f"trains or calibrates {record.path.stem}"):
        current = read_record(record.path)
        if current is None or calibrated(current) != calibrated(record):
            raise InputError(
                f"{record.path} was changed meanwhile, for example by training; run the same command again"
            )
        scores = current.content["scores"]
        entry = {**scores[score], "calibration": asdict(calibration)}
        with atomic_write(record.path) as file:
            Record(record.path, {**current.content, "scores": {**scores, score: entry}}).write(file)


def fit_missing_scores(names: list[str], settings: Settings, files: Run, data: RunData, device: torch.device) -> None:
    """Fit scores that are not fitted yet, or were with other options, to the training clips."""
    names = missing_scores(names, settings, files)
    if not names:
        return
    shown = ", ".join(options_text(name, settings) for name in names)
    say(f"fitting {shown} to the training clips of {data.folders.train}")
    clips = data.training_clips()
    if any(SCORES.get(name).needs_network for name in names):
        trained = load_trained(files, settings, device)
        vectors = data.vectors(clips, trained.settings, device)
        trained.check_training_clips(vectors.features)
        fitted = fit_scores(names, trained.settings, trained.network, TrainingData(list(vectors.of_each_clip())))
    else:
        fitted = fit_scores(names, settings, None, TrainingData(path_clips(clips)))
    with FileGroup() as group:
        scores = write_scores(group, files.network, fitted)
        add_scores(files, scores).write(group.open(files.record))
