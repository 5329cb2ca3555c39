"""Writing files: full and read-only disks, temporary names, names that are too long; earlier results stay."""

import errno
import os
import resource
import shutil
import subprocess
from functools import partial
from pathlib import Path

import matplotlib.image
import pytest
from synthetic import error_of, machine_folder, network_path, python, small_run, succeed, write_machine

import train
from datasets.audio import read_samples
from networks.tensor_files import load_tensors
from runtime import files
from tools import calibrate
from tools.results import __main__ as summarize_results


def test_leftovers_of_a_killed_process_are_removed_but_nothing_of_a_running_one(tmp_path):
    network = tmp_path / "network.pth"
    begun = "with FileGroup() as group: group.open(Path(sys.argv[1])); print(flush=True); time.sleep(1000)"
    command = python("import time", "from pathlib import Path", "from runtime.files import FileGroup", begun)
    processes = [subprocess.Popen([*command, network], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in processes:
            process.stdout.readline()
        assert len(list(tmp_path.glob("*.partial"))) == 2
        processes[0].kill()
        processes[0].wait()
        for _ in range(2):
            with files.atomic_write(network) as file:
                file.write("weights")
            assert network.read_text() == "weights"
            assert len(list(tmp_path.glob("*.partial"))) == 1  # of a process that may be in another container
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_everything_works_on_a_file_system_without_locks(call_train, call_command, workplace, options, monkeypatch):
    """Such as Lustre without flock, FUSE, or NFS without lockd; a sync may be missing too."""

    def refuse(number):
        raise OSError(number, os.strerror(number))

    for name, number in (("fcntl.flock", errno.ENOSYS), ("os.fsync", errno.EOPNOTSUPP)):
        monkeypatch.setattr(name, lambda *_, number=number: refuse(number))
    outcome = call_train(*options, "-tag", "id(0_)")
    assert (outcome.status, outcome.err) == (0, "")
    assert "warning: this file system has no locks; do not run the same command twice at the same time" in outcome.out
    words = ("DCASE2023T2", "-d", "--result_directory", workplace / "results")
    succeed(call_command(summarize_results.main, *words))
    normal = sorted((machine_folder(workplace / "data") / "test").glob("*_normal_*"))
    network = next(workplace.glob("models/saved_model/baseline/*.pth"))
    succeed(call_command(calibrate.main, network, *normal, "--false_alarms", "0.2"))
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
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    writers = {"pathlib.Path.open": files.atomic_write, "fcntl.flock": partial(files.process_lock, what="works")}
    for name, writer in {**writers, "os.fsync": files.atomic_write}.items():
        with monkeypatch.context() as patch:
            patch.setattr(name, refuse)
            with pytest.raises(files.InputError) as caught, writer(tmp_path / "file"):
                pass
        assert str(caught.value) == f"cannot write {tmp_path / 'file'}: {os.strerror(number)}; {advice}"


def test_a_file_that_cannot_be_read_is_not_reported_as_damaged(workplace, trained):
    """As with too many open files."""
    clip = min((machine_folder(workplace / "data") / "train").iterdir())
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
    def fail(*_, **__):
        raise ValueError("no fonts")

    for name in ("draw_losses", "draw_scores"):
        monkeypatch.setattr(f"tools.results.plots.{name}", fail)
    out = succeed(call_command(train.main, *options))
    assert out.count("the picture is blank: ValueError: no fonts") == 2
    assert network_path(workplace).is_file()
    assert list(workplace.rglob("anomaly_score*.csv"))
    for path in workplace.rglob("*.png"):
        assert matplotlib.image.imread(path).shape == (1, 1, 4)


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


def options_on(disk: Path, data: Path) -> list[str]:
    """Return the options of a small run whose output is on the disk."""
    return [*small_run(disk), "--dataset_directory", str(data), "--cache_directory", str(disk / "cache")]


def test_a_full_disk_is_reported_at_every_stage_and_nothing_is_lost(call_train, call_command, tmp_path, small_disk):
    disk, leave = small_disk
    write_machine(machine_folder(tmp_path / "data"), n_train=12)
    options = [*options_on(disk, tmp_path / "data"), "-tag", "id(0_)"]
    train, test = (partial(call_train, *options, word) for word in ("--train_only", "--test_only"))
    tables = partial(call_command, summarize_results.main, "DCASE2023T2", "-d", "--result_directory", disk / "results")

    def contents() -> dict[Path, bytes]:  # all but checkpoints, features and logs
        paths = [*disk.glob("models/saved_model/*/*"), *disk.glob("results/**/*.*")]
        return {path: path.read_bytes() for path in paths}

    assert train().status == test().status == tables().status == 0
    (network,) = disk.glob("models/saved_model/baseline/*.pth")
    size = network.stat().st_size
    stages = {  # what is run, bytes that are free, whether there are features
        "features": (partial(train, "--epochs", 3), 20_000, False),
        "checkpoint": (partial(train, "--epochs", 3), 2 * size, True),
        "network": (partial(train, "--epochs", 3, "--restart"), size // 2, True),
        "test features": (partial(test, "--epochs", 3), 20_000, False),
        "results": (partial(test, "--epochs", 3), 8_192, True),
        "tables": (tables, 4_096, True),
    }
    for name, (stage, free, has_features) in stages.items():
        if name == "network":  # a run that stopped after its last epoch
            network.unlink()
        if not has_features:
            shutil.rmtree(disk / "cache")
        before = contents()
        leave(free)
        outcome = stage()
        assert (outcome.status, "No space left on device" in outcome.err) == (1, True), (name, outcome.err)
        assert "Traceback" not in outcome.err
        leave(None)
        assert contents() == before, name
        assert stage().status == 0, name
        assert not list(disk.rglob("*.partial"))


def test_a_read_only_folder_with_its_features_is_enough(call_train, small_disk, tmp_path):
    disk, _ = small_disk
    write_machine(machine_folder(disk / "data"))
    words = [*small_run(tmp_path), "--dataset_directory", disk / "data", "--model_directory", disk / "models"]
    remount = ["mount", disk, "-o"]
    succeed(call_train(*words, "--train_only"))
    subprocess.run([*remount, "remount,ro"], check=True)
    err = error_of(call_train(*words, "--test_only"))
    assert "Read-only file system" in err
    assert "--cache_directory" in err
    subprocess.run([*remount, "remount,rw"], check=True)
    succeed(call_train(*words, "--test_only"))
    subprocess.run([*remount, "remount,ro"], check=True)
    shutil.rmtree(tmp_path / "results")
    succeed(call_train(*words, "--test_only"))
    assert list((tmp_path / "results").rglob("anomaly_score*.csv"))
