"""Clip names of every year, and the order of a folder's clips."""

from pathlib import Path

from common import InputError

import pytest

from datasets.clips import MachineFolders, list_clips, parse_clip

NAMES = {  # section, domain, label, attributes
    "section_00_source_train_normal_0000_spd_28V_mic_1.wav": (0, "source", "normal", "spd_28V_mic_1"),
    "section_02_target_test_anomaly_0012_f-n_A.wav": (2, "target", "anomaly", "f-n_A"),
    "section_00_target_test_normal_0001.wav": (0, "target", "normal", ""),
    "section_00_source_test_normal_0003_noAttributes.wav": (0, "source", "normal", ""),
    "section_00_source_test_normal_0003_near_target_1.wav": (0, "source", "normal", "near_target_1"),
    "section_00_0199.wav": (0, None, None, ""),
    "section_03_source_test_0001.wav": (3, "source", None, ""),
    "normal_id_01_00000000.wav": (1, None, "normal", ""),
    "anomaly_id_06_00000123.wav": (6, None, "anomaly", ""),
    "id_05_00000001.wav": (5, None, None, ""),
    "section_00_normal_0001_Motor an.WAV": (0, None, "normal", "Motor an"),
}


@pytest.mark.parametrize(("name", "facts"), NAMES.items())
def test_names_of_every_year_are_read(name, facts):
    clip = parse_clip(Path("x") / name)
    assert (clip.section, clip.domain, clip.label, clip.attributes) == facts
    assert (clip.name, clip.is_target) == (name, "target" in facts)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        *((f"{name}.wav", "is not a valid clip name") for name in ("clip", "section_0_0000", "id_1_0", "section_00")),
        ("section_00_middle_test_normal_0000.wav", "is not a valid clip name"),
        ("section_0\u0661_source_train_normal_0000.wav", "is not a valid clip name"),  # a digit of another alphabet
        *((f"section_00_0000_{c}.wav", "characters that cannot be printed") for c in "\n\x1b\x9b\u2028\u202e\udcff"),
    ],
)
def test_other_names_and_characters_that_cannot_be_printed_are_refused(name, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_clip(Path(name))


def test_normal_clips_come_first_each_in_path_order(tmp_path):
    names = [f"section_00_{kind}.wav" for kind in ("source_normal_0009", "target_normal_0001", "source_anomaly_0000")]
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
