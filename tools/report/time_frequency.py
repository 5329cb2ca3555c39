"""A clip as a network sees it: input, reconstruction and error.

Conventions: frames are (n_frames, n_bins) in the front end's unit. A frame is part of up to `frames` vectors, so its
reconstruction is the mean over these; the error is input - reconstruction, above 0 where the clip is louder than the
network expects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from datasets.audio import read_header, read_samples
from datasets.front_ends import sample_frames
from datasets.vectors import vectors_of
from networks.trained import Trained
from tools.results.plots import SMALL, new_figure, plain

FREQUENCIES = 62.5 * 2.0 ** np.arange(12)  # Hz, an octave apart: the ticks of the axis


@dataclass(frozen=True)
class Reconstruction:
    """A clip's input and its reconstruction: (n_frames, n_bins); NaN for a frame in no vector."""

    frames: np.ndarray
    reconstruction: np.ndarray
    seconds_per_frame: float | None  # None if unknown
    edges: np.ndarray | None  # (n_bins + 2,), Hz: where the bins begin, are centred and end
    mean_squared_error: float  # the clip's, over all its vectors
    front_end: str
    unit: str
    model: str

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
    samples, rate = read_samples(path, front_end.channel)
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
        settings.model,
    )


def draw_time_frequency(clips: Sequence[Reconstruction], title: str) -> Figure:
    """Draw a clip's input, its reconstruction and the error, one below the other, in a column for each network."""
    n = len(clips)
    figure = new_figure((SMALL[0] * n, 6.4), None)
    panels = figure.subplots(3, n, sharex="col", sharey="col", squeeze=False)
    for clip, column in zip(clips, panels.T, strict=True):
        _draw_clip(clip, column)
    shown = "\n".join(plain(line, 66 * n) for line in title.split("\n"))
    figure.suptitle(shown, fontsize="medium", y=0.99)
    # By hand, since a layout engine takes as long as the drawing.
    figure.subplots_adjust(0.13 / n, 0.075, 1 - 0.25 / n, 0.897, hspace=0.21, wspace=0.62)
    return figure


def _draw_clip(clip: Reconstruction, panels: Sequence[Axes]) -> None:
    """Draw a clip's input, reconstruction and error in three panels, the first two in the same colours."""
    low, high = np.quantile(clip.frames, [0.01, 0.999])
    limit = max(float(np.nanquantile(np.abs(clip.error), 0.995)), 1e-3)
    levels = ("viridis", low, max(high, low + 1))
    n_frames, n_bins = clip.frames.shape
    step = clip.seconds_per_frame or 1
    extent = (-0.5 * step, (n_frames - 0.5) * step, -0.5, n_bins - 0.5)
    shown = (
        (f"{clip.front_end} input", clip.frames, levels, ""),
        (f"reconstruction by {clip.model}", clip.reconstruction, levels, "level"),
        ("error, input − reconstruction", clip.error, ("RdBu_r", -limit, limit), "difference"),
    )
    for axes, (name, values, (colours, vmin, vmax), bar) in zip(panels, shown, strict=True):
        cmap = matplotlib.colormaps[colours].resampled(48)  # colours: pictures of more are larger
        image = axes.imshow(values.T, cmap, aspect="auto", interpolation="nearest", origin="lower", extent=extent)
        image.set_clim(vmin, vmax)
        axes.set_title(name, fontsize="medium")
        if bar:
            axes.figure.colorbar(
                image, cax=axes.inset_axes((1.04, 0, 0.04, 1)), label=f"{bar} ({clip.unit})", extend="both"
            )
    quantity = "bin"
    if clip.edges is not None and len(clip.edges) == n_bins + 2:  # else a front end adds bins to another's
        quantity = "frequency (kHz)"
        positions = np.interp(FREQUENCIES, clip.edges, np.arange(-1, n_bins + 1), right=2 * n_bins)
        has_room = np.diff(positions, append=2 * n_bins) >= n_bins / 10  # for a tick's text
        has_tick = has_room & (positions >= -0.5) & (positions <= n_bins - 0.5)
        panels[0].set_yticks(positions[has_tick], [f"{frequency / 1000:g}" for frequency in FREQUENCIES[has_tick]])
    for axes in panels:
        axes.set_ylabel(quantity)
    panels[-1].set_xlabel("time (s)" if clip.seconds_per_frame else "frame")
