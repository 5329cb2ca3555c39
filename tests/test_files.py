"""Writing files: full and read-only disks, temporary names, names that are too long; earlier results stay."""

import errno
import os
import resource
import shutil
import signal
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import matplotlib.image
import pytest
from synthetic import error_of, exit_statuses, machine_folder, network_path, run, small_run, succeed, write_machine

import train
from datasets.audio import read_samples
from networks.tensor_files import load_tensors
from runtime import files
from tools import calibrate
from tools.results import __main__ as summarize_results


def failing(number: int) -> Mock:
    """Return a function that fails with an error of the system."""
    return Mock(side_effect=OSError(number, os.strerror(number)))


def test_leftovers_of_a_killed_process_are_removed_but_nothing_of_a_running_one(tmp_path):
    network = tmp_path / "network.pth"

    def killed():
        with files.FileGroup() as group:
            group.open(network)
            os.kill(os.getpid(), signal.SIGKILL)

    with files.FileGroup() as running:  # as in another container
        running.open(network)
        assert exit_statuses(killed) == [-signal.SIGKILL]
        assert len(list(tmp_path.glob("*.partial"))) == 2
        for _ in range(2):
            with files.atomic_write(network) as file:
                file.write("weights")
            assert network.read_text() == "weights"
            assert len(list(tmp_path.glob("*.partial"))) == 1


def test_everything_works_on_a_file_system_without_locks(call_train, call_command, workplace, options, monkeypatch):
    """Such as Lustre without flock, FUSE, or NFS without lockd; a sync may be missing too."""
    for name, number in (("fcntl.flock", errno.ENOSYS), ("os.fsync", errno.EOPNOTSUPP)):
        monkeypatch.setattr(name, failing(number))
    outcome = call_train(*options, "-tag", "id(0_)")
    assert (outcome.status, outcome.err) == (0, "")
    assert "warning: this file system has no locks; do not run the same command twice at the same time" in outcome.out
    normal = machine_folder(workplace / "data").glob("test/*_normal_*")
    for command, *words in (
        (summarize_results.main, "DCASE2023T2", "-d", "--result_directory", workplace / "results"),
        (calibrate.main, *workplace.glob("models/saved_model/*/*.pth"), *normal, "--false_alarms", "0.2"),
    ):
        succeed(call_command(command, *words))
    assert not list(workplace.rglob("*.partial"))


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space there or choose another directory"),
        (errno.EDQUOT, "free space there or choose another directory"),
        (errno.EROFS, "choose another directory"),
        (errno.EMFILE, "allow more open files (ulimit -n)"),
    ],
)
def test_a_failed_write_is_reported_with_reason_and_remedy(tmp_path, monkeypatch, number, advice):
    lock = partial(files.process_lock, what="works")
    for name, writer in (
        ("pathlib.Path.open", files.atomic_write),
        ("fcntl.flock", lock),
        ("os.fsync", files.atomic_write),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(name, failing(number))
            with pytest.raises(files.InputError) as caught, writer(tmp_path / "file"):
                pass
        assert str(caught.value) == f"cannot write {tmp_path}/file: {os.strerror(number)}; {advice}"


def test_a_file_that_cannot_be_read_is_not_reported_as_damaged(workplace, trained):
    clip = min(machine_folder(workplace / "data").glob("train/*"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for read, path in ((load_tensors, network_path(workplace)), (read_samples, clip)):
        read(path)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(files.InputError, match=rf"{path}( cannot be read)?: Too many open files; "):
                read(path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_picture_that_cannot_be_drawn_costs_no_result(call_command, workplace, options, monkeypatch):
    for name in ("draw_losses", "draw_scores"):
        monkeypatch.setattr(f"tools.results.plots.{name}", Mock(side_effect=ValueError("no fonts")))
    out = succeed(call_command(train.main, *options))
    assert out.count("the picture is blank: ValueError: no fonts") == 2
    assert network_path(workplace).is_file()
    assert list(workplace.rglob("anomaly_score*.csv"))
    assert {matplotlib.image.imread(path).shape for path in workplace.rglob("*.png")} == {(1, 1, 4)}


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """Yield a folder on a disk of 24 MB, and a function that leaves only a number of bytes of it free."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if run(*"mount -t tmpfs -o size=24m tmpfs".split(), disk).returncode != 0:
        pytest.skip("a small disk can only be mounted as root")

    def leave(n_bytes: int | None) -> None:
        filler = disk / "filler"
        filler.unlink(missing_ok=True)
        if n_bytes is not None:
            filler.write_bytes(bytes(shutil.disk_usage(disk).free - n_bytes))

    yield disk, leave
    assert run("umount", disk).returncode == 0


def test_a_full_disk_is_reported_at_every_stage_and_nothing_is_lost(call_train, call_command, tmp_path, small_disk):
    disk, leave = small_disk
    options = [*small_run(disk), "--dataset_directory", tmp_path, "--cache_directory", disk / "cache", "-tag", "id(0_)"]
    write_machine(machine_folder(tmp_path), n_train=12)
    train, test = (partial(call_train, *options, word) for word in ("--train_only", "--test_only"))
    tables = partial(call_command, summarize_results.main, "DCASE2023T2", "-d", "--result_directory", disk / "results")

    def contents() -> dict[Path, bytes]:  # all but checkpoints, features and logs
        paths = [*disk.glob("models/saved_model/*/*"), *disk.glob("results/**/*.*")]
        return {path: path.read_bytes() for path in paths}

    for stage in (train, test, tables):
        succeed(stage())
    (network,) = disk.glob("models/saved_model/*/*.pth")
    size, more = network.stat().st_size, ("--epochs", 3)
    for name, stage, free in (
        ("features", partial(train, *more), 20_000),
        ("checkpoint", partial(train, *more), 2 * size),
        ("network", partial(train, *more, "--restart"), size // 2),
        ("features of the test", partial(test, *more), 20_000),
        ("results", partial(test, *more), 8_192),
        ("tables", tables, 4_096),
    ):
        if name == "network":  # a run that stopped after its last epoch
            network.unlink()
        if "features" in name:
            shutil.rmtree(disk / "cache")
        before = contents()
        leave(free)
        error = error_of(stage())
        assert "No space left on device" in error and "Traceback" not in error, name
        leave(None)
        assert contents() == before, name
        succeed(stage())
        assert not list(disk.rglob("*.partial"))


def test_a_read_only_folder_with_its_features_is_enough(call_train, small_disk, tmp_path):
    disk, _ = small_disk
    write_machine(machine_folder(disk / "data"))
    words = [*small_run(tmp_path), "--dataset_directory", disk / "data", "--model_directory", disk / "models"]

    def remount(mode: str) -> None:
        assert run("mount", disk, "-o", f"remount,{mode}").returncode == 0

    succeed(call_train(*words, "--train_only"))
    remount("ro")
    error = error_of(call_train(*words, "--test_only"))
    assert "Read-only file system" in error and "--cache_directory" in error
    remount("rw")
    succeed(call_train(*words, "--test_only"))
    remount("ro")
    shutil.rmtree(tmp_path / "results")
    succeed(call_train(*words, "--test_only"))
    assert list(tmp_path.glob("results/*/*/anomaly_score*.csv"))
