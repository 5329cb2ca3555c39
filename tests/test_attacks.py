"""The attacks of crash.py, signals.py and fuzz.py on a small scale."""

from synthetic import python, run

ATTACKS = {"crash": ["--kills", "3"], "signals": ["--epochs", "3"], "fuzz": ["--cases", "4", "--seed", "1"]}


def test_runs_at_once_kills_signals_and_broken_files_cost_at_most_one_epoch_and_no_digit(tmp_path):
    """One after another, in a process that imports the libraries once."""
    lines = []
    for name, words in ATTACKS.items():
        (tmp_path / name).mkdir()
        lines.append(f"import {name}; sys.argv = {['x', str(tmp_path / name), *words]!r}; assert {name}.main() == 0")
    process = run(*python(*lines))
    assert process.returncode == 0, process.stdout + process.stderr
    assert "eight processes at once: all succeeded, one set of features" in process.stdout
    assert "all runs ended with the bytes of the uninterrupted run" in process.stdout
    assert "3 stops during epochs: at most one epoch lost, the uninterrupted run's network" in process.stdout
    assert "no traceback, no hang, no silent difference" in process.stdout
