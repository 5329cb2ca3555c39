"""The official score: a case worked by hand, the organisers' published figures, and the bootstrap against sklearn."""

from common import InputError

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from datasets.catalogue import load_challenge
from tools.results.clips import clips_table, decisions_of, is_anomaly, is_target, read_other_systems
from tools.results.files import read_clip_values
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
from tools.results.reading import clip_metrics

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


def section(clips, machine_type="fan", system="a"):
    """Make a section's table of clips from (domain, label, score) of each."""
    return clips_table(
        (system, 1, machine_type, 0, f"section_00_{domain}_{i:04d}_{machine_type}.wav", domain, label, score, np.nan)
        for i, (domain, label, score) in enumerate(clips)
    )


def random_clips(n, seed, shift=(0.7, 0.7)):
    """Draw n clips of each domain and label, the anomalies' scores higher."""
    rng = np.random.default_rng(seed)
    groups = [(domain, label) for domain in ("source", "target") for label in ("normal", "anomaly") for _ in range(n)]
    means = [shift[domain == "target"] * (label == "anomaly") for domain, label in groups]
    return [(*group, score) for group, score in zip(groups, rng.normal(size=len(groups)) + means, strict=True)]


def figures_of(areas):
    """Make a system's figures from the metrics of each section."""
    index = pd.MultiIndex.from_tuples(areas, names=["machine type", "section"])
    return pd.DataFrame(list(areas.values()), index=index, dtype=float)


def official_score(clips, max_fpr, rule="2022"):
    """Return the official score of a system of one section, and its interval."""
    ((name, value),) = official_figures(figures_of({("fan", 0): clip_metrics(clips, max_fpr)}), rule).items()
    return value, *interval(value, resample_systems(clips, max_fpr, rule)["a"][name])


HAND = [("source", "normal", 1.0), ("source", "normal", 3.0), ("target", "normal", 2.0), ("target", "normal", 5.0)]
HAND += [("source", "anomaly", 4.0), ("target", "anomaly", 2.0)]


def test_a_case_worked_by_hand():
    """Source normals 1, 3; target normals 2, 5; anomalies 4 (source), 2 (target); max_fpr 0.5.

    AUC (source): pairs 4>1, 4>3, 2>1 of 4: 0.75. AUC (target): 4>2, 2=2 of 4, one half: 0.375.
    ROC over all: thresholds 5, 4, 3, 2, 1 give (fpr, tpr) (1/4, 0), (1/4, 1/2), (1/2, 1/2), (3/4, 1), (1, 1). Area up
    to fpr 1/2: 1/4 * 1/2 = 1/8, which is chance (0.5**2 / 2 = 1/8): pAUC 1/2. Score: 3 / (4/3 + 8/3 + 2) = 1/2.
    """
    metrics = clip_metrics(section(HAND), max_fpr=0.5)
    assert [metrics[name] for name in ("AUC (source)", "AUC (target)", "pAUC")] == pytest.approx([0.75, 0.375, 0.5])
    score, low, high = official_score(section(HAND), max_fpr=0.5)
    assert score == pytest.approx(0.5)
    assert 0 <= low <= score <= high <= 1


def test_2021_scores_each_domain_separately():
    """The same clips, max_fpr 0.5.

    Source: anomaly 4 above 1 and 3: AUC 1, pAUC 1. Target: anomaly 2 ties with 2, below 5: AUC 1/4. Its curve: (1/2, 0)
    at threshold 5, (1, 1) at 2: area 0 up to 1/2, chance 1/8, pAUC (1 + (0 - 1/8) / (1/2 - 1/8)) / 2 = 1/3.
    Score: 4 / (1 + 1 + 4 + 3) = 4/9.
    """
    score, low, high = official_score(section(HAND), max_fpr=0.5, rule="2021")
    assert score == pytest.approx(4 / 9)
    assert low <= score <= high


