"""Recordings read from disk: headers, samples, and work on many of them side by side.

Samples are float32, full scale 1, of one channel: (n_samples,). Rates are in Hz.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from common import InputError

import numpy as np
import soundfile
from threadpoolctl import threadpool_limits

from datasets.clips import check_link
from runtime.cores import available_cores, in_order
from runtime.files import what_helps
from runtime.wording import counted

Result = TypeVar("Result")

TRUNCATED = re.compile(r"^(?:data|SSND|Data) *:? (\d+) \(should be (\d+)\)", re.MULTILINE)  # bytes; libsndfile's log
# Bytes. A program that writes to a pipe cannot know the length: arecord says 0x80000000, SoX about 0x7FFFF000 (AIFF:
# 0x7F000000), ffmpeg 0xFFFFFFFF, others 0. A real clip of this length would be 18 hours at 16 kHz.
UNKNOWN_LENGTH = 0x7F000000
STREAMED = 2**63 - 1  # samples: libsndfile's number for a FLAC file that was written to a pipe


@dataclass(frozen=True)
class ClipHeader:
    """A clip's header."""

    sampling_rate: int  # Hz
    n_samples: int
    channels: int


def read_header(path: Path) -> ClipHeader:
    """Read a clip's header; one that is unreadable, empty, or shorter than its header says is reported."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a plain file; replace or remove it")
    try:
        with _open(path) as file:
            log, header = file.extra_info, ClipHeader(file.samplerate, file.frames, file.channels)
    except (OSError, RuntimeError, UnicodeError) as error:
        raise _unreadable(path, error) from error
    corrected = TRUNCATED.search(log)  # libsndfile uses the bytes in the file, and says so in its log
    if corrected and int(corrected[2]) < int(corrected[1]) < UNKNOWN_LENGTH:
        raise InputError(
            f"{path} is truncated: its header says {corrected[1]} bytes of samples, but there are {corrected[2]}; "
            "replace or remove the clip"
        )
    if header.n_samples < 1:
        raise InputError(f"{path} is empty (no samples); replace or remove the clip")
    return header


def read_headers(paths: list[Path], channels: int | None) -> list[ClipHeader]:
    """Read the headers of clips, all of one sampling rate and `channels` channels (None: as many as the first)."""
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


def read_samples(path: Path, channel: int = 0) -> tuple[np.ndarray, int]:
    """Read one channel of a clip, counted from 0, and its sampling rate, as librosa.load(sr=None) reads it.

    Unreadable and empty clips, and NaN or infinite samples, are reported.
    """
    try:
        with _open(path) as file:
            if file.subtype == "PCM_16":  # exact, in a quarter of the time that libsndfile takes
                samples = file.read(dtype="int16", always_2d=True) * np.float32(2**-15)
            else:
                samples = file.read(dtype="float32", always_2d=True)
            rate = file.samplerate
    except (OSError, RuntimeError, UnicodeError, ValueError) as error:
        raise _unreadable(path, error) from error
    return one_channel(samples, channel, path), rate


def one_channel(samples: np.ndarray, channel: int, name: object) -> np.ndarray:
    """Return one channel, counted from 0, of (n_samples, channels) or of (n_samples,) as float32: (n_samples,)."""
    samples = samples[:, None] if samples.ndim == 1 else samples
    if channel >= samples.shape[1]:
        there = {1: "channel 0", 2: "channels 0 and 1"}.get(samples.shape[1], f"channels 0 to {samples.shape[1] - 1}")
        raise InputError(f"{name} has {there} only; there is no channel {channel}, give a lower --channel")
    samples = np.ascontiguousarray(samples[:, channel], dtype=np.float32)
    if samples.size == 0:
        raise InputError(f"{name} is empty (no samples); replace or remove the clip")
    if not np.isfinite(samples).all():
        raise InputError(f"{name} holds NaN or infinite samples; replace or remove the clip")
    return samples


def in_parallel(work: Callable[[Path], Result], paths: list[Path]) -> Iterator[Result]:
    """Yield what `work` makes of each clip, in order, on as many threads as there are cores.

    NumPy lets the threads run side by side; each BLAS call runs with one thread, so that the bits are the same on any
    number of cores.
    """
    with threadpool_limits(1, user_api="blas"):
        if not paths:
            return
        yield work(paths[0])  # alone: lazy imports, librosa's in an extension, are not safe on several threads
        yield from in_order(work, paths[1:], available_cores())


def _open(path: Path) -> "soundfile.SoundFile":
    """Open a clip; a WAV that was written to a pipe is read to its end, also if its header says 0 bytes of samples."""
    file = soundfile.SoundFile(path)
    if file.frames == STREAMED:
        file.close()
        raise InputError(
            f"{path} is streamed FLAC, which does not say how many samples it has; convert it, to WAV for example"
        )
    if file.frames == 0 and file.format in ("WAV", "WAVEX"):
        content = path.read_bytes()
        length, at = int.from_bytes(content[4:8], "little"), content.find(b"data\0\0\0\0") + 4
        if at > 3 and length + 8 < len(content):  # else what follows are further chunks
            file.close()
            return soundfile.SoundFile(io.BytesIO(content[:at] + b"\xff" * 4 + content[at + 4 :]))
    return file


def _unreadable(path: Path, error: Exception) -> InputError:
    check_link(path)
    if isinstance(error, UnicodeEncodeError):
        return InputError(f"{path} is not valid UTF-8; rename the file, or the folder with this name")
    if not path.is_file():
        return InputError(f"there is no file {path}; check the path")
    try:
        path.open("rb").close()
    except OSError as denied:
        return InputError(f"{path} cannot be read: {what_helps(denied, 'check the file')}")
    reason = "no bytes" if path.stat().st_size == 0 else str(error).rsplit(": ", 1)[-1].rstrip(".")
    return InputError(f"{path} cannot be read as audio ({reason}); replace or remove the clip")
