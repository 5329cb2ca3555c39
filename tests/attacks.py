#!/usr/bin/env python3
"""Attacks on runs: several at once, kills at any moment, signals during epochs, broken files.

    python tests/attacks.py [--kills 60] [--stops 200] [--cases 300] [--seed 0] DIRECTORY

Eight at once: mixed jobs on one data folder without features; all must succeed, and make one set of features.

Kills: a stage's process (features and training, test, tables) gets SIGKILL, SIGTERM or SIGINT at a moment drawn
uniformly over its uninterrupted duration, or ends earlier. A killed stage starts again with --restart, and may be
killed again, until it ends by itself. After each kill, every file with a final name must be absent or that of the
uninterrupted run; at the end all must be there. This is repeated until there were enough kills.

Stops: a training run gets one to five stop signals, at most 20 ms apart, during its epochs. It ends with the status of
one of them, has lost at most one finished epoch, and resumes; at the end its network is that of an uninterrupted run.

Cases of each kind: the header of a test clip, a --config file, or a CSV of scores is broken: bits are flipped, bytes
deleted, doubled or inserted. Then a test, or making the tables, is `refused` in one sentence, gives the `same scores`,
is `read otherwise` (a valid file with other samples, parameters or scores; the latter are reported), or is `silent`.

A check that fails ends the program with status 1 and leaves the files in DIRECTORY.
"""

import argparse
import contextlib
import importlib
import io
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from common import read_values

import numpy as np
import soundfile
from synthetic import (
    REPOSITORY,
    call,
    checkpoint_path,
    directories,
    machine_folder,
    network_path,
    small_run,
    write_machine,
)

import train
from networks.checkpoint import TrainingState
from networks.tensor_files import load_tensors
from networks.training import Epoch
from runtime.command import STOP_SIGNALS
from tools.results import __main__ as summarize_results

LIBRARIES = (  # what the stages import, some of it in functions
    "datasets.run_data networks.trained tools.results.plots tools.results.write_results librosa scipy.stats "
    "sklearn.metrics threadpoolctl tqdm"
).split()
CONTEXT = multiprocessing.get_context("fork")  # the libraries are imported once; without them a run takes a second


# --- processes --------------------------------------------------------------------------------------------------------


def start(output: Path, *words: object, main: Callable = train.main) -> multiprocessing.Process:
    """Call a command in a separate process, which appends its output to a file."""

    def run() -> None:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(file, number)
        sys.exit(call(main, *words))

    process = CONTEXT.Process(target=run)
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the program sets its own
    process.start()
    signal.signal(signal.SIGINT, handler)
    return process


def finish(process: multiprocessing.Process) -> None:
    """Wait for a process, which must succeed."""
    process.join(timeout=120)
    assert process.exitcode == 0, f"a process ended with status {process.exitcode}"


def run_eight(root: Path) -> None:
    """Train a network twice, two others, and one that is also tested; test another three times, all at once."""
    write_machine(machine_folder(root / "data"))
    words = [root / "output", *small_run(root), "--epochs", 1, "--batch_size", 64, "--export_dir"]
    finish(start(*words, "before", "--train_only"))
    shutil.rmtree(root / "data/dcase2023t2/dev_data/processed")
    jobs = [
        *[["same", "--train_only"]] * 2,
        *[["other", "--train_only", "--seed", seed] for seed in (1, 2)],
        *[["before", "--test_only", "--score", score] for score in ("MSE", "MAHALA", "MSE")],
        ["both"],
    ]
    for process in [start(*words, *job) for job in jobs]:
        finish(process)
    made = sorted(path.name.partition("_")[0] for path in (root / "data").rglob("*.npy"))
    assert made == ["test", "train"], f"features were computed for {made}"
    networks = {path.read_bytes() for path in root.glob("models/saved_model/*/*_seed13711.pth")}
    assert len(networks) == 1, "the same training gave different networks"
    assert not list(root.rglob("*.partial")), "a temporary file was left behind"
    print("eight processes at once: all succeeded, one set of features", flush=True)


def final_files(root: Path) -> dict[str, bytes]:
    """Return all files of a run that are the same each time: not records, which hold times."""
    paths = [path for folder in ("models/saved_model", "logs", "results") for path in (root / folder).rglob("*.*")]
    kept = [path for path in paths if path.is_file() and path.suffix not in (".json", ".partial")]
    return {str(path.relative_to(root)): path.read_bytes() for path in kept}


