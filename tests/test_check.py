"""The check of a data set on disk."""

import shutil

import numpy as np
import pytest
import soundfile
from synthetic import machine_folder, write_clip

import tools.check_dataset
from datasets.catalogue import load_challenge


@pytest.fixture
def check(call_command):
    """Call the command with a data folder, in this process."""

    def call(data, *words, challenge="DCASE2023T2", split="dev"):
        return call_command(tools.check_dataset.main, challenge, split, *words, "--dataset_directory", data)

    return call


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


def test_a_complete_data_set_passes_and_is_tabulated(check, complete):
    outcome = check(complete, "shaker", split="eval")
    assert outcome.status == 0, outcome.out + outcome.err
    rows = [line.split() for line in outcome.out.splitlines()]
    assert ["shaker", "00", "test", "source", "anomaly", "53", "53", "16000", "1", "0.10"] in rows
    assert ["shaker", "00", "train", "source", "normal", "3", "16000", "1", "0.10", "to", "0.30"] in rows
    assert rows[-1] == ["nothing", "is", "wrong"]


def test_everything_that_is_wrong_is_reported(check, complete):
    folder = machine_folder(complete, "shaker", split="eval_data")
    clips = sorted((folder / "test_rename").iterdir())
    clips[0].write_bytes(b"no audio")
    clips[1].unlink()
    soundfile.write(clips[2], np.zeros((1600, 2)), 16000)
    soundfile.write(clips[3], np.zeros(1600), 8000)
    shutil.copy(clips[4], folder / "train" / "section_00_target_train_normal_0007.wav")
    clips[5].rename(folder / "train" / "section_00_source_train_anomaly_0001.wav")
    (folder / "train" / "notes.wav").touch()
    longer = clips[6].read_bytes()
    clips[6].write_bytes(longer[:44] + b"data" + longer[44:])  # all samples are shifted
    outcome = check(complete, "shaker", split="eval")
    assert outcome.status == 1
    wrong = [line for line in outcome.out.splitlines() if line.startswith("wrong: ")]
    for sentence in (
        f"{clips[0]} cannot be read as audio (",
        "shaker section 00 test source anomaly: 50 clips, but the catalogue has 53",
        f"{clips[2]}: has 2 channel(s), not 1",
        "shaker section 00: several sampling rates: 8000, 16000 Hz",
        "the same recording is in train and test: ",
        "section_00_source_train_anomaly_0001.wav: is labelled anomaly, but is in train",
        "notes.wav' is not a valid clip name",
        f"{clips[6]}: is 4 bytes longer than its header says",
    ):
        assert sum(sentence in line for line in wrong) == 1, sentence
    assert outcome.out.splitlines()[-1] == f"{len(wrong)} problems found"


def test_missing_folders_are_wrong_and_unknown_words_are_refused(check, tmp_path):
    outcome = check(tmp_path, "fan")
    assert outcome.status == 1
    assert outcome.out.count("there is no such folder") == 2
    assert check(tmp_path, "fann").err.startswith("error: DCASE2023T2 has no development machine type 'fann'")
    assert check(tmp_path, challenge="DCASE1999T2").status == 2


def write_group(folder, words, n_clips, split, seed):
    domain, label = words.split()
    for i in range(n_clips):
        write_clip(folder / split / f"section_00_{domain}_{split}_{label}_{i:04d}.wav", seed + i, seconds=0.05)


def test_an_incomplete_development_set_of_2023_is_reported(check, tmp_path):
    """40 of 1,200 clips used to be `nothing is wrong`."""
    folder = machine_folder(tmp_path, "fan")
    write_group(folder, "source normal", 30, "train", 0)
    write_group(folder, "source normal", 5, "test", 100)
    write_group(folder, "target anomaly", 5, "test", 200)
    outcome = check(tmp_path, "fan")
    assert outcome.status == 1
    wrong = [line.removeprefix("wrong: fan section 00 ") for line in outcome.out.splitlines() if "wrong: " in line]
    assert wrong == [
        "train source normal: 30 clips, but the catalogue has 990",
        "train target normal: 0 clips, but the catalogue has 10",
        "test source normal: 5 clips, but the catalogue has 50",
        "test source anomaly: 0 clips, but the catalogue has 50",
        "test target normal: 0 clips, but the catalogue has 50",
        "test target anomaly: 5 clips, but the catalogue has 50",
    ]


def test_what_is_unchecked_or_skipped_is_reported_and_is_not_wrong(check, complete):
    folder = machine_folder(complete, "shaker", split="eval_data")
    (folder / "train" / "clip.flac").touch()
    (folder / "train" / "old").mkdir()
    write_clip(folder / "train" / "section_07_source_train_normal_0000.wav", 5000, seconds=0.1)
    outcome = check(complete, "shaker", split="eval")
    assert outcome.status == 0, outcome.out
    assert "skipped: " + str(folder / "train") + ": 1 .flac file, 1 folder; only .wav files" in outcome.out
    assert "skipped: shaker: 1 clip of section 07, which the challenge does not have" in outcome.out
    assert "unchecked: the number of shaker train clips (not in the catalogue)" in outcome.out


def test_unlabelled_clips_are_counted_and_their_labels_said_to_be_unchecked(check, complete):
    folder = machine_folder(complete, "shaker", split="eval_data")
    shutil.rmtree(folder / "test_rename")
    for i in range(199):
        write_clip(folder / "test" / f"section_00_{i:04d}.wav", i, seconds=0.05)
    outcome = check(complete, "shaker", split="eval")
    assert outcome.status == 1
    assert "unchecked: the labels of shaker section 00 test (its clips are not labelled)" in outcome.out
    assert "wrong: shaker section 00 test: 199 clips, but the catalogue has 200" in outcome.out


def test_own_machines_are_checked_too(check, tmp_path):
    folder = machine_folder(tmp_path, "MyPump", "mine")
    for i in range(3):
        write_clip(folder / "train" / f"section_00_normal_{i:04d}.wav", i)
        write_clip(folder / "test" / f"section_00_anomaly_{i:04d}.wav", 10 + i)
    outcome = check(tmp_path, challenge="MINE")
    assert outcome.status == 0, outcome.out + outcome.err
    assert outcome.out.count("unchecked: the number of MyPump") == 2
    soundfile.write(folder / "test" / "section_00_anomaly_0001.wav", np.zeros((1600, 2)), 16000)
    (folder / "test" / "recording 7.wav").touch()
    outcome = check(tmp_path, challenge="MINE")
    assert outcome.status == 1
    assert "wrong: MyPump section 00: several channels: 1, 2" in outcome.out
    assert "recording 7.wav' is not a valid clip name" in outcome.out
    assert outcome.out.endswith("2 problems found\n")
