#!/usr/bin/env python3
"""Check a data set on disk against the catalogue: `python -m datasets.check DCASE2023T2 dev`.

Prints a row for each machine type, section, split, domain and label, then everything that is wrong: counts that are not
the catalogue's, names that are no clip names, unreadable or empty clips, several sampling rates in a section, a wrong
number of channels, clips that stand in train and in test, anomalies in train. Exit status 1 if anything is wrong.
"""

import argparse
import hashlib
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import InputError, run_command
from datasets.catalogue import Challenge, challenge_names, load_challenge
from datasets.clips import Clip, MachineFolders, clip_paths, parse_clip
from datasets.features import read_header
from tools.options import add_parameters, read_defaults
from tools.progress import progress

COLUMNS = ("machine type", "section", "split", "domain", "label", "clips", "expected", "Hz", "channels", "seconds")


@dataclass
class Group:
    """What the headers of the clips of one section, split, domain and label say."""

    n_clips: int = 0
    sampling_rates: set[int] = field(default_factory=set)  # Hz
    channels: set[int] = field(default_factory=set)
    lengths: list[float] = field(default_factory=list)  # s


@dataclass
class Report:
    """The rows of the table, and a sentence for each thing that is wrong."""

    rows: list[tuple] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def check_machine_type(folders: MachineFolders, challenge: Challenge, report: Report) -> None:
    """Add a machine type's rows and problems to the report."""
    groups: dict[tuple, Group] = defaultdict(Group)
    by_content: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for split, folder in (("train", folders.train), ("test", folders.test)):
        if not folder.is_dir():
            report.problems.append(f"{folder}: there is no such folder")
            continue
        paths = clip_paths(folder)
        for path in progress(paths, max(len(paths), 1), f"{folders.machine_type} {folder.name}", "clip"):
            _check_clip(path, split, challenge, groups, report)
            by_content[_digest(path)].append((split, path))
    _add_rows(folders.machine_type, challenge, groups, report)
    for copies in by_content.values():
        if len({split for split, _ in copies}) > 1:
            report.problems.append(
                f"the same recording is in train and test: {' and '.join(str(p) for _, p in copies)}"
            )


def _check_clip(path: Path, split: str, challenge: Challenge, groups: dict[tuple, Group], report: Report) -> None:
    """Add a clip to its group, or say what is wrong with it."""
    try:
        clip: Clip = parse_clip(path)
        header = read_header(path)
    except InputError as error:
        report.problems.append(str(error))
        return
    group = groups[clip.section, split, clip.domain or "", clip.label or ""]
    group.n_clips += 1
    group.sampling_rates.add(header.sampling_rate)
    group.channels.add(header.channels)
    group.lengths.append(header.n_samples / header.sampling_rate)
    if header.channels != challenge.channels:
        report.problems.append(f"{path}: has {header.channels} channel(s), not {challenge.channels}")
    if split == "train" and clip.label == "anomaly":
        report.problems.append(f"{path}: is labelled anomaly, but stands in train")


def _add_rows(machine_type: str, challenge: Challenge, groups: dict[tuple, Group], report: Report) -> None:
    """Add the rows of a machine type, and compare its sections, rates and counts."""
    expected_clips = challenge.clips[machine_type]
    rates = defaultdict(set)
    for (section, split, domain, label), group in sorted(groups.items()):
        expected = expected_clips.get(split, {}).get(f"{domain} {label}") if label else None
        lengths = f"{min(group.lengths):.2f}" + (
            f" to {max(group.lengths):.2f}" if max(group.lengths) > min(group.lengths) else ""
        )
        values = (group.n_clips, "" if expected is None else expected)
        units = ("/".join(map(str, sorted(group.sampling_rates))), "/".join(map(str, sorted(group.channels))), lengths)
        report.rows.append((machine_type, f"{section:02d}", split, domain, label, *values, *units))
        rates[section] |= group.sampling_rates
        if expected is not None and group.n_clips != expected:
            what = f"{machine_type} section {section:02d} {split} {domain} {label}"
            report.problems.append(f"{what}: {group.n_clips} clips, but the catalogue has {expected}")
    for section, values in rates.items():
        if len(values) > 1:
            text = ", ".join(map(str, sorted(values)))
            report.problems.append(f"{machine_type} section {section:02d}: several sampling rates: {text} Hz")
    for split in ("train", "test"):
        present = {section for section, of_split, *_ in groups if of_split == split}
        for section in challenge.sections[machine_type]:
            if present and section not in present:
                report.problems.append(f"{machine_type} section {section:02d}: no clips in {split}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def print_report(report: Report) -> None:
    """Print the table and what is wrong."""
    import pandas as pd

    if report.rows:
        print(pd.DataFrame(report.rows, columns=COLUMNS).to_string(index=False))
    for problem in report.problems:
        print(f"wrong: {problem}")
    print(f"{len(report.problems)} problem(s) found" if report.problems else "nothing is wrong")


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(check)


def check() -> int:
    """Check what the command line names; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.check", description="Check a data set against the catalogue.", allow_abbrev=False
    )
    names = ", ".join(challenge_names())
    parser.add_argument("challenge", choices=challenge_names(), metavar="CHALLENGE", help=f"one of {names}")
    parser.add_argument("split", choices=("dev", "eval"), help="development or evaluation data set")
    parser.add_argument("machine_types", nargs="*", metavar="MACHINE_TYPE", help="which ones [default: all]")
    add_parameters(parser, read_defaults(), ("dataset_directory",))
    args = parser.parse_intermixed_args()
    challenge = load_challenge(args.challenge, args.split == "eval")
    challenge.check_machine_types(args.machine_types)
    report = Report()
    for machine_type in args.machine_types or challenge.machine_types:
        folders = MachineFolders(args.dataset_directory, challenge.name, machine_type, challenge.is_eval)
        check_machine_type(folders, challenge, report)
    print_report(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
