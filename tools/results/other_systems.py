"""Other systems' score files, found where `--systems [NAME=]PATH` points.

PATH is a folder of a system's CSV files, a .zip archive of one, or a folder or archive of several such. The files have
the challenge's names (score_files.challenge_files) or those of the reference and of this baseline, so that results of
another experiment or seed can be compared too. Every CSV file that is not used is reported.
"""

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from common import InputError
from datasets.catalogue import Challenge, runnable_names
from tools.results.score_files import (
    AnyPath,
    Labels,
    SectionScores,
    System,
    challenge_files,
    join_sections,
    read_section,
)

BASELINE_NAME = re.compile(
    r"(?P<kind>anomaly_score|decision_result)_(?P<data_set>.+)_section_(?P<section>\d\d)_test_seed(?P<seed>\d+)"
    r"(?P<tag>_.*?)??(?P<is_eval>_Eval)?\.csv"
)
LARGEST = 50_000_000  # bytes of a file in an archive; 200 clips have 10,000


@dataclass
class Found:
    """The systems that were found, and what is to be said about them."""

    systems: dict[str, System] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_other_systems(places: Iterable[str], challenge: Challenge, labels: Labels, taken: Iterable[str] = ()) -> Found:
    """Read the systems of all places, each called after its folder unless it was given a name.

    Parameters
    ----------
    places
        `PATH` or `NAME=PATH`.
    taken
        Names of systems that are there already.
    """
    found = Found()
    for place in places:
        name, path = _split_place(place)
        try:
            systems = _read_place(path, name, challenge, labels, found.notes)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise InputError(f"--systems {path} cannot be read ({error}); give a folder or a .zip archive") from error
        for system_name, system in systems.items():
            if system_name in (*taken, *found.systems):
                raise InputError(
                    f"--systems {path}: there is another system called {system_name}; give one of them another name "
                    f"with --systems NAME={path}"
                )
            found.systems[system_name] = system
    return found


def _split_place(place: str) -> tuple[str | None, Path]:
    """Return the name that a place was given, if any, and its path."""
    name, separator, path = place.partition("=")
    if separator and name and "/" not in name and not Path(place).exists():
        return name, Path(path).expanduser()
    return None, Path(place).expanduser()


def _read_place(
    path: Path, name: str | None, challenge: Challenge, labels: Labels, notes: list[str]
) -> dict[str, System]:
    if not path.exists():
        raise InputError(f"there is no folder or archive {path}; give a system's folder of score files")
    root = _open(path)
    folders = _system_folders(root, challenge)
    if not folders:
        expected = challenge_files(challenge, challenge.machine_types[0], next(iter(challenge.sections.values()))[0])
        raise InputError(
            f"{path} holds no scores of {challenge.name}, such as {expected[0][0]}; give a system's folder"
        )
    systems: dict[str, System] = {}
    for folder in folders:
        own_name = name if name and len(folders) == 1 else _name_of(folder, path, name)
        for system_name, system in _read_folder(folder, own_name, challenge, labels, notes).items():
            if system_name in systems:
                raise InputError(f"--systems {path} holds two systems called {system_name}; give their folders singly")
            systems[system_name] = system
    return systems


def _open(path: Path) -> AnyPath:
    """Return the root of a folder or of an archive."""
    if path.is_dir():
        return path
    archive = zipfile.ZipFile(path)
    if any(info.file_size > LARGEST for info in archive.infolist()):
        raise InputError(f"{path} holds a file of more than {LARGEST // 10**6} MB; score files are smaller")
    return zipfile.Path(archive)


def _system_folders(root: AnyPath, challenge: Challenge) -> list[AnyPath]:
    """Return the folders that hold score files of the challenge: the root, else those below it, archives included."""
    if _score_files(root, challenge):
        return [root]
    children: list[AnyPath] = []
    found: list[AnyPath] = list(root.iterdir())
    for child in sorted(found, key=lambda child: child.name):
        if child.is_dir():
            children.append(child)
        elif isinstance(child, Path) and child.suffix == ".zip":
            children.append(_open(child))
    subset = "eval_data" if challenge.is_eval else "dev_data"
    if any(child.name == subset for child in children):  # a whole result directory
        children = [child for child in children if child.name == subset]
    return [folder for child in children for folder in _system_folders(child, challenge)]


def _name_of(folder: AnyPath, path: Path, prefix: str | None) -> str:
    """Return what a folder's system is called: after the folder, or the archive that holds it directly."""
    if isinstance(folder, zipfile.Path):
        name = folder.name if folder.at else Path(folder.root.filename or path).stem
    else:
        name = folder.resolve().name
    return f"{prefix} {name}" if prefix else name


