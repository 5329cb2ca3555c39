"""What the tests share: train.py called in this process, and a small trained run."""

import os

from common import set_instruction_set

# Before anything imports NumPy: calls in this process then compute as the scripts do, on one of the cores (-n auto).
set_instruction_set("avx2")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from synthetic import machine_folder, small_run, write_machine

import train

LONG = ("test_parity.py", "test_attacks.py", "test_quickstart.py", "test_record.py", "test_data_download.py")


class Outcome(NamedTuple):
    """What a call of a command gave."""

    status: int
    out: str
    err: str


@pytest.fixture
def call_command(monkeypatch, capsys) -> Callable[..., Outcome]:
    """Call a command's main() with a command line; the same code as the command, without the imports' seconds."""

    def call(main: Callable[[], int], *words: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["program", *map(str, words)])
        capsys.readouterr()
        try:
            status = main()
        except SystemExit as stop:
            status = stop.code
        return Outcome(status, *capsys.readouterr())

    return call


@pytest.fixture
def call_train(call_command) -> Callable[..., Outcome]:
    """Call train.py with a command line."""
    return partial(call_command, train.main)


@pytest.fixture
def workplace(tmp_path) -> Path:
    """Return a folder with the clips of one small machine type in its data folder."""
    write_machine(machine_folder(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def options(workplace) -> list[str]:
    """Return the options of a small run on the workplace."""
    return small_run(workplace)


def pytest_collection_modifyitems(items):
    """Put the longest files first, so that no process is left with one at the end (--dist loadfile)."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_terminal_summary(terminalreporter):
    """End with how many cases of the reference were compared."""
    outcomes = ("passed", "failed", "skipped", "error")
    reports = [report for outcome in outcomes for report in terminalreporter.stats.get(outcome, ())]
    cases = [report for report in reports if "test_parity.py::test_case_" in report.nodeid]
    if cases:
        from test_parity import verdict

        terminalreporter.write_line(verdict(sum(report.passed for report in cases)))
