"""What the report shows of one section: scores, ROC curves, losses and its worst-ranked clips, as far as it can.

Conventions: what cannot be shown is a pair (what and why, of which section), so that the report can say it once for
all sections. Pictures are called after machine type and section, never after a clip: a clip's name may be anything.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from common import ExperimentPaths, InputError
from datasets.catalogue import Challenge
from datasets.clips import MachineFolders
from networks.engine import EpochLosses
from networks.threshold import load_gamma
from tools.metrics import area_under_curve
from tools.plot_time_frequency import draw_time_frequency, reconstruct
from tools.plots import draw_losses
from tools.record import load_network_of
from tools.report_html import Chapter, Picture
from tools.report_plots import SMALL, draw_roc, draw_scores, roc_curves, to_png
from tools.result_csv import read_log
from tools.score_files import SectionScores
from tools.testing import UNITS

LeftOut = tuple[str, str]  # what and why, of which section


@dataclass(frozen=True)
class ReportConfig:
    """What the report is of: `paths` are those of any run of the challenge, data set and tag are replaced."""

    challenge: Challenge
    paths: ExperimentPaths
    dataset_directory: Path
    max_fpr: float
    decision_threshold: float  # the quantile

    def run(self, machine_type: str, section: int) -> ExperimentPaths:
        """Return the names of the files of a section's run."""
        return replace(self.paths, dataset=self.challenge.name + machine_type, tag=f"id({section}_)")

    def section_name(self, machine_type: str, section: int) -> str:
        """Return what a section is called: by its machine type alone, where that has no other."""
        return (
            machine_type
            if len(self.challenge.sections[machine_type]) == 1
            else f"{machine_type}, section {section:02d}"
        )


@dataclass(frozen=True)
class WorstClip:
    """The clip of its label that is ranked worst by a score; rank 1 is the section's highest score."""

    index: int  # in the section
    rank: int
    is_anomaly: bool

    @property
    def name(self) -> str:
        """Return what the clip is the worst of."""
        return "lowest anomalous" if self.is_anomaly else "highest normal"


def section_chapter(
    config: ReportConfig, machine_type: str, section: int, by_score: dict[str, SectionScores]
) -> tuple[Chapter, list[LeftOut]]:
    """Return a section's part of the report, and what is left out of it; `by_score`: its scores by MSE, by MAHALA."""
    name = config.section_name(machine_type, section)
    file_name = f"{machine_type}_section_{section:02d}"
    run = config.run(machine_type, section)
    pictures, left_out = [], []
    for score, scores in by_score.items():
        drawn, missing = _score_pictures(config, run, score, scores, name, file_name)
        pictures += drawn
        left_out += missing
    for part in (_loss_pictures(run, name, file_name), _clip_pictures(config, run, machine_type, by_score, file_name)):
        pictures += part[0]
        left_out += part[1]
    return Chapter(name, [], pictures=tuple(pictures)), [(reason, name) for reason in left_out]


def _score_pictures(
    config: ReportConfig, run: ExperimentPaths, score: str, scores: SectionScores, name: str, file_name: str
) -> tuple[list[Picture], list[str]]:
    """Return the distribution of a section's scores, and the ROC curves where its clips are labelled."""
    threshold, left_out = None, []
    try:
        distribution = load_gamma(run.threshold(score))
        threshold = None if distribution is None else distribution.quantile(config.decision_threshold)
        if threshold is None:
            left_out.append(f"the threshold of {score}: no fitted distribution is on disk")
    except InputError as error:
        left_out.append(f"the threshold of {score}: {error}")
    figure = draw_scores(scores, threshold, f"{name}, {score}", UNITS[score])
    where = "no threshold" if threshold is None else f"threshold {threshold:.4g}"
    pictures = [
        Picture(
            f"scores_{file_name}_{score}",
            to_png(figure),
            f"Anomaly scores by {score}, {where}.",
            f"Histogram of {len(scores.clips)} anomaly scores of {name} by {score}, from {scores.scores.min():.4g} to "
            f"{scores.scores.max():.4g}, {where}.",
        )
    ]
    if not scores.is_labelled:
        left_out.append("AUC, ROC curves and worst-ranked clips: the test clips are not labelled")
        return pictures, left_out
    curves = roc_curves(scores)
    if not curves:
        left_out.append("AUC and ROC curves: there are not both normal and anomalous clips")
        return pictures, left_out
    partial = area_under_curve(scores.is_anomaly, scores.scores, config.max_fpr)
    areas = ", ".join(f"{curve.metric} {100 * curve.area:.2f} %" for curve in curves)
    pictures.append(
        Picture(
            f"roc_{file_name}_{score}",
            to_png(draw_roc(curves, partial, config.max_fpr, f"{name}, {score}")),
            f"ROC curves by {score}, pAUC coloured.",
            f"ROC curves of {name} by {score}; areas: {areas}, pAUC {100 * partial:.2f} %.",
        )
    )
    return pictures, left_out


