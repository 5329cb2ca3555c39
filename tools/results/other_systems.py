"""Other systems' score files, found where `--systems [NAME=]PATH` points.

PATH is a folder of a system's CSV files, a .zip archive of one, or a folder or archive of several such. The files have
the challenge's names (files.challenge_files) or those of the reference and of this baseline, so that results of another
experiment or seed can be compared too. Every CSV file that is not used is reported.
"""

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from common import InputError
from datasets.catalogue import Challenge, runnable_names
from tools.results.files import AnyPath, Labels, System, challenge_files, keys_of, read_section

BASELINE_NAME = re.compile(
    r"(?P<kind>anomaly_score|decision_result)_(?P<data_set>.+)_section_(?P<section>\d\d)_test_seed(?P<seed>\d+)"
    r"(?P<tag>_.*?)??(?P<is_eval>_Eval)?\.csv"
)
LARGEST = 50_000_000  # bytes of a file in an archive; 200 clips have 10,000
SHOWN_NAMES = 5  # in a sentence


def read_other_systems(
    places: Iterable[str], challenge: Challenge, labels: Labels, taken: Iterable[str] = ()
) -> tuple[dict[str, System], list[str]]:
    """Read the systems of all places, each called after its folder unless it was given a name.

    Parameters
    ----------
    places
        `PATH` or `NAME=PATH`.
    taken
        Names of systems that are there already.

    Returns
    -------
    The systems by name, and what is to be said about their files.
    """
    systems: dict[str, System] = {}
    notes: list[str] = []
    for place in places:
        name, path = _split_place(place)
        try:
            folders = _system_folders(_open(path), challenge)
            if not folders:
                example = challenge_files(challenge, *keys_of(challenge)[0])[0][0]
                raise InputError(
                    f"{path} holds no scores of {challenge.name}, such as {example}; give a system's folder"
                )
            for folder in folders:
                called = name if name and len(folders) == 1 else _name_of(folder, path, name)
                for system_name, system in _read_folder(folder, called, challenge, labels, notes).items():
                    if system_name in (*taken, *systems):
                        raise InputError(
                            f"--systems {path}: there is another system called {system_name}; give one of them "
                            f"another name with --systems NAME={path}, or their folders singly"
                        )
                    systems[system_name] = system
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise InputError(f"--systems {path} cannot be read ({error}); give a folder or a .zip archive") from error
    return systems, notes


def _split_place(place: str) -> tuple[str | None, Path]:
    """Return the name that a place was given, if any, and its path."""
    name, separator, path = place.partition("=")
    if separator and name and "/" not in name and not Path(place).exists():
        return name, Path(path).expanduser()
    return None, Path(place).expanduser()


def _open(path: Path) -> AnyPath:
    """Return the root of a folder or of an archive."""
    if not path.exists():
        raise InputError(f"there is no folder or archive {path}; give a system's folder of score files")
    if path.is_dir():
        return path
    archive = zipfile.ZipFile(path)
    if any(info.file_size > LARGEST for info in archive.infolist()):
        raise InputError(f"{path} holds a file of more than {LARGEST // 10**6} MB; score files are smaller")
    return zipfile.Path(archive)


def _system_folders(root: AnyPath, challenge: Challenge) -> list[AnyPath]:
    """Return the folders that hold score files of the challenge: the root, else those below it, archives included."""
    entries: list[AnyPath] = sorted(root.iterdir(), key=lambda entry: entry.name)  # type: ignore[arg-type]
    known = {scores for key in keys_of(challenge) for scores, _ in challenge_files(challenge, *key)}
    if any(entry.name in known or _baseline_run(entry.name, "anomaly_score", challenge) for entry in entries):
        return [root]
    children = [entry for entry in entries if entry.is_dir()]
    children += [_open(entry) for entry in entries if isinstance(entry, Path) and entry.suffix == ".zip"]
    subset = [child for child in children if child.name == ("eval_data" if challenge.is_eval else "dev_data")]
    found = [_system_folders(child, challenge) for child in subset or children]  # subset: of a whole result directory
    return [folder for folders in found for folder in folders]


