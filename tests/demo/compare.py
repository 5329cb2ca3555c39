#!/usr/bin/env python3
"""Compare a run of the demo with the figures that the reference (v2.0.1) wrote for the same clips.

usage: python tests/demo/compare.py DIRECTORY

DIRECTORY is the one given to tools/quickstart.sh. expected/ holds the reference's files as it wrote them on an AMD Zen
4 (seven machine types, 40 epochs, seed 13711); its pickled gamma parameters are in score_distributions.json, which only
tests/test_quickstart.py reads. Tables are compared by row and column name: the order of the reference's columns varies.
"""

import csv
import hashlib
import math
import sys
from pathlib import Path

EXPECTED = Path(__file__).resolve().parent / "expected"
CLIPS = "b278b7b04dae4d5ffeb39905afe4bb6d1f645f04029c51a02b548689c06f1cdf"  # SHA-256 of names and bytes, see digest
KINDS = {  # relative tolerance, by kind: sums of float64 (MAHALA: the reference's in float32) may round differently
    "losses": 0.0,
    "MSE scores": 0.0,
    "MAHALA scores": 1e-6,
    "decisions": 0.0,
    "metrics": 1e-12,
}


def digest(data: Path) -> str:
    """Return the SHA-256 of all clips' paths below `data`, each followed by the clip's bytes, in path order."""
    sha = hashlib.sha256()
    for name, path in sorted((path.relative_to(data).as_posix(), path) for path in data.rglob("*.wav")):
        sha.update(name.encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()


def kind_of(path: Path) -> str:
    """Return a file's kind, a key of KINDS."""
    if path.name.startswith("anomaly_score"):
        return "MAHALA scores" if path.parent.name == "baseline_MAHALA" else "MSE scores"
    return {"log": "losses", "decision": "decisions"}.get(path.stem.partition("_")[0], "metrics")


def cells(path: Path) -> dict[tuple[int, str], str]:
    """Return a CSV file's cells by row number and column name; {} if there is no such file."""
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []
    if path.name.startswith(("anomaly_score", "decision_result")):
        rows.insert(0, ["clip", "value"])
    return {(i, name): cell for i, row in enumerate(rows) if row for name, cell in zip(rows[0], row, strict=True) if i}


def difference(ours: dict, expected: dict) -> float:
    """Return the largest relative difference of two files' cells; infinity if rows, columns or words differ."""
    try:
        pairs = [(float(ours[key]), float(text)) for key, text in expected.items() if ours[key] != text]
    except (KeyError, ValueError):
        return math.inf
    largest = max((abs(a - b) / max(abs(a), abs(b)) for a, b in pairs), default=0.0)
    return largest if ours.keys() == expected.keys() and not math.isnan(largest) else math.inf


def differences(demo: Path) -> dict[Path, float]:
    """Return the difference of each of the reference's files from the demo's file of the same name."""
    paths = sorted(path.relative_to(EXPECTED) for path in EXPECTED.rglob("*.csv"))
    return {path: difference(cells(demo / path), cells(EXPECTED / path)) for path in paths}


def closeness(largest: float) -> str:
    """Describe the largest difference of files of a kind."""
    return "equal" if largest == 0 else f"within {largest:.1e}" if largest < math.inf else "missing or of other rows"


def verdict(demo: Path) -> str:
    """Return the line that says how many files agree, how closely, and why others do not."""
    compared = differences(demo)
    n_agreeing = sum(value <= KINDS[kind_of(path)] for path, value in compared.items())
    largest = {kind: max(value for path, value in compared.items() if kind_of(path) == kind) for kind in KINDS}
    details = ", ".join(f"{kind} {closeness(value)}" for kind, value in largest.items())
    clips = "these clips" if digest(demo / "data") == CLIPS else "its clips, which are not these"
    text = f"the reference's figures for {clips}: {n_agreeing} of {len(compared)} files agree ({details})"
    if n_agreeing < len(compared):
        text += (
            ". They were made on an AMD processor; others add float32 sums in another order, which training amplifies."
        )
    return text


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/demo/compare.py DIRECTORY")
    print(verdict(Path(sys.argv[1])))
