"""The known facts about a system for its meta file, from the records of its runs, its networks, clips and results.

An extension's network or front end is described by its own `description`; without one, the entrant must write it.
"""

from pathlib import Path
from typing import Any

from common import FRONT_ENDS, NETWORKS, NOT_RECORDED, SCORES, Settings

from datasets.audio import read_header
from datasets.catalogue import Challenge, load_challenge
from datasets.clips import MachineFolders, clip_paths
from networks.names import Experiment, Run, score_state_path
from runtime.wording import counted, listed
from tools.results.files import keys_of, read_result_table
from tools.results.metrics import harmonic_mean
from tools.results.notes import section_names
from tools.results.parameters import (
    THRESHOLD,
    TRAINING_CLIPS,
    Configuration,
    Values,
    configuration_of,
    is_outdated,
    mixture_note,
    mixtures,
    parameters_text,
    score_options,
    trained_parameters,
)
from tools.results.test_record import TestRecord, problems_of, read_test_record
from tools.submission.meta import DESCRIPTION, RESULTS, TODO, KnownSystem

VECTORS = ("frames", "frame_hop_length")  # training parameters that describe the features
TARGET_USE = "not used for the machine types of the evaluation set"


def describe_own(label: str, score: str, challenge: Challenge, settings: Settings) -> KnownSystem:
    """Gather the facts about a system of this baseline, or of an extension, from the records of its runs."""
    scored_by = SCORES.get(score)
    experiment = Experiment.of(settings, is_eval=True)
    runs = [experiment.run(challenge.name, *key) for key in keys_of(challenge)]
    of_runs = {run: read_test_record(run, score) for run in runs}
    tests = [test for test in of_runs.values() if test]
    options = score_options(tests)
    aggregation = scored_by.description or _unknown(scored_by)
    description = dict.fromkeys(DESCRIPTION) | {
        "input_sampling_rate": _sampling_rate(challenge, settings.dataset_directory),
        "aggregation_method": "; ".join([aggregation, *([parameters_text(options, options)] if options else [])]),
        "domain_generalization_method": scored_by.domain_generalization,
        "decision_making": f"scores above {_threshold_source(tests, settings)}",
        "development_data_usage": TARGET_USE,
    }
    evaluation = _note_mixtures(label, challenge, score, of_runs)
    development = _development_results(label, challenge, score, settings, evaluation)
    if not scored_by.needs_network:
        description |= {"acoustic_features": _unknown(scored_by), "machine_learning_method": _unknown(scored_by)}
        return KnownSystem(label, description, None, None, development)
    parameters, missing = trained_parameters(runs, settings)
    if missing:
        print(
            f"{counted(len(missing), 'network')} without a record in {missing[0].record.parent}; the meta file has the "
            "values of baseline.yaml and the command line"
        )
    front_end, network = FRONT_ENDS.get(settings.front_end), NETWORKS.get(settings.model)
    features = [name for name in settings.affecting("features") if name != "front_end"]
    training = [
        name
        for name in settings.affecting("training")
        if name not in (*NOT_RECORDED, *VECTORS, "model", *settings.affecting("features"))
    ]
    description["acoustic_features"] = (
        f"{_text_of(front_end)}, in {front_end.unit}; {parameters_text(parameters, [*features, *VECTORS])}"
    )
    description["machine_learning_method"] = (
        f"{_text_of(network)}, a network for each machine type and section; {parameters_text(parameters, training)}"
    )
    return KnownSystem(
        label,
        description,
        *_complexity(settings, parameters, scored_by, [score_state_path(run.network, score) for run in runs]),
        development,
    )


def describe_other(label: str, challenge: Challenge, settings: Settings) -> KnownSystem:
    """Gather the facts about a system known only by its scores and decisions."""
    development = load_challenge(challenge.name, is_eval=False)
    rate = _sampling_rate(challenge, settings.dataset_directory)
    return KnownSystem(label, {"input_sampling_rate": rate}, None, None, {m: {} for m in development.machine_types})


def _text_of(cls: Any) -> str:
    """Return a network's or a front end's name and description."""
    text = getattr(cls, "description", "")
    if text:
        return f"{cls.name}: {text}"
    return cls.name if cls.extension is None else _unknown(cls)


def _unknown(cls: Any) -> str:
    """Return the mark for a description that an extension lacks."""
    return f"{TODO}: describe {cls.name} of {cls.extension.path.name}"


def _note_mixtures(
    label: str, challenge: Challenge, score: str, of_runs: dict[Run, TestRecord | None]
) -> Configuration:
    """Print where a system's runs are stale or differ; return the configuration of all, with `or` where they differ."""
    names = {run: section_names([key]) for run, key in zip(of_runs, keys_of(challenge), strict=True)}
    stale: dict[str, list[str]] = {}
    for run, test in of_runs.items():
        for problem in problems_of(test, run, score) if test else ():
            stale.setdefault(problem, []).append(names[run])
    for problem, sections in stale.items():
        print(f"note: {label}, {listed(sections)}: {problem}; test again")
    by_section = {names[run]: configuration_of(run, score, test) for run, test in of_runs.items()}
    for phrase in mixtures(by_section, without=[TRAINING_CLIPS]):
        print(f"note: {mixture_note(label, [phrase])}")
    values: dict[str, dict[str, None]] = {}
    for name, value in (item for configuration in by_section.values() for item in configuration.items()):
        values.setdefault(name, {})[value] = None
    return {name: " or ".join(some) for name, some in values.items()}


