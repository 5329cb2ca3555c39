"""The list of every clip of a challenge's subset."""

import csv
import io

import numpy as np
import pytest
import soundfile
from synthetic import machine_folder, write_clip

import tools.list_clips


@pytest.fixture
def list_clips(call_command):
    """Call the command with a data folder, in this process."""

    def call(data, *words, challenge="DCASE2026T2", subset="dev"):
        return call_command(tools.list_clips.main, challenge, subset, *words, "--dataset_directory", data)

    return call


@pytest.fixture
def fan(tmp_path):
    """Return a folder with a few clips of 2026's fan: two channels, attributes, supplemental clips."""
    folder = machine_folder(tmp_path, "fan", "dcase2026t2")
    names = {
        "train": ["section_00_source_train_normal_0003_m-n_W.wav", "section_00_target_train_normal_0000.wav"],
        "test": ["section_00_target_test_anomaly_0001_noAttributes.wav"],
        "supplemental": ["section_00_source_clean_0000.wav"],
    }
    for split, files in names.items():
        (folder / split).mkdir(parents=True)
        for name in files:
            soundfile.write(folder / split / name, np.zeros((4000, 2)), 16000)
    (folder / "attributes_00.csv").write_text(
        "file_name,d1p,d1v,d2p,d2v\n"
        "fan/train/section_00_source_train_normal_0003_m-n_W.wav,m-n,W,mic,1\n"
        "train/section_00_target_train_normal_0000.wav,=1+1,x,,\n"
    )
    return tmp_path


def test_every_clip_is_listed_with_facts_from_name_attributes_and_header(list_clips, fan):
    outcome = list_clips(fan)
    assert outcome.status == 0, outcome.err
    raw = machine_folder(fan, "fan", "dcase2026t2")
    assert [line.removeprefix(f"{raw}/") for line in outcome.out.splitlines()] == [
        "path,machine_type,section,split,domain,label,name_attributes,file_attributes,channels,seconds,sampling_rate",
        "train/section_00_source_train_normal_0003_m-n_W.wav,fan,00,train,source,normal,m-n_W,m-n=W mic=1,2,0.25,16000",
        "train/section_00_target_train_normal_0000.wav,fan,00,train,target,normal,,'=1+1=x,2,0.25,16000",  # no formula
        "test/section_00_target_test_anomaly_0001_noAttributes.wav,fan,00,test,target,anomaly,,,2,0.25,16000",
        "supplemental/section_00_source_clean_0000.wav,fan,00,supplemental,source,,,,2,0.25,16000",
    ]


def test_clips_that_cannot_be_read_are_listed_and_reported(list_clips, fan):
    folder = machine_folder(fan, "fan", "dcase2026t2") / "test"
    (folder / "section_00_target_test_normal_0009.wav").write_bytes(b"RIFF")
    write_clip(folder / "notes.wav", 0)
    outcome = list_clips(fan, "fan")
    assert outcome.status == 1
    rows = {row["path"].rpartition("/")[2]: row for row in csv.DictReader(io.StringIO(outcome.out))}
    assert len(rows) == 6
    assert rows["section_00_target_test_normal_0009.wav"]["label"] == "normal"
    assert rows["section_00_target_test_normal_0009.wav"]["seconds"] == ""
    assert rows["notes.wav"]["split"] == "test"
    assert outcome.err.count("error: ") == 2
    assert "notes.wav' is not a valid clip name" in outcome.err


def test_own_machines_and_years_without_domains_are_listed(list_clips, tmp_path):
    write_clip(machine_folder(tmp_path, "MyPump", "mine") / "train" / "section_01_normal_0001.wav", 0)
    write_clip(machine_folder(tmp_path, "fan", "dcase2020t2") / "test" / "anomaly_id_02_00000003.wav", 0)
    (row,) = csv.DictReader(io.StringIO(list_clips(tmp_path, challenge="MINE").out))
    assert (row["machine_type"], row["section"], row["domain"], row["label"]) == ("MyPump", "01", "", "normal")
    (row,) = csv.DictReader(io.StringIO(list_clips(tmp_path, challenge="DCASE2020T2").out))
    assert (row["section"], row["split"], row["label"], row["channels"]) == ("02", "test", "anomaly", "1")


def test_missing_clips_and_unknown_machine_types_are_reported(list_clips, tmp_path):
    outcome = list_clips(tmp_path)
    assert outcome.status == 1
    assert f"there are no clips of DCASE2026T2 dev below {tmp_path}" in outcome.err
    assert "has no development machine type 'fann'" in list_clips(tmp_path, "fann").err
