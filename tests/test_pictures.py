"""Pictures of results: labelled axes, bars and areas as labelled, and names shown as text."""

import itertools
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from synthetic import REPOSITORY, clip_names, machine_folder, make_settings, network_path, run, section_scores

from datasets.front_ends import make_front_end
from networks.training import EpochLosses
from tools.report.areas import draw_heat_map, draw_roc, partial_curve, roc_curves
from tools.report.time_frequency import Reconstruction, draw_time_frequency
from tools.results.plots import SMALL, draw_histogram, draw_losses, score_bars, score_groups, to_png
from tools.score import Scorer

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


def test_outliers_are_counted_in_a_separate_bar():
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
    axes = draw_losses(losses, "fan", "dB²", (5.4, 4.8)).axes[0]
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


def test_letters_that_the_font_has_are_drawn_and_others_are_escaped():
    names = {
        "Überdruck −5": "Überdruck −5",
        "Насос Αντλία": "Насос Αντλία",
        "ポンプ\udcff": "\\u30dd\\u30f3\\u30d7\\udcff",
    }
    for name, shown in names.items():
        title = histogram(section_scores(clip_names()), 11.0, name, "dB²").get_suptitle()
        assert title == shown


@pytest.mark.parametrize("is_narrow", [False, True])
def test_a_front_end_without_bands_has_no_frequency_axis(is_narrow):
    frames = np.random.default_rng(0).uniform(size=(8, 513))
    spectrum = Reconstruction(frames, frames, None, None, 0.0, "STFT", "dB")
    axes = draw_time_frequency(spectrum, "clip", is_narrow).axes[0]
    assert axes.get_ylabel() == "bin"
    assert {panel.get_xlabel() for panel in axes.figure.axes} - {""} == {"frame"}
    added = replace(spectrum, edges=make_front_end(make_settings()).edges(16000))  # of 128 bands
    assert draw_time_frequency(added, "clip", is_narrow).axes[0].get_ylabel() == "bin"
    hertz = np.arange(-1, 514) * 16000 / 1024  # as README says
    axes = draw_time_frequency(replace(spectrum, edges=hertz), "clip", is_narrow).axes[0]
    assert axes.get_ylabel().startswith("frequency (kHz")
    ticks = dict(zip([text.get_text() for text in axes.get_yticklabels()], axes.get_yticks(), strict=True))
    assert ticks == {"1": 64, "2": 128, "4": 256, "8": 512}


def test_nothing_is_cut_off_and_the_legend_is_complete():
    """Data without domains, and a silent clip, whose levels have long numbers."""
    no_domains = section_scores(
        [f"section_00_{label}_{i:04d}.wav" for label in ("normal", "anomaly") for i in range(4)]
    )
    losses = [EpochLosses(loss, loss, loss, loss, 0.0) for loss in (20.0, 19.0)]
    levels = np.full((16, 128), -156.53559774)
    silent = Reconstruction(
        levels, levels + 1e-4, 0.02, make_front_end(make_settings()).edges(44100), 0.0, "log-mel", "dB"
    )
    figures = [
        draw_roc(curves_of(no_domains), 0.5, 0.1, "fan"),
        draw_losses(losses, "fan", "dB²", SMALL),
        *(draw_time_frequency(silent, "fan, section 00\nsilent.wav", is_narrow) for is_narrow in (False, True)),
    ]
    for figure in figures:
        to_png(figure)  # which lays it out
        drawn = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) >= 0
    assert [text.get_text() for text in figures[1].legends[0].get_texts()] == ["training", "validation"]
    for figure in figures[2:]:
        panels = figure.axes
        bars = [bar for axes in panels for bar in axes.child_axes]
        assert [bar.get_ylabel().split()[-1] for bar in bars] == ["(dB)", "(dB)"]
        assert all(bar.get_tightbbox().x1 <= figure.bbox.x1 for bar in bars)
        assert len({round(axes.get_position().width, 6) for axes in panels}) == 1
        boxes = [label.get_window_extent() for label in panels[0].get_yticklabels()]
        assert all(low.y1 < high.y0 for low, high in itertools.pairwise(boxes))


def test_commands_draw_without_the_backend_of_the_notebook_that_starts_them(finished_run, tmp_path, monkeypatch):
    backend = "module://matplotlib_inline.backend_inline"  # set for every command that a notebook starts
    network, picture = network_path(finished_run), tmp_path / "picture.png"
    clip = next((machine_folder(finished_run / "data") / "test").iterdir())
    command = [sys.executable, REPOSITORY / "tools/plot_time_frequency.py", network, clip, "--output", picture]
    process = run(*command, MPLBACKEND=backend)
    assert process.returncode == 0, process.stderr
    assert picture.read_bytes().startswith(PNG)
    monkeypatch.setenv("MPLBACKEND", backend)
    Scorer(network)
    assert os.environ["MPLBACKEND"] == backend  # the notebook draws by it
