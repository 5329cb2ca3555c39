#!/usr/bin/env python3
"""Compare a run of the demo with the figures that the reference (v2.0.1) wrote for the same clips.

usage: python tests/demo/compare.py DIRECTORY

DIRECTORY is the one given to tools/quickstart.sh; it may have some of the machine types. expected/ holds the
reference's files as it wrote them on an AMD Zen 4 (seven machine types, 40 epochs, seed 13711); its pickled gamma
parameters are in score_distributions.json, which only tests/test_quickstart.py reads. Tables are compared by row and
column name: the order of the reference's columns varies.
"""

import csv
import hashlib
import math
import sys
from pathlib import Path

EXPECTED = Path(__file__).resolve().parent / "expected"
CLIPS = {  # SHA-256 of each machine type's names and bytes, see digest
    "ToyCar": "e5ad90513fd02406dd080dbad8d81c7fa373feb5c9ae3e1aa1be7805114f7c74",
    "ToyTrain": "bca1a3d9790f9f15e8a8c18494d76cedb1d9b2d0012951681d87077b5ce127e0",
    "fan": "9c736dca73b78a58357ffc69aeb40a06dbf15b024a340aba25638fddce0fd237",
    "gearbox": "8a25ce1a3bd416144ed85f32f372879cca0159782ecce8276e0fea5f95fa43ac",
    "bearing": "7a3dbaccf310f0fcdd521971a3dacb2bde1d5290dac459702acc9c5081b9ae2c",
    "slider": "138ecdf9882bec2d6a25a55c331d078a56f78febd09dcdc2868551370c14823b",
    "valve": "6ef7b591a4f34254a2136e3c4a257b57d1f467fe184e3c9cf6b51d85af011c8d",
}
KINDS = {  # relative tolerance, by kind: sums of float64 (MAHALA: the reference's in float32) may round differently
    "losses": 0.0,
    "MSE scores": 0.0,
    "MAHALA scores": 1e-6,
    "decisions": 0.0,
    "metrics": 1e-12,
}


def clips_folder(demo: Path, machine_type: str) -> Path:
    """Return the folder of a machine type's clips."""
    return demo / "data/dcase2023t2/dev_data/raw" / machine_type


def digest(folder: Path) -> str:
    """Return the SHA-256 of all clips' paths below a folder, each followed by the clip's bytes, in path order."""
    sha = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.wav")):
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
    """Return the difference of each of the reference's files from the demo's file of the same name.

    Files of machine types without clips are left out, and the summaries, if there are any such machine types.
    """
    absent = [name for name in CLIPS if not clips_folder(demo, name).is_dir()]
    paths = sorted(path.relative_to(EXPECTED) for path in EXPECTED.rglob("*.csv"))
    left_out = [f"DCASE2023T2{name}_" for name in absent] + ["DCASE2023T2_auc"] * bool(absent)
    paths = [path for path in paths if not any(part in str(path) for part in left_out)]
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
    folders = {name: clips_folder(demo, name) for name in CLIPS}
    is_same = all(digest(folder) == CLIPS[name] for name, folder in folders.items() if folder.is_dir())
    clips = "these clips" if is_same else "its clips, which are not these"
    text = f"the reference's figures for {clips}: {n_agreeing} of {len(compared)} files agree ({details})"
    if n_agreeing < len(compared):
        text += (
            ". They were made on an AMD processor with glibc 2.36; others round otherwise, which training amplifies."
        )
    return text


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/demo/compare.py DIRECTORY")
    print(verdict(Path(sys.argv[1])))