def _loss_pictures(run: ExperimentPaths, name: str, file_name: str) -> tuple[list[Picture], list[str]]:
    """Return the losses of each epoch, if their log is there."""
    try:
        rows = read_log(run.log_csv)
        epochs = [EpochLosses(**row) for row in rows or ()]
    except (InputError, TypeError) as error:
        return [], [f"loss curves: {error}"]
    if rows is None:
        return [], ["loss curves: there is no log.csv"]
    alt = f"Losses of {name} in {len(epochs)} epochs: training {epochs[0].loss:.4g} to {epochs[-1].loss:.4g}, "
    alt += f"validation {epochs[0].val_loss:.4g} to {epochs[-1].val_loss:.4g} dB²."
    png = to_png(draw_losses(epochs, name, SMALL))
    return [Picture(f"losses_{file_name}", png, "Losses in training.", alt)], []


def worst_clips(scores: SectionScores) -> list[WorstClip]:
    """Return a labelled section's normal clip of the highest score and its anomalous clip of the lowest."""
    order = np.argsort(-scores.scores, kind="stable")  # of equal scores, the first in the file has the higher rank
    rank_of = np.empty(len(order), dtype=int)
    rank_of[order] = np.arange(1, len(order) + 1)
    normal = [int(i) for i in order if not scores.is_anomaly[i]]
    anomalous = [int(i) for i in order if scores.is_anomaly[i]]
    found = [(normal[0], False)] if normal else []
    found += [(anomalous[-1], True)] if anomalous else []
    return [WorstClip(index, int(rank_of[index]), is_anomaly) for index, is_anomaly in found]


def _clip_pictures(
    config: ReportConfig,
    run: ExperimentPaths,
    machine_type: str,
    by_score: dict[str, SectionScores],
    file_name: str,
) -> tuple[list[Picture], list[str]]:
    """Return the worst-ranked clips as the network sees them; one that is so by two scores is shown once."""
    reasons: dict[str, list[str]] = {}  # clip -> why it is shown
    names: dict[str, str] = {}  # clip -> the picture's name
    for score, scores in by_score.items():
        for worst in worst_clips(scores) if scores.is_labelled else ():
            clip = scores.clips[worst.index].name
            kind = "anomalous clip ranked lowest" if worst.is_anomaly else "normal clip ranked highest"
            reasons.setdefault(clip, []).append(
                f"{kind} by {score}: rank {worst.rank} of {len(scores.clips)}, score {scores.scores[worst.index]:.4g}"
            )
            names.setdefault(clip, f"clip_{file_name}_{score}_{worst.name.replace(' ', '_')}")
    if not reasons:
        return [], []
    if not run.network.is_file():
        return [], ["worst-ranked clips: there is no network"]
    challenge = config.challenge
    folder = MachineFolders(config.dataset_directory, challenge.name, machine_type, challenge.is_eval).test
    pictures, left_out = [], []
    try:
        network, features, vectors = load_network_of(run.network, torch.device("cpu"))
        for clip, why in reasons.items():
            if not (folder / clip).is_file():
                left_out.append("worst-ranked clips: their recordings are not there")
                continue
            shown = reconstruct(network, folder / clip, features, vectors)
            what = "; ".join(why)
            pictures.append(
                Picture(
                    names[clip],
                    to_png(draw_time_frequency(shown, clip), dpi=110),
                    f"{what[0].upper()}{what[1:]}. {clip}",
                    f"Log-mel input, reconstruction and error of {clip}, mean squared error "
                    f"{shown.mean_squared_error:.4g} dB².",
                    width="wide",
                )
            )
    except InputError as error:
        left_out.append(f"worst-ranked clips: {error}")
    return pictures, sorted(set(left_out))
