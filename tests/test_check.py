"""tools.check_dataset: the check of a data set on disk, and the list of its clips."""

import shutil
from functools import partial

import numpy as np
import pytest
import soundfile
from synthetic import error_of, machine_folder, succeed, write_clip

from datasets.catalogue import load_challenge
from tools import check_dataset


@pytest.fixture
def check(call_command):
    """Call the command with a data folder, in this process."""

    def call(data, *words, challenge="DCASE2023T2", subset="dev"):
        return call_command(check_dataset.main, challenge, subset, *words, "--dataset_directory", data)

    return call


@pytest.fixture
def own(tmp_path):
    """Return the folder of a user's machine: nine training clips and nine test clips."""
    folder = machine_folder(tmp_path, "MyPump", "mine")
    for i in range(9):
        write_clip(folder / f"train/section_00_normal_{i:04d}.wav", i)
        write_clip(folder / f"test/section_00_anomaly_{i:04d}.wav", 10 + i)
    return folder


def wrong(outcome):
    """Return the problems in a command's output."""
    return [line.removeprefix("wrong: ") for line in outcome.out.splitlines() if line.startswith("wrong: ")]


def test_a_complete_data_set_passes_and_every_problem_is_reported(check, tmp_path):
    folder = machine_folder(tmp_path, "shaker", split="eval_data")
    counts = load_challenge("DCASE2023T2", True).clips["shaker"]["test"]
    for i, group in enumerate(group for group, n_clips in counts.items() for _ in range(n_clips)):
        write_clip(folder / f"test_rename/section_00_{group.replace(' ', '_test_')}_{i:04d}.wav", i, 0.2)
    for i in range(3):
        write_clip(folder / f"train/section_00_source_train_normal_{i:04d}.wav", 1000 + i, 0.2 * (i + 1))
    (folder / "train/clip.flac").touch()
    (folder / "train/old").mkdir()
    write_clip(folder / "train/section_07_source_train_normal_0000.wav", 5000, 0.2)
    out = succeed(check(tmp_path, "shaker", subset="eval"))
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "shaker 00 test source anomaly 53 53 16000 1 0.20 0.20" in lines
    assert "shaker 00 train source normal 3 16000 1 0.20 0.60" in lines
    assert f"skipped: {folder}/train: 1 .flac file, 1 folder; only .wav files" in out
    assert "skipped: shaker: 1 clip of section 07, which the challenge does not have" in out
    assert lines[-1] == "nothing is wrong"

    clips = sorted((folder / "test_rename").iterdir())
    clips[0].write_bytes(b"no audio")
    clips[1].unlink()
    soundfile.write(clips[2], np.zeros((1600, 2)), 16000)
    clips[3].rename(folder / "train/section_00_source_train_anomaly_0001.wav")
    (folder / "train/notes.wav").touch()
    outcome = check(tmp_path, "shaker", subset="eval")
    assert outcome.status == 1
    for sentence in (
        f"{clips[0]} cannot be read as audio (",
        "shaker section 00 test source anomaly: 50 clips, but the catalogue has 53",
        f"{clips[2]}: has 2 channels, not 1",
        "section_00_source_train_anomaly_0001.wav: is labelled anomaly, but is in train",
        "notes.wav' is not a valid clip name",
    ):
        assert sum(sentence in line for line in wrong(outcome)) == 1, sentence
    assert outcome.out.splitlines()[-1] == f"{len(wrong(outcome))} problems found"


def test_years_and_clips_without_labels_are_checked_by_the_total(check, tmp_path):
    for challenge, name, clip in (
        ("DCASE2026T2", "Sander", "section_00_source_test_normal_0000.wav"),
        ("DCASE2023T2", "shaker", "section_00_0000.wav"),
    ):
        folder = machine_folder(tmp_path, name, challenge.lower(), "eval_data")
        write_clip(folder / "train/section_00_source_train_normal_0000.wav", 0, 0.2)
        write_clip(folder / "test" / clip, 1, 0.2)
        outcome = check(tmp_path, name, challenge=challenge, subset="eval")
        assert f"{name} section 00 test all: 1 clips, but the catalogue has 200" in wrong(outcome)


def test_missing_groups_and_folders_are_wrong(check, tmp_path):
    folder = machine_folder(tmp_path, "fan")
    for i in range(3):
        write_clip(folder / f"train/section_00_source_train_normal_{i:04d}.wav", i, 0.2)
        write_clip(folder / f"test/section_00_target_test_anomaly_{i:04d}.wav", 10 + i, 0.2)
    outcome = check(tmp_path, "fan", "valve")
    assert outcome.status == 1
    assert outcome.out.count("there is no such folder") == 2
    assert [line.removeprefix("fan section 00 ") for line in wrong(outcome) if line.startswith("fan")] == [
        "train source normal: 3 clips, but the catalogue has 990",
        "train target normal: 0 clips, but the catalogue has 10",
        "test source normal: 0 clips, but the catalogue has 50",
        "test source anomaly: 0 clips, but the catalogue has 50",
        "test target normal: 0 clips, but the catalogue has 50",
        "test target anomaly: 3 clips, but the catalogue has 50",
    ]


