"""The table of clips: the scores of all systems, ours and others', one row a clip. A folder holds a system.

Columns: `system`; `seed`, of the run (NO_SEED for files with the challenge's names); `machine type`; `section`, a
number; `clip`, the labelled name where known; `domain` (source, target) and `label` (normal, anomaly), None where
unknown; `score`; `decision`, 0.0 or 1.0, NaN for all clips of a section of which any is undecided; `file`, the path of
the scores. Rows are in the tables' order of sections, then in the file's.

Files have the challenge's names (files.challenge_files), or those of this baseline and of the reference. Clips under
their published names (section_00_0000.wav) get their labels from the organisers' list.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from common import InputError

import numpy as np
import pandas as pd

from datasets.catalogue import Challenge
from datasets.clips import parse_clip
from datasets.labels import label_list_path, read_label_list
from networks.names import Experiment
from runtime.wording import counted, listed
from tools.results.files import challenge_files, read_clip_values

COLUMNS = ("system", "seed", "machine type", "section", "clip", "domain", "label", "score", "decision", "file")
NO_SEED = -1
TAKEN = "--systems: there is another system called {}; give one of them another name with --systems NAME=PATH"
RUN_FILE = re.compile(
    r"(anomaly_score|decision_result)_(?P<data_set>.+)_section_(?P<section>\d\d)_test_seed(?P<seed>\d+)"
    r"(?P<tag>_.*?)??(?P<is_eval>_Eval)?\.csv"
)
Labels = Mapping[str, Mapping[str, str]]  # machine type -> published name -> labelled name
Files = dict[tuple[str, int, int], list[Path]]  # the score files of a machine type, section and seed


def read_labels(challenge: Challenge, dataset_directory: Path, given: Path | None) -> Labels:
    """Read the organisers' labels of the evaluation clips; without a list they are empty, unless one was given."""
    path = given or label_list_path(challenge.name, dataset_directory)
    if given is None and not (challenge.is_eval and path.is_file()):
        return {}
    return read_label_list(path, challenge.machine_types)


def is_anomaly(clips: pd.DataFrame) -> np.ndarray:
    """Mark the anomalous clips, (n_clips,) bool."""
    return (clips["label"] == "anomaly").to_numpy(bool)


def is_target(clips: pd.DataFrame) -> np.ndarray:
    """Mark the clips from the target domain, (n_clips,) bool; clips without a domain count as source."""
    return (clips["domain"] == "target").to_numpy(bool)


def decisions_of(clips: pd.DataFrame) -> np.ndarray | None:
    """Return the decisions of a section's clips, (n_clips,) bool, or None without decisions."""
    return None if clips["decision"].isna().any() else (clips["decision"] == 1).to_numpy(bool)


def read_own_systems(challenge: Challenge, experiment: Experiment, labels: Labels | None = None) -> pd.DataFrame:
    """Read the scores that the test stage wrote for the experiment's seed, each section's from its own network."""
    tables = [clips_table([])]
    for name, (place, score) in experiment.systems().items():
        files: Files = {}
        for key in challenge.section_keys():
            path = place.run(challenge.name, *key).anomaly_scores(score, key[1])
            files |= {(*key, experiment.seed): [path]} if path.is_file() else {}
        tables.append(_read_files(files, name, labels or {}))
    return pd.concat(tables, ignore_index=True)


def read_other_systems(places: Iterable[str], challenge: Challenge, labels: Labels) -> tuple[pd.DataFrame, list[str]]:
    """Read the systems of all places, with all their seeds, each named after its folder unless given a name.

    Parameters
    ----------
    places
        `PATH` or `NAME=PATH`: a folder with a system's score files, or of such folders.

    Returns
    -------
    The table of clips, and notes about files that are not used.
    """
    tables: dict[str, pd.DataFrame] = {}
    notes = []
    for place in places:
        name, separator, path = place.partition("=")
        if not separator or "/" in name or Path(place).exists():
            name, path = "", place
        folders = _system_folders(Path(path).expanduser().resolve(), challenge)
        for folder in folders:
            system = name if name and len(folders) == 1 else f"{name} {folder.name}".strip()
            if system in tables:
                raise InputError(TAKEN.format(system))
            files, unused = _score_files(folder, challenge)
            tables[system] = _read_files(files, system, labels)
            if unused:
                n_files = counted(len(unused), "file")
                notes.append(
                    f"{system}: ignored {n_files} whose name is not one of {challenge.name}'s: {listed(unused)}"
                )
    return pd.concat([clips_table([]), *tables.values()], ignore_index=True), notes


