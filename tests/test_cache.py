"""The cache of features: computed once, never stale, never broken, the same for all processes."""

import hashlib
import io
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from synthetic import directories, machine_folder, make_settings, python, write_clip, write_machine

from datasets import cache
from datasets.cache import load_features
from datasets.clips import list_clips
from datasets.front_ends import make_front_end
from runtime.files import content_checksum

OTHER = {"n_mels": 40, "n_fft": 512, "hop_length": 256, "power": 1.0, "fmin": 50.0, "fmax": 7000.0, "win_length": 800}


@pytest.fixture
def train_folder(tmp_path):
    """Return a folder of training clips."""
    return write_machine(machine_folder(tmp_path / "data")) / "train"


@pytest.fixture
def load(train_folder, tmp_path, monkeypatch):
    """Load the folder's features; return them and the number of clips computed for them."""
    computed = []
    extract = cache.extract
    monkeypatch.setattr(cache, "extract", lambda paths, front: computed.extend(paths) or extract(paths, front))

    def call(folder=train_folder, is_beside_clips=True, **values):
        computed.clear()
        front_end = make_front_end(make_settings(**values))
        processed = tmp_path / "processed"
        features = load_features(list_clips(folder)[0], front_end, 1, processed, is_beside_clips)
        return features, len(computed)

    return call


@pytest.fixture
def array(load, tmp_path):
    """Return the features' array on disk, with its description beside it."""
    load()
    (path,) = (tmp_path / "processed").glob("*.npy")
    return path


def test_silent_clips_are_reported_in_one_line(load, train_folder, capsys):
    for path in sorted(train_folder.iterdir())[:2]:
        soundfile.write(path, np.zeros(8000), 16000)
    load()
    first = sorted(train_folder.iterdir())[0]
    assert capsys.readouterr().out.count(f"warning: 2 of 6 clips are silent, such as {first}; ") == 1


def test_features_are_computed_once_and_mapped_from_disk(load):
    first, n_first = load()
    second, n_second = load()
    assert (n_first, n_second) == (6, 0)
    assert isinstance(second.frames, np.memmap)
    np.testing.assert_array_equal(first.frames, second.frames)
    assert sum(second.frames_per_clip) == len(second.frames)


@pytest.mark.parametrize(
    ("name", "value"),
    OTHER.items(),
)
def test_a_changed_parameter_gives_other_features(load, name, value):
    first = np.array(load()[0].frames)
    features, n_computed = load(**{name: value})
    assert n_computed == 6
    assert features.frames.shape != first.shape or not np.array_equal(features.frames, first)
    if name == "n_mels":
        assert features.frames.shape[1] == 40
    assert load()[1] == 0


@pytest.mark.parametrize("change", ["content", "time", "new", "gone", "renamed", "only content"])
def test_a_changed_clip_never_meets_stale_features(load, train_folder, change):
    load()
    path = sorted(train_folder.iterdir())[0]
    if change == "content":
        write_clip(path, 77, seconds=0.7)
    elif change == "only content":
        replace_clip(path)
    elif change == "time":
        os.utime(path, (1, 1))
    elif change == "new":
        write_clip(train_folder / "section_00_source_train_normal_0099.wav", 99)
    elif change == "gone":
        path.unlink()
    else:
        path.rename(path.with_name("section_00_source_train_normal_0098.wav"))
    assert load()[1] == len(list(train_folder.iterdir()))


