"""01_train.sh, 02a_test.sh and 02b_test.sh as processes: parallel jobs, their logs, signals and failures."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from synthetic import REPOSITORY, RESULTS, directories, machine_folder, run, script, write_machine, written

from runtime.progress import progress

RUN_OF = "DCASE2023T2-AE_DCASE2023T2{}_id(0_)_seed13711"  # a run of a script, by machine type
EXTENSION = """
import sys

from common import NUMBER, SCORES, Parameter
from networks.scores import Score
from runtime.cores import available_cores

print(available_cores(), "cores", file=sys.stderr)


@SCORES.register
class Shifted(Score):
    name, unit, description = "SHIFTED", "", "mean of a clip, shifted"
    options = (Parameter("shift", NUMBER, "added", default=0.0),)

    def of_clip(self, clip):
        return clip.vectors.mean() + self.settings.shift
"""


def log_of(root: Path, machine_type: str) -> Path:
    """Return the log of a training job below a folder."""
    return root / "logs/baseline" / RUN_OF.format(machine_type) / "01_train.log"


def begin(cwd: Path, *words: object, **further) -> subprocess.Popen:
    """Start 01_train.sh in a session of its own."""
    files = {name: further.pop(name, subprocess.PIPE) for name in ("stdout", "stderr")}
    environment = {**os.environ, "PYTHON": sys.executable, **further}
    command = ["bash", str(REPOSITORY / "01_train.sh"), *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, start_new_session=True, **files)


def wait_for(process: subprocess.Popen, file: Path, text: str) -> None:
    """Wait until a running script has written a text to a file."""
    while not (file.is_file() and text in file.read_text()):
        assert process.poll() is None
        time.sleep(0.05)


def process_with_output(log: Path) -> int:
    """Return the number of the process whose output goes to a log."""
    for output in Path("/proc").glob("[0-9]*/fd/1"):
        with contextlib.suppress(OSError):
            if output.readlink() == log:
                return int(output.parts[2])
    raise ProcessLookupError(log)


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["-d", "fann"], 1, "DCASE2023T2 has no development machine type 'fann'; it has ToyCar, ToyTrain, fan"),
        (["-e", "fan"], 1, "it has ToyDrone, ToyNscale, ToyTank, Vacuum, bandsaw, grinder, shaker"),
        ([], 2, "one of the arguments -d/--dev -e/--eval is required"),
        (["-d", "--dataset", "x"], 2, "unrecognized arguments: --dataset"),
        (["-d", "--no_such_option"], 2, "unrecognized arguments: --no_such_option"),
        (["-d", "fan", "--epochs", "few"], 2, "'few' is not allowed; it takes a whole number from 1"),
    ],
)
def test_wrong_arguments_are_reported_from_any_folder(tmp_path, words, status, sentence):
    process = script("01_train.sh", *words, cwd=tmp_path)
    assert process.returncode == status
    assert sentence in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("name", ["01_train.sh", "02a_test.sh", "02b_test.sh", "03_summarize_results.sh"])
def test_help_shows_the_usage(name):
    process = script(name, "--help")
    assert process.returncode == 0
    assert name in process.stdout
    assert "--export_dir" in process.stdout or "MACHINE_TYPE" in process.stdout


@pytest.mark.parametrize("name", ["01_train.sh", "tools/02_test.sh", "tools/install.sh", "tools/quickstart.sh"])
def test_scripts_run_by_sh_through_a_link_and_with_cdpath(tmp_path, name):
    """CDPATH lets `cd` print where it went, and go elsewhere; sh may be dash; a link is not beside tools/."""
    expected = run("bash", REPOSITORY / name, "--help").stdout
    (tmp_path / "link").symlink_to(REPOSITORY / name)
    relative = Path(REPOSITORY.name, name)
    for command, cwd in ((["bash", "link"], tmp_path), (["sh", relative], REPOSITORY.parent)):
        process = run(*command, "--help", cwd=cwd, CDPATH=str(REPOSITORY.parent))
        assert (process.returncode, process.stderr) == (0, "")
        assert process.stdout == expected.replace(str(REPOSITORY / name), str(command[1]))


def test_python_starts_train_without_its_folder_on_the_path(tmp_path):
    for environment in ({"PYTHONSAFEPATH": "1"}, {"PYTHONSAFEPATH": ""}):
        process = run(sys.executable, REPOSITORY / "train.py", "--help", cwd=tmp_path, **environment)
        assert (process.returncode, process.stderr) == (0, "")


def test_a_deleted_current_folder_is_reported_in_a_sentence(tmp_path):
    for words in (
        ["train.py", "--dataset", "x", "-d"],
        ["tools/jobs", "x", "train", "-d"],
        ["tools/calibrate.py", "x"],
    ):
        command = shlex.join([sys.executable, str(REPOSITORY / words[0]), *words[1:]])
        process = run("bash", "-c", f'mkdir gone; cd gone; rmdir "$PWD"; exec {command}', cwd=tmp_path)
        assert process.returncode == 1
        assert (
            process.stderr
            == "error: the current folder no longer exists; change to another one and run the command again\n"
        )


def test_no_number_of_jobs_or_cores_changes_a_bit(tmp_path):
    """Two machine types, in turn on all cores and side by side on one; the parity cases run side by side on all."""
    cores = os.sched_getaffinity(0)
    for case, jobs, affinity in (("turn", 1, cores), ("side", 2, {min(cores)})):
        for i, machine_type in enumerate(("fan", "valve")):
            write_machine(machine_folder(tmp_path / case / "data", machine_type), n_train=6 + i, seconds=1.0)
        words = ["-d", "fan", "valve", "-j", jobs, *directories(tmp_path / case)]
        os.sched_setaffinity(0, affinity)  # of this thread and the processes that it starts
        try:
            for name, more in (("01_train.sh", ["--epochs", "2"]), ("02a_test.sh", [])):
                process = script(name, *words, *more, MPLBACKEND="module://matplotlib_inline.backend_inline")
                assert process.returncode == 0, process.stderr
        finally:
            os.sched_setaffinity(0, cores)
    assert len(written(tmp_path / "turn", RESULTS)) == 2 * 3 + 2 * 3
    assert written(tmp_path / "side", RESULTS) == written(tmp_path / "turn", RESULTS)
    assert all(picture.stat().st_size > 1000 for picture in tmp_path.rglob("log.png"))  # not blank
    lines = process.stdout.splitlines()
    assert sum(line.startswith("fan section 00: AUC (source) ") for line in lines) == 1
    assert sum(line.startswith("fan section 00: done in ") for line in lines) == 1


@pytest.mark.parametrize("name", ["t", "t" * 100])
def test_processes_start_whatever_the_temporary_folder_and_leave_it_empty(name):
    """A socket's path takes up to 108 characters."""
    program = "from tools.jobs.pool import has_cuda; from runtime.forkserver import start_server\n"
    program += "from runtime.command import exit_now; start_server([]); has_cuda(); exit_now(0)"
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        folder = Path(parent, name)
        folder.mkdir()
        process = run(sys.executable, "-c", program, cwd=REPOSITORY, TMPDIR=str(folder))
        assert (process.returncode, process.stderr) == (0, "")
        assert list(folder.iterdir()) == []


