"""Features on disk: made once, found again only while everything they depend on is the same.

A list of clips has one plain .npy array of all their frames, (n_frames, n_mels) float32, one clip after the other, and
a .json beside it with the key (everything the frames depend on), each clip's number of frames and the array's
SHA-256. The array is mapped from disk, never read as a whole. Writing: temporary files, then renames, array first,
under a lock (fasteners), so that any number of processes make the features once and nobody sees half of them.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from common import InputError, atomic_write, exclusive
from datasets.clips import Clip
from datasets.features import FeatureConfig, check_config, extract, read_headers

ADVICE = "free space there or name another folder with --cache_directory"
VERSION = 1  # raise it whenever the same clips and parameters would give other frames


@dataclass(frozen=True)
class Features:
    """The frames of a list of clips: (n_frames, n_mels) float32, and how many of them each clip has."""

    frames: np.ndarray
    frames_per_clip: tuple[int, ...]


def load_features(
    clips: list[Clip], config: FeatureConfig, folder: Path, split: str, progress: Callable[..., Iterator]
) -> Features:
    """Load the clips' features from the cache in `folder`, making them first where they are not there or broken.

    Parameters
    ----------
    split
        What the cache file is called after: the folder of the clips (train, test, test_rename).
    progress
        Called as progress(items, total, what, unit) around the work, to show it.

    Raises
    ------
    InputError
        A clip cannot be used, the parameters do not fit the clips, or the folder cannot be written.
    """
    key = _key(clips, config)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    sections = "-".join(sorted({f"{clip.section:02d}" for clip in clips}))
    array = folder / f"{split}_section_{sections}_{digest}.npy"
    features = _read(array, key)
    if features is None:
        with exclusive(array.with_suffix(".lock"), f"makes the features of {folder.name}", ADVICE):
            features = _read(array, key)  # another process may have made it in the meantime
            if features is None:
                _make(array, key, clips, config, progress)
                features = _read(array, key)
    if features is None:
        raise InputError(f"{array} changes while it is read; is another program writing there? Run again")
    return features


def _key(clips: list[Clip], config: FeatureConfig) -> dict:
    """Return everything that the frames depend on, the processor's instruction set and the libraries included."""
    from threadpoolctl import threadpool_info

    stats = [(clip, clip.path.stat()) for clip in clips]
    return {
        "version": VERSION,
        "config": asdict(config),
        "libraries": {name: version(name) for name in ("librosa", "numpy")},
        "instructions": np.show_config(mode="dicts")["SIMD Extensions"].get("found", []),
        "blas": sorted({str(info.get("architecture")) for info in threadpool_info() if "numpy" in info["filepath"]}),
        "clips": [[clip.name, stat.st_size, stat.st_mtime_ns] for clip, stat in stats],
    }


def _read(array: Path, key: dict) -> Features | None:
    """Return the features, or None where they are missing, of another key or damaged."""
    try:
        description = json.loads(array.with_suffix(".json").read_text(encoding="utf-8"))
        if description["key"] != key:
            return None
        with array.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != description["sha256"]:
                print(f"features: {array} is damaged and is made anew", flush=True)
                return None
        frames = np.load(array, mmap_mode="c", allow_pickle=False)
        return Features(frames, tuple(description["frames_per_clip"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):  # whatever is not what _make writes
        print(f"features: {array} is damaged and is made anew", flush=True)
        return None


def _make(array: Path, key: dict, clips: list[Clip], config: FeatureConfig, progress: Callable[..., Iterator]) -> None:
    """Compute the clips' frames one after the other into the array, then describe it."""
    paths = [clip.path for clip in clips]
    headers = read_headers(paths, config.channels)
    check_config(config, headers[0].sampling_rate)
    expected = [1 + header.n_samples // config.hop_length for header in headers]
    hasher = hashlib.sha256()
    with atomic_write(array, "wb", advice=ADVICE) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_fft=.* is too large")  # a clip shorter than a window is padded

        def write(data) -> None:
            hasher.update(data)
            file.write(data)

        write(_npy_header(sum(expected), config.n_mels))
        clips_in_order = zip(paths, expected, extract(paths, config), strict=True)
        for path, n_frames, frames in progress(clips_in_order, len(paths), f"features of {array.parent.name}", "clip"):
            if len(frames) != n_frames:
                raise InputError(
                    f"{path} holds another number of samples than its header says; replace or remove the clip"
                )
            write(frames.data)
    description = {"key": key, "frames_per_clip": expected, "sha256": hasher.hexdigest()}
    with atomic_write(array.with_suffix(".json"), advice=ADVICE) as file:
        json.dump(description, file)


def _npy_header(n_frames: int, n_mels: int) -> bytes:
    """Return the header of a .npy file of float32 frames."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (n_frames, n_mels)})
    return header.getvalue()
