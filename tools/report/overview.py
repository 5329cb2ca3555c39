"""What the report shows of all sections together: the tables that 03 prints, a heat map, where the results are from."""

from common import NOT_RECORDED, SCORES, InputError, Settings

import numpy as np
import pandas as pd

from tools.report.areas import draw_heat_map
from tools.report.page import MEAN, Chapter, Picture, capital
from tools.results.files import keys_of
from tools.results.metrics import harmonic_mean
from tools.results.notes import section_name
from tools.results.official import required_metrics
from tools.results.parameters import parameters_text, score_options, trained_parameters
from tools.results.plots import number_text, to_png
from tools.results.results import Results
from tools.results.tables import Table, as_text

NONE = "–"


def overview_chapters(results: Results, tables: list[Table], settings: Settings) -> list[Chapter]:
    """Return the chapters of all sections together."""
    return [*_overview(results, tables), *_origin(results, settings)]


def _overview(results: Results, tables: list[Table]) -> list[Chapter]:
    """Return the figures of all sections: the tables that 03 prints, areas by section, heat map.

    For clips without labels, the range of their scores.
    """
    chapters = []
    by_name = {table.name: table for table in tables}
    if results.figures:
        summary = [table for table in tables if table.name not in ("systems", "decisions")]
        shown = {capital(table.title): as_text(table.shown) for table in summary if len(table.shown)}
        remarks = [f"{capital(remark)}." for table in summary for remark in table.remarks]
        shown |= {f"{name}, percent{_n_clips(results, name)}": _areas(results, name) for name in results.figures}
        pictures = []
        if "systems" in by_name and len(by_name["systems"].shown):
            figures = by_name["systems"].shown.set_index(["metric", "System"]).drop(columns=["h-mean", "a-mean"])
            heat_map = draw_heat_map({m: figures.loc[m].T.to_dict() for m in figures.index.unique("metric")})
            caption = "The same figures as a heat map; a machine type with several sections shows their mean."
            inches = heat_map.get_size_inches()[0]
            alternative = "Heat map of the figures in the tables."
            pictures = [Picture("heat_map", to_png(heat_map), caption, alternative, inches=inches)]
        chapters.append(Chapter("All machine types", remarks, shown, pictures))
    if "decisions" in by_name:
        decisions = by_name["decisions"]
        chapters.append(Chapter("Decisions", [], {capital(decisions.title): as_text(decisions.shown)}))
    unlabelled = [name for name, system in results.systems.items() if any(not s.is_labelled for s in system.values())]
    if unlabelled:
        scores = {name: _scores_without_labels(results, name) for name in unlabelled}
        chapters.append(Chapter("Scores of clips without labels", [], scores))
    return chapters


def _n_clips(results: Results, name: str) -> str:
    clips = results.n_clips(name)
    if clips is None:
        return ""
    return f"; {clips[0]} clips" if clips[0] == clips[1] else f"; {clips[0]} of {clips[1]} clips"


def _areas(results: Results, name: str) -> pd.DataFrame:
    """Return a system's published areas by section, and their harmonic means."""
    sections = results.figures[name]
    metrics = required_metrics(sections, results.rule)
    rows = [[section_name(results, key), *(values.get(m) for m in metrics)] for key, values in sections.items()]
    rows.append([MEAN, *(harmonic_mean(results.values(name, metric)) for metric in metrics)])
    table = pd.DataFrame(rows, columns=["machine type", *metrics])
    return as_text(table.astype(dict.fromkeys(metrics, float))).replace("", NONE)


def _scores_without_labels(results: Results, name: str) -> pd.DataFrame:
    """Return number and range of a system's scores of clips without labels, and the decisions."""
    rows = []
    for key, section in results.systems[name].items():
        if not section.is_labelled:
            decided = NONE if section.decisions is None else f"{section.decisions.sum()} of {len(section.clips)}"
            quantiles = np.quantile(section.scores, [0, 0.5, 1])
            rows.append([section_name(results, key), len(section.clips), *map(number_text, quantiles), decided])
    return pd.DataFrame(rows, columns=["machine type", "clips", "lowest", "median", "highest", "anomalous"])


def _origin(results: Results, settings: Settings) -> list[Chapter]:
    """Return the networks, tests and parameters that our results come from, where records exist."""
    tables, sentences = {}, []
    for name, (_, score) in results.own.items():
        options = score_options(record for (system, *_), record in results.records.items() if system == name)
        sentences += [f"Options of {score}: {parameters_text(options, options)}."] if options else []
    columns = ["machine type", "trained (UTC)", "epochs", "tested (UTC)", "clips", "threshold", "threshold from"]
    for name in results.own:
        rows = []
        for key in keys_of(results.challenge):
            record = results.records.get((name, *key))
            if record is not None:
                threshold, source = NONE, NONE
                if record.threshold is not None:
                    threshold = number_text(record.threshold)
                    source = record.threshold_from or f"the {record.decision_threshold:g} quantile fitted in training"
                trained, tested = ((date or NONE)[:16].replace("T", " ") for date in (record.trained, record.date))
                epochs = NONE if record.epochs is None else record.epochs
                rows.append([section_name(results, key), trained, epochs, tested, record.n_clips, threshold, source])
        if rows:
            tables[name] = pd.DataFrame(rows, columns=columns)
    for place in dict.fromkeys(place for place, score in results.own.values() if SCORES.get(score).needs_network):
        own = settings.replace(model=place.model, front_end=place.front_end)
        runs = [place.run(results.challenge.name, *key) for key in keys_of(results.challenge)]
        try:
            values, _ = trained_parameters([run for run in runs if run.record.is_file()], own)
        except InputError as error:
            sentences.append(f"Parameters of {place.model}: {error}.")
            continue
        if any(values.values()):
            names = [n for n in values if n not in ("model", "front_end", *NOT_RECORDED)]
            sentences.append(f"Parameters of {place.model}: {parameters_text(values, names)}.")
    return [Chapter("Origin of the results", sentences, tables)] if sentences or tables else []
