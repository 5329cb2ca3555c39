"""What decided a test's results, as its record tells it, and where the parts of a system differ."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping

from common import BY_NAME, REQUIRED, SCORES, Settings, as_text, code_hashes, extension_parameters

from networks.record import Record, network_code
from runtime.sources import changed_files
from runtime.wording import listed
from tools.results.files import Key

# parameter -> its value as text, or a sentence such as "code differs in networks/autoencoder.py" -> a hash
Configuration = dict[str, str]
CODE, TEST_CODE = "code differs in ", "the test's code differs in "  # before a file's name
THRESHOLD, TRAINING_CLIPS, TEST_CLIPS = "threshold", "training clips differ", "test clips differ"
FEATURES, TRAINED_ON = "training features differ", "labels or further training clips differ"
JOINT_NETWORK = "the joint network differs"
OF_A_SECTION = (TRAINING_CLIPS, TEST_CLIPS, FEATURES)  # never the same in two sections
OF_A_SUBSET = (*OF_A_SECTION, TRAINED_ON, JOINT_NETWORK)  # never the same in development and evaluation


def configuration_of(record: Record | None, score: str, settings: Settings, threshold: float | None) -> Configuration:
    """Return all that decides a test's scores and decisions, apart from the seed, as far as it is known.

    Parameters
    ----------
    record
        That of the network, or of a score that needs none.
    settings
        Those of the test, for the score's own parameters.
    threshold
        Its `source`, if it has one, tells where it comes from.
    """
    configuration: Configuration = {}
    if record is not None:
        content = record.content
        for p in (*BY_NAME.values(), *extension_parameters().values()):
            is_recorded = p.affects in ("features", "training") and p.name != "seed"
            if is_recorded and (p.name in content or p.since_absent is not REQUIRED):
                configuration[p.name] = as_text(content.get(p.name, p.since_absent))
        configuration["initial_weights"] = str(content.get("initial_weights", "null"))[:12]  # of their SHA-256
        for start in content.get("resumed_from", ()):
            if start["seed"] != content["seed"]:
                configuration["initial_weights"] = f"those of seed {start['seed']}"
        for sentence, name in ((TRAINING_CLIPS, "clips_manifest"), (FEATURES, "data")):
            configuration |= {sentence: content[name]} if name in content else {}
        if "trained_on" in content:
            configuration[JOINT_NETWORK] = content["network_sha256"]
        further = json.dumps([content.get(name) for name in ("trained_on", "further_clips", "clip_labels")])
        configuration[TRAINED_ON] = hashlib.sha256(further.encode()).hexdigest()
        configuration |= {f"{CODE}{file}": digest for file, digest in record.code_behind(score).items()}
    cls = SCORES.get(score)
    configuration |= {p.name: as_text(settings.values[p.name]) for p in cls.options}
    code = (network_code(settings) if cls.needs_network else {}) | code_hashes(cls)
    configuration |= {f"{TEST_CODE}{file}": digest for file, digest in code.items()}
    if source := getattr(threshold, "source", None):
        configuration[THRESHOLD] = re.sub(r"\d+ ((normal|training) clips)", r"the \1", source)
    return configuration


def changed_code(configuration: Configuration) -> list[str]:
    """List the files whose code was another in the test than in training and fitting."""
    trained, tested = (
        {name.removeprefix(start): digest for name, digest in configuration.items() if name.startswith(start)}
        for start in (CODE, TEST_CODE)
    )
    return changed_files(trained, tested) if trained and tested else []


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
        By the name of their section, seed or subset. A name that a configuration lacks is unknown, and not compared,
        but for a file of code where others are known.
    without
        Names that may differ.
    """
    phrases = []
    names = dict.fromkeys(name for configuration in configurations.values() for name in configuration)
    for name in (name for name in names if name not in without):
        code = next((start for start in (CODE, TEST_CODE) if name.startswith(start)), None)
        places: dict[str, list[str]] = {}
        for place, configuration in configurations.items():
            if name in configuration or (code and any(other.startswith(code) for other in configuration)):
                places.setdefault(configuration.get(name, ""), []).append(place)
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


def differences(systems: Mapping[str, Mapping[Key, Configuration]], without: Iterable[str] = ()) -> list[str]:
    """Return where several systems, or seeds of one, differ in any section that they share; see mixtures."""
    keys = dict.fromkeys(key for sections in systems.values() for key in sections)
    of_sections = [{name: some[key] for name, some in systems.items() if key in some} for key in keys]
    return list(dict.fromkeys(phrase for some in of_sections for phrase in mixtures(some, without)))
