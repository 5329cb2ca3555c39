"""What 03_summarize_results.sh prints: the tables in percent, whose they are, and what is missing."""

import pandas as pd

from tools.results.metrics import arithmetic_mean
from tools.results.official import N_RESAMPLES
from tools.results.table import Results
from tools.results.tables import decisions_table, official_names, published_table, section_mean

MOST_PAIRS = 6  # of systems whose differences are printed; more are in the CSV file


def print_results(results: Results, by_seed: dict[int, Results], tables: dict[str, pd.DataFrame]) -> None:
    """Print the published figures, the official scores, differences, decisions, seeds, and what is to be said."""
    print(heading(results))
    for line in origins(results):
        print(f"  {line}")
    several = any(len(sections) > 1 for sections in results.challenge.sections.values())
    kind = "arithmetic" if section_mean(results) is arithmetic_mean else "harmonic"
    print(f"\nby machine type, percent{f' ({kind} mean over its sections)' if several else ''}:")
    print(as_text(published_table(results)))
    _print_official(results, tables)
    if "decisions" in tables:
        print("\ndecisions: false alarms of the normal clips, hits of the anomalous ones; the rest in percent:")
        print(as_text(decisions_as_text(decisions_table(results))))
    if "seeds" in tables:
        print(f"\nmean and standard deviation (ddof 1) over the seeds {', '.join(map(str, by_seed))}, percent:")
        print(seeds_as_text(tables["seeds"]))
    if "seed_differences" in tables:
        print("\ndifferences paired by seed, and their 95 % t intervals, points:")
        print(as_text(tables["seed_differences"]))
    notes = list(dict.fromkeys(note for some in (results, *by_seed.values()) for note in some.notes))
    if notes:
        print("\nnotes:")
        print("\n".join(f"  {note}" for note in notes))


def heading(results: Results) -> str:
    """Say whose results these are."""
    subset = "evaluation" if results.challenge.is_eval else "development"
    own = f": {results.experiment.export_dir}, seed {results.experiment.seed}" if results.own else ""
    return f"{results.challenge.name}, {subset} set{own}"


def origins(results: Results) -> list[str]:
    """Say of each of our systems what network was tested when, where there are records of it."""
    lines = []
    for name in results.own:
        records = [record for (system, *_), record in results.records.items() if system == name]
        if records:
            epochs = _range([r.epochs for r in records if r.epochs is not None])
            trained = _range([r.trained[:10] for r in records if r.trained])
            tested = _range([r.date[:10] for r in records])
            training = f"trained for {epochs} epochs" if epochs else "trained"
            n = sum(record.n_clips for record in records)
            lines.append(f"{name}: {training}{f' on {trained}' if trained else ''}, tested on {tested}, {n} clips")
    return lines


def _range(values: list) -> str:
    """Return one value, or the first and the last of several."""
    low, high = (str(min(values)), str(max(values))) if values else ("", "")
    return low if low == high else f"{low} to {high}"


def _print_official(results: Results, tables: dict[str, pd.DataFrame]) -> None:
    figures, table = (
        official_names(results),
        tables["official_score"].replace("", None).dropna(axis="columns", how="all"),
    )
    if figures:
        shown = [c for c in table.columns if c in ("System", "clips", "sections", *figures) or "95 %" in c]
        intervals = f", {'its' if len(figures) == 1 else 'their'} 95 % interval over clips ({N_RESAMPLES:,} resamples)"
        has_limits = len(shown) > len(figures) + 3
        print(f"\n{' and '.join(figures)}{intervals if has_limits else ''}, percent:")
        print(as_text(table[shown]))
    for name in results.incomplete:
        print(f"no {' or '.join(figures) or 'official score'} of {name}: {results.incomplete[name]}")
    if "differences" in tables:
        differences = tables["differences"]
        if len(differences) > MOST_PAIRS:
            differences = differences[differences["System"] == differences["System"].iloc[0]]
        if len(figures) == 1:
            differences = differences.drop(columns="figure")
        print("\ndifferences on the same clips, and their 95 % intervals, points:")
        print(as_text(differences))


def decisions_as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of decisions with `46 of 60` in place of two counts, source and target side by side."""
    rows = []
    for (system, machine_type, section), group in table.groupby(["System", "machine type", "section"], sort=False):
        row = {"System": system, "machine type": machine_type, "section": section}
        by_domain = {line["domain"]: line for _, line in group.iterrows()}
        for what, of in (("false alarms", "normal clips"), ("hits", "anomalous clips")):
            for domain, line in by_domain.items():
                if domain != "all" or len(by_domain) == 1:
                    suffix = "" if len(by_domain) == 1 else f" ({domain})"
                    row[f"{what}{suffix}"] = f"{line[what]} of {line[of]}"
        rows.append({**row, **by_domain["all"][["precision", "recall", "F1 score"]].to_dict()})
    shown = pd.DataFrame(rows)
    return shown.drop(columns="section") if shown["section"].nunique() == 1 else shown


def as_text(table: pd.DataFrame) -> str:
    """Return a table in percent, words to the left, numbers to the right."""
    shown = table.copy()
    for name in shown.columns:
        if pd.api.types.is_float_dtype(shown[name]):
            shown[name] *= 100
        elif pd.api.types.is_string_dtype(shown[name]):
            shown[name] = shown[name].fillna("").str.ljust(shown[name].str.len().max())
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
