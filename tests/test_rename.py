"""Labelling the evaluation clips."""

from functools import partial
from urllib.parse import urlsplit

import pytest
from synthetic import error_of, machine_folder, succeed, write_clip

from datasets import labels
from datasets.catalogue import load_challenge
from datasets.clips import MachineFolders, parse_clip
from tools import make_demo_dataset, rename_eval_wav

LIST = """bandsaw
section_00_0000.wav,section_00_source_test_normal_0000_vel_1.wav
section_00_0001.wav,section_00_target_test_anomaly_0000_vel_2.wav
shaker
section_00_0000.wav,section_00_source_test_normal_0003.wav
"""


@pytest.fixture
def evaluation(tmp_path):
    """Return a data folder with two evaluation clips of one machine type and the label list."""
    data = tmp_path / "my data"
    test = machine_folder(data, "bandsaw", split="eval_data") / "test"
    for i in range(2):
        write_clip(test / f"section_00_{i:04d}.wav", i)
    (data / "eval_data_list_2023.csv").write_text(LIST)
    return data


@pytest.fixture
def rename(call_command):
    """Return a function that calls the command on a data folder."""
    return partial(call_command, rename_eval_wav.main, "--dataset_type", "DCASE2023T2", "--dataset_parent_dir")


def labelled(data):
    folder = machine_folder(data, "bandsaw", split="eval_data") / "test_rename"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


def test_clips_get_their_labelled_names_and_labelling_again_changes_nothing(evaluation, rename):
    first = rename(evaluation)
    assert first.status == 0, first.err
    assert "bandsaw: 2 clips labelled, 0 were there already" in first.out
    assert "shaker: there is no folder" in first.out
    test = machine_folder(evaluation, "bandsaw", split="eval_data") / "test"
    assert labelled(evaluation) == {
        "section_00_source_test_normal_0000_vel_1.wav": (test / "section_00_0000.wav").read_bytes(),
        "section_00_target_test_anomaly_0000_vel_2.wav": (test / "section_00_0001.wav").read_bytes(),
    }
    assert "bandsaw: 0 clips labelled, 2 were there already" in rename(evaluation).out


def test_a_clip_that_was_replaced_is_labelled_again(evaluation, rename):
    assert rename(evaluation).status == 0
    clip = machine_folder(evaluation, "bandsaw", split="eval_data") / "test" / "section_00_0001.wav"
    clip.unlink()  # not written through the link
    write_clip(clip, 9)
    assert "bandsaw: 1 clips labelled, 1 were there already" in rename(evaluation).out
    assert labelled(evaluation)["section_00_target_test_anomaly_0000_vel_2.wav"] == clip.read_bytes()


def test_clips_of_another_list_in_test_rename_are_refused(evaluation, rename):
    """Each clip would be scored under its former label too, or without its label be missing."""
    assert rename(evaluation).status == 0
    before = labelled(evaluation)
    (evaluation / "eval_data_list_2023.csv").write_text(LIST.replace("normal_0000_vel_1", "anomaly_0000_vel_1"))
    err = error_of(rename(evaluation))
    sentence = "does not name, first section_00_source_test_normal_0000_vel_1.wav; remove that folder and run again"
    assert "test_rename holds 1 clip that " in err and sentence in err
    assert labelled(evaluation) == before


def test_a_clip_without_a_label_is_refused_and_a_label_without_clip_reported(evaluation, rename):
    test = machine_folder(evaluation, "bandsaw", split="eval_data") / "test"
    (test / "section_00_0001.wav").rename(test / "section_00_0009.wav")
    err = error_of(rename(evaluation))
    assert "has no label for 1 clip of " in err and "first section_00_0009.wav" in err
    (test / "section_00_0009.wav").unlink()
    outcome = rename(evaluation)
    assert (outcome.status, len(labelled(evaluation))) == (0, 1)
    assert "1 in the list without a clip: section_00_0001.wav" in outcome.out


def test_a_file_system_without_links_gets_copies(evaluation, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(labels.os, "link", refuse)
    folders = MachineFolders(evaluation, "DCASE2023T2", "bandsaw", True)
    names = {f"section_00_000{i}.wav": f"section_00_source_test_normal_000{i}.wav" for i in range(2)}
    for n_new in (2, 0):
        assert f"bandsaw: {n_new} clips labelled" in labels.label_clips(folders, names, evaluation / "list.csv")
    assert (folders.raw / "test_rename" / "section_00_source_test_normal_0000.wav").stat().st_nlink == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
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
        ("<!DOCTYPE html>\n<html>\n", "'<!DOCTYPE html>' is neither"),
        (
            "bandsaw\nsection_00_0000.wav,section_00_source_test_nor",
            "is not a valid clip name",
        ),
        ("shaker\nsection_00_0000.wav,section_00_source_test_normal_0000.wav\n", "none of shaker has a folder"),
    ],
)
def test_a_bad_list_is_reported_and_nothing_is_made(evaluation, content, sentence, rename):
    (evaluation / "eval_data_list_2023.csv").write_text(content)
    err = error_of(rename(evaluation))
    assert sentence in err
    assert "Traceback" not in err
    assert labelled(evaluation) is None


def test_without_a_list_it_is_fetched(evaluation, server, tmp_path, call_command):
    """It used to end with an error."""
    path = evaluation / "eval_data_list_2023.csv"
    path.unlink()
    words = ("--dataset_type", "DCASE2023T2", "--mirror", server.address, "--dataset_parent_dir")
    missing = call_command(rename_eval_wav.main, *words, evaluation)
    assert missing.status == 1 and "eval_data_list_2023.csv cannot be fetched: the server answers 404" in missing.err
    nowhere = call_command(rename_eval_wav.main, *words, tmp_path / "nowhere")
    assert nowhere.status == 1 and "download the evaluation clips first" in nowhere.err
    assert len(server.requests) == 1
    assert not path.exists() and not (tmp_path / "nowhere").exists()
    server.files[urlsplit(load_challenge("DCASE2023T2", is_eval=True).label_list).path] = LIST.encode()
    done = call_command(rename_eval_wav.main, *words, evaluation)
    assert done.status == 0, done.err
    assert "bandsaw: 2 clips labelled" in done.out
    assert path.read_text() == LIST


def test_a_list_that_was_named_and_is_not_there_is_an_error(evaluation, tmp_path, call_command):
    words = (
        "--dataset_type",
        "DCASE2023T2",
        "--dataset_parent_dir",
        evaluation,
        "--eval_data_list",
        tmp_path / "no.csv",
    )
    assert "cannot read the label list" in error_of(call_command(rename_eval_wav.main, *words))


def test_the_demos_evaluation_clips_are_labelled_by_the_list_beside_them(tmp_path, call_command, rename):
    words = [tmp_path, "--eval", "--machine_types", "bandsaw", "--train_clips", 2, "--clip_seconds", 0.5]
    succeed(call_command(make_demo_dataset.main, *words, "--test_clips", 4))
    folder = machine_folder(tmp_path, "bandsaw", split="eval_data")
    assert sorted(path.name for path in (folder / "test").iterdir()) == [f"section_00_{i:04d}.wav" for i in range(4)]
    done = rename(tmp_path)
    assert done.status == 0 and "bandsaw: 4 clips labelled, 0 were there already\n" in done.out
    clips = [parse_clip(path) for path in (folder / "test_rename").iterdir()]
    assert len({(clip.domain, clip.label) for clip in clips}) == 4
    other = call_command(make_demo_dataset.main, tmp_path, "--eval", "--machine_types", "shaker")
    assert other.status == 1 and "eval_data_list_2023.csv holds other labels" in other.err
