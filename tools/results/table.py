"""All results of a challenge's subset as one tidy table, from score files, or from result tables alone.

Columns: system, seed (none for other systems), machine type, section, metric, value (NaN where a metric is not
defined). Every table that is printed or written is a pivot of it (tables.py).

Figures are computed from the score files, with one `max_fpr` for all systems. Where only a result table is there (the
reference's, copied alone), its figures stand instead. Results of ours that are stale are reported, not refused.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common import Experiment, InputError, Run
from datasets.catalogue import Challenge
from datasets.clips import parse_clip
from datasets.labels import label_list_path, read_label_list
from tools.results.files import read_result_table
from tools.results.metrics import METRICS, further_metrics, harmonic_mean, section_metrics, summary_metrics
from tools.results.official import Figure, interval, official_figures, resample_systems
from tools.results.other_systems import read_other_systems
from tools.results.score_files import Labels, SectionScores, System, read_own_system, rule_of
from tools.results.test_record import TestRecord, problems_of, read_test_record

COLUMNS = ("system", "seed", "machine type", "section", "metric", "value")
Mean = Callable[[Iterable[float | None]], float | None]
KNOWN = {metric.name for metric in METRICS}
SHOWN_NAMES = 5  # in a sentence


@dataclass(frozen=True)
class Results:
    """The results of all systems of one seed.

    Attributes
    ----------
    own
        Our systems that have results: name -> (experiment, score).
    systems
        The scores of all systems that have score files, labelled or not, by name.
    records
        Of our systems: (name, machine type, section) -> the record of the test, where there is one.
    expected
        The number of test clips of each machine type and section, as far as labels and systems tell.
    notes
        Sentences about what is missing, stale or incomplete.
    """

    challenge: Challenge
    experiment: Experiment
    max_fpr: float
    table: pd.DataFrame
    own: dict[str, tuple[Experiment, str]]
    systems: dict[str, System]
    records: dict[tuple[str, str, int], TestRecord]
    expected: dict[tuple[str, int], int]
    notes: list[str]
    incomplete: dict[str, str] = field(default_factory=dict)  # system -> why it has no official score

    @property
    def rule(self) -> str:
        """How the challenge's year computes official scores."""
        return rule_of(self.challenge)

    @property
    def names(self) -> list[str]:
        """The names of all systems that have figures: ours, then the others."""
        return list(self.table["system"].unique())

    @property
    def metrics(self) -> list[str]:
        """The metrics that any system has, in the order of METRICS."""
        present = set(self.table["metric"])
        return [metric.name for metric in METRICS if metric.name in present]

    @property
    def machine_types(self) -> list[str]:
        """The machine types that any system has figures of, in the tables' order."""
        present = set(self.table["machine type"])
        return [machine_type for machine_type in self.challenge.machine_types if machine_type in present]

    @functools.cached_property
    def _values(self) -> dict[str, dict[tuple[str, int], dict[str, float | None]]]:
        values: dict[str, dict[tuple[str, int], dict[str, float | None]]] = {}
        for system, _, machine_type, section, metric, value in self.table.itertuples(index=False):
            by_metric = values.setdefault(system, {}).setdefault((machine_type, section), {})
            by_metric[metric] = None if math.isnan(value) else value
        return values

    def sections(self, system: str) -> dict[tuple[str, int], dict[str, float | None]]:
        """Return all metrics of a system: machine type and section -> metric -> value."""
        return self._values[system]

    def values(self, system: str, metric: str, machine_type: str | None = None) -> list[float | None]:
        """Return a metric of every section of a machine type, or of all, in the tables' order; None where undefined."""
        found = self._values[system]
        return [
            found[name, section].get(metric)
            for name, sections in self.challenge.sections.items()
            for section in sections
            if machine_type in (None, name) and (name, section) in found
        ]

    def mean(
        self,
        system: str,
        metric: str,
        machine_type: str | None = None,
        mean: Mean = harmonic_mean,
    ) -> float | None:
        """Return the mean of a metric over a machine type's sections, or over all."""
        return mean(self.values(system, metric, machine_type))

    @functools.cached_property
    def official(self) -> dict[str, dict[str, Figure]]:
        """The official scores of the systems that are complete, each with its interval: system -> name -> figure."""
        return self._official_and_resamples[0]

    @functools.cached_property
    def _official_and_resamples(self) -> tuple[dict[str, dict[str, Figure]], dict[str, dict[str, np.ndarray]]]:
        values = {}
        for name in self.names:
            if name not in self.incomplete:
                try:
                    values[name] = official_figures(self.sections(name), self.rule)
                except InputError as error:
                    self.incomplete[name] = str(error)
        scored = {
            name: self.systems[name]
            for name in values
            if set(self.systems.get(name, {})) == set(self.sections(name))  # else a result table stands for some scores
        }
        resamples = resample_systems(scored, self.max_fpr, self.rule)
        figures = {
            name: {
                what: Figure(value, *interval(value, resamples[name][what])) if name in resamples else Figure(value)
                for what, value in by_name.items()
            }
            for name, by_name in values.items()
        }
        return figures, resamples

    def difference(self, first: str, second: str) -> dict[str, Figure] | None:
        """Return the difference of two systems' official scores, with its interval over the clips (paired).

        None where they are not of the same clips, or an official score or score file is missing.
        """
        figures, resamples = self._official_and_resamples
        if not (first in resamples and second in resamples) or not _same_clips(
            self.systems[first], self.systems[second]
        ):
            return None
        differences = {}
        for what in figures[first]:
            value = figures[first][what].value - figures[second][what].value
            limits = interval(value, resamples[first][what] - resamples[second][what])
            differences[what] = Figure(value, *limits)
        return differences

    def n_clips(self, system: str) -> tuple[int, int] | None:
        """Return how many labelled clips a system's scores have, and how many there are in these sections."""
        scores = self.systems.get(system)
        if not scores:
            return None
        return sum(len(s.labelled().clips) for s in scores.values()), sum(self.expected[key] for key in scores)


