"""Vectors: views of the frames, clip by clip, split and shuffled with the reference's draws."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split
from synthetic import make_settings
from torch.utils.data import DataLoader

from datasets.cache import Features
from datasets.clips import Clip
from datasets.vectors import Vectors, make_batches, split_indices, vectors_of
from runtime.device import seed_everything

CPU = torch.device("cpu")


def make_vectors(frames_per_clip, settings, n_mels=3, device=CPU):
    """Make the vectors of clips with numbered frames; every other clip is from the target domain."""
    n_frames = sum(frames_per_clip)
    frames = np.arange(n_frames * n_mels, dtype=np.float32).reshape(n_frames, n_mels)
    clips = [Clip(None, 0, ("source", "target")[i % 2], "normal") for i in range(len(frames_per_clip))]
    return Vectors(Features(frames, tuple(frames_per_clip)), clips, settings, device), frames


@pytest.mark.parametrize(("length", "hop"), [(5, 1), (3, 2), (1, 1), (4, 7)])
def test_vectors_are_views_of_successive_frames_of_one_clip_of_any_length(length, hop):
    settings = make_settings(frames=length, frame_hop_length=hop)
    lengths = [7, 12, 5, 9]
    vectors, frames = make_vectors(lengths, settings)
    assert vectors.view.data_ptr() == frames.ctypes.data
    assert vectors.view.untyped_storage().nbytes() == frames.nbytes
    for clip, of_clip in zip(np.split(frames, np.cumsum(lengths)[:-1]), vectors.of_each_clip(), strict=True):
        expected = [clip[t : t + length].ravel() for t in range(0, len(clip) - length + 1, hop)]
        np.testing.assert_array_equal(of_clip.vectors, expected)
        np.testing.assert_array_equal(vectors_of(clip, settings, CPU), expected)  # as tools.score makes them
    assert [clip.is_target for clip in vectors.of_each_clip()] == [False, True] * 2


@pytest.mark.parametrize("shuffle", [True, False])
def test_split_initial_weights_and_batches_are_drawn_as_in_the_reference(shuffle):
    """The reference: a split, then a DataLoader over single items whose every iterator draws from the generator."""
    settings = make_settings(batch_size=16, shuffle=shuffle)
    vectors, _ = make_vectors([40] * 6, settings)
    seed_everything(7)
    batches = make_batches([vectors], settings)
    torch.rand(3)  # the network
    passes = [list(half) for half in (batches.training, batches.validation) * 2]
    drawn = torch.get_rng_state()

    seed_everything(7)
    halves = train_test_split(vectors.view[vectors.starts], test_size=0.1)
    loaders = [DataLoader(half, 16, is_shuffled) for half, is_shuffled in zip(halves, (shuffle, False), strict=True)]
    torch.rand(3)
    for our_pass, loader in zip(passes, loaders * 2, strict=True):
        for (batch, is_target), expected in zip(our_pass, loader, strict=True):
            assert torch.equal(batch, expected)
            assert torch.equal(batch[:, 0] // (40 * 3) % 2 == 1, is_target)
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize(("n_vectors", "validation_split"), [(2, 0.1), (10, 0.1), (11, 0.25), (309, 0.1), (1000, 0.9)])
def test_the_split_equals_sklearns(n_vectors, validation_split):
    np.random.seed(3)
    ours = split_indices(n_vectors, validation_split)
    np.random.seed(3)
    expected = train_test_split(range(n_vectors), test_size=validation_split)
    assert [half.tolist() for half in ours] == expected


def test_parts_are_gathered_as_if_they_were_one_and_clips_with_labels_are_split_whole():
    settings = make_settings(batch_size=16, shuffle=False, validation_split=0.3)
    parts = [make_vectors(lengths, settings)[0] for lengths in ([40, 7], [30], [9, 50, 20])]
    for i, part in enumerate(parts):
        part.frames += 1000 * i
    whole = torch.cat([clip.vectors for part in parts for clip in part.of_each_clip()])
    of_clip, labels = np.repeat(range(6), [36, 3, 26, 5, 46, 16]), np.array([0, 1, 0, 2, 3, 1])
    batches = make_batches(parts, settings, labels=labels)
    for half in (batches.training, batches.validation):
        vectors, is_target, given = map(torch.cat, zip(*half, strict=True))
        rows = [(whole == vector).all(dim=1).nonzero().item() for vector in vectors]
        clips = of_clip[rows]
        assert rows == np.flatnonzero(np.isin(of_clip, clips)).tolist()
        assert given.tolist() == labels[clips].tolist()
        assert is_target.tolist() == np.isin(clips, [1, 4]).tolist()
    assert len(batches.training) + len(batches.validation) > 2


def test_on_a_device_parts_are_one_tensor():
    settings = make_settings(batch_size=16)
    meta = torch.device("meta")  # without values: reading one, as JoinedViews does for each batch, is an error
    parts = [make_vectors(lengths, settings, device=meta)[0] for lengths in ([40, 7], [30])]
    batches = make_batches(parts, settings, labels=[0, 1, 0])
    for half in (batches.training, batches.validation):
        assert half.view.shape == (40 + 7 + 30 - 4, 5 * 3)
        assert all(len(vectors) == len(labels) for vectors, _, labels in half)
