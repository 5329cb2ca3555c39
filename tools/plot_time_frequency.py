#!/usr/bin/env python3
"""A clip as a network sees it: log-mel input, reconstruction and error side by side.

Conventions: frames are (n_frames, n_mels), dB. A frame stands in up to `frames` vectors, so that its reconstruction is
the mean over these; the error is input - reconstruction, above 0 where the clip is louder than the network expects.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common import atomic_write, run_command
from datasets.cache import Features
from datasets.clips import Clip
from datasets.features import FeatureConfig, check_config, log_mel, read_header
from datasets.loaders import VectorConfig, Vectors
from networks.autoencoder import AutoEncoder
from tools.options import PATH, option_type
from tools.record import load_network_of
from tools.report_plots import new_figure, to_png

FREQUENCIES = [62.5 * 2**i for i in range(12)]  # Hz, an octave apart: where the axis has its ticks
TITLE_WIDTH = 110  # characters


@dataclass(frozen=True)
class Reconstruction:
    """A clip's input and what the network makes of it: (n_frames, n_mels), dB; NaN for a frame in no vector."""

    frames: np.ndarray
    reconstruction: np.ndarray
    seconds_per_frame: float
    edges: np.ndarray  # (n_mels + 2,), Hz: where the mel bands begin, are centred and end
    mean_squared_error: float  # dB², the clip's MSE score

    @property
    def error(self) -> np.ndarray:
        """Return input - reconstruction: (n_frames, n_mels), dB."""
        return self.frames - self.reconstruction


@torch.no_grad()
def reconstruct(network: AutoEncoder, path: Path, features: FeatureConfig, vectors: VectorConfig) -> Reconstruction:
    """Let a network reconstruct a clip.

    Raises
    ------
    InputError
        The clip is unreadable or shorter than a vector, or the parameters do not fit its sampling rate.
    """
    import librosa

    rate = read_header(path).sampling_rate
    check_config(features, rate)
    frames = log_mel(path, features)
    cut = Vectors(Features(frames, (len(frames),)), [Clip(path, 0, None, None)], vectors, torch.device("cpu"))
    (inputs,) = cut.of_each_clip()  # (n_vectors, frames * n_mels)
    network.eval()
    outputs = network(inputs)
    rows = (cut.starts[:, None] + torch.arange(vectors.frames)).flatten()  # (n_vectors * frames,): which frame it is
    total = torch.zeros(frames.shape, dtype=torch.float64)
    total.index_add_(0, rows, outputs.reshape(-1, features.n_mels).double())
    count = torch.bincount(rows, minlength=len(frames))[:, None]
    return Reconstruction(
        frames,
        (total / count).numpy(),  # 0 / 0 is NaN
        features.hop_length / rate,
        librosa.mel_frequencies(features.n_mels + 2, fmin=features.fmin, fmax=features.fmax or rate / 2),
        float(((outputs - inputs) ** 2).mean()),
    )


def draw_time_frequency(clip: Reconstruction, title: str) -> Figure:
    """Draw input, reconstruction and error, the first two in the same colours."""
    figure = new_figure((11, 3.9))
    panels = figure.subplots(1, 3, sharey=True)
    low, high = np.quantile(clip.frames, [0.01, 0.999])
    limit = float(np.nanquantile(np.abs(clip.error), 0.995))
    levels = {"cmap": "viridis", "vmin": low, "vmax": max(high, low + 1)}
    errors = {"cmap": "RdBu_r", "vmin": -max(limit, 1e-3), "vmax": max(limit, 1e-3)}
    _image(panels[0], clip, clip.frames, "log-mel input", levels)
    shown = _image(panels[1], clip, clip.reconstruction, "reconstruction", levels)
    figure.colorbar(shown, ax=list(panels[:2]), label="level (dB)", extend="both", aspect=25, fraction=0.06)
    shown = _image(panels[2], clip, clip.error, "error", errors)
    figure.colorbar(shown, ax=panels[2], label="input - reconstruction (dB)", extend="both", aspect=25)
    positions = np.interp(FREQUENCIES, clip.edges, np.arange(-1, len(clip.edges) - 1), left=np.nan, right=np.nan)
    ticks = [(y, f / 1000) for y, f in zip(positions, FREQUENCIES, strict=True) if -0.5 <= y <= len(clip.edges) - 2.5]
    ticks = [tick for tick, after in zip(ticks, [*ticks[1:], (np.inf, 0)], strict=True) if after[0] - tick[0] >= 6]
    panels[0].set_yticks([y for y, _ in ticks], [f"{kilohertz:g}" for _, kilohertz in ticks])
    panels[0].set_ylabel(f"frequency (kHz, {clip.frames.shape[1]} mel bands)")
    figure.suptitle(_printable(title), fontsize="medium", parse_math=False)
    return figure


def _image(axes: Axes, clip: Reconstruction, values: np.ndarray, title: str, colours: dict) -> object:
    n_frames, n_mels = values.shape
    dt = clip.seconds_per_frame
    extent = (-dt / 2, (n_frames - 0.5) * dt, -0.5, n_mels - 0.5)
    shown = axes.imshow(values.T, origin="lower", aspect="auto", extent=extent, interpolation="nearest", **colours)
    axes.set(title=title, xlabel="time (s)")
    return shown


def _printable(title: str) -> str:
    """Return a title in letters that matplotlib's font has, not too long."""
    text = "".join(c if c.isprintable() and ord(c) < 256 else c.encode("unicode_escape").decode() for c in title)
    return text if len(text) <= TITLE_WIDTH else f"{text[: TITLE_WIDTH - 4]} ..."


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(_plot)


def _plot() -> None:
    parser = argparse.ArgumentParser(
        description="Draw a clip's log-mel input, its reconstruction by a network, and the error, side by side.",
        epilog="Feature parameters are those of the network's record (MODEL.json), without it those of baseline.yaml.",
        allow_abbrev=False,
    )
    parser.add_argument("network", type=option_type(PATH), metavar="MODEL.pth", help="a trained network")
    parser.add_argument("clip", type=option_type(PATH), metavar="CLIP.wav", help="a recording")
    parser.add_argument("--output", type=option_type(PATH), required=True, metavar="PICTURE.png", help="what to write")
    args = parser.parse_args()
    network, features, vectors = load_network_of(args.network, torch.device("cpu"))
    clip = reconstruct(network, args.clip, features, vectors)
    figure = draw_time_frequency(clip, f"{args.clip.name}, mean squared error {clip.mean_squared_error:.4g} dB²")
    with atomic_write(args.output, "wb") as file:
        file.write(to_png(figure))
    print(f"wrote {args.output}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
