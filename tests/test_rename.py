"""Labelling the evaluation clips."""

import time
from functools import partial
from urllib.parse import urlsplit

from common import InputError

import pytest
from synthetic import call, machine_folder, write_clip

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


CORRECTED = LIST.replace("normal_0000_vel_1", "anomaly_0000_vel_1").replace(
    "0001.wav,section_00_target", "0001.wav,section_00_source"
)


@pytest.mark.parametrize("is_linked", [True, False])
def test_a_corrected_list_replaces_the_former_names(evaluation, is_linked, rename):
    """Each clip used to stay under its former label too, and was scored under both."""
    assert rename(evaluation).status == 0
    former, folder = labelled(evaluation), machine_folder(evaluation, "bandsaw", split="eval_data") / "test_rename"
    if not is_linked:
        for name, content in former.items():
            (folder / name).unlink()
            (folder / name).write_bytes(content)
    (evaluation / "eval_data_list_2023.csv").write_text(CORRECTED)
    assert "2 former names removed" in rename(evaluation).out
    assert labelled(evaluation) == dict(
        zip(
            ("section_00_source_test_anomaly_0000_vel_1.wav", "section_00_source_test_anomaly_0000_vel_2.wav"),
            former.values(),
            strict=True,
        )
    )
    assert "former" not in rename(evaluation).out


def test_a_file_in_test_rename_that_is_no_clip_of_test_is_kept_and_reported(evaluation, rename):
    assert rename(evaluation).status == 0
    other = machine_folder(evaluation, "bandsaw", split="eval_data") / "test_rename/section_00_normal_0077.wav"
    write_clip(other, 77)
    outcome = rename(evaluation)
    assert "1 in test_rename but not in the list: section_00_normal_0077.wav" in outcome.out
    assert other.is_file()
    (evaluation / "eval_data_list_2023.csv").write_text(LIST.partition("section_00_0001")[0])  # a clip less in the list
    outcome = rename(evaluation)
    assert "2 in test_rename but not in the list: section_00_normal_0077.wav, section_00_target_" in outcome.out
    assert len(labelled(evaluation)) == 3


def test_a_relabelling_stopped_before_the_former_names_are_removed_is_completed(evaluation, monkeypatch, rename):
    assert rename(evaluation).status == 0
    former = labelled(evaluation)
    (evaluation / "eval_data_list_2023.csv").write_text(CORRECTED)
    words = ("--dataset_parent_dir", evaluation, "--dataset_type", "DCASE2023T2")

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(labels.Path, "unlink", stop)
        call(rename_eval_wav.main, *words)
    assert former.items() <= labelled(evaluation).items()
    assert call(rename_eval_wav.main, *words) == 0
    assert sorted(labelled(evaluation).values()) == sorted(former.values())


