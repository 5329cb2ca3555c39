"""Sentences about results: whose they are, and whether they are stale, of other parameters, or incomplete.

Problems go to Results.notes; a system that lacks clips has no official score (Results.incomplete).
"""

from collections.abc import Iterable

from tools.results.files import Key, Labels, keys_of
from tools.results.metrics import summary_metrics
from tools.results.results import Results
from tools.results.test_record import problems_of
from tools.results.wording import counted, listed


def note_records(results: Results) -> None:
    """Report our results that are stale or of other parameters, according to their records."""
    problems: dict[str, list[tuple[str, Key]]] = {}
    without = []
    for name, (experiment, score) in results.own.items():
        scores, figures = results.systems.get(name, {}), results.figures.get(name, {})
        for key in keys_of(results.challenge):
            record = results.records.get((name, *key))
            if record is not None:
                found = problems_of(record, experiment.run(results.challenge.name, *key), score)
                if key not in scores and record.max_fpr != results.max_fpr:
                    found.append(f"its pAUC is up to max_fpr {record.max_fpr:g} instead of {results.max_fpr:g}")
                for problem in found:
                    problems.setdefault(problem, []).append((name, key))
            elif key in scores or key in figures:
                without.append(name)
    for problem, places in problems.items():
        names, keys = (list(dict.fromkeys(some)) for some in zip(*places, strict=True))
        results.notes.append(f"{', '.join(names)}, {section_names(keys)}: {problem}; test again")
    if without:
        results.notes.append(
            f"no record of the test beside the results of {', '.join(dict.fromkeys(without))}, as in the reference's: "
            "their network and parameters are not checked"
        )


def note_completeness(results: Results, labels: Labels) -> None:
    """Report missing results, and note which systems cannot have an official score because of them."""
    challenge, notes = results.challenge, results.notes
    notes += [
        f"{n}: no figures, since none of its clips is labelled" for n in results.systems if n not in results.figures
    ]
    absent: dict[tuple[str, ...], list[str]] = {}
    for name in results.figures:
        present = results.machine_types([name])
        absent.setdefault(tuple(m for m in challenge.machine_types if m not in present), []).append(name)
    notes += [f"no labelled results of {', '.join(m)}: {', '.join(names)}" for m, names in absent.items() if m]
    in_catalogue = {key: sum(challenge.clips[key[0]].get("test", {}).values()) for key in results.expected}
    if any(n > results.expected[key] for key, n in in_catalogue.items()):
        notes.append(
            f"{sum(results.expected.values())} test clips in these sections, where the challenge has "
            f"{sum(in_catalogue.values())}: the figures are not comparable with published ones"
        )
    for name, figures in results.figures.items():
        present = results.machine_types([name])
        sections = [key for key in keys_of(challenge) if key[0] in present and key not in figures]
        if sections:
            notes.append(f"{name}: no labelled results of {section_names(sections)}")
        for key, values in figures.items():
            undefined = [metric for metric in summary_metrics(values) if values[metric] is None]
            if undefined:
                notes.append(f"{name}: {section_names([key])} has no {', '.join(undefined)}")
        reason = _incomplete(results, name, labels)
        if reason:
            results.incomplete[name] = reason


def _incomplete(results: Results, name: str, labels: Labels) -> str | None:
    """Return why a system's scores are not of all clips of their sections."""
    for key, section in results.systems.get(name, {}).items():
        n_labelled, n = len(section.labelled().clips), results.expected[key]
        known = set(labels.get(key[0], {}).values())
        unknown = [c.name for c in section.clips if c.label is None or (known and c.name not in known)]
        if unknown:
            n_clips = counted(len(unknown), "clip")
            return f"{section_names([key])} has {n_clips} that the label list does not hold: {listed(unknown)}"
        if n_labelled < n:
            return f"{section_names([key])} has {n_labelled} of {n} clips"
    return None


def section_names(keys: Iterable[Key]) -> str:
    """Return the names of sections for a sentence: `fan section 00, valve section 00`."""
    return listed(f"{machine_type} section {section:02d}" for machine_type, section in keys)


def heading(results: Results) -> str:
    """Return the title of results: challenge, subset, experiment and seed."""
    subset = "evaluation" if results.challenge.is_eval else "development"
    own = f": {results.experiment.export_dir}, seed {results.experiment.seed}" if results.own else ""
    return f"{results.challenge.name}, {subset} set{own}"


def origins(results: Results) -> list[str]:
    """Return when each of our systems was trained and tested, as far as records say."""
    lines = []
    for name in results.own:
        records = [record for (system, *_), record in results.records.items() if system == name]
        if records:
            epochs = _range([r.epochs for r in records if r.epochs is not None])
            trained = _range([r.trained[:10] for r in records if r.trained])
            training = f"trained{f' for {epochs} epochs' if epochs else ''}{f' on {trained}' if trained else ''}"
            n_clips = sum(record.n_clips for record in records)
            lines.append(f"{name}: {training}, tested on {_range([r.date[:10] for r in records])}, {n_clips} clips")
    return lines


def _range(values: list) -> str:
    """Return one value, or the first and the last of several."""
    return " to ".join(dict.fromkeys(map(str, (min(values), max(values))))) if values else ""


def section_name(results: Results, key: Key) -> str:
    """Return a section's name for readers: the machine type alone if it has no other section."""
    is_only = len(results.challenge.sections[key[0]]) == 1
    return key[0] if is_only else f"{key[0]}, section {key[1]:02d}"
