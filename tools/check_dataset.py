#!/usr/bin/env python3
"""Check a data set on disk against the catalogue, or list its clips.

    python -m tools.check_dataset DCASE2023T2 dev
    python -m tools.check_dataset DCASE2023T2 dev --list > clips.csv

The check prints a row for each machine type, section, split, domain and label, then what is wrong: numbers of clips
that differ from the catalogue's, invalid names, unreadable, empty, silent, clipped or too short clips, samples beyond
full scale or with an offset, several sampling rates or numbers of channels in a section, the same recording twice,
anomalies in train. Files that are never read are reported, but are no problem. `expected` is empty where the catalogue
has no number.

The list is a CSV of every clip in path order, from its name, its machine type's attributes_*.csv files and its header.
It includes clips in supplemental/ (2025 on), which the baseline does not read. Clips that cannot be read have no
channels and seconds, and are reported on standard error.

Exit status 1 if anything is wrong.
"""

import argparse
import csv
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import InputError, Settings, choice, option_type, parse_settings

import numpy as np
import pandas as pd

from datasets.audio import read_header, read_samples
from datasets.catalogue import SUBSETS, Challenge, load_challenge, runnable_names
from datasets.clips import MachineFolders, clip_paths, other_files, parse_clip
from datasets.front_ends import make_front_end
from runtime.command import command, print_error, printable
from runtime.progress import progress
from runtime.wording import counted, listed

GROUP = ["section", "split", "domain", "label"]
LISTED = ["path", "machine_type", *GROUP, "name_attributes", "file_attributes", "channels", "seconds", "sampling_rate"]
SUPPLEMENTAL = re.compile(  # these names have no fixed form
    r"section_(?P<section>\d\d)(_(?P<domain>source|target))?_"
    r"(.*?\d{4,8}_(?P<name_attributes>(?!noAttributes).+)\.wav)?",
    re.DOTALL | re.ASCII,
)

# Limits of plausible recordings, with full scale 1. Floats exceed 1 by some dB, and by 20 dB where they are pascals;
# integers that were stored as floats exceed 32 in all but silence.
MAX_PEAK = 32.0
MAX_OFFSET = 0.1  # cheap sound cards: 0.01 to 0.03; the challenge's clips: 0.0004 at most
MAX_CLIPPED = 0.01  # share of the samples at the lowest or highest value; the challenge's clips: 0.0002 at most
QUIET = 0.01  # peak below which 8-bit samples have so few values that this share means nothing


@command
def main() -> int:
    """Check or list what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.check_dataset",
        description="Check a data set against the catalogue, or list its clips.",
        allow_abbrev=False,
    )
    names = runnable_names()
    parser.add_argument("challenge", type=option_type(choice(*names)), metavar="CHALLENGE", help=", ".join(names))
    subsets = option_type(choice(*SUBSETS.values()))
    parser.add_argument("subset", type=subsets, metavar="dev|eval", help="development or evaluation data set")
    parser.add_argument(
        "machine_types", nargs="*", default=[], metavar="MACHINE_TYPE", help="machine types to include [default: all]"
    )
    parser.add_argument("--list", action="store_true", help="print a CSV of every clip instead")
    settings = parse_settings(parser, names=("dataset_directory", "channel", "frames", "hop_length"))
    is_eval = settings.subset == SUBSETS[True]
    challenge = load_challenge(settings.challenge, is_eval, settings.dataset_directory)
    machine_types = [
        MachineFolders(settings.dataset_directory, settings.challenge, name, is_eval)
        for name in challenge.choose(settings.machine_types)
    ]
    clips = pd.concat(map(read_clips, machine_types))
    if not settings.list:
        return check(clips, machine_types, challenge, settings)
    clips.to_csv(sys.stdout, columns=LISTED, index=False)
    for error in clips.error.dropna():
        print_error(error)
    if clips.empty:
        raise InputError(
            f"{machine_types[0].raw.parent} holds no clips; download them first, or give another --dataset_directory"
        )
    return int(clips.error.any())


# --- clips ------------------------------------------------------------------------------------------------------------


def read_clips(folders: MachineFolders) -> pd.DataFrame:
    """Tabulate a machine type's clips: the columns LISTED, and the error that ended a clip's reading."""
    attributes = read_attributes(folders.raw)
    splits = {"train": folders.train, "test": folders.test, "supplemental": folders.raw / "supplemental"}
    rows = [
        {**read_clip(path, split), "machine_type": folders.machine_type, "file_attributes": attributes.get(path.name)}
        for split, folder in splits.items()
        for path in clip_paths(folder)
    ]
    types = {"channels": "Int64", "sampling_rate": "Int64", "domain": object, "label": object}
    clips = pd.DataFrame(rows, columns=[*LISTED, "error"]).astype(types)
    return clips.fillna({"domain": "", "label": ""})


def read_clip(path: Path, split: str) -> dict[str, Any]:
    """Collect the facts in a clip's name and header, and the error that ended the reading, if any."""
    row: dict[str, Any] = {"path": path, "split": split}
    try:
        if split == "supplemental":
            match = SUPPLEMENTAL.match(path.name)
            row |= match.groupdict() if match else {}
        else:
            clip = parse_clip(path)
            row |= {"section": f"{clip.section:02d}", "domain": clip.domain, "label": clip.label}
            row["name_attributes"] = clip.attributes
        header = read_header(path)
        row |= {"sampling_rate": header.sampling_rate, "channels": header.channels}
        row["seconds"] = header.n_samples / header.sampling_rate
    except InputError as error:
        row["error"] = error
    return row


