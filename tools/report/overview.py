"""What the report shows of all sections together: the tables that 03 prints, a heat map, where the results are from."""

import pandas as pd

from runtime.wording import listed
from tools.report.curves import draw_heat_map
from tools.report.page import MEAN, NONE, Chapter, capital
from tools.results.metrics import harmonic_mean
from tools.results.notes import configurations, section_name
from tools.results.official import required_metrics
from tools.results.parameters import THRESHOLD, merged
from tools.results.plots import number_text
from tools.results.results import Results
from tools.results.tables import Table, percent


def overview_chapters(results: Results, tables: list[Table]) -> list[Chapter]:
    """Return the figures of all sections: the tables that 03 prints, areas by section, heat map; then their origin.

    For clips without labels, the range of their scores.
    """
    chapters = []
    by_name = {table.name: table for table in tables}
    if results.names:
        summary = [table for table in tables if table.name not in ("systems", "decisions")]
        shown = {capital(table.title): percent(table.shown) for table in summary if len(table.shown)}
        remarks = [f"{capital(remark)}." for table in summary for remark in table.remarks]
        shown |= dict(_areas(results, name) for name in results.names)
        chapters.append(Chapter("All machine types", remarks, shown))
        if "systems" in by_name and len(by_name["systems"].shown):
            areas = by_name["systems"].shown.set_index(["metric", "System"]).drop(columns=["h-mean", "a-mean"])
            caption = "The same figures as a heat map; a machine type with several sections shows their mean."
            alternative = "Heat map of the figures in the tables."
            chapters[0].draw("heat_map", draw_heat_map(areas), caption, alternative, is_wide=True)
    if "decisions" in by_name:
        decisions = by_name["decisions"]
        chapters.append(Chapter("Decisions", [], {capital(decisions.title): percent(decisions.shown)}))
    unlabelled = results.clips[results.clips["label"].isna()]
    if len(unlabelled):
        chapters.append(Chapter("Scores of clips without labels", [], {"In the scores' units": _ranges(unlabelled)}))
    return [*chapters, *_origin(results)]


def _areas(results: Results, name: str) -> tuple[str, pd.DataFrame]:
    """Return a system's published areas by section, and their harmonic means, under their caption."""
    covered, of_all = results.n_clips(name) or (0, 0)
    n_clips = f"{covered} of {of_all}" if covered < of_all else covered
    figures = results.figures_of(name)
    table = figures.reindex(columns=required_metrics(figures, results.rule)).set_axis(
        [section_name(results, key) for key in figures.index]
    )
    table.loc[MEAN] = table.agg(harmonic_mean).astype(float)
    caption = f"{name}, percent{f'; {n_clips} clips' if of_all else ''}"
    return caption, percent(table.rename_axis("machine type").reset_index()).replace("", NONE)


def _ranges(clips: pd.DataFrame) -> pd.DataFrame:
    """Return number and range of each system's scores by section, and how many clips are judged anomalous."""
    groups = clips.groupby(["system", "machine type", "section"], sort=False)
    table = groups["score"].agg(["min", "median", "max"]).map(number_text)
    table.insert(0, "clips", groups.size())
    table["anomalous"] = [NONE if pd.isna(n) else int(n) for n in groups["decision"].sum(min_count=1)]
    return table.reset_index()


def _origin(results: Results) -> list[Chapter]:
    """Return the parameters and the thresholds of our systems, as far as they are recorded."""
    parameters: dict[str, list[str]] = {}  # as text -> systems
    rows = []
    for name in results.own:
        text = ", ".join(
            f"{parameter} {value}"
            for parameter, value in merged(configurations(results, name).values()).items()
            if " " not in parameter and parameter != THRESHOLD
        )
        parameters.setdefault(text, []).append(name)
        row: dict[str, str] = {"System": name}
        origins: dict[str, None] = {}
        for key in results.challenge.section_keys():
            record = results.records.get((name, *key))
            if record is not None and record.threshold is not None:
                row[section_name(results, key)] = number_text(record.threshold)
                origins[record.threshold_from or f"the {record.decision_threshold:g} quantile fitted in training"] = (
                    None
                )
        rows += [row | {"threshold from": "; ".join(origins)}] if origins else []
    sentences = [f"Parameters of {listed(names)}: {text}." for text, names in parameters.items() if text]
    tables = {"Thresholds": pd.DataFrame(rows).fillna(NONE)} if rows else {}
    return [Chapter("Origin of the results", sentences, tables)] if sentences or tables else []
