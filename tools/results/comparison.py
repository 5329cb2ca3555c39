"""Tables beside the reference's: systems by official score, and means over seeds.

A system is ours (a score, of one seed) or any other's whose score files are at hand; all figures are computed anew from
the score files, for all systems alike.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from common import SCORES, ExperimentPaths, InputError, all_or_nothing
from datasets.catalogue import Challenge
from tools.metrics import harmonic_mean
from tools.official import OfficialScore, metric_names, official_score
from tools.rename_eval_wav import label_list_path, read_label_list
from tools.result_csv import write_table
from tools.score_files import Labels, System, read_own_system, read_system

SCORE = "official score"


def read_labels(challenge: Challenge, dataset_directory: Path, given: Path | None) -> Labels:
    """Read the organisers' list of the evaluation clips' labels; none where it is not at hand and was not given.

    Raises
    ------
    InputError
        The list was given and is missing, or it is none.
    """
    path = given or label_list_path(challenge.name, dataset_directory)
    if given is None and not (challenge.is_eval and path.is_file()):
        return {}
    return read_label_list(path, challenge.machine_types)


def read_systems(challenge: Challenge, paths: ExperimentPaths, others: list[Path], labels: Labels) -> dict[str, System]:
    """Read all systems' scores by name: ours, then the others, each called after its folder.

    Raises
    ------
    InputError
        A file is no score file, a folder holds none, or two systems have the same name.
    """
    systems = {f"{paths.export_dir}_{score}": read_own_system(challenge, paths, score, labels) for score in SCORES}
    for folder in others:
        if folder.name in systems:
            raise InputError(f"--systems {folder}: there is another system called {folder.name}; rename the folder")
        systems[folder.name] = read_system(folder, challenge, labels)
    return {name: system for name, system in systems.items() if system}


def score_systems(systems: dict[str, System], max_fpr: float) -> dict[str, OfficialScore]:
    """Compute the official score of every system whose clips are all labelled, and have both classes and domains."""
    scores = {}
    for name, system in systems.items():
        if all(section.is_labelled for section in system.values()):
            try:
                scores[name] = official_score(system, max_fpr)
            except InputError as error:
                print(f"no official score of {name}: {error}", flush=True)
    return scores


def official_table(scores: dict[str, OfficialScore], challenge: Challenge) -> pd.DataFrame:
    """Return a row for each system: official score, interval, each metric's harmonic mean, how much it is made of."""
    names = metric_names(list(scores.values()))
    n_all = sum(map(len, challenge.sections.values()))
    rows = [
        [name, s.score, s.low, s.high, *(s.mean_of(metric) for metric in names), f"{len(s.metrics)} of {n_all}"]
        for name, s in sorted(scores.items(), key=lambda item: -item[1].score)
    ]
    return pd.DataFrame(rows, columns=["System", SCORE, "95 % from", "95 % to", *names, "sections"])


def systems_table(scores: dict[str, OfficialScore], challenge: Challenge) -> pd.DataFrame:
    """Return a row for each system and metric, a column for each machine type: harmonic means over its sections."""
    rows = [
        [name, metric, s.mean_of(metric), *(s.mean_of(metric, machine_type) for machine_type in challenge.sections)]
        for name, s in scores.items()
        for metric in metric_names(list(scores.values()))
    ]
    return pd.DataFrame(rows, columns=["System", "metric", "h-mean", *challenge.sections])


def seeds_table(by_seed: dict[int, dict[str, OfficialScore]], challenge: Challenge) -> pd.DataFrame:
    """Return mean and standard deviation (ddof 1) over the seeds, and their number.

    A row for each system and metric, then its official score; the columns: the harmonic mean over all sections, and
    each machine type that there are results of.
    """
    rows = []
    for name in dict.fromkeys(name for scores in by_seed.values() for name in scores):
        scores = [by_system[name] for by_system in by_seed.values() if name in by_system]
        for metric in (*metric_names(scores), SCORE):
            columns = {"h-mean": [s.score if metric == SCORE else s.mean_of(metric) for s in scores]}
            for machine_type in _present(by_seed, challenge):
                columns[machine_type] = [_of_machine_type(s, metric, machine_type) for s in scores]
            row = {"System": name, "metric": metric, "seeds": len(scores)}
            for column, values in columns.items():
                defined = [value for value in values if value is not None]
                row[f"{column} mean"] = float(np.mean(defined)) if defined else None
                row[f"{column} std"] = float(np.std(defined, ddof=1)) if len(defined) > 1 else None
            rows.append(row)
    return pd.DataFrame(rows)


