"""The attacks of attacks.py on a small scale."""

import sys

from synthetic import REPOSITORY, run


def test_runs_at_once_kills_signals_and_broken_files_cost_at_most_one_epoch_and_no_digit(tmp_path):
    numbers = "--kills 3 --stops 3 --cases 4 --seed 1".split()
    process = run(sys.executable, REPOSITORY / "tests/attacks.py", *numbers, tmp_path)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "eight processes at once: all succeeded, one set of features" in process.stdout
    assert "all runs ended with the bytes of the uninterrupted run" in process.stdout
    assert "3 stops during epochs: at most one epoch lost, the uninterrupted run's network" in process.stdout
    assert "no traceback, no hang, no silent difference" in process.stdout
