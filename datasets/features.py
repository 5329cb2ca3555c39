"""From a recording to log-mel frames: (n_frames, n_mels), float32, decibels.

Conventions: a frame is one row; frame t is centred on sample t * hop_length. Values are 20 / power * log10(max(mel,
epsilon)) of librosa's mel spectrogram, equal to librosa.feature.melspectrogram to the last bit, with the mel basis made
once instead of once a clip. NumPy's BLAS must run with one thread (single_blas_thread): with more, the product with
the mel basis has other last bits.
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from common import InputError

Result = TypeVar("Result")
EPSILON = sys.float_info.epsilon  # a Python float: NumPy's float64 would make the logarithm float64

TRUNCATED = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)  # bytes, in libsndfile's log of a WAV
UNKNOWN_LENGTH = 0xFFFFFFFF  # bytes: what programs write that stream to a pipe


@dataclass(frozen=True)
class FeatureConfig:
    """What the log-mel frames of a clip depend on; lengths in samples, frequencies in Hz, None: librosa's default.

    `channels` is the number that every clip must have, None: as many as the first clip; the first channel is used.
    """

    n_mels: int = 128
    n_fft: int = 1024
    hop_length: int = 512
    power: float = 2.0
    fmin: float = 0.0
    fmax: float | None = None
    win_length: int | None = None
    channels: int | None = 1


@dataclass(frozen=True)
class ClipHeader:
    """What a clip's header says."""

    sampling_rate: int  # Hz
    n_samples: int
    channels: int


def read_header(path: Path) -> ClipHeader:
    """Read a clip's header.

    Raises
    ------
    InputError
        The clip is unreadable, empty, or shorter than its header says.
    """
    import soundfile

    try:
        info = soundfile.info(path, verbose=True)
    except (OSError, RuntimeError, UnicodeError) as error:
        raise _unreadable(path, error) from error
    corrected = TRUNCATED.search(info.extra_info)  # libsndfile takes what is there, and says so in its log
    if corrected and int(corrected[1]) > int(corrected[2]) and int(corrected[1]) != UNKNOWN_LENGTH:
        raise InputError(
            f"{path} is truncated: its header says {corrected[1]} bytes of samples, but {corrected[2]} are there; "
            "replace or remove the clip"
        )
    if info.frames < 1:
        raise InputError(f"{path} is empty (no samples); replace or remove the clip")
    return ClipHeader(info.samplerate, info.frames, info.channels)


def read_headers(paths: list[Path], channels: int | None) -> list[ClipHeader]:
    """Read the headers of the clips of one section, which must have so many channels (None: as many as the first).

    Raises
    ------
    InputError
        As read_header, or a clip has another number of channels or another sampling rate; it is named.
    """
    headers = []
    for path in paths:
        header = read_header(path)
        headers.append(header)
        if header.channels != (channels or headers[0].channels):
            whose = "this challenge's clips have" if channels else f"{paths[0].name} has"
            raise InputError(
                f"{path} has {header.channels} channel(s), but {whose} {channels or headers[0].channels}; "
                "replace or remove the clip"
            )
        if header.sampling_rate != headers[0].sampling_rate:
            raise InputError(
                f"{path} has a sampling rate of {header.sampling_rate} Hz, but {paths[0].name} of "
                f"{headers[0].sampling_rate} Hz; a section's clips must have one rate, resample or remove the clip"
            )
    return headers


def log_mel(path: Path, config: FeatureConfig) -> np.ndarray:
    """Compute the log-mel frames of a clip's first channel: (n_frames, n_mels), float32, dB.

    Raises
    ------
    InputError
        The clip is unreadable or empty, or holds NaN or infinite samples.
    """
    import librosa
    import soundfile

    try:  # as librosa.load(sr=None), without its second try by other programs
        samples, sampling_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, UnicodeError) as error:
        raise _unreadable(path, error) from error
    samples = np.ascontiguousarray(samples[:, 0])  # (n_samples, n_channels) -> (n_samples,)
    if samples.size == 0:
        raise InputError(f"{path} is empty (no samples); replace or remove the clip")
    if not np.isfinite(samples).all():
        raise InputError(f"{path} holds NaN or infinite samples; replace or remove the clip")
    with np.errstate(over="ignore", invalid="ignore"):  # of samples that are no sound: noticed below
        spectrum = librosa.stft(
            samples,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            win_length=config.win_length,
            pad_mode="constant",
        )
        power_spectrum = np.abs(spectrum) ** config.power  # (n_fft / 2 + 1, n_frames)
        mel = np.einsum("...ft,mf->...mt", power_spectrum, _mel_basis(sampling_rate, config), optimize=True)
    if not np.isfinite(mel).all():
        raise InputError(
            f"{path} holds samples up to {np.abs(samples).max():.1e}, too large to compute with; full scale is 1, "
            "replace or remove the clip"
        )
    return np.ascontiguousarray((20 / config.power * np.log10(np.maximum(mel, EPSILON))).T)  # (n_frames, n_mels)


def extract(paths: list[Path], config: FeatureConfig) -> Iterator[np.ndarray]:
    """Yield the log-mel frames of the clips in order, computed by as many threads as there are cores."""
    return in_parallel(functools.partial(log_mel, config=config), paths)


def in_parallel(work: Callable[[Path], Result], paths: list[Path]) -> Iterator[Result]:
    """Yield what `work` makes of each clip's features, in order, on as many threads as there are cores.

    librosa's work is in NumPy, which lets the threads run side by side; each BLAS call runs with one thread, so that
    the bits are the same on any number of cores.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        if not paths:
            return
        first = work(paths[0])  # alone: librosa's lazy imports are not made for several threads at once
        yield first
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            try:
                yield from pool.map(work, paths[1:])
            finally:
                pool.shutdown(cancel_futures=True)


def check_config(config: FeatureConfig, sampling_rate: int) -> None:
    """Raise InputError where the parameters do not fit each other or the sampling rate (Hz)."""
    highest = config.fmax or sampling_rate / 2
    if config.fmin >= highest or highest > sampling_rate / 2:
        raise InputError(
            f"fmin {config.fmin:g} Hz and fmax {highest:g} Hz: fmin must be below fmax, and fmax at most half the "
            f"sampling rate ({sampling_rate / 2:g} Hz); change them"
        )
    if (config.win_length or 0) > config.n_fft:
        raise InputError(f"win_length {config.win_length} is above n_fft {config.n_fft}; give at most n_fft")


@functools.lru_cache(maxsize=8)
def _mel_basis(sampling_rate: int, config: FeatureConfig) -> np.ndarray:
    """Return librosa's mel basis: (n_mels, n_fft / 2 + 1)."""
    import librosa

    return librosa.filters.mel(
        sr=sampling_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmin=config.fmin, fmax=config.fmax
    )


def _unreadable(path: Path, error: Exception) -> InputError:
    if not path.is_file():
        return InputError(f"there is no file {path}; check the path")
    reason = "no bytes" if path.stat().st_size == 0 else str(error).rsplit(": ", 1)[-1].rstrip(".")
    return InputError(f"{path} cannot be read as audio ({reason}); replace or remove the clip")
