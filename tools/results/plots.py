"""The pictures of a run: loss curves and box plots of anomaly scores. Drawn with matplotlib, without a display."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter

if TYPE_CHECKING:
    from networks.training import EpochLosses

# Okabe and Ito's colour-blind safe palette.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#999999"
LABEL_COLOURS = {"normal": BLUE, "anomaly": ORANGE, "unlabelled": GREY}


@dataclass(frozen=True)
class ScoreGroup:
    """The scores of the clips of one section, domain and label: a box."""

    section: int
    domain: str | None
    label: str | None
    scores: list[float]

    @property
    def kind(self) -> str:
        """Return what colours the box."""
        return self.label or "unlabelled"

    @property
    def name(self) -> str:
        """Return what stands below the box."""
        return "\n".join(word for word in (f"section {self.section:02d}", self.domain, self.kind) if word)


def draw_losses(epochs: "list[EpochLosses]", title: str, size: tuple[float, float] = (8, 5)) -> Figure:
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
        values = [getattr(epoch, field) or None for epoch in epochs]  # 0: no such vector in the epoch
        axes.plot(numbers, values, style, color=colour, label=label, marker=marker)
    axes.set(xlabel="epoch", ylabel="mean squared error (dB², logarithmic)", title=title)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high > 8 * low:  # a label at each multiple of 10, 100, ... would be on the next
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(curves) if size[0] >= 8 else 2)
    return figure


def draw_scores(groups: list[ScoreGroup], threshold: float | None, title: str, unit: str) -> Figure:
    """Draw a box for each group of clips, its clips as points, and the threshold as a line."""
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
        axes.axhline(threshold, color="black", linestyle="--", linewidth=1, label=f"decision threshold {threshold:.4g}")
        figure.legend(loc="outside lower right")  # beside the boxes, never on them
    middle, span = (len(groups) + 1) / 2, max(len(groups), 4) + 0.2
    axes.set_xlim(middle - span / 2, middle + span / 2)
    axes.set_xticks(list(positions), [group.name for group in groups])
    axes.set(ylabel=f"anomaly score ({unit})", title=title)
    axes.grid(axis="y", alpha=0.3)
    return figure


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG file's content."""
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
