"""The report of a challenge's results: report.html and its pictures, beside the summary tables (03 --report).

All figures are those of the summary tables (tools/results/tables.py). Thresholds, logs, networks and clips are read as
far as they are on disk. What is missing is left out and reported. Changes no result.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from common import SCORES, InputError, Settings, extension_error, load_extensions

from runtime.cores import available_cores
from runtime.files import FileGroup
from runtime.forkserver import end_with_parent, start_server
from runtime.progress import progress
from tools.report.page import Chapter, capital, render
from tools.results.files import OWN_RULE, Key, keys_of
from tools.results.notes import heading, origins, section_name
from tools.results.results import Results
from tools.results.tables import Table

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
    with _drawn(results, tables, settings, [None, *keys]) as parts:
        chapters = [chapter for part in progress(parts, len(keys) + 1, "report", "parts") for chapter in part]
    left_out: dict[str, list[str]] = {}
    for chapter in chapters:
        for reason in dict.fromkeys(chapter.left_out):
            left_out.setdefault(reason, []).append(chapter.title)
    chapters.append(Chapter("How to read this", _how_to_read(results, chapters)))
    reasons = _without_scores(results)
    reasons += [f"{capital(reason)} ({'; '.join(names)})." for reason, names in left_out.items()]
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


# --- the parts, side by side ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _drawn(results: Results, tables: list[Table], settings: Settings, parts: list[Key | None]) -> Iterator[Iterator]:
    """Draw the chapters of parts, in a process for each core if there are several sections; yield them in order."""
    draw = partial(_draw, results, tables, settings)
    n_processes = min(available_cores(), len(parts) - 1)
    if n_processes == 1:
        yield map(draw, parts)
        return
    context = multiprocessing.get_context("forkserver")
    try:
        pool = ProcessPoolExecutor(n_processes, context, _begin_process, (settings.extension,))
    except OSError:  # no semaphores: /dev/shm is full or cannot be written to
        yield map(draw, parts)
        return
    start_server(["tools.report.report", "tools.report.chapters", "tools.report.overview"])
    with pool:
        try:
            yield pool.map(draw, parts)
        except BrokenProcessPool as error:
            raise InputError("a process that drew pictures was killed; free memory and run 03 again") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_process(extensions: list[Path]) -> None:
    """Prepare a process that draws."""
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # by which the pool ends the others when one is killed
    load_extensions(extensions)


def _draw(results: Results, tables: list[Table], settings: Settings, part: Key | None) -> list[Chapter]:
    """Return the chapters of a part: a section's, or None: those of all sections together."""
    # with torch and matplotlib, which the parent of several processes does not need
    from tools.report.chapters import section_chapter
    from tools.report.overview import overview_chapters

    try:
        if part is None:
            return overview_chapters(results, tables, settings)
        return [section_chapter(results, settings, part)]
    except Exception as error:
        raise (extension_error(error) or error) from None


# --- sentences of the page --------------------------------------------------------------------------------------------


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
