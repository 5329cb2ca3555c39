"""The meta file of a challenge package, `<label>.meta.yaml`: its keys, made from what is known, and checked.

What only the entrant knows is marked `TODO: ...`. The text describes the unchanged baseline. Complexity: the parameters
are the trained ones, for MAHALA with the two covariances; MACS is the multiplications with an addition of the
autoencoder's linear layers for one vector. Source: the challenge's submission rules of 2023.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from datasets.catalogue import Challenge

LABEL = re.compile(r"[A-Za-z0-9-]+_[A-Za-z0-9-]+_task2_[1-4]")
LABEL_FORM = "<last name>_<institution>_task2_<1 to 4>, such as Lastname_INST_task2_1"
TODO = "TODO"
MAX_ABBREVIATION = 10  # characters
MAX_META = 100_000  # bytes
UNREADABLE = (yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError, RecursionError)  # raised by PyYAML
DESCRIPTION = (
    "input_sampling_rate data_augmentation front_end acoustic_features embeddings machine_learning_method "
    "aggregation_method domain_adaptation_method domain_generalization_method ensemble_method_subsystem_count "
    "decision_making attribute_usage external_data_usage development_data_usage"
).split()
KEYS = (
    *("submission.label", "submission.name", "submission.abbreviation", "submission.authors"),
    *(f"system.description.{name}" for name in DESCRIPTION),
    *("system.complexity.total_parameters", "system.complexity.MACS"),
    *("system.external_datasets", "system.source_code", "results.development_dataset"),
)
TEXTS = ("submission.name", "submission.abbreviation")  # the keys that take no null
AUTHOR_KEYS = (
    *("firstname", "lastname", "email"),
    *("affiliation.institution", "affiliation.department", "affiliation.location"),
)
RESULTS = {"auc_source": "AUC (source)", "auc_target": "AUC (target)", "pauc": "pAUC"}  # key -> our metric's name
FEATURES = ("n_mels", "n_fft", "hop_length", "power", "fmin", "fmax", "win_length", "frames", "frame_hop_length")
TRAINING = ("learning_rate", "batch_size", "epochs", "validation_split")
HEAD = f"""\
# {TODO}: marks what the entrant has to write. The rest describes the unchanged baseline: correct what your system does
# otherwise. total_parameters: the trained ones, for MAHALA with the two covariances. MACS: of the autoencoder, for one
# vector. Results: percent.
"""


@dataclass(frozen=True)
class KnownSystem:
    """What is known of a system. `parameters` has every value that a machine type's network was trained with."""

    label: str
    score: str
    model: str
    seed: int
    parameters: dict[str, list]  # name -> the values, one unless the machine types differ
    decision_threshold: float
    sampling_rate: int | None  # Hz
    development: dict[str, dict[str, float | None]]  # machine type -> metric -> value from 0 to 1


def make_meta(known: KnownSystem) -> str:
    """Return the text of the meta file, with a TODO mark where the entrant must write."""
    total_parameters, macs = _complexity(known)
    is_mahala = known.score == "MAHALA"
    rate = None if known.sampling_rate is None else f"{known.sampling_rate / 1000:g} kHz"
    method = f"autoencoder ({known.model}), a network for each machine type and section; Adam, "
    description = dict.fromkeys(DESCRIPTION) | {
        "input_sampling_rate": rate or f"{TODO}: of the clips, such as 16 kHz",
        "acoustic_features": f"log-mel energies; {_as_text(known.parameters, FEATURES)}",
        "machine_learning_method": f"{method}{_as_text(known.parameters, TRAINING)}, seed {known.seed}",
        "aggregation_method": "Mahalanobis distance of the mean error over all frames of a clip"
        if is_mahala
        else "mean squared error over all vectors of a clip",
        "domain_generalization_method": "the smaller of the distances by the source and the target domain's covariance"
        if is_mahala
        else None,
        "decision_making": f"scores above the {known.decision_threshold:g} quantile of a gamma distribution fitted to "
        "the scores of the batches of training and validation",
        "development_data_usage": "not used for the machine types of the evaluation set",
    }
    author = {"firstname": f"{TODO}: first name", "lastname": f"{TODO}: last name", "email": f"{TODO}: address"}
    author["corresponding"] = True
    author["affiliation"] = {
        "institution": f"{TODO}: institution",
        "department": f"{TODO}: department, or null",
        "location": f"{TODO}: town, country",
    }
    submission = {
        "label": known.label,
        "name": f"{TODO}: the system's name",
        "abbreviation": f"{TODO}: at most {MAX_ABBREVIATION} characters",
        "authors": [author],
    }
    system = {
        "description": description,
        "complexity": {"total_parameters": total_parameters, "MACS": macs},
        "external_datasets": None,
        "source_code": f"{TODO}: address of the code, or null",
    }
    results = {name: _percent(metrics) for name, metrics in known.development.items()}
    meta = {"submission": submission, "system": system, "results": {"development_dataset": results}}
    return HEAD + yaml.safe_dump(meta, sort_keys=False, allow_unicode=True, width=120)


def _as_text(parameters: dict[str, list], names: tuple[str, ...]) -> str:
    values = {name: ["null" if value is None else str(value) for value in parameters[name]] for name in names}
    return ", ".join(f"{name} {' or '.join(texts)}" for name, texts in values.items())


