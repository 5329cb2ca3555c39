#!/usr/bin/env python3
"""Feed broken files to the commands: each is accepted, or reported in one sentence; none hangs, none changes a score.

    python tests/fuzz.py [--cases 2000] [--seed 0] [--kinds KIND ...] DIRECTORY

The cases are made from good files: bytes changed, deleted, doubled; parts inserted that have broken programs before. A
case of a run breaks one of its files (clips, features, checkpoint, network, thresholds, record), and then trains or
tests: if that ends with status 0, it must have given the scores and decisions of the unbroken run. Answers of servers:
fuzz_answers.py. The same seed makes the same cases; a case that fails stays in DIRECTORY.
"""

import argparse
import contextlib
import io
import signal
import sys
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from common import InputError, read_values

import numpy as np
from fuzz_answers import fuzz_answers
from fuzz_runs import fuzz_audio, fuzz_checkpoints, fuzz_features, fuzz_names, fuzz_networks
from mutations import call, mutate, nasty
from synthetic import REPOSITORY, machine_folder

from tools import rename_eval_wav
from tools.results import __main__ as summarize_results
from tools.results.files import read_result_table, write_result_table

LIMIT = 60  # seconds for a case
CHALLENGE = ("DCASE2023T2", "-d")


def fuzz_yaml(rng: np.random.Generator, folder: Path) -> str:
    """The parameters of a run."""
    path = folder / "baseline.yaml"
    path.write_bytes(mutate(rng, (REPOSITORY / "baseline.yaml").read_bytes(), nasty("yaml")))
    try:
        read_values(path)
    except InputError:
        return "refused"
    return "read"


def fuzz_csv(rng: np.random.Generator, folder: Path) -> str:
    """A result table, given to 03, or a label list, given to rename_eval_wav."""
    if rng.integers(0, 2):
        results = folder / "dev_data" / "baseline_MSE"
        path = results / "result_DCASE2023T2fan_test_seed13711_id(0_)_roc.csv"
        metrics = {"AUC (source)": 0.5, "AUC (target)": 0.25, "pAUC": 0.5, "pAUC (source)": 0.5, "pAUC (target)": 1.0}
        results.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        write_result_table(text, {0: metrics})
        path.write_bytes(mutate(rng, text.getvalue().encode(), nasty("csv")))
        with contextlib.suppress(InputError):
            read_result_table(path)
        status = call(summarize_results.main, *CHALLENGE, "--result_directory", folder)
    else:
        (machine_folder(folder, "bandsaw", split="eval_data") / "test").mkdir(parents=True, exist_ok=True)
        path = folder / "labels.csv"
        good = b"bandsaw\nsection_00_0000.wav,section_00_source_test_normal_0000_vel_5.wav\n" * 2
        path.write_bytes(mutate(rng, good, nasty("csv")))
        words = ("--dataset_parent_dir", folder, "--dataset_type", "DCASE2023T2", "--eval_data_list", path)
        status = call(rename_eval_wav.main, *words)
    return "refused" if status else "read"


KINDS = {
    "names": fuzz_names,
    "YAML": fuzz_yaml,
    "CSV": fuzz_csv,
    "audio headers": fuzz_audio,
    "features": fuzz_features,
    "networks": fuzz_networks,
    "checkpoints": fuzz_checkpoints,
    "server answers": fuzz_answers,
}


def fuzz(directory: Path, n_cases: int, seed: int, kinds: list[str]) -> dict[str, dict[str, int]]:
    """Run this many cases of each kind; return how they ended and how often."""

    def too_long(_number: int, _frame: object) -> None:
        raise AssertionError(f"a case takes more than {LIMIT} s")

    handler = signal.signal(signal.SIGALRM, too_long)
    done: dict[str, dict[str, int]] = {}
    for kind in kinds:
        folder = directory / kind
        folder.mkdir(parents=True)
        ends: Counter = Counter()
        for case in range(n_cases):
            signal.alarm(LIMIT)
            try:
                ends[KINDS[kind](np.random.default_rng([seed, case]), folder)] += 1
            except BaseException as error:
                raise AssertionError(f"{kind}, case {case} of seed {seed}, in {folder}: {error!r}") from error
            finally:
                signal.alarm(0)
        done[kind] = dict(ends)
        print(f"{kind}: {done[kind]}", flush=True)
    signal.signal(signal.SIGALRM, handler)
    return done


def main() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(description="Feed broken files to the commands.")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="an empty folder to work in")
    parser.add_argument("--cases", type=int, default=2000, help="cases of each kind [default: 2000]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases [default: 0]")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="[default: all]")
    args = parser.parse_args()
    fuzz(args.directory.resolve(), args.cases, args.seed, args.kinds)
    print("no traceback, no hang, no silent difference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
