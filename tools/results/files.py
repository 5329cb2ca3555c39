"""The result files of a test, written and read. Formats are the challenge's and the reference's.

anomaly_score, decision_result: `<clip name>,<value>` lines without a header, in clip order; without a threshold,
decisions are empty. result: a line per section, then arithmetic mean and harmonic mean, then an empty line. log.csv: a
line per epoch. The functions that write take an open text file.

Scores and decisions are read from ours or any other system's files. Clips under their published names
(section_00_0000.wav) need the organisers' list of labels. The names of the files are this baseline's (Run) or the
challenge's, and decision_result_... likewise:

    2022 on     anomaly_score_<machine type>_section_<SS>_test.csv
    2021        anomaly_score_<machine type>_section_<SS>_source_test.csv and ..._target_test.csv
    2020        anomaly_score_<machine type>_id_<ID>.csv
"""

import csv
import hashlib
import io
import math
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from common import InputError

import numpy as np

from datasets.catalogue import OWN, Challenge
from datasets.clips import Clip, parse_clip
from networks.names import Experiment
from runtime.wording import listed
from tools.results.members import Member
from tools.results.metrics import DOMAINS, arithmetic_mean, harmonic_mean, section_metrics

ScoreFile = Path | Member

ARITHMETIC, HARMONIC = "arithmetic mean", "harmonic mean"
OWN_RULE = "own"  # of a user's own machines
FINITE, DECISION = "a finite number", "a decision, 0 or 1"  # what is allowed in score files
Key = tuple[str, int]  # machine type and section
Metrics = Mapping[str, float | None]  # metric -> value, None if undefined
Labels = Mapping[str, Mapping[str, str]]  # machine type -> published name -> labelled name


# --- scores and decisions ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SectionScores:
    """The scores of a machine type's section, in the file's order; `decisions` is None if any is missing."""

    clips: list[Clip]  # under their labelled names, where known
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
        """Which clips are from the target domain: (n_clips,) bool."""
        return np.array([clip.is_target for clip in self.clips])

    @property
    def has_domains(self) -> bool:
        """Whether there are metrics by domain: as in the reference, if any clip is from the target domain."""
        return any(clip.is_target for clip in self.clips)

    @property
    def names(self) -> list[str]:
        """The clips' names."""
        return [clip.name for clip in self.clips]

    def metrics(self, max_fpr: float, has_domains: bool | None = None) -> dict[str, float | None]:
        """Return every metric of these clips, which are labelled, in the order of METRICS."""
        is_target = self.is_target if has_domains or (has_domains is None and self.has_domains) else None
        return section_metrics(self.is_anomaly, is_target, self.scores, self.decisions, max_fpr)

    def labelled(self) -> "SectionScores":
        """Return the clips that are known to be normal or anomalous."""
        return self if self.is_labelled else self._take([i for i, clip in enumerate(self.clips) if clip.label])

    def sorted(self) -> "SectionScores":
        """Return the clips in the order of their names."""
        return self._take(sorted(range(len(self.clips)), key=lambda i: self.clips[i].name))

    def _take(self, chosen: list[int]) -> "SectionScores":
        which = np.array(chosen, dtype=int)
        decisions = None if self.decisions is None else self.decisions[which]
        return SectionScores([self.clips[i] for i in chosen], self.scores[which], decisions)


System = dict[Key, SectionScores]


def rule_of(challenge: Challenge) -> str:
    """Return how the challenge's year computes official scores and names files: 2020, 2021, 2022 (and on), or own."""
    return OWN_RULE if challenge.name == OWN else challenge.official_score


def keys_of(challenge: Challenge) -> list[Key]:
    """Return machine types and sections in the tables' order."""
    return [(machine_type, section) for machine_type, sections in challenge.sections.items() for section in sections]


def challenge_files(challenge: Challenge, machine_type: str, section: int) -> dict[str | None, tuple[str, str]]:
    """Return the challenge's names of a section's files (scores, decisions): in 2021 by domain, else under None."""
    start = f"{machine_type}_section_{section:02d}"
    ends: dict[str | None, str] = {None: f"{start}_test.csv"}
    if rule_of(challenge) == "2020":
        ends = {None: f"{machine_type}_id_{section:02d}.csv"}
    elif rule_of(challenge) == "2021":
        ends = {domain: f"{start}_{domain}_test.csv" for domain in DOMAINS}
    return {domain: (f"anomaly_score_{end}", f"decision_result_{end}") for domain, end in ends.items()}


