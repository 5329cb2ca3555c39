"""The pictures of the report: heat map of areas, score distributions, ROC curves. matplotlib figures, no display.

Conventions: a function takes plain arrays and returns a Figure, which `to_png` turns into bytes. Areas are fractions
and shown in percent. Groups differ in line style or hatching too, never in colour alone (tools/plots.py: the palette).
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tools.metrics import area_under_curve
from tools.plots import BLUE, GREEN, GREY, LABEL_COLOURS, PURPLE
from tools.score_files import SectionScores

SMALL = (5.4, 4.8)  # inches: two of them fill a page's width, and one is legible on a phone
AREAS = seaborn.color_palette("vlag_r", as_cmap=True)  # red below, white at, blue above 50 %: chance
LABEL_STYLES = {  # of the histograms
    "normal": {"linestyle": "-"},
    "anomaly": {"linestyle": "--", "hatch": "////"},
    "unlabelled": {"linestyle": "-"},
}
LABEL_NAMES = {"normal": "normal clips", "anomaly": "anomalous clips", "unlabelled": "unlabelled clips"}


@dataclass(frozen=True)
class RocCurve:
    """A receiver operating characteristic, and which clips it is of."""

    metric: str  # AUC (source), AUC (target), AUC, or all clips
    false_positive_rate: np.ndarray  # (n_points,), rising from 0 to 1
    true_positive_rate: np.ndarray  # (n_points,)
    area: float


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty figure of this width and height in inches, on a canvas of its own."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, dpi: int = 130) -> bytes:
    """Return a figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def draw_heat_map(areas: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> Figure:
    """Draw areas[metric][system][row] as a panel for each metric: rows down, systems across; None is left empty."""
    rows = list(dict.fromkeys(row for systems in areas.values() for values in systems.values() for row in values))
    names = list(dict.fromkeys(system for systems in areas.values() for system in systems))
    longest = max(len(name) for name in names)
    figure = new_figure((3.6 + 0.5 * len(areas) * max(len(names), 2), 1.4 + 0.08 * longest + 0.36 * max(len(rows), 3)))
    panels = figure.subplots(1, len(areas), squeeze=False)[0]
    for i, (axes, (metric, systems)) in enumerate(zip(panels, areas.items(), strict=True)):
        values = np.array([[system.get(row) for system in systems.values()] for row in rows], dtype=float) * 100
        seaborn.heatmap(
            values,
            vmin=0,
            vmax=100,
            cmap=AREAS,
            annot=True,
            fmt=".1f",
            linewidths=1,
            cbar=False,
            xticklabels=list(systems),
            yticklabels=rows if i == 0 else False,
            ax=axes,
        )
        axes.set_facecolor("#e8e8e8")  # of cells without a value
        axes.set(title=metric, xlabel="system", ylabel="machine type" if i == 0 else "")
        axes.tick_params(length=0)
        axes.tick_params(axis="x", labelrotation=90)
        axes.tick_params(axis="y", labelrotation=0)
    bar = figure.colorbar(panels[0].collections[0], ax=list(panels), aspect=30, fraction=0.05)
    bar.set_label("area (percent; 50 is chance)")
    return figure


def draw_scores(section: SectionScores, threshold: float | None, title: str, unit: str) -> Figure:
    """Draw a histogram of the scores for each domain, normal over anomalous clips, and the decision threshold."""
    domains = [domain for domain in ("source", "target") if any(clip.domain == domain for clip in section.clips)]
    if any(clip.domain is None for clip in section.clips):
        domains.append(None)
    low, high = score_range(section.scores, threshold)
    n_bins = min(30, max(8, int(2 * np.sqrt(len(section.scores)))))
    bins = np.linspace(low, high, n_bins + 1)
    figure = new_figure(SMALL)
    panels = figure.subplots(len(domains), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    labels = np.array([clip.label or "unlabelled" for clip in section.clips])
    of_domain = np.array([clip.domain for clip in section.clips], dtype=object)
    for axes, domain in zip(panels, domains, strict=True):
        for label in LABEL_STYLES:
            scores = np.clip(section.scores[(of_domain == domain) & (labels == label)], low, high)
            if len(scores):
                _histogram(axes, scores, bins, label)
        if threshold is not None and low <= threshold <= high:
            axes.axvline(threshold, color="black", linestyle=":", linewidth=1.6, label=f"threshold {threshold:.4g}")
        axes.set(ylabel="number of clips", title="all clips" if domain is None else f"{domain} domain")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.grid(alpha=0.3)
    beyond = int(((section.scores < low) | (section.scores > high)).sum())
    note = f"\n{beyond} clip(s) beyond the axis are in the outermost bars" if beyond else ""
    if threshold is not None and not low <= threshold <= high:
        note += f"\nthe threshold {threshold:.4g} is beyond the axis"
    panels[-1].set_xlabel(f"anomaly score ({unit}){note}")
    figure.suptitle(title)
    entries = {name: handle for axes in panels for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries), fontsize="small")
    return figure


def score_range(scores: np.ndarray, threshold: float | None) -> tuple[float, float]:
    """Return from where to where scores are drawn: all, but those far beyond the middle 90 %; and a near threshold."""
    p5, p95 = np.quantile(scores, [0.05, 0.95])
    margin = 1.5 * (p95 - p5)
    low, high = float(max(scores.min(), p5 - margin)), float(min(scores.max(), p95 + margin))
    span = high - low
    if threshold is not None and low - span < threshold < high + span:
        low, high = min(low, threshold - 0.02 * span), max(high, threshold + 0.02 * span)
    return (low, high) if high > low else (low - abs(low) / 2 - 1e-9, high + abs(high) / 2 + 1e-9)


def _histogram(axes: Axes, scores: np.ndarray, bins: np.ndarray, label: str) -> None:
    colour = LABEL_COLOURS[label]
    seaborn.histplot(
        x=scores,
        bins=bins,
        element="step",
        color=colour,
        alpha=0.3,
        linewidth=1.6,
        ax=axes,
        label=LABEL_NAMES[label],
        **LABEL_STYLES[label],
    )


def roc_curves(section: SectionScores) -> list[RocCurve]:
    """Return a labelled section's curves: normal clips of each domain against all anomalous ones, then all clips.

    A curve that is not defined, because one class is missing, is left out. The last is the one that pAUC is of.
    """
    from sklearn.metrics import roc_curve

    is_anomaly, scores = section.is_anomaly, section.scores
    chosen = {"all clips": np.ones(len(scores), dtype=bool)}
    if section.has_domains:
        is_target = section.is_target
        chosen = {"AUC (source)": ~is_target | is_anomaly, "AUC (target)": is_target | is_anomaly, **chosen}
    curves = []
    for metric, these in chosen.items():
        area = area_under_curve(is_anomaly[these], scores[these])
        if area is not None:
            x, y, _ = roc_curve(is_anomaly[these], scores[these], drop_intermediate=False)
            curves.append(RocCurve(metric, x, y, area))
    return curves


def draw_roc(curves: list[RocCurve], partial_area: float | None, max_fpr: float, title: str) -> Figure:
    """Draw ROC curves, and under that of all clips the region that pAUC is made of."""
    figure = new_figure(SMALL)
    axes = figure.add_subplot()
    styles = {"AUC (source)": (GREEN, "--"), "AUC (target)": (PURPLE, "-."), "all clips": (BLUE, "-")}
    for curve in curves:
        colour, style = styles[curve.metric]
        axes.plot(
            curve.false_positive_rate,
            curve.true_positive_rate,
            style,
            color=colour,
            label=f"{curve.metric.replace('all clips', 'AUC, all clips')}: {100 * curve.area:.1f} %",
        )
        if curve.metric == "all clips" and partial_area is not None:
            x, y = partial_region(curve, max_fpr)
            label = f"pAUC (up to {max_fpr:g}): {100 * partial_area:.1f} %"
            axes.fill_between(x, y, color=BLUE, alpha=0.3, linewidth=0, label=label)
            axes.axvline(max_fpr, color=BLUE, linewidth=0.8)
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="chance: 50 %")
    axes.set(
        xlabel="false positive rate (share of normal clips)",
        ylabel="true positive rate (share of anomalous clips)",
        title=title,
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
    )
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    return figure


def partial_region(curve: RocCurve, max_fpr: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of a curve up to a false positive rate, its end interpolated (as sklearn does)."""
    x, y = curve.false_positive_rate, curve.true_positive_rate
    stop = int(np.searchsorted(x, max_fpr, "right"))
    end = np.interp(max_fpr, x[stop - 1 : stop + 1], y[stop - 1 : stop + 1])
    return np.append(x[:stop], max_fpr), np.append(y[:stop], end)
