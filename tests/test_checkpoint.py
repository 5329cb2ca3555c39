"""Resuming: an interrupted run ends with the same bytes as one that was not interrupted."""

import json
import os
import re
import shutil

import pytest
import torch
from synthetic import RUN, checkpoint_path, machine_folder, make_settings, network_path, write_clip, written

from networks.autoencoder import AutoEncoder


@pytest.fixture
def words(options):
    """Return the options of a training run with a checkpoint after each epoch."""
    return [*options, "--train_only", "--checkpoint_interval", "1"]


def test_a_resumed_run_ends_with_the_same_bytes(call_train, workplace, words):
    assert call_train(*words, "--epochs", "5").status == 0
    uninterrupted = written(workplace)
    assert len(uninterrupted) == 3
    shutil.rmtree(workplace / "models")
    shutil.rmtree(workplace / "logs")
    assert call_train(*words, "--epochs", "2").status == 0
    resumed = call_train(*words, "--epochs", "5", "--restart")
    assert "2 of 5 epochs are done" in resumed.out
    assert written(workplace) == uninterrupted


def test_restart_of_a_complete_run_does_nothing(call_train, workplace, words):
    assert call_train(*words).status == 0
    files = [path for path in workplace.glob("models/**/*") if path.is_file()]
    times = {path: path.stat().st_mtime_ns for path in files}
    outcome = call_train(*words, "--restart")
    assert (outcome.status, "is complete; nothing is left to do" in outcome.out) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in files} == times


def test_training_again_reports_the_network_that_it_replaces(call_train, workplace, words):
    assert call_train(*words).status == 0
    outcome = call_train(*words, "--epochs", "1")
    assert outcome.status == 0
    assert re.search(
        r"_seed13711\.pth of 2 epochs \([-:\d ]+ UTC\) is replaced when this training is done", outcome.out
    )
    network_path(workplace).with_suffix(".json").unlink()  # as a network of the reference
    checkpoint_path(workplace).unlink()
    for further in ((), ("--restart",)):
        outcome = call_train(*words, *further, "--epochs", "1")
        assert "_seed13711.pth of an unknown number of epochs (no date on record) is replaced when" in outcome.out
        network_path(workplace).with_suffix(".json").unlink()
        checkpoint_path(workplace).unlink()


def test_restart_without_a_checkpoint_starts_from_the_first_epoch(call_train, workplace, words):
    assert call_train(*words, "--restart").status == 0
    assert written(workplace)


def test_training_can_start_from_another_runs_checkpoint(call_train, workplace, words):
    assert call_train(*words).status == 0
    outcome = call_train(
        *words, "--checkpoint_path", checkpoint_path(workplace), "--export_dir", "other", "--seed", 5, "--epochs", 3
    )
    assert "2 of 3 epochs are done" in outcome.out
    assert network_path(workplace, RUN.replace("13711", "5"), "other").is_file()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--n_mels", "64"), "belongs to another run: n_mels is 128 there and 64 here; give the same"),
        (("--learning_rate", "0.01"), "learning_rate is 0.001 there and 0.01 here"),
        (("--epochs", "1"), "has 2 epochs, more than --epochs 1"),
    ],
)
def test_a_checkpoint_with_other_parameters_is_refused(call_train, words, change, sentence):
    assert call_train(*words).status == 0
    outcome = call_train(*words, *change, "--restart")
    assert (outcome.status, "epochs are done" in outcome.out) == (1, False)
    assert sentence in outcome.err


def test_a_file_that_is_not_a_checkpoint_is_refused(call_train, workplace, words):
    torch.save({"identity": 3}, workplace / "file.tar")
    for path, sentence in (
        (workplace / "file.tar", "is not a checkpoint"),
        (workplace / "no.tar", "there is no checkpoint"),
    ):
        outcome = call_train(*words, "--checkpoint_path", path)
        assert outcome.status == 1
        assert sentence in outcome.err