def _present(by_seed: dict[int, dict[str, OfficialScore]], challenge: Challenge) -> list[str]:
    """Return the machine types that any system has results of, in the tables' order."""
    found = {name for scores in by_seed.values() for score in scores.values() for name, _ in score.metrics}
    return [machine_type for machine_type in challenge.machine_types if machine_type in found]


def _of_machine_type(score: OfficialScore, metric: str, machine_type: str) -> float | None:
    """Return a metric of a machine type; as official score the harmonic mean of all its metrics."""
    if metric != SCORE:
        return score.mean_of(metric, machine_type)
    own = [values for (name, _), values in score.metrics.items() if name == machine_type]
    return harmonic_mean([value for values in own for value in values.values()])


def compare_systems(
    challenge: Challenge, paths: ExperimentPaths, others: list[Path], labels: Labels, max_fpr: float
) -> None:
    """Write and print the official scores of our systems and of others, computed from their score files."""
    scores = score_systems(read_systems(challenge, paths, others, labels), max_fpr)
    if not scores:
        if others:
            raise InputError(
                f"no official score: the clips of {', '.join(str(folder) for folder in others)} are not labelled; name "
                "the organisers' list with --eval_data_list"
            )
        return
    official, systems = official_table(scores, challenge), systems_table(scores, challenge)
    folder = paths.summary(challenge.name)
    with all_or_nothing():
        write_table(folder / f"{challenge.name}_official_score.csv", official, index=False)
        write_table(folder / f"{challenge.name}_systems.csv", systems, index=False)
    print("\nofficial score, its 95 % interval over clips (1,000 resamples), and harmonic means, percent:")
    print(as_text(official))
    if others:
        print("\nby machine type, percent:")
        print(as_text(systems.dropna(axis="columns", how="all")))


def summarize_seeds(
    challenge: Challenge, paths: ExperimentPaths, seeds: list[int], labels: Labels, max_fpr: float
) -> None:
    """Write and print mean and standard deviation over seeds of our systems' figures.

    Raises
    ------
    InputError
        A seed has no labelled results.
    """
    by_seed = {}
    for seed in seeds:
        scores = score_systems(read_systems(challenge, replace(paths, seed=seed), [], labels), max_fpr)
        if not scores:
            raise InputError(
                f"there are no labelled results of {challenge.name} with seed {seed} below {paths.split_results}; run "
                f"01_train.sh, 02a_test.sh or 02b_test.sh with --seeds {seed} first"
            )
        by_seed[seed] = scores
    table = seeds_table(by_seed, challenge)
    write_table(paths.summary(challenge.name) / f"{challenge.name}_seeds.csv", table, index=False)
    print(f"\nmean and standard deviation (ddof 1) over the seeds {', '.join(map(str, seeds))}, percent:")
    print(seeds_as_text(table))


def as_text(table: pd.DataFrame) -> str:
    """Return a table in percent, words to the left, numbers to the right."""
    shown = table.copy()
    for name in shown.columns:
        if pd.api.types.is_float_dtype(shown[name]):
            shown[name] *= 100
        elif pd.api.types.is_string_dtype(shown[name]):
            shown[name] = shown[name].str.ljust(shown[name].str.len().max())
    return shown.to_string(index=False, float_format="%.2f", na_rep="")


def seeds_as_text(table: pd.DataFrame) -> str:
    """Return a table of seeds in percent, mean ± deviation in one column."""
    shown = table[["System", "metric", "seeds"]].copy()
    for column in [name.removesuffix(" mean") for name in table.columns if name.endswith(" mean")]:
        pairs = zip(table[f"{column} mean"], table[f"{column} std"], strict=True)
        shown[column] = [
            "" if pd.isna(mean) else f"{100 * mean:.2f}" + ("" if pd.isna(std) else f" ± {100 * std:.2f}")
            for mean, std in pairs
        ]
    return as_text(shown)
