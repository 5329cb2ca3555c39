"""Features on disk: computed once, reused while everything they depend on is unchanged.

The frames of a list of clips are one plain .npy array, (n_frames, n_bins) float32, clip after clip. A .json beside it
holds the key (what the frames depend on besides the clips), the clips' names, times and content, each clip's number of
frames, and the array's SHA-256. The array is memory-mapped, never read as a whole. Processes that share a
cache compute features once, under a lock, and never see incomplete ones.
"""

import contextlib
import hashlib
import io
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from common import InputError, code_hashes

import numpy as np
from threadpoolctl import threadpool_info

from datasets.audio import read_headers
from datasets.clips import Clip
from datasets.front_ends import FrontEnd, extract
from runtime.files import FileGroup, process_lock, sha256_of, writing
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
    clips: list[Clip], front_end: FrontEnd, channels: int | None, folder: Path, is_beside_clips: bool
) -> Features:
    """Load the clips' features from the cache in `folder`, computing them first if they are missing or outdated.

    Parameters
    ----------
    channels
        Required of every clip; by default those of the first.
    is_beside_clips
        Whether the folder belongs to these clips' data set; any other may hold features of several.
    """
    key = _key(clips, front_end, channels, is_beside_clips)
    choices = json.dumps({**key, "sources": None}, sort_keys=True)  # features of other code are replaced, not kept
    digest = hashlib.sha256(choices.encode()).hexdigest()[:16]
    sections = "-".join(sorted({f"{clip.section:02d}" for clip in clips}))
    array = folder / f"{clips[0].path.parent.name}_section_{sections}_{digest}.npy"
    features = _read(array, key, clips)
    if features is None:
        with process_lock(array.with_suffix(".lock"), f"computes the features of {folder.name}", ADVICE):
            features = _read(array, key, clips)  # another process may have computed them meanwhile
            if features is None:
                if array.is_file():
                    say(f"{array.name} is outdated or damaged; the features of {folder.name} are computed again")
                _compute(array, key, clips, front_end, channels)
                features = _read(array, key, clips)
    if features is None:
        raise InputError(f"{array}, or a clip, was changed while the features were computed; run again")
    return features


def _key(clips: list[Clip], front_end: FrontEnd, channels: int | None, is_beside_clips: bool) -> dict:
    """List everything that the frames depend on besides the clips, instruction set and libraries included."""
    return {
        "sources": code_hashes(type(front_end)),
        "config": {**front_end.settings.affecting("features"), "channels": channels},
        "libraries": {name: version(name) for name in ("librosa", "numpy")},
        "instructions": np.show_config(mode="dicts")["SIMD Extensions"].get("found", []),
        "blas": sorted({str(info.get("architecture")) for info in threadpool_info() if "numpy" in info["filepath"]}),
        "folder": None if is_beside_clips else str(clips[0].path.parent.resolve()),
    }


def _read(array: Path, key: dict, clips: list[Clip]) -> Features | None:
    """Read the features; None if they are missing, damaged or outdated by another key or changed clips."""
    path = array.with_suffix(".json")
    if not (path.is_file() and array.is_file()):
        return None
    try:
        with writing(array, ADVICE, "read"):
            description = json.loads(path.read_text(encoding="utf-8"))
            is_current = description["key"] == key and (
                description["stamps"] == _stamps(clips) or description["content"] == _content(clips)
            )
            if not is_current or description["sha256"] != sha256_of(array):
                return None
            return Features(
                np.load(array, mmap_mode="c", allow_pickle=False),
                tuple(description["frames_per_clip"]),
                description["sha256"],
                description["sampling_rate"],
                description["channels"],
            )
    except (ValueError, KeyError):  # a damaged description
        return None


def _stamps(clips: list[Clip]) -> list[list]:
    """Return names, sizes, times and inodes; a replaced clip with a reset modification time has another change time."""
    stats = [(clip.name, clip.path.stat()) for clip in clips]
    return [[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for name, stat in stats]


def _content(clips: list[Clip]) -> list[list[str]]:
    """Return names and SHA-256, by which clips that were moved or copied are recognised."""
    return [[clip.name, sha256_of(clip.path)] for clip in clips]


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
    with FileGroup(ADVICE) as files, contextlib.closing(extract(paths, front_end)) as extracted:
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
        json.dump(description, files.open(array.with_suffix(".json")))
