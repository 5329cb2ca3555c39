"""What the report shows of one section: scores, ROC curves, losses, worst-ranked clips, and a list of all its clips.

Conventions: a part that cannot be shown is reported in the chapter's `left_out`. Files are named after machine type and
section, never after a clip: a clip's name may be anything. Rank 1 is a section's highest score.
"""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

from common import NETWORKS, SCORES, InputError, Settings

import pandas as pd
import torch
from markupsafe import Markup

from datasets.clips import MachineFolders
from networks.names import Run
from networks.record import read_record
from networks.scores import make_score
from networks.trained import load_trained
from tools.report.curves import CURVES, draw_roc
from tools.report.page import NONE, Chapter, audio_control, capital, relative_url
from tools.report.time_frequency import draw_time_frequency, reconstruct
from tools.results.files import Key
from tools.results.notes import section_name
from tools.results.plots import SCORE_COLUMNS, SMALL, draw_histogram, draw_losses, number_text
from tools.results.result_record import ResultRecord
from tools.results.results import Results


@dataclass(frozen=True)
class System:
    """A section's results by one of our systems."""

    name: str  # within the experiment: that of its score, after a network's of an extension
    score: str
    run: Run | None  # of its network, if it has one
    settings: Settings  # those of the report, with the system's network and front end
    record: ResultRecord | None
    areas: pd.Series  # the defined areas by metric
    clips: pd.DataFrame  # its rows of the table of clips, by clip, with their `rank`: equal scores in the file's order


def section_chapters(results: Results, settings: Settings, key: Key) -> tuple[Chapter, Path, Chapter]:
    """Return a section's chapter of the report, and the page that lists its clips: path and chapter."""
    challenge, experiment = results.challenge, results.experiment
    chapter = Chapter(section_name(results, key), file_name=f"{key[0]}_section_{key[1]:02d}")
    folder = MachineFolders(settings.dataset_directory, challenge.name, key[0], challenge.is_eval).test
    clips_page = experiment.report_picture(challenge.name, f"clips_{chapter.file_name}").with_suffix(".html")
    page = experiment.report(challenge.name)
    systems = _systems(results, settings, key)
    torch.set_num_threads(settings.threads)
    for system in systems:
        _add_scores(chapter, system, results.max_fpr)
    for run in dict.fromkeys(system.run for system in systems if system.run):
        _add_losses(chapter, run)
    _add_worst_clips(chapter, systems, folder, page)
    if not all((folder / clip).is_file() for system in systems for clip in system.clips.index):
        where = f"not all are below {folder.parent.parent} under the names of the scores"
        chapter.left_out.append(f"recordings to draw and to listen to: {where}")
    link = Markup('<a href="{}">All test clips with their scores and ranks</a>')
    chapter.sentences.append(link.format(relative_url(clips_page, page)))
    return chapter, clips_page, _clips_chapter(systems, folder, clips_page)


def _systems(results: Results, settings: Settings, key: Key) -> list[System]:
    """Return the section's results by each of our systems that has any."""
    systems = []
    for name, (experiment, score) in results.own.items():
        clips = results.clips_of(name).get(key)
        if clips is not None:
            ranks = clips["score"].rank(ascending=False, method="first").astype(int)
            areas = results.figures.reindex([(name, *key)], columns=[*CURVES, "pAUC"]).iloc[0].dropna()
            systems.append(
                System(
                    name.removeprefix(f"{results.experiment.export_dir}_"),
                    score,
                    experiment.run(results.challenge.name, *key) if SCORES.get(score).needs_network else None,
                    settings.replace(model=experiment.model, front_end=experiment.front_end),
                    results.records.get((name, *key)),
                    areas,
                    clips.assign(rank=ranks).set_index("clip"),
                )
            )
    return systems


def _clips_chapter(systems: list[System], folder: Path, page: Path) -> Chapter:
    """Return the list of a section's clips, by the mean of their ranks, on a page of its own."""
    clips = pd.concat([system.clips for system in systems]).groupby(level=0)
    names = clips["rank"].mean().sort_values(kind="stable").index
    table = clips[["label", "domain"]].first().loc[names].dropna(axis="columns", how="all")
    table.insert(0, "recording", [audio_control(folder / name, page) or NONE for name in names])
    for system in systems:
        table[system.name] = system.clips["rank"].astype(str) + " (" + system.clips["score"].map(number_text) + ")"
    caption = "By the mean of the ranks; each system's rank, 1 being its highest score, and its score"
    return Chapter("All test clips", [], {caption: table.fillna(NONE).reset_index()})


