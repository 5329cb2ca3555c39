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
    summary, decisions = Chapter("All machine types"), Chapter("Decisions")
    for table in tables:
        if table.name != "systems":
            chapter = decisions if table.name == "decisions" else summary
            chapter.sentences.extend(f"{capital(remark)}." for remark in table.remarks)
            chapter.tables.update({capital(table.title): percent(table.shown)} if len(table.shown) else {})
        elif len(table.shown):
            areas = table.shown.set_index(["metric", "System"]).drop(columns=["h-mean", "a-mean"])
            caption = "The same figures as a heat map; a machine type with several sections shows their mean."
            alternative = "Heat map of the figures in the tables."
            summary.draw("heat_map", draw_heat_map(areas), caption, alternative, is_wide=True)
    summary.tables.update(_areas(results, name) for name in results.names)
    unlabelled, scores = results.clips[results.clips["label"].isna()], Chapter("Scores of clips without labels")
    scores.tables.update({"In the scores' units": _ranges(unlabelled)} if len(unlabelled) else {})
    chapters = (summary, decisions, scores, _origin(results))
    return [chapter for chapter in chapters if chapter.sentences or chapter.tables]


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


def _origin(results: Results) -> Chapter:
    """Return the parameters and the thresholds of the systems, as far as they are recorded."""
    parameters: dict[str, list[str]] = {}  # as text -> systems
    rows = []
    for name in dict.fromkeys(system for system, *_ in results.records):
        text = ", ".join(
            f"{parameter} {value}"
            for parameter, value in merged(configurations(results, name).values()).items()
            if " " not in parameter and parameter != THRESHOLD
        )
        parameters.setdefault(text, []).append(name)
        row, origins = {"System": name}, []
        for (system, machine_type, section), record in results.records.items():
            if system == name and record.threshold is not None:
                row[section_name(results, (machine_type, section))] = number_text(record.threshold)
                fitted = f"the {record.decision_threshold:g} quantile fitted in training"
                origins.append(record.threshold_from or fitted)
        if origins:
            rows.append(row | {"threshold from": "; ".join(dict.fromkeys(origins))})
    sentences = [f"Parameters of {listed(names)}: {text}." for text, names in parameters.items() if text]
    tables = {"Thresholds": pd.DataFrame(rows).fillna(NONE)} if rows else {}
    return Chapter("Origin of the results", sentences, tables)