def kill_runs(directory: Path, n_kills: int, rng: np.random.Generator) -> None:
    """Kill runs until there were enough kills."""

    def stages(root: Path) -> dict[str, Callable[[], multiprocessing.Process]]:
        words = [*small_run(root), "--epochs", 6, "--checkpoint_interval", 2, "--batch_size", 64, "-tag", "id(0_)"]
        tables = ("DCASE2023T2", "-d", "--result_directory", root / "results")
        return {
            "training": lambda: start(directory / "output", *words, "--train_only", "--restart"),
            "test": lambda: start(directory / "output", *words, "--test_only"),
            "tables": lambda: start(directory / "output", *tables, main=summarize_results.main),
        }

    uninterrupted, root, seconds = directory / "uninterrupted", directory / "run", {}
    for folder in (uninterrupted, directory / "clips"):
        write_machine(machine_folder(folder / "data"), n_train=12)
    for name, stage in stages(uninterrupted).items():
        began = time.monotonic()
        finish(stage())
        seconds[name] = time.monotonic() - began
    expected, kills = final_files(uninterrupted), Counter()
    signals = itertools.cycle((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    while kills.total() < n_kills:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(directory / "clips", root)
        for name, stage in stages(root).items():
            status, limit = None, seconds[name]
            while status != 0:
                number, process = next(signals), stage()
                process.join(timeout=rng.uniform(0, limit))
                limit *= 1.2  # a machine that has become busy needs longer
                if process.exitcode is None:
                    os.kill(process.pid, number)
                    process.join(timeout=60)
                status = process.exitcode
                # -number: SIGKILL, or before the program began
                assert status in (0, -number, 128 + number), f"{name}: status {status} after signal {number}"
                kills[name] += status != 0
                wrong = final_files(root).items() - expected.items()
                assert not wrong, f"{name}: other than in the uninterrupted run: {sorted(dict(wrong))}"
        missing = expected.keys() - final_files(root).keys()
        left = [path for path in root.rglob("*.partial") if "checkpoint" not in path.parts]
        assert not missing and not left, f"missing: {missing}; left behind: {left}"
    print(f"{kills.total()} kills, all runs ended with the bytes of the uninterrupted run: {dict(kills)}", flush=True)


def stop_epochs(root: Path, n_stops: int, rng: np.random.Generator) -> None:
    """Stop a training run by signals again and again; it must lose one epoch at most."""
    write_machine(machine_folder(root / "data"))
    words, finished, lost = [root / "output", *small_run(root), "--train_only"], CONTEXT.Value("i", 0), Counter()
    end_epoch = TrainingState.end_epoch

    def counted(state: TrainingState, epoch: Epoch, folder: Path) -> None:
        finished.value = len(state.epochs) + 1
        end_epoch(state, epoch, folder)

    TrainingState.end_epoch = counted
    for _ in range(n_stops):
        before = finished.value
        process = start(*words, "--restart", "--epochs", 10**6, "--checkpoint_interval", 10**6)
        while finished.value <= before and process.is_alive():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        done, numbers = finished.value, rng.choice(STOP_SIGNALS, rng.integers(1, 6)).tolist()
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
            time.sleep(rng.uniform(0, 0.02))
        process.join(timeout=60)
        assert process.exitcode in [128 + number for number in numbers], f"{process.exitcode} after signals {numbers}"
        path = checkpoint_path(root)  # none after a stop at the end of the first epoch
        finished.value = len(load_tensors(path)["epochs"]) if path.exists() else 0
        assert finished.value >= done - 1, f"{done - finished.value} epochs were lost after signals {numbers}"
        lost[max(0, done - finished.value)] += 1
    TrainingState.end_epoch = end_epoch
    words += ["--epochs", finished.value + 1]
    finish(start(*words, "--restart"))
    finish(start(*words, "--model_directory", root / "uninterrupted/models"))
    same = network_path(root).read_bytes() == network_path(root / "uninterrupted").read_bytes()
    assert same, f"the network of {n_stops} resumptions is not that of an uninterrupted run"
    print(f"{n_stops} stops during epochs: at most one epoch lost, the uninterrupted run's network: {dict(lost)}")


# --- broken files -----------------------------------------------------------------------------------------------------

LIMIT = 60  # seconds for a case
FORMATS = ["WAV PCM_16", "WAV PCM_24", "WAV FLOAT", "WAVEX PCM_16", "AIFF PCM_16", "FLAC PCM_16"]  # libsndfile's names
PARTS = {
    "audio headers": [b"\xff" * 4, bytes(4), b"data", b"fact"],
    "YAML": [
        *b"[ { ] ' \" ~ & * | > ! null -1 .nan 1e999 !!python/object/apply:os.system".split(),
        b"\t",
        b": :",
        b"\0",
    ],
    "CSV": [*b"\" ' , ,,,, ; nan inf -inf 1e999 00 -1 1_0 0x1".split(), b"\0", b"\n", b"\r", "\ufeffé٣".encode()],
}


def mutate(rng: np.random.Generator, content: bytes, parts: list[bytes]) -> bytes:
    """Change a file in one or two places: flip a bit, delete, double or insert bytes, or cut the rest off."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 3)):
        at = int(rng.integers(0, len(data) + 1))
        end = at + int(rng.integers(1, 40))
        match rng.integers(0, 8):
            case 0:
                del data[at:end]
            case 1:
                data[at:at] = data[at:end]
            case 2 | 3:
                data[at:at] = parts[rng.integers(0, len(parts))]
            case 4:
                del data[at:]
            case _:
                data[at - 1] ^= 1 << rng.integers(0, 8)
    return bytes(data)


def tried(main: Callable, *words: object) -> tuple[int, str]:
    """Run a command in this process; return its status and output. It must report a failure in a sentence."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = call(main, *words)
    text = output.getvalue()
    said = "Traceback" not in text and ("error: " in text or not status)
    assert status in (0, 1, 2) and said, f"status {status}: {text}"
    return status, text


def break_files(root: Path, n_cases: int, seed: int) -> None:
    """Test on broken clips and parameters, and make tables from broken scores; none of them may be silent."""
    write_machine(machine_folder(root / "data"), n_test=1)
    words = [*small_run(root), "--use_ids", 0, "-tag", "id(0_)"]
    tables = (summarize_results.main, "DCASE2023T2", "-d", *directories(root)[:6])
    assert tried(train.main, *words)[0] == 0
    (scores,), clip = root.rglob("anomaly_score*.csv"), min(machine_folder(root / "data").glob("test/*"))
    config, defaults = root / "config.yaml", REPOSITORY / "baseline.yaml"
    whole = {path: path.read_bytes() for path in (scores, clip)}
    (samples, rate), (_, expected) = soundfile.read(clip, dtype="int16"), tried(*tables)

    def test(is_other: Callable[[], bool], *further: object) -> str:
        status, _ = tried(train.main, *words, "--test_only", *further)
        if status or scores.read_bytes() == whole[scores]:
            return "refused" if status else "same scores"
        return "read otherwise" if is_other() else "silent"

    def audio_headers(rng: np.random.Generator) -> str:
        kind, subtype = FORMATS[rng.integers(0, len(FORMATS))].split()
        soundfile.write(clip, samples, rate, format=kind, subtype=subtype)
        good = clip.read_bytes()
        clip.write_bytes(mutate(rng, good[:44], PARTS["audio headers"]) + good[44:])
        return test(lambda: not np.array_equal(soundfile.read(clip, dtype="float32")[0], samples / 32768))

    def yaml(rng: np.random.Generator) -> str:
        config.write_bytes(mutate(rng, defaults.read_bytes(), PARTS["YAML"]))
        return test(lambda: read_values(config) != read_values(defaults), "--config", config)

    def csv(rng: np.random.Generator) -> str:
        scores.write_bytes(mutate(rng, whole[scores], PARTS["CSV"]))
        status, text = tried(*tables)
        if status or text == expected:
            return "refused" if status else "same scores"
        return "read otherwise" if f"{scores.name} changed since the test" in text else "silent"

    for kind, work in zip(PARTS, (audio_headers, yaml, csv), strict=True):
        ends: Counter[str] = Counter()
        for case in range(n_cases):
            signal.alarm(LIMIT)  # ends the program
            ends[work(np.random.default_rng([seed, case]))] += 1
            assert not ends["silent"], f"{kind}: case {case} of seed {seed} is silent"
            for path, content in whole.items():
                path.write_bytes(content)
        print(f"{kind}: {dict(ends)}", flush=True)
    signal.alarm(0)
    print("no traceback, no hang, no silent difference")


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Attack runs, and check what they end with.")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="an empty folder to work in")
    parser.add_argument("--kills", type=int, default=60, help="at least this many in total [default: 60]")
    parser.add_argument("--stops", type=int, default=200, help="stops during epochs [default: 200]")
    parser.add_argument("--cases", type=int, default=300, help="broken files of each kind [default: 300]")
    parser.add_argument("--seed", type=int, default=0, help="seed of moments, signals and cases [default: 0]")
    args = parser.parse_args()
    directory, rng = args.directory.resolve(), np.random.default_rng(args.seed)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what is ignored, as under nohup, stays ignored
    for name in LIBRARIES:
        importlib.import_module(name)
    run_eight(directory / "eight")
    kill_runs(directory / "kills", args.kills, rng)
    stop_epochs(directory / "stops", args.stops, rng)
    break_files(directory / "broken", args.cases, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
