"""Notes about results: their origin, and whether they are stale, from other parameters, or incomplete.

Problems go to Results.notes; a system that lacks clips has no official score (Results.incomplete).
"""

import contextlib
import glob
import re
from collections.abc import Iterable, Mapping

from common import NETWORKS, InputError, read_defaults

from datasets.catalogue import Challenge
from networks.names import Experiment
from runtime.wording import counted, listed
from tools.results.files import Key, keys_of
from tools.results.metrics import lacking_clips, summary_metrics
from tools.results.parameters import TRAINING_CLIPS, Configuration, configuration_of, mixture_note, mixtures
from tools.results.results import Results
from tools.results.test_record import TestRecord, parse_test_record, problems_of


def note_records(results: Results) -> None:
    """Report our results that are stale or from other parameters, according to their records."""
    problems: dict[tuple[str, str], list[Key]] = {}
    without, unlimited = [], []
    for name, (experiment, score) in results.own.items():
        scores, figures = results.systems.get(name, {}), results.figures.get(name, {})
        for key in keys_of(results.challenge):
            record = results.records.get((name, *key))
            if record is not None:
                found = problems_of(record, experiment.run(results.challenge.name, *key), score)
                if key not in scores and record.max_fpr != results.max_fpr:
                    found.append(f"its pAUC is up to max_fpr {record.max_fpr:g} instead of {results.max_fpr:g}")
                for problem in found:
                    problems.setdefault((name, problem), []).append(key)
            elif key in scores or key in figures:
                without.append(name)
                unlimited += [name] if key not in scores else []
        by_section = {section_names([key]): values for key, values in configurations(results, name).items()}
        phrases = mixtures(by_section, without=[TRAINING_CLIPS])
        results.notes.extend([mixture_note(name, phrases)] if phrases else [])
    for (name, problem), keys in problems.items():
        results.notes.append(f"{name}, {section_names(keys)}: {problem}; test again")
    if unlimited and results.max_fpr != read_defaults()["max_fpr"]:
        results.notes.append(
            f"max_fpr {results.max_fpr:g} does not apply to {', '.join(dict.fromkeys(unlimited))}: there are result "
            "tables without score files"
        )
    if without:
        results.notes.append(
            f"the results of {', '.join(dict.fromkeys(without))} have no test record, like the reference's: "
            "their network and parameters are not checked"
        )


def configurations(results: Results, name: str) -> dict[Key, Configuration]:
    """Return what decided the results of each section of one of our systems."""
    (experiment, score), records = results.own[name], _records(results, name)
    return {
        key: configuration_of(experiment.run(results.challenge.name, *key), score, records.get(key))
        for key in keys_of(results.challenge)
        if key in results.systems.get(name, {}) or key in results.figures.get(name, {})
    }


def seed_mixtures(by_seed: Mapping[int, Results]) -> list[str]:
    """Return a sentence about each of our systems whose seeds differ in more than the seed."""
    sentences = []
    for name in dict.fromkeys(name for results in by_seed.values() for name in results.own_names):
        sections: dict[Key, dict[str, Configuration]] = {}
        for seed, results in by_seed.items():
            for key, configuration in configurations(results, name).items() if name in results.own else ():
                scores = results.systems.get(name, {}).get(key)
                clips = {"test clips differ": "\n".join(sorted(scores.names))} if scores else {}
                sections.setdefault(key, {})[f"seed {seed}"] = configuration | clips
        keys: dict[tuple[str, ...], list[Key]] = {}
        for key, of_seeds in sections.items():
            keys.setdefault(tuple(mixtures(of_seeds)), []).append(key)
        for phrases, some in keys.items():
            where = f" ({section_names(some)})" if len(keys) > 1 else ""
            sentences += [mixture_note(f"{name} over the seeds{where}", phrases)] if phrases else []
    return sentences


def _records(results: Results, name: str) -> dict[Key, TestRecord]:
    """Return the records of one of our systems by section."""
    return {(machine, section): r for (system, machine, section), r in results.records.items() if system == name}


def note_completeness(results: Results, sources: Mapping[Key, str]) -> None:
    """Report missing results, and note which systems cannot have an official score because of them.

    `sources`: where a section's other clips are missing, as a phrase: `not in our results`.
    """
    challenge, notes = results.challenge, results.notes
    notes += [
        f"{n}: no figures, since none of its clips is labelled" for n in results.systems if n not in results.figures
    ]
    absent: dict[tuple[str, ...], list[str]] = {}
    for name in results.figures:
        present = results.machine_types([name])
        absent.setdefault(tuple(m for m in challenge.machine_types if m not in present), []).append(name)
    for machine_types, names in absent.items():
        have = "has" if len(names) == 1 else "have"
        notes += (
            [f"{', '.join(names)} {have} no labelled results for {', '.join(machine_types)}"] if machine_types else []
        )
    with_figures = {key for figures in results.figures.values() for key in figures}
    n_clips = {key: len(names) for key, names in results.expected.items() if key in with_figures}
    in_catalogue = {key: sum(challenge.clips[key[0]].get("test", {}).values()) for key in n_clips}
    if any(n > n_clips[key] for key, n in in_catalogue.items()):
        notes.append(
            f"{sum(n_clips.values())} test clips in these sections, where the challenge has "
            f"{sum(in_catalogue.values())}: the figures are not comparable with published ones"
        )
    for name, figures in results.figures.items():
        present = results.machine_types([name])
        sections = [key for key in keys_of(challenge) if key[0] in present and key not in figures]
        if sections:
            notes.append(f"{name} has no labelled results for {section_names(sections)}")
        for key, values in figures.items():
            undefined = [metric for metric in summary_metrics(values) if values[metric] is None]
            if undefined:
                lacking = lacking_clips(values)
                why = f": there are no {lacking}" if lacking else ""
                notes.append(f"{name}: {section_names([key])} has no {', '.join(undefined)}{why}")
        reason = _incomplete(results, name, sources)
        if reason:
            results.incomplete[name] = f"{reason}; test again" if name in results.own else reason


