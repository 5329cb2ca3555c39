"""Resuming: an interrupted run ends with the same bytes as one that was not interrupted."""

import os
import re
import shutil

import pytest
import torch
from synthetic import (
    RUN,
    checkpoint_path,
    machine_folder,
    make_network,
    network_path,
    record_of,
    write_clip,
    written,
)


@pytest.fixture
def words(trained):
    """Return the options of a training run of two epochs, which has been done."""
    return [*trained, "--train_only"]


def test_a_resumed_run_ends_with_the_same_bytes(succeeds, workplace, words):
    words = [*words, "--epochs=4"]
    resumed = succeeds(*words, "--restart", "--log_interval=7", "--decision_threshold=0.9")
    assert "2 of 4 epochs are done" in resumed
    files = written(workplace)
    assert len(files) == 3
    again = succeeds(*words)
    assert re.search(r"_seed13711\.pth of 4 epochs \([-:\d ]+ UTC\) is replaced when this training is done\n", again)
    assert written(workplace) == files
    shutil.rmtree(workplace / "models")
    succeeds(*words, "--restart")  # without a checkpoint: from the first epoch
    assert written(workplace) == files


def test_a_run_stopped_before_more_epochs_were_done_is_not_complete(
    call_train, succeeds, workplace, words, monkeypatch
):
    shorter, words = written(workplace), [*words, "--epochs=3", "--restart"]
    with monkeypatch.context() as patched:
        patched.setattr("train.fit_scores", lambda *_: 1 / 0)
        assert call_train(*words).status == 1
    assert written(workplace) == shorter
    assert "nothing is left to do" not in succeeds(*words)
    assert written(workplace) != shorter


def test_training_can_start_from_another_runs_checkpoint_which_the_record_keeps(succeeds, workplace, words):
    start, name = workplace / "start.tar", RUN.replace("13711", "5")
    shutil.copy(checkpoint_path(workplace), start)
    words = [*words, "--export_dir=other", "--seed=5"]
    assert "2 of 3 epochs are done" in succeeds(*words, "--epochs=3", f"--checkpoint_path={start}")
    first = {"checkpoint": str(start), "seed": 13711, "epochs": 2}
    assert record_of(workplace, name)["resumed_from"] == [first]
    succeeds(*words, "--epochs=4", "--restart")  # the trace survives a later --restart
    second = {"checkpoint": str(checkpoint_path(workplace, name, "other")), "seed": 5, "epochs": 3}
    assert record_of(workplace, name)["resumed_from"] == [first, second]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--n_mels=64", "belongs to another run: n_mels is 128 there and 64 here; give the same"),
        ("--learning_rate=0.01", "learning_rate is 0.001 there and 0.01 here"),
        ("--threads=2", "belongs to another run: threads is 1 there and 2 here; give the same"),
        ("--instruction_set=native", "instruction_set is 'avx2' there and 'native' here"),
        ("--precision=bf16", "precision is None there and 'bf16' here"),
        ("--shuffle=no", "shuffle is True there and False here"),
        ("--epochs=1", "has 2 epochs, more than --epochs 1"),
    ],
)
def test_a_checkpoint_with_other_parameters_is_refused(fails, words, option, sentence):
    assert sentence in fails(*words, "--restart", option)
    torch.set_num_threads(1)


def test_restart_with_other_versions_of_the_packages_is_refused(fails, words, monkeypatch):
    monkeypatch.setattr("networks.training_set.version", lambda package: "1.0")
    assert "belongs to another run: versions is " in fails(*words, "--restart", "--epochs=3")


def test_a_damaged_or_missing_checkpoint_is_refused(fails, workplace, words):
    path, before = checkpoint_path(workplace), written(workplace)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        damaged = bytearray(whole)
        damaged[int(share * len(whole))] ^= 2
        path.write_bytes(damaged)
        refused = fails(*words, "--epochs=3", "--restart")
        assert f"{path} cannot be loaded; it is damaged" in refused
    missing = fails(*words, "--checkpoint_path=no.tar")
    assert "no.tar: No such file" in missing
    assert written(workplace) == before


def test_the_network_file_is_a_plain_state_dict(workplace, words):
    state = torch.load(network_path(workplace), weights_only=True)
    assert list(state) == list(make_network(128).state_dict())


def test_restart_after_clips_were_replaced_or_removed_is_refused(fails, workplace, words):
    """Also under the same names, sizes and times."""
    path = min((machine_folder(workplace / "data") / "train").iterdir())
    before = path.stat()
    write_clip(path, 77)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    other_clips = "the training clips are not those of "
    assert other_clips in fails(*words, "--restart")
    path.unlink()
    assert other_clips in fails(*words, "--restart", "--epochs=3")
