"""Anomaly scores: their base class, the baseline's two, and functions as scores.

After the last epoch each score is fitted; the decision threshold is a quantile of a gamma distribution fitted to the
values that `fit` returns. Scores are higher for more anomalous clips. `fit` and `of_clip` are called without gradients,
and with the network in eval mode.
"""

import inspect
import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

from common import SCORES, Extension, InputError, Parameter, Settings, contract_error

import numpy as np
import torch
from torch.nn import functional

from datasets.clips import Clip
from datasets.front_ends import FrontEnd, make_front_end
from datasets.vectors import ClipInput, TrainingBatches
from networks.network import Network, as_floats, read_if_on_cpu
from networks.threshold import choose_threshold, fit_gamma, problem_text
from runtime.progress import say

MOST_CLIPS = 150  # training clips that are scored after training; more would take seconds
FEW_CLIPS = 10  # fewer give no meaningful threshold


class NoThresholdError(Exception):
    """A score has no threshold, so clips get scores without decisions; the message says why."""


@dataclass(frozen=True)
class TrainingData:
    """The data that a score is fitted to.

    Attributes
    ----------
    clips
        The training clips in path order; may be iterated repeatedly.
    batches, batch_losses
        The training run's batches, whose passes draw from torch's generator, and their mean squared errors in the last
        epoch, None if the network has other losses; for the baseline's scores. An extension's gets neither: it may be
        fitted long after training.
    """

    clips: Iterable[ClipInput]
    batches: TrainingBatches | None = None
    batch_losses: list[float] | None = None


class Score:
    """An anomaly score. An extension's class sets `name`, `unit` and `description`, and defines `fit` and `of_clip`.

    Attributes
    ----------
    settings
        The value of every parameter, its own and the baseline's, as attributes.
    network
        The trained network, of the class that --model names; None if `needs_network` is False.
    """

    name = ""
    description = ""  # a few words, for reports and the challenge's meta file
    unit = "no unit"
    domain_generalization: str | None = None  # how the score treats domains, likewise
    fitted_in_network: tuple[str, ...] = ()  # parameters of the network that `fit` sets
    needs_network = True
    options: tuple[Parameter, ...] = ()  # its own parameters
    extension: Extension | None = None

    def __init__(self, settings: Settings, network: Network | None = None):
        self.settings = settings
        self.network: Any = network

    def fit(self, data: TrainingData) -> list[float]:
        """Learn from normal clips; return the values that the threshold's distribution is fitted to.

        By default the scores of the training clips. NoThresholdError: there is no threshold.
        """
        return as_floats(clip_score(self, clip) for clip in data.clips)

    def of_clip(self, clip: ClipInput) -> float | torch.Tensor:
        """Return the score of a clip; a tensor of one value stays on its device until all clips are scored."""
        raise NotImplementedError

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that `fit` learned, which are stored beside the network; none by default."""
        return {}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state` returned, before clips are scored."""


class SquaredError(Score):
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
        return as_floats(functional.mse_loss(self.network(v), v) for batches in both for v, _ in batches)

    def of_clip(self, clip: ClipInput) -> torch.Tensor:
        """Return the mean squared error: ()."""
        vectors = clip.vectors
        return functional.mse_loss(self.network(vectors), vectors)


@torch.no_grad()
def has_squared_errors(network: Network, vectors: torch.Tensor) -> bool:
    """Return whether a network's reconstruction losses are squared errors, as they are by default.

    Tried on a clip's vectors, (n_vectors, frames * n_bins): a network may override `losses`, or its code be edited.
    """
    network.eval()
    with _seeded_generators(0):
        losses = network.checked_losses(vectors).reconstruction
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


def network_scores() -> list[str]:
    """Return the names of the scores that are fitted to a network after the last epoch."""
    return [name for name in SCORES.names() if SCORES.get(name).needs_network]


@dataclass(frozen=True)
class FittedScore:
    """The result of fitting a score: its own tensors, and what its threshold may come from.

    Attributes
    ----------
    threshold
        As the score's entry in the network's record has it: `gamma`, the distribution's parameters (None without one);
        `clip_scores`, at most MOST_CLIPS; `threshold_from`, the default; `fitted_to` and `range`, the values that `fit`
        returned.
    """

    name: str
    settings: Settings
    state: dict[str, torch.Tensor]
    threshold: dict[str, Any]