def test_the_network_file_is_a_plain_state_dict(call_train, workplace, words):
    assert call_train(*words).status == 0
    state = torch.load(network_path(workplace), weights_only=True)
    assert list(state) == list(AutoEncoder(make_settings(), 128).state_dict())


def test_a_flipped_bit_in_a_checkpoint_is_refused(call_train, workplace, words):
    assert call_train(*words).status == 0
    path, before = checkpoint_path(workplace), written(workplace)
    whole = path.read_bytes()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        damaged = bytearray(whole)
        damaged[int(share * len(whole))] ^= 2
        path.write_bytes(damaged)
        outcome = call_train(*words, "--epochs", "3", "--restart")
        assert (outcome.status, f"{path} cannot be loaded; it is damaged" in outcome.err) == (1, True)
    assert written(workplace) == before


# --- which checkpoints are resumed ------------------------------------------------------------------------------------


def test_restart_after_clips_were_replaced_under_the_same_names_sizes_and_times_is_refused(
    call_train, workplace, trained
):
    path = min((machine_folder(workplace / "data") / "train").iterdir())
    before = path.stat()
    write_clip(path, 77)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    for words in (["--restart"], ["--restart", "--epochs", "3"]):
        outcome = call_train(*trained, "--train_only", *words)
        assert outcome.status == 1
        assert "the training clips are not those of " in outcome.err


@pytest.mark.parametrize(
    ("name", "there", "value", "here"),
    [("threads", "1", 2, "2"), ("instruction_set", "'avx2'", "native", "'native'"), ("shuffle", "True", "no", "False")],
)
@pytest.mark.parametrize("epochs", [2, 3])
def test_restart_with_changed_parameters_that_decide_digits_is_refused(
    call_train, trained, name, there, value, here, epochs
):
    outcome = call_train(*trained, "--train_only", "--restart", "--epochs", epochs, f"--{name}", value)
    torch.set_num_threads(1)
    assert outcome.status == 1
    assert f"belongs to another run: {name} is {there} there and {here} here; give the same" in outcome.err


def test_restart_with_another_version_of_torch_is_refused(call_train, trained, monkeypatch):
    from networks import record

    version = record.version
    monkeypatch.setattr(record, "version", lambda package: "1.0" if package == "torch" else version(package))
    outcome = call_train(*trained, "--train_only", "--restart", "--epochs", "3")
    assert outcome.status == 1
    assert "belongs to another run: versions is " in outcome.err


def test_restart_with_changed_parameters_that_decide_no_digits_is_allowed(call_train, workplace, trained):
    words = ["--epochs", "3", "--log_interval", "7", "--checkpoint_interval", "1", "--decision_threshold", "0.8"]
    assert call_train(*trained, "--train_only", "--restart", *words).status == 0


def test_the_record_keeps_a_start_from_another_runs_checkpoint(call_train, workplace, trained):
    shutil.copy(checkpoint_path(workplace), workplace / "start.tar")
    words = [*trained, "--train_only", "--seed", "5"]
    assert call_train(*words, "--epochs", "3", "--checkpoint_path", workplace / "start.tar").status == 0
    record = network_path(workplace, RUN.replace("13711", "5")).with_suffix(".json")
    first = {"checkpoint": str(workplace / "start.tar"), "seed": 13711, "epochs": 2}
    assert json.loads(record.read_text())["resumed_from"] == [first]
    assert call_train(*words, "--epochs", "4", "--restart").status == 0  # the trace survives a later --restart
    second = {"checkpoint": str(checkpoint_path(workplace, RUN.replace("13711", "5"))), "seed": 5, "epochs": 3}
    assert json.loads(record.read_text())["resumed_from"] == [first, second]


def test_a_checkpoint_is_not_resumed_with_other_clips(call_train, workplace, options):
    assert call_train(*options).status == 0
    next((machine_folder(workplace / "data") / "train").glob("*.wav")).unlink()
    outcome = call_train(*options, "--restart", "--epochs", "3")
    assert outcome.status == 1
    assert "the training clips are not those of " in outcome.err
