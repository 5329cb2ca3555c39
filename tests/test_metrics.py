"""Metrics by hand, and against sklearn."""

import numpy as np
import pytest
from scipy.stats import hmean
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from tools.results.metrics import (
    METRICS,
    arithmetic_mean,
    harmonic_mean,
    result_columns,
    section_metrics,
    summary_metrics,
)

IS_ANOMALY = np.array([False, False, False, False, True, True])
IS_TARGET = np.array([False, False, True, True, False, True])
SCORES = np.array([1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
DECISIONS = SCORES > 3.5  # clips 2, 4 and 6

WITH_DOMAINS = {
    # source normals 1, 4 against anomalies 3, 6: three of four pairs are in order; target normals 2, 5: three of four
    "AUC (source)": 0.75,
    "AUC (target)": 0.75,
    # anomalies 3, 6 against normals 1, 4, 2, 5: 3 above two, 6 above four
    "AUC (all)": 0.75,
    # source clips alone: 3 against 1 and 4; target clips alone: 6 against 2 and 5
    "AUC (source only)": 0.5,
    "AUC (target only)": 1.0,
    # all clips: up to a rate of 0.5 one of two anomalies is found: area 0.25, standardised (McClish)
    # 0.5 * (1 + (0.25 - 0.125) / (0.5 - 0.125)) = 2/3
    "pAUC": 2 / 3,
    # source: up to 0.5 nothing is found: area 0, standardised 1/3; target: 6 is above both: 1
    "pAUC (source)": 1 / 3,
    "pAUC (target)": 1.0,
    # source: one decision (4), wrong; target: 5 and 6, one right; all: one of three is right, one of two is found
    "precision (source)": 0.0,
    "precision (target)": 0.5,
    "precision (all)": 1 / 3,
    "recall (source)": 0.0,
    "recall (target)": 1.0,
    "recall (all)": 0.5,
    "F1 score (source)": 0.0,
    "F1 score (target)": 2 / 3,
    "F1 score (all)": 0.4,
    **{"normal clips (source)": 2, "normal clips (target)": 2, "normal clips (all)": 4},
    **{"false alarms (source)": 1, "false alarms (target)": 1, "false alarms (all)": 2},
    **{"anomalous clips (source)": 1, "anomalous clips (target)": 1, "anomalous clips (all)": 2},
    **{"hits (source)": 0, "hits (target)": 1, "hits (all)": 1},
}
PLAIN = {"AUC": 0.75, "pAUC": 2 / 3, "precision": 1 / 3, "recall": 0.5, "F1 score": 0.4}
PLAIN |= {"normal clips": 4, "false alarms": 2, "anomalous clips": 2, "hits": 1}


def test_metrics_by_hand():
    metrics = section_metrics(IS_ANOMALY, IS_TARGET, SCORES, DECISIONS, max_fpr=0.5)
    plain = section_metrics(IS_ANOMALY, None, SCORES, DECISIONS, max_fpr=0.5)
    assert metrics == pytest.approx(WITH_DOMAINS) and plain == pytest.approx(PLAIN)
    assert sorted(metric.name for metric in METRICS) == sorted({*metrics, *plain})
    assert result_columns(metrics) == (
        "AUC (source),AUC (target),pAUC,pAUC (source),pAUC (target),precision (source),precision (target),"
        "recall (source),recall (target),F1 score (source),F1 score (target)"
    ).split(",")
    assert result_columns(plain) == ["AUC", "pAUC", "precision", "recall", "F1 score"]
    assert summary_metrics(metrics) == ["pAUC", "pAUC (source)", "pAUC (target)", "AUC (source)", "AUC (target)"]
    assert summary_metrics(plain) == ["AUC", "pAUC"]


UNDEFINED = dict.fromkeys(("AUC (source)", "AUC (target)", "AUC (all)", "pAUC", "pAUC (target)"))


@pytest.mark.parametrize(
    ("is_anomaly", "is_target", "decisions", "expected"),
    [
        (np.full(6, False), IS_TARGET, DECISIONS, UNDEFINED | {"recall (source)": 0.0}),
        (np.full(6, True), IS_TARGET, DECISIONS, UNDEFINED | {"recall (source)": 1 / 3}),  # one of three clips
        (IS_ANOMALY, np.full(6, False), DECISIONS, dict.fromkeys(("AUC (target only)", "pAUC (target)"))),
        (IS_ANOMALY, np.full(6, False), DECISIONS, {"precision (target)": None, "F1 score (target)": None}),
        (IS_ANOMALY, np.full(6, False), DECISIONS, {"normal clips (target)": 0, "hits (target)": 0}),
        (IS_ANOMALY, None, SCORES > 9, {"precision": 0, "recall": 0, "F1 score": 0}),
        (IS_ANOMALY, None, None, PLAIN | dict.fromkeys(("precision", "recall", "F1 score", "false alarms", "hits"))),
    ],
)
def test_metrics_without_one_class_a_domain_alarms_or_a_threshold(is_anomaly, is_target, decisions, expected):
    metrics = section_metrics(is_anomaly, is_target, SCORES, decisions, max_fpr=0.5)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


# AUC (source), AUC (target) and pAUC of the seven machine types of 2023's evaluation, and the official score, in
# percent: MSE, MAHALA (README)
PUBLISHED = {
    59.25: "66.67 70.68 69.43 79.68 77.00 72.12 88.16 48.29 55.17 56.04 56.10 47.16 64.68 45.32 "
    "50.91 58.46 54.92 53.68 51.79 58.26 59.47",
    61.05: "83.64 74.09 84.77 81.30 66.78 80.12 83.84 58.86 50.68 63.00 46.22 40.90 45.32 90.06 "
    "57.54 59.55 62.33 51.42 50.89 53.84 65.32",
}


def test_means():
    assert arithmetic_mean([0.5, None, float("nan"), 1.0]) == 0.75
    assert harmonic_mean([0.5, None, float("nan"), 1.0]) == pytest.approx(2 / 3)
    areas = np.random.default_rng(0).random(105).tolist()
    assert harmonic_mean(areas) == hmean(areas)
    assert harmonic_mean([0.0]) == harmonic_mean([0.0, None]) == 2.0**-52
    assert arithmetic_mean([None]) is harmonic_mean([]) is None
    for official, areas in PUBLISHED.items():
        assert harmonic_mean(map(float, areas.split())) == pytest.approx(official, abs=0.01)


def test_metrics_are_sklearns_to_the_last_digit():
    rng = np.random.default_rng(1)
    for step in (1e-9, 0.1, 1, 4):  # of equal scores, from none to nearly all
        for n in rng.integers(8, 300, 30):
            is_anomaly, scores = np.arange(n) < rng.integers(1, n), np.round(rng.normal(size=n) / step) * step
            decisions = scores > rng.normal()
            for max_fpr in (0.1, rng.random(), 1.0):
                metrics = section_metrics(is_anomaly, None, scores, decisions, max_fpr)
                assert metrics["pAUC"] == roc_auc_score(is_anomaly, scores, max_fpr=max_fpr)
            assert metrics["AUC"] == metrics["pAUC"]
            assert metrics["precision"] == precision_score(is_anomaly, decisions, zero_division=0)
            assert metrics["recall"] == recall_score(is_anomaly, decisions, zero_division=0)
            by_domain = section_metrics(is_anomaly, np.arange(n) % 2 == 0, scores, None, 0.1)
            assert by_domain["AUC (all)"] == pytest.approx(metrics["AUC"], abs=1e-14)
