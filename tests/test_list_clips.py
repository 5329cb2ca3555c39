"""The list of every clip of a challenge's subset."""

import csv
import io
import sys

import numpy as np
import pytest
import soundfile
from synthetic import REPOSITORY, machine_folder, run, write_clip


def list_clips(data, *words, challenge="DCASE2026T2", subset="dev"):
    command = (sys.executable, "-m", "tools.list_clips", challenge, subset, *words, "--dataset_directory", data)
    return run(*command, cwd=REPOSITORY)


@pytest.fixture
def fan(tmp_path):
    """Return a folder with a few clips of 2026's fan: two channels, attributes, supplemental clips."""
    folder = machine_folder(tmp_path, "fan", "dcase2026t2")
    names = {
        "train": ["section_00_source_train_normal_0003_m-n_W_mic_1.wav", "section_00_target_train_normal_0000.wav"],
        "test": ["section_00_target_test_anomaly_0001_noAttributes.wav"],
        "supplemental": ["section_00_source_clean_0000.wav"],
    }
    for split, files in names.items():
        (folder / split).mkdir(parents=True)
        for name in files:
            soundfile.write(folder / split / name, np.zeros((4000, 2)), 16000)
    (folder / "attributes_00.csv").write_text(
        "file_name,d1p,d1v,d2p,d2v\n"
        "fan/train/section_00_source_train_normal_0003_m-n_W_mic_1.wav,m-n,W,mic,1\n"
        "train/section_00_target_train_normal_0000.wav,=1+1,x,,\n"
    )
    return tmp_path


def test_every_clip_is_listed_with_what_name_attributes_and_header_tell(fan):
    process = list_clips(fan)
    assert process.returncode == 0, process.stderr
    rows = list(csv.DictReader(io.StringIO(process.stdout)))
    raw = machine_folder(fan, "fan", "dcase2026t2")
    assert [list(row.values()) for row in rows] == [
        [str(raw / "train" / "section_00_source_train_normal_0003_m-n_W_mic_1.wav"), "fan", "00", "train", "source"]
        + ["normal", "m-n_W_mic_1", "m-n=W mic=1", "2", "0.25"],
        [str(raw / "train" / "section_00_target_train_normal_0000.wav"), "fan", "00", "train", "target", "normal"]
        + ["", "'=1+1=x", "2", "0.25"],  # not a spreadsheet's formula
        [str(raw / "test" / "section_00_target_test_anomaly_0001_noAttributes.wav"), "fan", "00", "test", "target"]
        + ["anomaly", "", "", "2", "0.25"],
        [str(raw / "supplemental" / "section_00_source_clean_0000.wav"), "fan", "00", "supplemental", "source"]
        + ["", "", "", "2", "0.25"],
    ]


def test_clips_that_cannot_be_read_are_listed_and_reported(fan):
    folder = machine_folder(fan, "fan", "dcase2026t2") / "test"
    (folder / "section_00_target_test_normal_0009.wav").write_bytes(b"RIFF")
    write_clip(folder / "notes.wav", 0)
    process = list_clips(fan, "fan")
    assert process.returncode == 1
    rows = {row["path"].rpartition("/")[2]: row for row in csv.DictReader(io.StringIO(process.stdout))}
    assert len(rows) == 6
    assert rows["section_00_target_test_normal_0009.wav"]["label"] == "normal"
    assert rows["section_00_target_test_normal_0009.wav"]["seconds"] == ""
    assert rows["notes.wav"]["split"] == "test"
    assert process.stderr.count("error: ") == 2
    assert "notes.wav' is not a valid clip name" in process.stderr


def test_own_machines_and_years_without_domains_are_listed(tmp_path):
    write_clip(machine_folder(tmp_path, "MyPump", "mine") / "train" / "section_01_normal_0001.wav", 0)
    write_clip(machine_folder(tmp_path, "fan", "dcase2020t2") / "test" / "anomaly_id_02_00000003.wav", 0)
    (row,) = csv.DictReader(io.StringIO(list_clips(tmp_path, challenge="MINE").stdout))
    assert (row["machine_type"], row["section"], row["domain"], row["label"]) == ("MyPump", "01", "", "normal")
    (row,) = csv.DictReader(io.StringIO(list_clips(tmp_path, challenge="DCASE2020T2").stdout))
    assert (row["section"], row["split"], row["label"], row["channels"]) == ("02", "test", "anomaly", "1")


def test_without_clips_and_for_an_unknown_machine_type_the_reason_is_given(tmp_path):
    process = list_clips(tmp_path)
    assert process.returncode == 1
    assert f"there are no clips of DCASE2026T2 dev below {tmp_path}" in process.stderr
    assert "has no development machine type 'fann'" in list_clips(tmp_path, "fann").stderr
