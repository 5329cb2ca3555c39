"""Labelling the evaluation clips."""

from functools import partial
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
from synthetic import error_of, machine_folder, succeed, write_clip

from datasets import labels
from datasets.catalogue import load_challenge
from datasets.clips import parse_clip
from tools import make_demo_dataset, rename_eval_wav

LIST = """bandsaw
section_00_0000.wav,section_00_source_test_normal_0000_vel_1.wav
section_00_0001.wav,section_00_target_test_anomaly_0000_vel_2.wav
shaker
section_00_0000.wav,section_00_source_test_normal_0003.wav
"""
LIST_FILE = "eval_data_list_2023.csv"


@pytest.fixture
def data(tmp_path):
    """Return a data folder with two evaluation clips of one machine type and the label list."""
    data = tmp_path / "my data"
    for i in range(2):
        write_clip(machine_folder(data, "bandsaw", split="eval_data") / f"test/section_00_{i:04d}.wav", i)
    (data / LIST_FILE).write_text(LIST)
    return data


@pytest.fixture
def clips(data):
    """Return the paths of the two clips."""
    return sorted(data.rglob("test/*.wav"))


@pytest.fixture
def rename(call_command, data):
    """Return a function that calls the command on the data folder."""
    return partial(call_command, rename_eval_wav.main, "--dataset_type", "DCASE2023T2", "--dataset_parent_dir", data)


def labelled(data):
    return {path.name: path.read_bytes() for path in data.rglob("test_rename/*")}


def test_clips_get_their_labelled_names_and_a_clip_that_was_replaced_is_labelled_again(data, clips, rename):
    first, expected = succeed(rename()), {}
    assert "bandsaw: 2 clips labelled, 0 were there already" in first
    assert "shaker: there is no folder" in first
    for said in ("0 clips labelled, 2", "1 clips labelled, 1"):
        expected["section_00_source_test_normal_0000_vel_1.wav"] = clips[0].read_bytes()
        expected["section_00_target_test_anomaly_0000_vel_2.wav"] = clips[1].read_bytes()
        assert f"bandsaw: {said} were there already" in succeed(rename())
        assert labelled(data) == expected
        clips[1].unlink()  # not written through the link
        write_clip(clips[1], 9)


def test_clips_of_another_list_in_test_rename_are_refused(data, rename):
    """Each clip would be scored under its former label too, or without its label be missing."""
    succeed(rename())
    before = labelled(data)
    (data / LIST_FILE).write_text(LIST.replace("normal_0000_vel_1", "anomaly_0000_vel_1"))
    sentence = "does not name, first section_00_source_test_normal_0000_vel_1.wav; remove that folder and run again"
    error = error_of(rename())
    assert "test_rename holds 1 clip that " in error and sentence in error
    assert labelled(data) == before


def test_a_clip_without_a_label_is_refused_and_a_label_without_clip_reported(data, clips, rename):
    renamed = clips[1].rename(clips[1].with_name("section_00_0009.wav"))
    error = error_of(rename())
    assert "has no label for 1 clip of " in error and "first section_00_0009.wav" in error
    renamed.unlink()
    assert "1 in the list without a clip: section_00_0001.wav" in succeed(rename())
    assert len(labelled(data)) == 1


def test_a_file_system_without_links_gets_copies(data, rename, monkeypatch):
    monkeypatch.setattr(labels.os, "link", Mock(side_effect=OSError("no links here")))
    for n_new in (2, 0):
        assert f"bandsaw: {n_new} clips labelled" in succeed(rename())
    assert {path.stat().st_nlink for path in data.rglob("*.wav")} == {1}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("bandsaw\nsection_00_0000.wav,../section_00_source_test_normal_0000.wav\n", "should be the name of"),
        ("bandsaw\nsection_00_0000.wav,evil.sh\n", "line 2"),
        (
            "bandsaw\nsection_00_0000.wav,section_00_normal_0001.wav\nsection_00_0000.wav,section_00_normal_0002.wav\n",
            "is already in the list",
        ),
        (
            "bandsaw\nsection_00_0000.wav,section_00_normal_0001.wav\nsection_00_0001.wav,section_00_normal_0001.wav\n",
            "is already in the list",
        ),
        ("bandsaw\nsection_00_0000.wav,section_00_0001.wav\n", "with normal or anomaly in it"),
        ("bandsaw\nsection_00_0000.wav,section_01_normal_0001.wav\n", "should be the name of section_00_0000.wav"),
        ("shaker\nsection_00_0000.wav,section_00_source_test_normal_0000.wav\n", "none of shaker has a folder"),
    ],
)
def test_a_bad_list_is_reported_and_nothing_is_made(data, content, sentence, rename):
    (data / LIST_FILE).write_text(content)
    error = error_of(rename())
    assert sentence in error
    assert "Traceback" not in error
    assert labelled(data) == {}


def test_without_a_list_it_is_fetched_unless_it_was_named(data, server, tmp_path, rename):
    path = data / LIST_FILE
    path.unlink()
    assert "cannot read the label list" in error_of(rename("--eval_data_list", path))
    fetched = partial(rename, "--mirror", server.address)
    assert f"{LIST_FILE} cannot be fetched: the server answers 404" in error_of(fetched())
    nowhere = tmp_path / "nowhere"
    assert "download the evaluation clips first" in error_of(fetched("--dataset_parent_dir", nowhere))
    assert len(server.requests) == 1
    assert not path.exists() and not nowhere.exists()
    server.files[urlsplit(load_challenge("DCASE2023T2", is_eval=True).label_list).path] = LIST.encode()
    assert "bandsaw: 2 clips labelled" in succeed(fetched())
    assert path.read_text() == LIST


def test_the_demos_evaluation_clips_are_labelled_by_the_list_beside_them(tmp_path, call_command, rename):
    words = [tmp_path, "--eval", "--machine_types", "bandsaw", "--train_clips", 2, "--clip_seconds", 0.5]
    succeed(call_command(make_demo_dataset.main, *words, "--test_clips", 4))
    names = sorted(path.name for path in tmp_path.glob("dcase2023t2/eval_data/raw/bandsaw/test/*"))
    assert names == [f"section_00_{i:04d}.wav" for i in range(4)]
    assert "bandsaw: 4 clips labelled, 0 were there already\n" in succeed(rename("--dataset_parent_dir", tmp_path))
    clips = [parse_clip(path) for path in tmp_path.glob("dcase2023t2/eval_data/raw/bandsaw/test_rename/*")]
    assert len({(clip.domain, clip.label) for clip in clips}) == 4
    error = error_of(call_command(make_demo_dataset.main, tmp_path, "--eval", "--machine_types", "shaker"))
    assert f"{LIST_FILE} holds other labels" in error
