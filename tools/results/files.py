"""The result files of a test: their columns, written and read. Formats are the challenge's and the reference's.

anomaly_score, decision_result: `<clip name>,<value>` lines without a header, in clip order; a decision that there is no
threshold for is empty. result: a line a section, then arithmetic mean and harmonic mean, then an empty line.
log.csv: a line an epoch. The functions that write take an open text file.
"""

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from common import InputError
from tools.results.metrics import arithmetic_mean, harmonic_mean

if TYPE_CHECKING:
    import pandas

ARITHMETIC, HARMONIC = "arithmetic mean", "harmonic mean"


def write_clip_values(file: TextIO, names: Iterable[str], values: Iterable[object]) -> str:
    """Write a line for each clip: its name and its score (as Python prints a float) or decision (0, 1, None: empty).

    Returns the SHA-256 of what was written, for the test's record.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(names, values, strict=True))
    file.write(text.getvalue())
    return hashlib.sha256(text.getvalue().encode(errors="surrogateescape")).hexdigest()


def read_clip_values(file: Traversable | Path, may_be_empty: bool = False) -> dict[str, float | None]:
    """Read `<clip name>,<number>` lines; None for an empty value, if there may be one. A byte-order mark is skipped."""
    values: dict[str, float | None] = {}
    try:
        text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
        for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), 1):
            if len(row) != 2:
                raise ValueError(f"line {number} has {len(row)} values instead of 2")
            if row[0] in values:
                raise ValueError(f"line {number} repeats the clip {row[0]}")
            value = None if may_be_empty and not row[1] else _number(row[1], number)
            values[row[0]] = value
        if not values:
            raise ValueError("it is empty")
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{file} cannot be used: {reason}; it takes `<clip name>,<number>` lines") from error
    return values


def _number(text: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"line {line}: {text[:40]!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"line {line}: {text} is not a finite number")
    return value


def write_result_table(file: TextIO, metrics: Mapping[int, Mapping[str, float | None]]) -> None:
    """Write the metrics of each section, and their means over the sections."""
    columns = list(next(iter(metrics.values())))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["section", *columns])
    writer.writerows([f"{section:02d}", *values.values()] for section, values in metrics.items())
    for name, mean in ((ARITHMETIC, arithmetic_mean), (HARMONIC, harmonic_mean)):
        writer.writerow([name, *(mean([values[column] for values in metrics.values()]) for column in columns)])
    writer.writerow([])


def read_result_table(path: Path) -> dict[int, dict[str, float | None]] | None:
    """Read the sections' metrics of a result table; None where there is no file."""
    if not path.is_file():
        return None
    try:
        header, *rows = _read_rows(path)
        return {
            int(row[0]): {
                name: float(value) if value else None for name, value in zip(header[1:], row[1:], strict=True)
            }
            for row in rows
            if row[0] not in (ARITHMETIC, HARMONIC)
        }
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a result table of a test ({error}); test again") from error


def write_log(file: TextIO, epochs: Sequence[Any]) -> None:
    """Write the losses of each epoch (networks.training.EpochLosses), a column for each field."""
    writer = csv.DictWriter(file, list(asdict(epochs[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in epochs)


def read_log(path: Path) -> list[dict[str, float]] | None:
    """Read the losses of each epoch; None where there is no file."""
    if not path.is_file():
        return None
    try:
        header, *rows = _read_rows(path)
        if not rows:
            raise ValueError("it has no epoch")
        return [{name: float(value) for name, value in zip(header, row, strict=True)} for row in rows]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a log of a training run ({error}); train again") from error


def write_table(file: TextIO, table: "pandas.DataFrame", index: bool = False) -> None:
    """Write a summary table."""
    table.to_csv(file, index=index, lineterminator="\n")


def _read_rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        return [row for row in csv.reader(file) if row]
