"""Pictures of results: labelled axes, bars and areas that are what they say, and names that are only text."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from synthetic import clip_names, section_scores

from networks.training import EpochLosses
from tools.report.areas import draw_heat_map, draw_roc, partial_curve, roc_curves
from tools.results.plots import draw_histogram, draw_losses, score_bars, score_groups, to_png

PNG = b"\x89PNG\r\n\x1a\n"


def histogram(scores, threshold, title, unit):
    return draw_histogram(score_groups(scores.clips, scores.scores), threshold, title, unit)


def curves_of(scores):
    return roc_curves(scores.is_anomaly, scores.is_target, scores.scores)


def test_every_axis_has_a_label():
    scores = section_scores(clip_names())
    figures = [
        draw_heat_map({metric: {"MSE": {"fan": 0.5, "valve": None}} for metric in ("AUC (source)", "pAUC")}),
        histogram(scores, 11.0, "fan", "dB²"),
        histogram(scores, None, "fan", "dB²"),
        draw_roc(curves_of(scores), 0.5, 0.1, "fan"),
    ]
    for figure in figures:
        panels = figure.axes
        assert panels[0].get_ylabel() and any(axes.get_xlabel() for axes in panels)
        for axes in panels:
            box = axes.get_subplotspec()
            assert axes.get_ylabel() or box is None or not box.is_first_col()
            assert axes.get_xlabel() or box is None or not box.is_last_row()
    assert figures[1].axes[-1].get_xlabel() == "anomaly score (dB²)"
    assert figures[0].axes[-1].get_ylabel().split() == "area (percent; 50 is chance)".split()


def test_outliers_are_counted_in_a_bar_of_their_own():
    scores = section_scores(clip_names(10))
    scores.scores[0] = 1e9
    bars, low, high = score_bars(scores.scores, threshold=1e8)
    assert 0 < low < high < 50
    figure = histogram(scores, 1e8, "fan", "no unit")
    note = figure.axes[-1].get_xlabel()
    assert "beyond the grey line, in one bar: 1 above" in note and "the threshold 1e+08 is beyond the axis" in note
    assert bars[0] == low and bars[-2] == high < bars[-1]
    drawn = [bars.get_data() for axes in figure.axes for bars in axes.patches]
    assert all(np.array_equal(data.edges, bars) for data in drawn)
    assert sum(data.values.sum() for data in drawn) == 40 and sum(data.values[-1] for data in drawn) == 1
    assert figure.axes[0].get_title() == "source domain: 10 normal, 10 anomalous"
    bars, low, high = score_bars(np.full(5, 3.0), None)
    assert bars[0] == low < 3.0 < high == bars[-1]


def test_the_pauc_region_ends_at_the_largest_false_positive_rate():
    scores = section_scores(clip_names(10))
    curve = curves_of(scores)[-1]
    x, y = partial_curve(curve.false_positive_rate, curve.true_positive_rate, 0.13)
    area = np.trapezoid(y, x)
    smallest, largest = 0.13**2 / 2, 0.13
    expected = roc_auc_score(scores.is_anomaly, scores.scores, max_fpr=0.13)
    assert (1 + (area - smallest) / (largest - smallest)) / 2 == pytest.approx(expected)
    assert x[-1] == 0.13


def test_tick_labels_of_losses_over_decades_do_not_overlap():
    losses = [EpochLosses(*(1500 / factor for _ in range(5))) for factor in (1, 10, 100)]
    axes = draw_losses(losses, "fan", (5.4, 4.8)).axes[0]
    low, high = axes.get_ylim()
    assert [tick for tick in axes.yaxis.get_minorticklocs() if low < tick < high] == [20, 50, 200, 500]
    assert axes.get_xlabel() == "epoch" and "dB²" in axes.get_ylabel()


def test_names_in_pictures_are_drawn_as_plain_text():
    scores = section_scores(clip_names())
    for name in ("$\\frac$", "a_$x", "\N{SNOWMAN} \udcff"):
        for figure in (
            draw_heat_map({"pAUC": {name: {name: 0.5}}}),
            histogram(scores, -1.5, name, "dB²"),
            draw_roc(curves_of(scores), 0.5, 0.1, name),
        ):
            assert to_png(figure).startswith(PNG)
