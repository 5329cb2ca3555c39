#!/usr/bin/env python3
"""The summary of a challenge's results: tables of all systems, printed and written (03_summarize_results.sh).

Tables of the default seed have the reference's names; those of other seeds include the seed.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from common import PATH, SEEDS, InputError, Settings, choice, option_type, parse_settings

import pandas as pd

from datasets.catalogue import OWN, load_challenge, runnable_names
from networks.names import PLACES, Experiment
from runtime.command import command, exit_now, print_error
from runtime.files import FileGroup
from runtime.wording import listed
from tools.results.clips import read_labels, read_other_systems
from tools.results.notes import heading, hidden_systems, origins, other_seeds
from tools.results.reading import of_seed, read_results, read_seeds
from tools.results.reference_tables import extract_table, full_table, machine_table
from tools.results.results import Results
from tools.results.tables import Table, in_percent, our_tables

OPTIONS = (*PLACES, "seed", "max_fpr", "decision_threshold")


def parse_arguments() -> Settings:
    """Parse the command line on top of baseline.yaml."""
    parser = argparse.ArgumentParser(
        prog="03_summarize_results.sh",
        usage="bash %(prog)s CHALLENGE (-d | -e) [option ...]",
        description="Make the summary tables of a challenge.",
        allow_abbrev=False,
    )
    challenge = option_type(choice(*runnable_names()))
    parser.add_argument("name", nargs="?", type=challenge, metavar="CHALLENGE", help="e.g. DCASE2023T2")
    parser.add_argument("--challenge", type=challenge, help="the same, as the other scripts take it")
    subset = parser.add_mutually_exclusive_group(required=True)
    subset.add_argument("-d", "--dev", action="store_true", help="development set")
    subset.add_argument("-e", "--eval", action="store_true", help="evaluation set")
    parser.add_argument(
        "--systems",
        nargs="+",
        default=[],
        metavar="[NAME=]PATH",
        help="other systems' scores, to compare with ours: folders of files with the challenge's names or this "
        "baseline's (another experiment's results), or folders of these",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=option_type(SEEDS),
        default=[],
        metavar="N",
        help="also mean and standard deviation over these seeds; all other tables are for the first one",
    )
    parser.add_argument(
        "--eval_data_list",
        type=option_type(PATH),
        metavar="CSV",
        help="the organisers' list of labels [default: in the data set directory]",
    )
    parser.add_argument("--report", action="store_true", help="also write report.html and its pictures")
    settings = parse_settings(parser, names=OPTIONS)
    if (settings.name is None) == (settings.challenge is None):
        parser.error("give one challenge, such as DCASE2023T2")
    settings = settings.replace(challenge=settings.name or settings.challenge)
    return settings.replace(seed=settings.seeds[0]) if settings.seeds else settings


@command
def main() -> int:
    """Make the tables; return 1 if any system lacks an official score."""
    settings = parse_arguments()
    experiment = Experiment.of(settings, settings.eval)
    challenge = load_challenge(settings.challenge, settings.eval, settings.dataset_directory)
    labels = read_labels(challenge, settings.dataset_directory, settings.eval_data_list)
    data = settings.dataset_directory
    others, notes = read_other_systems(settings.systems, challenge, labels)
    of_first = of_seed(others, settings.seed, settings.seeds, notes)
    results = read_results(challenge, experiment, settings.max_fpr, labels, of_first, data, notes)
    if settings.report and results.own and not results.names:  # unlabelled clips: scores alone
        print(f"report: {_report(results, [], settings)}", flush=True)
        return 0
    hidden = hidden_systems(challenge, experiment)
    if hidden:
        results.notes.append(f"not shown without --extension: {', '.join(hidden)}")
    _check_not_empty(results, hidden)
    by_seed = read_seeds(results, settings.seeds, labels, others, data)
    tables = our_tables(results, by_seed)
    kept = _write(results, tables, settings.seeds)
    _print(results, by_seed, tables)
    print(f"\ntables: {experiment.summary(challenge.name)}", flush=True)
    if kept:
        print(f"kept the tables that another program had written there: {listed(kept)}", flush=True)
    if settings.report:
        print(f"report: {_report(results, tables, settings)}", flush=True)
    without = [name for name in results.clips["system"].unique() if name not in (*results.own, *results.official)]
    for name in without:
        reason = results.incomplete.get(name) or f"its clips are not labelled; {_how_to_label(results)}"
        print_error(InputError(f"no official score of {name}: {reason}"))
    return 1 if without else 0


def _report(results: Results, tables: list[Table], settings: Settings) -> Path:
    from tools.report.report import write_report  # which only --report needs

    return write_report(results, tables, settings)


def _check_not_empty(results: Results, hidden: list[str]) -> None:
    """Raise InputError if there is nothing to summarise; `hidden`: systems whose extension is not loaded."""
    if results.names:
        return
    if len(results.clips):
        raise InputError(
            f"the test clips of {', '.join(results.clips['system'].unique())} have scores, but no labels, so there is "
            f"nothing to summarise; {_how_to_label(results)}"
        )
    challenge, experiment = results.challenge, results.experiment
    folders = " or ".join(str(experiment.split_results / name) for name in experiment.systems())
    further = other_seeds(challenge, experiment)
    if hidden:
        further = f" (there are results of {', '.join(hidden)}: give --extension)"
    raise InputError(
        f"there are no results of {challenge.name} with seed {experiment.seed} in {folders}{further}; run 02a_test.sh "
        "or 02b_test.sh first, or check --result_directory, --export_dir and --seed"
    )


def _how_to_label(results: Results) -> str:
    if results.challenge.name == OWN:
        return "name the test clips section_00_..._normal_... or section_00_..._anomaly_... and test again"
    return (
        "give the organisers' list with --eval_data_list, or fetch it to the data set directory: "
        f"bash tools/data_download.sh {results.challenge.name} eval"
    )


def _write(results: Results, tables: list[Table], seeds: list[int]) -> list[str]:
    """Write all tables, or none; return the names under which another program's tables were kept.

    Tables there without our table of official scores are another program's, such as copies of the reference's.
    """
    challenge, experiment = results.challenge, results.experiment
    start = f"{challenge.name}{experiment.other_seed}"
    texts = {}
    for system in results.own_names:
        own, score = results.own[system]
        for machine_type in results.machine_types([system]):
            run = own.run(challenge.name, machine_type, challenge.sections[machine_type][0])
            name = run.result_table(score).name.replace(f"_{run.tag}", "", 1)
            texts[f"{system}/{name}"] = machine_table(results, system, machine_type).to_csv()
    if results.own_names:
        full = full_table(results)
        texts[f"{start}_auc_pauc.csv"] = full.to_csv()
        texts[f"{start}_auc_pauc_extract.csv"] = extract_table(results, full).to_csv(index=False)
    for table in tables:
        is_over_seeds = table.name.startswith("seed")
        name = f"{challenge.name}_{table.name}_{seeds_name(seeds)}" if is_over_seeds else f"{start}_{table.name}"
        if len(table.data):
            texts[f"{name}.csv"] = table.data.to_csv(index=False)
    folder = experiment.summary(challenge.name)
    is_ours = (folder / f"{start}_official_score.csv").is_file()
    others = [] if is_ours else [name for name in texts if (folder / name).is_file()]
    with FileGroup() as files:
        for name in others:
            files.open(folder / f"{name}.bak", "wb").write((folder / name).read_bytes())
        for name, text in texts.items():
            files.open(folder / name).write(text)
    return [f"{name}.bak" for name in others]


def seeds_name(seeds: list[int]) -> str:
    """Return the seeds for the names of their tables: 1_2_3; if there are many, the first, the last and the number."""
    text = "_".join(map(str, seeds))
    return text if len(text) <= 60 else f"{seeds[0]}_to_{seeds[-1]}_of_{len(seeds)}"


def _print(results: Results, by_seed: dict[int, Results], tables: list[Table]) -> None:
    """Print the title, the tables and the notes."""
    print(heading(results), *(f"  {line}" for line in origins(results)), sep="\n")
    for table in tables:
        print(f"\n{table.title}:", *([_percent(table.shown)] if len(table.shown) else []), *table.remarks, sep="\n")
    notes = list(dict.fromkeys(note for some in (results, *by_seed.values()) for note in some.notes))
    if notes:
        print("\nnotes:", *(f"  {note}" for note in notes), sep="\n")


def _percent(table: pd.DataFrame) -> str:
    """Return a table as text, in percent: words left-aligned, numbers right-aligned."""
    shown = table.copy()
    for name in shown.columns:
        if pd.api.types.is_float_dtype(shown[name]):
            shown[name] = in_percent(shown[name])
        elif pd.api.types.is_string_dtype(shown[name]):
            texts = shown[name].fillna("")
            shown[name] = texts.str.ljust(texts.str.len().max())
    return shown.to_string(index=False, float_format="%.2f", na_rep="")


if __name__ == "__main__":
    exit_now(main())
