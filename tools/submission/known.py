"""The known facts about a system for its meta file, from the records of its runs, its networks, clips and results.

An extension's network or front end is described by its own `description`; without one, the entrant must write it.
"""

from pathlib import Path
from typing import Any

from common import FRONT_ENDS, NETWORKS, NOT_RECORDED, SCORES, Settings
from datasets.audio import read_header
from datasets.catalogue import Challenge, load_challenge
from datasets.clips import MachineFolders, clip_paths
from networks.record import read_record
from tools.results.files import keys_of, read_result_table
from tools.results.metrics import harmonic_mean
from tools.results.parameters import Values, parameters_text, score_options, trained_parameters
from tools.results.test_record import TestRecord, read_test_record
from tools.runtime.files import content_checksum
from tools.runtime.names import Experiment, Run, score_state_path
from tools.runtime.wording import counted
from tools.submission.meta import DESCRIPTION, RESULTS, TODO, KnownSystem

VECTORS = ("frames", "frame_hop_length")  # training parameters that describe the features
TARGET_USE = "not used for the machine types of the evaluation set"


def describe_own(label: str, score: str, challenge: Challenge, settings: Settings) -> KnownSystem:
    """Gather the facts about a system of this baseline, or of an extension, from the records of its runs."""
    scored_by = SCORES.get(score)
    experiment = Experiment.of(settings, is_eval=True)
    runs = [experiment.run(challenge.name, *key) for key in keys_of(challenge)]
    tests = [record for record in (read_test_record(run, score) for run in runs) if record]
    options = score_options(tests)
    aggregation = scored_by.description or _unknown(scored_by)
    description = dict.fromkeys(DESCRIPTION) | {
        "input_sampling_rate": _sampling_rate(challenge, settings.dataset_directory),
        "aggregation_method": "; ".join([aggregation, *([parameters_text(options, options)] if options else [])]),
        "domain_generalization_method": scored_by.domain_generalization,
        "decision_making": f"scores above {_threshold_source(tests, settings)}",
        "development_data_usage": TARGET_USE,
    }
    versions = dict.fromkeys(test.extension_sha256[:8] for test in tests if test.extension_sha256)
    _note_mixtures(label, options | {f"extension of {score}": list(versions)})
    if not scored_by.needs_network:
        description |= {"acoustic_features": _unknown(scored_by), "machine_learning_method": _unknown(scored_by)}
        return KnownSystem(label, description, None, None, _development_results(challenge, score, settings))
    parameters, missing = trained_parameters(runs, settings)
    _note_mixtures(label, parameters | {"extension of network or front end": _versions(runs)})
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
        _development_results(challenge, score, settings),
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


def _note_mixtures(label: str, values: Values) -> None:
    """Print which values differ between machine types."""
    for name, found in values.items():
        if len(found) > 1:
            print(f"note: {label} is a mixture: {parameters_text({name: found}, [name])}; train and test all alike")


def _versions(runs: list[Run]) -> list[str]:
    """Return the versions of the extensions that the networks were trained with."""
    records = [record.content.get("sources") or {} for record in (read_record(run.record) for run in runs) if record]
    return list(dict.fromkeys(content_checksum(sources)[:8] for sources in records))


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
    import torch
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


def _development_results(challenge: Challenge, score: str, settings: Settings) -> dict[str, dict[str, float | None]]:
    """Return the metrics of each development machine type, harmonic means over its sections; {} without results."""
    development = load_challenge(challenge.name, is_eval=False)
    experiment = Experiment.of(settings, is_eval=False)
    results = {}
    for machine_type, sections in development.sections.items():
        runs = {section: experiment.run(development.name, machine_type, section) for section in sections}
        rows = [(read_result_table(run.result_table(score)) or {}).get(section, {}) for section, run in runs.items()]
        complete = [name for name in RESULTS.values() if all(row.get(name) is not None for row in rows)]
        results[machine_type] = {name: harmonic_mean([row[name] for row in rows]) for name in complete}
    return results
