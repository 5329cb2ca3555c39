"""The pictures of a run: losses and scores. Drawn with matplotlib and seaborn, without a display.

The functions return Figures, to_png() a file's content. Scores are given as (section, domain, label, score) of each
clip: `clips[SCORE_COLUMNS].itertuples(index=False)` of a table of clips (clips.py).
Groups differ in line style or hatching too, never in colour alone. Text in a picture may hold names of the user's: it
is shown as it is, never as mathematics.
"""

import functools
import io
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import LogLocator, MaxNLocator, ScalarFormatter

matplotlib.rcParams["text.parse_math"] = False
matplotlib.rcParams["axes.titley"] = 1.0  # where titles are without ticks above: need not be found out in each drawing

# Okabe and Ito's colour-blind safe palette.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"
LABELS = {  # name, colour, line style and hatching
    "normal": ("normal", BLUE, "-", None),
    "anomaly": ("anomalous", ORANGE, "--", "////"),
    "unlabelled": ("unlabelled", GREY, "-", None),
}
SCORE_COLUMNS = ["section", "domain", "label", "score"]
ScoreOfClip = tuple[int, str | None, str | None, float]  # section, domain, label and score of a clip
LINE: Any = {"color": "black", "linestyle": ":", "linewidth": 1.6}  # of a threshold
LARGE, SMALL = (8.0, 5.0), (4.8, 4.4)  # inches: two small ones fill the report's width, one is legible on a phone


