"""The pictures of areas: the ROC curves of a section, and the heat map. Areas are fractions, shown in percent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from tools.results.plots import BLUE, GREEN, GREY, PURPLE, SMALL, legend_below, new_figure, plain

CURVES = {"AUC (source)": (GREEN, "--"), "AUC (target)": (PURPLE, "-."), "AUC, all clips": (BLUE, "-")}
AREAS = matplotlib.colormaps["RdBu"]  # red below, white at, blue above 50 %: chance


@dataclass(frozen=True)
class RocCurve:
    """A receiver operating characteristic, and the clips that it is of."""

    metric: str  # a key of CURVES
    false_positive_rate: np.ndarray  # (n_points,), rising from 0 to 1
    true_positive_rate: np.ndarray  # (n_points,)
    area: float


def roc_curves(is_anomaly: np.ndarray, is_target: np.ndarray, scores: np.ndarray) -> list[RocCurve]:
    """Return the curves of a section: normal clips of each domain against all anomalous ones, then all clips.

    A curve is left out if one class is missing. The last is that of all clips, whose beginning pAUC is the area of.
    """
    chosen = {"AUC, all clips": np.ones(len(scores), dtype=bool)}
    if is_target.any():
        chosen = {"AUC (source)": ~is_target | is_anomaly, "AUC (target)": is_target | is_anomaly, **chosen}
    curves = []
    for metric, clips in chosen.items():
        if is_anomaly[clips].any() and not is_anomaly[clips].all():
            x, y, _ = roc_curve(is_anomaly[clips], scores[clips])
            curves.append(RocCurve(metric, x, y, float(np.trapezoid(y, x))))
    return curves


def partial_curve(x: np.ndarray, y: np.ndarray, max_fpr: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of a ROC curve up to a false positive rate, its end interpolated (as sklearn does)."""
    stop = int(np.searchsorted(x, max_fpr, "right"))
    end = np.interp(max_fpr, x[stop - 1 : stop + 1], y[stop - 1 : stop + 1])
    return np.append(x[:stop], max_fpr), np.append(y[:stop], end)


def draw_roc(curves: list[RocCurve], partial_area: float | None, max_fpr: float, title: str) -> Figure:
    """Draw ROC curves, and under that of all clips the region that pAUC is made of."""
    figure = new_figure(SMALL, None)
    axes = figure.add_subplot()
    for curve in curves:
        colour, style = CURVES[curve.metric]
        x, y = curve.false_positive_rate, curve.true_positive_rate
        axes.plot(x, y, style, color=colour, label=f"{curve.metric}: {100 * curve.area:.1f} %")
        if curve.metric == "AUC, all clips" and partial_area is not None:
            label = f"pAUC up to {max_fpr:g}, standardised: {100 * partial_area:.1f} %"
            axes.fill_between(*partial_curve(x, y, max_fpr), color=BLUE, alpha=0.3, linewidth=0, label=label)
            axes.axvline(max_fpr, color=BLUE, linewidth=0.8)
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="chance: 50 %")
    rates = {"xlabel": "false positive rate (share of normal clips)", "xlim": (-0.01, 1.01), "ylim": (-0.01, 1.01)}
    axes.set(**rates, ylabel="true positive rate (share of anomalous clips)", aspect="equal")
    axes.set_title(plain(title, 70), fontsize="large")
    axes.grid(alpha=0.3)
    legend_below(figure, top=0.93)
    return figure


def draw_heat_map(areas: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> Figure:
    """Draw areas[metric][system][row] as a panel for each metric: rows down, systems across; None is left empty."""
    rows = list(dict.fromkeys(row for systems in areas.values() for values in systems.values() for row in values))
    names = list(dict.fromkeys(system for systems in areas.values() for system in systems))
    shown_rows, shown_names = ([plain(text, 60) for text in texts] for texts in (rows, names))
    width = 2.0 + 0.09 * max(map(len, shown_rows)) + (0.5 * max(len(names), 2) + 0.2) * len(areas)  # inches
    figure = new_figure((width, 1.3 + 0.32 * len(rows) + 0.09 * max(map(len, shown_names))))
    panels: Sequence[Axes] = figure.subplots(1, len(areas), squeeze=False)[0]
    for axes, (metric, systems) in zip(panels, areas.items(), strict=True):
        values = np.array([[systems.get(name, {}).get(row) for name in names] for row in rows], dtype=float) * 100
        image = axes.imshow(values, cmap=AREAS, vmin=0, vmax=100, aspect="auto")
        for (y, x), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if abs(value - 50) > 30 else "black"
                axes.text(x, y, f"{value:.1f}", ha="center", va="center", color=colour, fontsize="small")
        axes.set_facecolor("#e8e8e8")  # of cells without a value
        axes.set_xticks(range(len(names)), shown_names, rotation=90)
        axes.set_yticks(range(len(rows)), shown_rows if axes is panels[0] else [""] * len(rows))
        axes.set_xticks(np.arange(0.5, len(names) - 1), minor=True)
        axes.set_yticks(np.arange(0.5, len(rows) - 1), minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.spines[:].set_visible(False)
        axes.tick_params(which="both", length=0)
        axes.set(title=metric, xlabel="system", ylabel="machine type" if axes is panels[0] else "")
    bar = figure.colorbar(image, ax=list(panels), aspect=30, fraction=0.05)
    bar.set_label("area (percent;\n50 is chance)")  # two lines, for a map of one row
    return figure
