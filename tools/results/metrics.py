"""The challenge's metrics of one section, from labels, scores and decisions.

Conventions: `is_anomaly` (n_clips,) bool, `scores` (n_clips,) higher is more anomalous, `decisions` (n_clips,) bool or
None where there is no threshold. A metric that is not defined (one class only) is None.
Source: the challenge's task description (DCASE 2023 Task 2; Dohi et al., arXiv 2305.07828) and the reference's tables.
"""

import sys

import numpy as np

DOMAINS = ("source", "target")
EPSILON = sys.float_info.epsilon


def area_under_curve(is_anomaly: np.ndarray, scores: np.ndarray, max_fpr: float | None = None) -> float | None:
    """Return the AUC, with `max_fpr` the standardised partial AUC (McClish); None where only one class is there."""
    from sklearn.metrics import roc_auc_score

    if is_anomaly.all() or not is_anomaly.any():
        return None
    return float(roc_auc_score(is_anomaly, scores, max_fpr=max_fpr))


def decision_metrics(is_anomaly: np.ndarray, decisions: np.ndarray | None) -> dict[str, float | None]:
    """Return precision, recall and F1 score of the decisions, 0 where undefined, None without decisions or clips."""
    from sklearn.metrics import precision_score, recall_score

    if decisions is None or len(is_anomaly) == 0:
        return dict.fromkeys(("precision", "recall", "F1 score"))
    precision = float(precision_score(is_anomaly, decisions, zero_division=0))
    recall = float(recall_score(is_anomaly, decisions, zero_division=0))
    # sklearn's f1_score counts, and differs from the reference's form in the last digit
    f1_score = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return {"precision": precision, "recall": recall, "F1 score": f1_score}


def section_metrics(
    is_anomaly: np.ndarray,
    is_target: np.ndarray | None,
    scores: np.ndarray,
    decisions: np.ndarray | None,
    max_fpr: float,
) -> dict[str, float | None]:
    """Return all metrics of a section by column name.

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
    for name in ("precision", "recall", "F1 score"):
        metrics |= {f"{name} ({domain})": by_domain[domain][name] for domain in DOMAINS}
    return metrics


def arithmetic_mean(values: list[float | None]) -> float | None:
    """Return the mean of the values that are defined; None where none is."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def harmonic_mean(values: list[float | None]) -> float | None:
    """Return the harmonic mean of max(value, float64 epsilon), of the values that are defined; None where none is."""
    from scipy.stats import hmean

    defined = [max(value, EPSILON) for value in values if value is not None]
    return float(hmean(defined)) if defined else None