def test_a_failed_parallel_job_is_reported_and_the_others_finish(workplace):
    valve = write_machine(machine_folder(workplace / "data", "valve"))
    next((valve / "train").iterdir()).write_bytes(b"no audio")
    write_machine(machine_folder(workplace / "data", "slider"))
    words = ["-d", "fan", "valve", "slider", "-j", "2", "--epochs", "10", *directories(workplace)]
    process = script("01_train.sh", *words)
    assert process.returncode == 1
    assert len(list(workplace.glob("models/saved_model/baseline/*.pth"))) == 2
    said = next(line for line in process.stdout.splitlines() if "valve section 00: failed" in line)
    log = Path(said.rpartition("log: ")[2])
    assert "valve" in said.partition("(")[2].partition("log: ")[0]
    assert log.read_text().splitlines()[-1].startswith("error: ")
    assert f"error: 1 of 3 jobs failed: valve section 00; log of the first: {log}\n" in process.stderr
    assert process.stdout.count("fan section 00: epoch") == 10
    assert "fan section 00: warning: too few training clips" in process.stdout
    assert f"training fan section 00, log: {log_of(workplace, 'fan')}\n" in process.stdout
    assert "epoch   3/10: loss" in log_of(workplace, "fan").read_text()


def test_one_at_a_time_jobs_write_to_our_output_and_the_first_failure_ends_the_run(workplace):
    slider = write_machine(machine_folder(workplace / "data", "slider"))
    next((slider / "train").iterdir()).write_bytes(b"no audio")
    write_machine(machine_folder(workplace / "data", "valve"))
    words = ["-d", "fan", "slider", "valve", "-j", "1", "--epochs", "2", *directories(workplace)]
    process = script("01_train.sh", *words)
    assert process.returncode == 1
    assert process.stdout.count("\nepoch   2/2: loss ") == 1
    assert "[2/3] training slider section 00\n" in process.stdout
    said, ending = process.stderr.splitlines()
    assert said.startswith("error: ") and "slider" in said
    assert ending == "error: training slider section 00 failed with exit status 1; the others were not started"
    assert [path.name for path in workplace.glob("models/saved_model/baseline/*.pth")] == [
        f"{RUN_OF.format('fan')}.pth"
    ]
    assert list(workplace.glob("logs/baseline/*/01_train.log")) == []


