"""The pictures of a run: loss curves and anomaly scores. Drawn with matplotlib, without a display.

The functions return Figures, to_png() a file's content. Text that holds names of the user's is never parsed as
mathematics: a `$` in a name is a `$` in the picture.
"""

import io
from collections.abc import Sequence
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, ScalarFormatter

from tools.results.pictures import ScoreGroup

# Okabe and Ito's colour-blind safe palette.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"
LABEL_COLOURS = {"normal": BLUE, "anomaly": ORANGE, "unlabelled": GREY}
DOMAIN_COLOURS = {"source": BLUE, "target": PURPLE, None: GREY}
LOSS_UNIT = "mean squared error (dB²)"  # of the default front end


class Losses(Protocol):
    """The losses of an epoch that are drawn (networks.training.EpochLosses)."""

    @property
    def loss(self) -> float: ...  # noqa: D102
    @property
    def val_loss(self) -> float: ...  # noqa: D102
    @property
    def recon_loss_source(self) -> float: ...  # noqa: D102
    @property
    def recon_loss_target(self) -> float: ...  # noqa: D102


def number_text(value: float) -> str:
    """Return a number with four digits and a proper minus."""
    return f"{value:.4g}".replace("-", "−")


def set_title(axes: Axes, text: str) -> None:
    """Set a title that is shown as it is."""
    axes.set_title(text, parse_math=False)


def score_title(machine_type: str, sections: Sequence[int], score: str, threshold: float | None) -> str:
    """Return the title of a picture of scores: machine type, sections, score, threshold."""
    names = ", ".join(f"{section:02d}" for section in sections)
    decided = "no threshold" if threshold is None else f"threshold {number_text(threshold)}"
    return f"{machine_type}, section{'s' if len(sections) > 1 else ''} {names}: {score}, {decided}"


def loss_title(machine_type: str, sections: Sequence[int], seed: int) -> str:
    """Return the title of a picture of losses: machine type, sections, seed."""
    names = ", ".join(f"{section:02d}" for section in sections)
    return f"{machine_type}, section{'s' if len(sections) > 1 else ''} {names}: losses, seed {seed}"


def draw_losses(
    epochs: Sequence[Losses], title: str, size: tuple[float, float] = (8, 5), unit: str = LOSS_UNIT
) -> Figure:
    """Draw the losses of each epoch: in all, and of the source and the target domain's training vectors.

    `size` is width and height in inches.
    """
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    numbers = range(1, len(epochs) + 1)
    curves = (
        ("recon_loss_source", "training, source", GREEN, ":"),
        ("recon_loss_target", "training, target", PURPLE, ":"),
        ("loss", "training", BLUE, "-"),
        ("val_loss", "validation", ORANGE, "-"),
    )
    for field, label, colour, style in curves:
        marker = "o" if len(epochs) == 1 else None
        values: Any = [getattr(epoch, field) or None for epoch in epochs]  # 0: no such vector in the epoch
        axes.plot(numbers, values, style, color=colour, label=label, marker=marker)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{unit}, logarithmic", parse_math=False)
    set_title(axes, title)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high > 8 * low:  # a label at each multiple of 10, 100, ... would be on the next
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(curves) if size[0] >= 8 else 2)
    return figure


def draw_scores(groups: Sequence[ScoreGroup], threshold: float | None, title: str, unit: str) -> Figure:
    """Draw the scores of a run's clips and the threshold: a box for each group; a histogram where none is labelled."""
    if all(group.label is None for group in groups):
        return _draw_histogram(groups, threshold, title, unit)
    figure = Figure(figsize=(max(8.0, 2.0 + 1.1 * len(groups)), 5), layout="constrained")
    axes = figure.add_subplot()
    positions = range(1, len(groups) + 1)
    boxes = axes.boxplot(
        [group.scores for group in groups], positions=positions, widths=0.6, patch_artist=True, showfliers=False
    )
    for position, group, box in zip(positions, groups, boxes["boxes"], strict=True):
        colour = LABEL_COLOURS[group.kind]
        box.set(facecolor=colour, alpha=0.35)
        n = len(group.scores)
        spread = [position + 0.4 * (i + 0.5) / n - 0.2 for i in range(n)]  # side by side, in clip order
        axes.plot(spread, group.scores, ".", color=colour, markersize=4)
    for median in boxes["medians"]:
        median.set(color="black")
    if threshold is not None:
        axes.axhline(threshold, label=f"decision threshold {number_text(threshold)}", **_LINE)
        figure.legend(loc="outside lower right")  # beside the boxes, never on them
    middle, span = (len(groups) + 1) / 2, max(len(groups), 4) + 0.2
    axes.set_xlim(middle - span / 2, middle + span / 2)
    axes.set_xticks(list(positions), [group.name for group in groups])
    axes.set_ylabel(f"anomaly score ({unit})", parse_math=False)
    set_title(axes, title)
    axes.grid(axis="y", alpha=0.3)
    return figure


_LINE: Any = {"color": "black", "linestyle": "--", "linewidth": 1}


def _draw_histogram(groups: Sequence[ScoreGroup], threshold: float | None, title: str, unit: str) -> Figure:
    """Draw how many clips have which score, of each section and domain."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    n_clips = sum(len(group.scores) for group in groups)
    labels = [group.name.replace("\n", ", ") for group in groups]
    colours = [DOMAIN_COLOURS[group.domain] for group in groups] if len(groups) <= 2 else None
    n_bins = min(30, max(8, int(2 * n_clips**0.5)))
    axes.hist([list(group.scores) for group in groups], bins=n_bins, stacked=True, label=labels, color=colours)
    if threshold is not None:
        axes.axvline(threshold, label=f"decision threshold {number_text(threshold)}", **_LINE)
    figure.legend(loc="outside lower center", ncols=2)
    axes.set_xlabel(f"anomaly score ({unit})", parse_math=False)
    axes.set_ylabel("clips")
    axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    set_title(axes, title)
    axes.grid(axis="y", alpha=0.3)
    return figure


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file's content."""
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
