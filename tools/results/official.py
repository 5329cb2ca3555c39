"""The challenge's official score of a system, with a bootstrap confidence interval.

Conventions: a system is its sections' scores (tools/score_files.py). The official score is the harmonic mean, over all
sections of all machine types, of AUC (source), AUC (target) and pAUC, each at least float64 epsilon; where clips have
no domains (2020), of AUC and pAUC. The interval says what another draw of test clips would do to it: the clips of each
domain and label of each section are drawn again with replacement. What another seed does to it is another matter.
Source: the challenge's task description and the organisers' evaluator; percentile bootstrap: Efron, 1979.
"""

from dataclasses import dataclass

import numpy as np

from common import InputError
from tools.metrics import EPSILON, harmonic_mean
from tools.score_files import OFFICIAL, OFFICIAL_PLAIN, SectionScores, System, official_metrics

N_RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0  # of the resamples, so that the same scores give the same interval


@dataclass(frozen=True)
class OfficialScore:
    """A system's official score, its interval, and what it is made of."""

    score: float
    low: float
    high: float
    metrics: dict[tuple[str, int], dict[str, float]]  # machine type and section -> metric -> value

    def mean_of(self, metric: str, machine_type: str | None = None) -> float | None:
        """Return the harmonic mean of a metric over the sections of a machine type, or of all."""
        return harmonic_mean(
            [values.get(metric) for (name, _), values in self.metrics.items() if machine_type in (None, name)]
        )


def official_score(system: System, max_fpr: float) -> OfficialScore:
    """Compute the official score of a system whose clips are labelled.

    Raises
    ------
    InputError
        A section lacks normal or anomalous clips of a domain, so that a metric is not defined.
    """
    metrics = {key: official_metrics(section, max_fpr) for key, section in system.items()}
    for (machine_type, section), values in metrics.items():
        undefined = [name for name, value in values.items() if value is None]
        if undefined:
            raise InputError(
                f"{machine_type} section {section:02d} has no {', '.join(undefined)}: normal and anomalous clips of "
                "both domains are needed; test the complete set"
            )
    rng = np.random.default_rng(SEED)
    resampled = [column for section in system.values() for column in resample_metrics(section, max_fpr, rng)]
    scores = 1 / np.mean([1 / np.maximum(column, EPSILON) for column in resampled], axis=0)  # (N_RESAMPLES,)
    low, high = np.quantile(scores, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    values = [value for by_metric in metrics.values() for value in by_metric.values()]
    return OfficialScore(harmonic_mean(values), float(low), float(high), metrics)


def resample_metrics(section: SectionScores, max_fpr: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw a section's clips again, by domain and label; return its official metrics, each (N_RESAMPLES,)."""
    is_anomaly, is_target = section.is_anomaly, section.is_target
    if not section.has_domains:
        is_target = np.zeros(len(is_anomaly), dtype=bool)
    counts = np.zeros((N_RESAMPLES, len(is_anomaly)))  # how often each clip is drawn
    for stratum in (is_anomaly & is_target, is_anomaly & ~is_target, ~is_anomaly & is_target, ~is_anomaly & ~is_target):
        n_clips = int(stratum.sum())
        if n_clips:
            counts[:, stratum] = rng.multinomial(n_clips, np.full(n_clips, 1 / n_clips), size=N_RESAMPLES)
    normal, anomalous = counts * ~is_anomaly, counts * is_anomaly
    if not section.has_domains:
        return [weighted_area(section.scores, normal, anomalous, limit) for limit in (1.0, max_fpr)]
    return [
        weighted_area(section.scores, normal * ~is_target, anomalous, 1.0),
        weighted_area(section.scores, normal * is_target, anomalous, 1.0),
        weighted_area(section.scores, normal, anomalous, max_fpr),
    ]


def weighted_area(scores: np.ndarray, normal: np.ndarray, anomalous: np.ndarray, max_fpr: float) -> np.ndarray:
    """Return the standardised partial AUC (McClish, 1989) under weights of the clips, for many sets of weights at once.

    Parameters
    ----------
    scores
        (n_clips,)
    normal, anomalous
        Weights of each clip as a normal and as an anomalous one: (n_sets, n_clips).
    max_fpr
        With 1, the result is the AUC.
    """
    values, which = np.unique(-scores, return_inverse=True)  # clips of one score make one point of the curve
    order = np.argsort(which, kind="stable")
    first = np.searchsorted(which[order], np.arange(len(values)))
    x, y = (_curve(np.add.reduceat(weights[:, order], first, axis=1)) for weights in (normal, anomalous))
    x0, x1, y0, y1 = x[:, :-1], x[:, 1:], y[:, :-1], y[:, 1:]
    end = np.clip(x1, None, max_fpr)
    share = np.divide(end - x0, x1 - x0, out=np.zeros_like(x0), where=x1 > x0)  # of the step, up to max_fpr
    width = np.maximum(end - x0, 0)
    area = (width * (y0 + y0 + (y1 - y0) * np.maximum(share, 0)) / 2).sum(axis=1)
    chance, best = max_fpr**2 / 2, max_fpr
    return (1 + (area - chance) / (best - chance)) / 2


def _curve(weights: np.ndarray) -> np.ndarray:
    """Return the rates from 0 to 1 at each threshold: (n_sets, n_points + 1)."""
    rates = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    return np.concatenate([np.zeros((len(rates), 1)), rates], axis=1)


def metric_names(scores: list[OfficialScore]) -> tuple[str, ...]:
    """Return the metrics that systems' official scores are made of."""
    names = {name for score in scores for values in score.metrics.values() for name in values}
    return OFFICIAL if names & set(OFFICIAL[:2]) else OFFICIAL_PLAIN
