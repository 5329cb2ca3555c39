"""The cache of features: computed once, never stale, never broken, the same for all processes."""

import os
import shutil

import numpy as np
import pytest
import soundfile
from synthetic import machine_folder, make_settings, write_clip, write_machine

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


def replace_clip(path, seed=77):
    """Write another clip of the same size, with the same times of access and modification."""
    stat = path.stat()
    write_clip(path, seed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


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


@pytest.mark.parametrize("change", ["content", "new", "gone", "renamed", "only content"])
def test_a_changed_clip_never_meets_stale_features(load, train_folder, tmp_path, change):
    load()
    path = sorted(train_folder.iterdir())[0]
    if change == "content":
        write_clip(path, 77, seconds=0.7)
    elif change == "only content":
        replace_clip(path)
    elif change == "new":
        write_clip(train_folder / "section_00_source_train_normal_0099.wav", 99)
    elif change == "gone":
        path.unlink()
    else:
        path.rename(path.with_name("section_00_source_train_normal_0098.wav"))
    frames, n_computed = load()
    assert n_computed == len(list(train_folder.iterdir()))
    shutil.rmtree(tmp_path / "processed")
    np.testing.assert_array_equal(load()[0], frames)


def test_clips_that_were_moved_or_copied_unchanged_keep_their_features(load, train_folder):
    load()
    copy = train_folder.with_name("copy")
    shutil.copytree(train_folder, copy, copy_function=shutil.copyfile)  # with other times
    shutil.rmtree(train_folder)
    copy.rename(train_folder)
    assert load()[1] == 0


@pytest.mark.parametrize("damage", ["bytes", "truncated", "description", "no description", "no array"])
def test_a_broken_cache_is_noticed_and_rebuilt(load, tmp_path, damage):
    frames, _ = load()
    (array,) = (tmp_path / "processed").glob("*.npy")
    description = array.with_suffix(".json")
    content = bytearray(array.read_bytes())
    content[5000] ^= 1
    if damage == "bytes":
        array.write_bytes(content)
    elif damage == "truncated":
        array.write_bytes(content[:4000])
    elif damage == "description":
        description.write_bytes(description.read_bytes()[:-1])
    else:
        (description if damage == "no description" else array).unlink()
    rebuilt, n_computed = load()
    assert n_computed == 6
    np.testing.assert_array_equal(rebuilt, frames)


def test_data_sets_that_share_a_cache_never_share_features(load, tmp_path):
    """Their clips have the same names, sizes and times, as container layers or unpacked archives have."""
    first, second = (write_machine(machine_folder(tmp_path / name)) / "train" for name in ("one", "two"))
    for i, path in enumerate(sorted(second.iterdir())):
        replace_clip(path, seed=70 + i)
    for path in (*first.iterdir(), *second.iterdir()):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    frames = [load(folder, is_beside_clips=False) for folder in (first, second, first, second)]
    assert [n_computed for _, n_computed in frames] == [6, 6, 0, 0]
    assert not np.array_equal(frames[0][0], frames[1][0])
    for before, after in ((0, 2), (1, 3)):
        np.testing.assert_array_equal(frames[before][0], frames[after][0])


def test_a_failed_computation_leaves_no_files(load, train_folder, tmp_path):
    sorted(train_folder.iterdir())[3].write_bytes(b"RIFF")
    with pytest.raises(cache.InputError):
        load()
    assert [path.suffix for path in (tmp_path / "processed").iterdir()] == [".lock"]


def test_a_clip_replaced_while_features_are_computed_is_noticed(load, tmp_path, monkeypatch):
    extract = cache.extract

    def replacing(paths, front_end):
        yield from extract(paths, front_end)
        replace_clip(paths[0])

    with monkeypatch.context() as patch:
        patch.setattr(cache, "extract", replacing)
        with pytest.raises(cache.InputError, match="or a clip, was changed while the features were computed"):
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
    children = []
    for number in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                frames, n_computed = load()
                (tmp_path / f"{number}.txt").write_text(f"{n_computed} {frames.sum()}")
                os._exit(0)
            finally:
                os._exit(1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    counts, sums = zip(*(path.read_text().split() for path in tmp_path.glob("*.txt")), strict=True)
    assert sorted(counts) == ["0", "0", "0", "6"]
    assert len(set(sums)) == 1
