"""Writing files: full and read-only disks, temporary names, names that are too long; earlier results stay."""

import errno
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

from common import SCORES

import matplotlib.image
import pytest
from synthetic import checkpoint_path, machine_folder, network_path, python, write_machine

from datasets.audio import read_samples
from networks.checkpoint import load_tensors
from runtime import files
from tools import calibrate
from tools.results import __main__ as summarize_results


def test_leftovers_of_a_killed_process_are_removed_but_nothing_of_a_running_one(call_train, workplace, options):
    assert call_train(*options).status == 0
    network = network_path(workplace)
    begun = "with FileGroup() as group: group.open(Path(sys.argv[1])); print(flush=True); time.sleep(1000)"
    command = python("import time", "from pathlib import Path", "from runtime.files import FileGroup", begun)
    command.append(str(network))
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE)]
    try:
        processes[0].stdout.readline()
        (left,) = network.parent.glob("*.partial")
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        processes[1].stdout.readline()
        (others,) = set(network.parent.glob("*.partial")) - {left}
        processes[0].kill()
        processes[0].wait()
        assert left.exists()
        assert call_train(*options).status == 0
        assert not left.exists()
        assert others.exists()  # of another process, which may be at work, here or in another container
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_links_and_files_at_temporary_names_are_left_alone(tmp_path, monkeypatch):
    target, victim = tmp_path / "network.pth", tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    planted = tmp_path / f"{files._prefix(target)}{'0' * 16}.partial"
    planted.symlink_to(victim)
    with pytest.raises(files.InputError, match=r"cannot write .*network\.pth: "), files.atomic_write(target):
        pass
    assert (victim.read_text(), target.exists()) == ("precious", False)
    planted.unlink()
    os.mkfifo(planted)  # opening it would block
    with files.atomic_write(target) as file:
        file.write("weights")
    assert target.read_text() == "weights"


def test_renames_survive_a_loss_of_power(call_train, workplace, options, no_pictures, monkeypatch):
    """Each folder is synced after the renames in it."""
    synced, sync = set(), os.fsync

    def recorded(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.add(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    assert call_train(*options).status == 0
    written = {path.parent for path in workplace.rglob("*.*") if path.is_file() and "raw" not in path.parts}
    assert len(written) == 5
    assert {folder.stat().st_ino for folder in written} <= synced


def test_everything_works_on_a_file_system_without_locks(
    call_train, call_command, workplace, options, no_pictures, monkeypatch
):
    """Such as Lustre without flock, FUSE, or NFS without lockd; a sync may be missing too."""

    def refuse(number):
        raise OSError(number, os.strerror(number))

    for name, number in (("fcntl.flock", errno.ENOSYS), ("fcntl.lockf", errno.ENOLCK), ("os.fsync", errno.EOPNOTSUPP)):
        monkeypatch.setattr(name, lambda *_, number=number: refuse(number))
    files._warn_once.cache_clear()
    outcome = call_train(*options, "-tag", "id(0_)")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.count("warning: this file system has no locks; do not run the same command twice at the") == 1
    assert outcome.out.count("warning: this file system cannot sync a file; a power cut may leave the last ones") == 1
    words = ("DCASE2023T2", "-d", "--result_directory", workplace / "results")
    assert call_command(summarize_results.main, *words).status == 0
    normal = sorted((machine_folder(workplace / "data") / "test").glob("*_normal_*"))
    network = next(workplace.glob("models/saved_model/baseline/*.pth"))
    assert call_command(calibrate.main, network, *normal, "--false_alarms", "0.2").status == 0
    assert not list(workplace.rglob("*.partial"))


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space there or choose another directory"),
        (errno.EDQUOT, "free space there or choose another directory"),
        (errno.EROFS, "choose another directory"),
        (errno.EACCES, "choose another directory"),
        (errno.EMFILE, "allow more open files (ulimit -n)"),
    ],
)
def test_a_failed_write_is_reported_with_reason_and_remedy(tmp_path, monkeypatch, number, advice):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    writers = {"os.open": files.atomic_write, "fcntl.flock": files.atomic_write, "os.fsync": files.atomic_write}
    if number != errno.EACCES:  # lockf's sign that another process holds the lock
        writers["fcntl.lockf"] = partial(files.process_lock, what="works")
    for name, writer in writers.items():
        with monkeypatch.context() as patch:
            patch.setattr(name, refuse)
            with pytest.raises(files.InputError) as caught, writer(tmp_path / "file"):
                pass
        assert str(caught.value) == f"cannot write {tmp_path / 'file'}: {os.strerror(number)}; {advice}"