def fit_scores(names: list[str], settings: Settings, network: Network | None, data: TrainingData) -> list[FittedScore]:
    """Fit scores, and their thresholds' distributions; a score without a threshold is reported."""
    fitted = []
    clips = list(data.clips)
    step = math.ceil(len(clips) / MOST_CLIPS) or 1
    for number, what in ((len(clips), "training"), (sum(clip.is_target for clip in clips), "target")):
        if 0 < number < FEW_CLIPS:
            say(f"warning: too few {what} clips for a meaningful threshold: {number}; add some, or use tools.calibrate")
    for name in names:
        score = make_score(name, settings, network)
        entry: dict[str, Any] = {"gamma": None}
        try:
            values = _fit(score, data)
            origin = f"the {len(values)} values ({len(set(values))} distinct) that {name}.fit returned"
            distribution, lacking = fit_gamma(values), f"no gamma distribution fits {origin}"
            clip_scores = score_clips(score, clips[::step]) if score.extension is None else []
            if score.extension is not None and len(values) == len(clips):  # kNN's, say, leave out a clip itself
                clip_scores = values[::step]
            source = "batches" if score.extension is None or not clip_scores else "clips"
            span = [min(values), max(values)] if values else None
            entry = {
                "gamma": distribution and asdict(distribution),
                "threshold_from": source,
                "fitted_to": origin,
                "range": span,
                "clip_scores": clip_scores,
            }
        except NoThresholdError as error:
            lacking = str(error)
        _report_threshold(name, settings, entry, lacking, f" (one in {step})" if step > 1 else "")
        fitted.append(FittedScore(name, settings, score.state(), entry))
    return fitted


def _report_threshold(name: str, settings: Settings, entry: dict, lacking: str, which: str) -> None:
    """Print how many training clips are above a score's threshold, or why it has none; `which`: one in how many."""
    clip_scores = entry.get("clip_scores")
    try:
        threshold = choose_threshold(settings, entry)
    except InputError as error:
        threshold, lacking = None, str(error)
    if threshold is None:
        say(f"warning: no threshold for {name}: {lacking}; tests will write scores but no decisions")
    elif threshold.problem:
        say(problem_text(name, threshold))
    elif clip_scores:
        above = sum(value > threshold for value in clip_scores)
        say(f"{name}: {above} of {len(clip_scores)} training clips{which} are above the threshold of {threshold:g}")


@torch.no_grad()
def _fit(score: Score, data: TrainingData) -> list[float]:
    """Fit a score; an extension's sees only the clips, and leaves the global generators unchanged."""
    if score.extension is None:
        return score.fit(data)
    with _seeded_generators(score.settings.seed):
        returned: Any = score.fit(TrainingData(data.clips))
        is_list = isinstance(returned, Iterable) and getattr(returned, "shape", None) != ()
        values = list(returned) if is_list else []
        wrong = [value for value in values if not _is_number(value)] if is_list else [returned]
        if wrong:
            what = ".fit returned, among others," if is_list else ".fit returned"
            advice = "return a list of the values that the threshold is fitted to, e.g. `return super().fit(data)`"
            raise contract_error(score, what, wrong[0], advice)
        values = as_floats(values)
        _check_state(score, next(iter(data.clips)))
    if not np.isfinite(values).all():
        raise InputError(f"{score.name}.fit returns values that are not finite; correct {score.extension.path}")
    return values


def _check_state(score: Score, clip: ClipInput) -> None:
    """Raise InputError if an extension's fitted score cannot score a clip after load(state())."""
    clip_score(score, clip)
    state, loaded = score.state(), type(score)(score.settings, score.network)
    plain = (torch.Tensor, bool, int, float, str)
    if not isinstance(state, dict) or not all(isinstance(value, plain) for value in state.values()):
        raise contract_error(score, ".state returned", state, "return a flat dict of tensors")
    try:
        loaded.load(state)
        clip_score(loaded, clip)
    except (AttributeError, LookupError, TypeError) as error:
        path = score.extension and score.extension.path
        raise InputError(
            f"{path}: {score.name}.state returns {', '.join(state) or 'nothing'}, from which load cannot restore what "
            f"of_clip needs ({type(error).__name__}: {error}); return the tensors that fit learns, and restore them"
        ) from error


def clip_score(score: Score, clip: ClipInput) -> float | torch.Tensor:
    """Return `of_clip`, which must be one number."""
    value = score.of_clip(clip)
    if not _is_number(value):
        raise contract_error(
            score, ".of_clip returned" if score.needs_network else " returned", value, "return one number"
        )
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, Real | np.ndarray | torch.Tensor) and math.prod(getattr(value, "shape", ())) == 1


@torch.no_grad()
def score_clips(score: Score, clips: Iterable[ClipInput]) -> list[float]:
    """Return the score of each clip; one that is not finite is reported."""
    scored = [(clip.path, read_if_on_cpu(clip_score(score, clip))) for clip in clips]
    values = as_floats(value for _, value in scored)
    for (path, _), value in zip(scored, values, strict=True):
        if not np.isfinite(value):
            raise InputError(f"{score.name} gives scores that are not finite, first for {path}; train again")
    return values


@contextmanager
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


def path_clips(clips: Iterable[Clip]) -> list[ClipInput]:
    """Return clips for a score that needs no network: they have no vectors."""
    return [ClipInput(clip.path, None, clip.is_target) for clip in clips]
