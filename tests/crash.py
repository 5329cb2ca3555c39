#!/usr/bin/env python3
"""Eight processes at once; then kill the stages of a run at random moments, resume, and compare the final bytes.

    python tests/crash.py [--kills 60] [--renames 1000] [--seed 0] DIRECTORY

The eight: mixed jobs on one data folder without features; all must succeed, and make one set of features.
A stage's process (features and training, test, tables) gets SIGKILL, SIGTERM or SIGINT at a moment drawn uniformly
over its uninterrupted duration, or ends earlier. A killed stage starts again with --restart, and may be killed again,
until it ends by itself. After each kill, every file with a final name must be absent or that of the uninterrupted run;
at the end all must be there. This is repeated until there were enough kills.
"""

import argparse
import importlib
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import common  # noqa: F401 (before NumPy)

import numpy as np
from synthetic import directories, machine_folder, write_machine

import train
from tools.results import __main__ as summarize_results

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LIBRARIES = (  # what the stages import, some of it in functions
    *(
        "datasets.run_data",
        "networks.trained",
        "networks.training",
        "tools.results.plots",
        "tools.results.write_results",
    ),
    *("librosa", "soundfile", "scipy.stats", "sklearn.metrics", "threadpoolctl", "tqdm"),
)
EPOCHS = 6
OUTPUT = Path(tempfile.gettempdir()) / f"crash_output_{os.getpid()}.txt"  # of all processes, kept if a check fails
RUN = "DCASE2023T2-AE_DCASE2023T2fan_id(0_)_seed13711"
CONTEXT = multiprocessing.get_context("fork")  # the libraries are imported once; without them a run takes a second


@dataclass(frozen=True)
class Stage:
    """A command line of the run."""

    name: str
    words: list[str]


def stages(root: Path) -> list[Stage]:
    """Return the stages of a run, in order."""
    options = ["--dataset", "DCASE2023T2fan", "-d", "--epochs", str(EPOCHS), "--checkpoint_interval", "2"]
    options += ["--batch_size", "64", "-tag", "id(0_)", *directories(root)]
    return [
        Stage("training", [*options, "--train_only", "--restart"]),
        Stage("test", [*options, "--test_only"]),
        Stage("tables", ["DCASE2023T2", "-d", "--result_directory", str(root / "results")]),
    ]


def start(stage: Stage) -> multiprocessing.Process:
    """Start a stage in a separate process."""
    process = CONTEXT.Process(target=_run, args=(stage,))
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the program sets its own
    process.start()
    signal.signal(signal.SIGINT, handler)
    return process


def _run(stage: Stage) -> None:
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    sys.argv = ["program", *stage.words]
    sys.exit(summarize_results.main() if stage.name == "tables" else train.main())


def final_files(root: Path) -> dict[str, bytes]:
    """Return all files of a run that are the same each time: all but checkpoints, records and features.

    The records of training and tests hold the time.
    """
    records = (f"{RUN}.json", "test_DCASE2023T2fan_")
    paths = [path for folder in ("models/saved_model", "logs", "results") for path in (root / folder).rglob("*")]
    kept = [path for path in paths if path.is_file() and not path.name.startswith((".", *records))]
    return {str(path.relative_to(root)): path.read_bytes() for path in kept}


def attack(stage: Stage, seconds: float, number: int) -> int:
    """Start a stage and send it a signal after some seconds; return its exit status."""
    process = start(stage)
    process.join(timeout=seconds)
    if process.exitcode is None:
        os.kill(process.pid, number)
        process.join(timeout=60)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"{stage.name} did not end on signal {number}")
    return process.exitcode


