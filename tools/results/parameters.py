"""What decided a system's results, from the records of its networks and tests, and where its parts differ."""

import re
from collections.abc import Iterable, Mapping

from common import BY_NAME, REQUIRED, as_text, extension_parameters

from networks.names import Run
from runtime.wording import listed
from tools.results.result_record import ResultRecord, network_record_of

# parameter -> its value as text, or a sentence such as "code differs in networks/autoencoder.py" -> a hash
Configuration = dict[str, str]
THRESHOLD, TRAINING_CLIPS, TEST_CLIPS = "threshold", "training clips differ", "test clips differ"
JOINT_NETWORK = "the joint network differs"
OF_A_SUBSET = (TRAINING_CLIPS, TEST_CLIPS, JOINT_NETWORK)  # never the same in development and evaluation


def configuration_of(run: Run, score: str, test: ResultRecord | None) -> Configuration:
    """Return all that decides a run's scores and decisions, apart from the seed, as far as the records have it.

    A network that was trained again since the test tells nothing about the test's.
    """
    record = network_record_of(run, score)
    configuration: Configuration = {}
    if record is not None and not is_outdated(run, score, test):
        content = record.content
        for p in (*BY_NAME.values(), *extension_parameters().values()):
            is_recorded = p.affects in ("features", "training") and p.name != "seed"
            if is_recorded and (p.name in content or p.since_absent is not REQUIRED):
                configuration[p.name] = as_text(content.get(p.name, p.since_absent))
        configuration["initial_weights"] = "given" if content.get("initial_weights") else "null"
        if "clips_manifest" in content:
            configuration[TRAINING_CLIPS] = content["clips_manifest"]
        if "trained_on" in content:
            configuration[JOINT_NETWORK] = content["network_sha256"]
        configuration |= {f"code differs in {file}": digest for file, digest in record.code_behind(score).items()}
    if test is not None:
        configuration |= {name: str(value) for name, value in test.options.items()}
        configuration |= {} if test.epochs is None else {"epochs": str(test.epochs)}
        configuration |= {f"the test's code differs in {file}": sha256 for file, sha256 in test.sources.items()}
        if test.threshold_from:
            configuration[THRESHOLD] = re.sub(r"\d+ ((normal|training) clips)", r"the \1", test.threshold_from)
    return configuration


def is_outdated(run: Run, score: str, test: ResultRecord | None) -> bool:
    """Tell whether a run's network was trained again since the test."""
    record = network_record_of(run, score)
    return record is not None and test is not None and test.trained != record.content.get("date")


def merged(configurations: Iterable[Configuration]) -> Configuration:
    """Return the value of each parameter; `8 or 16` where configurations differ."""
    values: dict[str, dict[str, None]] = {}
    for name, value in (item for configuration in configurations for item in configuration.items()):
        values.setdefault(name, {})[value] = None
    return {name: " or ".join(several) for name, several in values.items()}


def mixtures(configurations: Mapping[str, Configuration], without: Iterable[str] = ()) -> list[str]:
    """Return where configurations differ: `epochs 100, but 5 for fan section 00`, the most frequent value first.

    Parameters
    ----------
    configurations
        By the name of their section, seed or subset. A name that a configuration lacks is unknown, and not compared.
    without
        Names that may differ.
    """
    phrases = []
    names = dict.fromkeys(name for configuration in configurations.values() for name in configuration)
    for name in (name for name in names if name not in without):
        places: dict[str, list[str]] = {}
        for place, configuration in configurations.items():
            if name in configuration:
                places.setdefault(configuration[name], []).append(place)
        (usual, _), *others = sorted(places.items(), key=lambda item: -len(item[1]))
        if others and " " in name:  # a sentence
            phrases.append(f"{name} for {listed(place for _, some in others for place in some)}")
        elif others:
            texts = [f"{value} for {listed(some)}" for value, some in others]
            phrases.append(f"{name} {usual}, but {', '.join(texts)}")
    return phrases


def mixture_notes(name: str, phrases: Iterable[str]) -> list[str]:
    """Return the sentence about a system whose parts differ; nothing without `phrases`."""
    text = "; ".join(phrases)
    return [f"{name} is a mixture: {text}; train and test all alike"] if text else []
