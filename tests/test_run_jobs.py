"""01_train.sh, 02a_test.sh and 02b_test.sh as processes: parallel jobs, their logs, signals and failures."""

import os
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

from tools.jobs.display import Display
from tools.runtime.progress import Level, Line, progress


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
            process = script("01_train.sh", *words, "--epochs", "2")
            assert process.returncode == 0, process.stderr
        finally:
            os.sched_setaffinity(0, cores)
    assert len(written(tmp_path / "turn", RESULTS)) == 6 + 2
    assert written(tmp_path / "side", RESULTS) == written(tmp_path / "turn", RESULTS)


@pytest.mark.parametrize("name", ["t", "t" * 100])
def test_processes_start_whatever_the_temporary_folder_and_leave_it_empty(name):
    """A socket's path takes up to 108 characters."""
    program = "from tools.jobs.pool import wait_for_server; from tools.runtime.forkserver import start_server\n"
    program += "from tools.runtime.process import exit_now; start_server([]); wait_for_server(); exit_now(0)"
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


def test_a_log_file_shows_each_tenth_of_the_epochs_and_the_news(capsys):
    display = Display()
    for n in range(1, 101):
        display.report("fan", Line(f"epoch {n}", Level.PROGRESS, ((n - 1) / 100, n / 100)))
    display.report("fan", Line("seconds", Level.DETAIL))
    display.report("fan", Line("news \x1b[31m", Level.NEWS))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [*(f"fan: epoch {n}" for n in range(10, 101, 10)), "fan: news \\x1b[31m"]


def test_progress_that_had_lines_ends_with_a_final_one(capsys, monkeypatch):
    shown = ["scoring: 10% of 20 clips", "scoring: 100% of 20 clips"]
    for seconds, lines in (([0, 6, 6, *[7] * 20], shown), ([0] * 20, [])):
        clock = SimpleNamespace(monotonic=iter(seconds).__next__)
        monkeypatch.setattr("tools.runtime.progress.time", clock)
        assert list(progress(range(20), 20, "scoring", "clips")) == list(range(20))
        assert capsys.readouterr().out.splitlines() == lines


def test_a_jobs_name_and_section_are_shown_once(capsys):
    Display().report("fan section 00 seed 1", Line("section 00: AUC (source) 50.00 %", Level.NEWS))
    Display().report("fan section 00", Line("epoch 1: loss 1", Level.NEWS))
    expected = ["fan section 00 seed 1: AUC (source) 50.00 %", "fan section 00: epoch 1: loss 1"]
    assert capsys.readouterr().out.splitlines() == expected


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


PROGRAM = """
import sys, time
from common import Stopped
from tools.runtime.process import run_command
from tools.runtime.progress import say

def work():
    try:
        say("begun")
        time.sleep(60)
    except Stopped as stop:
        time.sleep(0.3)
        print("saved", flush=True)
        stop.say("all is saved")
        raise

sys.exit(run_command(work))
"""


@pytest.mark.parametrize("n_parallel", [1, 2])
def test_jobs_save_their_work_when_their_parent_is_killed(tmp_path, n_parallel):
    (tmp_path / "program.py").write_text(PROGRAM)
    starter = f"""
import sys
import tempfile
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
from tools.jobs import pool
from tools.jobs.stages import Job
from tools.runtime.forkserver import start_server
folder = Path({str(tmp_path)!r})
if __name__ == "__main__":
    start_server(["tools.jobs.pool"])
    jobs = [Job(str(i), [], folder / f"{{i}}.log", folder, None) for i in range(2)]
    pool.run_jobs(jobs, {n_parallel}, "trying {{}}", folder / "program.py")
"""
    (tmp_path / "starter.py").write_text(starter)
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen([sys.executable, tmp_path / "starter.py"], stdout=out, stderr=out)
    files = [tmp_path / "out"] if n_parallel == 1 else [tmp_path / "0.log", tmp_path / "1.log"]

    def wait_for(text):
        deadline = time.monotonic() + 60
        while not all(file.is_file() and text in file.read_text() for file in files):
            assert time.monotonic() < deadline, [file.read_text() for file in files if file.is_file()]
            time.sleep(0.05)

    wait_for("begun")
    process.kill()
    process.wait()
    wait_for("error: stopped by SIGTERM; all is saved")
    assert all("saved" in file.read_text() for file in files)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("machine_types", [["fan"], ["fan", "valve"]])
def test_a_stopped_script_leaves_no_job_behind(workplace, number, status, machine_types):
    write_machine(machine_folder(workplace / "data", "valve"))
    words = ["-d", *machine_types, "-j", "2", "--epochs", "100000", "--batch_size", "16", *directories(workplace)]
    command = ["bash", REPOSITORY / "01_train.sh", *words]
    environment = {**os.environ, "PYTHON": sys.executable}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    logs = [
        workplace / "logs/baseline" / f"DCASE2023T2-AE_DCASE2023T2{m}_id(0_)_seed13711/01_train.log"
        for m in machine_types
    ]
    if len(machine_types) == 1:
        while not process.stdout.readline().startswith("epoch   1/"):
            assert process.poll() is None
    else:
        while not all(log.is_file() and "epoch   1/" in log.read_text() for log in logs):
            assert process.poll() is None
            time.sleep(0.1)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status
    with pytest.raises(ProcessLookupError):  # no process of its session is left, but for what init has not reaped yet
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    assert not list(workplace.rglob("*.partial"))
    assert [path for path in workplace.glob("models/saved_model/**/*") if path.is_file()] == []
