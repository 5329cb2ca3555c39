"""Anomaly scores: their base class, the baseline's two, and functions as scores.

After the last epoch each score is fitted; the decision threshold is a quantile of a gamma distribution fitted to the
values that `fit` returns. Scores are higher for more anomalous clips. `fit` and `of_clip` are called without gradients,
and with the network in eval mode.
"""

import contextlib
import inspect
import io
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common import NETWORKS, SCORES, Extension, InputError, Parameter, Settings, contract_error

import numpy as np
import torch
from torch.nn import functional

from datasets.front_ends import FrontEnd, make_front_end
from datasets.vectors import ClipInput, TrainingBatches
from networks.network import Network, as_floats, read_if_on_cpu
from networks.threshold import choose_threshold, fit_gamma
from runtime.progress import say

MOST_CLIPS = 150  # training clips that are scored after training; more would take seconds
FEW_CLIPS = 10  # fewer give no meaningful threshold


class NoThresholdError(InputError):
    """A score has no threshold, so clips get scores without decisions, or none; the message says why."""


@dataclass(frozen=True)
class TrainingData:
    """The data that a score is fitted to.

    Attributes
    ----------
    clips
        The training clips in path order.
    batches, batch_losses
        The training run's batches, whose passes draw from torch's generator, and their mean squared errors in the last
        epoch, None if the network has other losses; for the baseline's scores. An extension's gets neither: it may be
        fitted long after training.
    """

    clips: Sequence[ClipInput]
    batches: TrainingBatches | None = None
    batch_losses: list[float] | None = None


class Score:
    """An anomaly score. An extension's class sets `name`, `unit` and `description`, and defines `fit` and `of_clip`.

    Attributes
    ----------
    settings
        The value of every parameter, its own and the baseline's, as attributes.
    network
        The trained network, or None if `needs_network` is False.
    """

    name = ""
    description = ""  # a few words, for reports and the challenge's meta file
    unit = "no unit"
    domain_generalization: str | None = None  # how the score treats domains, likewise
    fitted_in_network: tuple[str, ...] = ()  # parameters of the network that `fit` sets
    needs_network = True
    options: tuple[Parameter, ...] = ()  # its own parameters
    extension: Extension | None = None

    @classmethod
    def takes(cls, model: str) -> bool:
        """Return whether the score applies to the network of this name; by default to all."""
        return True

    def __init__(self, settings: Settings, network: Network | None = None):
        self.settings = settings
        self.network: Any = network

    def fit(self, data: TrainingData) -> list[float]:
        """Learn from normal clips; return the values that the threshold's distribution is fitted to.

        By default the scores of the training clips. NoThresholdError: there is no threshold.
        """
        return score_clips(self, data.clips)

    def of_clip(self, clip: ClipInput) -> float | torch.Tensor:
        """Return the score of a clip; a tensor of one value stays on its device until all clips are scored."""
        raise NotImplementedError

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that `fit` learned, which are stored beside the network; none by default."""
        return {}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state` returned, before clips are scored."""


class ReconstructionScore(Score):
    """A score of reconstruction errors."""

    @classmethod
    def takes(cls, model: str) -> bool:
        """Return whether the network reconstructs vectors."""
        return NETWORKS.get(model).reconstructs


class SquaredError(ReconstructionScore):
    """Mean squared error of a clip's reconstruction, over all its vectors and elements."""

    name = "MSE"
    description = "mean squared error over all vectors of a clip"

    @property
    def unit(self) -> str:  # type: ignore[override]
        """The front end's unit, squared."""
        unit = make_front_end(self.settings).unit
        return "mean squared error" + ("" if unit == FrontEnd.unit else f", {unit}²")

    def fit(self, data: TrainingData) -> list[float]:
        """Return the batches' errors in the last epoch, as the reference does; else those of the trained network."""
        if data.batch_losses is not None:
            return data.batch_losses
        assert data.batches is not None
        both = (data.batches.training, data.batches.validation)
        return as_floats(functional.mse_loss(self.network(v), v) for batches in both for v, *_ in batches)

    def of_clip(self, clip: ClipInput) -> torch.Tensor:
        """Return the mean squared error: ()."""
        vectors = clip.vectors
        return functional.mse_loss(self.network(vectors), vectors)


@torch.no_grad()
def has_squared_errors(network: Network, vectors: torch.Tensor) -> bool:
    """Return whether a network's reconstruction losses are squared errors, as they are by default.

    Tried on a clip's vectors, (n_vectors, frames * n_bins): a network may override `losses`, or its code be edited.
    """
    if not network.reconstructs:
        return False
    network.eval()
    labels = [torch.zeros(len(vectors), dtype=torch.int64, device=vectors.device)] if network.label else []
    with _seeded_generators(0):
        losses = network.checked_losses(vectors, *labels).reconstruction
        errors = functional.mse_loss(network(vectors), vectors, reduction="none").mean(dim=1)
    return torch.allclose(losses, errors, rtol=1e-4)


def score_function(name: str, unit: str, description: str, options: tuple[Parameter, ...] = ()) -> Callable:
    """Register a function from a clip's path to its score, which needs no network: a decorator for extension files.

    The function is called with the path, and with the settings too if it takes a second argument.
    """

    def register(function: Callable) -> Callable:
        takes_settings = len(inspect.signature(function).parameters) > 1

        def of_clip(self: Score, clip: ClipInput) -> float:
            if clip.path is None:
                raise InputError(f"{name} takes a file, not samples; give a path")
            return function(clip.path, self.settings) if takes_settings else function(clip.path)

        attributes = {
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            "name": name,
            "unit": unit,
            "description": description,
            "options": options,
            "needs_network": False,
            "of_clip": of_clip,
        }
        SCORES.register(type(name, (Score,), attributes))
        return function

    return register


