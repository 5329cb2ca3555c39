#!/usr/bin/env python3
"""Eight processes at once; then kill the stages of a run at random moments, resume, and compare the final bytes.

    python tests/crash.py [--kills 60] [--hits 3] [--renames 1000] [--seed 0] DIRECTORY

The eight: mixed jobs on one data folder without features; all must succeed, and make one set of features.
A stage's process (features and training, test, tables) gets SIGKILL, SIGTERM or SIGINT at a moment drawn uniformly
over its uninterrupted duration, or ends earlier. A killed stage starts again with --restart, and may be killed again,
until it ends by itself. After each kill, every file with a final name must be absent or that of the uninterrupted run;
at the end all must be there. This is repeated until there were enough kills, in total and in each phase.

Last, each stage is repeated over the files of an earlier run with another learning rate, and killed at each of its
renames: what is tested or summarized then is the earlier run, the later one, or is refused or reported as changed.
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
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import common  # noqa: F401 (before NumPy)

import numpy as np
from synthetic import directories, machine_folder, write_machine

import train
from runtime.progress import Stopwatch
from tools.results import __main__ as summarize_results

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TRAINING = ("begin", "features", "set-up", "epochs", "covariances", "model write", "end")
LIBRARIES = (  # what the stages import, some of it in functions
    *(
        "datasets.run_data",
        "networks.trained",
        "networks.training",
        "tools.results.plots",
        "tools.results.write_results",
    ),
    *("librosa", "soundfile", "scipy.stats", "sklearn.metrics", "fasteners", "threadpoolctl", "tqdm"),
)
PHASES = ("features", "epochs", "covariances", "model write", "test", "tables")  # that must be hit
EPOCHS = 12
OUTPUT = Path(tempfile.gettempdir()) / f"crash_output_{os.getpid()}.txt"  # of all processes, kept if a check fails
RUN = "DCASE2023T2-AE_DCASE2023T2fan_id(0_)_seed13711"
DEAD = 137  # the exit status of a process that died at a rename
CONTEXT = multiprocessing.get_context("fork")  # the libraries are imported once; without them a run takes a second


@dataclass(frozen=True)
class Stage:
    """A command line of the run: `name` is its phase, if it has only one."""

    name: str
    words: list[str]


def stages(root: Path, *further: str) -> list[Stage]:
    """Return the stages of a run, in order; a run with further options does not resume."""
    options = ["--dataset", "DCASE2023T2fan", "-d", "--epochs", str(EPOCHS), "--checkpoint_interval", "3"]
    options += ["--batch_size", "64", "-tag", "id(0_)", *directories(root)]
    return [
        Stage("training", [*options, "--train_only", *(further or ["--restart"])]),
        Stage("test", [*options, "--test_only"]),
        Stage("tables", ["DCASE2023T2", "-d", "--result_directory", str(root / "results")]),
    ]


def start(stage: Stage, phase: Synchronized, n_renames: int | None = None) -> multiprocessing.Process:
    """Start a stage in a separate process, which counts its finished phases.

    It dies, as by SIGKILL, at the rename after `n_renames`; None: at none.
    """
    process = CONTEXT.Process(target=_run, args=(stage, phase, n_renames))
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the program sets its own
    process.start()
    signal.signal(signal.SIGINT, handler)
    return process


def _run(stage: Stage, phase: Synchronized, n_renames: int | None) -> None:
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    lap = Stopwatch.lap

    def counted_lap(watch: Stopwatch, name: str) -> None:
        lap(watch, name)
        phase.value += 1

    Stopwatch.lap = counted_lap
    if n_renames is not None:
        left, rename = iter(range(n_renames)), os.replace
        os.replace = lambda *paths: rename(*paths) if next(left, None) is not None else os._exit(DEAD)
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


def uninterrupted(root: Path) -> tuple[dict[str, bytes], dict[str, float]]:
    """Run all stages; return the final files, and the seconds of each stage."""
    seconds = {}
    for stage in stages(root):
        began = time.monotonic()
        finish(stage)
        seconds[stage.name] = time.monotonic() - began
    return final_files(root), seconds


def attack(stage: Stage, seconds: float, number: int) -> tuple[int, str]:
    """Start a stage and send it a signal after some seconds; return its exit status and the phase that was hit."""
    phase = CONTEXT.Value("i", 0)
    process = start(stage, phase)
    process.join(timeout=seconds)
    hit = TRAINING[phase.value] if stage.name == "training" else stage.name
    if process.exitcode is None:
        os.kill(process.pid, number)
        process.join(timeout=60)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"{stage.name} did not end on signal {number}")
    return process.exitcode, hit


def run_eight(root: Path) -> None:
    """Train a network twice, two others, and one that is also tested; test another three times, all at once."""
    write_machine(machine_folder(root / "data"), n_train=12, n_test=4, seconds=1.0)
    words = ["--dataset", "DCASE2023T2fan", "-d", "--batch_size", "64", "--epochs", "3", *directories(root)]
    jobs = [
        *[["--train_only", "--export_dir", "same"]] * 2,
        *[["--train_only", "--export_dir", "other", "--seed", str(seed)] for seed in (1, 2)],
        *[["--test_only", "--export_dir", "before", "--score", score] for score in ("MSE", "MAHALA", "MSE")],
        ["--export_dir", "both"],
    ]
    finish(Stage("training", [*words, "--train_only", "--export_dir", "before"]))
    shutil.rmtree(root / "data/dcase2023t2/dev_data/processed")
    processes = [start(Stage("training", [*words, *job]), CONTEXT.Value("i", 0)) for job in jobs]
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


def crash(directory: Path, n_kills: int, n_hits: int, seed: int) -> Counter:
    """Kill runs until there were enough kills; return how many hit each phase."""
    rng = np.random.default_rng(seed)
    root = directory / "uninterrupted"
    write_machine(machine_folder(root / "data"), n_train=20, n_test=6, seconds=1.0)
    shutil.copytree(root / "data", directory / "clips")
    expected, seconds = uninterrupted(root)
    kills, root = Counter(), directory / "run"
    signals = itertools.cycle(SIGNALS)
    while kills.total() < n_kills or any(kills[phase] < n_hits for phase in PHASES):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(directory / "clips", root / "data")
        for stage in stages(root):
            status, limit = None, seconds[stage.name]
            while status != 0:
                number = next(signals)
                moment = rng.uniform(0, limit)
                limit *= 1.2  # a machine that has become busy needs longer
                status, hit = attack(stage, moment, number)
                if status != 0:
                    if status not in (-number, 128 + number):  # the first: by SIGKILL, or before the program began
                        raise AssertionError(f"{stage.name}, {hit}: status {status} after signal {number}")
                    kills[hit] += 1
                    print(f"{signal.Signals(number).name} after {moment:.2f} s of {stage.name}: {hit}", flush=True)
                check_files(root, expected)
        check_complete(root, expected)
    return kills


def kill_at_renames(directory: Path, n_most: int, rng: np.random.Generator) -> Counter:
    """Kill each stage at its renames, at `n_most` of them drawn at random, over the files of an earlier run."""
    root, kept, kills = directory / "renames", directory / "kept", Counter()
    write_machine(machine_folder(root / "data"))
    first, then = stages(root), [*stages(root, "--learning_rate", "0.01"), None]
    for number, stage in enumerate([*first, *then]):  # kept: what there is before each stage
        shutil.copytree(root, kept / str(number))
        if stage is not None:
            finish(stage)
    earlier, later = final_files(kept / "3"), final_files(kept / "6")
    for number, stage in enumerate(then[:-1]):
        for n_renames in itertools.count():
            if rng.uniform() > n_most / 30:
                continue
            shutil.rmtree(root)
            shutil.copytree(kept / str(3 + number), root)
            process = start(stage, CONTEXT.Value("i", 0), n_renames)
            process.join()
            if process.exitcode == 0:
                break
            if process.exitcode != DEAD:
                raise AssertionError(f"{stage.name} ended with status {process.exitcode} at rename {n_renames}")
            kills[stage.name] += 1
            for name, content in final_files(root).items():
                if content not in (earlier.get(name), later.get(name)):
                    raise AssertionError(f"{name} belongs to neither run after rename {n_renames} of {stage.name}")
            OUTPUT.write_text("")
            for further in first[1:] if stage.name == "training" else first[2:]:
                if finish(further, (0, 1)) != 0:
                    break  # the network is refused
            else:
                found = {name: content for name, content in final_files(root).items() if name.startswith("results/")}
                is_one = any(
                    all(content == run.get(name) for name, content in found.items()) for run in (earlier, later)
                )
                if not is_one and "changed since the test" not in OUTPUT.read_text():
                    raise AssertionError(f"results of two runs after rename {n_renames} of {stage.name}")
            for further in then[number:-1]:
                finish(further)
            if final_files(root) != later:
                raise AssertionError(f"the later run is not complete after rename {n_renames} of {stage.name}")
    return kills


def finish(stage: Stage, allowed: tuple[int, ...] = (0,)) -> int:
    """Run a stage, which must end with an allowed status, and return that."""
    process = start(stage, CONTEXT.Value("i", 0))
    process.join()
    if process.exitcode not in allowed:
        raise AssertionError(f"{stage.name} ended with status {process.exitcode}")
    return process.exitcode


def check_files(root: Path, expected: dict[str, bytes]) -> None:
    """Fail if a file with a final name is not that of the uninterrupted run."""
    for name, content in final_files(root).items():
        if content != expected.get(name):
            raise AssertionError(f"{name} is not that of the uninterrupted run")


def check_complete(root: Path, expected: dict[str, bytes]) -> None:
    """Fail if a file is missing, or a temporary one was left although its stage ended."""
    missing = set(expected) - set(final_files(root))
    if missing:
        raise AssertionError(f"missing: {missing}")
    left = [path for path in root.rglob("*.partial") if "checkpoint" not in path.parts]
    if left:
        raise AssertionError(f"left behind: {left}")


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Kill runs at random moments and compare what they end with.")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="an empty folder to work in")
    parser.add_argument("--kills", type=int, default=60, help="at least this many in total [default: 60]")
    parser.add_argument("--hits", type=int, default=3, help="at least this many in each phase [default: 3]")
    parser.add_argument("--renames", type=int, default=1000, help="about this many in each stage [default: all]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments [default: 0]")
    args = parser.parse_args()
    for name in LIBRARIES:
        importlib.import_module(name)
    try:
        run_eight(args.directory.resolve() / "eight")
        kills = crash(args.directory.resolve(), args.kills, args.hits, args.seed)
        at_renames = kill_at_renames(args.directory.resolve(), args.renames, np.random.default_rng(args.seed))
    except AssertionError as error:
        print(f"{error}; the end of {OUTPUT}:\n{OUTPUT.read_text()[-2000:]}", file=sys.stderr)
        return 1
    OUTPUT.unlink()
    print(f"{at_renames.total()} kills at renames, no results of two runs: {dict(at_renames)}")
    print(f"{kills.total()} kills, all runs ended with the bytes of the uninterrupted run: {dict(kills)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
