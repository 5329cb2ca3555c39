"""The results of a test, section by section: decisions, metrics, and what is written and printed of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from common import InputError, Run, Settings
from datasets.clips import Clip
from tools.results.files import Metrics, write_clip_values, write_result_table
from tools.results.metrics import DECISION_METRICS, result_columns, section_metrics
from tools.results.plots import draw_scores, score_groups, score_title, to_png
from tools.results.test_record import make_test_record, test_record_path, write_test_record
from tools.runtime.files import FileGroup
from tools.runtime.progress import Level, say


@dataclass(frozen=True)
class SectionResult:
    """The clips of a section with their scores, in clip order, and the threshold (None: there is none)."""

    section: int
    clips: list[Clip]
    scores: list[float]
    threshold: float | None

    @property
    def decisions(self) -> list[int | None]:
        """1 for each clip whose score is above the threshold, else 0; None without a threshold."""
        return [None if self.threshold is None else int(score > self.threshold) for score in self.scores]


def check_labels(sections: dict[int, list[Clip]]) -> None:
    """Raise InputError if only a part of the clips is labelled."""
    clips = [clip for section in sections.values() for clip in section]
    unlabelled = [clip for clip in clips if clip.label is None]
    if 0 < len(unlabelled) < len(clips):
        raise InputError(
            f"{len(unlabelled)} of {len(clips)} test clips are not labelled normal or anomaly, first "
            f"{unlabelled[0].path}; label all of them or none"
        )


def write_results(results: list[SectionResult], unit: str, settings: Settings, files: Run, machine_type: str) -> None:
    """Write a test's scores and decisions by section, its metrics if the clips are labelled, its record and picture.

    Parameters
    ----------
    unit
        Of the scores, for the picture.
    """
    name, threshold = settings.score, results[0].threshold
    clips = {result.section: result.clips for result in results}
    scores = [score for result in results for score in result.scores]
    labelled = results[0].clips[0].label is not None  # then all are
    metrics = metrics_of(results, settings.max_fpr) if labelled else {}
    groups = score_groups([clip for listed in clips.values() for clip in listed], scores)
    title = score_title(machine_type, list(clips), name, threshold)
    picture = to_png(draw_scores(groups, threshold, title, unit))
    names = {section: [clip.name for clip in listed] for section, listed in clips.items()}
    digests = {}
    with FileGroup() as group:
        for result in results:
            for path, values in (
                (files.anomaly_scores(name, result.section), result.scores),
                (files.decisions(name, result.section), result.decisions),
            ):
                digests[path.name] = write_clip_values(group.open(path), names[result.section], values)
        if labelled:
            tabled = {s: {column: found[column] for column in result_columns(found)} for s, found in metrics.items()}
            write_result_table(group.open(files.result_table(name)), tabled)
        record = make_test_record(files, settings, names, labelled, threshold, digests)
        write_test_record(group.open(test_record_path(files, name)), record)
        group.open(files.score_picture(name), "wb").write(picture)
    if labelled:
        print_metrics(metrics)
    else:
        files.result_table(name).unlink(missing_ok=True)
        for result in results:
            if threshold is not None:
                n_anomalous = sum(decision == 1 for decision in result.decisions)
                say(f"section {result.section:02d}: {n_anomalous} of {len(result.clips)} clips are anomalous")
        say("no AUC: the test clips are not labelled")
    say(f"wrote {files.anomaly_scores(name, results[0].section).parent}", Level.DETAIL)


def metrics_of(results: list[SectionResult], max_fpr: float) -> dict[int, dict[str, float | None]]:
    """Return every metric of each section, whose clips are labelled, by domain if any is a target one (reference)."""
    has_domains = any(clip.is_target for result in results for clip in result.clips)
    return {
        result.section: section_metrics(
            is_anomaly=np.array([clip.label == "anomaly" for clip in result.clips]),
            is_target=np.array([clip.is_target for clip in result.clips]) if has_domains else None,
            scores=np.array(result.scores),
            decisions=None if result.threshold is None else np.array(result.decisions, dtype=bool),
            max_fpr=max_fpr,
        )
        for result in results
    }


def print_metrics(metrics: Mapping[int, Metrics]) -> None:
    """Print false alarms and hits of each section by domain, then its AUCs, and which of them are not defined."""
    for section, values in metrics.items():
        ends, of_all = ([" (source)", " (target)"], " (all)") if "hits (all)" in values else ([""], "")
        if values[f"hits{of_all}"] is None:
            continue
        texts = []
        for what, of in (("false alarms", "normal clips"), ("hits", "anomalous clips")):
            counts = [f"{values[what + end]} of {values[of + end]}{end}" for end in ends]
            texts.append(f"{what} {', '.join(counts)}")
        figures = ", ".join(f"{name} {100 * (values[f'{name}{of_all}'] or 0):.2f} %" for name in DECISION_METRICS)
        say(f"section {section:02d}: {'; '.join(texts)}; {figures}")
    for section, values in metrics.items():
        areas = {name: values[name] for name in result_columns(values) if "AUC" in name}
        text = ", ".join(f"{name} {100 * value:.2f} %" for name, value in areas.items() if value is not None)
        undefined = ", ".join(name for name, value in areas.items() if value is None)
        if text:
            say(f"section {section:02d}: {text}")
        if undefined:
            say(
                f"section {section:02d}: {undefined} left empty: normal and anomalous clips are needed for both domains"
            )