def test_the_scores_of_other_years_and_of_own_machines():
    """AUC and pAUC of fan 0.6 and 0.8, of pump 0.5: means 0.7 and 0.5, so 0.6; nothing is ranked by one figure."""
    areas = {("fan", 0): 0.6, ("fan", 2): 0.8, ("pump", 0): 0.5}
    figures = figures_of({key: {"AUC": area, "pAUC": area - 0.1} for key, area in areas.items()})
    assert official_figures(figures, "2020") == {"mean AUC": pytest.approx(0.6), "mean pAUC": pytest.approx(0.5)}
    own = figures_of({("Pump", 0): {"AUC": 0.5, "pAUC": 1.0}})
    assert official_figures(own, "own") == {"harmonic mean": pytest.approx(2 / 3)}
    zero = figures_of({("fan", 0): {"AUC (source)": 0.0, "AUC (target)": 0.5, "pAUC": 0.5}})  # float64 epsilon
    assert official_figures(zero, "2022") == {"official score": pytest.approx(3 * 2.0**-52, rel=1e-9, abs=0)}
    for *metrics, official in PUBLISHED.values():
        assert 100 * harmonic_mean([cell / 100 for row in metrics for cell in row]) == pytest.approx(official, abs=0.01)
    with pytest.raises(InputError, match=r"fan section 00 has no AUC .* there are no anomalous clips"):
        official_score(section([("source", "normal", 1.0), ("target", "normal", 2.0)]), 0.1)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("max_fpr", [0.1, 0.35, 1.0])
def test_areas_of_resamples_equal_sklearns(ties, max_fpr):
    clips = section(random_clips(12, 3))
    scores, anomalous = clips["score"].round(1 if ties else 9).to_numpy(), is_anomaly(clips)
    counts = np.random.default_rng(1).integers(0, 4, size=(len(clips), 20)).astype(float)
    for area, weights in zip(weighted_area(scores, ~anomalous, counts, max_fpr), counts.T, strict=True):
        kept = weights > 0
        expected = roc_auc_score(anomalous[kept], scores[kept], sample_weight=weights[kept], max_fpr=max_fpr)
        assert area == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rule", ["2021", "2022"])
def test_resamples_are_drawn_within_each_domain_and_label(rule):
    """The mean over the resamples is near the value of the clips themselves, and each of them differs."""
    clips = section(random_clips(100, 4))
    counts = draw_clips(clips)
    for of_domain in (is_target(clips), ~is_target(clips)):
        for of_label in (is_anomaly(clips), ~is_anomaly(clips)):
            assert (counts[of_domain & of_label].sum(axis=0) == 100).all()
    columns, values = resample_metrics(clips, counts, 0.1, rule), clip_metrics(clips, 0.1)
    assert [len(column) for column in columns.values()] == [N_RESAMPLES] * (4 if rule == "2021" else 3)
    for name, column in columns.items():
        assert column.mean() == pytest.approx(values[name], abs=0.01)
        assert 0.005 < column.std() < 0.1


def test_intervals_narrow_with_the_clips_do_not_depend_on_their_order_and_are_paired():
    few, many = (official_score(section(random_clips(n, 5)), 0.1) for n in (10, 1000))
    assert few[2] - few[1] > 5 * (many[2] - many[1])
    assert many[1] < many[0] < many[2]
    first = section(random_clips(50, 8))
    assert official_score(first, 0.1) == official_score(first.sample(frac=1, random_state=0), 0.1)
    noise = np.random.default_rng(9).normal(size=len(first)) * 0.1
    second = first.assign(system="b", score=first["score"] + noise)  # nearly the same ranks
    resamples = resample_systems(pd.concat([first, second]), 0.1, "2022")
    single = interval(official_score(first, 0.1)[0], resamples["a"]["official score"])
    paired = interval(0.0, resamples["a"]["official score"] - resamples["b"]["official score"])
    assert paired[1] - paired[0] < (single[1] - single[0]) / 2


