"""Pictures of results: labelled axes, bars and areas as labelled, and names shown as text."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from reports import scored_clips
from sklearn.metrics import roc_auc_score
from synthetic import clip_names, make_settings

from datasets.front_ends import make_front_end
from networks.training import EpochLosses
from tools.report.curves import draw_heat_map, draw_roc
from tools.report.time_frequency import Reconstruction, draw_time_frequency
from tools.results.metrics import area_under_curve
from tools.results.plots import SCORE_COLUMNS, SMALL, draw_histogram, draw_losses, score_bars, to_png
from tools.results.reading import clip_metrics

PNG = b"\x89PNG\r\n\x1a\n"


def histogram(clips, threshold, title, unit):
    return draw_histogram(clips[SCORE_COLUMNS].itertuples(index=False), threshold, title, unit)


def roc(clips, title="fan"):
    areas = {metric: area for metric, area in clip_metrics(clips, 0.1).items() if "AUC" in metric and area is not None}
    return draw_roc(clips, areas, 0.1, title)


def heat_map(*metrics, system="MSE", machine_type="fan"):
    index = pd.MultiIndex.from_product([metrics, [system]])
    return draw_heat_map(pd.DataFrame({machine_type: 0.5, "valve": np.nan}, index=index))


def test_every_axis_has_a_label():
    scores = scored_clips(clip_names())
    figures = [
        heat_map("AUC (source)", "pAUC"),
        histogram(scores, 11.0, "fan", "dB²"),
        roc(scores),
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
    assert [text.get_text() for text in figures[0].axes[0].texts] == ["50.0"]  # a cell without a value has no number


def test_the_bars_cover_all_scores_and_a_threshold_beyond_them_is_named():
    clips = scored_clips(clip_names(10))
    scores = clips["score"].to_numpy()
    bars = score_bars(scores, threshold=1e8)
    assert (bars[0], bars[-1]) == (scores.min(), scores.max())
    figure = histogram(clips, 1e8, "fan", "no unit")
    assert "the threshold 1e+08 is beyond the axis" in figure.axes[-1].get_xlabel()
    assert figure.axes[0].get_title() == "source domain: 10 normal, 10 anomalous"
    assert score_bars(np.full(5, 3.0), None)[0] < 3.0 < score_bars(np.full(5, 3.0), None)[-1]


def test_the_labels_of_the_curves_give_their_areas_and_the_shaded_region_is_that_of_pauc():
    clips = scored_clips(clip_names(10))
    is_anomaly, scores = clips["label"] == "anomaly", clips["score"]
    figure = roc(clips)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"AUC (all): {100 * roc_auc_score(is_anomaly, scores):.1f} %" in labels
    expected = roc_auc_score(is_anomaly, scores, max_fpr=0.1)
    assert area_under_curve(is_anomaly.to_numpy(), scores.to_numpy(), 0.1) == pytest.approx(expected)
    assert f"pAUC up to 0.1, standardised: {100 * expected:.1f} %" in labels
    (region,) = figure.axes[0].collections
    assert region.get_paths()[0].vertices[:, 0].max() == 0.1
    for line, label in zip(figure.axes[0].lines, labels, strict=False):
        if label.startswith("AUC"):
            assert f"{100 * np.trapezoid(line.get_ydata(), line.get_xdata()):.1f} %" in label


def test_names_in_pictures_are_drawn_as_plain_text():
    clips = scored_clips(clip_names())
    name = "$\\frac$ a_$x \N{SNOWMAN} \udcff"
    for figure in (
        heat_map("pAUC", system=name, machine_type=name),
        histogram(clips, -1.5, name, "dB²"),
        roc(clips, name),
    ):
        assert to_png(figure).startswith(PNG)
    for name, shown in {
        "Насос −5": "Насос −5",
        "ポンプ\udcff": "\\u30dd\\u30f3\\u30d7\\udcff",
    }.items():
        assert histogram(clips, 11.0, name, "dB²").get_suptitle() == shown


def test_a_front_end_without_bands_has_no_frequency_axis():
    frames = np.random.default_rng(0).uniform(size=(8, 513))
    spectrum = Reconstruction(frames, frames, None, None, 0.0, "STFT", "dB", "AE")
    axes = draw_time_frequency([spectrum], "clip").axes[0]
    assert axes.get_ylabel() == "bin"
    assert {panel.get_xlabel() for panel in axes.figure.axes} - {""} == {"frame"}
    added = replace(spectrum, edges=make_front_end(make_settings()).edges(16000))  # of 128 bands
    hertz = replace(spectrum, edges=np.arange(-1, 514) * 16000 / 1024)  # as README says
    figure = draw_time_frequency([added, hertz], "clip")  # by two networks
    labels = [panel.get_ylabel() for panel in figure.axes]
    assert len(labels) == 6 and set(labels) == {"bin", "frequency (kHz)"}
    axes = next(panel for panel in figure.axes if panel.get_ylabel().startswith("frequency"))
    ticks = dict(zip([text.get_text() for text in axes.get_yticklabels()], axes.get_yticks(), strict=True))
    assert ticks == {"1": 64, "2": 128, "4": 256, "8": 512}


def test_nothing_is_cut_off_and_the_legend_is_complete():
    """Data without domains, and a silent clip, whose levels have long numbers."""
    no_domains = scored_clips([f"section_00_{label}_{i:04d}.wav" for label in ("normal", "anomaly") for i in range(4)])
    losses = [EpochLosses(loss, loss, loss, loss, 0.0) for loss in (20.0, 19.0)]
    levels = np.full((16, 128), -156.53559774)
    edges = make_front_end(make_settings()).edges(44100)
    silent = Reconstruction(levels, levels + 1e-4, 0.02, edges, 0.0, "log-mel", "dB", "AE")
    figures = [
        roc(no_domains),
        draw_losses(losses, "fan", "dB²", SMALL),
        draw_time_frequency([silent], "fan, section 00\nsilent.wav"),
        draw_time_frequency([silent, silent], "fan, section 00\nsilent.wav"),
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
        assert {bar.get_ylabel() for bar in bars} == {"level (dB)", "difference (dB)"}
        for bar in bars:  # a bar ends before the labels of the panel beside it
            beside = [
                axes.yaxis.get_tightbbox().x0 for axes in panels if axes.get_ylabel() and axes.bbox.x0 > bar.bbox.x1
            ]
            assert all(bar.get_tightbbox().x1 < x for x in beside)
        boxes = [label.get_window_extent() for label in panels[0].get_yticklabels()]
        assert all(low.y1 < high.y0 for low, high in itertools.pairwise(boxes))
