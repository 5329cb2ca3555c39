"""Fixtures shared by several files: commands called in this process, and a folder with clips."""

import os
import shlex

import common  # noqa: F401 (before NumPy: calls in this process then compute as the scripts do)

# on one of the cores (-n auto)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import signal
from collections import namedtuple
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial

import pandas as pd
import pytest
from synthetic import call, directories, error_of, machine_folder, script, small_run, succeed, write_machine

import train
from runtime.cores import available_cores
from runtime.files import process_lock
from tools import jobs
from tools.results import __main__ as summary

pytest_plugins = ("servers",)  # further fixtures, beside their builders
LONG = [
    f"test_{name}.py"
    for name in (
        "run_jobs slurm quickstart attacks golden parity record edited_code download submission calibrate examples "
        "testing"
    ).split()
]


Outcome = namedtuple("Outcome", "status out err")  # of calling a command


@pytest.fixture
def call_command(capsys):
    """Call a command's main() with a command line: the same code, without the seconds of its imports."""

    def call_and_read(main, *words):
        capsys.readouterr()
        return Outcome(call(main, *words), *capsys.readouterr())

    return call_and_read


@pytest.fixture
def no_pictures(monkeypatch):
    """Draw no pictures, which takes most of a small run's time."""
    monkeypatch.setattr("tools.results.plots.draw_losses", lambda *_, **__: None)
    monkeypatch.setattr("tools.results.plots.draw_scores", lambda *_, **__: None)
    monkeypatch.setattr("tools.results.plots.to_png", lambda _: b"picture")


@pytest.fixture
def call_train(call_command, no_pictures):
    """Call train.py with a command line, without its pictures."""
    return partial(call_command, train.main)


@pytest.fixture
def succeeds(call_train):
    """Call train.py with a command line, which must succeed; return its output."""
    return lambda *words: succeed(call_train(*words))


@pytest.fixture
def fails(call_train):
    """Call train.py with a command line, which must fail; return its errors."""
    return lambda *words: error_of(call_train(*words))


@pytest.fixture
def call_train_and_stop(call_train, monkeypatch):
    """Call train.py with a command line, and stop it by SIGTERM in its second epoch."""

    def call_and_stop(*words):
        train_epoch, calls = train.train_epoch, []

        def stop_in_the_second_epoch(*arguments):
            calls.append(arguments)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return train_epoch(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(train, "train_epoch", stop_in_the_second_epoch)
            return call_train(*words)

    return call_and_stop


@pytest.fixture
def workplace(tmp_path):
    """Return a folder with the clips of one small machine type in its data folder."""
    write_machine(machine_folder(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def options(workplace):
    """Return the options of a small run on the workplace."""
    return small_run(workplace)


@pytest.fixture
def run_jobs(call_command, call_train):
    """Return a function that runs, in this process, the commands that 01 or 02 would run, and returns their number.

    Its words are those of tools/jobs.py: the script's name, `train`, `test` or a score, and the script's arguments.
    """

    def run(*words):
        commands = succeed(call_command(lambda: jobs.main([*map(str, words), "--dry_run"]))).splitlines()
        for command in commands:
            succeed(call_train(*shlex.split(command)[2:]))
        return len(commands)

    return run


@pytest.fixture
def summarize(call_command, tmp_path) -> Callable[..., Outcome]:
    """Return a function that calls 03 on what is below tmp_path."""

    def call_03(*words: object, challenge: str = "DCASE2023T2", subset: str = "-d") -> Outcome:
        return call_command(summary.main, challenge, subset, *directories(tmp_path), *words)

    return call_03


@pytest.fixture
def table(tmp_path) -> Callable[..., pd.DataFrame]:
    """Return a function that reads one of 03's tables below tmp_path, by system."""

    def read(name: str = "official_score", challenge: str = "DCASE2023T2") -> pd.DataFrame:
        (path,) = tmp_path.glob(f"results/*/*/summarize/{challenge}/{challenge}_{name}.csv")
        return pd.read_csv(path).set_index("System")

    return read


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """Return a folder with clips, a run that was trained and tested on them, and its output; to be copied."""
    root = tmp_path_factory.mktemp("finished")
    write_machine(machine_folder(root / "data"))
    with (root / "output").open("w") as file, redirect_stdout(file):
        assert call(train.main, *small_run(root)) == 0
    return root


@pytest.fixture
def trained(finished_run, workplace, options, no_pictures):
    """Return the options of a run that is trained in the workplace, but not tested."""
    for name in ("data", "models", "logs"):
        shutil.copytree(finished_run / name, workplace / name, dirs_exist_ok=True)
    return options


Demo = namedtuple("Demo", "folder out")  # the folder, which tests only read, and what quickstart printed


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Return the demo of one machine type, run once by tools/quickstart.sh for all processes of a test run."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # shared by the processes, new for each test run
    folder, output = root / "quick start" / "demo", root / "quickstart.out"
    with process_lock(root / "quickstart.lock", "runs the demo"):
        if not output.exists():
            folder.parent.mkdir(exist_ok=True)
            process = script("tools/quickstart.sh", folder, "fan", cwd=folder.parent)
            assert process.returncode == 0, process.stdout + process.stderr
            output.write_text(process.stdout)
    return Demo(folder, output.read_text())


def pytest_xdist_auto_num_workers():
    """Run two processes more than there are cores (-n auto), since tests of scripts, signals and Slurm often wait."""
    return available_cores() + 2


def pytest_collection_modifyitems(items):
    """Put the longest files first, so that no process is left with one at the end (--dist loadfile)."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_terminal_summary(terminalreporter):
    """Say in the end how many of the reference's cases were compared."""
    outcomes = ("passed", "failed", "skipped", "error")
    reports = [report for outcome in outcomes for report in terminalreporter.stats.get(outcome, ())]
    cases = [report for report in reports if "test_parity.py::test_case_" in report.nodeid]
    if cases:
        from test_parity import verdict

        terminalreporter.write_line(verdict(sum(report.nodeid.count("dcase") for report in cases if report.passed)))
