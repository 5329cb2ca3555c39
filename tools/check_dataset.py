#!/usr/bin/env python3
"""Check a data set on disk against the catalogue: `python -m tools.check_dataset DCASE2023T2 dev`.

Prints a row for each machine type, section, split, domain and label, then what is wrong: numbers of clips that differ
from the catalogue's, invalid names, unreadable, empty, silent, clipped or too short clips, samples beyond full scale or
with an offset, several sampling rates or numbers of channels in a section, the same recording twice, anomalies in
train. Exit status 1 if anything is wrong. Files that are never read, and anything that could not be checked, are also
reported, but are not problems.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import InputError, Settings

import numpy as np
import pandas as pd

from datasets.audio import read_samples
from datasets.catalogue import Challenge
from datasets.clips import MachineFolders, clip_paths, other_files
from datasets.front_ends import make_front_end
from runtime.command import command
from runtime.progress import progress
from runtime.wording import counted, listed
from tools.list_clips import clip_row, parse_subset

GROUP = ["section", "split", "domain", "label"]
CLIP = ["path", *GROUP, "sampling_rate", "channels", "seconds", "sha256"]

# Limits of plausible recordings, with full scale 1. Floats exceed 1 by some dB, and by 20 dB where they are pascals;
# integers that were stored as floats exceed 32 in all but silence.
MAX_PEAK = 32.0
MAX_OFFSET = 0.1  # cheap sound cards: 0.01 to 0.03; the challenge's clips: 0.0004 at most
MAX_CLIPPED = (
    0.01  # share of the samples at the lowest or highest value; in 475 of the challenge's clips 0.0002 at most
)
QUIET = 0.01  # peak below which 8-bit samples have so few values that this share means nothing

Report = dict[str, list[str]]  # skipped, unchecked, wrong -> sentences


@command
def main() -> int:
    """Check what the command line asks for; return the exit status."""
    challenge, machine_types, settings = parse_subset(
        "python -m tools.check_dataset",
        "Check a data set against the catalogue.",
        ("channel", "frames", "hop_length"),
    )
    report: Report = {"skipped": [], "unchecked": [], "wrong": []}
    rows: list[dict[str, object]] = []
    for folders in machine_types:
        clips = read_clips(folders, challenge, settings, report)
        check_counts(clips, folders, challenge, report)
        check_sections(clips, folders.machine_type, challenge, report)
        rows += table_rows(clips, folders.machine_type, challenge)
    if rows:
        print(pd.DataFrame(rows).to_string(index=False))
    for kind, sentences in report.items():
        for sentence in sentences:
            print(f"{kind}: {sentence if sentence.isprintable() else ascii(sentence)}")
    n = len(report["wrong"])
    print(f"{counted(n, 'problem')} found" if n else "nothing is wrong")
    return 1 if n else 0


def read_clips(folders: MachineFolders, challenge: Challenge, settings: Settings, report: Report) -> "pd.DataFrame":
    """Return a row with the columns CLIP for each readable clip; report the others, and misplaced clips."""
    rows = []
    for split, folder in (("train", folders.train), ("test", folders.test)):
        if not folder.is_dir():
            report["wrong"].append(f"{folder}: there is no such folder")
            continue
        paths, others = clip_paths(folder), other_files(folder)
        if others:
            report["skipped"].append(f"{folder}: {others}; only .wav files in the folder itself are read")
        for path in progress(paths, max(len(paths), 1), f"{folders.machine_type} {folder.name}", "clips"):
            row, error = clip_row(path, split)
            try:
                if error is not None:
                    raise error
                samples, _ = read_samples(path, settings.channel)
            except InputError as unreadable:
                report["wrong"].append(str(unreadable))
                continue
            report["wrong"] += [f"{path}: {what}" for what in clip_problems(row, samples, challenge, settings)]
            is_silent = samples.min() == samples.max()
            rows.append({**row, "sha256": None if is_silent else hashlib.sha256(samples.data).hexdigest()})
    clips = pd.DataFrame(rows, columns=CLIP)
    clips[GROUP] = clips[GROUP].fillna("")
    for _, copies in clips.groupby("sha256", sort=False):
        if len(copies) > 1:
            places = copies.groupby("split", sort=False).path
            text = " and ".join(f"{split} ({', '.join(map(str, paths))})" for split, paths in places)
            times = f"{len(copies)} times " if len(places) == 1 else ""
            report["wrong"].append(f"the same recording is {times}in {text}")
    return clips


def clip_problems(
    row: dict[str, Any], samples: "np.ndarray", challenge: Challenge, settings: Settings
) -> Iterator[str]:
    """Yield what is wrong with a readable clip; `samples` are those of the used channel."""
    if challenge.channels not in (None, row["channels"]):
        yield f"has {counted(row['channels'], 'channel')}, not {challenge.channels}"
    if row["split"] == "train" and row["label"] == "anomaly":
        yield "is labelled anomaly, but is in train"
    yield from level_problems(samples)
    n_frames = make_front_end(settings).n_frames(len(samples))
    if n_frames < settings.frames:
        yield f"is too short: {counted(n_frames, 'frame')}, but a vector takes {settings.frames}"


def level_problems(samples: "np.ndarray") -> Iterator[str]:
    """Yield what is wrong with the levels of a clip's samples."""
    low, high = samples.min(), samples.max()
    if low == high:
        yield "is silent: its samples are all the same"
        return
    peak, mean = max(-low, high), samples.mean(dtype=np.float64)
    if peak > MAX_PEAK:
        yield f"has samples up to {peak:.5g}, where full scale is 1; divide integers by theirs, 32768 for example"
        return
    clipped = np.mean((samples == low) | (samples == high))
    if clipped > MAX_CLIPPED and peak > QUIET:
        yield f"is clipped: {100 * clipped:.1f} % of its samples are at its lowest or highest value"
    if abs(mean) > MAX_OFFSET:
        yield f"has an offset of {mean:.2f} of full scale (its mean)"


