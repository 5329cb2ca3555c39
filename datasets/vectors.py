"""From clips to batches of vectors, as views of the frames.

A vector is `frames` successive frames of one clip, frame by frame: (frames * n_bins,); every frame_hop_length-th is
kept, and none extends beyond a clip's end. Vectors are never stored: a batch is gathered from a strided view of the
frames (with 5 frames a vector, copies would take five times the memory). A pass over the batches draws from torch's
generator exactly what the reference's DataLoader draws, but gathers whole batches. Frames live on the network's
device: a pass sends it one permutation, drawn on the CPU, and nothing else.
"""

import math
from collections.abc import Callable, Iterator, Sequence
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
        self.frames = torch.from_numpy(features.frames).to(device)  # (n_frames, n_bins)
        self.n_bins = self.frames.shape[1]
        self.clips, self.features = clips, features
        self.per_clip = [
            _n_vectors(n, clip.path, length, hop) for n, clip in zip(features.frames_per_clip, clips, strict=True)
        ]
        first_frames = np.cumsum([0, *features.frames_per_clip[:-1]])
        starts = [first + hop * np.arange(n) for first, n in zip(first_frames, self.per_clip, strict=True)]
        is_target = np.repeat([clip.is_target for clip in clips], self.per_clip)
        self.view = _view(self.frames, length)
        self.starts = torch.from_numpy(np.concatenate(starts)).to(device)
        self.is_target = torch.from_numpy(is_target).to(device)

    def __len__(self) -> int:
        return len(self.starts)

    def of_each_clip(self) -> Iterator[ClipInput]:
        """Yield the clips as inputs of scores."""
        for clip, starts in zip(self.clips, torch.split(self.starts, self.per_clip), strict=True):
            yield ClipInput(clip.path, partial(self.view.index_select, 0, starts), clip.is_target)


def _view(frames: torch.Tensor, length: int) -> torch.Tensor:
    """Return every run of `length` successive frames: (n_frames - length + 1, length * n_bins), sharing memory."""
    n_frames, n_bins = frames.shape
    return frames.as_strided((n_frames - length + 1, length * n_bins), (n_bins, 1))


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


class JoinedViews:
    """Rows of several parts' views, `firsts` being the number of each part's first row.

    Gathered without a copy of the views, which may be memory-mapped.
    """

    def __init__(self, views: Sequence[torch.Tensor], firsts: torch.Tensor):
        self.views, self.firsts = views, firsts

    def index_select(self, dim: int, rows: torch.Tensor) -> torch.Tensor:
        """Gather rows: (n_rows,) -> (n_rows, frames * n_bins)."""
        gathered = torch.empty(len(rows), self.views[0].shape[1])
        owners = torch.bucketize(rows, self.firsts, right=True) - 1
        for i, (view, first) in enumerate(zip(self.views, self.firsts, strict=True)):
            chosen = (owners == i).nonzero().squeeze(1)
            gathered[chosen] = view.index_select(dim, rows[chosen] - first)
        return gathered


class Batches:
    """The batches of some of the vectors: a pass yields (vectors, is_target), batch by batch.

    A network with labels gets (vectors, is_target, labels). A pass draws twice from torch's global generator, once if
    it does not shuffle, as a pass of DataLoader does: the base seed of its worker processes, then the seed of its
    RandomSampler's permutation.
    """

    def __init__(
        self,
        view: torch.Tensor | JoinedViews,
        columns: Sequence[torch.Tensor],
        indices: np.ndarray,
        batch_size: int,
        shuffle: bool,
    ):
        chosen = torch.from_numpy(indices).to(columns[0].device)
        self.view = view
        self.columns = [column[chosen] for column in columns]  # starts, is_target and, if any, labels: (n_chosen,)
        self.batch_size, self.shuffle = batch_size, shuffle

    def __len__(self) -> int:
        return math.ceil(len(self.columns[0]) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        columns = self.columns
        _draw()
        if self.shuffle:
            generator = torch.Generator().manual_seed(_draw())
            order = torch.randperm(len(columns[0]), generator=generator).to(columns[0].device)
            columns = [column[order] for column in columns]
        for rows, *others in zip(*(column.split(self.batch_size) for column in columns), strict=True):
            yield self.view.index_select(0, rows), *others  # (batch, frames * n_bins), then (batch,) each


def _draw() -> int:
    return int(torch.empty((), dtype=torch.int64).random_().item())


@dataclass(frozen=True)
class TrainingBatches:
    """The batches of a training run."""

    training: Batches
    validation: Batches


def split_indices(n_items: int, validation_split: float, items: str = "vectors") -> tuple[np.ndarray, np.ndarray]:
    """Split items into training and validation by NumPy's global generator, in the order of the draw.

    The same draw as sklearn's train_test_split, which the reference uses; its import takes longer than a small run.
    """
    n_validation = math.ceil(validation_split * n_items)
    if n_validation >= n_items:
        raise InputError(
            f"validation_split {validation_split:g} of {n_items} training {items} leaves none to train with; add "
            "clips or change --validation_split"
        )
    drawn = np.random.permutation(n_items)
    return drawn[n_validation:], drawn[:n_validation]


def make_batches(parts: Sequence[Vectors], settings: Settings, labels: Sequence[int] | None = None) -> TrainingBatches:
    """Split the vectors of all parts into training and validation batches.

    Parameters
    ----------
    labels
        The label of each clip, for a network with labels. Its validation gets whole clips: the vectors of a clip
        overlap, so a classifier would know a clip by its neighbouring vectors.
    """
    view, starts = _joined(parts, settings.frames)
    columns = [starts, torch.cat([part.is_target for part in parts])]
    if labels is None:
        training, validation = split_indices(len(columns[0]), settings.validation_split)
    else:
        per_clip = [n for part in parts for n in part.per_clip]
        columns.append(torch.from_numpy(np.repeat(labels, per_clip)).to(columns[0].device))
        clip_numbers = np.repeat(np.arange(len(labels)), per_clip)
        training, validation = (
            np.flatnonzero(np.isin(clip_numbers, clips))
            for clips in split_indices(len(labels), settings.validation_split, "clips")
        )
    if min(len(training), settings.batch_size) < 2:
        raise InputError(
            f"{counted(len(training), 'training vector')} in batches of {settings.batch_size}: batch normalisation "
            "needs two in a batch; add clips or raise --batch_size"
        )
    return TrainingBatches(
        Batches(view, columns, training, settings.batch_size, settings.shuffle),
        Batches(view, columns, validation, settings.batch_size, shuffle=False),
    )


def _joined(parts: Sequence[Vectors], length: int) -> tuple[torch.Tensor | JoinedViews, torch.Tensor]:
    """Return the parts' views as one, and the starts of their vectors in it.

    On a CUDA device the frames are copied into one tensor, since JoinedViews would wait for the device in each batch.
    """
    if len(parts) == 1:
        return parts[0].view, parts[0].starts
    firsts = torch.tensor([0, *(len(part.frames) for part in parts[:-1])]).cumsum(0)
    starts = torch.cat([part.starts + int(first) for part, first in zip(parts, firsts, strict=True)])
    if starts.device.type == "cpu":
        return JoinedViews([part.view for part in parts], firsts), starts
    return _view(torch.cat([part.frames for part in parts]), length), starts