def _incomplete(results: Results, name: str, sources: Mapping[Key, str]) -> str | None:
    """Return why a system's scores are not those of all clips of their sections, and of no others."""
    for key, section in results.systems.get(name, {}).items():
        expected = results.expected[key]
        unknown = [clip.name for clip in section.clips if clip.label is None or clip.name not in expected]
        if unknown:
            n_clips = counted(len(unknown), "clip")
            return f"{section_names([key])} has {n_clips} {sources[key]}: {listed(unknown)}"
        if len(section.clips) < len(expected):
            return f"{section_names([key])} has {len(section.clips)} of {len(expected)} clips"
    return None


def hidden_systems(challenge: Challenge, experiment: Experiment) -> list[str]:
    """Return our systems with results of this seed whose extension is not loaded, by their tests' records."""
    names: list[str] = []
    start = f"{glob.escape(experiment.export_dir)}_*/test_{glob.escape(challenge.name)}*"
    for path in sorted(experiment.split_results.glob(f"{start}_test_seed{experiment.seed}_*.json")):
        name = path.parent.name
        if name not in (*names, *experiment.systems()):
            with contextlib.suppress(InputError):
                record = parse_test_record(path)
                network = str(record.run).partition(f"_{challenge.name}")[0].split("_")
                own = [part for part in network if part not in (*NETWORKS.builtin, str(record.score))]
                if name == "_".join([experiment.export_dir, *own, str(record.score)]):  # else another experiment's
                    names.append(name)
    return names


def other_seeds(challenge: Challenge, experiment: Experiment) -> str:
    """Return a phrase about other seeds of which our systems have results: ` (there are results of seed 1)`."""
    folders = [experiment.split_results / name for name in experiment.systems()]
    files = [path.name for folder in folders for path in folder.glob(f"*_{glob.escape(challenge.name)}*.csv")]
    seeds = sorted(
        {int(found[1]) for found in (re.search(r"_test_seed(\d+)", name) for name in files) if found}
        - {experiment.seed}
    )
    return f" (there are results of seed {listed(map(str, seeds), 10)})" if seeds else ""


def section_names(keys: Iterable[Key]) -> str:
    """Return sections' names as a phrase: `fan section 00, valve section 00`."""
    return listed(f"{machine_type} section {section:02d}" for machine_type, section in keys)


def heading(results: Results) -> str:
    """Return the title of results: challenge, subset, experiment and seed."""
    subset = "evaluation" if results.challenge.is_eval else "development"
    own = f": {results.experiment.export_dir}, seed {results.experiment.seed}" if results.own else ""
    return f"{results.challenge.name}, {subset} set{own}"


def origins(results: Results) -> list[str]:
    """Return when and with which options each of our systems was trained and tested, where that is recorded."""
    lines = []
    for name, (experiment, score) in results.own.items():
        by_key = _records(results, name)
        records = list(by_key.values())
        if records:
            epochs = _range([r.epochs for r in records if r.epochs is not None])
            trained = _range([r.trained[:10] for r in records if r.trained])
            training = f"trained{f' for {epochs} epochs' if epochs else ''}{f' on {trained}' if trained else ''}"
            if not epochs and not trained:
                run = experiment.run(results.challenge.name, *next(iter(by_key)))
                training = "trained elsewhere (no record)" if run.scored_by(score) is run else "no network"
            n_clips = counted(sum(record.n_clips for record in records), "clip")
            values: dict[str, list[str]] = {}
            for option, value in (item for record in records for item in (record.options or {}).items()):
                values.setdefault(option, []).append(str(value))
            options = "".join(f", {option} {' or '.join(dict.fromkeys(some))}" for option, some in values.items())
            tested = _range([r.date[:10] for r in records])
            lines.append(f"{name}: {training}, tested on {tested}, {n_clips}{options}")
    return lines


def _range(values: list) -> str:
    """Return one value, or the first and the last of several."""
    return " to ".join(dict.fromkeys(map(str, (min(values), max(values))))) if values else ""


def section_name(results: Results, key: Key) -> str:
    """Return a section's name for readers: just the machine type if it has no other section."""
    is_only = len(results.challenge.sections[key[0]]) == 1
    return key[0] if is_only else f"{key[0]}, section {key[1]:02d}"
