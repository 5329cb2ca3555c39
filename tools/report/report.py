"""The report of a challenge's results: report.html and its pictures, beside the summary tables (03 --report).

All figures are those of the results table (tools/results/table.py), so that the report and the printed tables agree.
Thresholds, logs, networks and clips are read as far as they are on disk. What is missing is left out and reported.
Changes no result.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common import NOT_RECORDED, SCORES, Experiment, InputError, Settings
from datasets.catalogue import Challenge
from tools.report.page import Chapter, Page, Picture, Table, render
from tools.report.plots import draw_heat_map
from tools.report.sections import LeftOut, Section, section_chapter
from tools.results.metrics import DECISION_METRICS
from tools.results.official import CONFIDENCE, required_metrics
from tools.results.parameters import parameters_text, trained_parameters
from tools.results.plots import number_text, to_png
from tools.results.score_files import OWN_RULE
from tools.results.table import Results
from tools.runtime.files import FileGroup
from tools.runtime.progress import progress

HOW_TO_READ = [
    "Scores: a clip's anomaly score, higher is more anomalous; to the right of the threshold it is decided to be "
    "anomalous. The threshold is {threshold}. False alarms are normal clips decided to be anomalous, hits are "
    "anomalous ones.",
    "ROC curves: AUC (source) is of the source domain's normal clips against all anomalous ones, AUC (target) "
    "likewise; pAUC is of all clips, up to a false positive rate of {max_fpr:g} (the coloured region), and "
    "standardised, so that 50 % is chance for it too.",
    "Losses: of each epoch of training; the test clips have no part in them.",
    "Worst-ranked clips: for each score, the normal clip with the highest score of the section's normal clips (the "
    "first to be a false alarm), and the anomalous clip with the lowest score of its anomalous ones (the first to be "
    "missed). Rank 1 is the highest score of all. Shown are what the network is given, what it makes of it, and the "
    "difference: red where the clip is louder than the network expects, blue where it is quieter.",
]
HOW_TO_READ_OFFICIAL = (
    "Official score: see the challenge's rules of the year. Its interval says what another draw of test clips would "
    "do to it; another seed or machine is another matter."
)
NONE = "–"


def write_report(results: Results, settings: Settings) -> Path:
    """Write the report of results and its pictures; return the page's path."""
    experiment, challenge = results.experiment, results.challenge
    if not any(name in results.systems for name in results.own):
        folders = " or ".join(str(experiment.results(score)) for score in SCORES.names())
        raise InputError(
            f"there are no scores of {challenge.name} with seed {experiment.seed} in {folders}; run 02a_test.sh or "
            "02b_test.sh first, or check --result_directory, --export_dir and --seed"
        )
    sections = [Section(results, settings, m, s) for m, s in _keys(challenge)]
    sections = [section for section in sections if section.scores]
    chapters = [*_overview(results), *_origin(results, settings)]
    left_out = list(_without_scores(results))
    for section in progress(sections, len(sections), "report", "sections"):
        chapter, missing = section_chapter(section)
        chapters.append(chapter)
        left_out += missing
    chapters.append(Chapter("How to read this", _how_to_read(results)))
    notices = {"Before you compare": results.notes, "What is left out": _sentences(left_out)}
    page = render(Page(_title(challenge), _introduction(results), notices, chapters))
    _write(experiment, challenge, page, [picture for chapter in chapters for picture in chapter.pictures])
    return experiment.report(challenge.name)


def _write(experiment: Experiment, challenge: Challenge, page: str, pictures: list[Picture]) -> None:
    """Write page and pictures, and remove the pictures of an earlier report that this one does not have."""
    files = {experiment.report_picture(challenge.name, picture.name): picture.png for picture in pictures}
    with FileGroup() as group:
        for path, png in files.items():
            group.open(path, "wb").write(png)
        group.open(experiment.report(challenge.name)).write(page)
    for path in experiment.report_picture(challenge.name, "any").parent.glob("*.png"):
        if path not in files:
            path.unlink()


def _title(challenge: Challenge) -> str:
    return f"{challenge.name}, {'evaluation' if challenge.is_eval else 'development'} data set"


