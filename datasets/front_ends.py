"""Front ends, which turn the samples of a clip into frames: the baseline's log-mel, and the class that others extend.

Frames are (n_frames, n_bins) float32, one row a frame, in the front end's unit.
"""

import functools
import sys
from collections.abc import Generator
from pathlib import Path

from common import FRONT_ENDS, Extension, InputError, Parameter, Settings, contract_error

import numpy as np

from datasets.audio import in_parallel, read_samples

EPSILON = sys.float_info.epsilon  # a Python float: NumPy's float64 would make the logarithm float64
BLOCK = 2**16  # samples of overlapping frames that are transformed at once: what stays in a processor's cache


class FrontEnd:
    """From samples to frames. An extension derives from it, sets `name` and `unit`, and defines `__call__`.

    Attributes
    ----------
    settings
        The value of every parameter, its own and the baseline's (n_mels, n_fft, hop_length ...), as attributes.
    """

    name = ""
    unit = "no unit"
    options: tuple[Parameter, ...] = ()  # parameters of its own
    all_channels = False  # whether it takes all channels of a clip, instead of the one that --channel names
    extension: Extension | None = None

    def __init__(self, settings: Settings):
        self.settings = settings

    @property
    def channel(self) -> int | None:
        """The channel that it takes, counted from 0, or None for all."""
        return None if self.all_channels else self.settings.channel

    @property
    def n_bins(self) -> int:
        """The number of values in a frame."""
        return self.settings.n_mels

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of a clip; by default those of a centred short-time Fourier transform."""
        return 1 + n_samples // self.settings.hop_length

    def __call__(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """Return the frames, (n_frames, n_bins) float32, of samples at a rate in Hz.

        Samples are float32, (n_samples,), or (n_samples, channels) if it takes all channels.
        """
        raise NotImplementedError

    def check(self, rate: int) -> None:
        """Raise InputError if the parameters do not fit each other or a sampling rate in Hz."""

    def edges(self, rate: int) -> np.ndarray | None:
        """Return where bands begin, are centred and end, in Hz, (n_bins + 2,), for the frequency axis of pictures.

        None if the bins are no bands of frequencies; pictures then number them.
        """


class LogMel(FrontEnd):
    """The baseline's log-mel energies: 20 / power * log10(max(mel, epsilon)).

    Equal to librosa.feature.melspectrogram, which the reference calls, to the last bit (tests/test_front_ends.py), but
    without librosa's import, which takes more than a second. NumPy's BLAS must run with one thread (in_parallel): with
    more, the product with the mel basis has other last bits.
    """

    name = "log_mel"
    unit = "dB"

    def __call__(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """Return the log-mel energies in dB: (n_frames, n_mels)."""
        s = self.settings
        spectrum = magnitudes(samples, s.n_fft, s.hop_length, s.win_length or s.n_fft)  # (n_fft / 2 + 1, n_frames)
        basis = mel_basis(rate, s.n_fft, s.n_mels, s.fmin, s.fmax or rate / 2)
        mel = np.einsum("ft,mf->mt", spectrum**s.power, basis, optimize=True)  # (n_mels, n_frames)
        return (20 / s.power * np.log10(np.maximum(mel, EPSILON))).T  # (n_frames, n_mels)

    def edges(self, rate: int) -> np.ndarray:
        """Return the edges and centres of the mel bands in Hz: (n_mels + 2,)."""
        s = self.settings
        return mel_edges(s.n_mels, s.fmin, s.fmax or rate / 2)

    def check(self, rate: int) -> None:
        """Raise InputError if mel band edges or window do not fit."""
        s = self.settings
        highest = s.fmax or rate / 2
        if s.fmin >= highest or highest > rate / 2:
            raise InputError(
                f"fmin {s.fmin:g} Hz and fmax {highest:g} Hz: fmin must be below fmax, and fmax at most half the "
                f"sampling rate ({rate / 2:g} Hz); change them"
            )
        if (s.win_length or 0) > s.n_fft:
            raise InputError(f"win_length {s.win_length} is above n_fft {s.n_fft}; give at most n_fft")


def make_front_end(settings: Settings) -> FrontEnd:
    """Return the front end that settings name."""
    front_end = FRONT_ENDS.get(settings.front_end)(settings)
    if front_end.all_channels and "channel" in settings.given | settings.configured:
        raise InputError(f"--channel, but {front_end.name} takes all channels; leave the option out")
    return front_end


def clip_frames(path: Path, front_end: FrontEnd) -> np.ndarray:
    """Return the frames of a clip: (n_frames, n_bins) float32, C order."""
    samples, rate = read_samples(path, front_end.channel)
    return sample_frames(samples, rate, front_end, path)


def sample_frames(samples: np.ndarray, rate: int, front_end: FrontEnd, name: object = "the clip") -> np.ndarray:
    """Return the frames of samples: (n_frames, n_bins); `name` stands in error messages."""
    with np.errstate(all="ignore"):  # of samples too large for float32, which are reported below
        returned = front_end(samples, rate)
        array = np.asarray(returned)
        expected = (front_end.n_frames(len(samples)), front_end.n_bins)
        if array.shape != expected or array.dtype.kind not in "fiu":
            raise contract_error(
                front_end, " returned", returned, f"expected real numbers of shape {expected} for {name}"
            )
        frames = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(frames).all():
        if front_end.extension is not None:
            raise contract_error(
                front_end, " returned NaN or infinity for", str(name), "correct it, or remove the clip"
            )
        raise InputError(
            f"{name} holds samples up to {np.abs(samples).max():.1e}, too large to compute with; full scale is 1, "
            "replace or remove the clip"
        )
    return frames


def extract(paths: list[Path], front_end: FrontEnd) -> Generator[np.ndarray, None, None]:
    """Yield the frames of clips in order, computed on as many threads as there are cores."""
    return in_parallel(functools.partial(clip_frames, front_end=front_end), paths)


def magnitudes(samples: np.ndarray, n_fft: int, hop_length: int, win_length: int) -> np.ndarray:
    """Return the magnitudes of the short-time Fourier transform: (n_fft / 2 + 1, n_frames) float32.

    Frames are centred at the multiples of hop_length, with zeros beyond the clip's ends, under a periodic Hann window.
    The transform is computed in double precision.
    """
    hann = 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, win_length + 1)[:-1]) if win_length > 1 else np.ones(1)
    before = (n_fft - win_length) // 2
    window = np.pad(hann, (before, n_fft - win_length - before))  # (n_fft,) float64
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, n_fft // 2), n_fft)[::hop_length]
    spectrum = np.empty((len(frames), n_fft // 2 + 1), dtype=np.float32)
    n_frames = max(1, BLOCK // n_fft)
    for i in range(0, len(frames), n_frames):
        block = np.fft.rfft(frames[i : i + n_frames] * window)
        np.abs(block.astype(np.complex64), out=spectrum[i : i + n_frames])
    return spectrum.T


@functools.lru_cache(maxsize=8)
def mel_basis(rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Return triangular mel bands of equal area, (n_mels, n_fft / 2 + 1) float32; those without a bin are reported."""
    basis = np.empty((n_mels, n_fft // 2 + 1), dtype=np.float32)  # first, so that far too many bands fail at once
    edges, frequencies = mel_edges(n_mels, fmin, fmax), np.fft.rfftfreq(n_fft, 1 / rate)  # Hz
    lower, centre, upper = (edges[i : i + n_mels, np.newaxis] for i in range(3))
    rising, falling = (frequencies - lower) / (centre - lower), (upper - frequencies) / (upper - centre)
    np.maximum(0, np.minimum(rising, falling), out=basis, casting="same_kind")
    basis *= 2 / (upper - lower)
    n_empty = int((basis.max(axis=1) == 0).sum())
    if n_empty:
        text = f"warning: {n_empty} of {n_mels} mel bands are empty, too narrow for n_fft {n_fft} at {rate} Hz"
        print(f"{text}; lower --n_mels or raise --n_fft", file=sys.stderr, flush=True)
    return basis


def mel_edges(n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Return the edges and centres of mel bands in Hz, (n_mels + 2,), equidistant in Slaney's mel.

    It is linear up to 1 kHz, 200/3 Hz a mel, and logarithmic above, 27 mel to a factor of 6.4 (Auditory Toolbox, 1998).
    """
    width, step, corner = 200 / 3, np.log(6.4) / 27, 1000.0
    lowest, highest = (corner / width + np.log(f / corner) / step if f >= corner else f / width for f in (fmin, fmax))
    mels = np.linspace(lowest, highest, n_mels + 2)
    above = mels >= corner / width
    hertz = width * mels
    hertz[above] = corner * np.exp(step * (mels[above] - corner / width))
    return hertz
