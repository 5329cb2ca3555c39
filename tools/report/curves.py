"""The pictures of areas: the ROC curves of a section, and the heat map. Areas are fractions, shown in percent."""

import functools
from collections.abc import Mapping

import pandas as pd
import seaborn
from matplotlib.figure import Figure

from tools.results.clips import is_anomaly, is_target
from tools.results.metrics import partial_curve, roc_curve
from tools.results.plots import BLUE, GREEN, GREY, PURPLE, SMALL, legend_below, new_figure, plain

CURVES = {
    "AUC (source)": (GREEN, "--"),
    "AUC (target)": (PURPLE, "-."),
    "AUC (all)": (BLUE, "-"),
    "AUC": (BLUE, "-"),  # of clips without domains
}


def draw_roc(clips: pd.DataFrame, areas: Mapping[str, float], max_fpr: float, title: str) -> Figure:
    """Draw the ROC curves of a section's labelled clips: all, and normal clips of each domain against all anomalous.

    Parameters
    ----------
    clips
        Rows of the table of clips (tools/results/clips.py).
    areas
        The areas under the curves and pAUC, whose region is shaded, by metric. Others have no curve.
    """
    anomaly, target, scores = is_anomaly(clips), is_target(clips), clips["score"].to_numpy()
    chosen = {"AUC (source)": ~target | anomaly, "AUC (target)": target | anomaly}
    figure = new_figure(SMALL, None)
    axes = figure.add_subplot()
    for metric, (colour, style) in CURVES.items():
        if metric in areas:
            of_metric = chosen.get(metric, slice(None))
            x, y = roc_curve(anomaly[of_metric], scores[of_metric])
            axes.plot(x, y, style, color=colour, label=f"{metric}: {100 * areas[metric]:.1f} %")
    region = axes.fill_between(*partial_curve(x, y, max_fpr), color=BLUE, alpha=0.3, linewidth=0)
    region.set_label(f"pAUC up to {max_fpr:g}, standardised: {100 * areas['pAUC']:.1f} %")
    axes.axvline(max_fpr, color=BLUE, linewidth=0.8)
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="chance: 50 %")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set(
        xlabel="false positive rate (share of normal clips)", ylabel="true positive rate (share of anomalous clips)"
    )
    axes.set_title(plain(title, 70), fontsize="large")
    axes.grid(alpha=0.3)
    legend_below(figure, top=0.93)
    return figure


def draw_heat_map(areas: pd.DataFrame) -> Figure:
    """Draw areas, indexed by metric and system, a column for each machine type: a panel for each metric."""
    short = functools.partial(plain, width=60)
    areas = 100 * areas.rename(index=short, columns=short)
    metrics = areas.index.unique(0)
    n_systems, names = len(areas) / len(metrics), max(map(len, [*areas.index.unique(1), *areas.columns]))
    size = (3.2 + 0.09 * names + 0.7 * len(areas.columns), 1.5 + len(metrics) * (0.5 + 0.34 * n_systems))
    figure = new_figure(size, None)
    panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    for axes, metric in zip(panels, metrics, strict=True):
        look = {"annot": True, "fmt": ".1f", "annot_kws": {"fontsize": "small"}, "linewidths": 1, "cbar": False}
        # red below, white at, blue above 50 %: chance
        seaborn.heatmap(areas.loc[metric], ax=axes, cmap="RdBu", vmin=0, vmax=100, **look)
        axes.set(title=metric, xlabel="", ylabel="system")
        axes.tick_params(length=0)
        axes.tick_params("y", rotation=0)
        axes.set_facecolor("#e8e8e8")  # of cells without a value
    panels[-1].set_xlabel("machine type")
    label = "area (percent;\n50 is chance)"  # two lines, for a map of one row
    figure.colorbar(panels[0].collections[0], ax=list(panels), aspect=30, fraction=0.05, label=label)
    figure.set_layout_engine("constrained")  # at the end, since seaborn draws each panel
    return figure
