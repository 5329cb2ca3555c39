"""Vectors: views of the frames, clip by clip, split and shuffled with the reference's draws."""

from common import InputError

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split
from synthetic import make_settings

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
def test_vectors_are_successive_frames_of_one_clip_of_any_length(length, hop):
    settings = make_settings(frames=length, frame_hop_length=hop)
    lengths = [7, 12, 5, 9]
    vectors, frames = make_vectors(lengths, settings)
    first = 0
    for n_frames, clip_input in zip(lengths, vectors.of_each_clip(), strict=True):
        clip = frames[first : first + n_frames]
        expected = [clip[t : t + length].ravel() for t in range(0, n_frames - length + 1, hop)]
        np.testing.assert_array_equal(clip_input.vectors.numpy(), expected)
        np.testing.assert_array_equal(vectors_of(clip, settings, CPU).numpy(), expected)  # as tools.score makes them
        first += n_frames


def test_vectors_are_not_copied():
    vectors, frames = make_vectors([50, 60], make_settings())
    assert vectors.view.data_ptr() == frames.ctypes.data
    assert vectors.view.untyped_storage().nbytes() == frames.nbytes


def test_split_initial_weights_and_batches_are_drawn_as_in_the_reference():
    """The reference: a split, then a DataLoader over single items whose every iterator draws from the generator."""
    settings = make_settings(batch_size=16)
    vectors, _ = make_vectors([40] * 6, settings)
    n_vectors = len(vectors)
    seed_everything(7)
    batches = make_batches([vectors], settings)
    torch.rand(3)  # the network
    ours = [[batch for batch, _ in one_pass] for one_pass in (batches.training, batches.validation) * 2]

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
def test_the_split_equals_sklearns(n_vectors, validation_split):
    np.random.seed(3)
    ours = split_indices(n_vectors, validation_split)
    np.random.seed(3)
    expected = train_test_split(range(n_vectors), test_size=validation_split)
    assert [half.tolist() for half in ours] == expected


def test_each_vector_keeps_its_domain():
    settings = make_settings(batch_size=4, validation_split=0.25)
    vectors, _ = make_vectors([10, 6], settings)
    for batch, is_target in make_batches([vectors], settings).training:
        assert torch.equal(batch[:, 0] >= 10 * 3, is_target)
    assert [clip.is_target for clip in vectors.of_each_clip()] == [False, True]


@pytest.mark.parametrize(("lengths", "batch_size", "validation_split"), [([5], 4, 0.5), ([6], 4, 0.5), ([30], 1, 0.1)])
def test_too_few_vectors_are_refused(lengths, batch_size, validation_split):
    settings = make_settings(batch_size=batch_size, validation_split=validation_split)
    vectors, _ = make_vectors(lengths, settings)
    with pytest.raises(InputError):
        make_batches([vectors], settings)


def test_without_shuffling_batches_follow_the_split_and_draw_once():
    """As DataLoader does with its SequentialSampler."""
    settings = make_settings(batch_size=16, shuffle=False)
    vectors, _ = make_vectors([40] * 3, settings)
    seed_everything(7)
    training, _ = split_indices(len(vectors), settings.validation_split)
    seed_everything(7)
    batches = make_batches([vectors], settings).training
    for _ in range(2):
        passed = torch.cat([batch for batch, _ in batches])
        assert torch.equal(passed, vectors.view[vectors.starts[torch.from_numpy(training)]])
    drawn = torch.get_rng_state()
    seed_everything(7)
    loader = torch.utils.data.DataLoader(range(10))
    for _ in range(2):
        list(loader)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_parts_are_gathered_as_if_they_were_one_and_clips_with_labels_are_split_whole():
    settings = make_settings(batch_size=16, shuffle=False, validation_split=0.3)
    parts = [make_vectors(lengths, settings)[0] for lengths in ([40, 7], [30], [9, 50, 20])]
    for i, part in enumerate(parts):
        part.frames += 1000 * i
    whole = torch.cat([clip.vectors for part in parts for clip in part.of_each_clip()])
    batches = make_batches(parts, settings, labels=[0, 1, 0, 2, 3, 1])
    of_clip = np.repeat(range(6), [36, 3, 26, 5, 46, 16])
    for half in (batches.training, batches.validation):
        vectors, is_target, labels = map(torch.cat, zip(*half, strict=True))
        chosen = (whole[:, None] == vectors).all(dim=2).any(dim=1).numpy()
        assert len(vectors) == sum(np.bincount(of_clip)[list({*of_clip[chosen]})])
        assert torch.equal(vectors, whole[torch.from_numpy(chosen)])
        assert labels.tolist() == np.array([0, 1, 0, 2, 3, 1])[of_clip[chosen]].tolist()
        assert is_target.tolist() == np.array([0, 1, 0, 0, 1, 0])[of_clip[chosen]].astype(bool).tolist()
    assert len(batches.training) + len(batches.validation) > 2


def test_on_a_device_parts_are_one_tensor():
    settings = make_settings(batch_size=16)
    meta = torch.device("meta")  # without values: reading one, as JoinedViews does for each batch, is an error
    parts = [make_vectors(lengths, settings, device=meta)[0] for lengths in ([40, 7], [30])]
    batches = make_batches(parts, settings, labels=[0, 1, 0])
    for half in (batches.training, batches.validation):
        assert half.view.shape == (40 + 7 + 30 - 4, 5 * 3)
        assert all(len(vectors) == len(labels) for vectors, _, labels in half)
