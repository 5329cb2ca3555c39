"""What the report shows of one section: scores, ROC curves, losses and its worst-ranked clips, where available.

Conventions: a part that cannot be shown is reported in the chapter's `left_out`. Pictures are named after machine type
and section, never after a clip: a clip's name may be anything.
"""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

from common import SCORES, InputError, Settings

import numpy as np
import torch
from matplotlib.figure import Figure

from datasets.clips import MachineFolders
from networks.names import Run
from networks.record import read_record
from networks.scores import make_score
from networks.trained import Trained, load_trained
from networks.training import EpochLosses
from tools.report.areas import draw_roc, roc_curves
from tools.report.page import Chapter, Picture, capital
from tools.report.time_frequency import draw_time_frequency, reconstruct
from tools.results.files import Key, SectionScores, read_log
from tools.results.metrics import area_under_curve
from tools.results.notes import section_name
from tools.results.plots import (
    SMALL,
    draw_histogram,
    draw_losses,
    number_text,
    score_groups,
    sections_title,
    to_png,
)
from tools.results.results import Results
from tools.results.test_record import TestRecord


@dataclass(frozen=True)
class Scored:
    """A section's scores by one of our systems, and their origin."""

    system: str  # its name within the experiment: that of its score, after a network's of an extension
    variant: str  # the part of `system` that tells a network or front end of an extension from the baseline's
    score: str
    scores: SectionScores
    run: Run
    record: TestRecord | None
    settings: Settings  # those of the report, with the system's network and front end
    title: str  # of the section: how the titles of its pictures and the names of their files begin
    file_name: str

    def threshold(self) -> tuple[float | None, str | None]:
        """Return the threshold of the decisions, and if there is none, why."""
        if self.record is not None:
            return self.record.threshold, None if self.record.threshold is not None else "the test had none"
        return None, "its test has no record"


def section_chapter(results: Results, settings: Settings, key: Key) -> Chapter:
    """Return a section's chapter."""
    chapter = Chapter(section_name(results, key))
    runs: dict[str, list[Scored]] = {}  # of the systems that have a network, by its name
    for scored in _scored(results, settings, key):
        _add_scores(chapter, scored, results.max_fpr)
        if SCORES.get(scored.score).needs_network:  # type: ignore[attr-defined]
            runs.setdefault(scored.run.name, []).append(scored)
    for of_run in runs.values():
        _add_losses(chapter, of_run[0])
        challenge = results.challenge
        folders = MachineFolders(settings.dataset_directory, challenge.name, key[0], challenge.is_eval)
        _add_clips(chapter, of_run, folders.test)
    return chapter


def _scored(results: Results, settings: Settings, key: Key) -> list[Scored]:
    """Return the section's scores by each of our systems that has any."""
    found = []
    for name, (experiment, score) in results.own.items():
        if key in results.systems.get(name, {}):
            system = name.removeprefix(f"{experiment.export_dir}_")
            variant = system.removesuffix(score).rstrip("_")
            found.append(
                Scored(
                    system,
                    f"_{variant}" if variant else "",
                    score,
                    results.systems[name][key],
                    experiment.run(results.challenge.name, *key),
                    results.records.get((name, *key)),
                    settings.replace(model=experiment.model, front_end=experiment.front_end),
                    sections_title(key[0], [key[1]]),
                    f"{key[0]}_section_{key[1]:02d}",
                )
            )
    return found


def _add_picture(chapter: Chapter, name: str, figure: Figure, caption: str, alt: str) -> None:
    chapter.pictures.append(Picture(name, to_png(figure), caption, alt))


def _add_scores(chapter: Chapter, scored: Scored, max_fpr: float) -> None:
    """Add the distribution of a section's scores, and the ROC curves if its clips are labelled."""
    section, system = scored.scores, scored.system
    is_anomaly, scores = section.is_anomaly, section.scores
    threshold, why = scored.threshold()
    if why is not None:
        chapter.left_out.append(f"the threshold of {system}: {why}")
    where = "no threshold" if threshold is None else f"threshold {number_text(threshold)}"
    unit = make_score(scored.score, scored.settings, None).unit
    _add_picture(
        chapter,
        f"scores_{scored.file_name}_{system}",
        draw_histogram(score_groups(section.clips, scores), threshold, f"{scored.title}, {system}, {where}", unit),
        f"Anomaly scores by {system}, {where}.",
        f"Histogram of {len(scores)} anomaly scores of {chapter.title} by {system}, from "
        f"{number_text(scores.min())} to {number_text(scores.max())}, {where}.",
    )
    if not section.is_labelled:
        chapter.left_out.append("AUC, ROC curves and worst-ranked clips: the test clips are not labelled")
        return
    curves = roc_curves(is_anomaly, section.is_target, scores)
    if not curves:
        chapter.left_out.append("AUC and ROC curves: normal and anomalous clips are needed")
        return
    partial = area_under_curve(is_anomaly, scores, max_fpr)
    areas = [f"{curve.metric} {100 * curve.area:.2f} %" for curve in curves]
    areas += [] if partial is None else [f"pAUC {100 * partial:.2f} %"]
    _add_picture(
        chapter,
        f"roc_{scored.file_name}_{system}",
        draw_roc(curves, partial, max_fpr, f"{scored.title}, {system}"),
        f"ROC curves, {system}; pAUC region shaded.",
        f"ROC curves of {chapter.title} by {system}; areas: {', '.join(areas)}.",
    )