def _threshold_source(tests: list[TestRecord], settings: Settings) -> str:
    """Return the source of the tests' thresholds: from their records, else from the settings."""
    sources = dict.fromkeys(test.threshold_from for test in tests if test.threshold_from)
    return " or ".join(sources) or (
        f"the {settings.decision_threshold:g} quantile of a gamma distribution that is fitted to scores of the "
        "training data"
    )


def _complexity(
    settings: Settings, parameters: Values, scored_by: Any, states: list[Path]
) -> tuple[int | None, int | None]:
    """Return the numbers of parameters, and of multiply-accumulates for a vector; None: unknown.

    Of the score's fitted `states`, the largest counts: a machine type may have more training clips.
    """
    import torch  # these, with torch, only where a network is built to count its parameters
    from torch import nn

    from datasets.front_ends import make_front_end
    from networks.checkpoint import load_tensors
    from networks.network import make_network

    if any(len(values) > 1 for values in parameters.values()):
        return None, None  # networks may differ in size
    settings = settings.replace(**{name: values[0] for name, values in parameters.items()})
    with torch.device("meta"):  # sizes only: nothing is drawn, and no memory taken
        network = make_network(settings, make_front_end(settings).n_bins)
    fitted = scored_by.fitted_in_network
    total = sum(p.numel() for name, p in network.named_parameters() if p.requires_grad or name in fitted)
    total += max((sum(t.numel() for t in load_tensors(path).values()) for path in states if path.is_file()), default=0)
    layers = [layer for layer in network.modules() if next(layer.parameters(recurse=False), None) is not None]
    is_dense = all(isinstance(layer, nn.Linear | nn.BatchNorm1d) or layer is network for layer in layers)
    macs = sum(layer.weight.numel() for layer in layers if isinstance(layer, nn.Linear))
    return total, macs if is_dense else None


def _sampling_rate(challenge: Challenge, dataset_directory: Path) -> str:
    """Return the sampling rate of the first test clip, or a mark if there are no clips."""
    for machine_type in challenge.machine_types:
        clips = clip_paths(MachineFolders(dataset_directory, challenge.name, machine_type, is_eval=True).test)
        if clips:
            return f"{read_header(clips[0]).sampling_rate / 1000:g} kHz"
    return f"{TODO}: of the clips, such as 16 kHz"


def _development_results(
    label: str, challenge: Challenge, score: str, settings: Settings, evaluation: Configuration
) -> dict[str, dict[str, float | None]]:
    """Return the metrics of each development machine type, harmonic means over its sections; {} without results.

    Results that are stale, or of another configuration than the `evaluation` set's, are left out, which is printed.
    """
    development = load_challenge(challenge.name, is_eval=False)
    experiment = Experiment.of(settings, is_eval=False)
    results: dict[str, dict[str, float | None]] = {}
    left_out: dict[str, list[str]] = {}
    unchecked = []
    for machine_type, sections in development.sections.items():
        runs = {section: experiment.run(development.name, machine_type, section) for section in sections}
        rows = [(read_result_table(run.result_table(score)) or {}).get(section, {}) for section, run in runs.items()]
        complete = [name for name in RESULTS.values() if all(row.get(name) is not None for row in rows)]
        reasons = [_reason_to_leave_out(run, score, settings, evaluation) for run in runs.values()] if complete else []
        unchecked += [machine_type] if None in reasons else []
        reason = next(filter(None, reasons), "")
        if reason:
            left_out.setdefault(reason, []).append(machine_type)
            complete = []
        results[machine_type] = {name: harmonic_mean([row[name] for row in rows]) for name in complete}
    for reason, names in left_out.items():
        print(f"note: development figures of {', '.join(names)} do not belong in {label}.meta.yaml: {reason}")
    if unchecked:
        print(
            f"note: without records, the development figures of {', '.join(unchecked)} are taken for those of the "
            "evaluation's parameters"
        )
    return results


def _reason_to_leave_out(run: Run, score: str, settings: Settings, evaluation: Configuration) -> str | None:
    """Return why a development result is not the evaluated system's; "" if it is, None without records."""
    test = read_test_record(run, score)
    configuration = configuration_of(run, score, test)
    if is_outdated(run, score, test):
        return "the network was trained again since the test; test again"
    if test is not None and test.max_fpr != settings.max_fpr:
        return f"their pAUC is up to max_fpr {test.max_fpr:g} instead of {settings.max_fpr:g}; test again"
    subsets = {"the evaluation set": evaluation, "the development set": configuration}
    phrases = mixtures(subsets, without=[TRAINING_CLIPS, THRESHOLD])
    if phrases:
        return f"{'; '.join(phrases)}; train and test both sets alike"
    return "" if configuration and evaluation else None
