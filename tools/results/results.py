"""All results of a challenge's subset, as one tidy table.

Its columns are System, metric, machine type, section and value (NaN if a metric is undefined). Every table that is
printed, written or shown in the report is made from it (tables.py).
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field

from common import InputError

import numpy as np
import pandas as pd

from datasets.catalogue import Challenge
from networks.names import Experiment
from tools.results.files import Key, Metrics, System, rule_of
from tools.results.metrics import METRICS
from tools.results.official import Figure, estimate, official_figures, resample_systems
from tools.results.test_record import TestRecord

NO_SCORE_FILES = "no score files"  # why two systems have no paired resamples


@dataclass(frozen=True)
class Results:
    """The results of all systems of one seed."""

    challenge: Challenge
    experiment: Experiment
    max_fpr: float
    # the metrics of all systems that have any: system -> machine type and section, in the tables' order -> metric ->
    # value. Ours come first.
    figures: dict[str, dict[Key, Metrics]]
    own: dict[str, tuple[Experiment, str]]  # our systems that have results: name -> (experiment, score)
    systems: dict[str, System]  # the scores of all systems that have score files, labelled or not, by name
    # of our systems: (name, machine type, section) -> the record of the test, if there is one
    records: dict[tuple[str, str, int], TestRecord]
    # the names of the test clips of each machine type and section (reading.expected_clips)
    expected: dict[Key, set[str]]
    notes: list[str] = field(default_factory=list)  # sentences about missing, stale or incomplete results
    incomplete: dict[str, str] = field(default_factory=dict)  # system -> why it has no official score

    @property
    def rule(self) -> str:
        """The rule by which the challenge's year computes official scores."""
        return rule_of(self.challenge)

    @property
    def own_names(self) -> list[str]:
        """Our systems that have figures."""
        return [name for name in self.figures if name in self.own]

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """The tidy table, its rows by system, then by metric in the order of METRICS, then by section."""
        rows = [
            (system, metric.name, machine_type, section, values[metric.name])
            for system, sections in self.figures.items()
            for metric in METRICS
            for (machine_type, section), values in sections.items()
            if metric.name in values
        ]
        columns = ["System", "metric", "machine type", "section", "value"]
        return pd.DataFrame(rows, columns=columns).astype({"value": float})

    def machine_types(self, systems: Iterable[str] | None = None) -> list[str]:
        """Return the machine types with figures of any of these systems (None: of all), in table order."""
        names = self.figures if systems is None else systems
        present = {machine_type for name in names for machine_type, _ in self.figures[name]}
        return [machine_type for machine_type in self.challenge.machine_types if machine_type in present]

    def values(self, system: str, metric: str, machine_type: str | None = None) -> list[float | None]:
        """Return a metric of every section of a machine type, or of all, in the tables' order; None where undefined."""
        sections = self.figures[system].items()
        return [values.get(metric) for (name, _), values in sections if machine_type in (None, name)]

    @functools.cached_property
    def official_values(self) -> dict[str, dict[str, float]]:
        """The official scores of the complete systems, without intervals; `incomplete` says why others have none."""
        values = {}
        for name, areas in self.figures.items():
            if name not in self.incomplete:
                try:
                    values[name] = official_figures(areas, self.rule)
                except InputError as error:
                    self.incomplete[name] = str(error)
        return values

    @property
    def _scored(self) -> dict[str, System]:
        """The scores of the systems with official scores that have score files for all their figures."""
        scored = {name: self.systems.get(name, {}) for name in self.official_values}
        return {name: system for name, system in scored.items() if set(system) == set(self.figures[name])}

    @functools.cached_property
    def _resamples(self) -> dict[str, dict[str, np.ndarray]]:
        """The official scores of each resample, of the systems with score files."""
        return resample_systems(self._scored, self.max_fpr, self.rule)

    @functools.cached_property
    def official(self) -> dict[str, dict[str, Figure]]:
        """The official scores of the systems that are complete, each with its interval: system -> name -> figure."""
        return {
            name: {what: estimate(value, self._resamples.get(name, {}).get(what)) for what, value in values.items()}
            for name, values in self.official_values.items()
        }

    def not_compared(self, first: str, second: str) -> str:
        """Return why two systems with official scores cannot be compared; "" if they can: they need the same clips."""
        if set(self.figures[first]) != set(self.figures[second]):
            return "different sections"
        if not {first, second} <= set(self._scored):
            return NO_SCORE_FILES
        clips = [{key: sorted(s.names) for key, s in self.systems[name].items()} for name in (first, second)]
        return "" if clips[0] == clips[1] else "different clips"

    def difference(self, first: str, second: str) -> dict[str, Figure]:
        """Return the difference of two systems' official scores, with its interval over the clips (paired)."""
        if self.not_compared(first, second):
            return {}
        one, other = self.official_values[first], self.official_values[second]
        drawn, drawn_other = self._resamples[first], self._resamples[second]
        return {what: estimate(one[what] - other[what], drawn[what] - drawn_other[what]) for what in one}

    def n_clips(self, system: str) -> tuple[int, int] | None:
        """Return how many of the test clips a system's scores cover, and how many these sections have."""
        scores = self.systems.get(system)
        if not scores:
            return None
        covered = [self.expected[key].intersection(s.labelled().names) for key, s in scores.items()]
        return sum(map(len, covered)), sum(len(self.expected[key]) for key in scores)
