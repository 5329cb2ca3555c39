#!/usr/bin/env python3
"""Make the challenge's package from an evaluation's results (--label), or check a package (--check).

Writes a zip with a folder of the challenge's files for each system, and beside it each system's <label>.meta.yaml, a
copy of the one in the zip. The entrant fills in that copy, which is kept, and makes the package again.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import PATH, SCORES, InputError, Settings, choice, matching, option_type, parse_settings

from datasets.catalogue import Challenge, challenge_names, load_challenge
from datasets.labels import label_list_path
from networks.names import PLACES, Experiment
from runtime.command import command, printable
from runtime.wording import counted
from tools.results.files import read_own_system
from tools.results.other_systems import read_other_systems
from tools.results.reading import read_labels
from tools.submission.check import MAX_SYSTEMS, check_package, file_names, missing_clips, published_names
from tools.submission.known import describe_other, describe_own
from tools.submission.meta import LABEL, LABEL_FORM, check_meta, differences, make_meta
from tools.submission.package import Entry, published_files, write_package

CHALLENGES = [name for name in challenge_names() if name != "DCASE2020T2"]  # whose files had other names
PARAMETERS = (*PLACES, "seed", "model", "front_end", "decision_threshold")


def read_entries(settings: Settings, challenge: Challenge) -> list[Entry]:
    """Read the scores and decisions of each label's system: from the folders given as --from, or ours by --score."""
    if settings.folders:
        return [
            _read_folder(label, folder, challenge)
            for label, folder in zip(settings.labels, settings.folders, strict=True)
        ]
    experiment = Experiment.of(settings, is_eval=True)
    advice = (
        f"with seed {settings.seed}; train and test the complete evaluation set with -e first, or check "
        "--result_directory, --export_dir and --seed"
    )
    return [
        Entry(label, read_own_system(challenge, experiment, score), experiment.results(score), advice)
        for label, score in zip(settings.labels, settings.scores, strict=True)
    ]


def _read_folder(label: str, folder: Path, challenge: Challenge) -> Entry:
    """Read the one system of a folder or an archive."""
    systems, notes = read_other_systems([str(folder)], challenge, labels={})
    if len(systems) != 1:
        raise InputError(f"--from {folder} holds the systems {', '.join(systems)}; give the folder of one of them")
    print("".join(f"{note}\n" for note in notes), end="")
    (system,) = systems.values()
    return Entry(label, system, folder, "complete the folder, in the challenge's format")


def make(settings: Settings, challenge: Challenge) -> None:
    """Make the package that the command line names; if results are missing or invalid, nothing is written."""
    labels = read_labels(challenge, settings.dataset_directory, settings.eval_data_list)
    label_list = settings.eval_data_list or label_list_path(challenge.name, settings.dataset_directory)
    published = published_names(challenge, settings.dataset_directory, labels)
    systems, metas, known, kept = {}, {}, {}, []
    for entry, score in zip(read_entries(settings, challenge), settings.scores, strict=True):
        label = entry.label
        systems[label] = published_files(entry, challenge, labels, label_list, published)
        system = (
            describe_own(label, score, challenge, settings) if score else describe_other(label, challenge, settings)
        )
        known[label] = make_meta(system)
        meta_file = settings.output / f"{label}.meta.yaml"
        kept += [label] if meta_file.is_file() else []
        metas[label] = meta_file.read_bytes() if label in kept else known[label].encode()
    first = settings.labels[0]
    team = first.rpartition("_")[0]
    path = settings.output / f"{first if len(systems) == 1 else team}.zip"
    write_package(path, systems, metas)
    others = [f"{team}.zip"] if len(systems) == 1 else [f"{team}_{number}.zip" for number in range(1, MAX_SYSTEMS + 1)]
    stale = [name for name in others if (settings.output / name).is_file()]
    n_lines = sum(content.count(b"\n") for files in systems.values() for content in files.values()) // 2
    n_files = sum(map(len, systems.values()))
    print(f"wrote {path}: {n_files} files of {counted(n_lines, 'clip')}, and the meta file of each system")
    for line in missing_clips(challenge, published):
        print(f"note: {line}")
    if stale:
        print(f"warning: {', '.join(stale)} beside it is from an earlier package; submit one of them")
    for label, meta in metas.items():
        print(f"{'kept' if label in kept else 'wrote'} {path.with_name(f'{label}.meta.yaml')}, the same as in the zip")
        _print_todo(label, meta, known[label], challenge)


