"""The summary tables of the reference, figure by figure, its oddities included; README_legacy.md lists them.

Figures are fractions. The files are byte-faithful: leave them alone, and add your own tables to tables.py.
"""

import numpy as np
import pandas as pd

from tools.results.files import MEANS
from tools.results.metrics import arithmetic_mean, harmonic_mean, summary_metrics
from tools.results.results import Results


def machine_table(results: Results, system: str, machine_type: str) -> pd.DataFrame:
    """Return a machine type's metrics: a row per section, then the two means over the sections."""
    table = results.figures.loc[system].loc[machine_type].reindex(columns=_own_metrics(results))
    means = pd.DataFrame({name: table.agg(mean) for name, mean in MEANS.items()}, dtype=float).T
    return pd.concat([table.set_axis([f"{section:02d}" for section in table.index]), means]).rename_axis("id")


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
        figures = results.figures.loc[system].reindex(columns=dict.fromkeys([*metrics, "pAUC"]))
        values = figures.to_dict()  # metric -> machine type and section -> value
        of_type = {m: figures[figures.index.isin([m], level=0)] for m in machine_types}
        for machine_type in machine_types:
            for metric in metrics:
                for section in results.challenge.sections[machine_type]:
                    value = values[metric].get((machine_type, section))
                    start = f"{machine_type}_{subset}_{section:02d}_{metric}"
                    row |= {f"{start}_ave": value, f"{start}_std": None, f"{start}_hmean": harmonic_mean([value])}
                for name, mean in MEANS.items():
                    row[f"{machine_type}_{subset}_{name}_{metric}"] = mean(of_type[machine_type][mean_of[metric]])
        for metric in metrics:
            means = [arithmetic_mean(of_type[m][mean_of[metric]]) for m in machine_types]
            row |= _summary(f"ALL_{metric}", means, ddof=1)
            row[f"ALL_{metric}_hmean"] = harmonic_mean(figures[metric])
        areas = [value for metric in whole_areas for value in figures[metric]]
        row |= _summary("ALL_AUC", areas, ddof=0)
        row |= _summary("TOTAL_score", [*areas, *figures["pAUC"]], ddof=0)
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
            cells = [figures.get(f"{m}_{subset}_arithmetic mean_{metric}") for m in machine_types]
            rows.append([system, name, figures.get(f"ALL_{metric}_hmean"), figures.get(f"ALL_{metric}_ave"), *cells])
        total = figures.get("TOTAL_score_hmean"), figures.get("TOTAL_score_ave")
        rows.append([system, "TOTAL score", *total, *[None] * len(machine_types)])
    columns = ["System", "metric", "h-mean", "a-mean", *machine_types]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], float))


def _own_metrics(results: Results) -> list[str]:
    """Choose our systems' metrics for the reference's summary tables."""
    return summary_metrics(results.metrics_of(results.own_names))


def _summary(name: str, values: list[float | None], ddof: int) -> dict[str, float | None]:
    """Return mean, standard deviation and harmonic mean of the defined values."""
    defined = [value for value in values if value is not None and not np.isnan(value)]
    std = float(np.std(defined, ddof=ddof)) if len(defined) > ddof else None
    return {f"{name}_ave": arithmetic_mean(values), f"{name}_std": std, f"{name}_hmean": harmonic_mean(values)}
