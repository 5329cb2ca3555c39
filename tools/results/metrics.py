"""The challenge's metrics of one section, from labels, scores and decisions; METRICS lists all of them in order.

Conventions: `is_anomaly` (n_clips,) bool, `scores` (n_clips,) higher is more anomalous, `decisions` (n_clips,) bool or
None without a threshold. An undefined metric (of one class only) is None.
Source: the challenge's task description (DCASE 2023 Task 2; Dohi et al., arXiv 2305.07828) and the reference's tables.
"""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

DOMAINS = ("source", "target")
EPSILON = sys.float_info.epsilon
DECISION_METRICS = ("precision", "recall", "F1 score")
COUNTS = ("normal clips", "false alarms", "anomalous clips", "hits")
COUNTED_OF = {"false alarms": "normal clips", "hits": "anomalous clips"}


@dataclass(frozen=True)
class Metric:
    """A figure of a section, and the tables that have it."""

    name: str
    kind: str  # `area`, `decision` (precision, recall, F1 score), or `count` (clips)
    # the rules (datasets/catalogue.yaml, official_score) whose official score it is part of
    official: tuple[str, ...] = ()
    summary: int | None = None  # its position in the reference's summary tables; None if it is not in them
    is_tabled: bool = True  # whether a test's result table has it


METRICS = (
    Metric("AUC (source)", "area", ("2022",), summary=4),
    Metric("AUC (target)", "area", ("2022",), summary=5),
    Metric("AUC", "area", ("2020",), summary=0),  # of clips without domains
    Metric("AUC (all)", "area", is_tabled=False),
    Metric("AUC (source only)", "area", ("2021",), is_tabled=False),
    Metric("AUC (target only)", "area", ("2021",), is_tabled=False),
    Metric("pAUC", "area", ("2020", "2022"), summary=1),
    Metric("pAUC (source)", "area", ("2021",), summary=2),
    Metric("pAUC (target)", "area", ("2021",), summary=3),
    *(
        Metric(f"{name}{domain}", kind, is_tabled=kind == "decision" and domain != " (all)")
        for kind, names in (("decision", DECISION_METRICS), ("count", COUNTS))
        for name in names
        for domain in (" (source)", " (target)", " (all)", "")
    ),
)
KINDS = {metric.name: metric.kind for metric in METRICS}


def summary_metrics(present: Iterable[str]) -> list[str]:
    """Choose the metrics in the reference's summary tables, in their order."""
    listed = [metric for metric in METRICS if metric.summary is not None and metric.name in set(present)]
    return [metric.name for metric in sorted(listed, key=lambda metric: metric.summary or 0)]


def result_columns(present: Iterable[str]) -> list[str]:
    """Choose the metrics in a test's result table, in the order of its columns."""
    return [metric.name for metric in METRICS if metric.is_tabled and metric.name in set(present)]


