"""A clip as a network sees it: input, reconstruction and error.

Conventions: frames are (n_frames, n_bins) in the front end's unit. A frame is part of up to `frames` vectors, so its
reconstruction is the mean over these; the error is input - reconstruction, above 0 where the clip is louder than the
network expects.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from datasets.audio import read_header, read_samples
from datasets.front_ends import sample_frames
from datasets.vectors import vectors_of
from networks.trained import Trained
from tools.results.plots import SMALL, new_figure, plain

GAP = 0.21  # between panels one below the other, in their height
FREQUENCIES = [62.5 * 2**i for i in range(12)]  # Hz, an octave apart: the ticks of the axis


@dataclass(frozen=True)
class Reconstruction:
    """A clip's input and its reconstruction: (n_frames, n_bins); NaN for a frame in no vector."""

    frames: np.ndarray
    reconstruction: np.ndarray
    seconds_per_frame: float | None  # None: not known
    edges: np.ndarray | None  # (n_bins + 2,), Hz: where the bins begin, are centred and end
    mean_squared_error: float  # the clip's, over all its vectors
    front_end: str
    unit: str

    @property
    def error(self) -> np.ndarray:
        """Return input - reconstruction: (n_frames, n_bins)."""
        return self.frames - self.reconstruction


@torch.no_grad()
def reconstruct(trained: Trained, path: Path) -> Reconstruction:
    """Let a network reconstruct a clip."""
    header = read_header(path)
    trained.check_clip(f"{path} has", header.sampling_rate, header.channels)
    front_end, settings = trained.front_end, trained.settings
    samples, rate = read_samples(path, settings.channel)
    frames = sample_frames(samples, rate, front_end, path)  # (n_frames, n_bins)
    inputs = vectors_of(frames, settings, torch.device("cpu"), path)  # (n_vectors, frames * n_bins)
    trained.network.eval()
    outputs = trained.network(inputs)
    starts = torch.arange(len(inputs)) * settings.frame_hop_length
    rows = (starts[:, None] + torch.arange(settings.frames)).flatten()  # (n_vectors * frames,): each one's frame
    total = torch.zeros(frames.shape, dtype=torch.float64)
    total.index_add_(0, rows, outputs.reshape(-1, frames.shape[1]).double())
    count = torch.bincount(rows, minlength=len(frames))[:, None]
    return Reconstruction(
        frames,
        (total / count).numpy(),  # 0 / 0 is NaN
        settings.hop_length / rate if len(frames) == 1 + len(samples) // settings.hop_length else None,
        front_end.edges(rate),
        float(((outputs - inputs) ** 2).mean()),
        front_end.name.replace("_", "-"),
        front_end.unit,
    )


def draw_time_frequency(clip: Reconstruction, title: str, is_narrow: bool = False) -> Figure:
    """Draw input, reconstruction and error, the first two in the same colours.

    They are side by side, or if `is_narrow` one below the other, in the width of the report's other pictures.
    """
    figure = new_figure((SMALL[0], 6.4) if is_narrow else (11, 3.9), None if is_narrow else "constrained")
    panels = figure.subplots(*((3, 1) if is_narrow else (1, 3)), sharex=True, sharey=True)
    low, high = np.quantile(clip.frames, [0.01, 0.999])
    limit = max(float(np.nanquantile(np.abs(clip.error), 0.995)), 1e-3)
    levels = {"cmap": "viridis", "vmin": low, "vmax": max(high, low + 1)}
    errors = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    n_frames, n_bins = clip.frames.shape
    step = clip.seconds_per_frame or 1
    extent = (-0.5 * step, (n_frames - 0.5) * step, -0.5, n_bins - 0.5)
    images = []
    for axes, name, values, colours in (
        (panels[0], f"{clip.front_end} input", clip.frames, levels),
        (panels[1], "reconstruction", clip.reconstruction, levels),
        (panels[2], "error", clip.error, errors),
    ):
        place: dict = {"origin": "lower", "aspect": "auto", "extent": extent, "interpolation": "nearest"}
        images.append(axes.imshow(values.T, **place, **colours))
        axes.set_title(name, fontsize="medium")
    quantity = "bin"
    if clip.edges is not None and len(clip.edges) == n_bins + 2:  # else a front end adds bins to another's
        set_frequency_ticks(panels[0], clip.edges)
        quantity = "frequency (kHz)" if is_narrow else f"frequency (kHz, {n_bins} bands)"
    for axes in panels if is_narrow else panels[:1]:
        axes.set_ylabel(quantity)
    for axes in panels[-1:] if is_narrow else panels:
        axes.set_xlabel("time (s)" if clip.seconds_per_frame else "frame")
    difference = "difference" if is_narrow else "input − reconstruction"
    bars = []
    for image, panel, label, height in (
        (images[0], panels[1], "level", 2 + GAP),
        (images[2], panels[2], difference, 1),
    ):
        bars.append(panel.inset_axes((1.04, 0, 0.04, height if is_narrow else 1)))
        figure.colorbar(image, cax=bars[-1], label=f"{label} ({clip.unit})", extend="both")
    lines = [plain(line, 66 if is_narrow else 110) for line in title.split("\n")]
    figure.suptitle("\n".join(lines), fontsize="medium", y=0.99 if is_narrow else None)
    if is_narrow:  # by hand, since a layout engine takes a third of the time: margins as wide as the labels in them
        canvas: Any = figure.canvas
        boxes = [axes.yaxis.get_tightbbox(canvas.get_renderer()) for axes in (panels[0], *bars)]
        panel, n_pixels = panels[0].bbox, figure.bbox.width
        left = (panel.x0 - boxes[0].x0) / n_pixels + 0.01
        right = (max(box.x1 for box in boxes) - panel.x0 - 1.08 * panel.width) / n_pixels + 0.01
        width = (1 - left - right) / 1.08  # a bar ends at 1.08 times the panel's width
        figure.subplots_adjust(left=left, right=left + width, bottom=0.075, top=0.897, hspace=GAP)
    return figure


def set_frequency_ticks(axes: Axes, edges: np.ndarray) -> None:
    """Put ticks at octaves, in kHz, on a vertical axis of bins with these edges and centres, (n_bins + 2,), in Hz."""
    n_bins = len(edges) - 2
    positions = np.interp(FREQUENCIES, edges, np.arange(-1, n_bins + 1), left=np.nan, right=np.nan)
    ticks = [(y, f / 1000) for y, f in zip(positions, FREQUENCIES, strict=True) if -0.5 <= y <= n_bins - 0.5]
    room = n_bins / 10  # of a tick's text
    ticks = [tick for tick, after in zip(ticks, [*ticks[1:], (np.inf, 0)], strict=True) if after[0] - tick[0] >= room]
    axes.set_yticks([y for y, _ in ticks], [f"{kilohertz:g}" for _, kilohertz in ticks])
