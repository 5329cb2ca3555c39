"""The result files of a test: their columns, written and read. Formats are the challenge's and the reference's.

anomaly_score, decision_result: `<clip name>,<value>` lines without a header, in clip order; a decision that there is no
threshold for is empty. result: a line a section, then arithmetic mean and harmonic mean, then an empty line.
log.csv: a line an epoch.
"""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from common import InputError, atomic_write
from tools.metrics import arithmetic_mean, harmonic_mean

if TYPE_CHECKING:
    import pandas

    from networks.engine import EpochLosses

ARITHMETIC, HARMONIC = "arithmetic mean", "harmonic mean"


def write_clip_values(path: Path, names: list[str], values: list) -> None:
    """Write a line for each clip: its name and its score (as Python prints a float) or decision (0, 1, None: empty)."""
    with atomic_write(path) as file:
        csv.writer(file, lineterminator="\n").writerows(zip(names, values, strict=True))


def write_result_table(path: Path, metrics: dict[int, dict[str, float | None]]) -> None:
    """Write the metrics of each section, and their means over the sections."""
    columns = list(next(iter(metrics.values())))
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["section", *columns])
        writer.writerows([f"{section:02d}", *values.values()] for section, values in metrics.items())
        for name, mean in ((ARITHMETIC, arithmetic_mean), (HARMONIC, harmonic_mean)):
            writer.writerow([name, *(mean([values[column] for values in metrics.values()]) for column in columns)])
        writer.writerow([])


def read_result_table(path: Path) -> dict[int, dict[str, float | None]] | None:
    """Read the sections' metrics of a result table; None where there is no file.

    Raises
    ------
    InputError
        The file is no result table.
    """
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


def write_log(path: Path, epochs: "list[EpochLosses]") -> None:
    """Write the losses of each epoch."""
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, list(asdict(epochs[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in epochs)


def write_table(path: Path, table: "pandas.DataFrame", index: bool) -> None:
    """Write a summary table."""
    with atomic_write(path) as file:
        table.to_csv(file, index=index, lineterminator="\n")


def read_log(path: Path) -> list[dict[str, float]] | None:
    """Read the losses of each epoch; None where there is no file.

    Raises
    ------
    InputError
        The file is no log of a training run.
    """
    if not path.is_file():
        return None
    try:
        header, *rows = _read_rows(path)
        if not rows:
            raise ValueError("it has no epoch")
        return [{name: float(value) for name, value in zip(header, row, strict=True)} for row in rows]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a log of a training run ({error}); train again") from error


def _read_rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [row for row in csv.reader(file) if row]
