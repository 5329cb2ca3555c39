"""The result files of a test, written and read one by one. Formats are the challenge's and the reference's.

anomaly_score, decision_result: `<clip name>,<value>` lines without a header, in clip order; without a threshold,
decisions are empty. result: a line per section, then arithmetic mean and harmonic mean, then an empty line. log.csv: a
line per epoch. The functions that write take an open text file.

A test names its files by Run (networks/names.py); the challenge's names, and decision_result_... likewise, are

    2022 on     anomaly_score_<machine type>_section_<SS>_test.csv
    2021        anomaly_score_<machine type>_section_<SS>_source_test.csv and ..._target_test.csv
    2020        anomaly_score_<machine type>_id_<ID>.csv
"""

import contextlib
import csv
import hashlib
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from common import InputError

from datasets.catalogue import Challenge
from tools.results.metrics import DOMAINS, arithmetic_mean, harmonic_mean

MEANS = {"arithmetic mean": arithmetic_mean, "harmonic mean": harmonic_mean}  # the last rows of a result table
Key = tuple[str, int]  # machine type and section


def challenge_files(challenge: Challenge, machine_type: str, section: int) -> dict[str | None, tuple[str, str]]:
    """Return the challenge's names of a section's files (scores, decisions): in 2021 by domain, else under None."""
    start = f"{machine_type}_section_{section:02d}"
    ends: dict[str | None, str] = {None: f"{start}_test.csv"}
    if challenge.official_score == "2020":
        ends = {None: f"{machine_type}_id_{section:02d}.csv"}
    elif challenge.official_score == "2021":
        ends = {domain: f"{start}_{domain}_test.csv" for domain in DOMAINS}
    return {domain: (f"anomaly_score_{end}", f"decision_result_{end}") for domain, end in ends.items()}


# --- scores and decisions ---------------------------------------------------------------------------------------------


def write_clip_values(file: TextIO, names: Iterable[str], values: Iterable[object]) -> str:
    """Write a line for each clip: its name and its score (as Python prints a float) or decision (0, 1, or empty).

    Returns the SHA-256 of the text, for the test's record.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(names, values, strict=True))
    file.write(text.getvalue())
    return hashlib.sha256(text.getvalue().encode(errors="surrogateescape")).hexdigest()


def read_clip_values(path: Path, is_decision: bool = False) -> dict[str, float]:
    """Read a file of `<clip name>,<number>` lines, by clip name; a decision is 0, 1, or NaN if it is empty.

    A byte-order mark is skipped.
    """
    values: dict[str, float] = {}
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        if re.search(r"""\.wav["']?\s*;""", text, re.IGNORECASE):
            raise ValueError(
                "its columns are separated by semicolons: convert them to commas, and decimal commas to points"
            )
        for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), 1):
            if len(row) != 2:
                raise ValueError(f"line {number}: not `<clip name>,<value>`")
            name, cell = row
            if name in values:
                raise ValueError(f"{name[:60]}: more than once in the file")
            values[name] = _number(cell, number, is_decision)
        if not values:
            raise ValueError("it is empty")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be used: {error}; it takes `<clip name>,<number>` lines") from error
    return values


def _number(cell: str, line: int, is_decision: bool) -> float:
    """Return the number in a cell; NaN for an empty decision."""
    if is_decision and cell == "":
        return math.nan
    with contextlib.suppress(ValueError):
        value = float(cell)
        if value in (0, 1) if is_decision else math.isfinite(value):
            return value
    allowed = "a decision, 0 or 1" if is_decision else "a finite number"
    raise ValueError(f"{cell[:30]!r} in line {line}: not {allowed}")


# --- result tables and logs -------------------------------------------------------------------------------------------


def write_result_table(file: TextIO, metrics: Mapping[int, Mapping[str, float | None]]) -> None:
    """Write the metrics of each section, and their means over the sections."""
    columns = list(next(iter(metrics.values())))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["section", *columns])
    writer.writerows([f"{section:02d}", *values.values()] for section, values in metrics.items())
    for name, mean in MEANS.items():
        writer.writerow([name, *(mean([values[column] for values in metrics.values()]) for column in columns)])
    writer.writerow([])


def read_result_table(path: Path) -> dict[int, dict[str, float | None]]:
    """Read the sections' metrics from a result table, None where undefined; {} if there is no file."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            header, *rows = (row for row in csv.reader(file) if row)
        return {
            int(section): {
                name: float(value) if value else None for name, value in zip(header[1:], values, strict=True)
            }
            for section, *values in rows
            if section not in MEANS
        }
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a result table of a test ({error}); test again") from error


def write_log(file: TextIO, epochs: Sequence[Any]) -> None:
    """Write the losses of each epoch (networks.network.EpochLosses), a column for each field."""
    rows = [asdict(epoch) for epoch in epochs]
    rows = [row | row.pop("further") for row in rows]
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