def _name_of(folder: AnyPath, path: Path, prefix: str | None) -> str:
    """Return what a folder's system is called: after the folder, or the archive that holds it directly."""
    if isinstance(folder, zipfile.Path):
        name = folder.name if folder.at else Path(folder.root.filename or path).stem
    else:
        name = folder.resolve().name
    return f"{prefix} {name}" if prefix else name


def _baseline_run(name: str, kind: str, challenge: Challenge) -> tuple[int, str, int, str] | None:
    """Return seed, machine type, section and tag of one of the baseline's files, if it is of the challenge's subset."""
    match = BASELINE_NAME.fullmatch(name)
    if match is None or match["kind"] != kind or bool(match["is_eval"]) != challenge.is_eval:
        return None
    machine_type, section = match["data_set"].removeprefix(challenge.name), int(match["section"])
    if section not in challenge.sections.get(machine_type, ()):
        return None
    return int(match["seed"]), machine_type, section, match["tag"] or ""


def _read_folder(
    folder: AnyPath, name: str, challenge: Challenge, labels: Labels, notes: list[str]
) -> dict[str, System]:
    """Read the systems of a folder: one, or one for each seed where the names hold several."""
    names = {entry.name for entry in folder.iterdir() if entry.name.endswith(".csv")}
    used: set[str] = set()
    system: System = {}
    for machine_type, section in keys_of(challenge):
        files = challenge_files(challenge, machine_type, section)
        found = [pair for pair in files if pair[0] in names]
        if found:
            used.update(*found)
            pairs = [(folder / scores, folder / decisions) for scores, decisions in found]
            system[machine_type, section] = read_section(pairs, labels.get(machine_type))
            if len(found) < len(files):
                notes.append(f"{name}: {machine_type} section {section:02d} has scores of one domain only")
    by_seed: dict[int, System] = {}
    for (seed, machine_type, section), scores in _choose_runs(names, folder, challenge).items():
        pair = folder / scores, folder / scores.replace("anomaly_score", "decision_result", 1)
        by_seed.setdefault(seed, {})[machine_type, section] = read_section([pair], labels.get(machine_type))
    unused = sorted(n for n in names - used if not _is_known(n, challenge))
    if unused:
        shown = ", ".join(unused[:SHOWN_NAMES]) + (", ..." if len(unused) > SHOWN_NAMES else "")
        n_files = counted(len(unused), "file")
        notes.append(f"{name}: {n_files} of other names than {challenge.name}'s not used: {shown}")
    if len(by_seed) == 1 and not system:
        return {name: next(iter(by_seed.values()))}
    by_name = {f"{name} seed {seed}": of_seed for seed, of_seed in sorted(by_seed.items())}
    return {name: system, **by_name} if system else by_name


def _choose_runs(names: set[str], folder: AnyPath, challenge: Challenge) -> dict[tuple[int, str, int], str]:
    """Return the score file of each seed, machine type and section: of the run trained on that section alone."""
    candidates: dict[tuple[int, str, int], dict[str, str]] = {}
    for name in sorted(names):
        run = _baseline_run(name, "anomaly_score", challenge)
        if run is not None:
            candidates.setdefault(run[:3], {})[run[3]] = name
    chosen = {}
    for (seed, machine_type, section), by_tag in candidates.items():
        own = by_tag.get(f"_id({section}_)")
        if own is None and len(by_tag) > 1:
            raise InputError(
                f"{folder} holds {len(by_tag)} runs of {machine_type} section {section:02d} and seed {seed} "
                f"({', '.join(by_tag.values())}); keep one of them"
            )
        chosen[seed, machine_type, section] = own or next(iter(by_tag.values()))
    return chosen


def _is_known(name: str, challenge: Challenge) -> bool:
    """Return whether a CSV file need not be reported: of a test of the challenge, or of another challenge or subset."""
    if name.startswith("result_") and name.endswith("_roc.csv"):
        return True
    match = BASELINE_NAME.fullmatch(name)
    if match is None:
        return False
    others = tuple(other for other in runnable_names() if other != challenge.name)
    is_of_another = match["data_set"].startswith(others) or bool(match["is_eval"]) != challenge.is_eval
    return is_of_another or _baseline_run(name, match["kind"], challenge) is not None


def counted(n: int, what: str) -> str:
    """Return `1 clip`, or `2 clips`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
