"""The summary tables: pivots of the results (table.py).

Source of the first three: the reference's tables, figure by figure; README.md's fidelity table lists their oddities,
which are kept. The others are ours; their figures are fractions, percent only in print.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from tools.results.files import ARITHMETIC, HARMONIC
from tools.results.metrics import COUNTS, DECISION_METRICS, METRICS, arithmetic_mean, harmonic_mean, summary_metrics
from tools.results.official import official_figures, required_metrics
from tools.results.table import Mean, Results

Row = dict[str, float | None]


def machine_table(results: Results, system: str, machine_type: str) -> pd.DataFrame:
    """Return a machine type's metrics: a row a section, then the two means over the sections."""
    metrics = summary_metrics(_own_metrics(results))
    rows = {
        f"{section:02d}": [values.get(metric) for metric in metrics]
        for (name, section), values in results.sections(system).items()
        if name == machine_type
    }
    for name, mean in ((ARITHMETIC, arithmetic_mean), (HARMONIC, harmonic_mean)):
        rows[name] = [results.mean(system, metric, machine_type, mean) for metric in metrics]
    return _table(rows, metrics, "id")


def full_table(results: Results) -> pd.DataFrame:
    """Return every figure of each of our systems in one row: by machine type and section, then over all."""
    metrics = summary_metrics(_own_metrics(results))
    rows = {}
    for system in own_names(results):
        row: Row = {}
        for machine_type in own_machine_types(results):
            row |= _machine_figures(results, system, machine_type, metrics)
        rows[system] = row | _overall_figures(results, system, metrics)
    columns = list(next(iter(rows.values())))
    return _table({name: list(row.values()) for name, row in rows.items()}, columns, None)


def extract_table(results: Results, full: pd.DataFrame) -> pd.DataFrame:
    """Return the figures that are published: a row for each system and metric, a column for each machine type."""
    subset = _subset(results)
    shown = {"AUC": "AUC", "pAUC": "pAUC"}
    if "AUC (source)" in _own_metrics(results):
        shown = {"AUC (source)": "AUC (source)", "AUC (target)": "AUC (target)", "pAUC": "pAUC (source, target)"}
    machine_types = results.challenge.machine_types
    rows = []
    for system, figures in full.iterrows():
        for metric, name in shown.items():
            cells = [figures.get(f"{m}_{subset}_{ARITHMETIC}_{metric}", None) for m in machine_types]
            rows.append([system, name, figures.get(f"ALL_{metric}_hmean"), figures.get(f"ALL_{metric}_ave"), *cells])
        empty = [None] * len(machine_types)
        rows.append([system, "TOTAL score", figures.get("TOTAL_score_hmean"), figures.get("TOTAL_score_ave"), *empty])
    columns = ["System", "metric", "h-mean", "a-mean", *machine_types]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], float))


def own_names(results: Results) -> list[str]:
    """Return our systems that have figures."""
    return [name for name in results.names if name in results.own]


def own_machine_types(results: Results) -> list[str]:
    """Return the machine types that any of our systems has figures of, in the tables' order."""
    present = {machine_type for name in own_names(results) for machine_type, _ in results.sections(name)}
    return [machine_type for machine_type in results.challenge.machine_types if machine_type in present]


def _own_metrics(results: Results) -> set[str]:
    return {metric for name in own_names(results) for row in results.sections(name).values() for metric in row}


def _subset(results: Results) -> str:
    return "eval" if results.challenge.is_eval else "dev"


def _machine_figures(results: Results, system: str, machine_type: str, metrics: list[str]) -> Row:
    """Return the full table's columns of one machine type; _std is over seeds, of which there is one: empty."""
    row: Row = {}
    for metric in metrics:
        for section in results.challenge.sections[machine_type]:
            value = results.sections(system).get((machine_type, section), {}).get(metric)
            name = f"{machine_type}_{_subset(results)}_{section:02d}_{metric}"
            row |= {f"{name}_ave": value, f"{name}_std": None, f"{name}_hmean": harmonic_mean([value])}
        name = f"{machine_type}_{_subset(results)}_{{}}_{metric}"
        row[name.format(ARITHMETIC)] = results.mean(system, _mean_of(metric), machine_type, arithmetic_mean)
        row[name.format(HARMONIC)] = results.mean(system, _mean_of(metric), machine_type)
    return row


