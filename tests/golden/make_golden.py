#!/usr/bin/env python3
"""Make the golden figures: two machine types, trained and tested by the scripts, from clips of integer arithmetic.

usage: python tests/golden/make_golden.py

Writes expected/ beside this file: log.csv, scores, decisions, result tables, thresholds and summary tables. Do so only
with a version that has passed the parity tests; the present figures come from one that reproduced every case of the
reference to the last digit (AMD Zen 4, instruction_set avx2, one thread).
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from synthetic import directories, machine_folder, script, write_machine

EXPECTED = HERE / "expected"
MACHINE_TYPES = ("fan", "valve")
KEPT = ("results/**/*.csv", "logs/**/log.csv", "thresholds.json")


def run_golden(root: Path) -> None:
    """Write the clips, then train two epochs, test both ways and summarise, all below `root`."""
    write_machine(machine_folder(root / "data", "fan"), n_train=9, n_test=3, seconds=1.0)
    write_machine(machine_folder(root / "data", "valve"), n_train=8, n_test=2, seconds=1.3)
    words = ["-d", *MACHINE_TYPES, "--epochs", 2, "--batch_size", 32, "--threads", 1, *directories(root)]
    summary = ("DCASE2023T2", "-d", "--result_directory", root / "results")
    for name, arguments in (
        ("01_train.sh", words),
        ("02a_test.sh", words),
        ("02b_test.sh", words),
        ("03_summarize_results.sh", summary),
    ):
        process = script(name, *arguments)
        if process.returncode != 0:
            raise RuntimeError(f"{name} failed:\n{process.stdout}{process.stderr}")
    scores = {path.stem: json.loads(path.read_text())["scores"] for path in sorted(root.glob("models/*/*/*.json"))}
    kept = {
        run: {name: {key: entry[key] for key in ("gamma", "clip_scores")} for name, entry in of_run.items()}
        for run, of_run in scores.items()
    }
    (root / "thresholds.json").write_text(f"{json.dumps(kept, indent=1)}\n")


def golden_files(root: Path) -> list[Path]:
    """Return the files that are compared, relative to `root`."""
    return sorted(path.relative_to(root) for pattern in KEPT for path in root.glob(pattern))


def main() -> None:
    """Make expected/ again."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run_golden(root)
        shutil.rmtree(EXPECTED, ignore_errors=True)
        for path in golden_files(root):
            (EXPECTED / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / path, EXPECTED / path)
    print(f"{len(golden_files(EXPECTED))} files in {EXPECTED}")


if __name__ == "__main__":
    main()
