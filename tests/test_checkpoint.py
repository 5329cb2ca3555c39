"""Resuming: an interrupted run ends with the same bytes as one that was not interrupted."""

import json
import os
import re
import shutil

import pytest
import torch
from synthetic import RUN, checkpoint_path, machine_folder, make_settings, network_path, write_clip, written

from networks import training_set
from networks.autoencoder import AutoEncoder


@pytest.fixture
def words(trained):
    """Return the options of a training run of two epochs, which has been done."""
    return [*trained, "--train_only"]


def test_a_resumed_run_ends_with_the_same_bytes(call_train, workplace, words):
    resumed = call_train(*words, "--epochs", "4", "--restart", "--log_interval", "7", "--decision_threshold", "0.9")
    assert "2 of 4 epochs are done" in resumed.out
    files = written(workplace)
    assert len(files) == 3
    again = call_train(*words, "--epochs", "4").out
    assert re.search(r"_seed13711\.pth of 4 epochs \([-:\d ]+ UTC\) is replaced when this training is done\n", again)
    assert written(workplace) == files
    shutil.rmtree(workplace / "models")
    assert call_train(*words, "--epochs", "4", "--restart").status == 0  # without a checkpoint: from the first epoch
    assert written(workplace) == files


def test_a_run_stopped_before_more_epochs_were_done_is_not_complete(call_train, workplace, words, monkeypatch):
    shorter = written(workplace)
    with monkeypatch.context() as patched:
        patched.setattr("train.fit_scores", lambda *_: 1 / 0)
        assert call_train(*words, "--epochs", "3", "--restart").status == 1
    assert written(workplace) == shorter
    outcome = call_train(*words, "--epochs", "3", "--restart")
    assert (outcome.status, "nothing is left to do" in outcome.out) == (0, False)
    assert written(workplace) != shorter


def test_training_can_start_from_another_runs_checkpoint_which_the_record_keeps(call_train, workplace, words):
    start, name = workplace / "start.tar", RUN.replace("13711", "5")
    shutil.copy(checkpoint_path(workplace), start)
    words = [*words, "--export_dir", "other", "--seed", 5]
    assert "2 of 3 epochs are done" in call_train(*words, "--epochs", 3, "--checkpoint_path", start).out
    record = network_path(workplace, name, "other").with_suffix(".json")
    first = {"checkpoint": str(start), "seed": 13711, "epochs": 2}
    assert json.loads(record.read_text())["resumed_from"] == [first]
    assert call_train(*words, "--epochs", "4", "--restart").status == 0  # the trace survives a later --restart
    second = {"checkpoint": str(checkpoint_path(workplace, name, "other")), "seed": 5, "epochs": 3}
    assert json.loads(record.read_text())["resumed_from"] == [first, second]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--n_mels", "64"), "belongs to another run: n_mels is 128 there and 64 here; give the same"),
        (("--learning_rate", "0.01"), "learning_rate is 0.001 there and 0.01 here"),
        (("--threads", 2), "belongs to another run: threads is 1 there and 2 here; give the same"),
        (("--instruction_set", "native"), "instruction_set is 'avx2' there and 'native' here"),
        (("--shuffle", "no", "--epochs", 3), "shuffle is True there and False here"),
        (("--epochs", "1"), "has 2 epochs, more than --epochs 1"),
    ],
)
def test_a_checkpoint_with_other_parameters_is_refused(call_train, words, change, sentence):
    outcome = call_train(*words, *change, "--restart")
    torch.set_num_threads(1)
    assert (outcome.status, "epochs are done" in outcome.out) == (1, False)
    assert sentence in outcome.err


def test_restart_with_another_version_of_torch_is_refused(call_train, words, monkeypatch):
    version = training_set.version
    monkeypatch.setattr(training_set, "version", lambda package: "1.0" if package == "torch" else version(package))
    outcome = call_train(*words, "--restart", "--epochs", "3")
    assert outcome.status == 1
    assert "belongs to another run: versions is " in outcome.err


def test_a_damaged_or_missing_checkpoint_is_refused(call_train, workplace, words):
    path, before = checkpoint_path(workplace), written(workplace)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        damaged = bytearray(whole)
        damaged[int(share * len(whole))] ^= 2
        path.write_bytes(damaged)
        outcome = call_train(*words, "--epochs", "3", "--restart")
        assert (outcome.status, f"{path} cannot be loaded; it is damaged" in outcome.err) == (1, True)
    outcome = call_train(*words, "--checkpoint_path", workplace / "no.tar")
    assert (outcome.status, f"cannot read {workplace / 'no.tar'}: No such file" in outcome.err) == (1, True)
    assert written(workplace) == before


def test_the_network_file_is_a_plain_state_dict(workplace, words):
    state = torch.load(network_path(workplace), weights_only=True)
    assert list(state) == list(AutoEncoder(make_settings(), 128).state_dict())


def test_restart_after_clips_were_replaced_or_removed_is_refused(call_train, workplace, words):
    """Also under the same names, sizes and times."""
    path = min((machine_folder(workplace / "data") / "train").iterdir())
    before = path.stat()
    write_clip(path, 77)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    for change, further in ((lambda: None, []), (path.unlink, ["--epochs", "3"])):
        change()
        outcome = call_train(*words, "--restart", *further)
        assert outcome.status == 1
        assert "the training clips are not those of " in outcome.err


def test_a_network_without_a_record_whose_tensors_do_not_fit_or_are_not_finite_is_refused(
    call_train, workplace, trained
):
    path = network_path(workplace)
    path.with_suffix(".json").unlink()  # as from elsewhere; with a record, the hash would tell
    state = torch.load(path, weights_only=True)
    for change, sentence in (
        (
            lambda tensor: tensor.flatten()[:-1],
            "does not fit n_mels 128 and frames 5 (its encoder.3.weight is (16383,)",
        ),
        (lambda tensor: tensor * float("nan"), "MSE gives scores that are not finite"),
    ):
        torch.save({**state, "encoder.3.weight": change(state["encoder.3.weight"])}, path)
        outcome = call_train(*trained, "--test_only")
        assert (outcome.status, outcome.err.count("\n"), sentence in outcome.err) == (1, 1, True), outcome.err
