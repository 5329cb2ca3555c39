"""The check of a data set on disk."""

import shutil
import sys

import numpy as np
import pytest
import soundfile
from synthetic import REPOSITORY, machine_folder, run, write_clip

from datasets.catalogue import load_challenge


def check(data, *words, challenge="DCASE2023T2", split="dev"):
    command = (sys.executable, "-m", "datasets.check", challenge, split, *words, "--dataset_directory", data)
    return run(*command, cwd=REPOSITORY)


@pytest.fixture
def complete(tmp_path):
    """Return a data folder with the catalogue's number of test clips of one machine type."""
    folder = machine_folder(tmp_path / "data", "shaker", split="eval_data")
    expected = load_challenge("DCASE2023T2", True).clips["shaker"]["test"]
    assert sum(expected.values()) == 200
    seed = 0
    for words, n_clips in expected.items():
        domain, label = words.split()
        for i in range(n_clips):
            seed += 1
            write_clip(folder / "test_rename" / f"section_00_{domain}_test_{label}_{i:04d}.wav", seed, seconds=0.1)
    for i in range(3):
        write_clip(folder / "train" / f"section_00_source_train_normal_{i:04d}.wav", 1000 + i, seconds=0.1 * (i + 1))
    return tmp_path / "data"


def test_a_complete_data_set_passes_and_is_tabulated(complete):
    process = check(complete, "shaker", split="eval")
    assert process.returncode == 0, process.stdout + process.stderr
    rows = [line.split() for line in process.stdout.splitlines()]
    assert ["shaker", "00", "test", "source", "anomaly", "53", "53", "16000", "1", "0.10"] in rows
    assert ["shaker", "00", "train", "source", "normal", "3", "16000", "1", "0.10", "to", "0.30"] in rows
    assert rows[-1] == ["nothing", "is", "wrong"]


def test_everything_that_is_wrong_is_named(complete):
    folder = machine_folder(complete, "shaker", split="eval_data")
    clips = sorted((folder / "test_rename").iterdir())
    clips[0].write_bytes(b"no audio")
    clips[1].unlink()
    soundfile.write(clips[2], np.zeros((1600, 2)), 16000)
    soundfile.write(clips[3], np.zeros(1600), 8000)
    shutil.copy(clips[4], folder / "train" / "section_00_target_train_normal_0007.wav")
    clips[5].rename(folder / "train" / "section_00_source_train_anomaly_0001.wav")
    (folder / "train" / "notes.wav").touch()
    process = check(complete, "shaker", split="eval")
    assert process.returncode == 1
    wrong = [line for line in process.stdout.splitlines() if line.startswith("wrong: ")]
    for sentence in (
        f"{clips[0]} cannot be read as audio (",
        "shaker section 00 test source anomaly: 50 clips, but the catalogue has 53",
        f"{clips[2]}: has 2 channel(s), not 1",
        "shaker section 00: several sampling rates: 8000, 16000 Hz",
        "the same recording is in train and test: ",
        "section_00_source_train_anomaly_0001.wav: is labelled anomaly, but stands in train",
        "notes.wav' is no clip's name",
    ):
        assert sum(sentence in line for line in wrong) == 1, sentence
    assert process.stdout.splitlines()[-1] == f"{len(wrong)} problem(s) found"


def test_missing_folders_are_wrong_and_unknown_words_are_refused(tmp_path):
    process = check(tmp_path, "fan")
    assert process.returncode == 1
    assert process.stdout.count("there is no such folder") == 2
    assert check(tmp_path, "fann").stderr.startswith("error: DCASE2023T2 has no development machine type 'fann'")
    assert check(tmp_path, challenge="DCASE1999T2").returncode == 2
