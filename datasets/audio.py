"""Recordings read from disk: headers, samples, and work on many of them side by side.

Samples are float32, full scale 1, of one channel: (n_samples,), or of all: (n_samples, channels). Rates are in Hz.
"""

import contextlib
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from common import InputError

import numpy as np
import soundfile
from threadpoolctl import threadpool_limits

from runtime.cores import available_cores, in_order
from runtime.files import what_helps
from runtime.wording import counted

Result = TypeVar("Result")

TRUNCATED = re.compile(r"^(?:data|SSND|Data) *:? (\d+) \(should be (\d+)\)", re.MULTILINE)  # bytes; libsndfile's log
# Bytes. A program that writes to a pipe cannot know the length: arecord says 0x80000000, SoX about 0x7FFFF000 (AIFF:
# 0x7F000000), ffmpeg 0xFFFFFFFF. A real clip of this length would be 18 hours at 16 kHz.
UNKNOWN_LENGTH = 0x7F000000


@dataclass(frozen=True)
class ClipHeader:
    """A clip's header."""

    sampling_rate: int  # Hz
    n_samples: int
    channels: int


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        with path.open("rb") as file, soundfile.SoundFile(file.fileno(), closefd=False) as recording:
            if recording.frames == 0:
                raise InputError(f"{path} is empty (no samples); replace or remove the clip")
            yield recording
    except OSError as error:
        raise InputError(f"{path} cannot be read: {what_helps(error, 'check the path')}") from error
    except (RuntimeError, ValueError) as error:  # of libsndfile, and of NumPy for an impossible number of samples
        reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
        raise InputError(f"{path} cannot be read as audio ({reason}); replace or remove the clip") from error


def read_header(path: Path) -> ClipHeader:
    """Read a clip's header; one that is unreadable, empty, or shorter than its header says is reported."""
    with _opened(path) as file:
        corrected = TRUNCATED.search(file.extra_info)  # libsndfile uses the bytes in the file, and says so in its log
        if corrected and int(corrected[2]) < int(corrected[1]) < UNKNOWN_LENGTH:
            raise InputError(
                f"{path} is truncated: its header says {corrected[1]} bytes of samples, but there are {corrected[2]}; "
                "replace or remove the clip"
            )
        return ClipHeader(file.samplerate, file.frames, file.channels)


def read_headers(paths: list[Path], channels: int | None) -> list[ClipHeader]:
    """Read all headers; clips must share a sampling rate and have `channels` channels (default: the first clip's)."""
    headers: list[ClipHeader] = []
    for path in paths:
        header = read_header(path)
        headers.append(header)
        if header.channels != (channels or headers[0].channels):
            whose = "this challenge's clips have" if channels else f"{paths[0].name} has"
            advice = "replace or remove the clip"
            if channels == 1:  # the reference averages them
                advice = "average them first (ffmpeg -i IN.wav -ac 1 OUT.wav), or use --challenge MINE with --channel N"
            raise InputError(
                f"{path} has {counted(header.channels, 'channel')}, but {whose} {channels or headers[0].channels}; "
                f"{advice}"
            )
        if header.sampling_rate != headers[0].sampling_rate:
            raise InputError(
                f"{path} has a sampling rate of {header.sampling_rate} Hz, but {paths[0].name} of "
                f"{headers[0].sampling_rate} Hz; a section's clips must have one rate, resample or remove the clip"
            )
    return headers


def read_samples(path: Path, channel: int | None = 0) -> tuple[np.ndarray, int]:
    """Read one channel of a clip, counted from 0, or all, and its sampling rate, as librosa.load(sr=None) reads it.

    Unreadable and empty clips, and NaN or infinite samples, are reported.
    """
    with _opened(path) as file:
        if file.subtype == "PCM_16":  # exact, in a quarter of the time that libsndfile takes
            samples = file.read(dtype="int16", always_2d=True) * np.float32(2**-15)
        else:
            samples = file.read(dtype="float32", always_2d=True)
        rate = file.samplerate
    return select_channel(samples, channel, path), rate


def select_channel(samples: np.ndarray, channel: int | None, name: object) -> np.ndarray:
    """Return one channel, counted from 0, of (n_samples, channels) or (n_samples,) as float32: (n_samples,).

    For None, all channels: (n_samples, channels).
    """
    samples = samples[:, None] if samples.ndim == 1 else samples
    if channel is not None and channel >= samples.shape[1]:
        raise InputError(
            f"{name} has {counted(samples.shape[1], 'channel')}, so there is no channel {channel} (counted from 0); "
            "give a lower --channel"
        )
    samples = np.ascontiguousarray(samples if channel is None else samples[:, channel], dtype=np.float32)
    if samples.size == 0:
        raise InputError(f"{name} is empty (no samples); replace or remove the clip")
    if not np.isfinite(samples).all():
        raise InputError(f"{name} holds NaN or infinite samples; replace or remove the clip")
    return samples


def in_parallel(work: Callable[[Path], Result], paths: list[Path]) -> Generator[Result, None, None]:
    """Apply `work` to each clip, in order, on as many threads as there are cores.

    NumPy lets the threads run side by side; each BLAS call runs with one thread, so that the bits are the same on any
    number of cores.
    """
    with threadpool_limits(1, user_api="blas"):
        if not paths:
            return
        yield work(paths[0])  # alone: lazy imports, librosa's in an extension, are not safe on several threads
        yield from in_order(work, paths[1:], available_cores())
