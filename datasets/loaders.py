"""From clips to batches of vectors, as views of the frames.

A vector is `frames` successive frames of one clip, frame by frame: (frames * n_mels,); every frame_hop_length-th one is
kept, and none reaches over a clip's end. Vectors are never stored: a batch is gathered from a strided view of the
frames (with 5 frames a vector, copies would take five times the memory). A pass over the batches draws from torch's
generator what an iterator of torch's DataLoader draws, which the reference uses; but it gathers whole batches.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

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


class Batches:
    """The batches of some of the vectors: each pass yields (vectors, is_target) of one batch after the other.

    A pass draws twice from torch's global generator, once where it does not shuffle: what DataLoader draws for the
    seeds of its worker processes, then what its RandomSampler seeds the generator of the permutation with.
    """

    def __init__(self, vectors: Vectors, indices: np.ndarray, batch_size: int, shuffle: bool):
        chosen = torch.from_numpy(indices).to(vectors.starts.device)
        self.view = vectors.view
        self.starts = vectors.starts[chosen]  # (n_chosen,)
        self.is_target = vectors.is_target[chosen]
        self.batch_size, self.shuffle = batch_size, shuffle

    def __len__(self) -> int:
        return math.ceil(len(self.starts) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        starts, is_target = self.starts, self.is_target
        _draw()
        if self.shuffle:
            generator = torch.Generator().manual_seed(_draw())
            order = torch.randperm(len(starts), generator=generator).to(starts.device)
            starts, is_target = starts[order], is_target[order]
        for rows, domains in zip(starts.split(self.batch_size), is_target.split(self.batch_size), strict=True):
            yield self.view.index_select(0, rows), domains  # (batch, frames * n_mels), (batch,)


def _draw() -> int:
    return int(torch.empty((), dtype=torch.int64).random_().item())


@dataclass(frozen=True)
class TrainingLoaders:
    """The batches of a training run."""

    training: Batches
    validation: Batches


def split_vectors(n_vectors: int, validation_split: float) -> tuple[np.ndarray, np.ndarray]:
    """Split vectors into training and validation by NumPy's global generator, in the order of the draw.

    The reference calls sklearn's train_test_split, whose import takes longer than a small run: this is the same draw.

    Raises
    ------
    InputError
        Nothing would be left for training.
    """
    n_validation = math.ceil(validation_split * n_vectors)
    if n_validation >= n_vectors:
        raise InputError(
            f"validation_split {validation_split:g} of {n_vectors} training vectors leaves none to train with; add "
            "clips or change --validation_split"
        )
    drawn = np.random.permutation(n_vectors)
    return drawn[n_validation:], drawn[:n_validation]


def make_training_loaders(vectors: Vectors, batch_size: int, shuffle: bool, validation_split: float) -> TrainingLoaders:
    """Split the vectors and make the loaders of the training and of the validation batches.

    Raises
    ------
    InputError
        The split leaves no training vector, or only one (batch normalisation needs two).
    """
    training, validation = split_vectors(len(vectors), validation_split)
    if min(len(training), batch_size) < 2:
        raise InputError(
            f"{len(training)} training vector(s) in batches of {batch_size}: batch normalisation needs two in a batch; "
            "add clips or raise --batch_size"
        )
    return TrainingLoaders(
        Batches(vectors, training, batch_size, shuffle), Batches(vectors, validation, batch_size, shuffle=False)
    )


def _vectors_in(n_frames: int, clip: Clip, config: VectorConfig) -> int:
    """Return the number of vectors in a clip, or say that it is too short."""
    if n_frames < config.frames:
        raise InputError(
            f"{clip.path} is too short: {n_frames} frame(s), but a vector takes {config.frames}; "
            "remove the clip or lower --frames"
        )
    return (n_frames - config.frames) // config.frame_hop_length + 1
