"""What is to be said about results: stale, of other parameters, missing, or not of all clips.

The sentences go to Results.notes; a system that is not of all clips has no official score (Results.incomplete).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tools.results.metrics import summary_metrics
from tools.results.score_files import Labels
from tools.results.test_record import problems_of

if TYPE_CHECKING:
    from tools.results.table import Results

SHOWN_NAMES = 5  # in a sentence


def note_records(results: "Results") -> None:
    """Report our results that are stale or of other parameters, by what their records say."""
    problems: dict[str, dict[tuple[str, int], list[str]]] = {}
    without: dict[str, list[tuple[str, int]]] = {}
    for name, (experiment, score) in results.own.items():
        for key in dict.fromkeys((*results.systems.get(name, {}), *results.sections(name))):
            record = results.records.get((name, *key))
            if record is None:
                without.setdefault(name, []).append(key)
                continue
            run = experiment.run(results.challenge.name, *key)
            found = problems_of(record, run, score)
            if key not in results.systems.get(name, {}) and record.max_fpr != results.max_fpr:
                found.append(f"its pAUC is up to max_fpr {record.max_fpr:g} instead of {results.max_fpr:g}")
            for problem in found:
                problems.setdefault(problem, {}).setdefault(key, []).append(name)
    for problem, by_key in problems.items():
        names = dict.fromkeys(name for some in by_key.values() for name in some)
        results.notes.append(f"{', '.join(names)}, {section_names(by_key)}: {problem}; test again")
    if without:
        results.notes.append(
            f"no record of the test beside the results of {', '.join(without)}, as in the reference's: what network "
            "and parameters they come from is not checked"
        )


def note_completeness(results: "Results", labels: Labels) -> None:
    """Report what is missing, and note which systems cannot have an official score because of it."""
    challenge = results.challenge
    absent: dict[tuple[str, ...], list[str]] = {}
    for name in results.systems:
        if name not in results.names:
            results.notes.append(f"{name}: no figures, since none of its clips is labelled")
    for name in results.names:
        have = {machine_type for machine_type, _ in results.sections(name)}
        missing = tuple(m for m in challenge.machine_types if m not in have)
        if missing:
            absent.setdefault(missing, []).append(name)
    for machine_types, names in absent.items():
        results.notes.append(f"no labelled results of {', '.join(machine_types)}: {', '.join(names)}")
    in_catalogue = {key: sum(challenge.clips[key[0]].get("test", {}).values()) for key in results.expected}
    if any(n > results.expected[key] for key, n in in_catalogue.items()):
        results.notes.append(
            f"{sum(results.expected.values())} test clips in these sections, where the challenge has "
            f"{sum(in_catalogue.values())}: the figures are not comparable with published ones"
        )
    for name in results.names:
        sections = [
            (machine_type, section)
            for machine_type, numbers in challenge.sections.items()
            for section in numbers
            if any(key[0] == machine_type for key in results.sections(name))
            and (machine_type, section) not in results.sections(name)
        ]
        if sections:
            results.notes.append(f"{name}: no labelled results of {section_names(sections)}")
        for key, values in results.sections(name).items():
            undefined = [metric for metric in summary_metrics(values) if values[metric] is None]
            if undefined:
                results.notes.append(f"{name}: {section_names([key])} has no {', '.join(undefined)}")
        reason = _incomplete(results, name, labels)
        if reason:
            results.incomplete[name] = reason


def _incomplete(results: "Results", name: str, labels: Labels) -> str | None:
    """Return why a system's scores are not of all clips of their sections."""
    for key, section in results.systems.get(name, {}).items():
        labelled, n = section.labelled(), results.expected[key]
        known = set(labels.get(key[0], {}).values())
        unknown = [c.name for c in section.clips if c.label is None or (known and c.name not in known)]
        if unknown:
            shown = ", ".join(unknown[:SHOWN_NAMES]) + (", ..." if len(unknown) > SHOWN_NAMES else "")
            return f"{section_names([key])} has {_clips(len(unknown))} that the label list does not hold: {shown}"
        if len(labelled.clips) < n:
            return f"{section_names([key])} has {len(labelled.clips)} of {n} clips"
    return None


def _clips(n: int) -> str:
    return "1 clip" if n == 1 else f"{n} clips"


def section_names(keys: Iterable[tuple[str, int]]) -> str:
    """Return the names of sections for a sentence: `fan section 00, valve section 00`."""
    names = [f"{machine_type} section {section:02d}" for machine_type, section in keys]
    return ", ".join(names[:SHOWN_NAMES]) + (
        f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    )