def _score_files(folder: AnyPath, challenge: Challenge) -> bool:
    names = {entry.name for entry in folder.iterdir() if entry.name.startswith("anomaly_score_")}
    known = {scores for _, _, files in _challenge_sections(challenge) for scores, _ in files}
    return bool(names & known) or any(_baseline_name(name, challenge) for name in names)


def _challenge_sections(challenge: Challenge) -> list[tuple[str, int, list[tuple[str, str]]]]:
    return [
        (machine_type, section, challenge_files(challenge, machine_type, section))
        for machine_type, sections in challenge.sections.items()
        for section in sections
    ]


def _baseline_name(name: str, challenge: Challenge) -> re.Match | None:
    """Return the parts of one of the baseline's names, if it is of the challenge's subset."""
    match = BASELINE_NAME.fullmatch(name)
    if match is None or bool(match["is_eval"]) != challenge.is_eval:
        return None
    machine_type = match["data_set"].removeprefix(challenge.name)
    return match if int(match["section"]) in challenge.sections.get(machine_type, ()) else None


def _read_folder(
    folder: AnyPath, name: str, challenge: Challenge, labels: Labels, notes: list[str]
) -> dict[str, System]:
    """Read the systems of a folder: one, or one for each seed where the names hold several."""
    names = {entry.name for entry in folder.iterdir() if entry.name.endswith(".csv")}
    used: set[str] = set()
    system: System = {}
    for machine_type, section, files in _challenge_sections(challenge):
        parts = []
        for scores, decisions in files:
            if scores in names:
                used |= {scores, decisions}
                parts.append(read_section(folder / scores, folder / decisions, labels.get(machine_type)))
        if parts:
            system[machine_type, section] = join_sections(parts) if len(parts) > 1 else parts[0]
            if len(parts) < len(files):
                notes.append(f"{name}: {machine_type} section {section:02d} has scores of one domain only")
    by_seed: dict[int, System] = {}
    for (seed, machine_type, number), scores in _choose_runs(names, folder, challenge).items():
        decisions = scores.replace("anomaly_score", "decision_result", 1)
        section_scores: SectionScores = read_section(folder / scores, folder / decisions, labels.get(machine_type))
        by_seed.setdefault(seed, {})[machine_type, number] = section_scores
    unused = sorted(n for n in names - used if not _is_known(n, challenge))
    if unused:
        shown = ", ".join(unused[:5]) + (", ..." if len(unused) > 5 else "")
        notes.append(f"{name}: {_files(len(unused))} of other names than {challenge.name}'s not used: {shown}")
    if len(by_seed) == 1 and not system:
        return {name: next(iter(by_seed.values()))}
    by_name = {f"{name} seed {seed}": of_seed for seed, of_seed in sorted(by_seed.items())}
    return {name: system, **by_name} if system else by_name


def _files(n: int) -> str:
    return "1 file" if n == 1 else f"{n} files"


def _choose_runs(names: set[str], folder: AnyPath, challenge: Challenge) -> dict[tuple[int, str, int], str]:
    """Return the score file of each seed, machine type and section: of the run trained on that section alone."""
    candidates: dict[tuple[int, str, int], dict[str, str]] = {}
    for name in sorted(names):
        match = _baseline_name(name, challenge)
        if match is not None and match["kind"] == "anomaly_score":
            key = int(match["seed"]), match["data_set"].removeprefix(challenge.name), int(match["section"])
            candidates.setdefault(key, {})[match["tag"] or ""] = name
    chosen = {}
    for key, by_tag in candidates.items():
        own = by_tag.get(f"_id({key[2]}_)")
        if own is None and len(by_tag) > 1:
            raise InputError(
                f"{folder} holds {len(by_tag)} runs of {key[1]} section {key[2]:02d} and seed {key[0]} "
                f"({', '.join(by_tag.values())}); keep one of them"
            )
        chosen[key] = own or next(iter(by_tag.values()))
    return chosen


def _is_known(name: str, challenge: Challenge) -> bool:
    """Tell whether a CSV file of a results folder is one that need not be reported."""
    if name.startswith("result_") and name.endswith("_roc.csv"):
        return True
    match = BASELINE_NAME.fullmatch(name)
    if match is None:
        return False
    if bool(_baseline_name(name, challenge)):
        return True
    of_others = [c for c in runnable_names() if c != challenge.name]
    return (
        any(match["data_set"].startswith(other) for other in of_others) or bool(match["is_eval"]) != challenge.is_eval
    )
