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
            write_clip(folder / "test_rename" / f"section_00_{domain}_test_{label}_{i:04d}.wav", seed, seconds=0.2)
    for i in range(3):
        write_clip(folder / "train" / f"section_00_source_train_normal_{i:04d}.wav", 1000 + i, seconds=0.2 * (i + 1))
    return tmp_path / "data"


def test_a_complete_data_set_passes_and_is_tabulated(check, complete):
    outcome = check(complete, "shaker", split="eval")
    assert outcome.status == 0, outcome.out + outcome.err
    rows = [line.split() for line in outcome.out.splitlines()]
    assert ["shaker", "00", "test", "source", "anomaly", "53", "53", "16000", "1", "0.20"] in rows
    assert ["shaker", "00", "train", "source", "normal", "3", "16000", "1", "0.20", "to", "0.60"] in rows
    assert rows[-1] == ["nothing", "is", "wrong"]


def test_a_year_with_only_a_total_is_checked_by_it(check, tmp_path):
    folder = machine_folder(tmp_path, "Sander", "dcase2026t2", "eval_data")
    write_clip(folder / "train" / "section_00_source_train_normal_0000.wav", 0, 0.2)
    write_clip(folder / "test_rename" / "section_00_source_test_normal_0000.wav", 1, 0.2)
    out = check(tmp_path, "Sander", challenge="DCASE2026T2", split="eval").out
    assert "Sander section 00 test: 1 clips, but the catalogue has 200" in out
    assert "section 00 test source normal" not in out