def _overall_figures(results: Results, system: str, metrics: list[str]) -> Row:
    """Return the full table's columns over all machine types."""
    row: Row = {}
    for metric in metrics:
        means = [results.mean(system, _mean_of(metric), m, arithmetic_mean) for m in own_machine_types(results)]
        row |= _mean_and_deviation(f"ALL_{metric}", means, ddof=1)
        row[f"ALL_{metric}_hmean"] = results.mean(system, metric)
    areas = [value for metric in metrics if _is_whole_area(metric) for value in results.values(system, metric)]
    for name, values in (("ALL_AUC", areas), ("TOTAL_score", areas + results.values(system, "pAUC"))):
        row |= _mean_and_deviation(name, values, ddof=0)
        row[f"{name}_hmean"] = harmonic_mean(values)
    return row


def _is_whole_area(metric: str) -> bool:
    """Tell AUCs from partial ones."""
    return metric in ("AUC", "AUC (source)", "AUC (target)")


def _mean_of(metric: str) -> str:
    """Return whose means stand under a metric's name: the reference puts plain pAUC's under pAUC of either domain."""
    return "pAUC" if metric in ("pAUC (source)", "pAUC (target)") else metric


def _mean_and_deviation(name: str, values: list[float | None], ddof: int) -> Row:
    """Return mean and standard deviation of the defined values; None where there are too few."""
    defined = [value for value in values if value is not None]
    deviation = float(np.std(defined, ddof=ddof)) if len(defined) > ddof else None
    return {f"{name}_ave": arithmetic_mean(defined), f"{name}_std": deviation}


def _table(rows: dict[str, list[float | None]], columns: Iterable[str], index_name: str | None) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns), dtype=float)
    table.index.name = index_name
    return table


def systems_table(results: Results, kinds: tuple[str, ...] = ("area", "decision")) -> pd.DataFrame:
    """Return a row for each system and metric, a column for each machine type: the mean over its sections.

    Of 2020 it is the arithmetic mean, which that year published, else the harmonic one.
    """
    mean = section_mean(results)
    metrics = [m.name for m in METRICS if m.kind in kinds and m.name in set(results.metrics)]
    rows = [
        [
            system,
            metric,
            results.mean(system, metric),
            results.mean(system, metric, mean=arithmetic_mean),
            *(results.mean(system, metric, machine_type, mean) for machine_type in results.challenge.machine_types),
        ]
        for system in results.names
        for metric in metrics
    ]
    table = pd.DataFrame(rows, columns=["System", "metric", "h-mean", "a-mean", *results.challenge.machine_types])
    table = table.astype(dict.fromkeys(table.columns[2:], float))
    return table[table["h-mean"].notna()].reset_index(drop=True)


def section_mean(results: Results) -> Mean:
    """Return the mean over a machine type's sections that the challenge's year publishes."""
    return arithmetic_mean if results.rule == "2020" else harmonic_mean


def published_table(results: Results) -> pd.DataFrame:
    """Return the rows of systems_table() that are published, without machine types that have none."""
    table = systems_table(results, ("area",))
    shown = set()
    for system in results.names:
        shown |= set(required_metrics(results.sections(system), results.rule))
    return table[table["metric"].isin(shown)].dropna(axis="columns", how="all")


def official_table(results: Results) -> pd.DataFrame:
    """Return a row for each system: official score, interval, and what it is made of; the best first.

    Systems that are incomplete stand last, without a score.
    """
    n_all = sum(map(len, results.challenge.sections.values()))
    rows: list[dict[str, object]] = []
    for system in results.names:
        row: dict[str, object] = {"System": system}
        for what, figure in results.official.get(system, {}).items():
            row |= {what: figure.value, **_limits(what, figure.low, figure.high, results.rule)}
        for metric in required_metrics(results.sections(system), results.rule):
            row[metric] = results.mean(system, metric)
        clips = results.n_clips(system)
        row["clips"] = f"{clips[0]} of {clips[1]}" if clips else ""
        row["sections"] = f"{len(results.sections(system))} of {n_all}"
        rows.append(row)
    table = pd.DataFrame(rows)
    figures = official_names(results)
    limits = [name for name in table.columns if "95 %" in name]
    table = table.astype(dict.fromkeys(limits, float))
    last = ["clips", "sections"]
    table = table[["System", *_with_limits(table, figures), *_others(table, ["System", *figures, *last]), *last]]
    return table.sort_values(figures, ascending=False, kind="stable") if figures else table


def official_names(results: Results) -> list[str]:
    """Return what the official scores are called."""
    return list(dict.fromkeys(what for figures in results.official.values() for what in figures))


def _limits(what: str, low: float | None, high: float | None, rule: str) -> dict[str, float | None]:
    start = f"{what} " if rule == "2020" else ""
    return {f"{start}95 % from": low, f"{start}95 % to": high}


def _with_limits(table: pd.DataFrame, figures: list[str]) -> list[str]:
    columns = []
    for what in figures:
        columns.append(what)
        prefix = f"{what} " if f"{what} 95 % from" in table else ""
        columns += [f"{prefix}95 % from", f"{prefix}95 % to"]
    return columns


