"""The meta file of a challenge package, `<label>.meta.yaml`: its keys, filled in as far as known, and checked.

Facts that only the entrant knows are marked `TODO: ...`. total_parameters counts the parameters that training and the
score have fitted; MACS are the network's multiply-accumulates for one vector. Results are in percent.
Source: the challenge's submission rules of 2023, and the packages that were accepted in 2026.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from datasets.catalogue import Challenge
from runtime.wording import counted

LABEL = re.compile(r"[A-Za-z0-9-]+_[A-Za-z0-9-]+_task2_[1-4]")
LABEL_FORM = "<last name>_<institution>_task2_<1 to 4>, such as Lastname_INST_task2_1"
TODO = "TODO"
MAX_ABBREVIATION = 10  # characters
UNREADABLE = (yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError, RecursionError)  # raised by PyYAML
DESCRIPTION = (
    "input_sampling_rate data_augmentation front_end acoustic_features embeddings machine_learning_method "
    "aggregation_method domain_adaptation_method domain_generalization_method ensemble_method_subsystem_count "
    "decision_making attribute_usage external_data_usage development_data_usage"
).split()
FIGURES = "results.development_dataset"
KEYS = (
    *("submission.label", "submission.name", "submission.abbreviation", "submission.authors"),
    *(f"system.description.{name}" for name in DESCRIPTION),
    "system.complexity.total_parameters",
    *("system.external_datasets", "system.source_code", FIGURES),
)
OPTIONAL_KEYS = ("system.complexity.MACS",)  # in the form of 2023; accepted without in 2026
TEXTS = ("submission.name", "submission.abbreviation")  # the keys that cannot be null
AUTHOR_KEYS = ("firstname", "lastname", "email", "affiliation.institution", "affiliation.location")
OPTIONAL_AUTHOR_KEYS = ("affiliation.department",)
RESULTS = {"auc_source": "AUC (source)", "auc_target": "AUC (target)", "pauc": "pAUC"}  # key -> our name of the metric
HEAD = f"""\
# {TODO} marks what you have to write. Correct the rest where your system differs from it. total_parameters: those
# fitted by training and the score. MACS: of the network, for one vector. Results: percent.
"""


@dataclass(frozen=True)
class KnownSystem:
    """The known facts about a system."""

    label: str
    description: dict[str, str | None]  # values below system.description by key; absent ones are marked TODO
    total_parameters: int | None  # None: unknown
    macs: int | None
    # metric -> value from 0 to 1, or None, by machine type of the development set
    development: dict[str, dict[str, float | None]]


def make_meta(known: KnownSystem) -> str:
    """Return the text of the meta file, with a TODO mark where the entrant must write."""
    author = {
        "firstname": f"{TODO}: first name",
        "lastname": f"{TODO}: last name",
        "email": f"{TODO}: address",
        "corresponding": True,
        "affiliation": {
            "institution": f"{TODO}: institution",
            "department": f"{TODO}: department, or null",
            "location": f"{TODO}: town, country",
        },
    }
    complexity = {"total_parameters": known.total_parameters, "MACS": known.macs}
    untested = f"{TODO}: percent, or test the development set, remove this file and make the package again"
    meta = {
        "submission": {
            "label": known.label,
            "name": f"{TODO}: the system's name",
            "abbreviation": f"{TODO}: at most {MAX_ABBREVIATION} characters",
            "authors": [author],
        },
        "system": {
            "description": {name: known.description.get(name, f"{TODO}: describe it, or null") for name in DESCRIPTION},
            "complexity": {
                name: f"{TODO}: their number, or null" if value is None else value for name, value in complexity.items()
            },
            "external_datasets": None,
            "source_code": f"{TODO}: address of the code, or null",
        },
        "results": {
            "development_dataset": {
                machine_type: {
                    key: untested if (value := metrics.get(name)) is None else round(100 * value, 2)
                    for key, name in RESULTS.items()
                }
                for machine_type, metrics in known.development.items()
            }
        },
    }
    return HEAD + yaml.safe_dump(meta, sort_keys=False, allow_unicode=True, width=120)


# --- checking ---------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML without merge keys (`<<`), with which a small file can become a huge one; aliases are shared, not copied."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        pass


def check_meta(label: str, content: bytes, development: Challenge) -> tuple[list[str], list[str]]:
    """Return the problems of a meta file, remaining TODO marks included, and notes, one line each."""
    try:
        meta = yaml.load(content.decode(), _Loader)
    except UNREADABLE as error:
        return [f"not readable as YAML: {' '.join(str(error).split())[:200]}"], []
    if not isinstance(meta, dict):
        return ["it holds no `key: value` lines"], []
    notes = [f"{key} is missing" for key in OPTIONAL_KEYS if _find(meta, key) is _ABSENT]
    notes += _missing_of_authors(_find(meta, "submission.authors"), OPTIONAL_AUTHOR_KEYS)
    return list(_problems(meta, label, development)), [f"{note}, which 2023 required" for note in notes]


def _problems(meta: dict, label: str, development: Challenge) -> Iterator[str]:
    yield from (f"{key} is missing" for key in KEYS if _find(meta, key) is _ABSENT)
    yield from (f"{key} is empty" for key in TEXTS if _find(meta, key) in (None, ""))
    found = _find(meta, "submission.label")
    if found not in (_ABSENT, label):
        shown = repr(found[:60]) if isinstance(found, str) else "not a text"
        yield f"submission.label is {shown}, but the folder's name is {label!r}; they must be equal"
    short = _find(meta, "submission.abbreviation")
    if isinstance(short, str) and not _is_mark(short) and len(short) > MAX_ABBREVIATION:
        yield (f"submission.abbreviation {short[:40]!r} has {len(short)} characters; {MAX_ABBREVIATION} are allowed")
    authors = _find(meta, "submission.authors")
    if isinstance(authors, list) and authors and all(isinstance(author, dict) for author in authors):
        yield from _missing_of_authors(authors, AUTHOR_KEYS)
        if not any(author.get("corresponding") is True for author in authors):
            yield "submission.authors: no author has `corresponding: true`"
    elif authors is not _ABSENT:
        yield "submission.authors is not a list of authors"
    results = _find(meta, FIGURES)
    for key in (f"{m}.{name}" for m in development.machine_types for name in RESULTS):
        value, name = _find(results, key), f"{FIGURES}.{key}"
        if value is _ABSENT and results is not _ABSENT:
            yield f"{name} is missing"
        is_percent = type(value) in (int, float) and 0 <= float(str(value)) <= 100
        if value is not _ABSENT and not _is_mark(value) and not is_percent:
            yield f"{name} is not a number from 0 to 100 (percent)"
    marks = [(key, str(value)) for key, value in _leaves(meta) if _is_mark(value)]
    figures = [mark for key, mark in marks if key.startswith(f"{FIGURES}.")]
    yield from (f"{key}: still to be written ({m[:120]})" for key, m in marks if not key.startswith(f"{FIGURES}."))
    if figures:
        yield f"{FIGURES}: {counted(len(figures), 'figure')} still to be written ({figures[0][:120]})"


def _missing_of_authors(authors: object, keys: tuple[str, ...]) -> list[str]:
    return [
        f"submission.authors: {key} of author {number} is missing"
        for number, author in enumerate(authors if isinstance(authors, list) else (), 1)
        for key in keys
        if _find(author, key) is _ABSENT
    ]


def differences(kept: bytes, made: str) -> list[str]:
    """Return the keys below system and results whose known values an edited file has changed."""
    try:
        before = yaml.load(kept.decode(), _Loader)
    except UNREADABLE:  # reported by check_meta
        return []
    known = {key: value for key, value in _leaves(yaml.safe_load(made)) if value is not None and not _is_mark(value)}
    return [key for key, value in known.items() if not key.startswith("submission") and _find(before, key) != value]


_ABSENT = object()


def _find(mapping: object, key: str) -> object:
    """Return the value of a key such as a.b.c; _ABSENT if there is none."""
    for name in key.split("."):
        if not isinstance(mapping, dict) or name not in mapping:
            return _ABSENT
        mapping = mapping[name]
    return mapping


def _is_mark(value: object) -> bool:
    return isinstance(value, str) and TODO in value


def _leaves(meta: dict) -> Iterator[tuple[str, object]]:
    """Yield key and value of all but mappings and lists, in the file's order; a node shared by aliases once."""
    waiting: list[tuple[str, object]] = [("", meta)]
    seen = set()
    while waiting:
        key, value = waiting.pop()
        if not isinstance(value, dict | list):
            yield key, value
        elif id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else ((str(i), item) for i, item in enumerate(value, 1))
            texts = [(name if isinstance(name, str) else "?", item) for name, item in items]  # a key may be any number
            waiting += reversed([(f"{key}.{name}".lstrip("."), item) for name, item in texts])
