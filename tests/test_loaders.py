"""Vectors: views of the frames, clip by clip, split and shuffled with the reference's draws."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split

from common import InputError, seed_everything
from datasets.cache import Features
from datasets.clips import Clip
from datasets.loaders import VectorConfig, Vectors, make_training_loaders, split_vectors

CPU = torch.device("cpu")


def make_vectors(frames_per_clip, config, n_mels=3):
    """Make the vectors of clips with numbered frames; every other clip is of the target domain."""
    n_frames = sum(frames_per_clip)
    frames = np.arange(n_frames * n_mels, dtype=np.float32).reshape(n_frames, n_mels)
    clips = [Clip(None, 0, ("source", "target")[i % 2], "normal") for i in range(len(frames_per_clip))]
    return Vectors(Features(frames, tuple(frames_per_clip)), clips, config, CPU), frames


@pytest.mark.parametrize("config", [VectorConfig(5, 1), VectorConfig(3, 2), VectorConfig(1, 1), VectorConfig(4, 7)])
def test_vectors_are_successive_frames_of_one_clip_of_any_length(config):
    lengths = [7, 12, 5, 9]
    vectors, frames = make_vectors(lengths, config)
    first = 0
    for n_frames, clip_vectors in zip(lengths, vectors.of_each_clip(), strict=True):
        clip = frames[first : first + n_frames]
        expected = [
            clip[t : t + config.frames].ravel() for t in range(0, n_frames - config.frames + 1, config.frame_hop_length)
        ]
        np.testing.assert_array_equal(clip_vectors.numpy(), expected)
        first += n_frames


def test_vectors_are_not_copied():
    vectors, frames = make_vectors([50, 60], VectorConfig(5, 1))
    assert vectors.view.data_ptr() == frames.ctypes.data
    assert vectors.view.untyped_storage().nbytes() == frames.nbytes


def test_split_initial_weights_and_batches_are_drawn_as_the_reference_draws_them():
    """The reference: a split, then a DataLoader over single items whose every iterator draws from the generator."""
    vectors, _ = make_vectors([40] * 6, VectorConfig(5, 1))
    n_vectors = len(vectors)
    seed_everything(7)
    loaders = make_training_loaders(vectors, 16, True, 0.1)
    torch.rand(3)  # the network
    ours = [[batch for batch, _ in loader] for loader in (loaders.training, loaders.validation) * 2]

    seed_everything(7)
    halves = train_test_split(range(n_vectors), test_size=0.1)
    items = [vectors.view[vectors.starts[i]] for i in range(n_vectors)]
    plain = [
        torch.utils.data.DataLoader([items[i] for i in half], batch_size=16, shuffle=shuffle)
        for half, shuffle in zip(halves, (True, False), strict=True)
    ]
    torch.rand(3)
    reference = [list(loader) for loader in plain * 2]
    for our_pass, reference_pass in zip(ours, reference, strict=True):
        assert len(our_pass) == len(reference_pass)
        assert all(torch.equal(a, b) for a, b in zip(our_pass, reference_pass, strict=True))


@pytest.mark.parametrize(("n_vectors", "validation_split"), [(2, 0.1), (10, 0.1), (11, 0.25), (309, 0.1), (1000, 0.9)])
def test_the_split_is_sklearns(n_vectors, validation_split):
    np.random.seed(3)
    ours = split_vectors(n_vectors, validation_split)
    np.random.seed(3)
    expected = train_test_split(range(n_vectors), test_size=validation_split)
    assert [half.tolist() for half in ours] == expected


def test_the_domain_follows_each_vector():
    vectors, _ = make_vectors([10, 6], VectorConfig(5, 1))
    loaders = make_training_loaders(vectors, 4, True, 0.25)
    for batch, is_target in loaders.training:
        assert torch.equal(batch[:, 0] >= 10 * 3, is_target)


@pytest.mark.parametrize(("lengths", "batch_size", "validation_split"), [([5], 4, 0.5), ([6], 4, 0.5), ([30], 1, 0.1)])
def test_too_few_vectors_are_refused(lengths, batch_size, validation_split):
    vectors, _ = make_vectors(lengths, VectorConfig(5, 1))
    with pytest.raises(InputError):
        make_training_loaders(vectors, batch_size, True, validation_split)