def _add_scores(chapter: Chapter, system: System, max_fpr: float) -> None:
    """Add the distribution of a section's scores, and the ROC curves if its clips are labelled."""
    clips, record, title = system.clips, system.record, f"{chapter.title}, {system.name}"
    threshold, where = record.threshold if record else None, "no threshold"
    if threshold is None:
        why = "the test had none" if record else "its test has no record"
        chapter.left_out.append(f"the threshold of {system.name}: {why}")
    else:
        where = f"threshold {number_text(threshold)}"
    unit = make_score(system.score, system.settings, None).unit
    scores = clips[SCORE_COLUMNS].itertuples(index=False)
    lowest, highest = number_text(clips["score"].min()), number_text(clips["score"].max())
    chapter.draw(
        f"scores_{chapter.file_name}_{system.name}",
        draw_histogram(scores, threshold, f"{title}, {where}", unit),
        f"Anomaly scores by {system.name}, {where}.",
        f"Histogram of {len(clips)} anomaly scores of {title}, from {lowest} to {highest}, {where}.",
    )
    if clips["label"].isna().any():
        chapter.left_out.append("AUC, ROC curves and worst-ranked clips: the test clips are not labelled")
    elif "pAUC" not in system.areas:
        chapter.left_out.append("AUC and ROC curves: normal and anomalous clips are needed")
    else:
        areas = ", ".join(f"{metric} {100 * area:.2f} %" for metric, area in system.areas.items())
        chapter.draw(
            f"roc_{chapter.file_name}_{system.name}",
            draw_roc(clips, system.areas, max_fpr, title),
            f"ROC curves, {system.name}; pAUC region shaded.",
            f"ROC curves of {title}; areas: {areas}.",
        )


def _add_losses(chapter: Chapter, run: Run) -> None:
    """Add the losses of each epoch, if there is a log."""
    if not run.log_csv.is_file():
        chapter.left_out.append("loss curves: there is no log.csv")
        return
    try:
        columns = ["loss", "val_loss", "recon_loss_source", "recon_loss_target"]
        log, record = pd.read_csv(run.log_csv, usecols=columns, dtype=float), read_record(run.record)
    except (InputError, ValueError) as error:
        chapter.left_out.append(f"loss curves: {run.log_csv} is not a log of a training run ({error})")
        return
    network = run.name.partition(f"_{run.dataset}")[0]  # and its front end, if it is an extension's
    unit = record.content.get("loss_unit", "loss") if record else "loss"
    ends = [f"{number_text(log[name].iloc[0])} to {number_text(log[name].iloc[-1])}" for name in columns[:2]]
    chapter.draw(
        f"losses_{chapter.file_name}_{network}",
        draw_losses(list(log.itertuples(index=False)), f"{chapter.title}, {network}", unit, SMALL),
        f"Training losses of {network}.",
        f"Losses of {chapter.title} in {len(log)} epochs: training {ends[0]}, validation {ends[1]}.",
    )


def worst_clips(clips: pd.DataFrame) -> dict[str, str]:
    """Return a system's normal clip of the highest score and its anomalous clip of the lowest, and what they are."""
    ranks, labels = clips["rank"], clips["label"]
    worst = dict.fromkeys(ranks[labels == "normal"].nsmallest(1).index, "highest normal")
    return worst | dict.fromkeys(ranks[labels == "anomaly"].nlargest(1).index, "lowest anomalous")


def _add_worst_clips(chapter: Chapter, systems: list[System], folder: Path, page: Path) -> None:
    """Add the worst-ranked clips of the systems with a network: one picture a clip, a column for each network."""
    worst: dict[str, dict[str, str]] = {}  # clip -> system -> which of its clips this is
    for system in systems:
        if not system.run or system.clips["label"].isna().any():
            continue
        if not system.run.network.is_file():
            chapter.left_out.append("worst-ranked clips: there is no network")
        elif not NETWORKS.get(system.settings.model).reconstructs:
            chapter.left_out.append(f"worst-ranked clips: {system.settings.model} does not reconstruct them")
        else:
            for clip, extreme in worst_clips(system.clips).items():
                worst.setdefault(clip, {})[system.name] = extreme
    for clip, extremes in worst.items():
        audio = audio_control(folder / clip, page)
        if not audio:
            continue
        networks = {system.run: system for system in systems if system.run and system.name in extremes}
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # what loading says: the report lists the parameters itself
                trained = [load_trained(run.network, s.settings, torch.device("cpu")) for run, s in networks.items()]
            drawn = [reconstruct(network, folder / clip) for network in trained]
        except InputError as error:
            chapter.left_out.append(f"worst-ranked clips: {error}")
            continue
        first, extreme = next(iter(extremes.items()))
        label, ranks = extreme.split()[1], []
        for system in systems:
            if clip in system.clips.index:
                row, rank = system.clips.loc[clip], f"of {len(system.clips)} by {system.name}"
                which = f", the {extremes[system.name]} one" if system.name in extremes else ""
                ranks.append(f"rank {row['rank']} {rank} (score {number_text(row['score'])}{which})")
        errors = ", ".join(f"{number_text(shown.mean_squared_error)} {shown.unit}²" for shown in drawn)
        chapter.draw(
            f"clip_{chapter.file_name}_{first}_{extreme.replace(' ', '_')}",
            draw_time_frequency(drawn, f"{chapter.title}: {label} clip\n{clip}"),
            f"{capital(label)} clip: {'; '.join(ranks)}. {clip}",
            f"Input, reconstruction and error of {clip}, mean squared error {errors}.",
            is_wide=len(drawn) > 1,
            audio=audio,
        )