def test_own_recordings_that_stop_or_spoil_training_are_reported(check, tmp_path, own):
    assert check(tmp_path, challenge="MINE").out.endswith("nothing is wrong\n")
    clips = sorted((own / "train").iterdir())
    noise = np.random.default_rng(0).standard_normal(8000)
    for path, samples in (
        (clips[0], np.full(8000, 0.25)),
        (clips[2], np.full(8000, np.nan)),
        (clips[7], 3000 * noise),
        (clips[8], np.clip(0.05 * noise, -0.1, 0.1) + 0.5),
        (own / "test/section_00_normal_0001.wav", 1.5 * noise),  # +10 dB over full scale, which floats can hold
        (own / "test/section_00_normal_0002.wav", np.round(noise / 2) / 32768),  # a few steps of 16 bits
        (own / "test/section_00_anomaly_0001.wav", 0.1 * np.stack([noise, noise], axis=1)),
    ):
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    write_clip(clips[3], 3, seconds=0.1)
    shutil.copy(clips[4], clips[5])
    clips[6].unlink()
    clips[6].symlink_to(tmp_path / "recordings/gone.wav")
    odd = [own / f"test/section_00_anomaly_{i:04d}.wav" for i in range(3, 8)]
    for i, path in enumerate(odd):
        write_clip(path, 20 + i, rate=8000)
    flat = machine_folder(tmp_path, "flat", "mine")
    write_clip(flat / "section_00_normal_0000.wav", 0)
    outcome = check(tmp_path, challenge="MINE")
    assert outcome.status == 1
    assert wrong(outcome) == [
        f"{clips[6]} cannot be read: No such file or directory; check the path",
        f"{clips[0]}: is silent: its samples are all the same",
        f"{clips[2]} holds NaN or infinite samples; replace or remove the clip",
        f"{clips[3]}: is too short: 4 frames, but a vector takes 5",
        f"{clips[7]}: has samples up to {3000 * np.abs(noise).max():.5g}, where full scale is 1; divide integers by "
        "theirs, 32768 for example",
        f"{clips[8]}: is clipped: 4.5 % of its samples are at its lowest or highest value",
        f"{clips[8]}: has an offset of 0.50 of full scale (its mean)",
        f"the same recording 2 times: {clips[4]}, {clips[5]}",
        f"{flat}/train: there is no such folder",
        f"{flat}/test: there is no such folder",
        f"MyPump section 00: several values of sampling_rate: 8000/16000; see {odd[0]}, {odd[1]}, {odd[2]} and 2 more",
        f"MyPump section 00: several values of channels: 1/2; see {own}/test/section_00_anomaly_0001.wav",
    ]
    assert "is too short: 4 frames" not in check(tmp_path, "--frames", "4", challenge="MINE").out


# --- the list ---------------------------------------------------------------------------------------------------------


def test_every_clip_is_listed_with_facts_from_name_attributes_and_header(check, tmp_path):
    """Two channels, attributes, and supplemental clips, as in 2026."""
    folder = machine_folder(tmp_path, "fan", "dcase2026t2")
    for name in (
        "train/section_00_source_train_normal_3_m-n_W.wav",
        "train/section_00_target_train_normal_0000.wav",
        "test/section_00_target_test_anomaly_0001_noAttributes.wav",
        "supplemental/section_00_source_clean_0000.wav",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.zeros((4000, 2)), 16000)
    (folder / "attributes_00.csv").write_text(
        "file_name,d1p,d1v,d2p,d2v\n"
        "fan/train/section_00_source_train_normal_3_m-n_W.wav,m-n,W,mic,1\n"
        "train/section_00_target_train_normal_0000.wav,speed,x,,\n"
    )
    list_clips = partial(check, tmp_path, "--list", challenge="DCASE2026T2")
    assert succeed(list_clips()).replace(f"{folder}/", "") == (
        "path,machine_type,section,split,domain,label,name_attributes,file_attributes,channels,seconds,sampling_rate\n"
        "train/section_00_source_train_normal_3_m-n_W.wav,fan,00,train,source,normal,m-n_W,m-n=W mic=1,2,0.25,16000\n"
        "train/section_00_target_train_normal_0000.wav,fan,00,train,target,normal,,speed=x,2,0.25,16000\n"
        "test/section_00_target_test_anomaly_0001_noAttributes.wav,fan,00,test,target,anomaly,,,2,0.25,16000\n"
        "supplemental/section_00_source_clean_0000.wav,fan,00,supplemental,source,,,,2,0.25,16000\n"
    )

    (folder / "test/section_00_target_test_normal_0009.wav").write_bytes(b"RIFF")
    write_clip(folder / "test/notes.wav", 0)
    outcome = list_clips("fan")
    assert outcome.status == 1
    assert outcome.out.count("\n") == 7
    assert "/section_00_target_test_normal_0009.wav,fan,00,test,target,normal,,,,,\n" in outcome.out
    assert "/notes.wav,fan,,test,,," in outcome.out
    assert outcome.err.count("error: ") == 2
    assert "notes.wav' is not a valid clip name" in outcome.err


def test_own_machines_and_years_without_domains_are_listed_and_no_clips_are_an_error(check, tmp_path, own):
    write_clip(machine_folder(tmp_path, "fan", "dcase2020t2") / "test/anomaly_id_02_00000003.wav", 0)
    list_clips = partial(check, tmp_path, "--list")
    assert f"\n{own}/train/section_00_normal_0000.wav,MyPump,00,train,,normal," in list_clips(challenge="MINE").out
    assert "/anomaly_id_02_00000003.wav,fan,02,test,,anomaly,,,1,0.5,16000\n" in list_clips(challenge="DCASE2020T2").out
    error = error_of(list_clips(challenge="DCASE2026T2"))
    assert f"{tmp_path}/dcase2026t2/dev_data/raw holds no clips; download them first" in error
