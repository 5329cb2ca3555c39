"""The cache of features: made once, never stale, never broken, the same for all processes."""

import os
import sys

import numpy as np
import pytest
from synthetic import REPOSITORY, machine_folder, write_clip, write_machine

from datasets import cache
from datasets.cache import load_features
from datasets.clips import list_clips
from datasets.features import FeatureConfig


@pytest.fixture
def train_folder(tmp_path):
    """Return a folder of training clips."""
    return write_machine(machine_folder(tmp_path / "data")) / "train"


@pytest.fixture
def load(train_folder, tmp_path, monkeypatch):
    """Load the folder's features; return them and the number of clips that were computed for it."""
    computed = []
    extract = cache.extract
    monkeypatch.setattr(cache, "extract", lambda paths, config: computed.extend(paths) or extract(paths, config))

    def call(config=FeatureConfig()):  # noqa: B008 (frozen)
        computed.clear()
        clips = list_clips(train_folder)[0]
        features = load_features(clips, config, tmp_path / "processed", "train", lambda items, *_: items)
        return features, len(computed)

    return call


def test_features_are_made_once_and_mapped_from_disk(load):
    first, n_first = load()
    second, n_second = load()
    assert (n_first, n_second) == (6, 0)
    assert isinstance(second.frames, np.memmap)
    np.testing.assert_array_equal(first.frames, second.frames)
    assert sum(second.frames_per_clip) == len(second.frames)


def test_another_parameter_gets_other_features(load):
    load()
    features, n_computed = load(FeatureConfig(n_mels=40))
    assert (n_computed, features.frames.shape[1]) == (6, 40)
    assert load()[1] == 0


@pytest.mark.parametrize("change", ["content", "time", "new", "gone", "renamed"])
def test_a_changed_clip_never_meets_stale_features(load, train_folder, change):
    load()
    path = sorted(train_folder.iterdir())[0]
    if change == "content":
        write_clip(path, 77, seconds=0.7)
    elif change == "time":
        os.utime(path, (1, 1))
    elif change == "new":
        write_clip(train_folder / "section_00_source_train_normal_0099.wav", 99)
    elif change == "gone":
        path.unlink()
    else:
        path.rename(path.with_name("section_00_source_train_normal_0098.wav"))
    assert load()[1] == len(list(train_folder.iterdir()))


@pytest.mark.parametrize("damage", ["bytes", "truncated", "description", "no description", "no array"])
def test_a_broken_cache_is_noticed_and_rebuilt(load, tmp_path, damage):
    whole, _ = load()
    whole = np.array(whole.frames)
    (array,) = (tmp_path / "processed").glob("*.npy")
    description = array.with_suffix(".json")
    content = bytearray(array.read_bytes())
    content[5000] ^= 1
    if damage == "bytes":
        array.write_bytes(content)
    elif damage == "truncated":
        array.write_bytes(content[:4000])
    elif damage == "description":
        description.write_text('{"key": ')
    elif damage == "no description":
        description.unlink()
    else:
        array.unlink()
    features, n_computed = load()
    assert n_computed == 6
    np.testing.assert_array_equal(features.frames, whole)


def test_a_failed_build_leaves_nothing(load, train_folder, tmp_path):
    sorted(train_folder.iterdir())[3].write_bytes(b"RIFF")
    with pytest.raises(cache.InputError):
        load()
    assert [path.suffix for path in (tmp_path / "processed").iterdir()] == [".lock"]


def test_processes_at_once_make_the_features_once(train_folder, tmp_path):
    import subprocess

    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from datasets.cache import load_features\n"
        "from datasets.clips import list_clips\n"
        "from datasets.features import FeatureConfig\n"
        "def say(items, *_):\n"
        "    print('made', end=' ')\n"
        "    return items\n"
        "clips = list_clips(Path(sys.argv[2]))[0]\n"
        "print(load_features(clips, FeatureConfig(), Path(sys.argv[3]), 'train', say).frames.sum())\n"
    )
    command = [sys.executable, "-c", code, str(REPOSITORY), str(train_folder), str(tmp_path / "processed")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sum("made" in output for output in outputs) == 1
    assert len({output.split()[-1] for output in outputs}) == 1
