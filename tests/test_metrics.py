"""Metrics by hand: four clips, every column."""

import numpy as np
import pytest
import sklearn.metrics
from scipy.stats import hmean
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from tools.results.metrics import (
    METRICS,
    area_under_curve,
    arithmetic_mean,
    decision_figures,
    harmonic_mean,
    result_columns,
    roc_curve,
    section_metrics,
    share_of_pairs,
    summary_metrics,
)

IS_ANOMALY = np.array([False, False, False, False, True, True])
IS_TARGET = np.array([False, False, True, True, False, True])
SCORES = np.array([1.0, 4.0, 2.0, 5.0, 3.0, 6.0])
DECISIONS = SCORES > 3.5  # clips 2, 4 and 6


def test_metrics_with_domains():
    metrics = section_metrics(IS_ANOMALY, IS_TARGET, SCORES, DECISIONS, max_fpr=0.5)
    assert result_columns(metrics) == (
        "AUC (source),AUC (target),pAUC,pAUC (source),pAUC (target),precision (source),precision (target),"
        "recall (source),recall (target),F1 score (source),F1 score (target)"
    ).split(",")
    # source normals 1, 4 against anomalies 3, 6: three of four pairs are in order; target normals 2, 5: three of four
    assert metrics["AUC (source)"] == 0.75
    assert metrics["AUC (target)"] == 0.75
    # source clips: 1 and 4 normal, 3 anomalous: at a false positive rate up to 0.5 nothing is found: area 0,
    # standardised (McClish) 0.5 * (1 + (0 - 0.125) / (0.5 - 0.125)) = 1/3; target: 6 is above both: 1
    assert metrics["pAUC (source)"] == pytest.approx(1 / 3)
    assert metrics["pAUC (target)"] == 1.0
    # all clips: up to a rate of 0.5 one of two anomalies is found: area 0.25, standardised 2/3
    assert metrics["pAUC"] == pytest.approx(0.5 * (1 + (0.25 - 0.125) / (0.5 - 0.125)))
    # source: one decision (4), wrong; target: 5 and 6, one right
    assert (metrics["precision (source)"], metrics["recall (source)"], metrics["F1 score (source)"]) == (0, 0, 0)
    assert metrics["precision (target)"] == 0.5
    assert metrics["recall (target)"] == 1.0
    assert metrics["F1 score (target)"] == pytest.approx(2 / 3)


def test_metrics_without_domains_or_threshold():
    metrics = section_metrics(IS_ANOMALY, None, SCORES, None, max_fpr=0.5)
    assert result_columns(metrics) == ["AUC", "pAUC", "precision", "recall", "F1 score"]
    assert metrics["AUC"] == 0.75
    assert metrics["precision"] is metrics["recall"] is metrics["F1 score"] is None


@pytest.mark.parametrize(("is_anomaly", "recall"), [(False, 0.0), (True, 1 / 3)])
def test_a_single_class_leaves_the_areas_undefined(is_anomaly, recall):
    metrics = section_metrics(np.full(6, is_anomaly), IS_TARGET, SCORES, DECISIONS, max_fpr=0.1)
    assert all(value is None for name, value in metrics.items() if "AUC" in name)
    assert metrics["recall (source)"] == recall  # one decision for three clips


def test_a_domain_without_clips_has_counts_of_0_and_no_metrics():
    metrics = section_metrics(IS_ANOMALY, np.zeros(6, dtype=bool), SCORES, DECISIONS, max_fpr=0.5)
    assert metrics["precision (target)"] is metrics["recall (target)"] is metrics["F1 score (target)"] is None
    assert metrics["AUC (target only)"] is metrics["pAUC (target)"] is None
    assert (metrics["normal clips (target)"], metrics["hits (target)"]) == (0, 0)


def test_without_any_alarm_precision_recall_and_f1_are_0():
    metrics = section_metrics(IS_ANOMALY, None, SCORES, SCORES > 9, max_fpr=0.1)
    assert (metrics["precision"], metrics["recall"], metrics["F1 score"]) == (0, 0, 0)


