"""Reads all results of a challenge's subset, from score files or from result tables alone, into Results (results.py).

Figures are computed from the score files, with one `max_fpr` for all systems. If there is only a result table, such as
the reference's, its figures are used. Our stale results are reported (notes.py), not refused.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from common import InputError

from datasets.catalogue import Challenge
from datasets.clips import Clip, MachineFolders, clip_paths, parse_clip
from datasets.labels import label_list_path, read_label_list
from networks.names import Experiment
from tools.results.files import Key, Labels, Metrics, System, keys_of, read_own_system, read_result_table
from tools.results.metrics import METRICS, without_anomalies
from tools.results.notes import note_completeness, note_records, other_seeds, section_names, seed_mixtures
from tools.results.official import score_name
from tools.results.other_systems import read_other_systems
from tools.results.results import Results
from tools.results.test_record import TestRecord, read_test_record

Clips = dict[Key, list[Clip]]
UNLISTED = "missing from the label list"
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
    dataset_directory: Path | None = None,
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
    dataset_directory
        Where the test clips are, if they are on disk.
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
    clips = {name: {key: section.clips for key, section in system.items()} for name, system in systems.items()}
    ours = [clips[name] for name in own if name in clips]
    on_disk = _clips_on_disk(challenge, dataset_directory)
    if _is_other_data_set({key: some for key, some in on_disk.items() if not labels.get(key[0])}, ours):
        on_disk = {}
        notes.append(
            f"our results cover none of the test clips below {dataset_directory}; give the --dataset_directory that "
            "was tested, or test again"
        )
    expected, phrases = expected_clips(challenge, labels, on_disk, ours, [clips[name] for name in found])
    results = Results(challenge, experiment, max_fpr, figures, own, systems, records, expected, notes)
    note_records(results)
    note_completeness(results, phrases)
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


def expected_clips(
    challenge: Challenge, labels: Labels, on_disk: Clips, own: list[Clips], others: list[Clips]
) -> tuple[dict[Key, set[str]], dict[Key, str]]:
    """Return the names of each section's test clips, and a phrase about a system's clips that are not among them.

    The test clips are those in the label list, else those on disk, else those of our systems, else those of any system.
    Unlabelled clips count only where there are no labelled ones.
    """
    names: dict[Key, set[str]] = {}
    for machine_type, labelled in labels.items():
        for name in labelled.values():
            names.setdefault((machine_type, parse_clip(Path(name)).section), set()).add(name)
    phrases = dict.fromkeys(names, UNLISTED)
    origins = (([on_disk], "not in {folder}"), (own, "not in our results"), (others, UNLISTED))
    for labelled_only in (True, False):  # the same clips may have other, published names, in a system without labels
        for systems, phrase in origins:
            complete = set(names)
            for key, clips in ((key, clips) for system in systems for key, clips in system.items()):
                chosen = [clip for clip in clips if clip.label or not labelled_only]
                if key not in complete and chosen:
                    names.setdefault(key, set()).update(clip.name for clip in chosen)
                    phrases[key] = phrase.format(folder=chosen[0].path.parent)
    return {key: names[key] for key in keys_of(challenge) if key in names}, phrases


def _clips_on_disk(challenge: Challenge, dataset_directory: Path | None) -> Clips:
    """Return the test clips of each section below the data set directory; none without one."""
    clips: Clips = {}
    for machine_type in challenge.machine_types if dataset_directory else ():
        folders = MachineFolders(dataset_directory, challenge.name, machine_type, challenge.is_eval)  # type: ignore[arg-type]
        for path in clip_paths(folders.test):
            with contextlib.suppress(InputError):  # a name that is no clip's, which 02 refuses
                clip = parse_clip(path)
                clips.setdefault((machine_type, clip.section), []).append(clip)
    return clips


def _is_other_data_set(on_disk: Clips, own: Iterable[Clips]) -> bool:
    """Return whether we tested none of the labelled clips on disk, but others of these sections."""
    ours = {(key, clip.name) for system in own for key, clips in system.items() for clip in clips if clip.label}
    keys = {key for key, _ in ours}
    theirs = {(key, clip.name) for key, clips in on_disk.items() if key in keys for clip in clips if clip.label}
    return len(theirs) > 0 and ours.isdisjoint(theirs)


def read_seeds(
    first: Results, seeds: Iterable[int], labels: Labels, dataset_directory: Path | None = None
) -> dict[int, Results]:
    """Read our results of several seeds, which must be labelled; `first` are those of the first seed."""
    by_seed, challenge, experiment = {}, first.challenge, first.experiment
    for seed in seeds:
        results = first
        if seed != experiment.seed:
            of_seed = replace(experiment, seed=seed)
            results = read_results(challenge, of_seed, first.max_fpr, labels, dataset_directory=dataset_directory)
        if not results.own_names:
            there = other_seeds(challenge, replace(experiment, seed=seed))
            raise InputError(
                f"there are no labelled results of {challenge.name} with seed {seed} below {experiment.split_results}"
                f"{there}; run 01_train.sh, 02a_test.sh or 02b_test.sh with --seeds {seed} first"
            )
        by_seed[seed] = results
    if len({frozenset((n, k) for n in r.own_names for k in r.figures[n]) for r in by_seed.values()}) > 1:
        first.notes.append("the seeds do not have results of the same systems and sections")
    first.notes.extend(seed_mixtures(by_seed))
    for seed, results in by_seed.items():
        if results is not first:
            without = [name for name in results.own_names if name not in results.official_values]
            lacking = [f"no {score_name(results.rule)} of {name}: {results.incomplete[name]}" for name in without]
            further = [note for note in (*results.notes, *lacking) if note not in first.notes]
            results.notes[:] = [f"seed {seed}: {note}" for note in further]
    return by_seed
