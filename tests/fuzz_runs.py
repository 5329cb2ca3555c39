"""Broken clips and broken files of a finished run, for fuzz.py: train.py refuses them, or gives the same scores."""

import csv
import functools
import io
import os
from pathlib import Path

import numpy as np
import soundfile
from mutations import call, mutate, mutate_run, nasty
from synthetic import checkpoint_path, machine_folder, network_path, small_run, write_machine

import train
from tools import check_dataset
from tools.results import plots

HEADERS = {"WAV": 44, "WAVEX": 80, "RF64": 104, "AIFF": 54, "FLAC": 42}  # bytes
FORMATS = (  # libsndfile's names of a file's format and that of its samples
    *("WAV PCM_16", "WAV PCM_16", "WAV PCM_U8", "WAV PCM_24", "WAV FLOAT", "WAV IMA_ADPCM"),
    *("WAVEX PCM_16", "RF64 DOUBLE", "AIFF PCM_16", "FLAC PCM_16", "OGG VORBIS"),
)


class DifferenceError(AssertionError):
    """Scores or decisions, `found`, changed without a report."""

    def __init__(self, found: dict[str, bytes]):
        super().__init__("scores or decisions were changed without a word")
        self.found = found


def scores_of(found: dict[str, bytes]) -> set[str]:
    """Return the scores, without the clips' names."""
    (content,) = (content for name, content in found.items() if name.startswith("anomaly"))
    return {row[-1] for row in csv.reader(content.decode(errors="surrogateescape").splitlines())}


def figures(folder: Path) -> dict[str, bytes]:
    """Return the scores and decisions of a run."""
    return {path.name: path.read_bytes() for path in (folder / "results").rglob("[ad]*.csv")}


@functools.cache
def finished_run(folder: Path) -> tuple[dict[Path, bytes], dict[str, bytes]]:
    """Make a run of two epochs in a folder, resumed to a third; return its files, and its scores and decisions.

    The checkpoint and the log are those after the second epoch.
    """
    plots.draw_losses = plots.draw_scores = lambda *_, **__: None
    plots.to_png = lambda _: b"picture"
    write_machine(machine_folder(folder / "data"), n_test=1)
    assert call(train.main, *small_run(folder), "--epochs", "2") == 0
    earlier = {path: path.read_bytes() for name in ("models/checkpoint", "logs") for path in all_files(folder / name)}
    assert call(train.main, *small_run(folder), "--restart", "--epochs", "3") == 0
    later = {path: path.read_bytes() for path in all_files(folder) if "raw" not in path.parts}
    for path, content in earlier.items():
        path.write_bytes(content)
    return {**later, **earlier}, figures(folder)


def all_files(folder: Path) -> list[Path]:
    """Return the files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def check_run(folder: Path, *words: str) -> str:
    """Run train.py on a broken file; its results must be as before. Restore the files afterwards."""
    kept, expected = finished_run(folder)
    try:
        status = call(train.main, *small_run(folder), "--epochs", "3", *words)
        if status == 0 and figures(folder) != expected:
            raise DifferenceError(figures(folder))
    finally:
        for path in all_files(folder):
            if "raw" not in path.parts and path not in kept:
                path.unlink()
        for path, content in kept.items():
            if not path.is_file() or path.read_bytes() != content:
                path.write_bytes(content)
    return "the same scores" if status == 0 else "refused"


def fuzz_names(rng: np.random.Generator, folder: Path) -> str:
    """A test clip's name, given to the check of a data set and to a test."""
    _, expected = finished_run(folder)
    path = sorted((machine_folder(folder / "data") / "test").iterdir())[0]
    name = mutate(rng, path.name.encode(), nasty("name")).replace(b"/", b"_").replace(b"\0", b"_")[:255] or b"x"
    try:
        renamed = path.rename(path.with_name(os.fsdecode(name)))
    except OSError:  # a name that the file system refuses: ., .. or a folder's
        return "no name"
    try:
        call(check_dataset.main, "DCASE2023T2", "dev", "fan", "--dataset_directory", folder / "data")
        try:
            return check_run(folder, "--test_only")
        except DifferenceError as difference:
            if not scores_of(difference.found) <= scores_of(expected):
                raise
            return "the same scores under another name"
    finally:
        renamed.rename(path)


def fuzz_audio(rng: np.random.Generator, folder: Path) -> str:
    """The header of a test clip."""
    finished_run(folder)
    path = sorted((machine_folder(folder / "data") / "test").iterdir())[0]
    whole, (samples, rate) = path.read_bytes(), soundfile.read(path, dtype="int16")
    kind, subtype = FORMATS[rng.integers(0, len(FORMATS))].split()
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    good = buffer.getvalue()
    size = HEADERS.get(kind, 60)
    try:
        parts = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"data", b"fact"]
        head = mutate(rng, good[:size], parts) if rng.integers(0, 2) else mutate_run(rng, good[:size])
        path.write_bytes(head + good[size:])
        try:
            return check_run(folder, "--test_only")
        except DifferenceError:
            if np.array_equal(soundfile.read(path, dtype="float32")[0], samples / 32768):
                raise
            return "another recording, or in a lossy format"
    finally:
        path.write_bytes(whole)


def fuzz_features(rng: np.random.Generator, folder: Path) -> str:
    """The features of a finished run: the training clips' before it is trained again, the test clips' before a test."""
    finished_run(folder)
    paths = [path for path in all_files(folder / "data/dcase2023t2/dev_data/processed") if path.suffix != ".lock"]
    path = paths[rng.integers(0, len(paths))]
    path.write_bytes(mutate_run(rng, path.read_bytes()))
    return check_run(folder, *(["--test_only"] if path.name.startswith("test") else []))


def fuzz_networks(rng: np.random.Generator, folder: Path) -> str:
    """The network of a finished run, its record, or the network without a record, before a test."""
    finished_run(folder)
    network = network_path(folder)
    paths = [network, network.with_suffix(".json")]
    path = paths[rng.integers(0, len(paths))]
    broken = mutate_run(rng, path.read_bytes())
    if path == network and rng.integers(0, 2):
        network.with_suffix(".json").unlink()
    path.write_bytes(broken)
    return check_run(folder, "--test_only")


def fuzz_checkpoints(rng: np.random.Generator, folder: Path) -> str:
    """The checkpoint of a run, before it is resumed."""
    finished_run(folder)
    path = checkpoint_path(folder)
    path.write_bytes(mutate_run(rng, path.read_bytes()))
    return check_run(folder, "--restart")