def write_clip_values(file: TextIO, names: Iterable[str], values: Iterable[object]) -> str:
    """Write a line for each clip: its name and its score (as Python prints a float) or decision (0, 1, None: empty).

    Returns the SHA-256 of what was written, for the test's record.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(zip(names, values, strict=True))
    file.write(text.getvalue())
    return hashlib.sha256(text.getvalue().encode(errors="surrogateescape")).hexdigest()


def parse_clip_values(text: str, is_value: Callable[[str], bool], allowed: str) -> tuple[dict[str, str], list[str]]:
    """Return the values of `<clip name>,<value>` lines by clip name, as text, and the problems of the lines.

    `is_value` tells whether a value is valid, and `allowed` describes valid ones.
    """
    values: dict[str, str] = {}
    odd, repeated, wrong = [], [], []
    if re.search(r"""\.wav["']?\s*;""", text, re.IGNORECASE):
        return {}, ["its columns are separated by semicolons: convert them to commas, and decimal commas to points"]
    try:
        for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), 1):
            if len(row) != 2:
                odd.append(f"line {number}")
                continue
            if row[0] in values:
                repeated.append(row[0])
            if not is_value(row[1]):
                wrong.append(f"{row[1][:30]!r} in line {number}")
            values[row[0]] = row[1]
    except csv.Error as error:
        return {}, [f"not a CSV ({error})"]
    found = {"not `<clip name>,<value>`": odd, "more than once in the file": repeated, f"not {allowed}": wrong}
    problems = [f"{listed((item[:60] for item in items), 3)}: {what}" for what, items in found.items() if items]
    return values, problems if values or problems else ["it is empty"]


def is_number(text: str, among: Container[float] | None = None) -> bool:
    """Return whether a text is a finite number, and if given, `among` these."""
    try:
        return math.isfinite(float(text)) and (among is None or float(text) in among)
    except ValueError:
        return False


def read_clip_values(file: ScoreFile, is_decision: bool = False) -> dict[str, float | None]:
    """Read `<clip name>,<number>` lines; a decision may be empty: None. A byte-order mark is skipped."""
    try:
        text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    if is_decision:
        values, problems = parse_clip_values(text, lambda value: not value or is_number(value, (0, 1)), DECISION)
    else:
        values, problems = parse_clip_values(text, is_number, FINITE)
    if problems:
        raise InputError(f"{file} cannot be used: {'; '.join(problems)}; it takes `<clip name>,<number>` lines")
    return {name: float(value) if value else None for name, value in values.items()}


def read_section(
    pairs: Iterable[tuple[ScoreFile, ScoreFile | None]], labels: Mapping[str, str] | None = None
) -> SectionScores:
    """Read a section's scores, and its decisions if there are files of them.

    Parameters
    ----------
    pairs
        Files of scores and of decisions (None if there is none): one pair, in 2021 one for each domain.
    labels
        Published name -> labelled name.
    """
    clips: list[Clip] = []
    scores: list[float | None] = []
    decisions: list[float | None] = []  # None: not decided
    for score_file, decision_file in pairs:
        values = read_clip_values(score_file)
        decided = dict.fromkeys(values) if decision_file is None else read_clip_values(decision_file, is_decision=True)
        if set(decided) != set(values):
            raise InputError(f"{decision_file} and {score_file} are not of the same clips; test again")
        try:
            clips += [parse_clip(Path((labels or {}).get(name, name))) for name in values]
        except InputError as error:
            raise InputError(f"{score_file}: {error}") from error
        scores += values.values()
        decisions += [decided[name] for name in values]
    return SectionScores(clips, np.array(scores), None if None in decisions else np.array(decisions) == 1)


def read_own_system(challenge: Challenge, experiment: Experiment, score: str, labels: Labels | None = None) -> System:
    """Read the scores that the test stage wrote, each section's from the network trained on it."""
    system = {}
    for machine_type, section in keys_of(challenge):
        run = experiment.run(challenge.name, machine_type, section)
        scores, decisions = run.anomaly_scores(score, section), run.decisions(score, section)
        if scores.is_file():
            pair = scores, decisions if decisions.is_file() else None
            system[machine_type, section] = read_section([pair], (labels or {}).get(machine_type))
    return system


# --- result tables and logs -------------------------------------------------------------------------------------------


def write_result_table(file: TextIO, metrics: Mapping[int, Metrics]) -> None:
    """Write the metrics of each section, and their means over the sections."""
    columns = list(next(iter(metrics.values())))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["section", *columns])
    writer.writerows([f"{section:02d}", *values.values()] for section, values in metrics.items())
    for name, mean in ((ARITHMETIC, arithmetic_mean), (HARMONIC, harmonic_mean)):
        writer.writerow([name, *(mean([values[column] for values in metrics.values()]) for column in columns)])
    writer.writerow([])


def read_result_table(path: Path) -> dict[int, dict[str, float | None]] | None:
    """Read the sections' metrics from a result table; None if there is no file."""
    if not path.is_file():
        return None
    try:
        header, *rows = _read_rows(path)
        return {
            int(row[0]): {
                name: float(value) if value else None for name, value in zip(header[1:], row[1:], strict=True)
            }
            for row in rows
            if row[0] not in (ARITHMETIC, HARMONIC)
        }
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a result table of a test ({error}); test again") from error


def write_log(file: TextIO, epochs: Sequence[Any]) -> None:
    """Write the losses of each epoch (networks.training.EpochLosses), a column for each field."""
    writer = csv.DictWriter(file, list(asdict(epochs[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in epochs)


def read_log(path: Path) -> list[dict[str, float]] | None:
    """Read the losses of each epoch; None if there is no file."""
    if not path.is_file():
        return None
    try:
        header, *rows = _read_rows(path)
        if not rows:
            raise ValueError("it has no epoch")
        return [{name: float(value) for name, value in zip(header, row, strict=True)} for row in rows]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a log of a training run ({error}); train again") from error


def _read_rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        return [row for row in csv.reader(file) if row]
