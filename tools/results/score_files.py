"""A system's anomaly scores and decisions, read back from CSV files: ours, or any other's in the challenge's format.

Lines: `<clip name>,<value>`, without a header. Clips under their published names (section_00_0000.wav) need the
organisers' list of labels. The names of the files are this baseline's (common.Run) or the challenge's:

    2022 on     anomaly_score_<machine type>_section_<SS>_test.csv
    2021        anomaly_score_<machine type>_section_<SS>_source_test.csv and ..._target_test.csv
    2020        anomaly_score_<machine type>_id_<ID>.csv

and decision_result_... likewise.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import Experiment, InputError
from datasets.catalogue import OWN, Challenge
from datasets.clips import Clip, parse_clip
from tools.results.files import read_clip_values

Labels = Mapping[str, Mapping[str, str]]  # machine type -> published name -> labelled name
AnyPath = Path | zipfile.Path
OWN_RULE = "own"  # of a user's own machines


@dataclass(frozen=True)
class SectionScores:
    """The scores of a machine type's section, in the order of the file; `decisions` None: there are not all of them."""

    clips: list[Clip]  # under their labelled names, where these are known
    scores: np.ndarray  # (n_clips,)
    decisions: np.ndarray | None  # (n_clips,) bool

    @property
    def is_labelled(self) -> bool:
        """Whether every clip is known to be normal or anomalous."""
        return all(clip.label is not None for clip in self.clips)

    @property
    def is_anomaly(self) -> np.ndarray:
        """Which clips are anomalous: (n_clips,) bool."""
        return np.array([clip.label == "anomaly" for clip in self.clips])

    @property
    def is_target(self) -> np.ndarray:
        """Which clips are of the target domain: (n_clips,) bool."""
        return np.array([clip.is_target for clip in self.clips])

    @property
    def has_domains(self) -> bool:
        """Whether there are metrics by domain: as in the reference, where any clip is of the target domain."""
        return any(clip.is_target for clip in self.clips)

    @property
    def names(self) -> list[str]:
        """The clips' names."""
        return [clip.name for clip in self.clips]

    def labelled(self) -> "SectionScores":
        """Return the clips that are known to be normal or anomalous."""
        chosen = np.array([clip.label is not None for clip in self.clips])
        return self if chosen.all() else self._take(np.flatnonzero(chosen))

    def sorted(self) -> "SectionScores":
        """Return the clips in the order of their names."""
        return self._take(np.argsort(np.array(self.names, dtype=object), kind="stable"))

    def _take(self, which: np.ndarray) -> "SectionScores":
        decisions = None if self.decisions is None else self.decisions[which]
        return SectionScores([self.clips[i] for i in which], self.scores[which], decisions)


System = dict[tuple[str, int], SectionScores]  # by machine type and section


def rule_of(challenge: Challenge) -> str:
    """Return how the challenge's year computes official scores and names files: 2020, 2021, 2022 (and on), or own."""
    if challenge.name == OWN:
        return OWN_RULE
    return str(getattr(challenge, "official_score", None) or "2022")


def challenge_files(challenge: Challenge, machine_type: str, section: int) -> list[tuple[str, str]]:
    """Return the challenge's names of a section's files: pairs of scores and decisions; in 2021 one for each domain."""
    ends = {
        "2020": [f"{machine_type}_id_{section:02d}.csv"],
        "2021": [f"{machine_type}_section_{section:02d}_{domain}_test.csv" for domain in ("source", "target")],
    }.get(rule_of(challenge), [f"{machine_type}_section_{section:02d}_test.csv"])
    return [(f"anomaly_score_{end}", f"decision_result_{end}") for end in ends]


def read_own_system(challenge: Challenge, experiment: Experiment, score: str, labels: Labels | None = None) -> System:
    """Read the scores that the test stage has written: of each section from the network trained on it."""
    system = {}
    for machine_type, sections in challenge.sections.items():
        for section in sections:
            run = experiment.run(challenge.name, machine_type, section)
            files = run.anomaly_scores(score, section), run.decisions(score, section)
            if files[0].is_file():
                system[machine_type, section] = read_section(*files, (labels or {}).get(machine_type))
    return system


def read_section(scores: AnyPath, decisions: AnyPath | None, labels: Mapping[str, str] | None = None) -> SectionScores:
    """Read the scores of a section, and its decisions where there is a file of them.

    `labels`: published name -> labelled name.
    """
    values = read_clip_values(scores)
    decided = read_clip_values(decisions, may_be_empty=True) if decisions is not None and decisions.is_file() else {}
    if decided and set(decided) != set(values):
        raise InputError(f"{decisions} and {scores.name} are not of the same clips; test again")
    wrong = [value for value in decided.values() if value not in (None, 0.0, 1.0)]
    if wrong:
        raise InputError(f"{decisions}: {wrong[0]} is not a decision; give 0 or 1")
    is_complete = bool(decided) and None not in decided.values()
    try:
        clips = [parse_clip(Path((labels or {}).get(name, name))) for name in values]
    except InputError as error:
        raise InputError(f"{scores}: {error}") from error
    return SectionScores(
        clips,
        np.array(list(values.values())),
        np.array([decided[name] == 1 for name in values]) if is_complete else None,
    )


def join_sections(parts: list[SectionScores]) -> SectionScores:
    """Join the parts of a section, such as 2021's domains."""
    decisions = [part.decisions for part in parts if part.decisions is not None]
    return SectionScores(
        [clip for part in parts for clip in part.clips],
        np.concatenate([part.scores for part in parts]),
        np.concatenate(decisions) if len(decisions) == len(parts) else None,
    )