def make_score(name: str, settings: Settings, network: Network | None) -> Score:
    """Return a score; the network that it is bound to, if any, is put in eval mode."""
    if network is not None:
        network.eval()
    return SCORES.get(name)(settings, network)


def network_scores(model: str) -> list[str]:
    """Return the names of the scores that are fitted to a network after the last epoch."""
    return [name for name in SCORES.names() if SCORES.get(name).needs_network and SCORES.get(name).takes(model)]


@torch.no_grad()
def try_scores(settings: Settings, network: Network, clips: Sequence[ClipInput]) -> None:
    """Fit the scores of extensions to a few clips and the untrained network, so that a mistake shows before training.

    A score that cannot be fitted to two clips, such as a mixture of more components, is tried on all of them.
    """
    for name in network_scores(settings.model):
        if SCORES.get(name).extension is not None:
            try:
                _try_score(make_score(name, settings, network), clips[:2])
            except Exception:
                _try_score(make_score(name, settings, network), clips)


def _try_score(score: Score, clips: Sequence[ClipInput]) -> None:
    with contextlib.suppress(NoThresholdError):
        _fit(score, TrainingData(clips))


def fit_scores(names: list[str], settings: Settings, network: Network | None, data: TrainingData) -> dict[Score, dict]:
    """Fit scores, and their thresholds' distributions; a score without a threshold is reported.

    Returns
    -------
    Fitted score -> its entry in the network's record, the sources of its threshold: `gamma`, the distribution's
    parameters, or None; `clip_scores`, at most MOST_CLIPS; `threshold_from`, the default;
    `fitted_to` and `range`, the values that `fit` returned.
    """
    for number, which in ((len(data.clips), "training"), (sum(clip.is_target for clip in data.clips), "target")):
        if 0 < number < FEW_CLIPS:
            advice = "add some, or use tools.calibrate"
            say(f"warning: {number} {which} clips are too few for a meaningful threshold; {advice}")
    scores = [make_score(name, settings, network) for name in names]
    return {score: _fit_with_threshold(score, data) for score in scores}


def _fit_with_threshold(score: Score, data: TrainingData) -> dict[str, Any]:
    every = math.ceil(len(data.clips) / MOST_CLIPS) or 1
    entry: dict[str, Any] = {"gamma": None}
    try:
        values = _fit(score, data)
        origin = f"the {len(values)} values ({len(set(values))} distinct) that {score.name} was fitted to"
        distribution, lacking = fit_gamma(values), f"no gamma distribution fits {origin}"
        if score.extension is None:
            clip_scores = score_clips(score, data.clips[::every])
        else:  # kNN's, say, leave out a clip itself
            clip_scores = values[::every] if len(values) == len(data.clips) else []
        entry = {
            "gamma": distribution and asdict(distribution),
            "threshold_from": "clips" if score.extension is not None and clip_scores else "batches",
            "fitted_to": origin,
            "range": [min(values), max(values)] if values else None,
            "clip_scores": clip_scores,
        }
    except NoThresholdError as error:
        lacking = str(error)
    try:
        threshold = choose_threshold(score.settings, entry)
    except InputError as error:  # --threshold_from clips, which have no scores; the network is kept
        threshold, lacking = None, str(error)
    if threshold is None:
        say(f"warning: no threshold for {score.name}: {lacking}; tests will write scores but no decisions")
    elif threshold.problem:
        say(threshold.warning(score.name))
    elif entry.get("clip_scores"):
        above = sum(value > threshold for value in entry["clip_scores"])
        clips = f"{len(entry['clip_scores'])} training clips{f' (one in {every})' if every > 1 else ''}"
        say(f"{score.name}: {above} of {clips} are above the threshold of {threshold:g}")
    return entry


@torch.no_grad()
def _fit(score: Score, data: TrainingData) -> list[float]:
    """Fit a score; an extension's sees only the clips, and leaves the global generators unchanged."""
    if score.extension is None:
        return score.fit(data)
    with _seeded_generators(score.settings.seed):
        values = as_floats(score.fit(TrainingData(data.clips)))
        _check_restored(score, data.clips[:1])
    if not np.isfinite(values).all():
        raise InputError(f"{score.name}.fit returns values that are not finite; correct {score.extension.path}")
    return values


def _check_restored(score: Score, clips: Sequence[ClipInput]) -> None:
    """Raise InputError if an extension's fitted score cannot score clips after load(state()), as tests will."""
    score_clips(score, clips)
    loaded, file = type(score)(score.settings, score.network), io.BytesIO()
    try:
        torch.save(score.state(), file)
        file.seek(0)
        loaded.load(torch.load(file, map_location="cpu", weights_only=True))
        score_clips(loaded, clips)
    except Exception as error:
        raise InputError(
            f"{score.extension and score.extension.path}: {score.name} cannot score a clip after load(state()) "
            f"({type(error).__name__}: {error}); state returns the tensors that fit learns, load restores them"
        ) from error


@torch.no_grad()
def score_clips(score: Score, clips: Iterable[ClipInput]) -> list[float]:
    """Return the score of each clip; one that is not finite is reported."""
    scored = []
    for clip in clips:
        value = score.of_clip(clip)
        if value is None or math.prod(np.shape(value)) != 1:
            raise contract_error(score, ".of_clip returned", value, "return one number")
        scored.append((clip.path, read_if_on_cpu(value)))
    values = as_floats(value for _, value in scored)
    for (path, _), value in zip(scored, values, strict=True):
        if not math.isfinite(value):
            raise InputError(f"{score.name} gives scores that are not finite, first for {path}; train again")
    return values


@contextlib.contextmanager
def _seeded_generators(seed: int) -> Iterator[None]:
    """Seed all generators for the block, and restore them after it."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
