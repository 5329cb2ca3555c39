"""Reads all results of a challenge's subset, from score files or from result tables alone, into Results (results.py).

Figures are computed from the clips' scores, with one `max_fpr` for all systems. If there is only a result table, such
as the reference's, its figures are used. Our stale results are reported (notes.py), not refused.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from common import InputError

import pandas as pd

from datasets.catalogue import Challenge
from datasets.clips import MachineFolders, clip_paths, parse_clip
from networks.names import Experiment
from runtime.wording import listed
from tools.results.clips import (
    NO_SEED,
    TAKEN,
    Labels,
    clips_table,
    decisions_of,
    is_anomaly,
    is_target,
    read_own_systems,
)
from tools.results.files import Key, read_result_table
from tools.results.metrics import METRICS, section_metrics, without_anomalies
from tools.results.notes import note_completeness, note_configurations, note_records, other_seeds, seed_mixtures
from tools.results.official import score_name
from tools.results.result_record import read_result_record, result_record_path
from tools.results.results import Results

SECTION = ["machine type", "section"]
UNLISTED = "missing from the label list"


def read_results(
    challenge: Challenge,
    experiment: Experiment,
    max_fpr: float,
    labels: Labels | None = None,
    others: pd.DataFrame | None = None,
    dataset_directory: Path | None = None,
    notes: Iterable[str] = (),
) -> Results:
    """Read the results of all systems: ours that have any on disk, then the others.

    Parameters
    ----------
    max_fpr
        For pAUC. A result table without scores keeps its own.
    labels
        Of clips under published names, where known.
    others
        The table of other systems' clips (clips.py), of one seed.
    dataset_directory
        Where the test clips are, if they are on disk.
    notes
        About the files of the others.
    """
    labels, others, notes = labels or {}, clips_table([]) if others is None else others, list(notes)
    ours = read_own_systems(challenge, experiment, labels)
    clips = pd.concat([ours, others], ignore_index=True)
    by_section = dict(list(clips.groupby(["system", *SECTION], sort=False)))
    own: dict[str, tuple[Experiment, str]] = {}
    score_files = {row: section["file"].iloc[0] for row, section in by_section.items()}
    figures: dict[tuple, Mapping[str, float | None]] = {}
    for name, (place, score) in experiment.systems().items():
        for key in challenge.section_keys():
            run = place.run(challenge.name, *key)
            table = read_result_table(run.result_table(score)).get(key[1])
            if table or (name, *key) in by_section:
                own[name] = place, score
                if table and (name, *key) not in by_section:
                    figures[name, *key] = table
                    score_files[name, *key] = run.anomaly_scores(score, key[1])
    if twice := set(own).intersection(others["system"]):
        raise InputError(TAKEN.format(min(twice)))
    for row, section in by_section.items():
        labelled = section[section["label"].notna()]
        if len(labelled):
            figures[row] = without_anomalies(clip_metrics(labelled, max_fpr))
    on_disk = _clips_on_disk(challenge, dataset_directory)
    on_disk = on_disk[~on_disk["machine type"].isin(labels)]
    expected, phrases = _expected_clips(challenge, labels, on_disk, ours, others)
    systems = [*own, *others["system"].unique()]
    rows = [row for system in systems for key in challenge.section_keys() if (row := (system, *key)) in figures]
    index = pd.MultiIndex.from_tuples(rows, names=["System", *SECTION])
    table = pd.DataFrame([figures[row] for row in rows], index=index)
    table = table.reindex(columns=[metric.name for metric in METRICS if metric.name in table]).astype(float)
    paths = {row: result_record_path(path) for row, path in score_files.items()}
    records = {row: read_result_record(path) for row, path in paths.items() if path.exists()}
    results = Results(challenge, experiment, max_fpr, own, clips, table, records, expected, notes)
    note_records(results)
    note_configurations(results)
    note_completeness(results, phrases)
    return results


def clip_metrics(clips: pd.DataFrame, max_fpr: float) -> dict[str, float | None]:
    """Return all metrics of a section's labelled clips: by domain, as in the reference, if any is a target clip."""
    target = is_target(clips)
    domains = target if target.any() else None
    return section_metrics(is_anomaly(clips), domains, clips["score"].to_numpy(), decisions_of(clips), max_fpr)


# --- which clips are test clips ---------------------------------------------------------------------------------------


