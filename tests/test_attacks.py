"""The attacks of crash.py, signals.py and fuzz.py on a small scale."""

import sys

from synthetic import REPOSITORY, run


def attack(name, folder, *options):
    """Run an attack in an empty folder; return what it printed."""
    process = run(sys.executable, REPOSITORY / "tests" / f"{name}.py", folder, *options)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_runs_at_once_succeed_and_killed_runs_end_with_the_same_bytes(tmp_path):
    printed = attack("crash", tmp_path, "--kills", 3)
    assert "eight processes at once: all succeeded, one set of features" in printed
    assert "all runs ended with the bytes of the uninterrupted run" in printed


def test_several_signals_cost_at_most_one_epoch(tmp_path):
    printed = attack("signals", tmp_path, "--epochs", 3)
    assert "3 stops during epochs: at most one epoch lost, the uninterrupted run's network" in printed


def test_broken_files_give_no_traceback_and_no_hang(tmp_path):
    attack("fuzz", tmp_path, "--cases", 4, "--seed", 1)