def _add_losses(chapter: Chapter, scored: Scored) -> None:
    """Add the losses of each epoch, if there is a log."""
    try:
        rows, record = read_log(scored.run.log_csv), read_record(scored.run.record)
        epochs = [EpochLosses(**row) for row in rows or ()]
    except (InputError, TypeError) as error:
        chapter.left_out.append(f"loss curves: {error}")
        return
    if rows is None:
        chapter.left_out.append("loss curves: there is no log.csv")
        return
    model = scored.run.experiment.model
    unit = record.content.get("loss_unit", "loss") if record else "loss"
    first, last = epochs[0], epochs[-1]
    _add_picture(
        chapter,
        f"losses_{scored.file_name}{scored.variant}",
        draw_losses(epochs, f"{scored.title}, {model}", unit, SMALL),
        f"Training losses of {model}.",
        f"Losses of {chapter.title} in {len(epochs)} epochs: training {number_text(first.loss)} to "
        f"{number_text(last.loss)}, validation {number_text(first.val_loss)} to {number_text(last.val_loss)}.",
    )


def worst_clips(scores: SectionScores) -> list[tuple[str, str, int, int]]:
    """Return a labelled section's normal clip of the highest score and its anomalous clip of the lowest.

    Each as (`highest`, `normal`, its index in the section, its rank), rank 1 being the section's highest score.
    """
    order = np.argsort(-scores.scores, kind="stable")  # of equal scores, the first in the file has the higher rank
    is_anomaly = scores.is_anomaly[order]
    normal, anomalous = np.flatnonzero(~is_anomaly), np.flatnonzero(is_anomaly)
    worst = [("highest", "normal", place) for place in normal[:1]]
    worst += [("lowest", "anomalous", place) for place in anomalous[-1:]]
    return [(extreme, label, int(order[place]), int(place) + 1) for extreme, label, place in worst]


def _add_clips(chapter: Chapter, of_run: list[Scored], folder: Path) -> None:
    """Add the worst-ranked clips of a network's systems, each once even if it is so by two scores."""
    first = of_run[0]
    shown: dict[str, tuple[str, str, list[str]]] = {}  # clip -> the picture's name, its title, and why it is shown
    for scored in of_run:
        for extreme, label, index, rank in worst_clips(scored.scores) if scored.scores.is_labelled else ():
            kind = f"{label} clip ranked {extreme} by {scored.system}"
            picture = f"clip_{scored.file_name}_{scored.system}_{extreme}_{label}"
            clip, score = scored.scores.clips[index].name, scored.scores.scores[index]
            reasons = shown.setdefault(clip, (picture, f"{scored.title}: {kind}", []))[2]
            reasons.append(f"{kind}: rank {rank} of {len(scored.scores.clips)}, score {number_text(score)}")
    if not shown:
        return
    if not first.run.network.is_file():
        chapter.left_out.append("worst-ranked clips: there is no network")
        return
    there = {name: clip for name, clip in shown.items() if (folder / name).is_file()}
    try:
        trained = _load(first.run.network, first.settings)
        for name, (picture, title, reasons) in there.items():
            drawn = reconstruct(trained, folder / name)
            why = "; ".join(reasons)
            _add_picture(
                chapter,
                picture,
                draw_time_frequency(drawn, f"{title}\n{name}", is_narrow=True),
                f"{capital(why)}. {name}",
                f"{drawn.front_end} input, reconstruction and error of {name}, mean squared error "
                f"{number_text(drawn.mean_squared_error)} {drawn.unit}².",
            )
        if len(there) < len(shown):
            chapter.left_out.append("worst-ranked clips: their recordings are not there")
    except InputError as error:
        chapter.left_out.append(f"worst-ranked clips: {error}")


def _load(network: Path, settings: Settings) -> Trained:
    """Load a network without the lines that loading prints: the report lists the parameters itself."""
    torch.set_num_threads(settings.threads)
    with contextlib.redirect_stdout(io.StringIO()):
        return load_trained(network, settings, torch.device("cpu"))
