"""Pictures of results: labelled axes, bars and areas as labelled, and names shown as text."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from sklearn.metrics import roc_auc_score
from synthetic import make_settings

from datasets.front_ends import make_front_end
from networks.training import EpochLosses
from tools.report.curves import draw_heat_map, draw_roc
from tools.report.time_frequency import Reconstruction, draw_time_frequency
from tools.results.metrics import section_metrics
from tools.results.plots import SMALL, draw_histogram, draw_losses, draw_scores, to_png


def clips_of(n=4, domains=("source", "target")):
    """Return a table of n clips of each domain and label, with normally distributed scores."""
    groups = product([0], domains, ("normal", "anomaly"), range(n))
    clips = pd.DataFrame(groups, columns=["section", "domain", "label", "score"])
    return clips.assign(score=np.random.default_rng(0).normal(10, 2, len(clips)))


def histogram(clips, threshold, title="fan"):
    return draw_histogram(clips.itertuples(index=False), threshold, title, "dB²")


def roc(clips, title="fan"):
    is_anomaly, is_target = (clips[["label", "domain"]] == ["anomaly", "target"]).to_numpy().T
    areas = section_metrics(is_anomaly, is_target if is_target.any() else None, clips["score"].to_numpy(), None, 0.1)
    return draw_roc(clips, areas, 0.1, title)


def heat_map(*metrics, name="fan"):
    index = pd.MultiIndex.from_product([metrics, [name]])
    return draw_heat_map(pd.DataFrame({name: 0.5, "valve": np.nan}, index=index))


@pytest.mark.parametrize(("spread", "threshold"), [(1, 1e8), (0, 11.0)])
def test_the_bars_cover_all_scores_and_a_threshold_beyond_them_is_named(spread, threshold):
    clips = clips_of(10)
    clips["score"] *= spread
    axes = histogram(clips, threshold).axes
    assert axes[0].get_title() == "source domain: 10 normal, 10 anomalous"
    assert f"\nthe threshold {threshold:.4g} is beyond the axis" in axes[-1].get_xlabel()
    for panel, (_, scores) in zip(axes, clips.groupby("domain")["score"], strict=True):
        edges = np.concatenate([path.vertices[:, 0] for bars in panel.collections for path in bars.get_paths()])
        assert edges.min() <= scores.min() <= scores.max() <= edges.max() and edges.max() > edges.min()


def test_the_labels_of_the_curves_give_their_areas_and_the_shaded_region_is_that_of_pauc():
    clips = clips_of(10)
    is_anomaly, scores = clips["label"] == "anomaly", clips["score"]
    figure = roc(clips)
    (axes,), (legend,) = figure.axes, figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert f"AUC (all): {100 * roc_auc_score(is_anomaly, scores):.1f} %" in labels
    assert f"pAUC up to 0.1, standardised: {100 * roc_auc_score(is_anomaly, scores, max_fpr=0.1):.1f} %" in labels
    (region,) = axes.collections
    assert region.get_paths()[0].vertices[:, 0].max() == 0.1
    for line, label in zip(axes.lines[:3], labels, strict=False):
        assert label.startswith("AUC")
        assert f"{100 * np.trapezoid(line.get_ydata(), line.get_xdata()):.1f} %" in label


def test_names_in_pictures_are_drawn_as_plain_text():
    clips = clips_of()
    name = "$\\frac$ a_$x \N{SNOWMAN} Насос −5 ポンプ \udcff"
    shown = "$\\frac$ a_$x \N{SNOWMAN} Насос −5 \\u30dd\\u30f3\\u30d7 \\udcff"
    scores = [list(group.itertuples(index=False)) for group in (clips, clips.assign(label=None))]
    figures = [
        histogram(clips, -1.5, name),
        roc(clips, name),
        *(draw_scores(some, -1.5, name, "a$b$") for some in scores),
    ]
    for figure in (heat_map("pAUC", name=name), *figures):
        assert to_png(figure).startswith(b"\x89PNG\r\n\x1a\n")
        texts = [text for text in figure.findobj(Text) if text.get_text() == shown]
        assert texts and not any(text.get_parse_math() for text in texts)
    assert figure.axes[0].get_ylabel() == "clips"  # unlabelled scores are a histogram


def test_a_front_end_without_bands_has_no_frequency_axis():
    frames = np.random.default_rng(0).uniform(size=(8, 513))
    spectrum = Reconstruction(frames, frames, None, None, 0.0, "STFT", "dB", "AE")
    assert draw_time_frequency([spectrum], "clip").axes[0].get_ylabel() == "bin"
    added = replace(spectrum, edges=make_front_end(make_settings()).edges(16000))  # of 128 bands
    hertz = replace(spectrum, edges=np.arange(-1, 514) * 16000 / 1024)  # as README says
    panels = draw_time_frequency([added, hertz], "clip").axes  # by two networks
    labels = [panel.get_ylabel() for panel in panels]
    assert len(labels) == 6 and set(labels) == {"bin", "frequency (kHz)"}
    axes = panels[labels.index("frequency (kHz)")]
    ticks = zip([text.get_text() for text in axes.get_yticklabels()], axes.get_yticks(), strict=True)
    assert dict(ticks) == {"1": 64, "2": 128, "4": 256, "8": 512}


def test_every_axis_has_a_label_and_nothing_is_cut_off():
    """Data without domains, and a silent clip, whose levels have long numbers."""
    losses = [EpochLosses(loss, loss, loss, loss, 0.0) for loss in (20.0, 19.0)]
    levels, edges = np.full((16, 128), -156.53559774), make_front_end(make_settings()).edges(44100)
    silent = Reconstruction(levels, levels + 1e-4, 0.02, edges, 0.0, "log-mel", "dB", "AE")
    figures = [heat_map("AUC (source)", "pAUC"), draw_losses(losses, "fan", "dB²", SMALL), histogram(clips_of(), 11.0)]
    figures += [roc(clips_of(domains=domains)) for domains in (("source", "target"), (None,))]
    figures += [draw_time_frequency([silent] * n, "fan, section 00\nsilent.wav") for n in (1, 2)]
    for figure in figures:
        to_png(figure)  # which lays it out
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) >= 0
        for axes in figure.axes:
            box = axes.get_subplotspec()
            assert axes.get_ylabel() or box is None or not box.is_first_col()
            assert axes.get_xlabel() or box is None or not box.is_last_row()
    assert [text.get_text() for text in figures[0].axes[0].texts] == ["50.0"]  # a cell without a value has no number
    assert [text.get_text() for text in figures[1].legends[0].get_texts()] == ["training", "validation"]
    assert figures[2].axes[-1].get_xlabel() == "anomaly score (dB²)"