def test_a_file_that_cannot_be_read_is_not_reported_as_damaged(call_train, workplace, options, monkeypatch):
    """As with too many open files."""
    assert call_train(*options, "--train_only").status == 0
    (array,) = (machine_folder(workplace / "data").parents[1] / "processed/fan").glob("*.npy")
    clip = min((machine_folder(workplace / "data") / "train").iterdir())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for read, path in (
        (load_tensors, network_path(workplace)),
        (load_tensors, checkpoint_path(workplace)),
        (read_samples, clip),
    ):
        read(path)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(
                files.InputError, match=rf"cannot read {path}|{path} cannot be read: Too many open files; "
            ):
                read(path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    def refuse(_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("datasets.cache.sha256_of", refuse)
    outcome = call_train(*options, "--train_only")
    assert (outcome.status, "damaged" in outcome.out) == (1, False)
    assert f"error: cannot read {array}: Too many open files; " in outcome.err


def test_a_picture_that_cannot_be_drawn_costs_no_result(call_train, workplace, options, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no fonts")

    with monkeypatch.context() as patch:
        for name in ("draw_losses", "draw_scores"):
            patch.setattr(f"tools.results.plots.{name}", fail)
        outcome = call_train(*options)
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("the picture is blank: ValueError: no fonts") == 2
    assert network_path(workplace).is_file()
    assert list(workplace.rglob("anomaly_score*.csv"))
    for path in workplace.rglob("*.png"):
        assert matplotlib.image.imread(path).shape == (1, 1, 4)


@pytest.mark.parametrize("n_letters", range(60, 101, 8))
def test_long_names_that_are_allowed_give_each_score_its_own_file(
    call_train, workplace, options, no_pictures, n_letters
):
    words = [*options, "-tag", "t" * n_letters, "--export_dir", "e" * 100]
    assert call_train(*words).status == 0
    (record,) = workplace.glob("models/saved_model/*/*.json")
    assert set(json.loads(record.read_text())["scores"]) == set(SCORES.builtin)
    assert len(list(workplace.rglob("anomaly_score*"))) == 1


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """Yield a folder on a disk of 24 MB, and a function that leaves only a number of bytes of it free."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk can only be mounted as root")

    def leave(n_bytes: int | None) -> None:
        filler = disk / "filler"
        filler.unlink(missing_ok=True)
        os.sync()
        if n_bytes is not None:
            with filler.open("wb", buffering=0) as file:
                while (excess := shutil.disk_usage(disk).free - n_bytes) > 0:
                    file.write(bytes(excess))

    yield disk, leave
    subprocess.run(["umount", disk], check=True)


def contents(folder: Path) -> dict[Path, bytes]:
    """Return what runs have written: all but checkpoints, features and logs."""
    return {
        path: path.read_bytes()
        for name in ("models/saved_model", "results")
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


def test_a_full_disk_is_reported_at_every_stage_and_nothing_is_lost(
    call_train, monkeypatch, capsys, tmp_path, small_disk
):
    disk, leave = small_disk
    write_machine(machine_folder(tmp_path / "data"), n_train=12, n_test=4, seconds=1.0)
    options = ["--dataset", "DCASE2023T2fan", "-d", "-tag", "id(0_)", "--dataset_directory", tmp_path / "data"]
    options += ["--cache_directory", disk / "cache"]
    options += [f"--{kind}_directory={disk / kind}s" for kind in ("model", "result", "log")]

    def summarize() -> int:
        monkeypatch.setattr("sys.argv", ["03", "DCASE2023T2", "-d", "--result_directory", str(disk / "results")])
        return summarize_results.main()

    def step(*words: object) -> int:
        outcome = call_train(*options, *words)
        print(outcome.err, file=sys.stderr)
        return outcome.status

    assert step("--epochs", 2) == step("--test_only", "--score", "MAHALA") == summarize() == 0
    size = next(disk.glob("models/saved_model/baseline/*.pth")).stat().st_size
    train, test = partial(step, "--train_only", "--epochs", 3), partial(step, "--test_only", "--score", "MAHALA")
    stages = {  # what is run, bytes that are free, whether there are features
        "features": (train, 50_000, False),
        "checkpoint": (train, 2 * size, True),
        "network": (partial(train, "--restart"), size // 2, True),
        "test features": (test, 20_000, False),
        "results": (test, 8_192, True),
        "tables": (summarize, 4_096, True),
    }
    for name, (stage, free, has_features) in stages.items():
        if name == "network":  # a run that stopped after its last epoch
            next(disk.glob("models/saved_model/baseline/*.pth")).unlink()
        if not has_features:
            shutil.rmtree(disk / "cache")
        before = contents(disk)
        leave(free)
        capsys.readouterr()
        assert stage() == 1, name
        error = capsys.readouterr().err
        assert "No space left on device" in error, name
        assert "Traceback" not in error
        leave(None)
        assert contents(disk) == before, name
        assert stage() == 0, name
        assert not list(disk.rglob("*.partial"))


def test_a_read_only_folder_with_its_features_is_enough(call_train, small_disk, tmp_path):
    disk, _ = small_disk
    write_machine(machine_folder(disk / "data"))
    folders = ["--dataset_directory", disk / "data", "--model_directory", disk / "models"]
    words = ["--dataset", "DCASE2023T2fan", "-d", "--batch_size", "16", "--epochs", "2", *folders]
    words += ["--log_directory", tmp_path / "logs", "--result_directory", tmp_path / "results"]
    assert call_train(*words, "--train_only").status == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    outcome = call_train(*words, "--test_only")
    assert outcome.status == 1
    assert "Read-only file system" in outcome.err
    assert "--cache_directory" in outcome.err
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert call_train(*words, "--test_only").status == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    shutil.rmtree(tmp_path / "results")
    assert call_train(*words, "--test_only").status == 0
    assert list((tmp_path / "results").rglob("anomaly_score*.csv"))
