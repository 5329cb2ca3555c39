"""From clips to batches of vectors, as views of the frames.

A vector is `frames` successive frames of one clip, frame by frame: (frames * n_mels,); every frame_hop_length-th one is
kept, and none reaches over a clip's end. Vectors are never stored: a batch is gathered from a strided view of the
frames (with 5 frames a vector, copies would take five times the memory). The shuffling is that of torch's own
DataLoader and samplers, which draws what the reference draws; the data set only answers whole batches at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from common import InputError
from datasets.cache import Features, load_features
from datasets.clips import Clip, MachineFolders
from datasets.features import FeatureConfig


@dataclass(frozen=True)
class VectorConfig:
    """How vectors are cut from frames: frames in a vector, and frames from one vector to the next."""

    frames: int = 5
    frame_hop_length: int = 1


@dataclass(frozen=True)
class ClipSource:
    """Where a run's clips come from and what is made of them; `sections` None: all that the folder has."""

    folders: MachineFolders
    sections: list[int] | None
    features: FeatureConfig
    vectors: VectorConfig
    cache_directory: Path | None


class Vectors:
    """All vectors of a list of clips, on a device: a strided view of the frames and where in it each vector begins.

    Attributes
    ----------
    view
        Every run of `frames` successive frames: (n_frames - frames + 1, frames * n_mels), sharing memory.
    starts
        The row of `view` of each vector: (n_vectors,).
    is_target
        Whether the vector's clip is of the target domain: (n_vectors,).
    """

    def __init__(self, features: Features, clips: list[Clip], config: VectorConfig, device: torch.device):
        frames = torch.from_numpy(features.frames).to(device)  # (n_frames, n_mels)
        n_mels = frames.shape[1]
        self.per_clip = [_vectors_in(n, clip, config) for n, clip in zip(features.frames_per_clip, clips, strict=True)]
        first_frames = np.cumsum([0, *features.frames_per_clip[:-1]])
        starts = [
            first + config.frame_hop_length * np.arange(n) for first, n in zip(first_frames, self.per_clip, strict=True)
        ]
        is_target = np.repeat([clip.is_target for clip in clips], self.per_clip)
        self.view = frames.as_strided((len(frames) - config.frames + 1, config.frames * n_mels), (n_mels, 1))
        self.starts = torch.from_numpy(np.concatenate(starts)).to(device)
        self.is_target = torch.from_numpy(is_target).to(device)

    def __len__(self) -> int:
        return len(self.starts)

    def of_each_clip(self) -> Iterator[torch.Tensor]:
        """Yield the vectors of one clip after the other: (n_vectors_of_clip, frames * n_mels)."""
        for starts in torch.split(self.starts, self.per_clip):
            yield self.view.index_select(0, starts)


def load_vectors(
    clips: list[Clip], source: ClipSource, device: torch.device, progress: Callable[..., Iterator]
) -> Vectors:
    """Load the clips' features, from the cache or made now, and put their vectors on the device.

    Raises
    ------
    InputError
        A clip cannot be used (see datasets.features) or is too short for one vector; it is named.
    """
    folder = source.folders.processed(source.cache_directory)
    features = load_features(clips, source.features, folder, clips[0].path.parent.name, progress)
    return Vectors(features, clips, source.vectors, device)


class VectorSubset(Dataset):
    """Some of the vectors, for a DataLoader: fetches (vectors, is_target) of a whole batch at once."""

    def __init__(self, vectors: Vectors, indices: list[int]):
        indices = torch.tensor(indices, device=vectors.starts.device)
        self.view = vectors.view
        self.starts = vectors.starts[indices]  # (n_subset,)
        self.is_target = vectors.is_target[indices]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = torch.tensor(indices, device=self.starts.device)
        return self.view.index_select(0, self.starts[batch]), self.is_target[
            batch
        ]  # (batch, frames * n_mels), (batch,)


@dataclass(frozen=True)
class TrainingLoaders:
    """The batches of a training run, and how many vectors each domain has for training."""

    training: DataLoader
    validation: DataLoader
    n_source: int
    n_target: int


def split_vectors(n_vectors: int, validation_split: float) -> tuple[list[int], list[int]]:
    """Split vectors into training and validation by NumPy's global generator, in the order of the draw (reference).

    Raises
    ------
    InputError
        Nothing would be left for training or for validation.
    """
    from sklearn.model_selection import train_test_split

    try:
        training, validation = train_test_split(range(n_vectors), test_size=validation_split)
    except ValueError as error:
        raise InputError(
            f"validation_split {validation_split:g} of {n_vectors} training vectors leaves none to train or to "
            "validate with; add clips or change --validation_split"
        ) from error
    return list(training), list(validation)


def make_training_loaders(vectors: Vectors, batch_size: int, shuffle: bool, validation_split: float) -> TrainingLoaders:
    """Split the vectors and make the loaders of the training and of the validation batches.

    Raises
    ------
    InputError
        The split leaves no validation vector, or only one training vector (batch normalisation needs two).
    """
    training, validation = (VectorSubset(vectors, half) for half in split_vectors(len(vectors), validation_split))
    if min(len(training), batch_size) < 2:
        raise InputError(
            f"{len(training)} training vector(s) in batches of {batch_size}: batch normalisation needs two in a batch; "
            "add clips or raise --batch_size"
        )
    n_target = int(training.is_target.sum())

    def loader(subset: VectorSubset, shuffle: bool) -> DataLoader:
        return DataLoader(subset, batch_size=batch_size, shuffle=shuffle, collate_fn=lambda batch: batch)

    return TrainingLoaders(loader(training, shuffle), loader(validation, False), len(training) - n_target, n_target)


def _vectors_in(n_frames: int, clip: Clip, config: VectorConfig) -> int:
    """Return the number of vectors in a clip, or say that it is too short."""
    if n_frames < config.frames:
        raise InputError(
            f"{clip.path} is too short: {n_frames} frame(s), but a vector takes {config.frames}; "
            "remove the clip or lower --frames"
        )
    return (n_frames - config.frames) // config.frame_hop_length + 1