def test_a_killed_job_fails_alone(workplace):
    """As the kernel kills one when memory is exhausted."""
    write_machine(machine_folder(workplace / "data", "fan"), n_train=90)
    write_machine(machine_folder(workplace / "data", "valve"))
    words = ["-d", "fan", "valve", "-j", "2", "--epochs", "20", "--batch_size", "16", *directories(workplace)]
    process = begin(workplace, *words)
    log = log_of(workplace, "fan")
    wait_for(process, log, "epoch   1/")
    os.kill(process_with_output(log), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    (said,) = (line for line in out.splitlines() if line.startswith("fan section 00: was killed by signal 9"))
    assert said.endswith(f"; log: {log}")
    assert "valve section 00: done in " in out
    assert err == f"error: 1 of 2 jobs failed: fan section 00; log of the first: {log}\n"
    assert [path.name for path in workplace.glob("models/saved_model/baseline/*.pth")] == [
        f"{RUN_OF.format('valve')}.pth"
    ]


def test_lines_of_a_dry_run_give_the_same_files(workplace):
    """Whatever the names have; jobs that run side by side share the cores, and load the extension themselves."""
    odd = workplace / "a 'b' [c] $d"
    odd.mkdir()
    extension = odd / "my (1) [x].py"
    extension.write_text(EXTENSION)
    words = ["-d", "fan", "--seeds", "1", "2", "--epochs", "1", "--extension", extension, "--shift", "2.5"]
    words += ["--dataset_directory", workplace / "data", "--log_directory", odd / "logs"]
    for case in ("jobs", "xargs"):
        command = ["bash", REPOSITORY / "01_train.sh", *words, "--model_directory", odd / case / "models"]
        if case == "xargs":
            shell = shlex.join([*map(str, command), "--dry_run"]) + r" | xargs -P 2 -d '\n' -n 1 sh -c"
            command = ["bash", "-o", "pipefail", "-c", shell]
        process = run(*command, *(["-j", "2"] if case == "jobs" else []))
        assert process.returncode == 0, process.stderr
    logs = [path.read_text() for path in odd.glob("logs/baseline/*/01_train.log")]
    n_cores = len(os.sched_getaffinity(0))
    assert [f"{max(1, n_cores // 2)} cores" in text for text in logs] == [True, True]
    assert len(written(odd / "jobs")) == 2 * 2  # the log folder is shared
    assert written(odd / "xargs") == written(odd / "jobs")


def test_a_terminal_shows_a_line_for_each_running_job_and_keeps_none(workplace):
    write_machine(machine_folder(workplace / "data", "valve"))
    words = ["-d", "fan", "valve", "-j", "2", "--epochs", "60", *directories(workplace)]
    ours, theirs = os.openpty()
    process = begin(workplace, *words, stdout=theirs, stderr=theirs, TERM="xterm")
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # at the end
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode().replace("\r\n", "\n")
    assert re.search(r"\x1b\[Jfan section 00: epoch +\d+/60: loss .*\nvalve section 00: .*\r\x1b\[1A", text)
    final = "".join(part for part in re.split(r"\r?\x1b\[J", re.sub(r"\x1b\[J[^\x1b]*\x1b\[\d+A", "", text)))
    assert final.count("section 00: done in ") == 2
    assert "epoch " not in final.splitlines()[-1]


def test_progress_that_had_lines_ends_with_a_final_one(capsys, monkeypatch):
    shown = ["scoring: 10% of 20 clips", "scoring: 100% of 20 clips"]
    for seconds, lines in (([0, 6, 6, *[7] * 20], shown), ([0] * 20, [])):
        clock = SimpleNamespace(monotonic=iter(seconds).__next__)
        monkeypatch.setattr("runtime.progress.time", clock)
        assert list(progress(range(20), 20, "scoring", "clips")) == list(range(20))
        assert capsys.readouterr().out.splitlines() == lines


def test_help_of_the_test_script_installs_nothing(tmp_path):
    (tmp_path / "tests").mkdir()
    shutil.copy(REPOSITORY / "tests/run.sh", tmp_path / "tests/run.sh")  # with no tools/install.sh beside it
    for option in ("--help", "-h"):
        process = run("bash", tmp_path / "tests/run.sh", option)
        assert (process.returncode, process.stderr) == (0, "")
        assert "usage: bash tests/run.sh [pytest option ...]" in process.stdout


def test_missing_clips_and_networks_of_several_jobs_are_reported_in_one_sentence(workplace):
    process = script("01_train.sh", "-d", *directories(workplace))
    assert process.returncode == 1
    assert process.stdout == ""
    assert len(process.stderr.splitlines()) == 1
    assert "6 of 7 jobs have no training clips" in process.stderr
    assert "bash tools/data_download.sh DCASE2023T2 dev" in process.stderr
    assert "run only the machine types that have them: fan" in process.stderr
    write_machine(machine_folder(workplace / "data", "valve"))
    process = script("02a_test.sh", "-d", "fan", "valve", *directories(workplace))
    assert (process.returncode, process.stdout) == (1, "")
    assert "2 of 2 jobs have no trained network" in process.stderr
    assert "train them first (bash 01_train.sh -d" in process.stderr


def test_without_the_packages_one_sentence_says_how_to_install_them(tmp_path):
    copy = tmp_path / "copy"
    for name in ("01_train.sh", "tools/python.sh"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, copy / name)
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    process = run("bash", copy / "01_train.sh", "-d", PYTHON="", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert process.returncode == 1
    assert len(process.stderr.splitlines()) == 1
    assert f"bash {copy}/tools/install.sh" in process.stderr


def test_no_module_in_the_callers_folder_is_imported(workplace):
    write_machine(machine_folder(workplace / "data", "valve"))
    (workplace / "tools").mkdir()
    for name in ("common.py", "tools/__init__.py", "signal.py", "torch.py", "threading.py"):
        (workplace / name).write_text("raise SystemExit('imported from the wrong folder')\n")
    words = ["-d", "fan", "valve", "-j", "2", "--epochs", "1", *directories(workplace)]
    process = script("01_train.sh", *words, cwd=workplace)
    assert (process.returncode, process.stderr) == (0, "")


def assert_all_have_ended(process: subprocess.Popen) -> None:
    """Fail unless no process of a script's session is left, but for what init has not reaped yet."""
    with pytest.raises(ProcessLookupError):
        for _ in range(300):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


ENDLESS = ["--epochs", "100000", "--batch_size", "16", "--checkpoint_interval", "100000"]
SAVED = "are saved; the same command with --restart resumes there"


def endless(workplace, machine_types, n_parallel) -> tuple[subprocess.Popen, list[Path]]:
    """Start training that does not end, with its output in files; return it and the files that get its epochs."""
    write_machine(machine_folder(workplace / "data", "valve"))
    out = workplace / "out"
    words = ["-d", *machine_types, "-j", n_parallel, *ENDLESS, *directories(workplace)]
    with out.open("w") as file:
        process = begin(workplace, *words, stdout=file)
    side_by_side = len(machine_types) > 1 and n_parallel > 1
    files = [log_of(workplace, machine_type) for machine_type in machine_types] if side_by_side else [out]
    for file in files:
        wait_for(process, file, "epoch   2/")
    return process, files


@pytest.mark.parametrize("n_parallel", [1, 2])
def test_jobs_save_their_work_and_end_when_their_parent_is_killed(workplace, n_parallel):
    process, files = endless(workplace, ["fan", "valve"], n_parallel)
    process.kill()
    process.communicate()
    assert_all_have_ended(process)
    assert len(list(workplace.glob("models/checkpoint/baseline/*/checkpoint.tar"))) == len(files)
    assert not list(workplace.rglob("*.partial"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("machine_types", [["fan"], ["fan", "valve"]])
def test_a_stopped_script_saves_and_leaves_no_job_behind(workplace, number, status, machine_types):
    process, _ = endless(workplace, machine_types, 2)
    process.send_signal(number)
    check_stopped(workplace, process, status, machine_types)


@pytest.mark.parametrize("n_parallel", [1, 2])
def test_ctrl_c_twice_reaches_all_processes_of_a_terminal_and_loses_no_epoch(workplace, n_parallel):
    process, files = endless(workplace, ["fan", "valve"], n_parallel)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.01)
    err = check_stopped(workplace, process, 130, ["fan", "valve"][: len(files)])
    assert len(err.splitlines()) == 1


def check_stopped(workplace, process: subprocess.Popen, status: int, machine_types: list[str]) -> str:
    """Fail unless a script ended with the epochs of its jobs saved; return what it said of it."""
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert SAVED in err
    assert_all_have_ended(process)
    assert not list(workplace.rglob("*.partial"))
    assert [path for path in workplace.glob("models/saved_model/**/*") if path.is_file()] == []
    for machine_type in machine_types:
        log = log_of(workplace, machine_type)
        said = log.read_text() if log.is_file() else err
        n_epochs = int(re.search(r"; (\d+) of 100000 epochs are saved", said)[1])
        shown = (log if log.is_file() else workplace / "out").read_text()
        assert n_epochs >= int(re.findall(r"^epoch +(\d+)/", shown, re.MULTILINE)[-1]) - 1
        assert (workplace / "models/checkpoint/baseline" / RUN_OF.format(machine_type) / "checkpoint.tar").is_file()
    return err
