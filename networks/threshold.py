"""The decision threshold of a score, by default a quantile of a gamma distribution.

A clip is anomalous if its score is above the threshold. The reference's is a quantile of a gamma distribution fitted to
the values of training batches, which mix vectors of many clips and vary less than clips do. A quantile of the training
clips' own scores, or a calibration on normal clips that were not trained on (tools.calibrate), may replace it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common import InputError, Settings

import numpy as np

CONFIDENCE = 0.95  # of intervals of false alarm rates


class Threshold(float):
    """The score above which a clip is anomalous; `source` says where it comes from, `problem` why not to trust it."""

    source: str  # a noun phrase
    problem: str  # a predicate, or ""

    def __new__(cls, value: float, source: str = "", problem: str = ""):
        """Make a threshold."""
        threshold = super().__new__(cls, value)
        threshold.source, threshold.problem = source, problem
        return threshold

    def warning(self, score: str) -> str:
        """Return a line about the problem."""
        advice = "give --threshold_from clips, or use tools.calibrate"
        return f"warning: the threshold of {score}, {self:g}, {self.problem}; {advice}"


@dataclass(frozen=True)
class GammaDistribution:
    """A gamma distribution with free location, as scipy.stats.gamma names its parameters."""

    shape: float
    loc: float
    scale: float

    def quantile(self, probability: float) -> float:
        """Return the score below which a value of the distribution falls with this probability."""
        from scipy.special import gammaincinv  # as scipy.stats.gamma.ppf, whose import takes three times as long

        return float(gammaincinv(self.shape, probability) * self.scale + self.loc)


def fit_gamma(scores: list[float]) -> GammaDistribution | None:
    """Fit a gamma distribution with free location, or return None if the scores do not determine one (all equal)."""
    from scipy.stats import FitError, gamma  # half a second, which tests need not spend

    try:
        with np.errstate(all="ignore"):
            return GammaDistribution(*map(float, gamma.fit(scores)))
    except (FitError, ValueError):
        return None


@dataclass(frozen=True)
class Calibration:
    """A threshold from the scores of normal clips that the network was not trained on."""

    threshold: float
    false_alarm_rate: float  # the rate that was asked for
    n_clips: int
    n_above: int  # clips whose scores are above the threshold
    interval: tuple[float, float]  # of the rate, from these numbers (Clopper and Pearson, 1934), at CONFIDENCE

    @property
    def source(self) -> str:
        """The threshold's origin, as a noun phrase."""
        return f"the calibration for {100 * self.false_alarm_rate:g} % false alarms on {self.n_clips} normal clips"


def calibrate(scores: Sequence[float], false_alarm_rate: float) -> Calibration:
    """Return the lowest of n scores that a further normal clip exceeds with at most this probability.

    A further clip exceeds the r-th lowest of n scores with probability 1 - r / (n + 1), whatever their distribution.
    With fewer than clips_needed() scores it is the highest, which a further clip exceeds with probability 1 / (n + 1).
    """
    from scipy.stats import binomtest  # as above

    ordered = np.sort(scores)
    rank = min(math.ceil((1 - false_alarm_rate) * (len(ordered) + 1) - 1e-9), len(ordered))
    threshold = float(ordered[rank - 1])
    n_above = int((ordered > threshold).sum())
    interval = binomtest(n_above, len(ordered)).proportion_ci(CONFIDENCE, method="exact")
    return Calibration(threshold, false_alarm_rate, len(ordered), n_above, (float(interval.low), float(interval.high)))


def clips_needed(false_alarm_rate: float) -> tuple[int, int]:
    """Return how many clips calibrate() needs for a rate, and for an interval that ends below twice the rate."""
    return math.ceil(1 / false_alarm_rate - 1 - 1e-9), math.ceil(8 / false_alarm_rate - 1e-9)


def choose_threshold(settings: Settings, fitted: Mapping[str, Any]) -> Threshold | None:
    """Return the threshold that settings ask for, or None without a distribution to take it from.

    `fitted` is the score's entry in the network's record, {} without one. Its calibration applies unless the command
    line or the --config file sets another threshold.
    """
    named = settings.given | settings.configured
    if "calibration" in fitted and named.isdisjoint(("threshold_from", "decision_threshold")):
        calibration = Calibration(**fitted["calibration"])
        return Threshold(calibration.threshold, calibration.source)
    quantile = settings.decision_threshold
    wanted = fitted.get("threshold_from", "batches") if settings.threshold_from is None else settings.threshold_from
    if wanted == "batches":
        if not fitted.get("gamma"):
            return None
        distribution = GammaDistribution(**fitted["gamma"])
        source = f"the {quantile:g} quantile of a gamma distribution fitted to scores of the training data"
        value = distribution.quantile(quantile)
        return Threshold(value, source, _problem(value, distribution, fitted))
    if wanted == "clips":
        scores = fitted.get("clip_scores")
        if not scores:
            raise InputError(
                "--threshold_from clips, but no record has scores of training clips; train again, or give a number"
            )
        source = f"the {quantile:g} quantile of the scores of {len(scores)} training clips"
        return Threshold(float(np.quantile(scores, quantile)), source)
    return Threshold(wanted, "a given number")


def _problem(value: float, distribution: GammaDistribution, fitted: Mapping[str, Any]) -> str:
    """Describe what is wrong with a quantile of a gamma distribution, as a predicate, or return "".

    A fit that failed may have a scale so tiny beside its location that all quantiles are equal. The likelihood has no
    maximum for shapes below 1, which right-skewed values reach: the fit may be far from them.
    """
    if not distribution.quantile(0.1) < distribution.quantile(0.9):
        return f"means nothing: the gamma distribution fitted to {fitted['fitted_to']} has no spread"
    low, high = fitted["range"]
    return "" if low <= value <= high else f"is outside the range of {fitted['fitted_to']}, {low:g} to {high:g}"