def _print_todo(label: str, meta: bytes, known: str, challenge: Challenge) -> None:
    """Print what the entrant still has to write in a meta file, and where it differs from the known facts."""
    changed = differences(meta, known)
    if changed:
        print(f"differs from what this run would write: {', '.join(changed)}")
    left, _ = check_meta(label, meta, load_challenge(challenge.name, is_eval=False))
    if left:
        print("complete the meta file, then run this again (what you write is kept; a removed file is written again):")
        for line in left:
            print(f"  {_one_line(line)}")


def check(settings: Settings, challenge: Challenge) -> int:
    """Check the package that the command line names, and print each problem and note; return the exit status."""
    labels = read_labels(challenge, settings.dataset_directory, settings.eval_data_list)
    published = published_names(challenge, settings.dataset_directory, labels)
    found, problems, notes = check_package(settings.check, challenge, published)
    notes += missing_clips(challenge, published)
    for line in [*problems, *(f"note: {note}" for note in notes)]:
        print(_one_line(line))
    n_sections = len(file_names(challenge))
    compared = f"clip names compared for {len(published)} of {n_sections} sections"
    if len(published) < n_sections:
        compared += "; to compare all, give --dataset_directory with the test clips, or --eval_data_list"
    verdict = counted(len(problems), "problem") if problems else "fine"
    systems = ", ".join(found) or "no system"
    print(_one_line(f"{settings.check}: {verdict} ({systems}; {challenge.name}; {compared})"), flush=True)
    return 1 if problems else 0


def _one_line(text: str) -> str:
    """Return a text that may hold any name, on one line."""
    return printable(text).replace("\n", "\\n")


@command
def main() -> int | None:
    """Make or check a package, as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_submission",
        description="Make the challenge's package from the results of an evaluation, or check one.",
        allow_abbrev=False,
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument(
        "--label",
        dest="labels",
        nargs="+",
        type=option_type(matching(LABEL.pattern, LABEL_FORM, str)),
        metavar="LABEL",
        help="make a package of one to four systems, one label each, such as Lastname_INST_task2_1",
    )
    task.add_argument("--check", type=option_type(PATH), metavar="PATH", help="check a package, a folder or a zip")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--score",
        dest="scores",
        nargs="+",
        type=option_type(SCORES),
        metavar="NAME",
        help="the anomaly score of each label's system [default: that of baseline.yaml]",
    )
    which.add_argument(
        "--from",
        dest="folders",
        nargs="+",
        type=option_type(PATH),
        default=[],
        metavar="DIR",
        help="instead, the folder of each label's system: scores and decisions in files with the challenge's names",
    )
    kind = option_type(choice(*CHALLENGES))
    parser.add_argument("--challenge", type=kind, default="DCASE2023T2", metavar="NAME", help="[%(default)s]")
    parser.add_argument(
        "--output", type=option_type(PATH), default=Path.cwd(), metavar="DIR", help="where to write [default: here]"
    )
    parser.add_argument(
        "--eval_data_list",
        type=option_type(PATH),
        metavar="CSV",
        help="the organisers' list of labels [default: eval_data_list_<year>.csv in the data set directory]",
    )
    settings = parse_settings(parser, names=PARAMETERS)
    challenge = load_challenge(settings.challenge, is_eval=True)
    if settings.check:
        return check(settings, challenge)
    scores = settings.scores or ([None] * len(settings.folders) if settings.folders else [settings.score])
    labels = settings.labels
    if len(labels) != len(scores):
        parser.error(
            f"{counted(len(labels), 'label')} but {counted(len(scores), 'system')}; give one for each --score or --from"
        )
    if len(set(labels)) != len(labels) or len({label.rpartition("_")[0] for label in labels}) > 1:
        parser.error(f"--label {' '.join(labels)}: labels may differ only in the final number, 1 to {MAX_SYSTEMS}")
    make(settings.replace(scores=scores), challenge)
    return 0


if __name__ == "__main__":
    sys.exit(main())
