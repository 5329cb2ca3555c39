"""Features on disk: computed once, reused while everything they depend on is unchanged.

The frames of a list of clips are one plain .npy array, (n_frames, n_bins) float32, clip after clip, described by a
.json beside it: the key (everything the frames depend on), each clip's number of frames, the array's SHA-256 and a
checksum of the description itself. The array is memory-mapped, never read as a whole. Processes that share a cache
compute features once, under a lock, and never see incomplete ones.
"""

import contextlib
import hashlib
import io
import json
import operator
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from common import InputError, code_hashes

import numpy as np
from threadpoolctl import threadpool_info

from datasets.audio import read_headers
from datasets.clips import Clip
from datasets.front_ends import FrontEnd, extract
from runtime.files import FileGroup, content_checksum, process_lock, sha256_of, what_helps
from runtime.progress import progress, say

ADVICE = "choose another folder with --cache_directory"


@dataclass(frozen=True)
class Features:
    """The frames of a list of clips, (n_frames, n_bins) float32, and the number of each clip's.

    `sha256` is the array file's hash, None for clips that are not cached; the sampling rate is in Hz.
    """

    frames: np.ndarray
    frames_per_clip: tuple[int, ...]
    sha256: str | None = None
    sampling_rate: int | None = None
    channels: int | None = None


def load_features(
    clips: list[Clip],
    front_end: FrontEnd,
    channels: int | None,
    folder: Path,
    is_beside_clips: bool,
) -> Features:
    """Load the clips' features from the cache in `folder`, computing them first if they are missing or damaged.

    Parameters
    ----------
    channels
        Required of every clip; None: as many as the first clip has.
    is_beside_clips
        Whether the folder belongs to these clips' data set; any other may hold features of several.
    """
    key = _key(clips, front_end, channels, is_beside_clips)
    digest = content_checksum({**key, "sources": None})[:16]  # features of other code are replaced, not kept beside
    sections = "-".join(sorted({f"{clip.section:02d}" for clip in clips}))
    array = folder / f"{clips[0].path.parent.name}_section_{sections}_{digest}.npy"
    features = _read(array, key, clips, front_end)
    if features is None:
        with process_lock(array.with_suffix(".lock"), f"computes the features of {folder.name}", ADVICE):
            features = _read(array, key, clips, front_end)  # another process may have computed them meanwhile
            if features is None:
                if array.is_file():
                    say(f"{array.name} is outdated or damaged; the features of {folder.name} are computed again")
                _compute(array, key, clips, front_end, channels)
                features = _read(array, key, clips, front_end)
    if features is None:
        raise InputError(f"{array}, or a clip, was changed while the features were computed; run again")
    return features


def _key(clips: list[Clip], front_end: FrontEnd, channels: int | None, is_beside_clips: bool) -> dict:
    """Return everything that the frames depend on, the processor's instruction set and the libraries included."""
    stats = [(clip, clip.path.stat()) for clip in clips]
    key = {
        "sources": code_hashes(type(front_end)),
        "config": {**front_end.settings.affecting("features"), "channels": channels},
        "libraries": {name: version(name) for name in ("librosa", "numpy")},
        "instructions": np.show_config(mode="dicts")["SIMD Extensions"].get("found", []),
        "blas": sorted({str(info.get("architecture")) for info in threadpool_info() if "numpy" in info["filepath"]}),
        "clips": [[clip.name, stat.st_size, stat.st_mtime_ns] for clip, stat in stats],
    }
    if not is_beside_clips:
        key["folder"] = str(clips[0].path.parent.resolve())
    return key


def _read(array: Path, key: dict, clips: list[Clip], front_end: FrontEnd) -> Features | None:
    """Return the features; None if they are missing or damaged, or if the key or the clips changed."""
    try:
        description = json.loads(array.with_suffix(".json").read_text(encoding="utf-8"))
        if description["key"] != key:
            return None
        _check(description, clips)
        if sha256_of(array) != description["sha256"]:
            raise ValueError("its SHA-256 differs")
        frames = np.load(array, mmap_mode="c", allow_pickle=False)
        frames_per_clip = tuple(operator.index(n) for n in description["frames_per_clip"])  # TypeError: 16.0
        shape = (sum(frames_per_clip), front_end.n_bins)
        if frames.shape != shape or frames.dtype.str != "<f4" or not frames.flags.c_contiguous:
            raise ValueError(f"it does not hold float32 of {shape}")
        rate, channels = description.get("sampling_rate"), description.get("channels")
        return Features(frames, frames_per_clip, description["sha256"], rate, channels)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"cannot read {array}: {what_helps(error, ADVICE)}") from error
    except (ValueError, KeyError, TypeError, RecursionError):  # not written by _compute
        return None


def _check(description: dict, clips: list[Clip]) -> None:
    """Raise ValueError if the description or the clips changed after it was written."""
    if description["checksum"] != content_checksum(description):
        raise ValueError("the description was changed")
    if description["stamps"] != _stamps(clips) and description["content"] != _content(clips):
        raise ValueError("clips were replaced under the same names, sizes and times")


def _stamps(clips: list[Clip]) -> list[list[int]]:
    """Return change times and inodes, which show that a clip was replaced even if its modification time was reset."""
    return [[stat.st_ctime_ns, stat.st_ino] for stat in (clip.path.stat() for clip in clips)]


def _content(clips: list[Clip]) -> str:
    """Return one SHA-256 over those of all clips."""
    return hashlib.sha256("".join(sha256_of(clip.path) for clip in clips).encode()).hexdigest()


def _compute(array: Path, key: dict, clips: list[Clip], front_end: FrontEnd, channels: int | None) -> None:
    """Write the clips' frames to the array, clip after clip, and its description."""
    paths = [clip.path for clip in clips]
    headers = read_headers(paths, channels)
    front_end.check(headers[0].sampling_rate)
    expected = [front_end.n_frames(header.n_samples) for header in headers]
    stamps, content = _stamps(clips), _content(clips)  # taken first: a clip replaced meanwhile is noticed
    header = io.BytesIO()
    shape = (sum(expected), front_end.n_bins)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    hasher = hashlib.sha256(header.getvalue())
    silent = []
    # Closed here: the garbage collector might do it in one of the pool's own threads, which cannot join itself.
    frames_in_order = contextlib.closing(extract(paths, front_end))  # type: ignore[type-var]
    with FileGroup(ADVICE) as files, warnings.catch_warnings(), frames_in_order as extracted:
        warnings.filterwarnings("ignore", message="n_fft=.* is too large")  # a clip shorter than a window is padded
        file = files.open(array, "wb")
        file.write(header.getvalue())
        clips_in_order = zip(paths, expected, extracted, strict=True)
        for path, n_frames, frames in progress(clips_in_order, len(paths), f"features of {array.parent.name}", "clips"):
            if len(frames) != n_frames:
                raise InputError(f"{path} does not hold as many samples as its header says; replace or remove the clip")
            if frames.min() == frames.max():
                silent.append(path)
            hasher.update(frames.data)
            file.write(frames.data)
        if silent:
            say(
                f"warning: {len(silent)} of {len(paths)} clips are silent, such as {silent[0]}; listen to it, and "
                "remove it unless silence is normal"
            )
        description = {
            "key": key,
            "frames_per_clip": expected,
            "sha256": hasher.hexdigest(),
            "sampling_rate": headers[0].sampling_rate,
            "channels": headers[0].channels,
            "stamps": stamps,
            "content": content,
        }
        json.dump({**description, "checksum": content_checksum(description)}, files.open(array.with_suffix(".json")))