def new_figure(size: tuple[float, float], layout: Literal["constrained"] | None = "constrained") -> Figure:
    """Return an empty figure of this width and height in inches, on a canvas of its own."""
    figure = Figure(figsize=size, dpi=120, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file's content."""
    content = io.BytesIO()
    canvas: Any = figure.canvas  # its print_png draws once, Figure.savefig twice if there is a layout engine
    canvas.print_png(content, pil_kwargs={"compress_level": 1})  # 6 saves 2 %
    return content.getvalue()


def legend_below(figure: Figure, n_lines: int = 0, **margins: float) -> None:
    """Put a legend of all panels below the lowest, whose label has `n_lines` lines more than one; set the margins.

    By hand, since a layout engine draws everything twice.
    """
    handles = [axes.get_legend_handles_labels() for axes in figure.axes]
    entries = {name: handle for pair in handles for handle, name in zip(*pair, strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="lower center", ncols=2, fontsize="small")
    inches = 0.7 + 0.18 * -(-len(entries) // 2) + 0.16 * n_lines
    figure.subplots_adjust(left=0.12, right=0.97, bottom=inches / figure.get_size_inches()[1], **margins)


def number_text(value: float) -> str:
    """Return a number with four digits and a proper minus."""
    return f"{value:.4g}".replace("-", "−")


@functools.cache
def font_characters() -> frozenset[int]:
    """Return the code points of the characters that matplotlib's font has."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def plain(text: str, width: int = 200) -> str:
    """Escape the characters missing in matplotlib's font, and shorten text to `width` characters."""
    shown = "".join(c if c.isprintable() and ord(c) in font_characters() else ascii(c)[1:-1] for c in text)
    return shown if len(shown) <= width else f"{shown[: width - 4]} ..."


def sections_title(machine_type: str, sections: Sequence[int]) -> str:
    """Begin a title: `fan, section 00`."""
    names = ", ".join(f"{section:02d}" for section in sections)
    return f"{machine_type}, section{'s' if len(sections) > 1 else ''} {names}"


def score_title(machine_type: str, sections: Sequence[int], score: str, threshold: float | None) -> str:
    """Return the title of a picture of scores: machine type, sections, score, threshold."""
    decided = "no threshold" if threshold is None else f"threshold {number_text(threshold)}"
    return f"{sections_title(machine_type, sections)}: {score}, {decided}"


# --- losses -----------------------------------------------------------------------------------------------------------


def draw_losses(epochs: Sequence[Any], title: str, unit: str, size: tuple[float, float] = LARGE) -> Figure:
    """Draw the losses of each epoch (networks.network.EpochLosses): in all, and of either domain's training vectors.

    Without vectors of the target domain, the domains have no curves: the source domain's would be that of all vectors.
    `size` is width and height in inches.
    """
    figure = new_figure(size)
    axes = figure.add_subplot()
    curves = (
        ("recon_loss_source", "training, source", GREEN, ":"),
        ("recon_loss_target", "training, target", PURPLE, ":"),
        ("loss", "training", BLUE, "-"),
        ("val_loss", "validation", ORANGE, "-"),
    )
    has_domains = any(epoch.recon_loss_target for epoch in epochs)
    for field, label, colour, style in curves if has_domains else curves[2:]:
        values: Any = [getattr(epoch, field) or None for epoch in epochs]  # 0: no such vector in the epoch
        marker = "o" if len(epochs) == 1 else None
        axes.plot(range(1, len(epochs) + 1), values, style, color=colour, label=label, marker=marker)
    axes.set(xlabel="epoch", ylabel=f"{unit}, logarithmic", yscale="log")
    axes.set_title(plain(title, 70), fontsize="large")
    low, high = axes.get_ylim()
    if high > 8 * low:  # a label at each multiple of 10, 100, ... would be on the next
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4 if size[0] >= LARGE[0] else 2)
    return figure


# --- scores -----------------------------------------------------------------------------------------------------------


def _groups(scores: Iterable[ScoreOfClip]) -> list[tuple[int, str | None, str, np.ndarray]]:
    """Return section, domain, label and scores of each group of clips, normal before anomalous ones."""
    groups: dict[tuple[int, str | None, str], list[float]] = {}
    for section, domain, label, score in scores:
        groups.setdefault((section, domain, label or "unlabelled"), []).append(score)
    order = sorted(groups, key=lambda key: (key[0], key[1] or "", list(LABELS).index(key[2])))
    return [(*key, np.array(groups[key])) for key in order]


def draw_scores(scores: Iterable[ScoreOfClip], threshold: float | None, title: str, unit: str) -> Figure:
    """Draw the scores of a run's clips and the threshold: a box for each group; a histogram where none is labelled."""
    scores = list(scores)
    groups = _groups(scores)
    if all(label == "unlabelled" for _, _, label, _ in groups):
        return draw_histogram(scores, threshold, title, unit, LARGE)
    figure = new_figure((max(LARGE[0], 2.0 + 1.1 * len(groups)), LARGE[1]))
    axes = figure.add_subplot()
    boxes = axes.boxplot([some for *_, some in groups], widths=0.6, patch_artist=True, showfliers=False)
    for position, (group, box) in enumerate(zip(groups, boxes["boxes"], strict=True), 1):
        colour, n = LABELS[group[2]][1], len(group[3])
        box.set(facecolor=colour, alpha=0.35)
        spread = position + 0.4 * (np.arange(n) + 0.5) / n - 0.2  # side by side, in clip order
        axes.plot(spread, group[3], ".", color=colour, markersize=4)
    for median in boxes["medians"]:
        median.set(color="black")
    if threshold is not None:
        axes.axhline(threshold, label=f"decision threshold {number_text(threshold)}", **LINE)
        figure.legend(loc="outside lower right")  # beside the boxes, never on them
    middle, span = (len(groups) + 1) / 2, max(len(groups), 4) + 0.2
    axes.set_xlim(middle - span / 2, middle + span / 2)
    names = [(f"section {section:02d}", domain, label, f"n = {len(some)}") for section, domain, label, some in groups]
    axes.set_xticks(range(1, len(groups) + 1), ["\n".join(filter(None, words)) for words in names])
    axes.set_ylabel(f"anomaly score ({unit})")
    axes.set_title(plain(title))
    axes.grid(axis="y", alpha=0.3)
    return figure


def draw_histogram(
    scores: Iterable[ScoreOfClip], threshold: float | None, title: str, unit: str, size: tuple[float, float] = SMALL
) -> Figure:
    """Draw a histogram of the scores for each section and domain, normal over anomalous clips, and the threshold."""
    import seaborn  # with pandas a second, which few tests need

    groups = _groups(scores)
    values = np.concatenate([of_group for *_, of_group in groups])
    bars = score_bars(values, threshold)
    parts = list(dict.fromkeys((section, domain) for section, domain, *_ in groups))
    figure = new_figure((size[0], size[1] * max(1, len(parts) / 3)), None)
    panels = figure.subplots(len(parts), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    is_shown = threshold is not None and bars[0] <= threshold <= bars[-1]
    for axes, part in zip(panels, parts, strict=True):
        counts = []
        for _, _, label, of_group in (group for group in groups if group[:2] == part):
            name, colour, style, hatch = LABELS[label]
            look: Any = {"facecolor": (colour, 0.3), "edgecolor": colour, "linestyle": style, "hatch": hatch}
            seaborn.histplot(of_group, bins=bars, element="step", label=f"{name} clips", ax=axes, linewidth=1.6, **look)
            counts.append(f"{len(of_group)} {name}")
        if is_shown:
            axes.axvline(threshold, label="threshold", **LINE)
        where = f"{part[1]} domain" if part[1] else "all clips"
        several = f"section {part[0]:02d}, " if len({section for section, _ in parts}) > 1 else ""
        axes.set_title(f"{several}{where}: {', '.join(counts)}", fontsize="medium")
        axes.set_ylabel("clips")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    note = ""
    if threshold is not None and not is_shown:
        note = f"\nthe threshold {number_text(threshold)} is beyond the axis"
    panels[-1].set_xlabel(f"anomaly score ({unit}){note}")
    figure.suptitle(plain(title, 70 if size == SMALL else 110), fontsize="large")
    legend_below(figure, note.count("\n"), top=0.87, hspace=0.3)
    return figure


def score_bars(scores: np.ndarray, threshold: float | None) -> np.ndarray:
    """Return the edges of a histogram's bars, (n_bins + 1,); the range includes a threshold that is near."""
    low, high = float(scores.min()), float(scores.max())
    span = high - low
    if threshold is not None and low - span < threshold < high + span:
        low, high = min(low, threshold - 0.02 * span), max(high, threshold + 0.02 * span)
    if low >= high:
        low, high = low - abs(low) / 2 - 1e-9, high + abs(high) / 2 + 1e-9
    return np.linspace(low, high, min(30, max(8, int(2 * np.sqrt(len(scores))))) + 1)
