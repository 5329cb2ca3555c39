"""The official score: cases worked by hand, and the bootstrap against sklearn."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from reports import write_values
from scipy.stats import hmean, norm
from sklearn.metrics import roc_auc_score
from synthetic import succeed

from tools.results.official import N_RESAMPLES, draw_clips, interval, resample_metrics, resample_systems, weighted_area
from tools.results.reading import clip_metrics

SOURCE = {
    "section_00_source_test_normal_0000.wav": 1.0,
    "section_00_source_test_normal_0001.wav": 3.0,
    "section_00_source_test_anomaly_0000.wav": 4.0,
}
TARGET = {
    "section_00_target_test_normal_0000.wav": 2.0,
    "section_00_target_test_normal_0001.wav": 5.0,
    "section_00_target_test_anomaly_0000.wav": 2.0,
}
PLAIN = {f"normal_id_00_{i:08d}.wav": score for i, score in enumerate((1.0, 3.0, 2.0, 5.0))}
PLAIN |= {f"anomaly_id_00_{i:08d}.wav": score for i, score in enumerate((4.0, 2.0))}
PERFECT = {"normal_id_02_00000000.wav": 1.0, "anomaly_id_02_00000000.wav": 2.0}
WORST = {name: -1.0 if "anomaly" in name else score for name, score in (SOURCE | TARGET).items()}


@pytest.mark.parametrize(
    ("year", "files", "expected"),
    [
        # AUC (source): of the pairs 4>1, 4>3, 2>1, 2<3 three are in order. AUC (target): 4>2, 2=2 of 4, one half.
        # ROC over all: thresholds 5, 4, 3, 2, 1 give (fpr, tpr) (1/4, 0), (1/4, 1/2), (1/2, 1/2), (3/4, 1), (1, 1).
        # Area up to fpr 1/2: 1/4 * 1/2 = 1/8, which is chance (0.5**2 / 2 = 1/8): pAUC 1/2.
        # Score: 3 / (4/3 + 8/3 + 2).
        (
            2023,
            {"section_00_test": SOURCE | TARGET},
            {"official score": 1 / 2, "AUC (source)": 0.75, "AUC (target)": 0.375, "pAUC": 0.5},
        ),
        # no pair in order: areas of 0 count as float64 epsilon; pAUC (1 + (0 - 1/8) / (1/2 - 1/8)) / 2
        (2023, {"section_00_test": WORST}, {"official score": 3 / (2 / 2**-52 + 3), "pAUC": 1 / 3}),
        # Each domain alone. Source: anomaly 4 above 1 and 3: AUC 1, pAUC 1. Target: anomaly 2 ties with 2, below 5: AUC
        # 1/4; its curve has (1/2, 0) at threshold 5, (1, 1) at 2: pAUC 1/3. Score: 4 / (1 + 1 + 4 + 3).
        (
            2021,
            {"section_00_source_test": SOURCE, "section_00_target_test": TARGET},
            {"official score": 4 / 9, "AUC (source only)": 1, "AUC (target only)": 1 / 4, "pAUC (target)": 1 / 3},
        ),
        # the means of fan's sections, then of fan and pump: AUC 9/16 and 1, 9/16; pAUC 1/2 and 1, 1/2
        (
            2020,
            {"id_00": PLAIN, "id_02": PERFECT, "pump_id_00": PLAIN},
            {"mean AUC": (25 / 32 + 9 / 16) / 2, "mean pAUC": (3 / 4 + 1 / 2) / 2},
        ),
    ],
)
def test_cases_worked_by_hand(summarize, table, tmp_path, year, files, expected):
    for end, clips in files.items():
        machine_type = "" if "pump" in end else "fan_"
        write_values(tmp_path / f"rival/anomaly_score_{machine_type}{end}.csv", clips)
    succeed(summarize("--systems", tmp_path / "rival", "--max_fpr", 0.5, challenge=f"DCASE{year}T2"))
    row = table(challenge=f"DCASE{year}T2").loc["rival"]
    assert row[[*expected]].to_dict() == pytest.approx(expected, rel=1e-9, abs=0)
    low, high, *_ = row.filter(like="95 %")
    assert 0 <= low <= next(iter(expected.values())) + 1e-9 and row.iloc[0] <= high <= 1


def random_section(n, seed, shift=(0.7, 0.7), machine_type="fan"):
    """Draw a section's clips, n of each domain and label, the anomalies' scores higher."""
    columns = ["system", "machine type", "section", "domain", "label", "clip"]
    groups = product(["a"], [machine_type], [0], ("source", "target"), ("normal", "anomaly"), map(str, range(n)))
    clips = pd.DataFrame(groups, columns=columns)
    means = np.where(clips["domain"] == "target", shift[1], shift[0]) * (clips["label"] == "anomaly")
    scores = np.random.default_rng(seed).normal(size=len(clips)) + means
    return clips.assign(clip=clips["domain"] + clips["label"] + clips["clip"], score=scores)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("max_fpr", [0.1, 0.35, 1.0])
def test_areas_of_resamples_equal_sklearns(ties, max_fpr):
    rng = np.random.default_rng(1)
    anomalous, scores = np.arange(48) % 2 == 0, rng.normal(size=48).round(1 if ties else 9)
    counts = rng.integers(0, 4, size=(48, 20)).astype(float)
    for area, weights in zip(weighted_area(scores, ~anomalous, counts, max_fpr), counts.T, strict=True):
        kept = weights > 0
        expected = roc_auc_score(anomalous[kept], scores[kept], sample_weight=weights[kept], max_fpr=max_fpr)
        assert area == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rule", ["2021", "2022"])
def test_resamples_are_drawn_within_each_domain_and_label(rule):
    """The mean over the resamples is near the value of the clips themselves, and each of them differs."""
    clips = random_section(100, 4)
    counts = draw_clips(clips)
    for _, group in clips.groupby(["domain", "label"]):
        assert (counts[group.index].sum(axis=0) == 100).all()
    columns, values = resample_metrics(clips, counts, 0.1, rule), clip_metrics(clips.assign(decision=np.nan), 0.1)
    assert [len(column) for column in columns.values()] == [N_RESAMPLES] * (4 if rule == "2021" else 3)
    for name, column in columns.items():
        assert column.mean() == pytest.approx(values[name], abs=0.01)
        assert 0.005 < column.std() < 0.1


@pytest.mark.parametrize(
    ("n_clips", "shift"), [(10, (0.8, 0.4)), (25, (1.0, 0.1))], ids=["10 clips a cell", "weak target cells"]
)
def test_the_interval_covers_the_score_of_all_clips(n_clips, shift):
    """In 120 repetitions of three machine types, the 95 % interval holds the score of infinitely many clips.

    Binomial: of 120, 95 % are 114 with a standard deviation of 2.4; at least 107 is less than three of these away.
    """
    rng = np.random.default_rng(7)

    def score(sections):
        areas = [resample_metrics(clips, np.ones((len(clips), 1)), 0.1, "2022") for clips in sections]  # each clip once
        return hmean([area[0] for of_section in areas for area in of_section.values()])

    truth = score([random_section(20000, rng, shift)])
    covered = 0
    for _ in range(120):
        sections = [random_section(n_clips, rng, shift, name) for name in ("fan", "pump", "valve")]
        resamples = resample_systems(pd.concat(sections), 0.1, "2022", n_resamples=1000)["a"]
        low, high = interval(score(sections), resamples["official score"])
        covered += low <= truth <= high
    assert 107 <= covered < 120


def test_the_limits_are_percentiles_moved_by_twice_the_bias_of_the_median():
    uniform = np.linspace(0, 1, 100_001)  # its quantiles are the probabilities
    bias, limit = norm.ppf(0.6), norm.ppf(0.975)
    expected = norm.cdf([2 * bias - limit, 2 * bias + limit])
    assert interval(0.6, uniform) == pytest.approx(tuple(expected), abs=1e-4)
    assert interval(2.0, uniform) == pytest.approx((1, 1), abs=1e-4)  # above all resamples
    tied = np.repeat([0.0, 0.5, 1.0], [200, 600, 200])  # ties count half: the median is unbiased
    assert interval(0.5, tied) == (0.0, 1.0)
    assert interval(1.0, np.ones(100)) == (1.0, 1.0)