def replace_clip(path, seed=77):
    """Write another clip of the same size, with the same times of access and modification."""
    stat = path.stat()
    write_clip(path, seed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def test_clips_that_were_moved_or_copied_unchanged_keep_their_features(load, train_folder):
    load()
    copy = train_folder.with_name("copy")
    shutil.copytree(train_folder, copy)
    shutil.rmtree(train_folder)
    copy.rename(train_folder)
    assert load()[1] == 0


@pytest.mark.parametrize(
    "damage", ["bytes", "truncated", "description", "deep description", "many digits", "no description", "no array"]
)
def test_a_broken_cache_is_noticed_and_rebuilt(load, array, damage):
    whole = np.array(load()[0].frames)
    description = array.with_suffix(".json")
    content = bytearray(array.read_bytes())
    content[5000] ^= 1
    if damage == "bytes":
        array.write_bytes(content)
    elif damage == "truncated":
        array.write_bytes(content[:4000])
    elif damage == "description":
        description.write_text('{"key": ')
    elif damage == "deep description":
        description.write_text("[" * 100_000)
    elif damage == "many digits":
        description.write_text(
            description.read_text().replace('"sampling_rate": 16000', f'"sampling_rate": {"1" * 5000}')
        )
    elif damage == "no description":
        description.unlink()
    else:
        array.unlink()
    features, n_computed = load()
    assert n_computed == 6
    np.testing.assert_array_equal(features.frames, whole)


@pytest.mark.parametrize(
    "change",
    [
        lambda counts: [counts[0] - 1, *counts[1:]],
        lambda counts: [counts[0] - 1, counts[1] + 1, *counts[2:]],
        lambda counts: counts[1:],
        lambda counts: [-counts[0], *counts[1:]],
        lambda counts: [float(counts[0]), *counts[1:]],
        lambda counts: [str(counts[0]), *counts[1:]],
        lambda counts: [[counts[0]], *counts[1:]],
        lambda counts: [None, *counts[1:]],
        lambda counts: [10**30, *counts[1:]],
        lambda counts: dict.fromkeys(map(str, counts)),
        lambda counts: 7,
        lambda counts: None,
    ],
)
@pytest.mark.parametrize("has_checksum", [True, False], ids=["", "earlier-version"])
def test_a_changed_number_of_frames_is_noticed_and_the_features_are_computed_again(load, array, change, has_checksum):
    whole, counts = np.array(load()[0].frames), load()[0].frames_per_clip
    description = json.loads(array.with_suffix(".json").read_text())
    description["frames_per_clip"] = change(description["frames_per_clip"])
    if not has_checksum:
        for name in ("checksum", "stamps", "content"):
            del description[name]
    array.with_suffix(".json").write_text(json.dumps(description))
    features, n_computed = load()
    assert n_computed == 6
    assert features.frames_per_clip == counts
    np.testing.assert_array_equal(features.frames, whole)


def npy(frames):
    """Return the content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, frames, allow_pickle=False)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "change",
    [
        lambda frames: np.asfortranarray(frames),
        lambda frames: frames.astype(">f4"),
        lambda frames: frames.astype(np.float64),
        lambda frames: frames.astype(np.complex64),
        lambda frames: frames.view(np.int32),
        lambda frames: frames.T.copy(),
        lambda frames: frames[:-1],
        lambda frames: frames.reshape(-1),
        lambda frames: frames[None],
        lambda frames: npy(frames).replace(b"'<f4'", b"'|O' ", 1),
    ],
    ids="fortran big-endian float64 complex int32 transposed shorter flat 3d object".split(),
)
@pytest.mark.parametrize("has_checksum", [True, False], ids=["", "earlier-version"])
def test_an_array_of_another_kind_with_a_matching_hash_is_computed_again(load, array, change, has_checksum):
    whole = np.array(load()[0].frames)
    changed = change(whole)
    array.write_bytes(changed if isinstance(changed, bytes) else npy(changed))
    description = json.loads(array.with_suffix(".json").read_text())
    description["sha256"] = hashlib.sha256(array.read_bytes()).hexdigest()
    if has_checksum:
        description["checksum"] = content_checksum(description)
    else:
        description = {name: description[name] for name in ("key", "frames_per_clip", "sha256")}
    array.with_suffix(".json").write_text(json.dumps(description))
    features, n_computed = load()
    assert n_computed == 6
    np.testing.assert_array_equal(features.frames, whole)


def test_data_sets_that_share_a_cache_never_share_features(call_train, tmp_path):
    """Their clips have the same names, sizes and times, as container layers or unpacked archives have."""
    for number, name in enumerate(("one", "two")):
        folder = write_machine(machine_folder(tmp_path / name))
        for path in folder.rglob("*.wav"):
            if number:
                replace_clip(path, seed=int(hashlib.sha256(path.name.encode()).hexdigest()[:6], 16))
            os.utime(path, (1_000_000_000, 1_000_000_000))
    networks = {}
    for where in ("shared", "own"):
        for name in ("one", "two"):
            words = [*directories(tmp_path / where / name), "--dataset_directory", tmp_path / name]
            words += ["--cache_directory", tmp_path / ("cache" if where == "shared" else f"cache {name}")]
            words += ["--dataset", "DCASE2023T2fan", "-d", "--train_only", "--epochs", 1, "--batch_size", 16]
            assert call_train(*words).status == 0
            networks[where, name] = next((tmp_path / where / name).rglob("*.pth")).read_bytes()
    assert networks["own", "one"] != networks["own", "two"]
    assert networks["shared", "one"] == networks["own", "one"]
    assert networks["shared", "two"] == networks["own", "two"]


def test_a_failed_computation_leaves_no_files(load, train_folder, tmp_path):
    sorted(train_folder.iterdir())[3].write_bytes(b"RIFF")
    with pytest.raises(cache.InputError):
        load()
    assert [path.suffix for path in (tmp_path / "processed").iterdir()] == [".lock"]


def test_a_clip_replaced_while_features_are_computed_is_noticed(load, train_folder, tmp_path, monkeypatch):
    extract, is_replaced = cache.extract, []

    def replacing(paths, front_end):
        yield from extract(paths, front_end)
        if not is_replaced:
            is_replaced.append(replace_clip(paths[0]))

    with monkeypatch.context() as patch:
        patch.setattr(cache, "extract", replacing)
        with pytest.raises(cache.InputError, match="or a clip, was changed while the features were computed"):
            load()
    found = np.array(load()[0].frames)
    shutil.rmtree(tmp_path / "processed")
    np.testing.assert_array_equal(load()[0].frames, found)


def test_concurrent_processes_compute_the_features_once(train_folder, tmp_path):
    command = python(
        "from pathlib import Path",
        "from datasets import cache",
        "from datasets.clips import list_clips",
        "from datasets.front_ends import make_front_end",
        "from synthetic import make_settings",
        "clips, front_end = list_clips(Path(sys.argv[1]))[0], make_front_end(make_settings())",
        "cache.progress = lambda items, *_: print('made', end=' ') or items",
        "print(cache.load_features(clips, front_end, 1, Path(sys.argv[2]), True).frames.sum())",
    )
    command += [str(train_folder), str(tmp_path / "processed")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sum("made" in output for output in outputs) == 1
    assert len({output.split()[-1] for output in outputs}) == 1
