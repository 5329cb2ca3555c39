"""The pictures of the report: heat map of areas, score distributions, ROC curves. matplotlib figures, no display.

Conventions: a function takes plain arrays and returns a Figure. Areas are fractions
and shown in percent. Groups differ in line style or hatching too, never in colour alone. Text in a picture is taken as
it is, never as mathematics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tools.results.metrics import area_under_curve
from tools.results.plots import BLUE, GREEN, GREY, LABEL_COLOURS, PURPLE, number_text
from tools.results.score_files import SectionScores

matplotlib.rcParams["text.parse_math"] = False

SMALL = (4.8, 4.4)  # inches: two of them fill a page's width, and the text of one is legible on a phone
AREAS = matplotlib.colormaps["RdBu"]  # red below, white at, blue above 50 %: chance
LABEL_STYLES = {  # of the histograms
    "normal": {"linestyle": "-"},
    "anomaly": {"linestyle": "--", "hatch": "////"},
    "unlabelled": {"linestyle": "-"},
}
LABEL_NAMES = {"normal": "normal", "anomaly": "anomalous", "unlabelled": "unlabelled"}


@dataclass(frozen=True)
class RocCurve:
    """A receiver operating characteristic, and the clips that it is of."""

    metric: str  # AUC (source), AUC (target), AUC, or all clips
    false_positive_rate: np.ndarray  # (n_points,), rising from 0 to 1
    true_positive_rate: np.ndarray  # (n_points,)
    area: float


@dataclass(frozen=True)
class Bins:
    """The bars of a histogram: `edges` (n_bars + 1,), then one for scores below and one for scores above, if any."""

    edges: np.ndarray
    below: bool
    above: bool

    @property
    def width(self) -> float:
        """The width of a bar."""
        return float(self.edges[1] - self.edges[0])

    @property
    def all_edges(self) -> np.ndarray:
        """The edges of all bars, those of the overflow bars included."""
        below, above = [self.edges[0] - self.width] * self.below, [self.edges[-1] + self.width] * self.above
        return np.concatenate([below, self.edges, above])

    def count(self, scores: np.ndarray) -> np.ndarray:
        """Return the number of scores in each bar, the overflow bars included: (n_bars,)."""
        inside = np.histogram(scores, self.edges)[0]
        below, above = [(scores < self.edges[0]).sum()] * self.below, [(scores > self.edges[-1]).sum()] * self.above
        return np.concatenate([below, inside, above])


def new_figure(size: tuple[float, float], layout: Literal["constrained"] | None = None) -> Figure:
    """Return an empty figure of this width and height in inches, on a canvas of its own."""
    figure = Figure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def plain(text: str, width: int = 200) -> str:
    """Return text in characters that matplotlib's font has, cut at a number of characters."""
    shown = "".join(c if c.isprintable() and ord(c) < 256 else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= width else f"{shown[: width - 4]} ..."


def draw_heat_map(areas: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> Figure:
    """Draw areas[metric][system][row] as a panel for each metric: rows down, systems across; None is left empty."""
    rows = list(dict.fromkeys(row for systems in areas.values() for values in systems.values() for row in values))
    names = list(dict.fromkeys(system for systems in areas.values() for system in systems))
    longest_system, longest_row = (max(len(plain(name, 60)) for name in texts) for texts in (names, rows))
    cells = (0.5 * max(len(names), 2) * len(areas), 0.32 * len(rows))  # inches
    margins = (0.7 + 0.09 * longest_row, 1.3)
    size = (sum(margins) + cells[0] + 0.2 * len(areas), cells[1] + 1.0 + 0.09 * longest_system)
    figure = new_figure((size[0], size[1] + 0.3), "constrained")
    panels = figure.subplots(1, len(areas), squeeze=False)[0]
    for i, (axes, (metric, systems)) in enumerate(zip(panels, areas.items(), strict=True)):
        values = np.array([[systems.get(name, {}).get(row) for name in names] for row in rows], dtype=float) * 100
        image = axes.imshow(values, cmap=AREAS, vmin=0, vmax=100, aspect="auto")
        for (y, x), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if abs(value - 50) > 30 else "black"
                axes.text(x, y, f"{value:.1f}", ha="center", va="center", color=colour, fontsize="small")
        axes.set_facecolor("#e8e8e8")  # of cells without a value
        axes.set_xticks(range(len(names)), [plain(name, 60) for name in names], rotation=90)
        axes.set_yticks(range(len(rows)), [plain(row, 60) for row in rows] if i == 0 else [""] * len(rows))
        axes.set_xticks(np.arange(0.5, len(names) - 1), minor=True)
        axes.set_yticks(np.arange(0.5, len(rows) - 1), minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.spines[:].set_visible(False)
        axes.tick_params(which="both", length=0)
        axes.set(title=metric, xlabel="system", ylabel="machine type" if i == 0 else "")
    bar = figure.colorbar(image, ax=list(panels), aspect=30, fraction=0.05)
    bar.set_label("area (percent; 50 is chance)")
    return figure


def draw_scores(section: SectionScores, threshold: float | None, title: str, unit: str) -> Figure:
    """Draw a histogram of the scores for each domain, normal over anomalous clips, and the decision threshold."""
    domains: list[str | None] = [d for d in ("source", "target") if any(clip.domain == d for clip in section.clips)]
    if any(clip.domain is None for clip in section.clips):
        domains.append(None)
    bins = histogram_bins(section.scores, threshold)
    figure = new_figure(SMALL)
    panels = figure.subplots(len(domains), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    labels = np.array([clip.label or "unlabelled" for clip in section.clips])
    of_domain = np.array([clip.domain for clip in section.clips], dtype=object)
    low, high = bins.all_edges[[0, -1]]
    is_shown = threshold is not None and low <= threshold <= high
    for axes, domain in zip(panels, domains, strict=True):
        counts = []
        for label in LABEL_STYLES:
            scores = section.scores[(of_domain == domain) & (labels == label)]
            if len(scores):
                _draw_bars(axes, bins, scores, label)
                counts.append(f"{len(scores)} {LABEL_NAMES[label]}")
        if is_shown:
            axes.axvline(threshold, color="black", linestyle=":", linewidth=1.6, label="threshold")
        axes.set_title(f"{f'{domain} domain' if domain else 'all clips'}: {', '.join(counts)}", fontsize="medium")
        axes.set_ylabel("number of clips")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    note = _overflow_note(bins, section.scores)
    if threshold is not None and not is_shown:
        note += f"\nthe threshold {number_text(threshold)} is beyond the axis"
    panels[-1].set_xlabel(f"anomaly score ({unit}){note}")
    figure.suptitle(plain(title, 70), fontsize="large")
    _legend_below(figure, list(panels), note.count("\n"))
    figure.subplots_adjust(left=0.12, right=0.97, top=0.87, hspace=0.3)
    return figure


def histogram_bins(scores: np.ndarray, threshold: float | None) -> Bins:
    """Return the bars of all scores but those far beyond the middle 90 %, which get an overflow bar at either end."""
    low, high = score_range(scores, threshold)
    n_bins = min(30, max(8, int(2 * np.sqrt(len(scores)))))
    return Bins(np.linspace(low, high, n_bins + 1), bool((scores < low).any()), bool((scores > high).any()))


def score_range(scores: np.ndarray, threshold: float | None) -> tuple[float, float]:
    """Return the range of the axis: all scores but those far beyond the middle 90 %, and a threshold that is near."""
    p5, p95 = np.quantile(scores, [0.05, 0.95])
    margin = 1.5 * (p95 - p5)
    low, high = float(max(scores.min(), p5 - margin)), float(min(scores.max(), p95 + margin))
    span = high - low
    if threshold is not None and low - span < threshold < high + span:
        low, high = min(low, threshold - 0.02 * span), max(high, threshold + 0.02 * span)
    return (low, high) if high > low else (low - abs(low) / 2 - 1e-9, high + abs(high) / 2 + 1e-9)


def _draw_bars(axes: Axes, bins: Bins, scores: np.ndarray, label: str) -> None:
    """Draw the bars of some clips; the overflow bars stand apart, and their tick says what is in them."""
    counts, edges, colour = bins.count(scores), bins.all_edges, LABEL_COLOURS[label]
    name = f"{LABEL_NAMES[label]} clips"
    style = LABEL_STYLES[label]
    axes.stairs(counts, edges, fill=True, facecolor=colour, alpha=0.3, hatch=style.get("hatch"), label=name)
    axes.stairs(counts, edges, color=colour, linewidth=1.6, linestyle=style["linestyle"])
    for is_used, edge in ((bins.below, bins.edges[0]), (bins.above, bins.edges[-1])):
        if is_used:
            axes.axvline(edge, color=GREY, linewidth=0.8)


def _overflow_note(bins: Bins, scores: np.ndarray) -> str:
    """Return what the overflow bars hold."""
    low, high = bins.edges[[0, -1]]
    beyond = []
    if bins.below:
        beyond.append(f"{(scores < low).sum()} below {number_text(low)}")
    if bins.above:
        beyond.append(f"{(scores > high).sum()} above {number_text(high)}")
    return f"\nbeyond the grey line, in one bar: {', '.join(beyond)}" if beyond else ""


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
            label = f"pAUC up to {max_fpr:g}, standardised: {100 * partial_area:.1f} %"
            axes.fill_between(x, y, color=BLUE, alpha=0.3, linewidth=0, label=label)
            axes.axvline(max_fpr, color=BLUE, linewidth=0.8)
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="chance: 50 %")
    axes.set(
        xlabel="false positive rate (share of normal clips)",
        ylabel="true positive rate (share of anomalous clips)",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
    )
    axes.set_title(plain(title, 70), fontsize="large")
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    _legend_below(figure, [axes])
    figure.subplots_adjust(left=0.12, right=0.97, top=0.93)
    return figure


def _legend_below(figure: Figure, panels: list[Axes], n_lines: int = 0) -> None:
    """Put a legend of all panels below the lowest, whose label has `n_lines` lines more than one."""
    entries = {name: handle for axes in panels for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    n_columns = 2 if len(entries) > 3 else len(entries)
    n_rows = -(-len(entries) // n_columns)
    figure.legend(entries.values(), entries.keys(), loc="lower center", ncols=n_columns, fontsize="small")
    figure.subplots_adjust(bottom=0.16 + 0.04 * n_rows + 0.037 * n_lines)


def partial_region(curve: RocCurve, max_fpr: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of a curve up to a false positive rate, its end interpolated (as sklearn does)."""
    x, y = curve.false_positive_rate, curve.true_positive_rate
    stop = int(np.searchsorted(x, max_fpr, "right"))
    end = np.interp(max_fpr, x[stop - 1 : stop + 1], y[stop - 1 : stop + 1])
    return np.append(x[:stop], max_fpr), np.append(y[:stop], end)
