#!/usr/bin/env python3
"""The challenge's package from the results of an evaluation (--label), or a package checked (--check).

Writes <label>.zip, which holds the folder <label>/ of the challenge's files, and beside it <label>.meta.yaml, a copy of
the meta file in the zip. The entrant fills that copy in and makes the package again: what is written in it stays.
"""

import argparse
import csv
import io
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import ExperimentPaths, InputError, all_or_nothing, atomic_write, run_command
from datasets.catalogue import Challenge, challenge_names, load_challenge
from datasets.clips import MachineFolders, clip_paths
from tools.comparison import read_labels
from tools.metrics import harmonic_mean
from tools.options import add_parameters, read_defaults
from tools.rename_eval_wav import label_list_path
from tools.result_csv import read_result_table
from tools.score_files import Labels, SectionScores, System, challenge_names_of, read_own_system
from tools.submission_check import Files, Published, check_package, check_values, printable, published_names
from tools.submission_meta import (
    FEATURES,
    LABEL,
    LABEL_FORM,
    RESULTS,
    TRAINING,
    KnownSystem,
    check_meta,
    differences,
    make_meta,
)

CHALLENGES = [name for name in challenge_names() if name != "DCASE2020T2"]  # whose files had names of their own
OPTIONS = "dataset_directory result_directory model_directory export_dir seed score decision_threshold".split()
SHOWN = 5  # problems that an error names
DATE = (1980, 1, 1, 0, 0, 0)  # of the files in the zip, so that the same results give the same bytes


def read_complete_system(challenge: Challenge, paths: ExperimentPaths, score: str) -> System:
    """Read the results of all machine types and sections.

    Raises
    ------
    InputError
        Scores or decisions of some are missing; they are named.
    """
    system = read_own_system(challenge, paths, score)
    keys = [(machine_type, section) for machine_type, sections in challenge.sections.items() for section in sections]
    missing = [f"{m} section {s:02d}" for m, s in keys if (m, s) not in system]
    undecided = [f"{m} section {s:02d}" for (m, s), section in system.items() if section.decisions is None]
    for names, what in ((missing, "scores"), (undecided, "decisions")):
        if names:
            raise InputError(
                f"there are no {score} {what} of {', '.join(names)} with seed {paths.seed} in {paths.results(score)}; "
                "train and test these machine types with -e first, or check --result_directory, --export_dir and --seed"
            )
    return system


def publish(system: System, labels: Labels, place: Path) -> Files:
    """Return the challenge's files of scores and decisions, the clips by their published names, in their order.

    Raises
    ------
    InputError
        Clips have labelled names that the label list does not have.
    """
    files = {}
    for (machine_type, section), results in system.items():
        names = _published(results, labels.get(machine_type, {}))
        unknown = [clip.name for clip, name in zip(results.clips, names, strict=True) if name is None]
        if unknown:
            raise InputError(
                f"{len(unknown)} clips of {machine_type} section {section:02d}, such as {unknown[0]}, have labelled "
                f"names, and {place} {'does not have them' if labels else 'is not there'}; give the organisers' list, "
                "which has the published names, with --eval_data_list"
            )
        values = [[float(score) for score in results.scores], [int(decision) for decision in results.decisions]]
        for file, column in zip(challenge_names_of(machine_type, section), values, strict=True):
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(sorted(zip(names, column, strict=True)))
            files[file] = text.getvalue().encode()
    return files


def _published(results: SectionScores, names: dict[str, str]) -> list[str | None]:
    """Return the clips' published names, None where it is not known; `names`: published -> labelled."""
    back = {labelled: published for published, labelled in names.items()}
    return [clip.name if clip.label is None else back.get(clip.name) for clip in results.clips]


def _paths(args: argparse.Namespace, defaults: dict) -> ExperimentPaths:
    """Return the names of the evaluation's files, but for data set and tag."""
    return ExperimentPaths(
        result_directory=args.result_directory,
        model_directory=args.model_directory,
        log_directory=defaults["log_directory"],
        export_dir=args.export_dir,
        model=defaults["model"],
        dataset="",
        tag="",
        is_eval=True,
        seed=args.seed,
    )


def describe(args: argparse.Namespace, defaults: dict, challenge: Challenge, paths: ExperimentPaths) -> KnownSystem:
    """Gather what the meta file says: parameters of the training runs, sampling rate, development results."""
    development = load_challenge(challenge.name, is_eval=False)
    return KnownSystem(
        label=args.label,
        score=args.score,
        model=paths.model,
        seed=args.seed,
        parameters=_trained_with(challenge, paths, defaults),
        decision_threshold=args.decision_threshold,
        sampling_rate=_sampling_rate(challenge, args.dataset_directory),
        development={m: _development_results(m, development, paths, args.score) for m in development.machine_types},
    )


def _trained_with(challenge: Challenge, paths: ExperimentPaths, defaults: dict) -> dict[str, list]:
    """Return the values of each parameter in the training runs' records; baseline.yaml's where there is no record."""
    from tools.record import read_parameters  # with torch, which --check does without

    records, missing = [], 0
    for machine_type, sections in challenge.sections.items():
        for section in sections:
            path = replace(paths, dataset=challenge.name + machine_type, tag=f"id({section}_)").record
            record = read_parameters(path, (*FEATURES, *TRAINING))
            if record is None:
                missing += 1
            else:
                records.append(record)
    if missing:
        records.append({name: defaults[name] for name in (*FEATURES, *TRAINING)})
        print(f"{missing} networks have no record in {paths.network.parent}; the meta file has baseline.yaml's values")
    return {name: list(dict.fromkeys(record[name] for record in records)) for name in records[0]}


