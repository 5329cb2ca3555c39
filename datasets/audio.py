"""Recordings read from disk: headers, samples, and work on many of them side by side.

Samples are float32, full scale 1, of one channel: (n_samples,). Rates are in Hz.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from common import InputError
from datasets.clips import check_link
from tools.runtime.cores import available_cores, in_order
from tools.runtime.files import what_helps
from tools.runtime.progress import say
from tools.runtime.wording import counted

if TYPE_CHECKING:
    import soundfile

Result = TypeVar("Result")

TRUNCATED = re.compile(r"^(?:data|SSND|Data) *:? (\d+) \(should be (\d+)\)", re.MULTILINE)  # bytes; libsndfile's log
CONTRADICTION = re.compile(
    r"(file length|at position) \d+\. Exiting parser|not equal to frame count|does not match value from"
)  # in that log
CONTAINER = re.compile(r"^(?:RIFF|RIFX|FORM|  Riff size) : (\d+)", re.MULTILINE)  # bytes after the first 8; in that log
SAMPLE_SIZE = re.compile(r"Block Align *: (\d+)\s+Bit Width *: (\d+)")  # bytes of all channels, bits of one
UNKNOWN_LENGTH = 0xFFFFFFFF  # bytes: what programs write that stream to a pipe
STREAMED = 2**63 - 1  # samples: what libsndfile says of FLAC that was written to a pipe, whose header says 0
BLOCK = 2**20  # samples
FLAC_BYTES = {"PCM_S8": 1, "PCM_16": 2, "PCM_24": 3}  # of a sample
MAX_SAMPLES = 2**31  # 37 hours at 16 kHz; more is a header that claims more than there can be


@dataclass(frozen=True)
class ClipHeader:
    """What a clip's header says, and by how many bytes the file is longer than that."""

    sampling_rate: int  # Hz
    n_samples: int
    channels: int
    surplus: int = 0


def read_header(path: Path) -> ClipHeader:
    """Read a clip's header; one that is unreadable, empty, or shorter than its header says is reported."""
    import soundfile

    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a plain file; replace or remove it")
    try:
        info = soundfile.info(path, verbose=True)
    except (OSError, RuntimeError, UnicodeError) as error:
        raise _unreadable(path, error) from error
    corrected = TRUNCATED.search(info.extra_info)  # libsndfile uses what is there, and says so in its log
    if corrected and int(corrected[1]) > int(corrected[2]) and int(corrected[1]) != UNKNOWN_LENGTH:
        raise InputError(
            f"{path} is truncated: its header says {corrected[1]} bytes of samples, but there are {corrected[2]}; "
            "replace or remove the clip"
        )
    size = SAMPLE_SIZE.search(info.extra_info) if info.subtype.startswith("PCM") else None
    if CONTRADICTION.search(info.extra_info) or (size and int(size[1]) != info.channels * -(-int(size[2]) // 8)):
        raise InputError(
            f"{path} has a header that contradicts itself or what follows its samples; convert, replace or remove the "
            "clip"
        )
    if info.frames < 1:
        raise InputError(f"{path} is empty (no samples); replace or remove the clip")
    if info.frames == STREAMED:
        return ClipHeader(info.samplerate, len(read_samples(path)[0]), info.channels)
    if info.frames > MAX_SAMPLES:
        raise InputError(f"{path} claims {info.frames} samples, more than {MAX_SAMPLES}; replace or remove the clip")
    container = CONTAINER.search(info.extra_info)
    surplus = path.stat().st_size - 8 - int(container[1]) if container and int(container[1]) > 0 else 0
    return ClipHeader(info.samplerate, info.frames, info.channels, max(surplus, 0))


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
    longer = [path for path, header in zip(paths, headers, strict=True) if header.surplus]
    if longer:
        say(
            f"warning: the file is longer than its header says for {len(longer)} of {len(paths)} clips, {longer[0]} "
            "for example; if bytes were inserted, the samples are shifted: listen to it, or convert it again"
        )
    return headers


def read_samples(path: Path, channel: int = 0) -> tuple[np.ndarray, int]:
    """Read one channel of a clip, counted from 0, and its sampling rate, as librosa.load(sr=None) reads it.

    Unreadable and empty clips, and NaN or infinite samples, are reported.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            samples, rate = _read_all(file), file.samplerate
            is_whole = file.format != "FLAC" or _has_md5(path, samples, file.subtype)
    except (OSError, RuntimeError, UnicodeError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not is_whole:
        raise InputError(f"{path} does not hold the samples that its header has the MD5 of; replace or remove the clip")
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
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        if not paths:
            return
        yield work(paths[0])  # alone: lazy imports, librosa's in an extension, are not safe on several threads
        yield from in_order(work, paths[1:], available_cores())


def _read_all(file: "soundfile.SoundFile") -> np.ndarray:
    """Read a file's samples: (n_samples, channels) float32."""
    if file.frames != STREAMED:
        if file.subtype == "PCM_16":  # exact, in a quarter of the time that libsndfile takes
            return file.read(dtype="int16", always_2d=True) * np.float32(2**-15)
        return file.read(dtype="float32", always_2d=True)
    file.seekable = lambda: False  # else each read ends with a seek, which fails at the end of such a file
    blocks = [np.zeros((0, file.channels), dtype=np.float32)]
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block)
    return np.concatenate(blocks)


def _has_md5(path: Path, samples: np.ndarray, subtype: str) -> bool:
    """Return whether samples, (n_samples, channels), are those that a FLAC file's header has the MD5 of, if any."""
    with path.open("rb") as file:
        head = file.read(42)
    if not head.startswith(b"fLaC") or not any(head[26:]) or subtype not in FLAC_BYTES:
        return True
    size = FLAC_BYTES[subtype]
    integers = (samples * 2 ** (8 * size - 1)).astype("<i4")  # exact: float32 holds 24 bits
    return hashlib.md5(integers.view(np.uint8).reshape(-1, 4)[:, :size].tobytes()).digest() == head[26:]


def _unreadable(path: Path, error: Exception) -> InputError:
    check_link(path)
    if not path.is_file():
        return InputError(f"there is no file {path}; check the path")
    try:
        path.open("rb").close()
    except OSError as denied:
        return InputError(f"{path} cannot be read: {what_helps(denied, 'check the file')}")
    reason = "no bytes" if path.stat().st_size == 0 else str(error).rsplit(": ", 1)[-1].rstrip(".")
    return InputError(f"{path} cannot be read as audio ({reason}); replace or remove the clip")
