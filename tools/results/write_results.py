"""The results of a test, written and printed: scores, decisions, metrics, picture, record."""

from collections.abc import Mapping

from common import InputError, Settings

import numpy as np

from datasets.clips import Clip
from networks.names import Run
from runtime.files import FileGroup
from runtime.progress import say
from tools.results.files import write_clip_values, write_result_table
from tools.results.metrics import (
    COUNTED_OF,
    DECISION_METRICS,
    lacking_clips,
    result_columns,
    section_metrics,
    without_anomalies,
)
from tools.results.pictures import png_or_blank
from tools.results.result_record import make_result_record, result_record_path, write_result_record


def check_labels(sections: dict[int, list[Clip]]) -> None:
    """Raise InputError if only some of the clips are labelled."""
    clips = [clip for section in sections.values() for clip in section]
    unlabelled = [clip for clip in clips if clip.label is None]
    if 0 < len(unlabelled) < len(clips):
        raise InputError(
            f"{len(unlabelled)} of {len(clips)} test clips are not labelled normal or anomaly, first "
            f"{unlabelled[0].path}; label all of them or none"
        )


def write_results(
    sections: dict[int, list[Clip]],
    scores: dict[int, list[float]],
    threshold: float | None,
    unit: str,
    settings: Settings,
    files: Run,
    machine_type: str,
) -> None:
    """Write a test's scores and decisions by section, its metrics if the clips are labelled, its record and picture.

    Parameters
    ----------
    sections, scores
        The clips of each section, all labelled or none, and their scores, in clip order.
    threshold
        The score above which a clip is anomalous, or None for no decisions.
    unit
        The scores' unit, for the picture.
    """
    name, clips = settings.score, [clip for listed in sections.values() for clip in listed]
    is_anomalous = {s: None if threshold is None else np.array(values) > threshold for s, values in scores.items()}
    metrics = {}
    labelled = clips[0].label is not None
    has_domains = any(clip.is_target for clip in clips)  # in any section (reference)
    for section, listed in sections.items() if labelled else ():
        is_anomaly, is_target = np.array([(clip.label == "anomaly", clip.is_target) for clip in listed]).T
        metrics[section] = section_metrics(
            is_anomaly,
            is_target if has_domains else None,
            np.array(scores[section]),
            is_anomalous[section],
            settings.max_fpr,
        )
    picture = png_or_blank(
        lambda plots: plots.draw_scores(
            [
                (c.section, c.domain, c.label, score)
                for s in sections
                for c, score in zip(sections[s], scores[s], strict=True)
            ],
            threshold,
            plots.score_title(machine_type, list(sections), name, threshold),
            unit,
        )
    )
    names = {section: [clip.name for clip in listed] for section, listed in sections.items()}
    digests = {}
    with FileGroup() as group:
        for section, decided in is_anomalous.items():
            decisions = [None] * len(names[section]) if decided is None else decided.astype(int).tolist()
            for path, values in (
                (files.anomaly_scores(name, section), scores[section]),
                (files.decisions(name, section), decisions),
            ):
                digests[path.name] = write_clip_values(group.open(path), names[section], values)
        if labelled:
            tabled = {s: {column: found[column] for column in result_columns(found)} for s, found in metrics.items()}
            write_result_table(group.open(files.result_table(name)), tabled)
        group.open(files.score_picture(name), "wb").write(picture)
        record = make_result_record(files, settings, names, labelled, threshold, digests)
        write_result_record(group.open(result_record_path(files.anomaly_scores(name, next(iter(sections))))), record)
    if labelled:
        print_metrics(metrics)
    else:
        files.result_table(name).unlink(missing_ok=True)
        for section, decided in is_anomalous.items():
            if decided is not None:
                say(f"section {section:02d}: {decided.sum()} of {len(decided)} clips are above the threshold")
        say("no AUC: the test clips are not labelled")
    say(f"wrote {files.anomaly_scores(name, next(iter(sections))).parent}")


def print_metrics(metrics: Mapping[int, Mapping[str, float | None]]) -> None:
    """Print false alarms and hits of each section by domain, then its AUCs, and which of them are undefined."""
    for section, values in metrics.items():
        ends, of_all = ([" (source)", " (target)"], " (all)") if "hits (all)" in values else ([""], "")
        if values[f"hits{of_all}"] is None:
            continue
        texts = []
        for what, of in COUNTED_OF.items():
            counts = [f"{values[what + end]} of {values[of + end]}{end}" for end in ends]
            texts.append(f"{what} {', '.join(counts)}")
        defined = without_anomalies(values)
        figures = {name: defined[f"{name}{of_all}"] for name in DECISION_METRICS}
        percent = ", ".join(f"{name} {100 * value:.2f} %" for name, value in figures.items() if value is not None)
        say(f"section {section:02d}: {'; '.join([*texts, *([percent] if percent else [])])}")
    for section, values in metrics.items():
        areas = {name: values[name] for name in result_columns(values) if "AUC" in name}
        text = ", ".join(f"{name} {100 * value:.2f} %" for name, value in areas.items() if value is not None)
        undefined = ", ".join(name for name, value in areas.items() if value is None)
        if text:
            say(f"section {section:02d}: {text}")
        if undefined:
            say(f"section {section:02d}: {undefined} left empty: there are no {lacking_clips(values)}")
