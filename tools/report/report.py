"""The report of a challenge's results: report.html and its pictures, beside the summary tables (03 --report).

All figures are those of the summary tables (tools/results/tables.py). Thresholds, logs, networks and clips are read as
far as they are on disk. What is missing is left out and reported. Changes no result.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from common import NOT_RECORDED, SCORES, InputError, Settings, extension_error, load_extensions
from tools.report.page import MEAN, Chapter, Picture, render
from tools.results.files import OWN_RULE, Key, keys_of
from tools.results.metrics import harmonic_mean
from tools.results.notes import heading, origins, section_name
from tools.results.official import required_metrics
from tools.results.parameters import parameters_text, score_options, trained_parameters
from tools.results.plots import number_text, to_png
from tools.results.results import Results
from tools.results.tables import Table, as_text
from tools.runtime.cores import available_cores
from tools.runtime.files import FileGroup
from tools.runtime.forkserver import start_server
from tools.runtime.progress import progress

HOW_TO_READ = {  # by how the names of pictures begin
    "scores": "Scores: higher is more anomalous; clips to the right of the threshold are decided to be anomalous. "
    "False alarms are normal clips decided to be anomalous, hits are anomalous ones.",
    "roc": "ROC curves: {domains}pAUC is of all clips, up to a false positive rate of {max_fpr:g} (the shaded region), "
    "and standardised, so that 50 % is chance for it too.",
    "losses": "Losses: one value for each epoch of training; test clips are not used.",
    "clip": "Worst-ranked clips: for each score, the normal clip with the highest score of the section's normal clips "
    "(the first to be a false alarm), and the anomalous clip with the lowest score of its anomalous ones (the first to "
    "be missed). Rank 1 is the highest score of all. Shown are the network's input, its reconstruction and the "
    "difference: red where the clip is louder than the network expects, blue where it is quieter.",
}
DOMAINS = "AUC (source) is of the source domain's normal clips against all anomalous ones, AUC (target) likewise; "
HOW_TO_READ_OFFICIAL = (
    "Official score: see the challenge's rules of the year. Its interval covers another draw of test clips, but not "
    "another seed or machine."
)
NONE = "–"


def write_report(results: Results, tables: list[Table], settings: Settings) -> Path:
    """Write the report of results and their tables, and its pictures; return the page's path."""
    experiment, challenge = results.experiment, results.challenge
    keys = [k for k in keys_of(challenge) if any(k in results.systems.get(name, {}) for name in results.own)]
    if not keys:
        folders = " or ".join(str(experiment.results(score)) for score in SCORES.names())
        raise InputError(
            f"there is no report, since there are no scores of {challenge.name} with seed {experiment.seed} in "
            f"{folders}; run 02a_test.sh or 02b_test.sh first, or copy the anomaly_score files as well"
        )
    with _drawn(results, settings, keys) as sections:
        chapters = [*_overview(results, tables), *_origin(results, settings)]
        left_out: dict[str, list[str]] = {}
        for chapter in progress(sections, len(keys), "report", "sections"):
            chapters.append(chapter)
            for reason in dict.fromkeys(chapter.left_out):
                left_out.setdefault(reason, []).append(chapter.title)
    chapters.append(Chapter("How to read this", _how_to_read(results, chapters)))
    reasons = _without_scores(results)
    reasons += [f"{_capital(reason)} ({'; '.join(names)})." for reason, names in left_out.items()]
    notices = {"Before you compare": results.notes, "What is left out": reasons}
    page = render(heading(results), origins(results), notices, chapters)
    path = experiment.report(challenge.name)
    pictures = {
        experiment.report_picture(challenge.name, picture.name): picture.png
        for chapter in chapters
        for picture in chapter.pictures
    }
    with FileGroup() as group:
        for place, png in pictures.items():
            group.open(place, "wb").write(png)
        group.open(path).write(page)
    for place in experiment.report_picture(challenge.name, "any").parent.glob("*.png"):
        if place not in pictures:  # of an earlier report
            place.unlink()
    return path


# --- the sections, side by side ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _drawn(results: Results, settings: Settings, keys: list[Key]) -> Iterator[Iterator]:
    """Draw the sections' chapters, in a process for each core if there are several; yield them in order."""
    draw = partial(_draw, results, settings)
    n_processes = min(available_cores(), len(keys))
    if n_processes == 1:
        yield map(draw, keys)
        return
    start_server(["tools.report.chapters"])
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(n_processes, context, _begin_process, (settings.extension,)) as pool:
        try:
            yield pool.map(draw, keys)
        except BrokenProcessPool as error:
            raise InputError("a process that drew pictures was killed; free memory and run 03 again") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_process(extensions: list[Path]) -> None:
    """Prepare a process that draws: it ends when its parent does, however that ends."""

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()  # type: ignore[union-attr]
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # by which the pool ends the others when one is killed
    load_extensions(extensions)


def _draw(results: Results, settings: Settings, key: Key) -> Chapter:
    from tools.report.chapters import section_chapter  # with torch, which the parent of several processes does not need

    try:
        return section_chapter(results, settings, key)
    except Exception as error:
        raise (extension_error(error) or error) from None


# --- all sections together --------------------------------------------------------------------------------------------


def _how_to_read(results: Results, chapters: list[Chapter]) -> list[str]:
    """Return the explanations of the pictures that there are, and of the official score."""
    shown = {picture.name.partition("_")[0] for chapter in chapters for picture in chapter.pictures}
    has_domains = any(scores.is_target.any() for system in results.systems.values() for scores in system.values())
    values = {"domains": DOMAINS if has_domains else "", "max_fpr": results.max_fpr}
    how = [text.format(**values) for kind, text in HOW_TO_READ.items() if kind in shown]
    return how if results.rule == OWN_RULE else [*how, HOW_TO_READ_OFFICIAL]


def _without_scores(results: Results) -> list[str]:
    """Return a sentence for each score that sections lack; a machine type alone if none of its sections has any."""
    experiment, challenge = results.experiment, results.challenge
    sentences = []
    for system in dict.fromkeys((*results.own, *(experiment.system(score) for score in SCORES.builtin))):
        scores, short = results.systems.get(system, {}), system.removeprefix(f"{experiment.export_dir}_")
        lacking: list[str] = []
        for machine_type, sections in challenge.sections.items():
            names = [section_name(results, (machine_type, s)) for s in sections if (machine_type, s) not in scores]
            lacking += [machine_type] if len(names) == len(sections) else names
        sentences += [f"No {short} scores for {', '.join(lacking)}."] if lacking else []
    return sentences


def _overview(results: Results, tables: list[Table]) -> list[Chapter]:
    """Return the figures of all sections: the tables that 03 prints, areas by section, heat map.

    For clips without labels, the range of their scores.
    """
    from tools.report.areas import draw_heat_map  # with matplotlib

    chapters = []
    by_name = {table.name: table for table in tables}
    if results.figures:
        summary = [table for table in tables if table.name not in ("systems", "decisions")]
        shown = {_capital(table.title): as_text(table.shown) for table in summary if len(table.shown)}
        remarks = [f"{_capital(remark)}." for table in summary for remark in table.remarks]
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
        chapters.append(Chapter("Decisions", [], {_capital(decisions.title): as_text(decisions.shown)}))
    unlabelled = [name for name, system in results.systems.items() if any(not s.is_labelled for s in system.values())]
    if unlabelled:
        scores = {name: _scores_without_labels(results, name) for name in unlabelled}
        chapters.append(Chapter("Scores of clips without labels", [], scores))
    return chapters


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


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
    """Return the networks, tests and parameters that our results come from, as far as records say."""
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