@pytest.mark.parametrize(
    ("n_clips", "shift"), [(10, (0.8, 0.4)), (25, (1.0, 0.1))], ids=["10 clips a cell", "weak target cells"]
)
def test_the_interval_covers_the_score_of_all_clips(n_clips, shift):
    """In 120 repetitions of three machine types, the 95 % interval holds the score of infinitely many clips.

    Binomial: of 120, 95 % are 114 with a standard deviation of 2.4; at least 107 is less than three of these away.
    """
    rng = np.random.default_rng(7)

    def of_clips(clips):  # each clip once
        areas = resample_metrics(clips, np.ones((len(clips), 1)), 0.1, "2022")
        return {name: float(area[0]) for name, area in areas.items()}

    def score(sections):
        areas = {(machine_type, 0): of_clips(clips) for machine_type, clips in sections.items()}
        return official_figures(figures_of(areas), "2022")["official score"]

    truth = score({"fan": section(random_clips(20000, rng, shift))})
    covered = 0
    for _ in range(120):
        sections = {name: section(random_clips(n_clips, rng, shift), name) for name in ("fan", "pump", "valve")}
        resamples = resample_systems(pd.concat(sections.values()), 0.1, "2022", n_resamples=1000)["a"]
        low, high = interval(score(sections), resamples["official score"])
        covered += low <= truth <= high
    assert covered >= 107


def test_the_limits_are_percentiles_moved_by_twice_the_bias_of_the_median():
    uniform = np.linspace(0, 1, 100_001)  # its quantiles are the probabilities
    bias, limit = norm.ppf(0.6), norm.ppf(0.975)
    expected = norm.cdf([2 * bias - limit, 2 * bias + limit])
    assert interval(0.6, uniform) == pytest.approx(tuple(expected), abs=1e-4)
    assert interval(2.0, uniform) == pytest.approx((1, 1), abs=1e-4)  # above all resamples
    tied = np.repeat([0.0, 0.5, 1.0], [200, 600, 200])  # ties count half: the median is unbiased
    assert interval(0.5, tied) == (0.0, 1.0)
    assert interval(1.0, np.ones(100)) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("content", "is_decision", "sentence"),
    [
        ("", False, "it is empty"),
        ("a.wav,1.0\na.wav,2.0\n", False, "a.wav: more than once in the file"),
        ("a.wav,1.0,3\n", False, "line 1: not `<clip name>,<value>`"),
        ("a.wav,nan\n", False, "'nan' in line 1: not a finite number"),
        ("a.wav,high\n", False, "'high' in line 1: not a finite number"),
        ("a.wav,2\n", True, "'2' in line 1: not a decision, 0 or 1"),
    ],
)
def test_a_broken_score_file_is_reported(tmp_path, content, is_decision, sentence):
    path = tmp_path / "anomaly_score_fan_section_00_test.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=sentence) as error:
        read_clip_values(path, is_decision)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("decisions", "outcome"),
    [
        ("{1},1\n{0},0\n", [False, True]),
        ("{1},\n{0},0\n", None),
        ("x.wav,1\n", "are not of the same clips; test again"),
    ],
)
def test_decisions_are_those_of_the_clips(tmp_path, decisions, outcome):
    names = [f"section_00_target_{label}_000{i}.wav" for i, label in enumerate(("normal", "anomaly"))]
    (tmp_path / "anomaly_score_fan_section_00_test.csv").write_text("{},1.5\n{},2.5\n".format(*names))
    (tmp_path / "decision_result_fan_section_00_test.csv").write_text(decisions.format(*names))
    challenge = load_challenge("DCASE2023T2", is_eval=False)
    if isinstance(outcome, str):
        with pytest.raises(InputError, match=outcome):
            read_other_systems([str(tmp_path)], challenge, {})
    else:
        decided = decisions_of(read_other_systems([str(tmp_path)], challenge, {})[0])
        assert outcome == (decided if decided is None else decided.tolist())
