"""The challenge's metrics of one section, from labels, scores and decisions; METRICS lists all of them in order.

Conventions: `is_anomaly` (n_clips,) bool, `scores` (n_clips,) higher is more anomalous, `decisions` (n_clips,) bool or
None where there is no threshold. A metric that is not defined (one class only) is None.
Source: the challenge's task description (DCASE 2023 Task 2; Dohi et al., arXiv 2305.07828) and the reference's tables.
"""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

DOMAINS = ("source", "target")
EPSILON = sys.float_info.epsilon
DECISION_METRICS = ("precision", "recall", "F1 score")
COUNTS = ("normal clips", "false alarms", "anomalous clips", "hits")


@dataclass(frozen=True)
class Metric:
    """A figure of a section, and the tables that it stands in.

    Attributes
    ----------
    kind
        `area`, `decision` (precision, recall, F1 score), or `count` (clips).
    official
        The rules (datasets/catalogue.yaml, official_score) whose official score it is part of.
    summary
        Its position in the reference's summary tables; None: it is not in them.
    """

    name: str
    kind: str
    official: tuple[str, ...] = ()
    summary: int | None = None


METRICS = (
    Metric("AUC (source)", "area", ("2022",), summary=4),
    Metric("AUC (target)", "area", ("2022",), summary=5),
    Metric("AUC", "area", ("2020",), summary=0),  # of clips without domains
    Metric("AUC (all)", "area"),
    Metric("AUC (source only)", "area", ("2021",)),
    Metric("AUC (target only)", "area", ("2021",)),
    Metric("pAUC", "area", ("2020", "2022"), summary=1),
    Metric("pAUC (source)", "area", ("2021",), summary=2),
    Metric("pAUC (target)", "area", ("2021",), summary=3),
    *(
        Metric(f"{name}{domain}", kind)
        for kind, names in (("decision", DECISION_METRICS), ("count", COUNTS))
        for name in names
        for domain in (" (source)", " (target)", " (all)", "")
    ),
)


def summary_metrics(present: Iterable[str]) -> list[str]:
    """Return those of some metrics that are in the reference's summary tables, in their order."""
    listed = [metric for metric in METRICS if metric.summary is not None and metric.name in set(present)]
    return [metric.name for metric in sorted(listed, key=lambda metric: metric.summary or 0)]


def official_metrics(rule: str) -> list[str]:
    """Return the metrics that the official score of a rule is made of."""
    return [metric.name for metric in METRICS if rule in metric.official]


def area_under_curve(is_anomaly: np.ndarray, scores: np.ndarray, max_fpr: float | None = None) -> float | None:
    """Return the AUC, with `max_fpr` the standardised partial AUC (McClish); None where only one class is there."""
    from sklearn.metrics import roc_auc_score

    if is_anomaly.all() or not is_anomaly.any():
        return None
    return float(roc_auc_score(is_anomaly, scores, max_fpr=max_fpr))


def decision_counts(is_anomaly: np.ndarray, decisions: np.ndarray | None) -> dict[str, int | None]:
    """Return the numbers of COUNTS; false alarms and hits are None without decisions."""
    n_anomalies = int(is_anomaly.sum())
    false_alarms = None if decisions is None else int((decisions & ~is_anomaly).sum())
    hits = None if decisions is None else int((decisions & is_anomaly).sum())
    return dict(zip(COUNTS, (len(is_anomaly) - n_anomalies, false_alarms, n_anomalies, hits), strict=True))


def decision_metrics(is_anomaly: np.ndarray, decisions: np.ndarray | None) -> dict[str, float | None]:
    """Return precision, recall and F1 score of the decisions, 0 where undefined, None without decisions or clips."""
    if decisions is None or len(is_anomaly) == 0:
        return dict.fromkeys(DECISION_METRICS)
    _, false_alarms, n_anomalies, hits = decision_counts(is_anomaly, decisions).values()
    precision = hits / (hits + false_alarms) if hits + false_alarms else 0.0  # type: ignore[operator]
    recall = hits / n_anomalies if n_anomalies else 0.0  # type: ignore[operator]
    # the reference's form; that of sklearn's f1_score, from counts, differs in the last digit
    f1_score = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return dict(zip(DECISION_METRICS, (precision, recall, f1_score), strict=True))


def section_metrics(
    is_anomaly: np.ndarray,
    is_target: np.ndarray | None,
    scores: np.ndarray,
    decisions: np.ndarray | None,
    max_fpr: float,
) -> dict[str, float | None]:
    """Return the metrics of a section that its result table holds, in the order of the table's columns.

    With domains (`is_target` (n_clips,) bool):
        AUC (source): normal clips of the source domain against the anomalous ones of both; target likewise.
        pAUC: all clips. pAUC, precision, recall, F1 score (source): the clips of the domain.
    Without (None): AUC, pAUC, precision, recall, F1 score over all clips.
    """
    if is_target is None:
        return {
            "AUC": area_under_curve(is_anomaly, scores),
            "pAUC": area_under_curve(is_anomaly, scores, max_fpr),
            **decision_metrics(is_anomaly, decisions),
        }
    of_domain = {"source": ~is_target, "target": is_target}
    metrics = {}
    for domain in DOMAINS:
        chosen = of_domain[domain] | is_anomaly
        metrics[f"AUC ({domain})"] = area_under_curve(is_anomaly[chosen], scores[chosen])
    metrics["pAUC"] = area_under_curve(is_anomaly, scores, max_fpr)
    for domain in DOMAINS:
        chosen = of_domain[domain]
        metrics[f"pAUC ({domain})"] = area_under_curve(is_anomaly[chosen], scores[chosen], max_fpr)
    by_domain = {
        domain: decision_metrics(is_anomaly[chosen], None if decisions is None else decisions[chosen])
        for domain, chosen in of_domain.items()
    }
    for name in DECISION_METRICS:
        metrics |= {f"{name} ({domain})": by_domain[domain][name] for domain in DOMAINS}
    return metrics


def further_metrics(
    is_anomaly: np.ndarray, is_target: np.ndarray | None, scores: np.ndarray, decisions: np.ndarray | None
) -> dict[str, float | None]:
    """Return the metrics of a section that are not in its result table.

    AUC (all): all clips. AUC (source only): normal and anomalous clips of the source domain. Precision, recall and
    F1 score (all): the decisions on all clips. COUNTS: by domain and over all.
    """
    if is_target is None:
        return dict(decision_counts(is_anomaly, decisions))
    everything = np.ones(len(is_anomaly), dtype=bool)
    chosen_clips = {"source": ~is_target, "target": is_target, "all": everything}
    metrics: dict[str, float | None] = {}
    for domain, chosen in chosen_clips.items():
        name = "AUC (all)" if domain == "all" else f"AUC ({domain} only)"
        metrics[name] = area_under_curve(is_anomaly[chosen], scores[chosen])
        counts = decision_counts(is_anomaly[chosen], None if decisions is None else decisions[chosen])
        metrics |= {f"{count} ({domain})": value for count, value in counts.items()}
    metrics |= {f"{name} (all)": value for name, value in decision_metrics(is_anomaly, decisions).items()}
    return metrics


def arithmetic_mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are defined; None where none is."""
    defined = _defined(values)
    return float(np.mean(defined)) if defined else None


def harmonic_mean(values: Iterable[float | None]) -> float | None:
    """Return the harmonic mean of max(value, float64 epsilon), of the values that are defined; None where none is."""
    from scipy.stats import hmean

    defined = [max(value, EPSILON) for value in _defined(values)]
    return float(hmean(defined)) if defined else None


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and not math.isnan(value)]