def _expected_clips(
    challenge: Challenge, labels: Labels, on_disk: pd.DataFrame, ours: pd.DataFrame, others: pd.DataFrame
) -> tuple[dict[Key, set[str]], dict[Key, str]]:
    """Return the names of each section's test clips, and a phrase about a system's clips that are not among them.

    The test clips are those in the label list, else those on disk, else those of our systems, else those of any system.
    Unlabelled clips count only where there are no labelled ones.
    """
    listed_clips = _clips((machine_type, name) for machine_type in labels for name in labels[machine_type].values())
    places = ((listed_clips, UNLISTED), (on_disk, "not in {folder}"), (ours, "not in our results"), (others, UNLISTED))
    names: dict[Key, set[str]] = {}
    phrases: dict[Key, str] = {}
    for labelled_only in (True, False):  # the same clips may have other, published names, in a system without labels
        for clips, phrase in places:
            chosen = clips[clips["label"].notna()] if labelled_only else clips
            for key, section in chosen.groupby(SECTION, sort=False):
                if key not in names:
                    names[key] = set(section["clip"])
                    phrases[key] = phrase.format_map(section.iloc[0])
    return {key: names[key] for key in challenge.section_keys() if key in names}, phrases


def _clips_on_disk(challenge: Challenge, dataset_directory: Path | None) -> pd.DataFrame:
    """Return the test clips below the data set directory; none without one."""
    rows = []
    for machine_type in challenge.machine_types if dataset_directory else ():
        folders = MachineFolders(dataset_directory, challenge.name, machine_type, challenge.is_eval)  # type: ignore[arg-type]
        rows += [(machine_type, path) for path in clip_paths(folders.test)]
    return _clips(rows)


def _clips(rows: Iterable[tuple[str, str | Path]]) -> pd.DataFrame:
    """Return a table of clips without scores, from machine types and paths; without files that 02 refuses."""
    table = []
    for machine_type, path in rows:
        with contextlib.suppress(InputError):
            clip = parse_clip(Path(path))
            table.append((machine_type, clip.section, clip.name, clip.label, clip.path.parent))
    return pd.DataFrame(table, columns=[*SECTION, "clip", "label", "folder"], dtype=object)


# --- seeds ------------------------------------------------------------------------------------------------------------


def of_seed(others: pd.DataFrame, seed: int, seeds: Iterable[int], notes: list[str]) -> pd.DataFrame:
    """Return other systems' clips of one seed, for the tables of one; report the seeds left out, except `seeds`.

    A system without this seed is taken as it is, with the seed in its name if it has several.
    """
    tables = [others[:0]]
    for name, clips in others.groupby("system", sort=False):
        present = sorted(clips["seed"].unique())
        left_out = [str(other) for other in present if other not in (seed, *seeds)]
        if seed in present:
            clips = clips[clips["seed"] == seed]
            notes += [f"{name}: seed {seed}, without {listed(left_out)}; --seeds compares several"] if left_out else []
        elif present != [NO_SEED] and len(present) == 1:
            notes.append(f"{name}: seed {present[0]}, since it has no seed {seed}")
        elif len(present) > 1:
            clips = clips.assign(system=clips["system"] + " seed " + clips["seed"].astype(str))
        tables.append(clips)
    return pd.concat(tables)


def read_seeds(
    first: Results, seeds: Iterable[int], labels: Labels, others: pd.DataFrame, dataset_directory: Path | None = None
) -> dict[int, Results]:
    """Read the results of several seeds, which must be labelled; `first` are those of the first seed."""
    by_seed, challenge = {}, first.challenge
    for seed in seeds:
        results, experiment = first, replace(first.experiment, seed=seed)
        if experiment != first.experiment:
            clips = others[others["seed"] == seed]
            results = read_results(challenge, experiment, first.max_fpr, labels, clips, dataset_directory)
        if not results.of_seed or (first.own_names and not results.own_names):
            raise InputError(
                f"there are no labelled results of {challenge.name} with seed {seed} below {experiment.split_results}"
                f"{other_seeds(challenge, experiment)}; run 01_train.sh, 02a_test.sh or 02b_test.sh with --seeds "
                f"{seed} first"
            )
        by_seed[seed] = results
    if len({frozenset(r.figures.loc[r.of_seed].index) for r in by_seed.values()}) > 1:
        first.notes.append("the seeds do not have results of the same systems and sections")
    first.notes.extend(seed_mixtures(by_seed))
    for seed, results in by_seed.items():
        if results is not first:
            without = [name for name in results.names if name not in results.official_values]
            lacking = [f"no {score_name(results.rule)} of {name}: {results.incomplete[name]}" for name in without]
            results.notes[:] = [
                f"seed {seed}: {note}" for note in (*results.notes, *lacking) if note not in first.notes
            ]
    return by_seed
