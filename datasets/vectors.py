"""From clips to batches of vectors, as views of the frames.

A vector is `frames` successive frames of one clip, frame by frame: (frames * n_bins,); every frame_hop_length-th is
kept, and none extends beyond a clip's end. Vectors are never stored: a batch is gathered from a strided view of the
frames (with 5 frames a vector, copies would take five times the memory). A pass over the batches draws from torch's
generator exactly what the reference's DataLoader draws, but gathers whole batches. Frames live on the network's
device: a pass sends it one permutation, drawn on the CPU, and nothing else.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common import InputError, Settings

import numpy as np
import torch

from datasets.cache import Features
from datasets.clips import Clip
from runtime.wording import counted


class ClipInput:
    """A clip as the input of a score: its path, and its vectors, gathered on demand.

    Attributes
    ----------
    path
        None if the clip was given as samples.
    vectors
        (n_vectors, frames * n_bins) float32, on the network's device; gathered at each call.
    is_target
        Whether the clip is from the target domain; False if unknown.
    """

    def __init__(self, path: Path | None, make_vectors: Callable[[], torch.Tensor] | None, is_target: bool = False):
        self.path, self._make_vectors, self.is_target = path, make_vectors, is_target

    @property
    def vectors(self) -> torch.Tensor:
        """Gather the clip's vectors."""
        if self._make_vectors is None:
            raise InputError("a score without a network has no vectors; use the clip's path")
        return self._make_vectors()


class Vectors:
    """All vectors of a list of clips, on a device: a strided view of the frames and each vector's first row in it.

    Attributes
    ----------
    view
        Every run of `frames` successive frames: (n_frames - frames + 1, frames * n_bins), sharing memory.
    starts
        The row of `view` of each vector: (n_vectors,).
    is_target
        Whether the vector's clip is from the target domain: (n_vectors,).
    """

    def __init__(self, features: Features, clips: list[Clip], settings: Settings, device: torch.device):
        length, hop = settings.frames, settings.frame_hop_length
        frames = torch.from_numpy(features.frames).to(device)  # (n_frames, n_bins)
        self.n_bins = n_bins = frames.shape[1]
        self.clips, self.features = clips, features
        self.per_clip = [
            _n_vectors(n, clip.path, length, hop) for n, clip in zip(features.frames_per_clip, clips, strict=True)
        ]
        first_frames = np.cumsum([0, *features.frames_per_clip[:-1]])
        starts = [first + hop * np.arange(n) for first, n in zip(first_frames, self.per_clip, strict=True)]
        is_target = np.repeat([clip.is_target for clip in clips], self.per_clip)
        self.view = frames.as_strided((len(frames) - length + 1, length * n_bins), (n_bins, 1))
        self.starts = torch.from_numpy(np.concatenate(starts)).to(device)
        self.is_target = torch.from_numpy(is_target).to(device)

    def __len__(self) -> int:
        return len(self.starts)

    def of_each_clip(self) -> Iterator[ClipInput]:
        """Yield the clips as inputs of scores."""
        for clip, starts in zip(self.clips, torch.split(self.starts, self.per_clip), strict=True):
            yield ClipInput(clip.path, partial(self.view.index_select, 0, starts), clip.is_target)


def vectors_of(frames: np.ndarray, settings: Settings, device: torch.device, name: object = "the clip") -> torch.Tensor:
    """Return the vectors of one clip's frames, (n_frames, n_bins): (n_vectors, frames * n_bins)."""
    _n_vectors(len(frames), name, settings.frames, settings.frame_hop_length)
    runs = torch.from_numpy(frames).to(device).unfold(0, settings.frames, settings.frame_hop_length)
    return runs.transpose(1, 2).reshape(len(runs), -1)  # (n_vectors, n_bins, frames) -> (n_vectors, frames * n_bins)


def _n_vectors(n_frames: int, name: object, length: int, hop: int) -> int:
    """Return the number of vectors in a clip; one that is too short is reported."""
    if n_frames < length:
        raise InputError(
            f"{name} is too short: {counted(n_frames, 'frame')}, but a vector takes {length}; remove the clip, or "
            "train with fewer --frames"
        )
    return (n_frames - length) // hop + 1


class Batches:
    """The batches of some of the vectors: a pass yields (vectors, is_target), batch by batch.

    A pass draws twice from torch's global generator, once if it does not shuffle, as a pass of DataLoader does: the
    base seed of its worker processes, then the seed of its RandomSampler's permutation.
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
            yield self.view.index_select(0, rows), domains  # (batch, frames * n_bins), (batch,)


def _draw() -> int:
    return int(torch.empty((), dtype=torch.int64).random_().item())


@dataclass(frozen=True)
class TrainingBatches:
    """The batches of a training run."""

    training: Batches
    validation: Batches


def split_vectors(n_vectors: int, validation_split: float) -> tuple[np.ndarray, np.ndarray]:
    """Split vectors into training and validation by NumPy's global generator, in the order of the draw.

    The same draw as sklearn's train_test_split, which the reference uses; its import takes longer than a small run.
    """
    n_validation = math.ceil(validation_split * n_vectors)
    if n_validation >= n_vectors:
        raise InputError(
            f"validation_split {validation_split:g} of {n_vectors} training vectors leaves none to train with; add "
            "clips or change --validation_split"
        )
    drawn = np.random.permutation(n_vectors)
    return drawn[n_validation:], drawn[:n_validation]


def make_batches(vectors: Vectors, settings: Settings) -> TrainingBatches:
    """Split the vectors into the training and the validation batches."""
    training, validation = split_vectors(len(vectors), settings.validation_split)
    if min(len(training), settings.batch_size) < 2:
        raise InputError(
            f"{counted(len(training), 'training vector')} in batches of {settings.batch_size}: batch normalisation "
            "needs two in a batch; add clips or raise --batch_size"
        )
    return TrainingBatches(
        Batches(vectors, training, settings.batch_size, settings.shuffle),
        Batches(vectors, validation, settings.batch_size, shuffle=False),
    )
