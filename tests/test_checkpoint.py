"""Resuming: an interrupted run ends with the same bytes as one that was not interrupted."""

import re
import shutil

import pytest
import torch
from synthetic import RUN, checkpoint_path, make_settings, network_path

from networks.autoencoder import AutoEncoder


def outputs(root):
    """Return the bytes of network, thresholds and log."""
    networks = root / "models/saved_model/baseline"
    files = [networks / f"{RUN}.pth", *networks.glob("score_distr_*.json"), root / "logs/baseline" / RUN / "log.csv"]
    assert len(files) == 4
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture
def words(options):
    """Return the options of a training run with a checkpoint after each epoch."""
    return [*options, "--train_only", "--checkpoint_interval", "1"]


def test_a_resumed_run_ends_with_the_same_bytes(call_train, workplace, words):
    assert call_train(*words, "--epochs", "5").status == 0
    uninterrupted = outputs(workplace)
    shutil.rmtree(workplace / "models")
    shutil.rmtree(workplace / "logs")
    assert call_train(*words, "--epochs", "2").status == 0
    resumed = call_train(*words, "--epochs", "5", "--restart")
    assert "2 of 5 epochs are done" in resumed.out
    assert outputs(workplace) == uninterrupted


def test_restart_of_a_complete_run_does_nothing(call_train, workplace, words):
    assert call_train(*words).status == 0
    files = [path for path in workplace.glob("models/**/*") if path.is_file()]
    times = {path: path.stat().st_mtime_ns for path in files}
    outcome = call_train(*words, "--restart")
    assert (outcome.status, "is complete; nothing is left to do" in outcome.out) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in files} == times


def test_training_again_says_what_it_replaces(call_train, workplace, words):
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
    assert outputs(workplace)


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
def test_a_checkpoint_of_other_parameters_is_refused(call_train, words, change, sentence):
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
    path, before = checkpoint_path(workplace), outputs(workplace)
    whole = path.read_bytes()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        damaged = bytearray(whole)
        damaged[int(share * len(whole))] ^= 2
        path.write_bytes(damaged)
        outcome = call_train(*words, "--epochs", "3", "--restart")
        assert (outcome.status, f"{path} cannot be loaded; it is damaged" in outcome.err) == (1, True)
    assert outputs(workplace) == before
