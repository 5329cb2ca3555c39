#!/usr/bin/env python3
"""Send stop signals, one to five at most 20 ms apart, to a training run during its epochs.

    python tests/signals.py [--epochs 200] [--seed 0] DIRECTORY

The run ends with the status of one of the signals, has lost at most one finished epoch, and resumes; at the end its
network is that of an uninterrupted run.
"""

import argparse
import importlib
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import common  # noqa: F401 (before NumPy)

import numpy as np
from crash import CONTEXT, LIBRARIES, OUTPUT, Stage, start
from synthetic import checkpoint_path, machine_folder, network_path, small_run, write_machine

from networks.checkpoint import TrainingState
from networks.tensor_files import load_tensors
from networks.training import Epoch
from runtime.command import STOP_SIGNALS

ENDLESS = ["--epochs", "1000000", "--checkpoint_interval", "1000000", "--train_only", "--restart"]


def send(rng: np.random.Generator, process_id: int) -> list[int]:
    """Send a process one to five signals, 0 to 20 ms apart; return them."""
    numbers = [int(number) for number in rng.choice(STOP_SIGNALS, rng.integers(1, 6))]
    for number in numbers:
        try:
            os.kill(process_id, number)
        except ProcessLookupError:
            break
        time.sleep(rng.uniform(0, 0.02))
    return numbers


def attack(root: Path, n: int, rng: np.random.Generator) -> Counter:
    """Stop a training run `n` times; return how often how many epochs were lost."""
    write_machine(machine_folder(root / "data"))
    words, finished, lost = small_run(root), CONTEXT.Value("i", 0), Counter()
    end_epoch = TrainingState.end_epoch

    def counted(state: TrainingState, epoch: Epoch, folder: Path) -> None:
        finished.value = len(state.epochs) + 1
        end_epoch(state, epoch, folder)

    TrainingState.end_epoch = counted
    for _ in range(n):
        before = finished.value
        process = start(Stage("training", [*words, *ENDLESS]))
        while finished.value <= before and process.is_alive():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        done = finished.value
        numbers = send(rng, process.pid)
        process.join(timeout=60)
        if process.exitcode not in [128 + number for number in numbers]:
            process.kill()
            raise AssertionError(f"status {process.exitcode} after the signals {numbers}")
        path = checkpoint_path(root)
        saved = len(load_tensors(path)["epochs"]) if path.exists() else 0  # stopped at the end of the first epoch
        if saved < done - 1:
            raise AssertionError(f"{done - saved} epochs were lost after {numbers}")
        lost[max(0, done - saved)] += 1
        finished.value = saved
    for folder, further in ((root, ["--restart"]), (root / "uninterrupted", [])):
        words = [*small_run(folder), "--dataset_directory", str(root / "data"), "--epochs", str(saved + 1)]
        process = start(Stage("training", [*words, "--train_only", *further]))
        process.join()
    if network_path(root).read_bytes() != network_path(root / "uninterrupted").read_bytes():
        raise AssertionError(f"the network of {n} resumptions is not that of an uninterrupted run")
    return lost


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Send stop signals to training runs.")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="an empty folder to work in")
    parser.add_argument("--epochs", type=int, default=200, help="stops during epochs [default: 200]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments and signals [default: 0]")
    args = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what is ignored, as under nohup, stays ignored
    for name in LIBRARIES:
        importlib.import_module(name)
    lost = attack(args.directory.resolve(), args.epochs, np.random.default_rng(args.seed))
    print(f"{lost.total()} stops during epochs: at most one epoch lost, the uninterrupted run's network: {dict(lost)}")
    OUTPUT.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
