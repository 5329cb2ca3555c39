"""Notes about results: their origin, and whether they are stale, from other parameters, or incomplete.

Problems go to Results.notes; a system that lacks clips has no official score (Results.incomplete).
"""

import contextlib
import glob
import re
from collections.abc import Iterable, Mapping

from common import NETWORKS, InputError, extension_parameters, read_defaults

from datasets.catalogue import Challenge
from networks.names import Experiment
from runtime.wording import counted, listed
from tools.results.files import Key
from tools.results.parameters import (
    JOINT_NETWORK,
    OF_A_SECTION,
    TEST_CLIPS,
    Configuration,
    differences,
    merged,
    mixture_notes,
    mixtures,
)
from tools.results.result_record import changed_results, network_digest, problems_of, read_result_record
from tools.results.results import Results

NO_RECORD = "have no test record, like the reference's: their network and parameters are not checked"


def note_records(results: Results) -> None:
    """Report results that are stale or were changed, according to their records."""
    problems: dict[tuple[str, str], list[Key]] = {}
    unchecked: dict[str, dict[str, None]] = {}  # sentence -> systems
    for (name, machine_type, section), test in results.records.items():
        if name not in results.own:
            scores = results.clips_of(name)[machine_type, section]["file"].iloc[0]
            if changed := changed_results(test, scores):
                problems.setdefault((name, changed), []).append((machine_type, section))
    for name, (experiment, score) in results.own.items():
        scored = results.clips_of(name)
        for key in configurations(results, name):
            record = results.records.get((name, *key))
            run = experiment.run(results.challenge.name, *key)
            wrong = problems_of(record, run, score) if record else []
            max_fpr = record.max_fpr if record else read_defaults()["max_fpr"]
            if key not in scored and max_fpr != results.max_fpr:
                wrong.append(
                    f"it has no score files, so its pAUC is up to max_fpr {max_fpr:g} instead of {results.max_fpr:g}"
                )
            for problem in wrong:
                problems.setdefault((name, problem), []).append(key)
            if record is None:
                unchecked.setdefault(NO_RECORD, {})[name] = None
            elif record.network is not None and network_digest(run, score) is None:
                sentence = f"are not checked against their networks, which are not all in {run.network.parent}"
                unchecked.setdefault(f"{sentence}; give their --model_directory", {})[name] = None
    for (name, problem), keys in problems.items():
        results.notes.append(f"{name}, {section_names(keys)}: {problem}; test again")
    results.notes.extend(f"the results of {', '.join(names)} {sentence}" for sentence, names in unchecked.items())


def note_configurations(results: Results) -> None:
    """Report systems whose machine types differ in more than the clips, and how others differ from ours."""
    names = dict.fromkeys((*results.own, *results.clips["system"]))
    by_system = {name: configurations(results, name) for name in names}
    for name, by_section in by_system.items():
        named = {section_names([key]): configuration for key, configuration in by_section.items()}
        results.notes.extend(mixture_notes(name, mixtures(named, without=OF_A_SECTION)))
    by_score: dict[str, dict[str, None]] = {}
    for (name, *_), record in results.records.items():
        by_score.setdefault(record.score, {})[name] = None
    for first, *others in by_score.values():
        for other in (name for name in others if name not in results.own):
            phrases = differences({name: by_system[name] for name in (first, other)}, without=[JOINT_NETWORK])
            results.notes.extend([f"{other} and {first} differ: {'; '.join(phrases)}"] if phrases else [])


def configurations(results: Results, name: str) -> dict[Key, Configuration]:
    """Collect everything that decided a system's results, by section; without a test's record, the clips alone."""
    decided: dict[Key, Configuration] = {}
    by_section = results.clips_of(name)
    for key in results.challenge.section_keys():
        if key in by_section or (name, *key) in results.figures.index:
            record = results.records.get((name, *key))
            decided[key] = dict(record.configuration) if record else {}
            if key in by_section:
                decided[key][TEST_CLIPS] = "\n".join(sorted(by_section[key]["clip"]))
    return decided


def seed_mixtures(by_seed: Mapping[int, Results]) -> list[str]:
    """Return a sentence about each system whose seeds differ in more than the seed."""
    sentences = []
    for name in dict.fromkeys(name for results in by_seed.values() for name in results.of_seed):
        of_seeds = {f"seed {seed}": configurations(r, name) for seed, r in by_seed.items() if name in r.of_seed}
        sentences += mixture_notes(f"{name} over the seeds", differences(of_seeds, without=[JOINT_NETWORK]))
    return sentences