def roc_curve(is_anomaly: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the false and the true positive rates of all thresholds, from (0, 0) to (1, 1): (n_points,) each.

    Points between two others on one line are left out. Both classes are needed. Equal to sklearn's to the last digit.
    """
    order = np.argsort(scores, kind="mergesort")[::-1]
    last = np.append(np.diff(scores[order]).nonzero()[0], len(scores) - 1)  # of the clips of equal score
    hits = np.cumsum(is_anomaly[order], dtype=float)[last]
    false_alarms = 1 + last - hits
    is_corner = np.logical_or(np.diff(false_alarms, 2), np.diff(hits, 2))
    corners = np.r_[True, is_corner, True] if len(last) > 1 else [True]
    x, y = (np.append(0.0, counts[corners]) for counts in (false_alarms, hits))
    return x / x[-1], y / y[-1]


def partial_curve(x: np.ndarray, y: np.ndarray, max_fpr: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of a ROC curve up to a false positive rate, its end interpolated."""
    stop = int(np.searchsorted(x, max_fpr, "right"))
    end = np.interp(max_fpr, x[stop - 1 : stop + 1], y[stop - 1 : stop + 1])
    return np.append(x[:stop], max_fpr), np.append(y[:stop], end)


def area_under_curve(is_anomaly: np.ndarray, scores: np.ndarray, max_fpr: float = 1.0) -> float | None:
    """Return the AUC, with `max_fpr` the standardised partial AUC (McClish, 1989); None for clips of one class.

    Equal to sklearn's roc_auc_score, by which the reference computes it, to the last digit, without its import.
    """
    if is_anomaly.all() or not is_anomaly.any():
        return None
    x, y = roc_curve(is_anomaly, scores)
    if max_fpr == 1:
        return float(np.trapezoid(y, x))
    x, y = partial_curve(x, y, max_fpr)
    chance = 0.5 * max_fpr**2
    return float(0.5 * (1 + (np.trapezoid(y, x) - chance) / (max_fpr - chance)))


def share_of_pairs(is_anomaly: np.ndarray, scores: np.ndarray) -> float | None:
    """Return the share of pairs of clips whose anomaly scores higher, ties by half: the AUC up to rounding.

    For areas unknown to the reference; None for clips of one class.
    """
    if is_anomaly.all() or not is_anomaly.any():
        return None
    normal = np.sort(scores[~is_anomaly])
    return float(np.mean([normal.searchsorted(scores[is_anomaly], side) for side in ("left", "right")]) / len(normal))


def decision_figures(is_anomaly: np.ndarray, decisions: np.ndarray | None) -> dict[str, float | None]:
    """Return precision, recall and F1 score (0 where undefined), and the numbers of COUNTS.

    Without decisions only the numbers of normal and anomalous clips are defined; without clips, only numbers are.
    """
    figures: dict[str, float | None] = dict.fromkeys((*DECISION_METRICS, *COUNTS))
    n_anomalies = int(is_anomaly.sum())
    figures |= {"normal clips": len(is_anomaly) - n_anomalies, "anomalous clips": n_anomalies}
    if decisions is None:
        return figures
    false_alarms, hits = int((decisions & ~is_anomaly).sum()), int((decisions & is_anomaly).sum())
    figures |= {"false alarms": false_alarms, "hits": hits}
    if len(is_anomaly) > 0:
        precision = hits / (hits + false_alarms) if hits + false_alarms else 0.0
        recall = hits / n_anomalies if n_anomalies else 0.0
        # the reference's form; that of sklearn's f1_score, from counts, differs in the last digit
        f1_score = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
        figures |= {"precision": precision, "recall": recall, "F1 score": f1_score}
    return figures


def without_anomalies(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return a section's metrics without precision, recall and F1 score of parts that have no anomalous clip.

    The reference's result table has 0 there.
    """
    ends = [name.removeprefix("anomalous clips") for name in values if name.startswith("anomalous clips")]
    undefined = {f"{name}{end}" for end in ends for name in DECISION_METRICS if values[f"anomalous clips{end}"] == 0}
    return {name: None if name in undefined else value for name, value in values.items()}


def lacking_clips(values: Mapping[str, float | None]) -> str:
    """Name the clips missing for some of a section's areas: `anomalous clips`, `normal clips (target)`."""
    lacking = []
    for clips in ("normal clips", "anomalous clips"):
        ends = [""] if values.get(f"{clips} (all)", values.get(clips)) == 0 else [" (source)", " (target)"]
        lacking += [f"{clips}{end}" for end in ends if not end or values.get(f"{clips}{end}") == 0]
    return " and no ".join(lacking)


def area_clips(
    is_anomaly: np.ndarray, is_target: np.ndarray | None, max_fpr: float
) -> dict[str, tuple[np.ndarray, float]]:
    """Choose each area's clips, (n_clips,) bool, and its highest false positive rate, by metric.

    With domains (`is_target` (n_clips,) bool):
        AUC (source): normal clips of the source domain against the anomalous ones of both; target likewise.
        AUC (source only), pAUC (source): the clips of the domain.
        AUC (all), pAUC: all clips.
    Without (None): AUC, pAUC over all clips.
    """
    everything = np.ones(len(is_anomaly), dtype=bool)
    if is_target is None:
        return {"AUC": (everything, 1.0), "pAUC": (everything, max_fpr)}
    clips = {"AUC (all)": (everything, 1.0), "pAUC": (everything, max_fpr)}
    for domain, chosen in zip(DOMAINS, (~is_target, is_target), strict=True):
        clips[f"AUC ({domain})"] = chosen | is_anomaly, 1.0
        clips[f"AUC ({domain} only)"] = chosen, 1.0
        clips[f"pAUC ({domain})"] = chosen, max_fpr
    return clips


def section_metrics(
    is_anomaly: np.ndarray,
    is_target: np.ndarray | None,
    scores: np.ndarray,
    decisions: np.ndarray | None,
    max_fpr: float,
) -> dict[str, float | None]:
    """Return all metrics of a section, in the order of METRICS; by domain unless `is_target` is None."""
    values: dict[str, float | None] = {}
    for name, (clips, limit) in area_clips(is_anomaly, is_target, max_fpr).items():
        anomalous, of_clips = is_anomaly[clips], scores[clips]
        is_ours = name.endswith(("all)", "only)"))  # the reference does not have it
        values[name] = share_of_pairs(anomalous, of_clips) if is_ours else area_under_curve(anomalous, of_clips, limit)
    everything = np.ones(len(is_anomaly), dtype=bool)
    parts = {"": everything}
    if is_target is not None:
        parts = {" (source)": ~is_target, " (target)": is_target, " (all)": everything}
    for end, chosen in parts.items():
        decided = decision_figures(is_anomaly[chosen], None if decisions is None else decisions[chosen])
        values |= {f"{name}{end}": value for name, value in decided.items()}
    return {metric.name: values[metric.name] for metric in METRICS if metric.name in values}


def arithmetic_mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the defined values, or None without any."""
    defined = _defined(values)
    return float(np.mean(defined)) if defined else None


def harmonic_mean(values: Iterable[float | None]) -> float | None:
    """Return the harmonic mean of max(value, float64 epsilon) over the defined values, or None without any."""
    defined = np.maximum(_defined(values), EPSILON)
    return float(1 / np.mean(1 / defined)) if len(defined) else None


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and not math.isnan(value)]
