"""The official score: a case worked by hand, the organisers' published figures, and the bootstrap against sklearn."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from common import InputError
from datasets.clips import parse_clip
from tools.metrics import harmonic_mean
from tools.official import N_RESAMPLES, official_score, resample_metrics, weighted_area
from tools.score_files import SectionScores, read_section, read_values

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


def test_a_case_worked_by_hand():
    """Source normals 1, 3; target normals 2, 5; anomalies 4 (source), 2 (target); max_fpr 0.5.

    AUC (source): pairs 4>1, 4>3, 2>1 of 4: 0.75. AUC (target): 4>2, 2=2 of 4, one half: 0.375.
    ROC over all: thresholds 5, 4, 3, 2, 1 give (fpr, tpr) (1/4, 0), (1/4, 1/2), (1/2, 1/2), (3/4, 1), (1, 1). Area up
    to fpr 1/2: 1/4 * 1/2 = 1/8, which is chance (0.5**2 / 2 = 1/8): pAUC 1/2. Score: 3 / (4/3 + 8/3 + 2) = 1/2.
    """
    clips = [("source", "normal", 1.0), ("source", "normal", 3.0), ("target", "normal", 2.0), ("target", "normal", 5.0)]
    clips += [("source", "anomaly", 4.0), ("target", "anomaly", 2.0)]
    result = official_score({("fan", 0): section(clips)}, max_fpr=0.5)
    assert result.metrics["fan", 0] == pytest.approx({"AUC (source)": 0.75, "AUC (target)": 0.375, "pAUC": 0.5})
    assert result.score == pytest.approx(0.5)
    assert 0 <= result.low <= result.score <= result.high <= 1


@pytest.mark.parametrize("score", PUBLISHED)
def test_the_published_cells_give_the_published_score(score):
    *metrics, official = PUBLISHED[score]
    assert 100 * harmonic_mean([cell / 100 for row in metrics for cell in row]) == pytest.approx(official, abs=0.01)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("max_fpr", [0.1, 0.35, 1.0])
def test_areas_of_resamples_are_sklearns(ties, max_fpr):
    scores = random_section(12, 3, ties)
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4, size=(20, len(scores.clips))).astype(float)
    areas = weighted_area(scores.scores, counts * ~scores.is_anomaly, counts * scores.is_anomaly, max_fpr)
    for area, weights in zip(areas, counts, strict=True):
        kept = weights > 0
        expected = roc_auc_score(
            scores.is_anomaly[kept], scores.scores[kept], sample_weight=weights[kept], max_fpr=max_fpr
        )
        assert area == pytest.approx(expected, abs=1e-12)


def test_resamples_draw_each_domain_and_label_again():
    """The mean over the resamples is near the value of the clips themselves, and each of them differs."""
    scores = random_section(100, 4, ties=False)
    columns = resample_metrics(scores, 0.1, np.random.default_rng(0))
    values = official_score({("fan", 0): scores}, 0.1).metrics["fan", 0]
    assert [len(column) for column in columns] == [N_RESAMPLES] * 3
    for column, value in zip(columns, values.values(), strict=True):
        assert column.mean() == pytest.approx(value, abs=0.01)
        assert 0.005 < column.std() < 0.1


def test_the_interval_narrows_with_the_number_of_clips():
    few, many = (official_score({("fan", 0): random_section(n, 5, ties=False)}, 0.1) for n in (10, 1000))
    assert few.high - few.low > 5 * (many.high - many.low)
    assert many.low < many.score < many.high


def test_a_section_without_anomalies_has_no_score():
    with pytest.raises(InputError, match="fan section 00 has no AUC"):
        official_score({("fan", 0): section([("source", "normal", 1.0), ("target", "normal", 2.0)])}, 0.1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "it is empty"),
        ("a.wav,1.0\na.wav,2.0\n", "line 2 is no new clip's name and number"),
        ("a.wav,1.0,3\n", "line 1 is no new clip's name"),
        ("a.wav,nan\n", "line 1: nan is no finite number"),
        ("a.wav,high\n", "could not convert"),
    ],
)
def test_a_broken_score_file_is_named(tmp_path, content, sentence):
    path = tmp_path / "anomaly_score_fan_section_00_test.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=sentence) as error:
        read_values(path)
    assert str(path) in str(error.value)


def test_labels_are_joined_and_decisions_read(tmp_path):
    scores, decisions = tmp_path / "scores.csv", tmp_path / "decisions.csv"
    scores.write_text("section_00_0000.wav,1.5\nsection_00_0001.wav,2.5\n")
    decisions.write_text("section_00_0001.wav,1\nsection_00_0000.wav,0\n")
    labels = {
        f"section_00_000{i}.wav": f"section_00_target_test_{label}_000{i}.wav"
        for i, label in ((0, "normal"), (1, "anomaly"))
    }
    assert not read_section(scores, decisions).is_labelled
    labelled = read_section(scores, decisions, labels)
    assert labelled.is_labelled
    assert labelled.is_anomaly.tolist() == labelled.decisions.tolist() == [False, True]
    decisions.write_text("section_00_0001.wav,\nsection_00_0000.wav,0\n")
    assert read_section(scores, decisions).decisions is None
    for wrong, sentence in (
        ("section_00_0001.wav,2\nsection_00_0000.wav,0\n", "no decision"),
        ("x.wav,1\n", "same clips"),
    ):
        decisions.write_text(wrong)
        with pytest.raises(InputError, match=sentence):
            read_section(scores, decisions)