def test_means():
    assert arithmetic_mean([0.5, None, float("nan"), 1.0]) == 0.75
    assert harmonic_mean([0.5, None, float("nan"), 1.0]) == pytest.approx(2 / 3)
    areas = np.random.default_rng(0).random(105).tolist()
    assert harmonic_mean(areas) == hmean(areas)
    assert harmonic_mean([0.0]) == harmonic_mean([0.0, None]) == 2.0**-52
    assert arithmetic_mean([None]) is harmonic_mean([]) is None


def test_metrics_beyond_the_result_table():
    metrics = section_metrics(IS_ANOMALY, IS_TARGET, SCORES, DECISIONS, max_fpr=0.5)
    # anomalies 3, 6 against normals 1, 4, 2, 5: 3 above two, 6 above four
    assert metrics["AUC (all)"] == 0.75
    # source clips alone: 3 against 1 and 4; target clips alone: 6 against 2 and 5
    assert (metrics["AUC (source only)"], metrics["AUC (target only)"]) == (0.5, 1.0)
    # decisions 4, 5, 6: one of three is right, one of two anomalies is found
    assert metrics["precision (all)"] == pytest.approx(1 / 3)
    assert (metrics["recall (all)"], metrics["F1 score (all)"]) == (0.5, pytest.approx(0.4))
    assert (metrics["false alarms (source)"], metrics["normal clips (source)"]) == (1, 2)
    assert (metrics["hits (target)"], metrics["anomalous clips (target)"]) == (1, 1)


def test_areas_are_sklearns_to_the_last_digit():
    rng = np.random.default_rng(1)
    for step in (0, 1, 0.1, 4):  # of equal scores; 0: none, 4: nearly all
        for n in rng.integers(8, 300, 50):
            is_anomaly, scores = np.arange(n) < rng.integers(1, n), rng.normal(size=n)
            scores = np.round(scores / step) * step if step else scores
            for max_fpr in (0.1, rng.random(), 1.0):
                area = area_under_curve(is_anomaly, scores, max_fpr)
                assert area == roc_auc_score(is_anomaly, scores, max_fpr=max_fpr)
            assert share_of_pairs(is_anomaly, scores) == pytest.approx(area, abs=1e-14)
            x, y, _ = sklearn.metrics.roc_curve(is_anomaly, scores)
            assert all(map(np.array_equal, roc_curve(is_anomaly, scores), (x, y)))
    assert share_of_pairs(np.zeros(3, dtype=bool), np.ones(3)) is None


def test_counts_need_decisions():
    assert decision_figures(IS_ANOMALY, None) == {
        "precision": None,
        "recall": None,
        "F1 score": None,
        "normal clips": 4,
        "false alarms": None,
        "anomalous clips": 2,
        "hits": None,
    }


def test_precision_and_recall_are_sklearns():
    rng = np.random.default_rng(0)
    for _ in range(50):
        is_anomaly, decisions = rng.random((2, 37)) < rng.random()
        metrics = section_metrics(is_anomaly, None, rng.random(37), decisions, 0.1)
        assert metrics["precision"] == precision_score(is_anomaly, decisions, zero_division=0)
        assert metrics["recall"] == recall_score(is_anomaly, decisions, zero_division=0)


def test_every_metric_is_listed_once():
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    with_domains = section_metrics(IS_ANOMALY, IS_TARGET, SCORES, DECISIONS, 0.5)
    plain = section_metrics(IS_ANOMALY, None, SCORES, DECISIONS, 0.5)
    assert {*with_domains, *plain} == set(names)
    assert summary_metrics(with_domains) == ["pAUC", "pAUC (source)", "pAUC (target)", "AUC (source)", "AUC (target)"]
    assert summary_metrics(plain) == ["AUC", "pAUC"]