def test_a_file_system_without_links_gets_copies(evaluation, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(labels.os, "link", refuse)
    folders = MachineFolders(evaluation, "DCASE2023T2", "bandsaw", True)
    names = {"section_00_0000.wav": "section_00_source_test_normal_0000.wav"}
    for n_new in (1, 0):
        assert f"bandsaw: {n_new} clips labelled" in labels.label_clips(folders, names)
    assert (folders.raw / "test_rename" / "section_00_source_test_normal_0000.wav").stat().st_nlink == 1


def test_mismatches_of_clips_and_list_are_counted_and_reported(evaluation, rename):
    test = machine_folder(evaluation, "bandsaw", split="eval_data") / "test"
    (test / "section_00_0001.wav").rename(test / "section_00_0009.wav")
    outcome = rename(evaluation)
    assert outcome.status == 0
    assert "1 in the list without a clip: section_00_0001.wav" in outcome.out
    assert "1 not in the list: section_00_0009.wav" in outcome.out
    assert len(labelled(evaluation)) == 1


def test_a_list_elsewhere_is_used_and_missing_labels_can_be_added_later(evaluation, tmp_path, rename):
    elsewhere = tmp_path / "list.csv"
    elsewhere.write_text(LIST.partition("section_00_0001")[0])
    assert rename(evaluation, "--eval_data_list", elsewhere).status == 0
    assert len(labelled(evaluation)) == 1
    assert "1 clips labelled, 1 were there already" in rename(evaluation).out
    assert len(labelled(evaluation)) == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        (
            "pump\nsection_00_0000.wav,section_00_source_test_normal_0000.wav\n",
            "'pump' is neither one of the machine types",
        ),
        ("bandsaw\nsection_00_0000.wav,../section_00_source_test_normal_0000.wav\n", "is not a file name"),
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
    outcome = rename(evaluation)
    assert outcome.status == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err
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
    challenge, content = load_challenge("DCASE2023T2", is_eval=True), LIST.partition("shaker")[0].encode()
    server.files[urlsplit(challenge.label_list).path] = content
    short = call_command(rename_eval_wav.main, *words, evaluation)
    assert short.status == 1 and "it has no labels for ToyDrone" in short.err
    assert not path.exists() and not (tmp_path / "nowhere").exists()
    lines = [f"section_00_{i:04d}.wav,section_00_source_test_normal_{i:04d}.wav" for i in range(200)]
    content = "\n".join(line for machine_type in challenge.machine_types for line in (machine_type, *lines)).encode()
    server.files[urlsplit(challenge.label_list).path] = content
    done = call_command(rename_eval_wav.main, *words, evaluation)
    assert done.status == 0, done.err
    assert "bandsaw: 2 clips labelled" in done.out
    assert path.read_bytes() == content


def test_a_list_that_was_named_and_is_not_there_is_an_error(evaluation, tmp_path, call_command):
    words = (
        "--dataset_type",
        "DCASE2023T2",
        "--dataset_parent_dir",
        evaluation,
        "--eval_data_list",
        tmp_path / "no.csv",
    )
    outcome = call_command(rename_eval_wav.main, *words)
    assert outcome.status == 1 and "cannot read the label list" in outcome.err


def test_40_000_labels_are_read_quickly():
    """Each label used to be searched for among all earlier ones: 19 s."""
    lines = [f"section_00_{i:05d}.wav,section_00_source_test_normal_{i:05d}.wav" for i in range(40_000)]
    started = time.perf_counter()
    found = labels.parse_label_list("\n".join(["shaker", *lines]).encode(), "list", ("shaker",))
    assert time.perf_counter() - started < 5
    assert len(found["shaker"]) == 40_000
    with pytest.raises(InputError, match=r"line 40002.*is already in the list"):
        labels.parse_label_list("\n".join(["shaker", *lines, lines[0]]).encode(), "list", ("shaker",))


def test_a_list_that_ends_early_is_recognised_by_machine_types_counts_and_clips():
    challenge = load_challenge("DCASE2023T2", is_eval=True)
    whole = {
        m: {f"section_00_{i:04d}.wav": f"section_00_normal_{i:04d}.wav" for i in range(200)} for m in challenge.sections
    }
    assert labels.missing_labels(whole, challenge, {"shaker": {"section_00_0199.wav"}}) is None
    without_last = {m: whole[m] for m in challenge.machine_types[:-1]}
    assert labels.missing_labels(without_last, challenge, {}) == "it has no labels for shaker"
    shorter = whole | {"shaker": dict(list(whole["shaker"].items())[:199])}
    assert labels.missing_labels(shorter, challenge, {}) == "it has 199 labels for shaker, not 200"
    lacking = labels.missing_labels(whole, challenge, {"shaker": {"section_00_0200.wav"}})
    assert lacking == "it has no label for 1 clip of shaker, first section_00_0200.wav"


def test_the_demos_evaluation_clips_are_labelled_by_the_list_beside_them(tmp_path, call_command, rename):
    words = [tmp_path, "--eval", "--machine_types", "bandsaw", "--train_clips", 2, "--clip_seconds", 0.5]
    assert call_command(make_demo_dataset.main, *words, "--test_clips", 4).status == 0
    folder = machine_folder(tmp_path, "bandsaw", split="eval_data")
    assert sorted(path.name for path in (folder / "test").iterdir()) == [f"section_00_{i:04d}.wav" for i in range(4)]
    done = rename(tmp_path)
    assert done.status == 0 and "bandsaw: 4 clips labelled, 0 were there already\n" in done.out
    clips = [parse_clip(path) for path in (folder / "test_rename").iterdir()]
    assert len({(clip.domain, clip.label) for clip in clips}) == 4
    other = call_command(make_demo_dataset.main, tmp_path, "--eval", "--machine_types", "shaker")
    assert other.status == 1 and "eval_data_list_2023.csv holds other labels" in other.err
