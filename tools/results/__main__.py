#!/usr/bin/env python3
"""The summary tables of a challenge, from the result tables of its machine types and sections.

Source: the reference's tables, figure by figure; README.md's fidelity table lists their oddities, which are kept.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pandas as pd

from common import SCORES, ExperimentPaths, InputError, all_or_nothing, run_command
from datasets.catalogue import Challenge, load_challenge, runnable_names
from tools.comparison import as_text, compare_systems, read_labels, summarize_seeds
from tools.metrics import arithmetic_mean, harmonic_mean
from tools.options import BY_NAME, MODEL, PATH, add_parameters, option_type, read_defaults
from tools.result_csv import ARITHMETIC, HARMONIC, read_result_table, write_table

DOMAIN_METRICS = ("pAUC", "pAUC (source)", "pAUC (target)", "AUC (source)", "AUC (target)")
PLAIN_METRICS = ("AUC", "pAUC")  # of challenges without domains (2020)
Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Summary:
    """The metrics of each section of each machine type with results, by score; `missing` names what has none."""

    challenge: Challenge
    system: str
    metrics: tuple[str, ...]
    sections: dict[str, dict[str, dict[int, Metrics]]]  # score -> machine type -> section -> metric -> value
    missing: list[str]

    @property
    def machine_types(self) -> list[str]:
        """Return the machine types that have results of any score, in the tables' order."""
        return [
            m for m in self.challenge.machine_types if any(m in by_machine for by_machine in self.sections.values())
        ]

    def values(self, score: str, metric: str, machine_type: str | None = None) -> list[float | None]:
        """Return a metric of every section: of one machine type, or of all in the tables' order."""
        names = self.machine_types if machine_type is None else [machine_type]
        return [row.get(metric) for name in names for row in self.sections[score].get(name, {}).values()]


def read_results(challenge: Challenge, paths: ExperimentPaths) -> Summary:
    """Read the result tables of all machine types and sections; each section from the network trained on it.

    Raises
    ------
    InputError
        There is no result at all, or a file is no result table.
    """
    sections = {score: {} for score in reversed(SCORES)}  # the reference lists MAHALA first
    missing, folders = [], []
    for score, by_machine in sections.items():
        folders.append(str(paths.results(score)))
        for machine_type, numbers in challenge.sections.items():
            for section in numbers:
                run = replace(paths, dataset=challenge.name + machine_type, tag=f"id({section}_)")
                row = (read_result_table(run.result_table(score)) or {}).get(section)
                name = f"{machine_type} section {section:02d} ({score})"
                if row is None:
                    missing.append(f"{name}: no results")
                    continue
                empty = [metric for metric, value in row.items() if "AUC" in metric and value is None]
                if empty:
                    missing.append(f"{name}: no {', '.join(empty)}")
                by_machine.setdefault(machine_type, {})[section] = row
    rows = [row for by_machine in sections.values() for rows in by_machine.values() for row in rows.values()]
    if not rows:
        if any(
            any(paths.results(score).glob(f"anomaly_score_{challenge.name}*_seed{paths.seed}_*")) for score in sections
        ):
            raise InputError(
                f"the test clips of {challenge.name} with seed {paths.seed} in {' or '.join(folders)} have scores, but "
                "no labels, so there is nothing to summarise; label them (tools/rename_eval_wav.py) and run "
                "02a_test.sh or 02b_test.sh again"
            )
        raise InputError(
            f"there are no results of {challenge.name} with seed {paths.seed} in {' or '.join(folders)}; run "
            "02a_test.sh or 02b_test.sh first, or check --result_directory, --export_dir and --seed"
        )
    metrics = DOMAIN_METRICS if any("AUC (source)" in row for row in rows) else PLAIN_METRICS
    return Summary(challenge, paths.export_dir, metrics, sections, missing)


def machine_table(summary: Summary, score: str, machine_type: str) -> pd.DataFrame:
    """Return a machine type's metrics: a row a section, then the two means over the sections."""
    sections = summary.sections[score][machine_type]
    rows = {f"{section:02d}": [row.get(metric) for metric in summary.metrics] for section, row in sections.items()}
    for name, mean in ((ARITHMETIC, arithmetic_mean), (HARMONIC, harmonic_mean)):
        rows[name] = [mean(summary.values(score, metric, machine_type)) for metric in summary.metrics]
    return _table(rows, summary.metrics, "id")


