#!/usr/bin/env python3
"""Print a CSV of every clip of a challenge's subset: `python -m tools.list_clips DCASE2023T2 dev > clips.csv`.

One line per clip, in path order within machine type and split, from its name, its machine type's attributes_*.csv files
and its header. Clips in supplemental/ (2025 on), which the baseline does not read, are listed too. Clips that cannot be
read are reported on standard error, and have no channels and seconds; the exit status is then 1.
"""

import argparse
import csv
import re
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import InputError, Settings, choice, option_type, parse_settings

from datasets.audio import read_header
from datasets.catalogue import SUBSETS, Challenge, load_challenge, runnable_names
from datasets.clips import MachineFolders, clip_paths, parse_clip
from runtime.command import command, print_error
from runtime.progress import Progress

COLUMNS = (
    "path",
    "machine_type",
    "section",
    "split",
    "domain",
    "label",
    "name_attributes",  # from the file's name, unchanged: spd_28V_mic_1
    "file_attributes",  # from attributes_*.csv: spd=28V mic=1
    "channels",
    "seconds",
    "sampling_rate",
)
SUPPLEMENTAL = re.compile(  # these names have no fixed form
    r"section_(?P<section>\d\d)(_(?P<domain>source|target))?_"
    r"(.*?\d{4,8}_(?P<name_attributes>(?!noAttributes).+)\.wav)?",
    re.DOTALL | re.ASCII,
)


def parse_subset(
    prog: str, description: str, names: tuple[str, ...] = ()
) -> tuple[Challenge, list[MachineFolders], Settings]:
    """Parse a command line of CHALLENGE dev|eval [MACHINE_TYPE ...] and the named parameters.

    Returns the subset, the folders of the chosen machine types, and the settings.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description, allow_abbrev=False)
    known = runnable_names()
    parser.add_argument("challenge", type=option_type(choice(*known)), metavar="CHALLENGE", help=", ".join(known))
    subsets = option_type(choice(*SUBSETS.values()))
    parser.add_argument("subset", type=subsets, metavar="dev|eval", help="development or evaluation data set")
    parser.add_argument(
        "machine_types", nargs="*", default=[], metavar="MACHINE_TYPE", help="machine types to include [default: all]"
    )
    s = parse_settings(parser, names=("dataset_directory", *names))
    challenge = load_challenge(s.challenge, s.subset == SUBSETS[True], s.dataset_directory)
    machine_types = challenge.choose(s.machine_types)
    return (
        challenge,
        [MachineFolders(s.dataset_directory, s.challenge, m, s.subset == "eval") for m in machine_types],
        s,
    )


def clip_row(path: Path, split: str) -> tuple[dict[str, Any], InputError | None]:
    """Return what is known from a clip's name and header, and the error that ended the reading, if any."""
    row: dict[str, Any] = {"path": path, "split": split}
    try:
        if split == "supplemental":
            found = SUPPLEMENTAL.match(path.name)
            row |= found.groupdict() if found else {}
        else:
            clip = parse_clip(path)
            row |= {"section": f"{clip.section:02d}", "domain": clip.domain, "label": clip.label}
            row["name_attributes"] = clip.attributes
        header = read_header(path)
        row |= {"sampling_rate": header.sampling_rate, "channels": header.channels}
        row["seconds"] = header.n_samples / header.sampling_rate
    except InputError as error:
        return row, error
    return row, None


def read_attributes(folder: Path) -> dict[str, str]:
    """Read attributes_*.csv: clip name -> `parameter=value` pairs.

    A line is `<path of the clip>,<parameter>,<value>,<parameter>,<value>,...`, below a header.
    """
    found = {}
    for path in sorted(folder.glob("attributes_*.csv")):
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                for row in csv.reader(file):
                    cells = [cell.strip() for cell in row]
                    pairs = zip(cells[1::2], cells[2::2], strict=False)
                    if cells and cells[0].lower().endswith(".wav"):
                        text = " ".join(f"{key}={value}" for key, value in pairs if key and key != "noAttributes")
                        found[cells[0].replace("\\", "/").rpartition("/")[2]] = text
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"cannot read {path} ({reason}); restore it from its archive, or remove it") from error
    return found


def as_cell(value: object) -> object:
    """Return a value as a single-line cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    if not text.isprintable():
        text = text.encode("unicode_escape").decode()
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


@command
def main() -> int:
    """Print the CSV that the command line asks for; return the exit status."""
    challenge, machine_types, _ = parse_subset("python -m tools.list_clips", "Print a CSV of every clip.")
    errors: list[InputError] = []
    n_clips = 0
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    writer = csv.DictWriter(sys.stdout, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for folders in machine_types:
        attributes = read_attributes(folders.raw)
        splits = {"train": folders.train, "test": folders.test, "supplemental": folders.raw / "supplemental"}
        paths = [(path, split) for split, folder in splits.items() for path in clip_paths(folder)]
        n_clips += len(paths)
        with Progress(folders.machine_type, len(paths), "clips", lines=False) as shown:
            for path, split in paths:
                row, error = clip_row(path, split)
                row |= {"machine_type": folders.machine_type, "file_attributes": attributes.get(path.name)}
                writer.writerow({key: as_cell(value) for key, value in row.items()})
                errors += [error] if error else []
                shown.update()
    for error in errors:
        print_error(error)
    if not n_clips:
        raise InputError(
            f"there are no clips of {challenge.name} {SUBSETS[challenge.is_eval]} below "
            f"{machine_types[0].dataset_directory}; download them first, or give another --dataset_directory"
        )
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
