"""Checks a data set on disk against the catalogue; `python -m tools.check_dataset` prints the report.

Found are: counts that are not the catalogue's, names that are not valid clip names, unreadable or empty clips, several
sampling rates or numbers of channels in a section, the same recording in train and test, anomalies in train. What could
not be checked, and files that no part of this project reads, are reported too, but are not problems.
"""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from common import InputError
from datasets.audio import read_header
from datasets.catalogue import Challenge
from datasets.clips import MachineFolders, clip_paths, parse_clip
from tools.runtime.progress import progress

COLUMNS = ("machine type", "section", "split", "domain", "label", "clips", "expected", "Hz", "channels", "seconds")


@dataclass
class Group:
    """The clips of one section, split, domain and label: their number, and what their headers say."""

    n_clips: int = 0
    sampling_rates: set[int] = field(default_factory=set)  # Hz
    channels: set[int] = field(default_factory=set)
    lengths: list[float] = field(default_factory=list)  # s


GroupKey = tuple[int, str, str, str]  # section, split, domain, label; "" if the name does not tell


@dataclass
class Report:
    """The rows of the table, and a sentence for everything that is wrong, skipped or unchecked."""

    rows: list[tuple] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def check_machine_type(folders: MachineFolders, challenge: Challenge, report: Report) -> None:
    """Add a machine type's rows and problems to the report."""
    groups: dict[GroupKey, Group] = defaultdict(Group)
    by_content: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for split, folder in (("train", folders.train), ("test", folders.test)):
        if not folder.is_dir():
            report.problems.append(f"{folder}: there is no such folder")
            continue
        paths = clip_paths(folder)
        _add_skipped(folder, paths, report)
        for path in progress(paths, max(len(paths), 1), f"{folders.machine_type} {folder.name}", "clips"):
            if _check_clip(path, split, challenge, groups, report):
                by_content[_digest(path)].append((split, path))
        expected = challenge.clips[folders.machine_type].get(split, {})
        for section in challenge.sections[folders.machine_type]:
            what = f"{folders.machine_type} section {section:02d} {split}"
            _check_counts(what, section, split, expected, groups, report)
        if not expected:
            report.unchecked.append(f"the number of {folders.machine_type} {split} clips (not in the catalogue)")
    _add_rows(folders.machine_type, challenge, groups, report)
    for copies in by_content.values():
        if len({split for split, _ in copies}) > 1:
            report.problems.append(
                f"the same recording is in train and test: {' and '.join(str(path) for _, path in copies)}"
            )


def _add_skipped(folder: Path, paths: list[Path], report: Report) -> None:
    """Count a folder's files and subfolders that are not read."""
    others = {path for path in folder.iterdir() if not path.name.startswith(".")} - set(paths)
    kinds = Counter("folders" if path.is_dir() else f"{path.suffix or 'other'} files" for path in others)
    if kinds:
        counts = ", ".join(f"{n} {kind if n > 1 else kind[:-1]}" for kind, n in sorted(kinds.items()))
        report.skipped.append(f"{folder}: {counts}; only .wav files in the folder itself are read")


def _check_clip(path: Path, split: str, challenge: Challenge, groups: dict[GroupKey, Group], report: Report) -> bool:
    """Add a clip to its group, or report what is wrong with it; return whether it can be read."""
    try:
        clip = parse_clip(path)
        if not path.is_file():
            raise InputError(f"{path} is not a file; remove it")
        header = read_header(path)
    except InputError as error:
        report.problems.append(str(error))
        return False
    group = groups[clip.section, split, clip.domain or "", clip.label or ""]
    group.n_clips += 1
    group.sampling_rates.add(header.sampling_rate)
    group.channels.add(header.channels)
    group.lengths.append(header.n_samples / header.sampling_rate)
    if challenge.channels not in (None, header.channels):
        report.problems.append(f"{path}: has {header.channels} channel(s), not {challenge.channels}")
    if header.surplus:
        report.problems.append(f"{path}: is {header.surplus} bytes longer than its header says")
    if split == "train" and clip.label == "anomaly":
        report.problems.append(f"{path}: is labelled anomaly, but is in train")
    return True


def _check_counts(
    what: str, section: int, split: str, expected: dict[str, int], groups: dict[GroupKey, Group], report: Report
) -> None:
    """Compare the numbers of a section's clips with the catalogue's; unlabelled clips by their sum."""
    found = {key[2:]: group.n_clips for key, group in groups.items() if key[:2] == (section, split)}
    total = sum(found.values())
    if not found:
        report.problems.append(f"{what}: no clips")
    elif expected and not any(label for _, label in found):
        report.unchecked.append(f"the labels of {what} (its clips are not labelled)")
        if total != sum(expected.values()):
            report.problems.append(f"{what}: {total} clips, but the catalogue has {sum(expected.values())}")
    elif expected:
        by_name = {f"{domain} {label}".strip(): n for (domain, label), n in found.items()}
        for name in expected | by_name:
            n_clips, n_expected = by_name.get(name, 0), expected.get(name, 0)
            if n_clips != n_expected:
                report.problems.append(f"{what} {name}: {n_clips} clips, but the catalogue has {n_expected}")


def _add_rows(machine_type: str, challenge: Challenge, groups: dict[GroupKey, Group], report: Report) -> None:
    """Add the rows of a machine type, and compare sampling rates and channels within its sections."""
    rates: dict[int, set[int]] = defaultdict(set)
    channels: dict[int, set[int]] = defaultdict(set)
    others: Counter[int] = Counter()
    for (section, split, domain, label), group in sorted(groups.items()):
        expected = challenge.clips[machine_type].get(split, {}).get(f"{domain} {label}") if label else None
        lengths = f"{min(group.lengths):.2f}" + (
            f" to {max(group.lengths):.2f}" if max(group.lengths) > min(group.lengths) else ""
        )
        values = (group.n_clips, "" if expected is None else expected)
        units = ("/".join(map(str, sorted(group.sampling_rates))), "/".join(map(str, sorted(group.channels))), lengths)
        report.rows.append((machine_type, f"{section:02d}", split, domain, label, *values, *units))
        rates[section] |= group.sampling_rates
        channels[section] |= group.channels
        if section not in challenge.sections[machine_type]:
            others[section] += group.n_clips
    for section in rates:
        for what, found, unit in (("sampling rates", rates[section], " Hz"), ("channels", channels[section], "")):
            if len(found) > 1 and (unit or challenge.channels is None):  # else reported clip by clip
                text = ", ".join(map(str, sorted(found)))
                report.problems.append(f"{machine_type} section {section:02d}: several {what}: {text}{unit}")
    for section, n_clips in others.items():
        clips = f"{n_clips} clip{'s' if n_clips > 1 else ''}"
        report.skipped.append(f"{machine_type}: {clips} of section {section:02d}, which the challenge does not have")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def print_report(report: Report) -> None:
    """Print the table and what is wrong."""
    import pandas as pd

    if report.rows:
        print(pd.DataFrame(report.rows, columns=COLUMNS).to_string(index=False))
    for name, sentences in (("skipped", report.skipped), ("unchecked", report.unchecked), ("wrong", report.problems)):
        for sentence in sentences:
            print(f"{name}: {sentence if sentence.isprintable() else ascii(sentence)}")
    n = len(report.problems)
    print(f"{n} problem{'s' if n > 1 else ''} found" if n else "nothing is wrong")