def _system_folders(path: Path, challenge: Challenge) -> list[Path]:
    """Find the outermost folders with score files, from a path down."""
    if not path.is_dir():
        advice = "unzip it and give its folder" if path.suffix == ".zip" else "give a system's folder of score files"
        raise InputError(f"{path} is not a folder; {advice}")
    folders: list[Path] = []
    for folder in sorted((path, *path.rglob("*/"))):
        if not set(folders).intersection(folder.parents) and _score_files(folder, challenge)[0]:
            folders.append(folder)
    if not folders:
        example = min(
            scores for key in challenge.section_keys() for scores, _ in challenge_files(challenge, *key).values()
        )
        raise InputError(f"{path} holds no scores of {challenge.name}, such as {example}; give a system's folder")
    return folders


def _score_files(folder: Path, challenge: Challenge) -> tuple[Files, list[str]]:
    """Find a folder's score files, and the names of CSV files that do not belong to a test."""
    known = {
        scores: (*key, NO_SEED, domain or "")
        for key in challenge.section_keys()
        for domain, (scores, _) in challenge_files(challenge, *key).items()
    }
    by_tag: dict[tuple[str, int, int], dict[str, Path]] = {}  # tag of the run, or domain -> file
    unused = []
    for path in sorted(folder.glob("*.csv")):
        match = RUN_FILE.fullmatch(path.name)
        machine_type, section, seed, tag = known.get(path.name, ("", 0, 0, ""))
        if match and path.name.startswith("anomaly") and bool(match["is_eval"]) == challenge.is_eval:
            machine_type, section = match["data_set"].removeprefix(challenge.name), int(match["section"])
            seed, tag = int(match["seed"]), match["tag"] or ""
        if section in challenge.sections.get(machine_type, ()):
            by_tag.setdefault((machine_type, section, seed), {})[tag] = path
        elif not match and not path.name.startswith("result_") and _scores_of(path.name) not in known:
            unused.append(path.name)
    files, order = Files(), challenge.section_keys()
    for key in sorted(by_tag, key=lambda key: (key[2], order.index(key[:2]))):
        tags, own = by_tag[key], f"_id({key[1]}_)"  # the tag of that section's own network
        files[key] = [tags[own]] if own in tags else list(tags.values())
        if len(files[key]) > 1 and key[2] != NO_SEED:
            raise InputError(
                f"{folder} holds {len(tags)} runs of {key[0]} section {key[1]:02d} and seed {key[2]} "
                f"({', '.join(path.name for path in tags.values())}); keep one of them"
            )
    return files, unused


def _scores_of(decisions: str) -> str:
    return decisions.replace("decision_result", "anomaly_score", 1)


def _read_files(files: Files, system: str, labels: Labels) -> pd.DataFrame:
    """Read a system's score files, and the decisions beside them."""
    rows = []
    for (machine_type, section, seed), paths in files.items():
        start = system, seed, machine_type, section
        scores, decisions = dict[str, float](), dict[str, float]()
        for path in paths:
            values = read_clip_values(path)
            decided = path.with_name(path.name.replace("anomaly_score", "decision_result", 1))
            of_clips = (
                read_clip_values(decided, is_decision=True) if decided.is_file() else dict.fromkeys(values, np.nan)
            )
            if set(of_clips) != set(values):
                raise InputError(f"{decided} and {path} are not of the same clips; test again")
            scores |= values
            decisions |= of_clips
        is_decided = not np.isnan(list(decisions.values())).any()
        for name, score in scores.items():
            try:
                clip = parse_clip(Path(labels.get(machine_type, {}).get(name, name)))
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
            decision = decisions[name] if is_decided else np.nan
            rows.append((*start, clip.name, clip.domain, clip.label, score, decision, paths[0]))
    return clips_table(rows)


def clips_table(rows: Iterable[tuple]) -> pd.DataFrame:
    """Return a table of clips; texts stay Python's, since names may hold bytes that are not UTF-8."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS), dtype=object)
    return table.astype({"seed": int, "section": int, "score": float, "decision": float})