def full_table(summary: Summary) -> pd.DataFrame:
    """Return every figure of every system in one row: by machine type and section, then over all (ALL_, TOTAL_)."""
    rows = {}
    for score in summary.sections:
        row = {}
        for machine_type in summary.machine_types:
            row |= _machine_figures(summary, score, machine_type)
        rows[f"{summary.system}_{score}"] = row | _overall_figures(summary, score)
    columns = list(next(iter(rows.values())))
    return _table({name: list(row.values()) for name, row in rows.items()}, columns, None)


def extract_table(summary: Summary, full: pd.DataFrame) -> pd.DataFrame:
    """Return the figures that are published: a row for each system and metric, a column for each machine type."""
    split = "eval" if summary.challenge.is_eval else "dev"
    if summary.metrics == DOMAIN_METRICS:
        shown = {"AUC (source)": "AUC (source)", "AUC (target)": "AUC (target)", "pAUC": "pAUC (source, target)"}
    else:
        shown = {"AUC": "AUC", "pAUC": "pAUC"}
    rows = []
    for system, figures in full.iterrows():
        for metric, name in shown.items():
            cells = [figures.get(f"{m}_{split}_{ARITHMETIC}_{metric}", None) for m in summary.challenge.machine_types]
            rows.append([system, name, figures[f"ALL_{metric}_hmean"], figures[f"ALL_{metric}_ave"], *cells])
        empty = [None] * len(summary.challenge.machine_types)
        rows.append([system, "TOTAL score", figures["TOTAL_score_hmean"], figures["TOTAL_score_ave"], *empty])
    columns = ["System", "metric", "h-mean", "a-mean", *summary.challenge.machine_types]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], float))


def _machine_figures(summary: Summary, score: str, machine_type: str) -> Metrics:
    """Return the full table's columns of one machine type; _std is over seeds, of which there is one: empty."""
    split = "eval" if summary.challenge.is_eval else "dev"
    row = {}
    for metric in summary.metrics:
        for section in summary.challenge.sections[machine_type]:
            value = summary.sections[score].get(machine_type, {}).get(section, {}).get(metric)
            name = f"{machine_type}_{split}_{section:02d}_{metric}"
            row |= {f"{name}_ave": value, f"{name}_std": None, f"{name}_hmean": harmonic_mean([value])}
        over_sections = summary.values(score, _mean_of(metric), machine_type)
        row[f"{machine_type}_{split}_{ARITHMETIC}_{metric}"] = arithmetic_mean(over_sections)
        row[f"{machine_type}_{split}_{HARMONIC}_{metric}"] = harmonic_mean(over_sections)
    return row


def _overall_figures(summary: Summary, score: str) -> Metrics:
    """Return the full table's columns over all machine types."""
    row = {}
    for metric in summary.metrics:
        means = [arithmetic_mean(summary.values(score, _mean_of(metric), m)) for m in summary.machine_types]
        row |= _mean_and_deviation(f"ALL_{metric}", means, ddof=1)
        row[f"ALL_{metric}_hmean"] = harmonic_mean(summary.values(score, metric))
    areas = [value for metric in summary.metrics if metric.startswith("AUC") for value in summary.values(score, metric)]
    for name, values in (("ALL_AUC", areas), ("TOTAL_score", areas + summary.values(score, "pAUC"))):
        row |= _mean_and_deviation(name, values, ddof=0)
        row[f"{name}_hmean"] = harmonic_mean(values)
    return row


def _mean_of(metric: str) -> str:
    """Return whose means stand under a metric's name: the reference puts plain pAUC's under pAUC of either domain."""
    return "pAUC" if metric.startswith("pAUC") else metric


def _mean_and_deviation(name: str, values: list[float | None], ddof: int) -> Metrics:
    """Return mean and standard deviation of the defined values; None where there are too few."""
    defined = [value for value in values if value is not None]
    deviation = float(np.std(defined, ddof=ddof)) if len(defined) > ddof else None
    return {f"{name}_ave": arithmetic_mean(defined), f"{name}_std": deviation}