def read_attributes(folder: Path) -> dict[str, str]:
    """Read attributes_*.csv: clip name -> `parameter=value` pairs.

    A line is `<path of the clip>,<parameter>,<value>,<parameter>,<value>,...`, below a header.
    """
    attributes = {}
    for path in sorted(folder.glob("attributes_*.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            for clip, *cells in filter(None, csv.reader(file)):
                pairs = zip(cells[::2], cells[1::2], strict=False)
                text = " ".join(f"{name}={value}" for name, value in pairs if name and name != "noAttributes")
                attributes[PureWindowsPath(clip).name] = text  # which takes / and \
    return attributes


# --- check ------------------------------------------------------------------------------------------------------------


def check(clips: pd.DataFrame, machine_types: list[MachineFolders], challenge: Challenge, settings: Settings) -> int:
    """Print the table of clips, files that are not read, and all problems; return the exit status."""
    problems = [str(error) for error in clips.error.dropna()]
    clips = clips[clips.error.isna() & (clips.split != "supplemental")]
    problems += check_samples(clips, challenge, settings)
    if len(clips):
        print_table(clips, challenge)
    for folders in machine_types:
        for folder in (folders.train, folders.test):
            if not folder.is_dir():
                problems.append(f"{folder}: there is no such folder")
            elif others := other_files(folder):
                print(f"skipped: {folder}: {others}; only .wav files in the folder itself are read")
        problems += check_counts(clips[clips.machine_type == folders.machine_type], folders, challenge)
    problems += check_sections(clips, challenge)
    for problem in problems:
        print(f"wrong: {printable(problem)}")
    print(f"{counted(len(problems), 'problem')} found" if problems else "nothing is wrong")
    return int(bool(problems))


def check_samples(clips: pd.DataFrame, challenge: Challenge, settings: Settings) -> Iterator[str]:
    """Read the samples of each clip; yield the clips' problems, then clips with the same samples."""
    paths: dict[str, list[str]] = {}
    for clip in progress(clips.itertuples(), len(clips), "clips", "clips"):
        try:
            samples, _ = read_samples(clip.path, settings.channel)
        except InputError as error:
            yield str(error)
            continue
        for problem in clip_problems(clip, samples, challenge, settings):
            yield f"{clip.path}: {problem}"
        if samples.min() < samples.max():
            paths.setdefault(hashlib.sha256(samples.data).hexdigest(), []).append(str(clip.path))
    for same in paths.values():
        if len(same) > 1:
            yield f"the same recording {len(same)} times: {listed(same)}"


def clip_problems(clip: Any, samples: np.ndarray, challenge: Challenge, settings: Settings) -> Iterator[str]:
    """Yield what is wrong with a clip; `samples` are those of the used channel."""
    if challenge.channels not in (None, clip.channels):
        yield f"has {counted(clip.channels, 'channel')}, not {challenge.channels}"
    if (clip.split, clip.label) == ("train", "anomaly"):
        yield "is labelled anomaly, but is in train"
    low, high, mean = samples.min(), samples.max(), samples.mean(dtype=np.float64)
    peak, clipped = max(-low, high), np.mean((samples == low) | (samples == high))
    if low == high:
        yield "is silent: its samples are all the same"
    elif peak > MAX_PEAK:
        yield f"has samples up to {peak:.5g}, where full scale is 1; divide integers by theirs, 32768 for example"
    else:
        if clipped > MAX_CLIPPED and peak > QUIET:
            yield f"is clipped: {100 * clipped:.1f} % of its samples are at its lowest or highest value"
        if abs(mean) > MAX_OFFSET:
            yield f"has an offset of {mean:.2f} of full scale (its mean)"
    n_frames = make_front_end(settings).n_frames(len(samples))
    if n_frames < settings.frames:
        yield f"is too short: {counted(n_frames, 'frame')}, but a vector takes {settings.frames}"


def check_counts(clips: pd.DataFrame, folders: MachineFolders, challenge: Challenge) -> Iterator[str]:
    """Compare the numbers of clips with the catalogue's; only their sum where clips or catalogue have no labels."""
    for split, folder in (("train", folders.train), ("test", folders.test)):
        wanted = challenge.clips[folders.machine_type].get(split, {})
        for section in challenge.sections[folders.machine_type] if folder.is_dir() else ():
            subject = f"{folders.machine_type} section {section:02d} {split}"
            group = clips[(clips.section == f"{section:02d}") & (clips.split == split)]
            if group.empty:
                yield f"{subject}: no clips"
                continue
            counts, expected = Counter((group.domain + " " + group.label).str.strip()), Counter(wanted)
            if "all" in wanted or not group.label.any():
                counts, expected = Counter(all=len(group)), Counter(all=expected.total())
            for name in expected | counts if wanted else ():
                if counts[name] != expected[name]:
                    yield f"{subject} {name}: {counts[name]} clips, but the catalogue has {expected[name]}"


def check_sections(clips: pd.DataFrame, challenge: Challenge) -> Iterator[str]:
    """Compare sampling rates and channels within each section, and print sections that the challenge does not have."""
    for (machine_type, section), group in clips.groupby(["machine_type", "section"]):
        for name in ("sampling_rate", "channels") if challenge.channels is None else ("sampling_rate",):
            if group[name].nunique() > 1:
                odd = group.path[group[name] != group[name].mode()[0]]
                yield (
                    f"{machine_type} section {section}: several values of {name}: {unique(group[name])}; see "
                    f"{listed(map(str, odd), 3)}"
                )
        if int(section) not in challenge.sections[machine_type]:
            n_clips = counted(len(group), "clip")
            print(f"skipped: {machine_type}: {n_clips} of section {section}, which the challenge does not have")


def unique(values: pd.Series) -> str:
    """List a column's different values in order, such as `8000/16000`."""
    return "/".join(map(str, sorted(values.unique())))


def print_table(clips: pd.DataFrame, challenge: Challenge) -> None:
    """Print a row for each machine type, section, split, domain and label."""
    groups = clips.groupby(["machine_type", *GROUP], sort=False)
    table = groups.agg(clips=("path", "size"), Hz=("sampling_rate", unique), channels=("channels", unique))
    wanted = [
        challenge.clips[name].get(split, {}).get(f"{domain} {label}", "")
        for name, _, split, domain, label in table.index
    ]
    table.insert(1, "expected", wanted)
    table["shortest"], table["longest"] = groups.seconds.min(), groups.seconds.max()
    print(table.reset_index().to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    sys.exit(main())