def _sampling_rate(challenge: Challenge, dataset_directory: Path) -> int | None:
    """Return the sampling rate of the first test clip that is at hand, in Hz."""
    from datasets.features import read_header

    for machine_type in challenge.machine_types:
        clips = clip_paths(MachineFolders(dataset_directory, challenge.name, machine_type, is_eval=True).test)
        if clips:
            return read_header(clips[0]).sampling_rate
    return None


def _development_results(
    machine_type: str, development: Challenge, paths: ExperimentPaths, score: str
) -> dict[str, float | None]:
    """Return the metrics of a development machine type, the harmonic mean over its sections; {} without results."""
    rows = []
    for section in development.sections[machine_type]:
        run = replace(paths, dataset=development.name + machine_type, tag=f"id({section}_)", is_eval=False)
        rows.append((read_result_table(run.result_table(score)) or {}).get(section, {}))
    complete = [name for name in RESULTS.values() if all(row.get(name) is not None for row in rows)]
    return {name: harmonic_mean([row[name] for row in rows]) for name in complete}


def write_package(output: Path, label: str, files: Files, meta: bytes) -> None:
    """Write the zip and the copy of the meta file beside it, both or neither.

    Raises
    ------
    InputError
        A file cannot be written.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in sorted({**files, f"{label}.meta.yaml": meta}.items()):
            info = zipfile.ZipInfo(f"{label}/{name}", DATE)
            info.external_attr = 0o100644 << 16  # a plain file, readable by all
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    with all_or_nothing():
        with atomic_write(output / f"{label}.meta.yaml", "wb") as file:
            file.write(meta)
        with atomic_write(output / f"{label}.zip", "wb") as file:
            file.write(packed.getvalue())


def make(args: argparse.Namespace, defaults: dict, challenge: Challenge) -> None:
    """Make the package that the command line names.

    Raises
    ------
    InputError
        Results are missing or are not of the challenge's clips; nothing is written then.
    """
    paths = _paths(args, defaults)
    system = read_complete_system(challenge, paths, args.score)
    labels = read_labels(challenge, args.dataset_directory, args.eval_data_list)
    files = publish(system, labels, args.eval_data_list or label_list_path(challenge.name, args.dataset_directory))
    wrong = check_values(args.label, files, challenge, published_names(challenge, args.dataset_directory, labels))
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise InputError(
            f"the results in {paths.results(args.score)} are not those of the challenge's clips, and nothing is "
            f"written: {'; '.join(wrong[:SHOWN])}{more}; test the complete evaluation set again"
        )
    known = make_meta(describe(args, defaults, challenge, paths))
    meta_file = args.output / f"{args.label}.meta.yaml"
    kept = meta_file.read_bytes() if meta_file.is_file() else None
    write_package(args.output, args.label, files, known.encode() if kept is None else kept)
    n_clips = sum(len(section.clips) for section in system.values())
    print(f"wrote {args.output / f'{args.label}.zip'}: {len(files)} files of {n_clips} clips, and the meta file")
    print(f"{'wrote' if kept is None else 'kept'} {meta_file}, the same as in the zip")
    _print_left(args.label, known.encode() if kept is None else kept, known, challenge)


def _print_left(label: str, meta: bytes, known: str, challenge: Challenge) -> None:
    """Say what the entrant still has to do in the meta file, and what an edited one says otherwise than is known."""
    changed = differences(meta, known)
    if changed:
        print(f"what stands there otherwise than this run would write it: {', '.join(changed)}")
    left = check_meta(label, meta, load_challenge(challenge.name, is_eval=False))
    if left:
        print("in the meta file, then run this again (what you write there stays; without the file it is made anew):")
        print(printable(f"  {line}" for line in left))


def check(args: argparse.Namespace, challenge: Challenge) -> int:
    """Check the package that the command line names, and print each problem; return the exit status."""
    labels = read_labels(challenge, args.dataset_directory, args.eval_data_list)
    published: Published = published_names(challenge, args.dataset_directory, labels)
    n_sections = sum(map(len, challenge.sections.values()))
    found, problems = check_package(args.check, challenge, published)
    if problems:
        print(printable(problems))
    compared = f"clip names compared for {len(published)} of {n_sections} sections"
    verdict = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}" if problems else "fine"
    systems = ", ".join(found) or "no system"
    print(printable([f"{args.check}: {verdict} ({systems}; {challenge.name}; {compared})"]), flush=True)
    return 1 if problems else 0


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(submit)


def submit() -> int | None:
    """Make or check a package, as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_submission",
        description="Make the challenge's package from the results of an evaluation, or check one.",
        allow_abbrev=False,
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--label", type=_label, metavar="LABEL", help="make a package, such as Lastname_INST_task2_1")
    task.add_argument("--check", type=Path, metavar="PATH", help="check a package, a folder or a zip")
    parser.add_argument("--challenge", choices=CHALLENGES, default="DCASE2023T2", help="[default: %(default)s]")
    parser.add_argument(
        "--output", type=Path, default=Path(), metavar="DIR", help="where to write the package [default: here]"
    )
    parser.add_argument(
        "--eval_data_list",
        type=Path,
        metavar="CSV",
        help="the organisers' list of labels [default: eval_data_list_<year>.csv in the data set directory]",
    )
    defaults = read_defaults()
    add_parameters(parser, defaults, OPTIONS)
    args = parser.parse_args()
    challenge = load_challenge(args.challenge, is_eval=True)
    return check(args, challenge) if args.check else make(args, defaults, challenge)


def _label(text: str) -> str:
    if not LABEL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; it takes {LABEL_FORM}")
    return text


if __name__ == "__main__":
    sys.exit(main())
