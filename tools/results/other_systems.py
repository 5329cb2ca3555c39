"""Other systems' score files, at the paths of `--systems [NAME=]PATH`.

PATH is a folder of a system's CSV files, a .zip archive of one, or a folder or archive of several of these. The files
have the challenge's names (files.challenge_files) or those of the reference and of this baseline, so that results of
another experiment or seed can be compared too. Every CSV file that is not used is reported.
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from common import InputError

from datasets.catalogue import Challenge
from runtime.wording import counted, listed
from tools.results.files import Labels, System, challenge_files, keys_of, read_section
from tools.results.members import Member, members

BASELINE_NAME = re.compile(
    r"(?P<kind>anomaly_score|decision_result)_(?P<data_set>.+)_section_(?P<section>\d\d)_test_seed(?P<seed>\d+)"
    r"(?P<tag>_.*?)??(?P<is_eval>_Eval)?\.csv"
)
LARGEST = 50_000_000  # bytes of a file in an archive; 200 clips have 10,000
Files = dict[str, Member]  # the CSV files of a folder by name


def read_other_systems(
    places: Iterable[str], challenge: Challenge, labels: Labels, taken: Iterable[str] = ()
) -> tuple[dict[str, System], list[str]]:
    """Read the systems of all places, each named after its folder unless given a name.

    Parameters
    ----------
    places
        `PATH` or `NAME=PATH`.
    taken
        Names already in use.

    Returns
    -------
    The systems by name, and notes about their files.
    """
    systems: dict[str, System] = {}
    notes: list[str] = []
    for place in places:
        name, path = _split_place(place)
        folders = _system_folders(path, challenge)
        if not folders:
            example = min(_score_files(challenge))
            raise InputError(f"{path} holds no scores of {challenge.name}, such as {example}; give a system's folder")
        for folder, files in folders:
            called = name if name and len(folders) == 1 else f"{name} {folder}" if name else folder
            for system_name, system in _read_folder(path, files, called, challenge, labels, notes).items():
                if system_name in (*taken, *systems):
                    raise InputError(
                        f"--systems {path}: there is another system called {system_name}; give one of them another "
                        f"name with --systems NAME={path}, or give their folders one by one"
                    )
                systems[system_name] = system
    return systems, notes


def _split_place(place: str) -> tuple[str | None, Path]:
    """Return the name that a place was given, if any, and its path."""
    name, separator, path = place.partition("=")
    if separator and name and "/" not in name and not Path(place).exists():
        return name, Path(path).expanduser()
    return None, Path(place).expanduser()


def _system_folders(path: Path, challenge: Challenge) -> list[tuple[str, Files]]:
    """Return the name and the files of each folder that holds score files of the challenge, archives included.

    Folders within such a folder are not separate systems.
    """
    known = _score_files(challenge)
    found, places = [], [path]
    for place in places:  # which archives in a folder extend
        folders: dict[PurePosixPath, Files] = {}
        for member in sorted(members(place), key=lambda member: member.name):
            if member.file.endswith(".csv"):
                is_too_large = place.is_file() and member.size > LARGEST
                problem = member.problem or (f"larger than {LARGEST} bytes" if is_too_large else "")
                if problem:
                    raise InputError(f"{member} is not read: {problem}; give a folder or archive of plain score files")
                folders.setdefault(PurePosixPath(member.folder), {})[member.file] = member
            elif member.file.endswith(".zip") and place.is_dir():
                places.append(Path(str(member)))
        holding = {f for f, files in folders.items() if any(n in known or _run_of(n, challenge) for n in files)}
        for folder in sorted(holding):
            if not holding.intersection(folder.parents):
                found.append((folder.name or place.stem, folders[folder]))
    return found


def _score_files(challenge: Challenge) -> set[str]:
    return {scores for key in keys_of(challenge) for scores, _ in challenge_files(challenge, *key).values()}


def _run_of(name: str, challenge: Challenge) -> tuple[int, str, int, str] | None:
    """Return seed, machine type, section and tag from a score file's name in the baseline's form; None for other files.

    Files of another challenge or subset count as other files.
    """
    match = BASELINE_NAME.fullmatch(name)
    if match is None or match["kind"] != "anomaly_score" or bool(match["is_eval"]) != challenge.is_eval:
        return None
    machine_type, section = match["data_set"].removeprefix(challenge.name), int(match["section"])
    is_known = section in challenge.sections.get(machine_type, ())
    return (int(match["seed"]), machine_type, section, match["tag"] or "") if is_known else None


def _decisions_of(scores: str) -> str:
    return scores.replace("anomaly_score", "decision_result", 1)


def _is_other_result(name: str, challenge: Challenge) -> bool:
    """Return whether a file is a result table of the baseline, or scores of another challenge or subset."""
    match = BASELINE_NAME.fullmatch(name)
    if match is None:
        return name.startswith("result_") and name.endswith("_roc.csv")
    return not match["data_set"].startswith(challenge.name) or bool(match["is_eval"]) != challenge.is_eval


def _read_folder(
    path: Path, files: Files, name: str, challenge: Challenge, labels: Labels, notes: list[str]
) -> dict[str, System]:
    """Read the systems of a folder: one, or one per seed if the file names hold several."""
    used: set[str] = set()
    system: System = {}
    for machine_type, section in keys_of(challenge):
        pairs = challenge_files(challenge, machine_type, section).values()
        found = [pair for pair in pairs if pair[0] in files]
        if found:
            used.update(*found)
            opened = [(files[scores], files.get(decisions)) for scores, decisions in found]
            system[machine_type, section] = read_section(opened, labels.get(machine_type))
            if len(found) < len(pairs):
                notes.append(f"{name}: {machine_type} section {section:02d} has scores of one domain only")
    runs: dict[tuple[int, str, int], dict[str, str]] = {}  # score files by tag
    for file in sorted(files):
        if run := _run_of(file, challenge):
            runs.setdefault(run[:3], {})[run[3]] = file
            used |= {file, _decisions_of(file)}
    by_seed: dict[int, System] = {}
    for (seed, machine_type, section), by_tag in runs.items():
        scores = by_tag.get(f"_id({section}_)", next(iter(by_tag.values())))  # from that section's own network
        if len(by_tag) > 1 and f"_id({section}_)" not in by_tag:
            raise InputError(
                f"{path} holds {len(by_tag)} runs of {machine_type} section {section:02d} and seed {seed} "
                f"({', '.join(by_tag.values())}); keep one of them"
            )
        pair = files[scores], files.get(_decisions_of(scores))
        by_seed.setdefault(seed, {})[machine_type, section] = read_section([pair], labels.get(machine_type))
    unused = [file for file in sorted(files) if file not in used and not _is_other_result(file, challenge)]
    if unused:
        n_files = counted(len(unused), "file")
        notes.append(f"{name}: ignored {n_files} whose name is not one of {challenge.name}'s: {listed(unused)}")
    if len(by_seed) == 1 and not system:
        return {name: next(iter(by_seed.values()))}
    by_name = {f"{name} seed {seed}": of_seed for seed, of_seed in sorted(by_seed.items())}
    return {name: system, **by_name} if system else by_name
