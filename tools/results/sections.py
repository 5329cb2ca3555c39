"""The results of a test, section by section: decisions, metrics, and what is printed and drawn of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from common import InputError, Run, Settings
from datasets.clips import Clip
from tools.results.files import write_clip_values, write_result_table
from tools.results.metrics import decision_counts, decision_metrics, section_metrics
from tools.results.pictures import ScoreGroup, score_picture
from tools.results.test_record import TestRecord, make_test_record, test_record_path, write_test_record
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
    table = table_of(results, settings.max_fpr)
    sections = [result.section for result in results]
    picture = score_picture(section_groups(results), machine_type, sections, name, threshold, unit)
    digests = {}
    with FileGroup() as group:
        for result in results:
            names = [clip.name for clip in result.clips]
            for path, values in (
                (files.anomaly_scores(name, result.section), result.scores),
                (files.decisions(name, result.section), result.decisions),
            ):
                digests[path.name] = write_clip_values(group.open(path), names, values)
        if table is not None:
            write_result_table(group.open(files.result_table(name)), table)
        group.open(files.score_picture(name), "wb").write(picture)
        write_test_record(group.open(test_record_path(files, name)), record_of(results, files, settings, digests))
    if table is None:
        files.result_table(name).unlink(missing_ok=True)
    print_decisions(results)
    print_metrics(table)
    say(f"wrote {files.anomaly_scores(name, results[0].section).parent}", Level.DETAIL)


def table_of(results: list[SectionResult], max_fpr: float) -> dict[int, dict[str, float | None]] | None:
    """Return the metrics of each section, by domain if any clip is a target one (reference); None: no labels."""
    if results[0].clips[0].label is None:  # then none has one
        return None
    has_target = any(clip.is_target for result in results for clip in result.clips)
    return {
        result.section: section_metrics(
            is_anomaly=np.array([clip.label == "anomaly" for clip in result.clips]),
            is_target=np.array([clip.is_target for clip in result.clips]) if has_target else None,
            scores=np.array(result.scores),
            decisions=None if result.threshold is None else np.array(result.decisions, dtype=bool),
            max_fpr=max_fpr,
        )
        for result in results
    }


def print_metrics(table: dict[int, dict[str, float | None]] | None) -> None:
    """Print each section's AUCs, and which of them are not defined."""
    if table is None:
        say("no AUC: the test clips are not labelled")
        return
    for section, values in table.items():
        areas = {name: value for name, value in values.items() if "AUC" in name}
        text = ", ".join(f"{name} {100 * value:.2f} %" for name, value in areas.items() if value is not None)
        undefined = ", ".join(name for name, value in areas.items() if value is None)
        if text:
            say(f"section {section:02d}: {text}")
        if undefined:
            say(
                f"section {section:02d}: {undefined} left empty: normal and anomalous clips are needed for both domains"
            )


def print_decisions(results: list[SectionResult]) -> None:
    """Print the number of anomalous clips of each section: false alarms and hits by domain, if labelled."""
    for result in results:
        if result.threshold is None:
            continue
        decisions = np.array(result.decisions, dtype=bool)
        if result.clips[0].label is None:
            say(f"section {result.section:02d}: {decisions.sum()} of {len(decisions)} clips are anomalous")
            continue
        is_anomaly = np.array([clip.label == "anomaly" for clip in result.clips])
        is_target = np.array([clip.is_target for clip in result.clips])
        domains = {"source": ~is_target, "target": is_target} if is_target.any() else {"": ~is_target}
        texts = []
        for name, n_name in (("false alarms", "normal clips"), ("hits", "anomalous clips")):
            counts = {d: decision_counts(is_anomaly[chosen], decisions[chosen]) for d, chosen in domains.items()}
            parts = [f"{c[name]} of {c[n_name]}{f' ({domain})' if domain else ''}" for domain, c in counts.items()]
            texts.append(f"{name} {', '.join(parts)}")
        values = decision_metrics(is_anomaly, decisions)
        figures = ", ".join(f"{name} {100 * value:.2f} %" for name, value in values.items() if value is not None)
        say(f"section {result.section:02d}: {'; '.join(texts)}; {figures}")


def record_of(results: list[SectionResult], run: Run, settings: Settings, files: Mapping[str, str]) -> TestRecord:
    """Return the record of a test; `files`: name of each score and decision file -> its SHA-256."""
    clips = {result.section: [clip.name for clip in result.clips] for result in results}
    labelled = results[0].clips[0].label is not None
    return make_test_record(run, settings, clips, labelled, results[0].threshold, files)


def section_groups(results: list[SectionResult]) -> list[ScoreGroup]:
    """Return the scores by section, domain and label, for the picture: normal before anomalous."""
    groups: dict[tuple[int, str, str], list[float]] = {}
    for result in results:
        for clip, score in zip(result.clips, result.scores, strict=True):
            groups.setdefault((result.section, clip.domain or "", clip.label or ""), []).append(score)
    return [
        ScoreGroup(section, domain, label, scores)
        for (section, domain, label), scores in sorted(
            groups.items(), key=lambda item: (*item[0][:2], item[0][2] == "anomaly")
        )
    ]
