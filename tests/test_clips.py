"""Clip names of every year, and the order of a folder's clips."""

from pathlib import Path

from common import InputError

import pytest

from datasets.clips import MachineFolders, list_clips, parse_clip


@pytest.mark.parametrize(
    ("name", "section", "domain", "label", "attributes"),
    [
        ("section_00_source_train_normal_0000_spd_28V_mic_1.wav", 0, "source", "normal", "spd_28V_mic_1"),
        ("section_02_target_test_anomaly_0012_f-n_A.wav", 2, "target", "anomaly", "f-n_A"),
        ("section_00_target_test_normal_0001.wav", 0, "target", "normal", ""),
        ("section_00_source_test_normal_0003_noAttributes.wav", 0, "source", "normal", ""),
        ("section_00_source_test_normal_0003_near_target_1.wav", 0, "source", "normal", "near_target_1"),
        ("section_00_0199.wav", 0, None, None, ""),
        ("section_03_source_test_0001.wav", 3, "source", None, ""),
        ("normal_id_01_00000000.wav", 1, None, "normal", ""),
        ("anomaly_id_06_00000123.wav", 6, None, "anomaly", ""),
        ("id_05_00000001.wav", 5, None, None, ""),
        ("section_00_normal_0001_Motor an.WAV", 0, None, "normal", "Motor an"),
    ],
)
def test_names_of_every_year_are_read(name, section, domain, label, attributes):
    clip = parse_clip(Path("x") / name)
    assert (clip.section, clip.domain, clip.label, clip.attributes) == (section, domain, label, attributes)
    assert (clip.name, clip.is_target) == (name, domain == "target")


@pytest.mark.parametrize(
    "name",
    [
        "clip.wav",
        "section_0_0000.wav",
        "section_00_middle_test_normal_0000.wav",
        "id_1_0.wav",
        "section_00.wav",
        "section_0\u0661_source_train_normal_0000.wav",  # a digit of another alphabet
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match="is not a valid clip name"):
        parse_clip(Path(name))


@pytest.mark.parametrize("character", ["\n", "\x1b", "\x9b", "\u2028", "\u202e", "\udcff"])
def test_characters_that_cannot_be_printed_are_refused_in_every_name(character):
    with pytest.raises(InputError, match="has a name with characters that cannot be printed"):
        parse_clip(Path(f"section_00_source_train_normal_0000_{character}.wav"))


def test_normal_clips_come_first_each_in_path_order(tmp_path):
    names = [
        "section_00_source_test_normal_0009.wav",
        "section_00_target_test_normal_0001.wav",
        "section_00_source_test_anomaly_0000.wav",
    ]
    for name in (*reversed(names), "section_01_source_test_normal_0000.wav", ".section_00_0000.wav", "notes.txt"):
        (tmp_path / name).touch()
    clips = list_clips(tmp_path)
    assert list(clips) == [0, 1]
    assert [clip.name for clip in clips[0]] == names
    assert list(list_clips(tmp_path, [1])) == [1]
    (tmp_path / names[0]).unlink()
    (tmp_path / names[0]).symlink_to("gone.wav")
    with pytest.raises(InputError, match=rf"{names[0]} is a link to gone.wav, which does not exist"):
        list_clips(tmp_path)


def test_renamed_clips_are_used_in_evaluation_mode_only(tmp_path):
    dev, evaluation = (MachineFolders(tmp_path, "DCASE2023T2", "fan", is_eval) for is_eval in (False, True))
    assert evaluation.test == tmp_path / "dcase2023t2/eval_data/raw/fan/test"
    for folders in (dev, evaluation):
        (folders.raw / "test_rename").mkdir(parents=True)
    assert evaluation.test == tmp_path / "dcase2023t2/eval_data/raw/fan/test_rename"
    assert dev.test == tmp_path / "dcase2023t2/dev_data/raw/fan/test"
