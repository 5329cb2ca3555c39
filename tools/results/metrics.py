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


@dataclass(frozen=True)
class Metric:
    """A figure of a section, and the tables that have it."""

    name: str
    kind: str  # `area`, `decision` (precision, recall, F1 score), or `count` (clips)
    # the rules (datasets/catalogue.yaml, official_score) whose official score it is part of
    official: tuple[str, ...] = ()
    summary: int | None = None  # its position in the reference's summary tables; None: not in them
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


def summary_metrics(present: Iterable[str]) -> list[str]:
    """Return which of these metrics the reference's summary tables have, in their order."""
    listed = [metric for metric in METRICS if metric.summary is not None and metric.name in set(present)]
    return [metric.name for metric in sorted(listed, key=lambda metric: metric.summary or 0)]


def result_columns(present: Iterable[str]) -> list[str]:
    """Return which of these metrics a test's result table has, in the order of its columns."""
    return [metric.name for metric in METRICS if metric.is_tabled and metric.name in set(present)]


def official_metrics(rule: str) -> list[str]:
    """Return the metrics that make up a rule's official score."""
    return [metric.name for metric in METRICS if rule in metric.official]


def area_under_curve(is_anomaly: np.ndarray, scores: np.ndarray, max_fpr: float = 1.0) -> float | None:
    """Return the AUC, with `max_fpr` the standardised partial AUC (McClish); None for clips of one class.

    By sklearn, as in the reference, and equal to the last digit.
    """
    from sklearn.metrics import roc_auc_score  # a second, which training need not spend

    if is_anomaly.all() or not is_anomaly.any():
        return None
    return float(roc_auc_score(is_anomaly, scores, max_fpr=max_fpr))


def quick_area(is_anomaly: np.ndarray, scores: np.ndarray) -> float | None:
    """Return the AUC in a hundredth of area_under_curve()'s time; the last digit may differ."""
    normal = np.sort(scores[~is_anomaly])
    if is_anomaly.all() or not is_anomaly.any():
        return None
    below = [np.searchsorted(normal, scores[is_anomaly], side) for side in ("left", "right")]  # ties count half
    return float(np.mean(below) / len(normal))


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
    ends = [metric.name.removeprefix("anomalous clips") for metric in METRICS if metric.name.startswith("anomalous")]
    undefined = {
        f"{name}{end}" for end in ends for name in DECISION_METRICS if values.get(f"anomalous clips{end}") == 0
    }
    return {name: None if name in undefined else value for name, value in values.items()}


def lacking_clips(values: Mapping[str, float | None]) -> str:
    """Return which clips a section lacks for some of its areas: `anomalous clips`, `normal clips (target)`."""
    lacking = []
    for what in ("normal clips", "anomalous clips"):
        ends = [""] if values.get(f"{what} (all)", values.get(what)) == 0 else [" (source)", " (target)"]
        lacking += [f"{what}{end}" for end in ends if not end or values.get(f"{what}{end}") == 0]
    return " and no ".join(lacking)


def section_metrics(
    is_anomaly: np.ndarray,
    is_target: np.ndarray | None,
    scores: np.ndarray,
    decisions: np.ndarray | None,
    max_fpr: float,
) -> dict[str, float | None]:
    """Return all metrics of a section, in the order of METRICS.

    With domains (`is_target` (n_clips,) bool):
        AUC (source): normal clips of the source domain against the anomalous ones of both; target likewise.
        AUC (source only), pAUC (source), decisions and counts (source): the clips of the domain.
        AUC (all), pAUC, decisions and counts (all): all clips.
    Without (None): AUC, pAUC, decisions and counts over all clips.
    """
    everything = np.ones(len(is_anomaly), dtype=bool)
    found = {"pAUC": area_under_curve(is_anomaly, scores, max_fpr)}
    if is_target is None:
        parts = {"": everything}
        found["AUC"] = area_under_curve(is_anomaly, scores)
    else:
        parts = {" (source)": ~is_target, " (target)": is_target, " (all)": everything}
        for domain, chosen in (("source", ~is_target), ("target", is_target)):
            against_all = chosen | is_anomaly
            found[f"AUC ({domain})"] = area_under_curve(is_anomaly[against_all], scores[against_all])
            found[f"AUC ({domain} only)"] = quick_area(is_anomaly[chosen], scores[chosen])
            found[f"pAUC ({domain})"] = area_under_curve(is_anomaly[chosen], scores[chosen], max_fpr)
        found["AUC (all)"] = quick_area(is_anomaly, scores)
    for end, chosen in parts.items():
        decided = decision_figures(is_anomaly[chosen], None if decisions is None else decisions[chosen])
        found |= {f"{name}{end}": value for name, value in decided.items()}
    return {metric.name: found[metric.name] for metric in METRICS if metric.name in found}


def arithmetic_mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the defined values; None if none is."""
    defined = _defined(values)
    return float(np.mean(defined)) if defined else None


def harmonic_mean(values: Iterable[float | None]) -> float | None:
    """Return the harmonic mean of max(value, float64 epsilon) over the defined values; None if none is."""
    from scipy.stats import hmean  # half a second, which training need not spend

    defined = [max(value, EPSILON) for value in _defined(values)]
    return float(hmean(defined)) if defined else None


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and not math.isnan(value)]