def note_completeness(results: Results, phrases: Mapping[Key, str]) -> None:
    """Report missing results, and note which systems cannot have an official score because of them.

    `phrases`: where a section's other clips are missing: `not in our results`.
    """
    challenge, notes, names = results.challenge, results.notes, results.names
    unlabelled = [name for name in results.clips["system"].unique() if name not in names]
    notes += [f"{name}: no figures, since none of its clips is labelled" for name in unlabelled]
    absent: dict[str, list[str]] = {}
    for name in names:
        lacking = [key for key in challenge.section_keys() if (name, *key) not in results.figures.index]
        whole = [
            m for m, sections in challenge.sections.items() if all((m, section) in lacking for section in sections)
        ]
        parts = [section_names([key]) for key in lacking if key[0] not in whole]
        absent.setdefault(", ".join([*whole, *parts]), []).append(name)
    for places, some in absent.items():
        have = "has" if len(some) == 1 else "have"
        notes += [f"{', '.join(some)} {have} no labelled results for {places}"] if places else []
    with_figures = set(results.figures.index.droplevel("System"))
    n_clips = {key: len(clips) for key, clips in results.expected.items() if key in with_figures}
    in_catalogue = {key: sum(challenge.clips[key[0]].get("test", {}).values()) for key in n_clips}
    if any(n > n_clips[key] for key, n in in_catalogue.items()):
        notes.append(
            f"{sum(n_clips.values())} test clips in these sections, where the challenge has "
            f"{sum(in_catalogue.values())}: the figures are not comparable with published ones"
        )
    for name in names:
        if reason := _incomplete(results, name, phrases):
            results.incomplete[name] = f"{reason}; test again" if name in results.own else reason


def _incomplete(results: Results, name: str, phrases: Mapping[Key, str]) -> str | None:
    """Say how a system's clips differ from the sections' test clips; None if they do not."""
    for key, clips in results.clips_of(name).items():
        expected = results.expected[key]
        others = clips["clip"][clips["label"].isna() | ~clips["clip"].isin(expected)].tolist()
        if others:
            return f"{section_names([key])} has {counted(len(others), 'clip')} {phrases[key]}: {listed(others)}"
        if len(clips) < len(expected):
            return f"{section_names([key])} has {len(clips)} of {len(expected)} clips"
    return None


def hidden_systems(challenge: Challenge, experiment: Experiment) -> list[str]:
    """Return our systems with results of this seed whose extension is not loaded, by their tests' records."""
    names: list[str] = []
    start = f"{glob.escape(experiment.export_dir)}_*/test_{glob.escape(challenge.name)}*"
    for path in sorted(experiment.split_results.glob(f"{start}_test_seed{experiment.seed}_*.json")):
        name = path.parent.name
        if name not in (*names, *experiment.systems()):
            with contextlib.suppress(InputError):
                record = read_result_record(path)
                network = str(record.run).partition(f"_{challenge.name}")[0].split("_")
                own = [part for part in network if part not in (*NETWORKS.builtin, str(record.score))]
                if name == "_".join([experiment.export_dir, *own, str(record.score)]):  # else another experiment's
                    names.append(name)
    return names


def other_seeds(challenge: Challenge, experiment: Experiment) -> str:
    """Return a phrase about other seeds of which our systems have results: ` (there are results of seed 1)`."""
    folders = [experiment.split_results / name for name in experiment.systems()]
    files = [path.name for folder in folders for path in folder.glob(f"*_{glob.escape(challenge.name)}*.csv")]
    seeds = {int(number) for name in files for number in re.findall(r"_test_seed(\d+)", name)} - {experiment.seed}
    return f" (there are results of seed {listed(map(str, sorted(seeds)), 10)})" if seeds else ""


def section_names(keys: Iterable[Key]) -> str:
    """Return sections' names as a phrase: `fan section 00, valve section 00`."""
    return listed(f"{machine_type} section {section:02d}" for machine_type, section in keys)


def section_name(results: Results, key: Key) -> str:
    """Return a section's name for readers: just the machine type if it has no other section."""
    is_only = len(results.challenge.sections[key[0]]) == 1
    return key[0] if is_only else f"{key[0]}, section {key[1]:02d}"


def heading(results: Results) -> str:
    """Return the title of results: challenge, subset, experiment and seed."""
    subset = "evaluation" if results.challenge.is_eval else "development"
    own = f": {results.experiment.export_dir}, seed {results.experiment.seed}" if results.own else ""
    return f"{results.challenge.name}, {subset} set{own}"


def origins(results: Results) -> list[str]:
    """Return when and with which options each system was trained and tested, where that is recorded."""
    lines = []
    for name in dict.fromkeys(system for system, *_ in results.records):
        records = [record for (system, *_), record in results.records.items() if system == name]
        options = merged(configurations(results, name).values())
        trained = _range(record.trained and record.trained[:10] for record in records)
        epochs = options.get("epochs")
        training = f"trained{f' for {epochs} epochs' if epochs else ''}{f' on {trained}' if trained else ''}"
        if not epochs and not trained:
            training = "no record of a training"
        n_clips = counted(sum(record.n_clips for record in records), "clip")
        texts = [f"{option} {value}" for option, value in options.items() if option in extension_parameters()]
        tested = _range(record.date[:10] for record in records)
        lines.append(", ".join([f"{name}: {training}", f"tested on {tested}", n_clips, *texts]))
    return lines


def _range(values: Iterable) -> str:
    """Return one value, or the first and the last of several."""
    given = [value for value in values if value is not None]
    return " to ".join(dict.fromkeys(map(str, (min(given), max(given))))) if given else ""
