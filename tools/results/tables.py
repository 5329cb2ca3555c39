"""Our summary tables, made from Results: as written and as shown.

Figures are fractions, percent only where they are shown. The reference's tables are in reference_tables.py.
"""

from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pandas as pd

from runtime.wording import listed
from tools.results.metrics import COUNTED_OF, COUNTS, DECISION_METRICS, KINDS, arithmetic_mean, harmonic_mean
from tools.results.official import N_RESAMPLES, official_figures, required_metrics, score_name
from tools.results.results import NO_SCORE_FILES, Results

MOST_PAIRS = 6  # of systems whose differences are shown; more are in the CSV file


@dataclass(frozen=True)
class Table:
    """One of our tables; `title`, `shown` and `remarks` are printed and in the report."""

    name: str  # the end of its file name
    data: pd.DataFrame  # as written
    title: str
    shown: pd.DataFrame  # fractions, or text; it may be empty
    remarks: list[str] = field(default_factory=list)  # sentences below it


def in_percent(fractions: pd.Series) -> pd.Series:
    """Return fractions in percent; what rounds to -0.00 is 0."""
    return (100 * fractions).mask(fractions.abs() < 5e-5, 0.0)


def percent(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its fractions as text, in percent with a proper minus; empty if missing."""
    text = table.astype(object).where(table.notna(), "")
    for name in table.select_dtypes("float"):
        text[name] = ["" if pd.isna(value) else f"{value:.2f}".replace("-", "−") for value in in_percent(table[name])]
    return text


def our_tables(results: Results, by_seed: dict[int, Results]) -> list[Table]:
    """Return our tables; `by_seed`: the results of several seeds, if any were asked for."""
    tables = [systems_table(results), official_table(results), differences_table(results), decisions_table(results)]
    if by_seed:
        tables = [replace(table, title=f"{table.title} (seed {results.experiment.seed})") for table in tables]
        tables += [seeds_table(by_seed), seed_differences_table(by_seed)]
    return [table for table in tables if len(table.data) or table.remarks]


def systems_table(results: Results) -> Table:
    """Return a row for each system and metric: means over all sections, then each machine type's.

    Only published metrics are shown.
    """
    # over a machine type's sections, as the challenge's year publishes it
    kind, section_mean = ("arithmetic", arithmetic_mean) if results.rule == "2020" else ("harmonic", harmonic_mean)
    figures = results.figures[[name for name in results.figures if KINDS[name] != "count"]].rename_axis(
        columns="metric"
    )
    by_system = figures.groupby("System", sort=False)
    table = pd.DataFrame(
        {"h-mean": by_system.agg(harmonic_mean).stack(), "a-mean": by_system.agg(arithmetic_mean).stack()}
    )
    by_type = figures.groupby(["System", "machine type"]).agg(section_mean).stack().unstack("machine type")
    table = table.join(by_type.reindex(columns=results.challenge.machine_types))
    table = table.astype(float).dropna(subset="h-mean").reset_index()
    several = any(len(sections) > 1 for sections in results.challenge.sections.values())
    title = f"by machine type, percent{f' ({kind} mean over its sections)' if several else ''}"
    published = {
        metric for name in results.names for metric in required_metrics(results.figures_of(name), results.rule)
    }
    return Table("systems", table, title, table[table["metric"].isin(published)].dropna(axis="columns", how="all"))


def official_table(results: Results) -> Table:
    """Return a row for each system: official score, interval, and the score's components.

    The best comes first; incomplete systems, without a score, come last.
    """
    official = results.official
    n_all = sum(map(len, results.challenge.sections.values()))
    rows = []
    for name in dict.fromkeys((*official, *results.names)):
        row: dict[str, object] = {"System": name}
        for what, (value, low, high) in official.get(name, {}).items():
            start = f"{what} " if results.rule == "2020" else ""
            row |= {what: value, f"{start}95 % from": low, f"{start}95 % to": high}
        figures = results.figures.loc[name]
        for metric in required_metrics(results.figures_of(name), results.rule):
            row[metric] = harmonic_mean(figures.get(metric, []))
        clips = results.n_clips(name)
        row["clips"] = f"{clips[0]} of {clips[1]}" if clips else None
        row["sections"] = f"{len(figures)} of {n_all}"
        rows.append(row)
    table = pd.DataFrame(rows)
    last = ["clips", "sections"]
    table = table[[*table.columns.drop(last), *last]]
    limits = [column for column in table if "95 %" in column]
    table = table.astype(dict.fromkeys(limits, float))
    shown = table.drop(columns=[name for name in table if name in KINDS]).dropna(axis="columns", how="all")
    scores = list(next(iter(official.values()), ()))
    title = " and ".join(scores) or f"no {score_name(results.rule)}"
    if shown.columns.intersection(limits).any():
        title += f", {'its' if len(scores) == 1 else 'their'} 95 % interval over clips ({N_RESAMPLES:,} resamples)"
    title += ", percent" if scores else ""
    what = " or ".join(scores) or score_name(results.rule)
    remarks = [f"no {what} of {name}: {reason}" for name, reason in results.incomplete.items()]
    return Table("official_score", table, title, shown, remarks)


def differences_table(results: Results) -> Table:
    """Return a row for each pair of systems on the same clips: the difference of their official scores (paired)."""
    apart: dict[str, list[str]] = {}
    rows = []
    for first, second in combinations(results.official_values, 2):
        if reason := results.not_compared(first, second):
            apart.setdefault(reason, []).append(f"{first} and {second}")
            continue
        for what, estimate in results.difference(first, second).items():
            rows.append([first, second, what, *estimate])
    remarks = [f"not compared ({reason}): {listed(pairs)}" for reason, pairs in apart.items()]
    table = pd.DataFrame(rows, columns=["System", "minus", "figure", "difference", "95 % from", "95 % to"])
    shown = table if len(table) <= MOST_PAIRS else table[table["System"] == table["System"].iloc[0]]
    title = "differences on the same clips, and their 95 % intervals, points"
    shown = shown.drop(columns=["figure"] if table["figure"].nunique() == 1 else [])
    return Table("differences", table, title, shown, remarks)


def decisions_table(results: Results) -> Table:
    """Return a row for each system, machine type, section and domain: false alarms, hits, precision, recall, F1 score.

    `domain`: source, target, or all. Two counts are shown as `46 of 60`, source and target side by side.
    Systems without decisions have no rows.
    """
    rows, shown = [], []
    for (system, machine_type, section), values in results.figures.iterrows():
        where = {"System": system, "machine type": machine_type, "section": f"{section:02d}"}
        counts = {}
        for end in (" (source)", " (target)", " (all)", ""):
            if pd.notna(values.get(f"hits{end}")):
                figures = {name: values[f"{name}{end}"] for name in (*COUNTS, *DECISION_METRICS)}
                rows.append({**where, "domain": end.strip(" ()") or "all", **figures})
                if end != " (all)":
                    for what, of in COUNTED_OF.items():
                        counts[f"{what}{end}"] = f"{figures[what]:.0f} of {figures[of]:.0f}"
        if counts:
            shown.append(
                {**where, **dict(sorted(counts.items())), **{name: figures[name] for name in DECISION_METRICS}}
            )
    table, text = pd.DataFrame(rows), pd.DataFrame(shown)
    if len(table):
        table = table.astype({**dict.fromkeys(COUNTS, int), **dict.fromkeys(DECISION_METRICS, float)})
        text = text.drop(columns=["section"] if text["section"].nunique() == 1 else [])
        text = text.astype(dict.fromkeys(DECISION_METRICS, float)).dropna(axis="columns", how="all")
    title = "decisions: false alarms of the normal clips, hits of the anomalous ones; the rest in percent"
    labelled = results.clips[results.clips["label"].notna()]
    decided = labelled.groupby(["system", "machine type", "section"], sort=False)["decision"].mean().isin([0, 1])
    alike = [name for name, is_alike in decided.groupby("system", sort=False).all().items() if is_alike]
    advice = "tools.calibrate or --threshold_from sets another"
    remarks = [f"all clips are on one side of the threshold: {listed(alike)}; {advice}"] if alike else []
    return Table("decisions", table, title, text, remarks)


def seeds_table(by_seed: dict[int, Results]) -> Table:
    """Return mean and standard deviation (ddof 1) over the seeds, and their number.

    A row for each system and metric, then its official score; the columns: the harmonic mean over all sections, and
    each machine type with results.
    """
    some = list(by_seed.values())
    machine_types = [m for m in some[0].challenge.machine_types if any(m in r.machine_types(r.of_seed) for r in some)]
    columns = ["h-mean", *machine_types]
    tables = []
    for results in some:
        means = systems_table(results).data.set_index(["System", "metric"]).reindex(columns=columns)
        shown_rows = []
        for system in results.of_seed:
            figures = results.figures_of(system)
            shown_rows += [(system, metric) for metric in required_metrics(figures, results.rule)]
            if system in results.official_values:
                by_type = figures.groupby("machine type").apply(official_figures, results.rule)
                for what, value in results.official_values[system].items():
                    row = {"h-mean": value} | {machine_type: scores[what] for machine_type, scores in by_type.items()}
                    means.loc[(system, what), :] = [row.get(column) for column in columns]
                    shown_rows.append((system, what))
        tables.append(means.reindex(shown_rows))
    by_row = pd.concat(tables).reset_index()
    by_row = by_row.astype(dict.fromkeys(columns, float))
    first = by_row.groupby("System", sort=False).ngroup()  # groups a metric of only a later seed with its system
    groups = by_row.iloc[first.argsort(kind="stable")].groupby(["System", "metric"], sort=False)
    table = groups.agg(["mean", "std"])
    table.columns = table.columns.map(" ".join)
    table.insert(0, "seeds", groups.size())
    table = table.reset_index()
    shown = table[["System", "metric", "seeds"]].copy()
    for column in columns:
        text = percent(table[[f"{column} mean", f"{column} std"]]).set_axis(["mean", "std"], axis="columns")
        shown[column] = text["mean"] + text["std"].map(lambda std: f" ± {std}" if std else "")
    title = f"mean and standard deviation (ddof 1) over the seeds {', '.join(map(str, by_seed))}, percent"
    return Table("seeds", table, title, shown)


def seed_differences_table(by_seed: dict[int, Results]) -> Table:
    """Return the differences of systems' official scores, paired by seed: mean, deviation, 95 % interval.

    The interval is Student's t over the seeds. Systems without an official score of each seed are not compared.
    """
    from scipy.special import stdtrit  # quantiles of Student's t, which only several seeds need

    some = list(by_seed.values())
    names = dict.fromkeys(name for results in some for name in results.of_seed)
    complete = [name for name in names if all(name in r.of_seed and name in r.official_values for r in some)]
    without = [name for name in names if name not in complete]
    totals = {name: sum(next(iter(r.official_values[name].values())) for r in some) for name in complete}
    rows = []
    remarks = [f"not compared (no {score_name(some[0].rule)} of each seed): {listed(without)}"] if without else []
    for first, second in combinations(complete, 2):
        apart = {seed: results.not_compared(first, second) for seed, results in by_seed.items()}
        different = {seed: reason for seed, reason in apart.items() if reason not in ("", NO_SCORE_FILES)}
        if different:
            seed, reason = next(iter(different.items()))
            remarks.append(f"not compared ({reason} with seed {seed}): {first} and {second}")
            continue
        if totals[first] < totals[second]:  # the higher minus the lower, as in the differences over clips
            first, second = second, first
        for what in some[0].official_values[first]:
            values = [r.official_values[first][what] - r.official_values[second][what] for r in some]
            mean, n = float(np.mean(values)), len(values)
            std = float(np.std(values, ddof=1)) if n > 1 else np.nan
            half = float(stdtrit(n - 1, 0.975)) * std / np.sqrt(n)  # NaN for one seed
            rows.append([first, second, what, n, mean, std, mean - half, mean + half])
    columns = ["System", "minus", "figure", "seeds", "difference", "std", "95 % from", "95 % to"]
    table = pd.DataFrame(rows, columns=columns)
    title = "differences paired by seed, and their 95 % t intervals, points"
    return Table("seed_differences", table, title, table, remarks)
