"""Reads all results of a challenge's subset, from score files or from result tables alone, into Results (results.py).

Figures are computed from the score files, with one `max_fpr` for all systems. If there is only a result table, such as
the reference's, its figures are used. Our stale results are reported (notes.py), not refused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from common import InputError
from datasets.catalogue import Challenge
from datasets.clips import parse_clip
from datasets.labels import label_list_path, read_label_list
from tools.results.files import Key, Labels, Metrics, System, keys_of, read_own_system, read_result_table
from tools.results.metrics import METRICS, without_anomalies
from tools.results.notes import note_completeness, note_records, other_seeds, section_names
from tools.results.other_systems import read_other_systems
from tools.results.results import Results
from tools.results.test_record import TestRecord, read_test_record
from tools.runtime.names import Experiment

DECIDED = {metric.name for metric in METRICS if metric.kind == "decision"}


def read_labels(challenge: Challenge, dataset_directory: Path, given: Path | None) -> Labels:
    """Read the organisers' list of the evaluation clips' labels; empty if there is none and none was given."""
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
        For pAUC. A result table without scores keeps its own.
    labels
        Of clips under published names, where known.
    others
        Paths of other systems' scores, `PATH` or `NAME=PATH` (other_systems.py).
    """
    labels = labels or {}
    own: dict[str, tuple[Experiment, str]] = {}
    systems: dict[str, System] = {}
    tables: dict[str, dict[Key, Metrics]] = {}
    records: dict[tuple[str, str, int], TestRecord] = {}
    for name, (place, score) in experiment.systems().items():
        scores = read_own_system(challenge, place, score, labels)
        tables[name] = {}
        for machine_type, section in keys_of(challenge):
            run = place.run(challenge.name, machine_type, section)
            row = (read_result_table(run.result_table(score)) or {}).get(section)
            if row is not None:
                tables[name][machine_type, section] = row
            if row is not None or (machine_type, section) in scores:
                own[name] = place, score
                record = read_test_record(run, score)
                records |= {} if record is None else {(name, machine_type, section): record}
        if scores:
            systems[name] = scores
    found, notes = read_other_systems(others, challenge, labels, taken=own)
    systems |= found
    figures = {
        name: _figures(name, challenge, systems.get(name, {}), tables.get(name, {}), max_fpr, notes)
        for name in (*own, *found)
    }
    figures = {name: sections for name, sections in figures.items() if sections}
    expected = expected_clips(challenge, labels, systems)
    results = Results(challenge, experiment, max_fpr, figures, own, systems, records, expected, notes)
    note_records(results)
    note_completeness(results, labels)
    return results


def _figures(
    name: str, challenge: Challenge, scores: System, tables: Mapping[Key, Metrics], max_fpr: float, notes: list[str]
) -> dict[Key, Metrics]:
    """Return a system's metrics: from its scores, else from its result tables; none from unlabelled scores."""
    figures: dict[Key, Metrics] = {}
    stale, other, undecided = [], [], []
    for key in keys_of(challenge):
        table = tables.get(key, {})
        if key not in scores:
            figures |= {key: table} if table else {}
            continue
        labelled = scores[key].labelled()
        if not labelled.clips:
            stale += [key] if table else []
            continue
        metrics = labelled.metrics(max_fpr)
        figures[key] = without_anomalies(metrics)
        differing = {metric for metric, value in metrics.items() if not _equal(value, table.get(metric, value))}
        if labelled.decisions is None and differing & DECIDED:
            undecided.append(key)
            differing -= DECIDED
        if differing:
            other.append(key)
    if stale:
        notes.append(
            f"{name}: the scores of {section_names(stale)} are not labelled, so the result table there is not theirs "
            "and is not used"
        )
    if undecided:
        notes.append(f"{name}: no decisions beside the scores of {section_names(undecided)}")
    if other:
        notes.append(
            f"{name}: the result table of {section_names(other)} differs from the scores beside it (another --max_fpr, "
            f"or a change of files); the figures here are the scores', with max_fpr {max_fpr:g}"
        )
    return figures


def _equal(first: float | None, second: float | None) -> bool:
    return first == second or (first is not None and second is not None and abs(first - second) < 1e-9)


def expected_clips(challenge: Challenge, labels: Labels, systems: Mapping[str, System]) -> dict[Key, int]:
    """Return the number of test clips of each section: those in the label list, else those that any system has.

    Unlabelled clips count only where no system has labelled ones.
    """
    names: dict[Key, set[str]] = {}
    for machine_type, labelled in labels.items():
        for name in labelled.values():
            names.setdefault((machine_type, parse_clip(Path(name)).section), set()).add(name)
    for labelled_only in (True, False):  # the same clips may have other, published names, in a system without labels
        listed = set(names)  # a list is complete: a clip that is not in it is not a test clip
        for system in systems.values():
            for key, section in system.items():
                clips = section.labelled().clips if labelled_only else section.clips
                if key not in listed and clips:
                    names.setdefault(key, set()).update(clip.name for clip in clips)
    return {key: len(names[key]) for key in keys_of(challenge) if key in names}


def read_seeds(first: Results, seeds: Iterable[int], labels: Labels) -> dict[int, Results]:
    """Read our results of several seeds, which must be labelled; `first` are those of the first seed."""
    by_seed, challenge, experiment = {}, first.challenge, first.experiment
    for seed in seeds:
        results = first
        if seed != experiment.seed:
            results = read_results(challenge, replace(experiment, seed=seed), first.max_fpr, labels)
        if not results.own_names:
            there = other_seeds(challenge, replace(experiment, seed=seed))
            raise InputError(
                f"there are no labelled results of {challenge.name} with seed {seed} below {experiment.split_results}"
                f"{there}; run 01_train.sh, 02a_test.sh or 02b_test.sh with --seeds {seed} first"
            )
        by_seed[seed] = results
    if len({frozenset((n, k) for n in r.own_names for k in r.figures[n]) for r in by_seed.values()}) > 1:
        first.notes.append("the seeds do not have results of the same systems and sections")
    epochs = {seed: {r.epochs for r in results.records.values()} for seed, results in by_seed.items()}
    if len({frozenset(some) for some in epochs.values() if some}) > 1:
        listed = ", ".join(f"{seed}: {' and '.join(map(str, sorted(some, key=str)))}" for seed, some in epochs.items())
        first.notes.append(f"the seeds were trained for different numbers of epochs ({listed})")
    return by_seed