def run_eight(root: Path) -> None:
    """Train a network twice, two others, and one that is also tested; test another three times, all at once."""
    write_machine(machine_folder(root / "data"))
    words = ["--dataset", "DCASE2023T2fan", "-d", "--batch_size", "64", "--epochs", "1", *directories(root)]
    jobs = [
        *[["--train_only", "--export_dir", "same"]] * 2,
        *[["--train_only", "--export_dir", "other", "--seed", str(seed)] for seed in (1, 2)],
        *[["--test_only", "--export_dir", "before", "--score", score] for score in ("MSE", "MAHALA", "MSE")],
        ["--export_dir", "both"],
    ]
    finish(Stage("training", [*words, "--train_only", "--export_dir", "before"]))
    shutil.rmtree(root / "data/dcase2023t2/dev_data/processed")
    processes = [start(Stage("training", [*words, *job])) for job in jobs]
    for process, job in zip(processes, jobs, strict=True):
        process.join(timeout=120)
        if process.exitcode != 0:
            raise AssertionError(f"{job} ended with status {process.exitcode}")
    made = sorted(path.name.partition("_")[0] for path in (root / "data").rglob("*.npy"))
    if made != ["test", "train"]:
        raise AssertionError(f"features were computed for {made}")
    networks = {path.read_bytes() for path in root.glob("models/saved_model/*/*_seed13711.pth")}
    if len(networks) != 1:
        raise AssertionError("the same training gave different networks")
    if list(root.rglob("*.partial")):
        raise AssertionError("a temporary file was left behind")
    print("eight processes at once: all succeeded, one set of features", flush=True)


def crash(directory: Path, n_kills: int, seed: int) -> Counter:
    """Kill runs until there were enough kills; return how many hit each stage."""
    rng = np.random.default_rng(seed)
    root, seconds = directory / "uninterrupted", {}
    write_machine(machine_folder(root / "data"), n_train=12)
    shutil.copytree(root / "data", directory / "clips")
    for stage in stages(root):
        began = time.monotonic()
        finish(stage)
        seconds[stage.name] = time.monotonic() - began
    expected, kills, root = final_files(root), Counter(), directory / "run"
    signals = itertools.cycle(SIGNALS)
    while kills.total() < n_kills:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(directory / "clips", root / "data")
        for stage in stages(root):
            status, limit = None, seconds[stage.name]
            while status != 0:
                number, moment = next(signals), rng.uniform(0, limit)
                limit *= 1.2  # a machine that has become busy needs longer
                status = attack(stage, moment, number)
                if status not in (0, -number, 128 + number):  # -number: SIGKILL, or before the program began
                    raise AssertionError(f"{stage.name}: status {status} after signal {number} at {moment:.2f} s")
                kills[stage.name] += status != 0
                for name, content in final_files(root).items():
                    if content != expected.get(name):
                        raise AssertionError(f"{name} is not that of the uninterrupted run")
        left = [path for path in root.rglob("*.partial") if "checkpoint" not in path.parts]
        if final_files(root).keys() != expected.keys() or left:
            raise AssertionError(f"missing: {expected.keys() - final_files(root).keys()}; left behind: {left}")
    return kills


def finish(stage: Stage) -> None:
    """Run a stage, which must succeed."""
    process = start(stage)
    process.join()
    if process.exitcode != 0:
        raise AssertionError(f"{stage.name} ended with status {process.exitcode}")


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Kill runs at random moments and compare what they end with.")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="an empty folder to work in")
    parser.add_argument("--kills", type=int, default=60, help="at least this many in total [default: 60]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments [default: 0]")
    args = parser.parse_args()
    for name in LIBRARIES:
        importlib.import_module(name)
    try:
        run_eight(args.directory.resolve() / "eight")
        kills = crash(args.directory.resolve(), args.kills, args.seed)
    except AssertionError as error:
        print(f"{error}; the end of {OUTPUT}:\n{OUTPUT.read_text()[-2000:]}", file=sys.stderr)
        return 1
    OUTPUT.unlink()
    print(f"{kills.total()} kills, all runs ended with the bytes of the uninterrupted run: {dict(kills)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
