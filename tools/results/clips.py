"""The table of clips: the scores of all systems, ours and others', one row a clip. A folder holds a system.

Columns: `system`; `seed`, of the run (NO_SEED for files with the challenge's names); `machine type`; `section`, a
number; `clip`, the labelled name where known; `domain` (source, target) and `label` (normal, anomaly), None where
unknown; `score`; `decision`, 0.0 or 1.0, NaN for all clips of a section of which any is undecided. Rows are in the
tables' order of sections, then in the file's.

Files have the challenge's names (files.challenge_files), or those of this baseline and of the reference. Clips under
their published names (section_00_0000.wav) get their labels from the organisers' list.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from common import InputError

import numpy as np
import pandas as pd

from datasets.catalogue import Challenge
from datasets.clips import parse_clip
from datasets.labels import label_list_path, read_label_list
from networks.names import Experiment
from runtime.wording import counted, listed
from tools.results.files import challenge_files, keys_of, read_clip_values

COLUMNS = ("system", "seed", "machine type", "section", "clip", "domain", "label", "score", "decision")
NO_SEED = -1
RUN_FILE = re.compile(
    r"(?P<kind>anomaly_score|decision_result)_(?P<data_set>.+)_section_(?P<section>\d\d)_test_seed(?P<seed>\d+)"
    r"(?P<tag>_.*?)??(?P<is_eval>_Eval)?\.csv"
)
Labels = Mapping[str, Mapping[str, str]]  # machine type -> published name -> labelled name
Section = tuple[str, int, int]  # machine type, section, seed


def read_labels(challenge: Challenge, dataset_directory: Path, given: Path | None) -> Labels:
    """Read the organisers' list of the evaluation clips' labels; empty if there is none and none was given."""
    path = given or label_list_path(challenge.name, dataset_directory)
    if given is None and not (challenge.is_eval and path.is_file()):
        return {}
    return read_label_list(path, challenge.machine_types)


def is_anomaly(clips: pd.DataFrame) -> np.ndarray:
    """Return which clips are anomalous: (n_clips,) bool."""
    return (clips["label"] == "anomaly").to_numpy(bool)


def is_target(clips: pd.DataFrame) -> np.ndarray:
    """Return which clips are from the target domain, (n_clips,) bool; clips without a domain count as source."""
    return (clips["domain"] == "target").to_numpy(bool)


def decisions_of(clips: pd.DataFrame) -> np.ndarray | None:
    """Return the decisions of a section's clips, (n_clips,) bool; None if it has none."""
    return None if clips["decision"].isna().any() else (clips["decision"] == 1).to_numpy(bool)


# --- folders ----------------------------------------------------------------------------------------------------------


def read_own_systems(challenge: Challenge, experiment: Experiment, labels: Labels | None = None) -> pd.DataFrame:
    """Read the scores that the test stage wrote for the experiment's seed, each section's from its own network."""
    tables = []
    for name, (place, score) in experiment.systems().items():
        files = _run_files(place.results(score), challenge)
        own = {
            section: [by_tag[f"_id({section[1]}_)"]]
            for section, by_tag in files.items()
            if section[2] == experiment.seed and f"_id({section[1]}_)" in by_tag
        }
        tables.append(_read_sections(own, name, challenge, labels or {}))
    return _concat(tables)


