"""The attacks of crash.py, signals.py and fuzz.py on a small scale, made while other tests run."""

import sys

from synthetic import REPOSITORY, run

COMMANDS = {
    "crash": ("--kills", 12, "--hits", 0, "--renames", 2),
    "signals": ("--epochs", 5, "--starts", 0),
    "fuzz": ("--cases", 25, "--seed", 1),
}


def begin(submit, tmp_path_factory) -> None:
    """Start the attacks."""
    for name in COMMANDS:
        submit(name, attack, name, tmp_path_factory.mktemp(name))


def attack(name, folder):
    """Run an attack in an empty folder."""
    return run(sys.executable, REPOSITORY / "tests" / f"{name}.py", folder, *COMMANDS[name])


def test_runs_at_once_succeed_and_killed_runs_end_with_the_same_bytes(background, tmp_path):
    process = background("crash", attack, "crash", tmp_path).result()
    assert process.returncode == 0, process.stdout + process.stderr
    assert "eight processes at once: all succeeded, one set of features" in process.stdout
    assert "no results of two runs" in process.stdout
    assert "all runs ended with the bytes of the uninterrupted run" in process.stdout


def test_several_signals_cost_at_most_one_epoch(background, tmp_path):
    process = background("signals", attack, "signals", tmp_path).result()
    assert process.returncode == 0, process.stdout + process.stderr
    assert "5 stops during epochs: at most one epoch lost, the uninterrupted run's network" in process.stdout


def test_broken_files_give_no_traceback_and_no_hang(background, tmp_path):
    process = background("fuzz", attack, "fuzz", tmp_path).result()
    assert process.returncode == 0, process.stdout + process.stderr