def _others(table: pd.DataFrame, known: list[str]) -> list[str]:
    return [name for name in table.columns if name not in known and "95 %" not in name]


def differences_table(results: Results) -> pd.DataFrame:
    """Return a row for each pair of systems of the same clips: the difference of their official scores (paired)."""
    order = [name for name in official_table(results)["System"] if name in results.official]
    rows = []
    for i, first in enumerate(order):
        for second in order[i + 1 :]:
            for what, figure in (results.difference(first, second) or {}).items():
                rows.append([first, second, what, figure.value, figure.low, figure.high])
    return pd.DataFrame(rows, columns=["System", "minus", "figure", "difference", "95 % from", "95 % to"])


def decisions_table(results: Results) -> pd.DataFrame:
    """Return a row for each system, machine type, section and domain: false alarms, hits, precision, recall, F1 score.

    `domain`: source, target, or all. Systems without decisions have no rows.
    """
    rows = []
    for system in results.names:
        for (machine_type, section), values in results.sections(system).items():
            for domain in ("source", "target", "all"):
                suffix = "" if "hits" in values and domain == "all" else f" ({domain})"
                if values.get(f"hits{suffix}") is not None:
                    figures = [values.get(f"{name}{suffix}") for name in (*COUNTS, *DECISION_METRICS)]
                    rows.append([system, machine_type, f"{section:02d}", domain, *figures])
    table = pd.DataFrame(rows, columns=["System", "machine type", "section", "domain", *COUNTS, *DECISION_METRICS])
    return table.astype({**dict.fromkeys(COUNTS, int), **dict.fromkeys(DECISION_METRICS, float)})


def seeds_table(by_seed: dict[int, Results]) -> pd.DataFrame:
    """Return mean and standard deviation (ddof 1) over the seeds, and their number.

    A row for each system and metric, then its official score; the columns: the harmonic mean over all sections, and
    each machine type that there are results of.
    """
    some = list(by_seed.values())
    machine_types = [m for m in some[0].challenge.machine_types if any(m in r.machine_types for r in some)]
    rows = []
    for system in dict.fromkeys(name for results in some for name in results.names):
        of_system = [results for results in some if system in results.names]
        metrics = required_metrics(of_system[0].sections(system), of_system[0].rule)
        for metric in metrics:
            columns = {"h-mean": [results.mean(system, metric) for results in of_system]}
            for m in machine_types:
                columns[m] = [results.mean(system, metric, m, section_mean(results)) for results in of_system]
            rows.append(_over_seeds(system, metric, columns))
        complete = [results for results in of_system if system in results.official]
        for what in complete[0].official[system] if complete else ():
            columns = {"h-mean": [results.official[system][what].value for results in complete]}
            columns |= {m: [_of_machine_type(results, system, m, what) for results in complete] for m in machine_types}
            rows.append(_over_seeds(system, what, columns))
    return pd.DataFrame(rows)


def _of_machine_type(results: Results, system: str, machine_type: str, what: str) -> float | None:
    """Return the official score of a machine type alone."""
    areas = {key: values for key, values in results.sections(system).items() if key[0] == machine_type}
    return official_figures(areas, results.rule)[what] if areas else None


def _over_seeds(system: str, metric: str, columns: dict[str, list[float | None]]) -> dict[str, object]:
    row: dict[str, object] = {"System": system, "metric": metric, "seeds": len(columns["h-mean"])}
    for column, values in columns.items():
        defined = [value for value in values if value is not None]
        row[f"{column} mean"] = float(np.mean(defined)) if defined else None
        row[f"{column} std"] = float(np.std(defined, ddof=1)) if len(defined) > 1 else None
    return row


def seed_differences_table(by_seed: dict[int, Results]) -> pd.DataFrame:
    """Return the differences of our systems' official scores, paired by seed: mean, deviation, 95 % t interval."""
    from scipy.stats import t

    some = list(by_seed.values())
    names = [name for name in some[0].official if all(name in results.official for results in some)]
    rows = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for what in some[0].official[first]:
                values = [r.official[first][what].value - r.official[second][what].value for r in some]
                mean, n = float(np.mean(values)), len(values)
                std = float(np.std(values, ddof=1)) if n > 1 else None
                half = float(t.ppf(0.975, n - 1)) * std / np.sqrt(n) if std is not None else None
                limits = [None, None] if half is None else [mean - half, mean + half]
                rows.append([first, second, what, n, mean, std, *limits])
    columns = ["System", "minus", "figure", "seeds", "difference", "std", "95 % from", "95 % to"]
    return pd.DataFrame(rows, columns=columns)