def read_other_systems(
    places: Iterable[str], challenge: Challenge, labels: Labels, taken: Iterable[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Read the systems of all places, with all their seeds, each named after its folder unless given a name.

    Parameters
    ----------
    places
        `PATH` or `NAME=PATH`: a folder with a system's score files, or of such folders.
    taken
        Names already in use.

    Returns
    -------
    The table of clips, and notes about the files.
    """
    tables, names, notes = [], list(taken), list[str]()
    for place in places:
        given, path = _split_place(place)
        folders = _system_folders(path, challenge)
        for folder in folders:
            name = given if given and len(folders) == 1 else f"{given} {folder.name}" if given else folder.name
            if name in names:
                raise InputError(
                    f"--systems {path}: there is another system called {name}; give one of them another name with "
                    f"--systems NAME={path}, or give their folders one by one"
                )
            names.append(name)
            files, further = _files_of_folder(folder, name, challenge)
            tables.append(_read_sections(files, name, challenge, labels))
            notes += further
    return _concat(tables), notes


def _split_place(place: str) -> tuple[str | None, Path]:
    """Return the name that a place was given, if any, and its path."""
    name, separator, path = place.partition("=")
    if separator and name and "/" not in name and not Path(place).exists():
        return name, Path(path).expanduser().resolve()
    return None, Path(place).expanduser().resolve()


def _system_folders(path: Path, challenge: Challenge) -> list[Path]:
    """Return the folders with score files: a path itself, else those below it that are in no other of them."""
    if path.suffix == ".zip":
        raise InputError(f"{path} is an archive; unzip it and give its folder")
    if not path.is_dir():
        raise InputError(f"there is no folder {path}; give a system's folder of score files")
    folders: list[Path] = []
    for folder in sorted((path, *path.rglob("*/"))):
        has_scores = _run_files(folder, challenge) or _challenge_files(folder, challenge)
        if has_scores and not set(folders) & set(folder.parents):
            folders.append(folder)
    if not folders:
        example = min(scores for key in keys_of(challenge) for scores, _ in challenge_files(challenge, *key).values())
        raise InputError(f"{path} holds no scores of {challenge.name}, such as {example}; give a system's folder")
    return folders


def _files_of_folder(folder: Path, name: str, challenge: Challenge) -> tuple[dict[Section, list[Path]], list[str]]:
    """Return the score files of each section and seed of another system, and notes about the folder's other files."""
    files, notes = _challenge_files(folder, challenge), []
    for (machine_type, section, _), paths in files.items():
        if len(paths) < len(challenge_files(challenge, machine_type, section)):
            notes.append(f"{name}: {machine_type} section {section:02d} has scores of one domain only")
    used = [path for paths in files.values() for path in paths]
    for key, by_tag in _run_files(folder, challenge).items():
        own = f"_id({key[1]}_)"  # the tag of that section's own network
        if len(by_tag) > 1 and own not in by_tag:
            raise InputError(
                f"{folder} holds {len(by_tag)} runs of {key[0]} section {key[1]:02d} and seed {key[2]} "
                f"({', '.join(path.name for path in by_tag.values())}); keep one of them"
            )
        files[key] = [by_tag.get(own, next(iter(by_tag.values())))]
        used += by_tag.values()
    known = {file.name for path in used for file in (path, _decisions_of(path))}
    unused = [path.name for path in sorted(folder.glob("*.csv")) if path.name not in known]
    unused = [file for file in unused if not _is_other_result(file, challenge)]
    if unused:
        n_files = counted(len(unused), "file")
        notes.append(f"{name}: ignored {n_files} whose name is not one of {challenge.name}'s: {listed(unused)}")
    return files, notes


def _challenge_files(folder: Path, challenge: Challenge) -> dict[Section, list[Path]]:
    """Return the score files with the challenge's names, by section; in 2021 two for the two domains."""
    names = {key: [scores for scores, _ in challenge_files(challenge, *key).values()] for key in keys_of(challenge)}
    files = {(*key, NO_SEED): [folder / n for n in some if (folder / n).is_file()] for key, some in names.items()}
    return {section: paths for section, paths in files.items() if paths}


def _run_files(folder: Path, challenge: Challenge) -> dict[Section, dict[str, Path]]:
    """Return the score files with the baseline's names, by section and seed, then by the run's tag."""
    files: dict[Section, dict[str, Path]] = {}
    for path in sorted(folder.glob("anomaly_score_*.csv")):
        match = RUN_FILE.fullmatch(path.name)
        if match and bool(match["is_eval"]) == challenge.is_eval:
            machine_type, section = match["data_set"].removeprefix(challenge.name), int(match["section"])
            if section in challenge.sections.get(machine_type, ()):
                files.setdefault((machine_type, section, int(match["seed"])), {})[match["tag"] or ""] = path
    return files


def _decisions_of(scores: Path) -> Path:
    return scores.with_name(scores.name.replace("anomaly_score", "decision_result", 1))


def _is_other_result(name: str, challenge: Challenge) -> bool:
    """Return whether a file is a result table of the baseline, or scores of another challenge or subset."""
    match = RUN_FILE.fullmatch(name)
    if match is None:
        return name.startswith("result_") and name.endswith("_roc.csv")
    return not match["data_set"].startswith(challenge.name) or bool(match["is_eval"]) != challenge.is_eval


# --- the table --------------------------------------------------------------------------------------------------------


def _read_sections(
    files: Mapping[Section, Collection[Path]], system: str, challenge: Challenge, labels: Labels
) -> pd.DataFrame:
    """Read a system's score files, and the decisions beside them, by section and seed."""
    order, rows = keys_of(challenge), []
    for machine_type, section, seed in sorted(files, key=lambda key: (key[2], order.index(key[:2]))):
        scores, decisions = dict[str, float](), dict[str, float]()
        for path in files[machine_type, section, seed]:
            of_file = read_clip_values(path)
            decided = dict.fromkeys(of_file, np.nan)
            if _decisions_of(path).is_file():
                decided = read_clip_values(_decisions_of(path), is_decision=True)
            if set(decided) != set(of_file):
                raise InputError(f"{_decisions_of(path)} and {path} are not of the same clips; test again")
            scores |= of_file
            decisions |= decided
        if any(np.isnan(decision) for decision in decisions.values()):
            decisions = dict.fromkeys(scores, np.nan)
        for name, score in scores.items():
            try:
                clip = parse_clip(Path(labels.get(machine_type, {}).get(name, name)))
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
            row = (system, seed, machine_type, section, clip.name, clip.domain, clip.label, score, decisions[name])
            rows.append(row)
    return clips_table(rows)


def clips_table(rows: Iterable[tuple]) -> pd.DataFrame:
    """Return a table of clips; texts stay Python's, since names may hold bytes that are not UTF-8."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS), dtype=object)
    return table.astype({"seed": int, "section": int, "score": float, "decision": float})


def _concat(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else clips_table([])
