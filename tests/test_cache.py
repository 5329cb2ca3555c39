"""The cache of features: computed once, never stale, never broken, the same for all processes."""

import os
import shutil

import numpy as np
import pytest
import soundfile
from synthetic import exit_statuses, machine_folder, make_settings, write_clip, write_machine

from datasets import cache
from datasets.cache import load_features
from datasets.clips import list_clips
from datasets.front_ends import make_front_end

OTHER = {"n_mels": 40, "n_fft": 512, "hop_length": 256, "power": 1.0, "fmin": 50.0, "fmax": 7000.0, "win_length": 800}


@pytest.fixture
def train_folder(tmp_path):
    """Return a folder of training clips."""
    return write_machine(machine_folder(tmp_path / "data")) / "train"


@pytest.fixture
def load(train_folder, tmp_path, monkeypatch):
    """Load a folder's features; return a copy of their frames, and the number of clips computed for them."""
    computed = []
    extract = cache.extract
    monkeypatch.setattr(cache, "extract", lambda paths, front: computed.extend(paths) or extract(paths, front))

    def call(folder=train_folder, is_beside_clips=True, **values):
        computed.clear()
        front_end = make_front_end(make_settings(**values))
        features = load_features(list_clips(folder)[0], front_end, 1, tmp_path / "processed", is_beside_clips)
        assert isinstance(features.frames, np.memmap)
        assert features.frames.shape == (sum(features.frames_per_clip), front_end.n_bins)
        return np.array(features.frames), len(computed)

    return call


def replace_clip(path):
    """Write another clip of the same size, with the same time of modification."""
    stat = path.stat()
    write_clip(path, 77)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_features_are_computed_once_for_each_value_of_a_parameter(load):
    frames, n_first = load()
    assert n_first == 6
    for name, value in OTHER.items():
        others, n_computed = load(**{name: value})
        assert n_computed == 6
        assert others.shape != frames.shape or not np.array_equal(others, frames)
    again, n_again = load()
    assert n_again == 0
    np.testing.assert_array_equal(again, frames)


def test_a_changed_clip_never_meets_stale_features(load, train_folder, tmp_path):
    first, second, third, fourth, *_ = sorted(train_folder.iterdir())
    load()
    for change in (
        lambda: write_clip(first, 77, seconds=0.7),
        lambda: replace_clip(second),
        lambda: write_clip(train_folder / "section_00_source_train_normal_0099.wav", 99),
        third.unlink,
        lambda: fourth.rename(train_folder / "section_00_source_train_normal_0098.wav"),
    ):
        change()
        frames, n_computed = load()
        assert n_computed == len(list(train_folder.iterdir()))
        shutil.rmtree(tmp_path / "processed")
        np.testing.assert_array_equal(load()[0], frames)


def test_clips_that_were_moved_or_copied_unchanged_keep_their_features(load, train_folder):
    load()
    copy = shutil.copytree(train_folder, train_folder.with_name("copy"), copy_function=shutil.copyfile)  # other times
    shutil.rmtree(train_folder)
    copy.rename(train_folder)
    assert load()[1] == 0


def test_a_broken_cache_is_noticed_and_rebuilt(load, tmp_path):
    frames, _ = load()
    (array,) = (tmp_path / "processed").glob("*.npy")
    description = array.with_suffix(".json")
    content = array.read_bytes()
    flipped = bytearray(content)
    flipped[5000] ^= 1
    for path, damaged in (
        (array, flipped),
        (array, content[:4000]),
        (description, description.read_bytes()[:-1]),
        (array, None),
        (description, None),
    ):
        path.unlink()
        if damaged:
            path.write_bytes(damaged)
        rebuilt, n_computed = load()
        assert n_computed == 6
        np.testing.assert_array_equal(rebuilt, frames)


def test_data_sets_that_share_a_cache_never_share_features(load, tmp_path):
    """Their clips have the same names, sizes and times, as container layers or unpacked archives have."""
    first, second = (write_machine(machine_folder(tmp_path / name)) / "train" for name in ("one", "two"))
    for i, path in enumerate(sorted(second.iterdir())):
        write_clip(path, 70 + i)
    for path in (*first.iterdir(), *second.iterdir()):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    frames, counts = zip(*(load(folder, is_beside_clips=False) for folder in (first, second) * 2), strict=True)
    assert counts == (6, 6, 0, 0)
    assert not np.array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[:2], frames[2:])


def test_a_failed_computation_leaves_no_files(load, train_folder, tmp_path):
    max(train_folder.iterdir()).write_bytes(b"RIFF")
    with pytest.raises(cache.InputError):
        load()
    assert [path.suffix for path in (tmp_path / "processed").iterdir()] == [".lock"]


def test_a_clip_replaced_while_features_are_computed_is_noticed(load, tmp_path, monkeypatch):
    extract = cache.extract

    def replacing(paths, front_end):
        yield from extract(paths, front_end)
        replace_clip(paths[0])

    with (
        monkeypatch.context() as patch,
        pytest.raises(cache.InputError, match="or a clip, was changed while the features were computed"),
    ):
        patch.setattr(cache, "extract", replacing)
        load()
    frames = load()[0]
    shutil.rmtree(tmp_path / "processed")
    np.testing.assert_array_equal(load()[0], frames)


def test_silent_clips_are_reported_in_one_line(load, train_folder, capsys):
    for path in sorted(train_folder.iterdir())[:2]:
        soundfile.write(path, np.zeros(8000), 16000)
    load()
    first = sorted(train_folder.iterdir())[0]
    assert capsys.readouterr().out.count(f"warning: 2 of 6 clips are silent, such as {first}; ") == 1


def test_concurrent_processes_compute_the_features_once(load, tmp_path):
    frames, _ = load()
    shutil.rmtree(tmp_path / "processed")

    def n_computed() -> int:
        again, n_computed = load()
        return n_computed if np.array_equal(again, frames) else 99

    assert sorted(exit_statuses(*[n_computed] * 4)) == [0, 0, 0, 6]