def _complexity(known: KnownSystem) -> tuple[int | str, int | str]:
    """Return the numbers of parameters and of multiplications with an addition for a vector."""
    n_mels, frames = known.parameters["n_mels"], known.parameters["frames"]
    if len(n_mels) > 1 or len(frames) > 1:
        return (f"{TODO}: the networks of the machine types differ in size",) * 2
    import torch

    from networks.autoencoder import AutoEncoder

    with torch.device("meta"):  # sizes only: nothing is drawn, and no memory taken
        network = AutoEncoder(n_mels[0], frames[0])
    counted = [p for p in network.parameters() if p.requires_grad or known.score == "MAHALA"]
    linear = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    return sum(p.numel() for p in counted), sum(layer.weight.numel() for layer in linear)


def _percent(metrics: dict[str, float | None]) -> dict[str, float | str]:
    values = {key: metrics.get(metric) for key, metric in RESULTS.items()}
    missing = f"{TODO}: percent, or test the development set and make this file anew"
    return {key: missing if value is None else round(100 * value, 2) for key, value in values.items()}


# --- checking ---------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML without merge keys (`<<`), by which a small file can become a huge one; aliases share what they name."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        pass


def check_meta(label: str, content: bytes, development: Challenge) -> list[str]:
    """Return what is wrong with a meta file, a line each; what is still marked TODO is wrong, too."""
    if len(content) > MAX_META:
        return [f"it is longer than {MAX_META} bytes"]
    try:
        meta = yaml.load(content.decode(), _Loader)
    except UNREADABLE as error:
        return [f"it is no YAML that can be read: {' '.join(str(error).split())[:200]}"]
    if not isinstance(meta, dict):
        return ["it holds no `key: value` lines"]
    problems = [f"{key} is missing" for key in KEYS if _find(meta, key) is _ABSENT]
    problems += [f"{key} is empty" for key in TEXTS if _find(meta, key) in (None, "")]
    problems += _check_label(label, _find(meta, "submission.label"))
    abbreviation = _find(meta, "submission.abbreviation")
    if isinstance(abbreviation, str) and TODO not in abbreviation and len(abbreviation) > MAX_ABBREVIATION:
        problems.append(
            f"submission.abbreviation {abbreviation[:40]!r} has {len(abbreviation)} characters; "
            f"it may have {MAX_ABBREVIATION}"
        )
    problems += _check_authors(_find(meta, "submission.authors"))
    problems += _check_results(_find(meta, "results.development_dataset"), development)
    return problems + [f"{key}: still to be written ({text[:60]})" for key, text in _marks(meta)]


def differences(kept: bytes, made: str) -> list[str]:
    """Return the keys below system and results whose known values stand otherwise in a file that was edited."""
    try:
        before = yaml.load(kept.decode(), _Loader)
    except UNREADABLE:  # check_meta says so
        return []
    known = {key: value for key, value in _leaves(yaml.safe_load(made)) if value is not None and not _is_mark(value)}
    return [key for key, value in known.items() if not key.startswith("submission") and _find(before, key) != value]


_ABSENT = object()


def _find(mapping: object, key: str) -> object:
    """Return what stands under a key such as a.b.c; _ABSENT if nothing does."""
    for name in key.split("."):
        if not isinstance(mapping, dict) or name not in mapping:
            return _ABSENT
        mapping = mapping[name]
    return mapping


def _check_label(label: str, found: object) -> list[str]:
    if found is _ABSENT or found == label:
        return []
    shown = repr(found[:60]) if isinstance(found, str) else "of another kind"
    return [f"submission.label is {shown}, but the folder's name is {label!r}; they must be equal"]


def _check_authors(authors: object) -> list[str]:
    if authors is _ABSENT:
        return []
    if not isinstance(authors, list) or not authors or not all(isinstance(author, dict) for author in authors):
        return ["submission.authors is no list of authors"]
    problems = [
        f"submission.authors: {key} of author {number} is missing"
        for number, author in enumerate(authors, 1)
        for key in AUTHOR_KEYS
        if _find(author, key) is _ABSENT
    ]
    if not any(author.get("corresponding") is True for author in authors):
        problems.append("submission.authors: none has `corresponding: true`")
    return problems


def _check_results(results: object, development: Challenge) -> list[str]:
    problems = []
    for machine_type in development.machine_types if results is not _ABSENT else ():
        for key in RESULTS:
            value = _find(results, f"{machine_type}.{key}")
            name = f"results.development_dataset.{machine_type}.{key}"
            if value is _ABSENT:
                problems.append(f"{name} is missing")
            elif not _is_mark(value) and (type(value) not in (int, float) or not 0 <= value <= 100):
                problems.append(f"{name} is no number from 0 to 100 (percent)")
    return problems


def _is_mark(value: object) -> bool:
    return isinstance(value, str) and TODO in value


def _marks(meta: dict) -> list[tuple[str, str]]:
    return [(key, value) for key, value in _leaves(meta) if _is_mark(value)]


def _leaves(meta: dict) -> Iterator[tuple[str, object]]:
    """Yield key and value of what is no mapping or list, in the file's order; what an alias shares comes once."""
    waiting, seen = [("", meta)], set()
    while waiting:
        key, value = waiting.pop()
        if not isinstance(value, dict | list):
            yield key, value
        elif id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else ((str(i), item) for i, item in enumerate(value, 1))
            texts = [(name if isinstance(name, str) else "?", item) for name, item in items]  # a key may be any number
            waiting += reversed([(f"{key}.{name}".lstrip("."), item) for name, item in texts])