def check_counts(clips: "pd.DataFrame", folders: MachineFolders, challenge: Challenge, report: Report) -> None:
    """Compare the numbers of clips with the catalogue's; for unlabelled clips, their sum."""
    for split, folder in (("train", folders.train), ("test", folders.test)):
        if not folder.is_dir():
            continue
        expected = challenge.clips[folders.machine_type].get(split, {})
        if not expected:
            report["unchecked"].append(f"the number of {folders.machine_type} {split} clips (not in the catalogue)")
        for section in challenge.sections[folders.machine_type]:
            what = f"{folders.machine_type} section {section:02d} {split}"
            found = clips[(clips.section == f"{section:02d}") & (clips.split == split)]
            if found.empty:
                report["wrong"].append(f"{what}: no clips")
            elif expected and ("all" in expected or not found.label.any()):
                if not found.label.any():
                    report["unchecked"].append(f"the labels of {what} (its clips are not labelled)")
                if len(found) != sum(expected.values()):
                    report["wrong"].append(
                        f"{what}: {len(found)} clips, but the catalogue has {sum(expected.values())}"
                    )
            elif expected:
                counts = Counter((found.domain + " " + found.label).str.strip())
                for name in expected | counts:
                    if counts[name] != expected.get(name, 0):
                        report["wrong"].append(
                            f"{what} {name}: {counts[name]} clips, but the catalogue has {expected.get(name, 0)}"
                        )


def check_sections(clips: "pd.DataFrame", machine_type: str, challenge: Challenge, report: Report) -> None:
    """Compare sampling rates and channels within each section, and report sections that the challenge does not have."""
    for section, group in clips.groupby("section"):
        for what, values, unit in (("sampling rates", group.sampling_rate, " Hz"), ("channels", group.channels, "")):
            if values.nunique() > 1 and (unit or challenge.channels is None):  # else reported clip by clip
                text = ", ".join(map(str, sorted(values.unique())))
                odd = [str(path) for path in group.path[values != values.mode()[0]]]
                report["wrong"].append(
                    f"{machine_type} section {section}: several {what}: {text}{unit}; see {listed(odd, 3)}"
                )
        if int(section) not in challenge.sections[machine_type]:
            report["skipped"].append(
                f"{machine_type}: {counted(len(group), 'clip')} of section {section}, which the challenge does not have"
            )


def table_rows(clips: "pd.DataFrame", machine_type: str, challenge: Challenge) -> list[dict[str, object]]:
    """Return a row of the table for each section, split, domain and label."""
    rows = []
    for (section, split, domain, label), group in clips.groupby(GROUP):
        shortest, longest = (f"{seconds:.2f}" for seconds in (group.seconds.min(), group.seconds.max()))
        row = {
            "machine type": machine_type,
            "section": section,
            "split": split,
            "domain": domain,
            "label": label,
            "clips": len(group),
            "expected": challenge.clips[machine_type].get(split, {}).get(f"{domain} {label}", ""),
            "Hz": "/".join(map(str, sorted(group.sampling_rate.unique()))),
            "channels": "/".join(map(str, sorted(group.channels.unique()))),
            "seconds": shortest if shortest == longest else f"{shortest} to {longest}",
        }
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
