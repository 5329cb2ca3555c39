"""A system's anomaly scores and decisions, read back from CSV files: ours, or any other's in the challenge's format.

Names of files: this baseline's (ExperimentPaths), or the challenge's: anomaly_score_<machine type>_section_00_test.csv
and decision_result_<machine type>_section_00_test.csv. Lines: `<clip name>,<value>`, without a header. Clips under
their published names (section_00_0000.wav) need the organisers' list of labels.
"""

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common import ExperimentPaths, InputError
from datasets.catalogue import Challenge
from datasets.clips import Clip, parse_clip
from tools.metrics import section_metrics

Labels = dict[str, dict[str, str]]  # machine type -> published name -> labelled name
OFFICIAL = ("AUC (source)", "AUC (target)", "pAUC")  # whose harmonic mean over all sections is the official score
OFFICIAL_PLAIN = ("AUC", "pAUC")  # of clips without domains


@dataclass(frozen=True)
class SectionScores:
    """The scores of a machine type's section, in the order of the file; `decisions` None: there are not all of them."""

    clips: list[Clip]  # under their labelled names, where these are known
    scores: np.ndarray  # (n_clips,)
    decisions: np.ndarray | None  # (n_clips,) bool

    @property
    def is_labelled(self) -> bool:
        """Return whether every clip is known to be normal or anomalous."""
        return all(clip.label is not None for clip in self.clips)

    @property
    def is_anomaly(self) -> np.ndarray:
        """Return which clips are anomalous: (n_clips,) bool."""
        return np.array([clip.label == "anomaly" for clip in self.clips])

    @property
    def is_target(self) -> np.ndarray:
        """Return which clips are of the target domain: (n_clips,) bool."""
        return np.array([clip.is_target for clip in self.clips])

    @property
    def has_domains(self) -> bool:
        """Return whether any clip's name tells the domain."""
        return any(clip.domain is not None for clip in self.clips)


System = dict[tuple[str, int], SectionScores]  # by machine type and section


def challenge_names_of(machine_type: str, section: int) -> tuple[str, str]:
    """Return the challenge's names of the files of scores and of decisions."""
    end = f"{machine_type}_section_{section:02d}_test.csv"
    return f"anomaly_score_{end}", f"decision_result_{end}"


def read_own_system(challenge: Challenge, paths: ExperimentPaths, score: str, labels: Labels | None = None) -> System:
    """Read the scores that the test stage has written: of each section from the network trained on it.

    Raises
    ------
    InputError
        A file is no score file.
    """
    system = {}
    for machine_type, sections in challenge.sections.items():
        for section in sections:
            run = replace(paths, dataset=challenge.name + machine_type, tag=f"id({section}_)")
            files = run.anomaly_scores(score, section), run.decisions(score, section)
            if files[0].is_file():
                system[machine_type, section] = read_section(*files, (labels or {}).get(machine_type))
    return system


def read_system(folder: Path, challenge: Challenge, labels: Labels | None = None) -> System:
    """Read a system's scores from a folder of files with the challenge's names.

    Raises
    ------
    InputError
        The folder has no score file of the challenge's machine types, or a file is no score file.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give a system's folder of score files")
    system = {}
    for machine_type, sections in challenge.sections.items():
        for section in sections:
            scores, decisions = (folder / name for name in challenge_names_of(machine_type, section))
            if scores.is_file():
                system[machine_type, section] = read_section(scores, decisions, (labels or {}).get(machine_type))
    if not system:
        name = challenge_names_of(challenge.machine_types[0], 0)[0]
        raise InputError(f"{folder} holds no scores of {challenge.name}, such as {name}; give a system's folder")
    return system


def read_section(scores: Path, decisions: Path, labels: dict[str, str] | None = None) -> SectionScores:
    """Read the scores of a section, and its decisions where there is a file of them.

    Raises
    ------
    InputError
        A file is not `<clip name>,<finite number>` lines, each clip once; or the two are not of the same clips.
    """
    values = read_values(scores)
    decided = read_values(decisions, may_be_empty=True) if decisions.is_file() else {}
    if decided and set(decided) != set(values):
        raise InputError(f"{decisions} and {scores.name} are not of the same clips; test again")
    wrong = [value for value in decided.values() if value not in (None, 0.0, 1.0)]
    if wrong:
        raise InputError(f"{decisions}: {wrong[0]} is no decision; it is 0 or 1")
    is_complete = bool(decided) and None not in decided.values()
    clips = [parse_clip(scores.parent / (labels or {}).get(name, name)) for name in values]
    return SectionScores(
        clips,
        np.array(list(values.values())),
        np.array([decided[name] == 1 for name in values]) if is_complete else None,
    )


def read_values(path: Path, may_be_empty: bool = False) -> dict[str, float | None]:
    """Read `<clip name>,<number>` lines; None for an empty value, if there may be one.

    Raises
    ------
    InputError
        The file cannot be read, or a line is not so, or names a clip again.
    """
    values = {}
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if len(row) != 2 or row[0] in values:
                    raise ValueError(f"line {number} is no new clip's name and number")
                value = None if may_be_empty and not row[1] else float(row[1])
                if value is not None and not math.isfinite(value):
                    raise ValueError(f"line {number}: {row[1]} is no finite number")
                values[row[0]] = value
        if not values:
            raise ValueError("it is empty")
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be used: {reason}; it takes `<clip name>,<number>` lines") from error
    return values


def official_metrics(section: SectionScores, max_fpr: float) -> dict[str, float | None]:
    """Return the metrics of a labelled section that the official score is made of."""
    metrics = section_metrics(
        section.is_anomaly, section.is_target if section.has_domains else None, section.scores, None, max_fpr
    )
    return {name: metrics[name] for name in (OFFICIAL if section.has_domains else OFFICIAL_PLAIN)}
