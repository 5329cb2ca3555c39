"""The official score: a case worked by hand, the organisers' published figures, and the bootstrap against sklearn."""

from pathlib import Path

from common import InputError

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from datasets.clips import parse_clip
from tools.results.files import SectionScores, read_clip_values, read_section
from tools.results.metrics import harmonic_mean
from tools.results.official import (
    N_RESAMPLES,
    draw_clips,
    interval,
    official_figures,
    resample_metrics,
    resample_systems,
    weighted_area,
)

# AUC (source), AUC (target) and pAUC of the seven machine types of 2023's evaluation, in percent (README)
PUBLISHED = {
    "MSE": (
        (66.67, 70.68, 69.43, 79.68, 77.00, 72.12, 88.16),
        (48.29, 55.17, 56.04, 56.10, 47.16, 64.68, 45.32),
        (50.91, 58.46, 54.92, 53.68, 51.79, 58.26, 59.47),
        59.25,
    ),
    "MAHALA": (
        (83.64, 74.09, 84.77, 81.30, 66.78, 80.12, 83.84),
        (58.86, 50.68, 63.00, 46.22, 40.90, 45.32, 90.06),
        (57.54, 59.55, 62.33, 51.42, 50.89, 53.84, 65.32),
        61.05,
    ),
}


def section(clips: list[tuple[str, str, float]]) -> SectionScores:
    """Make a section's scores from (domain, label, score) of each clip."""
    names = [f"section_00_{domain}_test_{label}_{i:04d}.wav" for i, (domain, label, _) in enumerate(clips)]
    return SectionScores([parse_clip(Path(name)) for name in names], np.array([score for *_, score in clips]), None)


def random_section(n: int, seed: int, ties: bool) -> SectionScores:
    """Make a section of n clips of each domain and label."""
    rng = np.random.default_rng(seed)
    groups = [(domain, label) for domain in ("source", "target") for label in ("normal", "anomaly") for _ in range(n)]
    scores = rng.normal(size=len(groups)) + [0.7 * (label == "anomaly") for _, label in groups]
    return section([(*group, round(score, 1) if ties else score) for group, score in zip(groups, scores, strict=True)])


def official_score(system, max_fpr, rule="2022"):
    """Return the official score of a system and its interval."""
    areas = {key: scores.metrics(max_fpr) for key, scores in system.items()}
    ((what, value),) = official_figures(areas, rule).items()
    return value, *interval(value, resample_systems({"a": system}, max_fpr, rule)["a"][what])


HAND = [("source", "normal", 1.0), ("source", "normal", 3.0), ("target", "normal", 2.0), ("target", "normal", 5.0)]
HAND += [("source", "anomaly", 4.0), ("target", "anomaly", 2.0)]


def test_a_case_worked_by_hand():
    """Source normals 1, 3; target normals 2, 5; anomalies 4 (source), 2 (target); max_fpr 0.5.

    AUC (source): pairs 4>1, 4>3, 2>1 of 4: 0.75. AUC (target): 4>2, 2=2 of 4, one half: 0.375.
    ROC over all: thresholds 5, 4, 3, 2, 1 give (fpr, tpr) (1/4, 0), (1/4, 1/2), (1/2, 1/2), (3/4, 1), (1, 1). Area up
    to fpr 1/2: 1/4 * 1/2 = 1/8, which is chance (0.5**2 / 2 = 1/8): pAUC 1/2. Score: 3 / (4/3 + 8/3 + 2) = 1/2.
    """
    system = {("fan", 0): section(HAND)}
    metrics = system["fan", 0].metrics(max_fpr=0.5)
    assert {name: metrics[name] for name in ("AUC (source)", "AUC (target)", "pAUC")} == pytest.approx(
        {"AUC (source)": 0.75, "AUC (target)": 0.375, "pAUC": 0.5}
    )
    score, low, high = official_score(system, max_fpr=0.5)
    assert score == pytest.approx(0.5)
    assert 0 <= low <= score <= high <= 1


def test_2021_scores_each_domain_separately():
    """The same clips, max_fpr 0.5.

    Source: anomaly 4 above 1 and 3: AUC 1, pAUC 1. Target: anomaly 2 ties with 2, below 5: AUC 1/4. Its curve: (1/2, 0)
    at threshold 5, (1, 1) at 2: area 0 up to 1/2, chance 1/8, pAUC (1 + (0 - 1/8) / (1/2 - 1/8)) / 2 = 1/3.
    Score: 4 / (1 + 1 + 4 + 3) = 4/9.
    """
    score, low, high = official_score({("fan", 0): section(HAND)}, max_fpr=0.5, rule="2021")
    assert score == pytest.approx(4 / 9)
    assert low <= score <= high