def read_labels(challenge: Challenge, dataset_directory: Path, given: Path | None) -> Labels:
    """Read the organisers' list of the evaluation clips' labels; none where it is not there and was not given."""
    path = given or label_list_path(challenge.name, dataset_directory)
    if given is None and not (challenge.is_eval and path.is_file()):
        return {}
    return read_label_list(path, challenge.machine_types)


def read_results(
    challenge: Challenge,
    experiment: Experiment,
    max_fpr: float,
    labels: Labels | None = None,
    others: Iterable[str] = (),
) -> Results:
    """Read the results of all systems: ours that have any on disk, then the others.

    Parameters
    ----------
    max_fpr
        Of pAUC. A result table without scores keeps the one that it was made with.
    labels
        Of clips under published names, where they are known.
    others
        Where other systems' scores are, `PATH` or `NAME=PATH` (other_systems.py).
    """
    labels = labels or {}
    notes: list[str] = []
    systems: dict[str, System] = {}
    records: dict[tuple[str, str, int], TestRecord] = {}
    own: dict[str, tuple[Experiment, str]] = {}
    rows: list[tuple] = []
    tables: dict[str, dict[tuple[str, int], dict[str, float | None]]] = {}
    for name, (place, score) in experiment.systems().items():
        scores = read_own_system(challenge, place, score, labels)
        tables[name] = _read_result_tables(challenge, place, score)
        if scores or tables[name]:
            own[name] = place, score
        if scores:
            systems[name] = scores
    found = read_other_systems(others, challenge, labels, taken=own)
    systems |= found.systems
    notes += found.notes
    expected = expected_clips(challenge, labels, systems)
    for name in (*own, *found.systems):
        seed = own[name][0].seed if name in own else None
        figures = _figures(name, systems.get(name, {}), tables.get(name, {}), max_fpr, rule_of(challenge), notes)
        if name in own:
            records |= _read_records(name, *own[name], challenge, {*systems.get(name, {}), *figures})
        for (machine_type, section), metrics in figures.items():
            rows += [
                (name, seed, machine_type, section, metric, value)
                for metric, value in metrics.items()
                if metric in KNOWN
            ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": float, "seed": object})
    results = Results(challenge, experiment, max_fpr, table, own, systems, records, expected, notes)
    _note_records(results)
    _note_completeness(results, labels)
    return results


def _read_result_tables(
    challenge: Challenge, experiment: Experiment, score: str
) -> dict[tuple[str, int], dict[str, float | None]]:
    """Read the result tables of a system: each section from the network trained on it."""
    found = {}
    for machine_type, sections in challenge.sections.items():
        for section in sections:
            table = experiment.run(challenge.name, machine_type, section).result_table(score)
            row = (read_result_table(table) or {}).get(section)
            if row is not None:
                found[machine_type, section] = row
    return found


def _figures(
    name: str,
    scores: System,
    tables: Mapping[tuple[str, int], dict[str, float | None]],
    max_fpr: float,
    rule: str,
    notes: list[str],
) -> dict[tuple[str, int], dict[str, float | None]]:
    """Return a system's metrics: of its scores, else of its result tables; nothing of unlabelled scores."""
    figures: dict[tuple[str, int], dict[str, float | None]] = {}
    stale, other = [], []
    for key in dict.fromkeys((*scores, *tables)):
        if key not in scores:
            figures[key] = tables[key]
            continue
        labelled = scores[key].labelled()
        if not labelled.clips:
            stale += [key] if key in tables else []
            continue
        figures[key] = all_metrics(labelled, max_fpr, rule)
        known = [metric for metric in figures[key] if metric in tables.get(key, {})]
        if any(not _equal(figures[key][metric], tables[key][metric]) for metric in known):
            other.append(key)
    if stale:
        notes.append(
            f"{name}: the scores of {section_names(stale)} are not labelled, so the result table there is not theirs, "
            "and is not used"
        )
    if other:
        notes.append(
            f"{name}: the result table of {section_names(other)} differs from the scores beside it, as after a test "
            f"with another --max_fpr or a change of files; the figures here are computed from the scores, with "
            f"max_fpr {max_fpr:g}"
        )
    return figures


def all_metrics(section: SectionScores, max_fpr: float, rule: str = "2022") -> dict[str, float | None]:
    """Return every metric of a labelled section, in the order of METRICS."""
    is_target = section.is_target if section.has_domains else None
    given = section.is_anomaly, is_target, section.scores, section.decisions
    metrics = {**section_metrics(*given, max_fpr), **further_metrics(*given)}
    return {metric.name: metrics[metric.name] for metric in METRICS if metric.name in metrics}


def _equal(first: float | None, second: float | None) -> bool:
    return first == second or (first is not None and second is not None and abs(first - second) < 1e-9)


def expected_clips(challenge: Challenge, labels: Labels, systems: Mapping[str, System]) -> dict[tuple[str, int], int]:
    """Return how many test clips each section has: those that the label list or any system names."""
    names: dict[tuple[str, int], set[str]] = {}
    for machine_type, labelled in labels.items():
        for name in labelled.values():
            key = machine_type, parse_clip(Path(name)).section
            if key[1] in challenge.sections.get(machine_type, ()):
                names.setdefault(key, set()).add(name)
    listed = {key for key, clips in names.items() if clips}
    for system in systems.values():
        for key, section in system.items():
            if key not in listed:  # a list is complete: what it does not hold is not a test clip
                names.setdefault(key, set()).update(section.names)
    return {key: len(clips) for key, clips in names.items()}


def _read_records(
    name: str, experiment: Experiment, score: str, challenge: Challenge, keys: Iterable[tuple[str, int]]
) -> dict[tuple[str, str, int], TestRecord]:
    records = {}
    for machine_type, section in keys:
        record = read_test_record(experiment.run(challenge.name, machine_type, section), score)
        if record is not None:
            records[name, machine_type, section] = record
    return records


def _note_records(results: Results) -> None:
    """Report our results that are stale or of other parameters, by what their records say."""
    problems: dict[tuple[str, str], list[tuple[str, int]]] = {}
    without: dict[str, list[tuple[str, int]]] = {}
    for name, (experiment, score) in results.own.items():
        for key in dict.fromkeys((*results.systems.get(name, {}), *results._values.get(name, {}))):
            record = results.records.get((name, *key))
            if record is None:
                without.setdefault(name, []).append(key)
                continue
            run = experiment.run(results.challenge.name, *key)
            found = problems_of(record, run, score)
            if key not in results.systems.get(name, {}) and record.max_fpr != results.max_fpr:
                found.append(f"its pAUC is up to max_fpr {record.max_fpr:g} instead of {results.max_fpr:g}")
            for problem in found:
                problems.setdefault((name, problem), []).append(key)
    for (name, problem), keys in problems.items():
        results.notes.append(f"{name}, {section_names(keys)}: {problem}; test again")
    if without:
        results.notes.append(
            f"no record of the test beside the results of {', '.join(without)}, as in the reference's: what network "
            "and parameters they come from is not checked"
        )


def _note_completeness(results: Results, labels: Labels) -> None:
    """Report what is missing, and note which systems cannot have an official score because of it."""
    challenge = results.challenge
    absent: dict[tuple[str, ...], list[str]] = {}
    for name in results.systems:
        if name not in results.names:
            results.notes.append(f"{name}: no figures, since none of its clips is labelled")
    for name in results.names:
        have = {machine_type for machine_type, _ in results.sections(name)}
        missing = tuple(m for m in challenge.machine_types if m not in have)
        if missing:
            absent.setdefault(missing, []).append(name)
    for machine_types, names in absent.items():
        results.notes.append(f"no labelled results of {', '.join(machine_types)}: {', '.join(names)}")
    for name in results.names:
        sections = [
            (machine_type, section)
            for machine_type, numbers in challenge.sections.items()
            for section in numbers
            if any(key[0] == machine_type for key in results.sections(name))
            and (machine_type, section) not in results.sections(name)
        ]
        if sections:
            results.notes.append(f"{name}: no labelled results of {section_names(sections)}")
        for key, values in results.sections(name).items():
            undefined = [metric for metric in summary_metrics(values) if values[metric] is None]
            if undefined:
                results.notes.append(f"{name}: {section_names([key])} has no {', '.join(undefined)}")
        reason = _incomplete(results, name, labels)
        if reason:
            results.incomplete[name] = reason


def _incomplete(results: Results, name: str, labels: Labels) -> str | None:
    """Return why a system's scores are not of all clips of their sections."""
    for key, section in results.systems.get(name, {}).items():
        labelled, n = section.labelled(), results.expected[key]
        known = set(labels.get(key[0], {}).values())
        unknown = [c.name for c in section.clips if c.label is None or (known and c.name not in known)]
        if unknown:
            shown = ", ".join(unknown[:SHOWN_NAMES]) + (", ..." if len(unknown) > SHOWN_NAMES else "")
            return f"{section_names([key])} has {_clips(len(unknown))} that the label list does not hold: {shown}"
        if len(labelled.clips) < n:
            return f"{section_names([key])} has {len(labelled.clips)} of {n} clips"
    return None


def _clips(n: int) -> str:
    return "1 clip" if n == 1 else f"{n} clips"


def section_names(keys: Iterable[tuple[str, int]]) -> str:
    """Return the names of sections for a sentence: `fan section 00, valve section 00`."""
    names = [f"{machine_type} section {section:02d}" for machine_type, section in keys]
    return ", ".join(names[:SHOWN_NAMES]) + (
        f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    )


def _same_clips(first: System, second: System) -> bool:
    return set(first) == set(second) and all(sorted(first[key].names) == sorted(second[key].names) for key in first)


def read_seeds(
    challenge: Challenge, experiment: Experiment, seeds: Iterable[int], max_fpr: float, labels: Labels | None = None
) -> dict[int, Results]:
    """Read our results of several seeds; each must have labelled ones."""
    by_seed = {}
    for seed in seeds:
        results = read_results(challenge, replace(experiment, seed=seed), max_fpr, labels)
        if not results.names:
            raise InputError(
                f"there are no labelled results of {challenge.name} with seed {seed} below {experiment.split_results}; "
                f"run 01_train.sh, 02a_test.sh or 02b_test.sh with --seeds {seed} first"
            )
        by_seed[seed] = results
    return by_seed


def run_of(results: Results, name: str, machine_type: str, section: int) -> Run:
    """Return the run of one of our systems."""
    experiment, _ = results.own[name]
    return experiment.run(results.challenge.name, machine_type, section)