def test_every_problem_is_reported(check, complete):
    folder = machine_folder(complete, "shaker", split="eval_data")
    clips = sorted((folder / "test_rename").iterdir())
    clips[0].write_bytes(b"no audio")
    clips[1].unlink()
    soundfile.write(clips[2], np.zeros((1600, 2)), 16000)
    soundfile.write(clips[3], np.zeros(1600), 8000)
    copy = folder / "train" / "section_00_target_train_normal_0007.wav"
    shutil.copy(clips[4], copy)
    clips[5].rename(folder / "train" / "section_00_source_train_anomaly_0001.wav")
    (folder / "train" / "notes.wav").touch()
    outcome = check(complete, "shaker", split="eval")
    assert outcome.status == 1
    wrong = [line for line in outcome.out.splitlines() if line.startswith("wrong: ")]
    for sentence in (
        f"{clips[0]} cannot be read as audio (",
        "shaker section 00 test source anomaly: 50 clips, but the catalogue has 53",
        f"{clips[2]}: has 2 channels, not 1",
        "shaker section 00: several sampling rates: 8000, 16000 Hz",
        f"the same recording is in train ({copy}) and test ({clips[4]})",
        "section_00_source_train_anomaly_0001.wav: is labelled anomaly, but is in train",
        "notes.wav' is not a valid clip name",
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
        write_clip(folder / split / f"section_00_{domain}_{split}_{label}_{i:04d}.wav", seed + i, seconds=0.2)


def test_an_incomplete_development_set_of_2023_is_reported(check, tmp_path):
    """40 of 1,200 clips used to give `nothing is wrong`."""
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


def test_unchecked_and_skipped_files_are_reported_and_are_not_errors(check, complete):
    folder = machine_folder(complete, "shaker", split="eval_data")
    (folder / "train" / "clip.flac").touch()
    (folder / "train" / "old").mkdir()
    write_clip(folder / "train" / "section_07_source_train_normal_0000.wav", 5000, seconds=0.2)
    outcome = check(complete, "shaker", split="eval")
    assert outcome.status == 0, outcome.out
    assert "skipped: " + str(folder / "train") + ": 1 .flac file, 1 folder; only .wav files" in outcome.out
    assert "skipped: shaker: 1 clip of section 07, which the challenge does not have" in outcome.out
    assert "unchecked: the number of shaker train clips (not in the catalogue)" in outcome.out


def test_unlabelled_clips_are_counted_and_reported_as_unchecked(check, complete):
    folder = machine_folder(complete, "shaker", split="eval_data")
    shutil.rmtree(folder / "test_rename")
    for i in range(199):
        write_clip(folder / "test" / f"section_00_{i:04d}.wav", i, seconds=0.2)
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
    soundfile.write(
        folder / "test" / "section_00_anomaly_0001.wav", np.random.default_rng(0).uniform(-1, 1, (8000, 2)), 16000
    )
    (folder / "test" / "recording 7.wav").touch()
    outcome = check(tmp_path, challenge="MINE")
    assert outcome.status == 1
    assert "wrong: MyPump section 00: several channels: 1, 2" in outcome.out
    assert "recording 7.wav' is not a valid clip name" in outcome.out
    assert outcome.out.endswith("2 problems found\n")


def test_recordings_that_stop_or_spoil_training_are_reported(check, tmp_path):
    folder = machine_folder(tmp_path, "MyPump", "mine")
    for i in range(9):
        write_clip(folder / "train" / f"section_00_normal_{i:04d}.wav", i)
        write_clip(folder / "test" / f"section_00_anomaly_{i:04d}.wav", 10 + i)
    clips = sorted((folder / "train").iterdir())
    for i, value in ((0, 0.0), (1, 0.25), (2, np.nan)):
        soundfile.write(clips[i], np.full(8000, value), 16000, subtype="FLOAT")
    write_clip(clips[3], 3, seconds=0.1)
    shutil.copy(clips[4], clips[5])
    clips[6].unlink()
    clips[6].symlink_to(tmp_path / "recordings" / "gone.wav")
    for i in range(5):
        write_clip(folder / "test" / f"section_00_anomaly_{i:04d}.wav", 10 + i, rate=8000)
    outcome = check(tmp_path, challenge="MINE")
    assert outcome.status == 1
    wrong = [line.removeprefix("wrong: ") for line in outcome.out.splitlines() if line.startswith("wrong: ")]
    assert wrong[:6] == [
        f"{clips[0]}: is silent: its samples are all the same",
        f"{clips[1]}: is silent: its samples are all the same",
        f"{clips[2]} holds NaN or infinite samples; replace or remove the clip",
        f"{clips[3]}: is too short: 4 frames, but a vector takes 5",
        f"{clips[6]} is a link to {tmp_path}/recordings/gone.wav, which does not exist; remove or correct the link",
        f"the same recording is 2 times in train ({clips[4]}, {clips[5]})",
    ]
    odd = [str(folder / "test" / f"section_00_anomaly_{i:04d}.wav") for i in range(3)]
    assert wrong[6:] == [
        f"MyPump section 00: several sampling rates: 8000, 16000 Hz; see {', '.join(odd)} and 2 more",
    ]
    assert "is too short: 4 frames" not in check(tmp_path, "--frames", "4", challenge="MINE").out


def test_levels_that_no_recording_has_are_reported(check, tmp_path):
    folder = machine_folder(tmp_path, "MyPump", "mine")
    levels = {
        "integers": lambda noise: 3000 * noise,
        "clipped": lambda noise: np.clip(0.05 * noise, -0.1, 0.1),
        "offset": lambda noise: 0.05 * noise + 0.5,
        "loud": lambda noise: 1.5 * noise,  # +10 dB over full scale, which floats can hold
        "quiet": lambda noise: np.round(noise / 2) / 32768,  # a few steps of 16 bits
    }
    for i, (name, change) in enumerate(levels.items()):
        path = folder / "train" / f"section_00_normal_{i:04d}_{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).standard_normal(8000)
        soundfile.write(path, change(noise), 16000, subtype="FLOAT")
    write_clip(folder / "test" / "section_00_normal_0000.wav", 0)
    outcome = check(tmp_path, challenge="MINE")
    assert outcome.status == 1
    wrong = [line.partition("_normal_")[2] for line in outcome.out.splitlines() if line.startswith("wrong: ")]
    assert [line[5:] for line in wrong] == [
        "integers.wav: has samples up to 11698, where full scale is 1; divide integers by theirs, 32768 for example",
        "clipped.wav: is clipped: 4.4 % of its samples are at its lowest or highest value",
        "offset.wav: has an offset of 0.50 of full scale (its mean)",
    ]


def test_a_machine_without_a_train_folder_is_reported_beside_the_others(check, tmp_path):
    for name in ("MyPump/train/section_00_normal_0000.wav", "flat/section_00_normal_0000.wav"):
        write_clip(machine_folder(tmp_path, "", "mine") / name, 0)
    machine_folder(tmp_path, "empty", "mine").mkdir()
    outcome = check(tmp_path, challenge="MINE")
    assert outcome.status == 1
    for name in ("flat", "empty"):
        assert f"{machine_folder(tmp_path, name, 'mine')}/train: there is no such folder" in outcome.out
