"""What the report shows of one section: scores, ROC curves, losses and its worst-ranked clips, as far as it can.

Conventions: what cannot be shown is a pair (what and why, of which section), so that the report can say it once for
all sections. Pictures are named after machine type and section, never after a clip: a clip's name may be anything.
"""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from common import SCORES, InputError, Run, Settings
from datasets.clips import MachineFolders
from datasets.front_ends import make_front_end
from networks.scores import make_score
from networks.threshold import load_gamma
from networks.trained import Trained, load_trained
from tools.report.page import Chapter, Picture
from tools.report.plots import SMALL, draw_roc, draw_scores, roc_curves
from tools.report.time_frequency import draw_time_frequency, reconstruct
from tools.results.files import read_log
from tools.results.metrics import area_under_curve
from tools.results.plots import draw_losses, number_text, to_png
from tools.results.score_files import SectionScores
from tools.results.table import Results, run_of

LeftOut = tuple[str, str]  # what and why, of which section


@dataclass(frozen=True)
class Section:
    """A section of a machine type in the results: what is drawn of it, and from which files."""

    results: Results
    settings: Settings
    machine_type: str
    number: int

    @property
    def name(self) -> str:
        """What people call it: by its machine type alone if that has no other."""
        is_only = len(self.results.challenge.sections[self.machine_type]) == 1
        return self.machine_type if is_only else f"{self.machine_type}, section {self.number:02d}"

    @property
    def title(self) -> str:
        """Its name in pictures, which may be seen outside the report."""
        return f"{self.machine_type}, section {self.number:02d}"

    @property
    def file_name(self) -> str:
        """Its part of the pictures' names."""
        return f"{self.machine_type}_section_{self.number:02d}"

    @property
    def scores(self) -> dict[str, SectionScores]:
        """The scores of each of our systems that has any."""
        key = self.machine_type, self.number
        return {name: self.results.systems[name][key] for name in self._own if key in self.results.systems[name]}

    @property
    def _own(self) -> list[str]:
        return [name for name in self.results.own if name in self.results.systems]

    def short(self, system: str) -> str:
        """Return a system's name within the experiment: that of its score, after a network's of an extension."""
        return system.removeprefix(f"{self.results.experiment.export_dir}_")

    def run(self, system: str) -> Run:
        """Return the run that a system's scores come from."""
        return run_of(self.results, system, self.machine_type, self.number)

    def settings_of(self, system: str) -> Settings:
        """Return the settings with a system's network and front end."""
        experiment, _ = self.results.own[system]
        return self.settings.replace(model=experiment.model, front_end=experiment.front_end)

    def needs_network(self, system: str) -> bool:
        """Return whether a system scores by a network."""
        return SCORES.get(self.results.own[system][1]).needs_network  # type: ignore[attr-defined]

    def threshold(self, system: str) -> tuple[float | None, str | None]:
        """Return the threshold of a system's decisions, and if there is none, why."""
        record = self.results.records.get((system, self.machine_type, self.number))
        if record is not None:
            return record.threshold, None if record.threshold is not None else "the test had none"
        score = self.results.own[system][1]
        try:
            distribution = load_gamma(self.run(system).scored_by(score).threshold(score))
        except InputError as error:
            return None, str(error)
        if distribution is None:
            return None, "no fitted distribution is on disk"
        return distribution.quantile(self.settings.decision_threshold), None


@dataclass(frozen=True)
class WorstClip:
    """The clip of its label that is ranked worst by a score; rank 1 is the section's highest score."""

    index: int  # in the section
    rank: int
    is_anomaly: bool

    @property
    def name(self) -> str:
        """What the clip is the worst of."""
        return "lowest anomalous" if self.is_anomaly else "highest normal"


def section_chapter(section: Section) -> tuple[Chapter, list[LeftOut]]:
    """Return a section's part of the report, and what is left out of it."""
    chapter = Chapter(section.name)
    reasons = []
    for system in section.scores:
        reasons += _add_scores(chapter, section, system)
    runs = {section.run(system).name: system for system in reversed(section.scores) if section.needs_network(system)}
    for system in reversed(runs.values()):
        reasons += _add_losses(chapter, section, system)
        reasons += _add_clips(chapter, section, system)
    return chapter, [(reason, section.name) for reason in dict.fromkeys(reasons)]


def _picture(name: str, figure: Figure, caption: str, alt: str) -> Picture:
    return Picture(name, to_png(figure), caption, alt)