def test_2020_has_the_means_over_sections_and_machine_types():
    """AUC and pAUC of fan 0.6 and 0.8, of pump 0.5: means 0.7 and 0.5, so 0.6; nothing is ranked by one figure."""
    areas = {("fan", 0): 0.6, ("fan", 2): 0.8, ("pump", 0): 0.5}
    figures = official_figures({key: {"AUC": area, "pAUC": area - 0.1} for key, area in areas.items()}, "2020")
    assert figures == {"mean AUC": pytest.approx(0.6), "mean pAUC": pytest.approx(0.5)}


def test_own_machines_have_no_official_score():
    assert official_figures({("Pump", 0): {"AUC": 0.5, "pAUC": 1.0}}, "own") == {"harmonic mean": pytest.approx(2 / 3)}


@pytest.mark.parametrize("score", PUBLISHED)
def test_the_published_cells_give_the_published_score(score):
    *metrics, official = PUBLISHED[score]
    assert 100 * harmonic_mean([cell / 100 for row in metrics for cell in row]) == pytest.approx(official, abs=0.01)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("max_fpr", [0.1, 0.35, 1.0])
def test_areas_of_resamples_equal_sklearns(ties, max_fpr):
    scores = random_section(12, 3, ties)
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4, size=(len(scores.clips), 20)).astype(float)
    areas = weighted_area(scores.scores, ~scores.is_anomaly, counts, max_fpr)
    for area, weights in zip(areas, counts.T, strict=True):
        kept = weights > 0
        expected = roc_auc_score(
            scores.is_anomaly[kept], scores.scores[kept], sample_weight=weights[kept], max_fpr=max_fpr
        )
        assert area == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rule", ["2021", "2022"])
def test_resamples_are_drawn_within_each_domain_and_label(rule):
    """The mean over the resamples is near the value of the clips themselves, and each of them differs."""
    scores = random_section(100, 4, ties=False)
    counts = draw_clips(scores)
    for of_domain in (scores.is_target, ~scores.is_target):
        for of_label in (scores.is_anomaly, ~scores.is_anomaly):
            assert (counts[of_domain & of_label].sum(axis=0) == 100).all()
    columns = resample_metrics(scores, counts, 0.1, rule)
    values = scores.metrics(0.1)
    assert [len(column) for column in columns.values()] == [N_RESAMPLES] * (4 if rule == "2021" else 3)
    for name, column in columns.items():
        assert column.mean() == pytest.approx(values[name], abs=0.01)
        assert 0.005 < column.std() < 0.1


def test_the_interval_narrows_with_the_number_of_clips():
    few, many = (official_score({("fan", 0): random_section(n, 5, ties=False)}, 0.1) for n in (10, 1000))
    assert few[2] - few[1] > 5 * (many[2] - many[1])
    assert many[1] < many[0] < many[2]


def test_the_interval_does_not_depend_on_the_order_of_clips():
    scores = random_section(20, 6, ties=False)
    order = np.random.default_rng(0).permutation(len(scores.clips))
    shuffled = SectionScores([scores.clips[i] for i in order], scores.scores[order], None)
    assert official_score({("fan", 0): scores}, 0.1) == official_score({("fan", 0): shuffled}, 0.1)


@pytest.mark.parametrize(
    ("n_clips", "shift"),
    [(10, {"source": 0.8, "target": 0.4}), (25, {"source": 1.0, "target": 0.1})],
    ids=["10 clips a cell", "weak target cells"],
)
def test_the_interval_covers_the_score_of_all_clips(n_clips, shift):
    """In 120 repetitions of three machine types, the 95 % interval holds the score of infinitely many clips.

    Binomial: of 120, 95 % are 114 with a standard deviation of 2.4; at least 107 is less than three of these away.
    """
    rng = np.random.default_rng(7)

    def draw(n):
        groups = [(d, label) for d in ("source", "target") for label in ("normal", "anomaly") for _ in range(n)]
        means = [shift[domain] * (label == "anomaly") for domain, label in groups]
        return section([(*group, s) for group, s in zip(groups, rng.normal(size=len(groups)) + means, strict=True)])

    def of_clips(scores):  # each clip once
        areas = resample_metrics(scores, np.ones((len(scores.clips), 1)), 0.1, "2022")
        return {name: float(area[0]) for name, area in areas.items()}

    truth = official_figures({("fan", 0): of_clips(draw(20000))}, "2022")["official score"]
    covered = 0
    for _ in range(120):
        system = {(machine_type, 0): draw(n_clips) for machine_type in ("fan", "pump", "valve")}
        for i, scores in enumerate(system.values()):  # each machine type has its own clips
            scores.clips[:] = [parse_clip(Path(c.name.replace(".wav", f"_{i}.wav"))) for c in scores.clips]
        areas = {key: of_clips(scores) for key, scores in system.items()}
        value = official_figures(areas, "2022")["official score"]
        resamples = resample_systems({"a": system}, 0.1, "2022", n_resamples=1000)["a"]
        low, high = interval(value, resamples["official score"])
        covered += low <= truth <= high
    assert covered >= 107


