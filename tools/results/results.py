"""The results of a challenge's subset for one seed: the table of clips, and the table of figures computed from it.

Figures have a row for each `System`, `machine type` and `section` (the index), and a column for each metric, in the
order of METRICS, NaN where undefined. Every table that is printed, written or shown in the report is made from them
(tables.py).
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field

from common import InputError

import numpy as np
import pandas as pd

from datasets.catalogue import Challenge
from networks.names import Experiment
from tools.results.files import Key
from tools.results.official import Estimate, estimate, official_figures, resample_systems
from tools.results.result_record import ResultRecord

NO_SCORE_FILES = "no score files"  # why two systems have no paired resamples


@dataclass(frozen=True)
class Results:
    """The results of all systems of one seed; ours come first."""

    challenge: Challenge
    experiment: Experiment
    max_fpr: float
    own: dict[str, tuple[Experiment, str]]  # our systems that have results: name -> (experiment, score)
    clips: pd.DataFrame  # of all systems that have score files (clips.py)
    figures: pd.DataFrame
    records: dict[tuple[str, str, int], ResultRecord]  # of tests: (system, machine type, section) -> record
    expected: dict[Key, set[str]]  # the names of each section's test clips (reading.py)
    notes: list[str] = field(default_factory=list)  # sentences about missing, stale or incomplete results
    incomplete: dict[str, str] = field(default_factory=dict)  # system -> why it has no official score

    @property
    def rule(self) -> str:
        """The rule by which the challenge's year computes official scores: 2020, 2021, 2022 (and on), or own."""
        return self.challenge.official_score

    @property
    def names(self) -> list[str]:
        """The systems that have figures."""
        return list(dict.fromkeys(self.figures.index.get_level_values("System")))

    @property
    def own_names(self) -> list[str]:
        """Our systems that have figures."""
        return [name for name in self.names if name in self.own]

    @property
    def of_seed(self) -> list[str]:
        """The systems whose figures are of this seed: ours, and others whose files name it."""
        others = set(self.clips["system"][self.clips["seed"] == self.experiment.seed])
        return [name for name in self.names if name in self.own or name in others]

    def metrics_of(self, systems: list[str]) -> list[str]:
        """Return these systems' metrics, defined or not: with domains, or without."""
        figures = self.figures.loc[systems]
        defined = set(figures.columns[figures.notna().any()])
        domains, plain = "anomalous clips (all)" in defined, "anomalous clips" in defined
        return [name for name in figures if name in defined or (domains if "(" in name else plain or name == "pAUC")]

    def figures_of(self, system: str) -> pd.DataFrame:
        """Return a system's figures, by machine type and section, without metrics that it does not have."""
        return self.figures.loc[system][self.metrics_of([system])]

    def machine_types(self, systems: Iterable[str]) -> list[str]:
        """Return the machine types with figures of any of these systems, in table order."""
        present = {machine_type for name in systems for machine_type, _ in self.figures.loc[name].index}
        return [machine_type for machine_type in self.challenge.machine_types if machine_type in present]

    def clips_of(self, system: str) -> dict[Key, pd.DataFrame]:
        """Return a system's clips by machine type and section, in table order; {} without score files."""
        clips = self.clips[self.clips["system"] == system]
        return dict(list(clips.groupby(["machine type", "section"], sort=False)))

    def n_clips(self, system: str) -> tuple[int, int] | None:
        """Count the test clips with scores of a system, and all test clips of these sections."""
        sections = self.clips_of(system)
        if not sections:
            return None
        covered = [
            self.expected[key].intersection(rows["clip"][rows["label"].notna()]) for key, rows in sections.items()
        ]
        return sum(map(len, covered)), sum(len(self.expected[key]) for key in sections)

    # --- official scores ----------------------------------------------------------------------------------------------

    @functools.cached_property
    def official_values(self) -> dict[str, dict[str, float]]:
        """The official scores of the complete systems, without intervals, the best system first.

        `incomplete` says why others have none.
        """
        values = {}
        for name in self.names:
            if name not in self.incomplete:
                try:
                    values[name] = official_figures(self.figures_of(name), self.rule)
                except InputError as error:
                    self.incomplete[name] = str(error)
        return dict(sorted(values.items(), key=lambda item: list(item[1].values()), reverse=True))

    @functools.cached_property
    def _resamples(self) -> dict[str, dict[str, np.ndarray]]:
        """The official scores of each resample, of the systems that have score files for all their figures."""
        scored = [
            name for name in self.official_values if set(self.clips_of(name)) == set(self.figures.loc[name].index)
        ]
        return resample_systems(self.clips[self.clips["system"].isin(scored)], self.max_fpr, self.rule)

    @functools.cached_property
    def official(self) -> dict[str, dict[str, Estimate]]:
        """The official scores of the complete systems, each with its interval: system -> name -> estimate."""
        return {
            name: {
                figure: estimate(value, self._resamples.get(name, {}).get(figure)) for figure, value in values.items()
            }
            for name, values in self.official_values.items()
        }

    def not_compared(self, first: str, second: str) -> str:
        """Return the reason why two systems cannot be compared, or "" if both have scores of the same clips."""
        if set(self.figures.loc[first].index) != set(self.figures.loc[second].index):
            return "different sections"
        sections = set(self.figures.loc[first].index)
        clips = [{key: sorted(rows["clip"]) for key, rows in self.clips_of(name).items()} for name in (first, second)]
        if any(set(of_system) != sections for of_system in clips):
            return NO_SCORE_FILES
        return "" if clips[0] == clips[1] else "different clips"

    def difference(self, first: str, second: str) -> dict[str, Estimate]:
        """Return the difference of the official scores of two systems on the same clips, with its (paired) interval."""
        one, other = self.official_values[first], self.official_values[second]
        drawn, drawn_other = self._resamples[first], self._resamples[second]
        return {name: estimate(one[name] - other[name], drawn[name] - drawn_other[name]) for name in one}