def _add_scores(chapter: Chapter, section: Section, system: str) -> list[str]:
    """Add the distribution of a section's scores, and the ROC curves if its clips are labelled."""
    scores, short = section.scores[system], section.short(system)
    threshold, why = section.threshold(system)
    reasons = [] if why is None else [f"the threshold of {short}: {why}"]
    where = "no threshold" if threshold is None else f"threshold {number_text(threshold)}"
    title = f"{section.title}, {short}, {where}"
    unit = make_score(section.results.own[system][1], section.settings_of(system), None).unit
    chapter.pictures.append(
        _picture(
            f"scores_{section.file_name}_{short}",
            draw_scores(scores, threshold, title, unit),
            f"Anomaly scores by {short}, {where}.",
            f"Histogram of {len(scores.clips)} anomaly scores of {section.name} by {short}, from "
            f"{number_text(scores.scores.min())} to {number_text(scores.scores.max())}, {where}.",
        )
    )
    if not scores.is_labelled:
        return [*reasons, "AUC, ROC curves and worst-ranked clips: the test clips are not labelled"]
    curves = roc_curves(scores)
    if not curves:
        return [*reasons, "AUC and ROC curves: there are not both normal and anomalous clips"]
    max_fpr = section.results.max_fpr
    partial = area_under_curve(scores.is_anomaly, scores.scores, max_fpr)
    areas = [f"{curve.metric} {100 * curve.area:.2f} %" for curve in curves]
    areas += [] if partial is None else [f"pAUC {100 * partial:.2f} %"]
    chapter.pictures.append(
        _picture(
            f"roc_{section.file_name}_{short}",
            draw_roc(curves, partial, max_fpr, f"{section.title}, {short}"),
            f"ROC curves by {short}, pAUC coloured.",
            f"ROC curves of {section.name} by {short}; areas: {', '.join(areas)}.",
        )
    )
    return reasons


def _add_losses(chapter: Chapter, section: Section, system: str) -> list[str]:
    """Add the losses of each epoch, if their log is there."""
    from networks.training import EpochLosses

    run = section.run(system)
    try:
        rows = read_log(run.log_csv)
        epochs = [EpochLosses(**row) for row in rows or ()]
    except (InputError, TypeError) as error:
        return [f"loss curves: {error}"]
    if rows is None:
        return ["loss curves: there is no log.csv"]
    variant, unit = _variant(section, system), make_front_end(section.settings_of(system)).unit
    first, last = epochs[0], epochs[-1]
    chapter.pictures.append(
        _picture(
            f"losses_{section.file_name}{variant}",
            draw_losses(epochs, f"{section.title}, {run.experiment.model}", SMALL, f"mean squared error ({unit}²)"),
            f"Losses in training of {run.experiment.model}.",
            f"Losses of {section.name} in {len(epochs)} epochs: training {number_text(first.loss)} to "
            f"{number_text(last.loss)}, validation {number_text(first.val_loss)} to {number_text(last.val_loss)}.",
        )
    )
    return []


def _variant(section: Section, system: str) -> str:
    """Return the part of a picture's name that tells a network or front end of an extension from the baseline's."""
    score = section.results.own[system][1]
    name = section.short(system).removesuffix(score).rstrip("_")
    return f"_{name}" if name else ""


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


@dataclass
class _Shown:
    """A clip that is drawn: the picture's name, its title, and why it is shown."""

    name: str
    title: str
    reasons: list[str]


def _add_clips(chapter: Chapter, section: Section, system: str) -> list[str]:
    """Add the worst-ranked clips of a network's systems as it sees them; one that is so by two scores only once."""
    run = section.run(system)
    shown: dict[str, _Shown] = {}  # by clip
    for name, scores in section.scores.items():
        if not (section.needs_network(name) and section.run(name).name == run.name and scores.is_labelled):
            continue
        short = section.short(name)
        for worst in worst_clips(scores):
            kind = "anomalous clip ranked lowest" if worst.is_anomaly else "normal clip ranked highest"
            clip = shown.setdefault(
                scores.clips[worst.index].name,
                _Shown(
                    f"clip_{section.file_name}_{short}_{worst.name.replace(' ', '_')}",
                    f"{section.title}: {kind} by {short}",
                    [],
                ),
            )
            score = number_text(scores.scores[worst.index])
            clip.reasons.append(f"{kind} by {short}: rank {worst.rank} of {len(scores.clips)}, score {score}")
    if not shown:
        return []
    if not run.network.is_file():
        return ["worst-ranked clips: there is no network"]
    challenge = section.results.challenge
    test = MachineFolders(
        section.settings.dataset_directory, challenge.name, section.machine_type, challenge.is_eval
    ).test
    reasons = []
    try:
        trained = _load(run.network, section.settings_of(system))
        for name, clip in shown.items():
            if (test / name).is_file():
                chapter.pictures.append(_clip_picture(trained, test / name, clip))
            else:
                reasons.append("worst-ranked clips: their recordings are not there")
    except InputError as error:
        reasons.append(f"worst-ranked clips: {error}")
    return reasons


def _load(network: Path, settings: Settings) -> Trained:
    """Load a network without the lines that loading prints: the report lists the parameters itself."""
    torch.set_num_threads(settings.threads)
    with contextlib.redirect_stdout(io.StringIO()):
        return load_trained(network, settings, torch.device("cpu"))


def _clip_picture(trained: Trained, path: Path, clip: _Shown) -> Picture:
    drawn = reconstruct(trained, path)
    why = "; ".join(clip.reasons)
    return _picture(
        clip.name,
        draw_time_frequency(drawn, f"{clip.title}\n{path.name}", is_narrow=True),
        f"{why[0].upper()}{why[1:]}. {path.name}",
        f"{drawn.front_end} input, reconstruction and error of {path.name}, mean squared error "
        f"{number_text(drawn.mean_squared_error)} {drawn.unit}².",
    )