def _introduction(results: Results) -> list[str]:
    """Say whose results these are: experiment, network, seed, epochs, dates, number of clips."""
    experiment = results.experiment
    models = dict.fromkeys(place.model for place, score in results.own.values() if SCORES.get(score).needs_network)
    network = f" ({', '.join(models)})" if models else ""
    epochs = sorted({record.epochs for record in results.records.values() if record.epochs is not None})
    dates = sorted({record.date[:10] for record in results.records.values()})
    trained = f", {' or '.join(map(str, epochs))} epochs" if epochs else ""
    tested = f", tested {' to '.join(dict.fromkeys((dates[0], dates[-1])))}" if dates else ""
    clips = {key: len(scores.clips) for name in results.own for key, scores in results.systems.get(name, {}).items()}
    n_all = sum(map(len, results.challenge.sections.values()))
    return [
        f"Results of {experiment.export_dir}{network}, seed {experiment.seed}{trained}{tested}: {sum(clips.values())} "
        f"test clips, {len(clips)} of {n_all} sections."
    ]


def _how_to_read(results: Results) -> list[str]:
    """Return what the chapters show, of those that are there."""
    sources = [
        record.threshold_from or f"the {record.decision_threshold:g} quantile of the distribution fitted in training"
        for record in results.records.values()
        if record.threshold is not None
    ]
    threshold = " or ".join(dict.fromkeys(sources)) or "a quantile of the distribution fitted in training"
    how = [text.format(threshold=threshold, max_fpr=results.max_fpr) for text in HOW_TO_READ]
    return how if results.rule == OWN_RULE else [*how, HOW_TO_READ_OFFICIAL]


def _keys(challenge: Challenge) -> list[tuple[str, int]]:
    """Return machine types and sections in the tables' order."""
    return [(machine_type, section) for machine_type, sections in challenge.sections.items() for section in sections]


def _name(results: Results, key: tuple[str, int]) -> str:
    """Return what a section is called: by its machine type alone if that has no other."""
    machine_type, section = key
    return (
        machine_type if len(results.challenge.sections[machine_type]) == 1 else f"{machine_type}, section {section:02d}"
    )


def _without_scores(results: Results) -> Iterator[LeftOut]:
    """Yield the sections without scores, by score; a machine type alone if none of its sections has any."""
    experiment, challenge = results.experiment, results.challenge
    for system in dict.fromkeys((*results.own, *(experiment.system(score) for score in SCORES.builtin))):
        scores = results.systems.get(system, {})
        short = system.removeprefix(f"{experiment.export_dir}_")
        for machine_type, sections in challenge.sections.items():
            names = [_name(results, (machine_type, s)) for s in sections if (machine_type, s) not in scores]
            for name in [machine_type] if len(names) == len(sections) else names:
                yield f"scores by {short}: there are none", name


def _sentences(left_out: list[LeftOut]) -> list[str]:
    """Return a sentence for each reason, with the sections that it holds for."""
    sections: dict[str, list[str]] = {}
    for reason, section in left_out:
        if section not in sections.setdefault(reason, []):
            sections[reason].append(section)
    return [f"{reason[0].upper()}{reason[1:]} ({'; '.join(names)})." for reason, names in sections.items()]


def _overview(results: Results) -> list[Chapter]:
    """Return the figures of all sections: official scores, tables, heat map; without labels the scores' range."""
    chapters = []
    if results.names:
        every_section = {(name, key): v for name in results.names for key, v in results.sections(name).items()}
        metrics = [metric for metric in required_metrics(every_section, results.rule) if metric in results.metrics]
        tables = [_area_table(results, name, metrics) for name in results.names]
        figure = draw_heat_map(_by_machine_type(results, metrics))
        picture = Picture(
            "heat_map",
            to_png(figure),
            "The same in colours; of several sections of a machine type, their harmonic mean.",
            "Heat map of the figures in the tables.",
            inches=figure.get_size_inches()[0],
            is_full=True,
        )
        chapters.append(Chapter("All machine types", list(_official_sentences(results)), tables, [picture]))
        decisions = [table for name in results.names if (table := _decision_table(results, name))]
        if decisions:
            chapters.append(Chapter("Decisions", [], decisions))
    unlabelled = [name for name, system in results.systems.items() if any(not s.is_labelled for s in system.values())]
    if unlabelled:
        tables = [_score_table(results, name) for name in unlabelled]
        chapters.append(Chapter("Scores of clips without labels", [], tables))
    return chapters


def _official_sentences(results: Results) -> Iterator[str]:
    """Yield each system's official score, or why it has none."""
    n_all = len(_keys(results.challenge))
    for name in results.names:
        if name not in results.official:
            yield f"{name} has no overall figure: {results.incomplete[name]}."
        for what, figure in results.official.get(name, {}).items():
            interval = ""
            if figure.low is not None and figure.high is not None:
                interval = f", {100 * CONFIDENCE:g} % interval {100 * figure.low:.2f} to {100 * figure.high:.2f}"
            n = len(results.sections(name))
            yield f"{name}: {what} {100 * figure.value:.2f} %{interval} ({n} of {n_all} sections)."