def _table(rows: dict[str, list[float | None]], columns, index_name: str | None) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns), dtype=float)
    table.index.name = index_name
    return table


def write_summary(summary: Summary, paths: ExperimentPaths) -> pd.DataFrame:
    """Write all tables; return the one that is published."""
    folder = paths.summary(summary.challenge.name)
    full = full_table(summary)
    extract = extract_table(summary, full)
    with all_or_nothing():
        for score, by_machine in summary.sections.items():
            for machine_type in by_machine:
                name = replace(paths, dataset=summary.challenge.name + machine_type, tag="").result_table(score).name
                table = machine_table(summary, score, machine_type)
                write_table(folder / f"{summary.system}_{score}" / name, table, index=True)
        write_table(folder / f"{summary.challenge.name}_auc_pauc.csv", full, index=True)
        write_table(folder / f"{summary.challenge.name}_auc_pauc_extract.csv", extract, index=False)
    return extract


def print_summary(extract: pd.DataFrame, summary: Summary) -> None:
    """Print the published figures in percent, and what is missing."""
    split = "evaluation" if summary.challenge.is_eval else "development"
    print(f"{summary.challenge.name}, {split} data set, percent:")
    print(as_text(extract))
    if summary.missing:
        print("\nempty, because there is nothing to fill them with:")
        print("\n".join(f"  {name}" for name in summary.missing))


def parse_arguments() -> argparse.Namespace:
    """Parse the command line on top of baseline.yaml."""
    parser = argparse.ArgumentParser(
        prog="03_summarize_results.sh", description="Make the summary tables of a challenge.", allow_abbrev=False
    )
    parser.add_argument("challenge", choices=runnable_names(), help="e.g. DCASE2023T2")
    split = parser.add_mutually_exclusive_group(required=True)
    split.add_argument("-d", "--dev", action="store_true", help="development data set")
    split.add_argument("-e", "--eval", action="store_true", help="evaluation data set")
    parser.add_argument(
        "--systems",
        nargs="+",
        type=option_type(PATH),
        default=[],
        metavar="DIR",
        help="folders of other systems' score files, in the challenge's format, to compare with ours",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=option_type(BY_NAME["seed"].kind),
        default=[],
        metavar="N",
        help="also mean and standard deviation over these seeds; the first is the one of the other tables",
    )
    parser.add_argument(
        "--eval_data_list",
        type=option_type(PATH),
        metavar="CSV",
        help="the organisers' list of labels [default: in the data set directory]",
    )
    parser.add_argument("--report", action="store_true", help="also write report.html and its pictures")
    names = (
        "decision_threshold",
        "dataset_directory",
        "result_directory",
        "model_directory",
        "log_directory",
        "export_dir",
        "seed",
        "max_fpr",
    )
    add_parameters(parser, read_defaults(), names)
    return parser.parse_args()


def summarize() -> None:
    """Make the tables that the command line names."""
    args = parse_arguments()
    paths = ExperimentPaths(
        result_directory=args.result_directory,
        model_directory=args.model_directory,
        log_directory=args.log_directory,
        export_dir=args.export_dir,
        model=MODEL,
        dataset="",
        tag="",
        is_eval=args.eval,
        seed=args.seeds[0] if args.seeds else args.seed,
    )
    challenge = load_challenge(args.challenge, args.eval, args.dataset_directory)
    labels = read_labels(challenge, args.dataset_directory, args.eval_data_list)
    summary = read_results(challenge, paths)
    print_summary(write_summary(summary, paths), summary)
    compare_systems(challenge, paths, args.systems, labels, args.max_fpr)
    if args.seeds:
        summarize_seeds(challenge, paths, args.seeds, labels, args.max_fpr)
    if args.report:
        from tools.make_report import write_report

        thresholds = (args.max_fpr, args.decision_threshold)
        report = write_report(challenge, paths, args.dataset_directory, *thresholds, labels, args.systems)
        print(f"\nreport: {report}", flush=True)
    print(f"\ntables: {paths.summary(args.challenge)}", flush=True)


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(summarize)


if __name__ == "__main__":
    sys.exit(main())
