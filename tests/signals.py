#!/usr/bin/env python3
"""Send stop signals, one to five at most 20 ms apart, to a training run, and to commands that are starting.

    python tests/signals.py [--epochs 200] [--starts 100] [--seed 0] DIRECTORY

During the epochs: the run ends with the status of one of the signals, has lost at most one finished epoch, and resumes;
at the end its network is that of an uninterrupted run. During the imports: no traceback, the status of one of the
signals, and the same command then succeeds.
"""

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import common  # noqa: F401 (before NumPy)

import numpy as np
from crash import CONTEXT, LIBRARIES, OUTPUT, Stage, start
from synthetic import REPOSITORY, checkpoint_path, machine_folder, network_path, small_run, write_machine

from networks.checkpoint import TrainingState, load_tensors
from networks.training import Epoch
from runtime.command import STOP_SIGNALS

IMPORTS = 1.5  # seconds until a command's work begins
ENDLESS = ["--epochs", "1000000", "--checkpoint_interval", "1000000", "--train_only", "--restart"]
COMMANDS = (
    ("01_train.sh", "-d", "fan"),
    ("01_train.sh", "-d", "fan", "valve", "-j", "2"),
    ("02a_test.sh", "-d", "fan"),
    ("03_summarize_results.sh", "DCASE2023T2", "-d"),
)


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


def check_status(what: object, status: int, numbers: list[int], text: str) -> None:
    """Fail unless a command ended by one of the signals, or had ended before, and without a traceback."""
    is_right = status in (0, *(128 + number for number in numbers), *(-number for number in numbers))
    if not is_right or "Traceback" in text or "unexpected" in text:
        raise AssertionError(f"{what}: status {status} after the signals {numbers}: {text[-2000:]}")


def attack_epochs(root: Path, n: int, rng: np.random.Generator) -> Counter:
    """Stop a training run `n` times during its epochs; return how often how many epochs were lost."""
    write_machine(machine_folder(root / "data"))
    words, finished, lost = small_run(root), CONTEXT.Value("i", 0), Counter()
    end_epoch = TrainingState.end_epoch

    def counted(state: TrainingState, epoch: Epoch) -> None:
        finished.value = len(state.epochs) + 1
        end_epoch(state, epoch)

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
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"the run did not end on {numbers}")
        check_status("training", process.exitcode, numbers, "")
        path = checkpoint_path(root)
        saved = len(load_tensors(path)["epochs"]) if path.is_file() else 0
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


def attack_starts(root: Path, n: int, rng: np.random.Generator) -> Counter:
    """Stop commands `n` times while they start; return their exit statuses."""
    for machine_type in ("fan", "valve"):
        write_machine(machine_folder(root / "data", machine_type))
    environment = {**os.environ, "PYTHON": sys.executable}
    statuses: Counter = Counter()

    def begin(command: tuple[str, ...]) -> subprocess.Popen:
        options = small_run(root)[3:] if "-d" in command[1:2] else ["--result_directory", str(root / "results")]
        words, pipe = ["bash", *command, *options], subprocess.PIPE
        return subprocess.Popen(words, cwd=REPOSITORY, env=environment, stdout=pipe, stderr=pipe, text=True)

    for command in COMMANDS:
        process = begin(command)
        if process.communicate(timeout=120) and process.returncode != 0:
            raise AssertionError(f"{command}, not interrupted: status {process.returncode}")
    for number in range(n):
        command = COMMANDS[number % len(COMMANDS)]
        process = begin(command)
        time.sleep(rng.uniform(0.02, 0.35 if number // len(COMMANDS) % 2 else IMPORTS))
        numbers = send(rng, process.pid)
        _, err = process.communicate(timeout=60)
        check_status(command, process.returncode, numbers, err)
        statuses[process.returncode] += 1
    return statuses


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Send stop signals to runs and to commands that are starting.")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="an empty folder to work in")
    parser.add_argument("--epochs", type=int, default=200, help="stops during epochs [default: 200]")
    parser.add_argument("--starts", type=int, default=100, help="stops of commands that are starting [default: 100]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments and signals [default: 0]")
    args = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what is ignored, as under nohup, stays ignored
    for name in LIBRARIES:
        importlib.import_module(name)
    folder, rng = args.directory.resolve(), np.random.default_rng(args.seed)
    lost = attack_epochs(folder / "epochs", args.epochs, rng) if args.epochs else Counter()
    print(f"{lost.total()} stops during epochs: at most one epoch lost, the uninterrupted run's network: {dict(lost)}")
    statuses = attack_starts(folder / "starts", args.starts, rng) if args.starts else Counter()
    print(f"{statuses.total()} stops of commands that are starting: no traceback, the right status: {dict(statuses)}")
    OUTPUT.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
