"""The summary tables of the reference, figure by figure, its oddities included; README_legacy.md lists them.

Figures are fractions. The files are byte-faithful: leave them alone, and add tables of yours to tables.py.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from tools.results.files import ARITHMETIC, HARMONIC
from tools.results.metrics import arithmetic_mean, harmonic_mean, summary_metrics
from tools.results.results import Results

MEANS: dict[str, Callable] = {ARITHMETIC: arithmetic_mean, HARMONIC: harmonic_mean}


def machine_table(results: Results, system: str, machine_type: str) -> pd.DataFrame:
    """Return a machine type's metrics: a row per section, then the two means over the sections."""
    rows = {f"{s:02d}": values for (name, s), values in results.figures[system].items() if name == machine_type}
    table = pd.DataFrame(list(rows.values()), index=list(rows)).reindex(columns=_own_metrics(results)).astype(float)
    means = pd.DataFrame({name: table.agg(mean) for name, mean in MEANS.items()}, dtype=float).T
    return pd.concat([table, means]).rename_axis("id")


def full_table(results: Results) -> pd.DataFrame:
    """Return every figure of each of our systems in one row: by machine type and section, then over all.

    _std, over seeds, is empty: there is one. The means for pAUC (source) and pAUC (target) are plain pAUC's.
    """
    subset = "eval" if results.challenge.is_eval else "dev"
    metrics, machine_types = _own_metrics(results), results.machine_types(results.own_names)
    mean_of = {metric: "pAUC" if metric.startswith("pAUC") else metric for metric in metrics}
    whole_areas = [metric for metric in metrics if metric in ("AUC", "AUC (source)", "AUC (target)")]
    rows = {}
    for system in results.own_names:
        row: dict[str, float | None] = {}
        for machine_type in machine_types:
            for metric in metrics:
                for section in results.challenge.sections[machine_type]:
                    value = results.figures[system].get((machine_type, section), {}).get(metric)
                    start = f"{machine_type}_{subset}_{section:02d}_{metric}"
                    row |= {f"{start}_ave": value, f"{start}_std": None, f"{start}_hmean": harmonic_mean([value])}
                for name, mean in MEANS.items():
                    values = results.values(system, mean_of[metric], machine_type)
                    row[f"{machine_type}_{subset}_{name}_{metric}"] = mean(values)
        for metric in metrics:
            means = [arithmetic_mean(results.values(system, mean_of[metric], m)) for m in machine_types]
            row |= _summary(f"ALL_{metric}", means, ddof=1)
            row[f"ALL_{metric}_hmean"] = harmonic_mean(results.values(system, metric))
        areas = [value for metric in whole_areas for value in results.values(system, metric)]
        row |= _summary("ALL_AUC", areas, ddof=0)
        row |= _summary("TOTAL_score", areas + results.values(system, "pAUC"), ddof=0)
        rows[system] = row
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float)


def extract_table(results: Results, full: pd.DataFrame) -> pd.DataFrame:
    """Return the published figures: a row for each system and metric, a column for each machine type."""
    subset = "eval" if results.challenge.is_eval else "dev"
    shown = {"AUC": "AUC", "pAUC": "pAUC"}
    if "AUC (source)" in _own_metrics(results):
        shown = {"AUC (source)": "AUC (source)", "AUC (target)": "AUC (target)", "pAUC": "pAUC (source, target)"}
    machine_types = results.challenge.machine_types
    rows = []
    for system, figures in full.iterrows():
        for metric, name in shown.items():
            cells = [figures.get(f"{m}_{subset}_{ARITHMETIC}_{metric}") for m in machine_types]
            rows.append([system, name, figures.get(f"ALL_{metric}_hmean"), figures.get(f"ALL_{metric}_ave"), *cells])
        total = figures.get("TOTAL_score_hmean"), figures.get("TOTAL_score_ave")
        rows.append([system, "TOTAL score", *total, *[None] * len(machine_types)])
    columns = ["System", "metric", "h-mean", "a-mean", *machine_types]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], float))


def _own_metrics(results: Results) -> list[str]:
    """Return the metrics of the reference's summary tables that any of our systems has."""
    own = [values for name in results.own_names for values in results.figures[name].values()]
    return summary_metrics({metric for values in own for metric in values})


def _summary(name: str, values: list[float | None], ddof: int) -> dict[str, float | None]:
    """Return mean, standard deviation and harmonic mean of the defined values."""
    defined = [value for value in values if value is not None]
    std = float(np.std(defined, ddof=ddof)) if len(defined) > ddof else None
    return {f"{name}_ave": arithmetic_mean(values), f"{name}_std": std, f"{name}_hmean": harmonic_mean(values)}