def test_a_difference_is_paired():
    """Two systems of nearly the same ranks: the interval of their difference is narrower than that of either."""
    first = random_section(50, 8, ties=False)
    noise = np.random.default_rng(9).normal(size=len(first.clips)) * 0.1
    second = SectionScores(first.clips, first.scores + noise, None)
    resamples = resample_systems({"a": {("fan", 0): first}, "b": {("fan", 0): second}}, 0.1, "2022")
    single = interval(official_score({("fan", 0): first}, 0.1)[0], resamples["a"]["official score"])
    paired = interval(0.0, resamples["a"]["official score"] - resamples["b"]["official score"])
    assert paired[1] - paired[0] < (single[1] - single[0]) / 2


def test_the_limits_are_percentiles_moved_by_twice_the_bias_of_the_median():
    uniform = np.linspace(0, 1, 100_001)  # its quantiles are the probabilities
    bias, limit = norm.ppf(0.6), norm.ppf(0.975)
    expected = norm.cdf([2 * bias - limit, 2 * bias + limit])
    assert interval(0.6, uniform) == pytest.approx(tuple(expected), abs=1e-4)
    assert interval(2.0, uniform) == pytest.approx((1, 1), abs=1e-4)  # above all resamples
    tied = np.repeat([0.0, 0.5, 1.0], [200, 600, 200])  # ties count half: the median is unbiased
    assert interval(0.5, tied) == (0.0, 1.0)


def test_an_area_of_zero_counts_as_float64_epsilon():
    areas = {("fan", 0): {"AUC (source)": 0.0, "AUC (target)": 0.5, "pAUC": 0.5}}
    assert official_figures(areas, "2022") == {"official score": pytest.approx(3 * 2.0**-52, rel=1e-9, abs=0)}


def test_a_perfect_score_has_an_interval_of_zero_width():
    assert interval(1.0, np.ones(100)) == (1.0, 1.0)


def test_a_section_without_anomalies_has_no_score():
    normal = [("source", "normal", 1.0), ("target", "normal", 2.0)]
    with pytest.raises(InputError, match="fan section 00 has no AUC"):
        official_score({("fan", 0): section(normal)}, 0.1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "it is empty"),
        ("a.wav,1.0\na.wav,2.0\n", "a.wav: more than once in the file"),
        ("a.wav,1.0,3\n", "line 1: not `<clip name>,<value>`"),
        ("a.wav,nan\n", "'nan' in line 1: not a finite number"),
        ("a.wav,high\n", "'high' in line 1: not a finite number"),
    ],
)
def test_a_broken_score_file_is_reported(tmp_path, content, sentence):
    path = tmp_path / "anomaly_score_fan_section_00_test.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=sentence) as error:
        read_clip_values(path)
    assert str(path) in str(error.value)


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "anomaly_score_fan_section_00_test.csv"
    path.write_text("section_00_0000.wav,1.5\n", encoding="utf-8-sig")
    assert read_clip_values(path) == {"section_00_0000.wav": 1.5}


def test_labels_are_joined_and_decisions_read(tmp_path):
    scores, decisions = tmp_path / "scores.csv", tmp_path / "decisions.csv"
    scores.write_text("section_00_0000.wav,1.5\nsection_00_0001.wav,2.5\n")
    decisions.write_text("section_00_0001.wav,1\nsection_00_0000.wav,0\n")
    labels = {
        f"section_00_000{i}.wav": f"section_00_target_test_{label}_000{i}.wav"
        for i, label in ((0, "normal"), (1, "anomaly"))
    }
    assert not read_section([(scores, decisions)]).is_labelled
    labelled = read_section([(scores, decisions)], labels)
    assert labelled.is_labelled
    assert labelled.is_anomaly.tolist() == labelled.decisions.tolist() == [False, True]
    decisions.write_text("section_00_0001.wav,\nsection_00_0000.wav,0\n")
    assert read_section([(scores, decisions)]).decisions is None
    for wrong, sentence in (
        ("section_00_0001.wav,2\nsection_00_0000.wav,0\n", "'2' in line 1: not a decision, 0 or 1"),
        ("x.wav,1\n", "same clips"),
    ):
        decisions.write_text(wrong)
        with pytest.raises(InputError, match=sentence):
            read_section([(scores, decisions)])
