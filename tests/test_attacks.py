"""The attacks of crash.py, signals.py and fuzz.py on a small scale."""

import pytest
from synthetic import python, run

ATTACKS = {"crash": ["--kills", "3"], "signals": ["--epochs", "3"], "fuzz": ["--cases", "4", "--seed", "1"]}


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Run the attacks one after another, in a process that imports the libraries once; return what they printed."""
    folders = {name: str(tmp_path_factory.mktemp(name)) for name in ATTACKS}
    command = python(
        f"import {', '.join(ATTACKS)}",
        *(f"sys.argv = {['x', folders[name], *words]!r}; assert {name}.main() == 0" for name, words in ATTACKS.items()),
    )
    process = run(*command)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_runs_at_once_succeed_and_killed_runs_end_with_the_same_bytes(printed):
    assert "eight processes at once: all succeeded, one set of features" in printed
    assert "all runs ended with the bytes of the uninterrupted run" in printed


def test_several_signals_cost_at_most_one_epoch(printed):
    assert "3 stops during epochs: at most one epoch lost, the uninterrupted run's network" in printed


def test_broken_files_give_no_traceback_and_no_hang(printed):
    assert "no traceback, no hang, no silent difference" in printed