def _area_table(results: Results, name: str, metrics: list[str]) -> Table:
    """Return the table of a system's areas by section, and their harmonic means."""
    rows = [
        [_name(results, key), *(_percent(values.get(metric)) for metric in metrics)]
        for key, values in results.sections(name).items()
    ]
    rows.append(["harmonic mean", *(_percent(results.mean(name, metric)) for metric in metrics)])
    clips = results.n_clips(name)
    of = "" if clips is None else f"; {clips[0]} of {clips[1]} clips" if clips[0] != clips[1] else f"; {clips[0]} clips"
    return Table(f"{name}, percent{of}", ["machine type", *metrics], rows, n_means=1)


def _decision_table(results: Results, name: str) -> Table | None:
    """Return false alarms, hits, precision, recall and F1 score of a system; None if it decides nothing."""
    domains = [d for d in ("source", "target", "all", None) if _named("false alarms", d) in results.metrics]
    figures = DECISION_METRICS
    of_all = "all" if "all" in domains else None
    columns = [_named(count, d) for d in domains for count in ("false alarms", "hits")]
    rows = []
    for key, values in results.sections(name).items():
        cells = []
        for domain in domains:
            for count, total in (("false alarms", "normal clips"), ("hits", "anomalous clips")):
                n, of = values.get(_named(count, domain)), values.get(_named(total, domain))
                cells.append(NONE if n is None else f"{n:.0f} of {of:.0f}")
        if any(cell != NONE for cell in cells):
            rows.append([_name(results, key), *cells, *(_percent(values.get(_named(f, of_all))) for f in figures)])
    if not rows:
        return None
    return Table(
        f"{name}, clips; precision, recall and F1 score in percent", ["machine type", *columns, *figures], rows
    )


def _named(metric: str, domain: str | None) -> str:
    return metric if domain is None else f"{metric} ({domain})"


def _score_table(results: Results, name: str) -> Table:
    """Return number and range of a system's scores of clips without labels, and the decisions."""
    rows = []
    for key, scores in results.systems[name].items():
        if not scores.is_labelled:
            decided = NONE if scores.decisions is None else f"{scores.decisions.sum()} of {len(scores.clips)}"
            quantiles = np.quantile(scores.scores, [0, 0.5, 1])
            rows.append([_name(results, key), str(len(scores.clips)), *map(number_text, quantiles), decided])
    return Table(name, ["machine type", "clips", "lowest", "median", "highest", "anomalous"], rows)


def _by_machine_type(results: Results, metrics: list[str]) -> dict:
    """Return the harmonic means over each machine type's sections: metric -> system -> machine type -> value."""
    return {
        metric: {name: {m: results.mean(name, metric, m) for m in results.machine_types} for name in results.names}
        for metric in metrics
    }


def _origin(results: Results, settings: Settings) -> list[Chapter]:
    """Return which networks and tests our results come from, and the parameters, as far as records say."""
    tables, sentences = [], []
    for name in results.own:
        rows = []
        for key in _keys(results.challenge):
            record = results.records.get((name, *key))
            if record is not None:
                threshold = NONE if record.threshold is None else number_text(record.threshold)
                trained = (record.trained or NONE)[:16].replace("T", " ")
                epochs = NONE if record.epochs is None else str(record.epochs)
                tested = record.date[:16].replace("T", " ")
                rows.append([_name(results, key), trained, epochs, tested, str(record.n_clips), threshold])
        if rows:
            columns = ["machine type", "trained (UTC)", "epochs", "tested (UTC)", "clips", "threshold"]
            tables.append(Table(name, columns, rows))
    for place in dict.fromkeys(place for place, score in results.own.values() if SCORES.get(score).needs_network):
        own = settings.replace(model=place.model, front_end=place.front_end)
        runs = [place.run(results.challenge.name, *key) for key in _keys(results.challenge)]
        try:
            values, missing = trained_parameters([run for run in runs if run.record.is_file()], own)
        except InputError as error:
            sentences.append(f"Parameters of {place.model}: {error}.")
            continue
        if len(missing) == 0 and any(values.values()):
            names = [n for n in values if n not in ("model", "front_end", *NOT_RECORDED)]
            sentences.append(f"Parameters of {place.model}: {parameters_text(values, names)}.")
    return [Chapter("Origin of the results", sentences, tables)] if sentences or tables else []


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.2f}"
