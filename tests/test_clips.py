"""Clip names of every year, and the order of a folder's clips."""

from pathlib import Path

from common import InputError

import pytest

from datasets.clips import MachineFolders, list_clips, parse_clip


@pytest.mark.parametrize(
    ("name", "section", "domain", "label"),
    [
        ("section_00_source_train_normal_0000_spd_28.wav", 0, "source", "normal"),
        ("section_02_target_test_anomaly_0012_f-n_A.wav", 2, "target", "anomaly"),
        ("section_00_target_test_normal_0001.wav", 0, "target", "normal"),
        ("section_00_source_test_normal_0003_noAttributes.wav", 0, "source", "normal"),
        ("section_00_source_test_normal_0003_near_target_test_anomaly_0001.wav", 0, "source", "normal"),
        ("section_00_0199.wav", 0, None, None),
        ("section_03_source_test_0001.wav", 3, "source", None),
        ("normal_id_01_00000000.wav", 1, None, "normal"),
        ("anomaly_id_06_00000123.wav", 6, None, "anomaly"),
        ("id_05_00000001.wav", 5, None, None),
        ("section_00_normal_0001_Motor an.WAV", 0, None, "normal"),
    ],
)
def test_names_of_every_year_are_read(name, section, domain, label):
    clip = parse_clip(Path("x") / name)
    assert (clip.section, clip.domain, clip.label, clip.name) == (section, domain, label, name)


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("section_00_source_train_normal_0000_spd_28V_mic_1.wav", "spd_28V_mic_1"),
        ("section_00_source_test_normal_0003_noAttributes.wav", ""),
        ("section_00_0199.wav", ""),
        ("normal_id_01_00000000.wav", ""),
    ],
)
def test_attributes_follow_the_number(name, attributes):
    assert parse_clip(Path(name)).attributes == attributes


@pytest.mark.parametrize(
    "name",
    [
        "clip.wav",
        "section_0_0000.wav",
        "section_00_middle_test_normal_0000.wav",
        "id_1_0.wav",
        "section_00.wav",
        "section_0\u0661_source_train_normal_0000.wav",  # a digit of another alphabet
        "normal_id_\u0661\u0662_00000000.wav",
        "section_00_source_train_normal_\u0664.wav",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match="is not a valid clip name"):
        parse_clip(Path(name))


@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066"])
def test_control_characters_are_refused_in_every_name(character):
    with pytest.raises(InputError, match="has a name with a control character"):
        parse_clip(Path(f"section_00_source_train_normal_0000_{character}.wav"))


def test_normal_clips_come_first_each_in_path_order(tmp_path):
    names = ["section_00_target_test_normal_0001.wav", "section_00_source_test_anomaly_0000.wav"]
    names += [
        "section_00_source_test_normal_0009.wav",
        "section_01_source_test_normal_0000.wav",
        ".section_00_0000.wav",
    ]
    for name in names:
        (tmp_path / name).touch()
    clips = list_clips(tmp_path)
    assert list(clips) == [0, 1]
    assert [clip.name for clip in clips[0]] == [names[2], names[0], names[1]]
    assert list(list_clips(tmp_path, [1])) == [1]


def test_renamed_clips_are_used_in_evaluation_mode_only(tmp_path):
    def folders(is_eval):
        return MachineFolders(tmp_path, "DCASE2023T2", "fan", is_eval)

    assert folders(True).test == tmp_path / "dcase2023t2/eval_data/raw/fan/test"
    for split in ("dev_data", "eval_data"):
        (tmp_path / "dcase2023t2" / split / "raw/fan/test_rename").mkdir(parents=True)
    assert folders(True).test == tmp_path / "dcase2023t2/eval_data/raw/fan/test_rename"
    assert folders(False).test == tmp_path / "dcase2023t2/dev_data/raw/fan/test"


def test_a_link_to_a_file_that_does_not_exist_is_reported(tmp_path):
    (tmp_path / "section_00_normal_0001.wav").symlink_to("gone.wav")
    with pytest.raises(InputError, match=r"section_00_normal_0001.wav is a link to gone.wav, which does not exist"):
        list_clips(tmp_path)
