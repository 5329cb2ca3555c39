"""The challenges: which machine types and sections they have, in which order (catalogue.yaml is the list).

A data set's name is a challenge followed by a machine type: `DCASE2023T2` + `ToyCar`.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import yaml

from common import NAME, InputError
from datasets.clips import MachineFolders, clip_paths, parse_clip

if TYPE_CHECKING:
    from datasets.archives import Archive

CATALOGUE = Path(__file__).with_name("catalogue.yaml")
OWN = "MINE"  # the challenge of a user's own machines: its machine types are the folders that hold clips
SUBSETS = {False: "dev", True: "eval"}  # keys of a challenge's subsets, by is_eval


@dataclass(frozen=True)
class Challenge:
    """One subset (development or evaluation) of a challenge.

    Attributes
    ----------
    sections
        Machine type -> its sections, in the tables' order.
    channels
        Of every clip; None: as many as a section's first clip has.
    official_score
        The year whose way of forming the official score applies: "2020" (arithmetic means of AUC and pAUC), "2021" (AUC
        and pAUC inside each domain) or "2022" (AUC of each domain's normal and all anomalous clips, and pAUC).
    label_list
        Address of the list of the evaluation clips' labels.
    clips
        Machine type -> split -> domain and label -> number of clips of a section, as far as it is known.
    """

    name: str
    is_eval: bool
    sections: dict[str, tuple[int, ...]]
    channels: int | None
    official_score: str
    label_list: str | None
    clips: dict[str, dict[str, dict[str, int]]]

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types in the order of the summary tables' columns."""
        return tuple(self.sections)

    @property
    def files_by_domain(self) -> bool:
        """Whether the published score files are one a section and domain: ..._section_00_source_test.csv (2021)."""
        return self.official_score == "2021"

    def check_machine_types(self, names: list[str]) -> None:
        """Raise InputError if a name is not one of this subset's machine types."""
        for name in names:
            if name not in self.sections:
                subset = "evaluation" if self.is_eval else "development"
                allowed = ", ".join(self.sections)
                raise InputError(f"{self.name} has no {subset} machine type '{name}'; it has {allowed}")


def challenge_names() -> tuple[str, ...]:
    """Return the names of all challenges."""
    return tuple(name for name in _read() if name != "zenodo")


def runnable_names() -> tuple[str, ...]:
    """Return the names of all challenges, and of the user's own machines."""
    return (*challenge_names(), OWN)


def has_subset(challenge: str, is_eval: bool) -> bool:
    """Tell whether the catalogue has this subset of a challenge yet."""
    return SUBSETS[is_eval] in _read()[challenge]


def load_challenge(name: str, is_eval: bool, dataset_directory: Path | None = None) -> Challenge:
    """Return one subset of a challenge; that of the user's own machines is found in the data set directory."""
    if name == OWN and dataset_directory is not None:
        return _load_own(dataset_directory, is_eval)
    if name not in challenge_names():
        raise InputError(f"unknown challenge '{name}'; the catalogue has {', '.join(challenge_names())}")
    entry = _read()[name]
    if not has_subset(name, is_eval):
        raise InputError(
            f"{name} has no {'evaluation' if is_eval else 'development'} data set yet; add the block "
            f"`{SUBSETS[is_eval]}` to {CATALOGUE} when it is published"
        )
    subset = entry[SUBSETS[is_eval]]
    sections, clips = subset.get("sections_of", {}), subset.get("clips_of", {})
    return Challenge(
        name,
        is_eval,
        sections={m: tuple(sections.get(m, subset["sections"])) for m in subset["machine_types"]},
        channels=entry["channels"],
        official_score=str(entry.get("official_score", 2022)),
        label_list=entry.get("label_list"),
        clips={m: clips.get(m, subset.get("clips", {})) for m in subset["machine_types"]},
    )


def _load_own(dataset_directory: Path, is_eval: bool) -> Challenge:
    """Make a challenge of the folders that hold clips, with the sections in the clips' names."""
    raw = MachineFolders(dataset_directory, OWN, "", is_eval).raw
    found = {}
    for folder in sorted(raw.iterdir()) if raw.is_dir() else ():
        folders = MachineFolders(dataset_directory, OWN, folder.name, is_eval)
        sections, errors = _sections_of([*clip_paths(folders.train), *clip_paths(folders.test)])
        if errors and not sections:
            raise errors[0]
        if sections:
            _check_own_name(folder)
            found[folder.name] = sections
    if not found:
        raise InputError(
            f"{raw} holds no machine of yours; put clips there, such as MyPump/train/section_00_normal_0001.wav, or "
            "choose another --dataset_directory"
        )
    return Challenge(OWN, is_eval, found, None, official_score="2022", label_list=None, clips={m: {} for m in found})


def _sections_of(paths: list[Path]) -> tuple[tuple[int, ...], list[InputError]]:
    """Return the sections in clips' names, and the errors of names that are not valid."""
    sections, errors = set(), []
    for path in paths:
        try:
            sections.add(parse_clip(path).section)
        except InputError as error:
            errors.append(error)
    return tuple(sorted(sections)), errors


def _check_own_name(folder: Path) -> None:
    """Raise InputError if a folder's name cannot be a machine type's: it becomes part of file names and commands."""
    try:
        NAME.parse(folder.name)
    except ValueError as error:
        raise InputError(
            f"{str(folder)!r} cannot be a machine type; rename the folder to {NAME.description}"
        ) from error


def list_archives(challenge: str, part: str) -> "list[Archive]":
    """List the archives of one part (dev, add or eval) of a challenge, a machine type each, in the tables' order."""
    from datasets.archives import Archive

    catalogue = _read()
    entry = catalogue[challenge]
    subset = entry.get("dev" if part == "dev" else "eval", {"archives": {}})
    source = subset["archives"].get(part)
    if source is None:
        return []
    archives = []
    for machine_type in subset["machine_types"]:
        file = source.get("files", {}).get(machine_type, source["file"].format(m=machine_type))
        archives.append(
            Archive(
                url=catalogue["zenodo"]["file"].format(record=source["record"], file=file),
                file=file,
                machine_type=machine_type,
                md5=entry.get("md5", {}).get(file),
                api_url=catalogue["zenodo"]["record"].format(record=source["record"]),
            )
        )
    return archives


def split_dataset_name(dataset: str) -> tuple[str, str]:
    """Split a data set's name into challenge and machine type: DCASE2023T2ToyCar -> DCASE2023T2, ToyCar."""
    for challenge in sorted(runnable_names(), key=len, reverse=True):
        machine_type = dataset.removeprefix(challenge)
        if machine_type not in ("", dataset):
            return challenge, machine_type
    names = ", ".join(runnable_names())
    raise InputError(
        f"--dataset {dataset}: give a challenge ({names}) followed by a machine type, as in DCASE2023T2fan"
    )


# --- reading and checking the file ------------------------------------------------------------------------------------


def _is_whole(value: object, minimum: int, maximum: int = 10**9) -> bool:
    return type(value) is int and minimum <= value <= maximum


def _is_mapping(value: object, is_value: Callable[[object], bool]) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) and is_value(v) for k, v in value.items())


def _is_list(value: object, is_value: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(is_value, value)) and len(set(value)) == len(value)


def _is_match(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _is_sections(value: object) -> bool:
    return _is_list(value, lambda section: _is_whole(section, 0, 99))


def _is_clips(value: object) -> bool:
    groups = {f"{domain} {label}" for domain in ("source", "target") for label in ("normal", "anomaly")}
    return (
        _is_mapping(value, lambda split: _is_mapping(split, lambda n: _is_whole(n, 0)) and split.keys() <= groups)  # type: ignore[attr-defined]
        and value.keys() <= {"train", "test"}  # type: ignore[attr-defined]
    )


CHALLENGE_NAME = r"DCASE\d{4}T\d+"
FILE_NAME = r"[\w-][\w.-]*\.zip"
RULES: dict[str, tuple[Callable[[object], bool], str]] = {  # key: what is allowed
    "channels": (lambda value: _is_whole(value, 1), "a whole number from 1"),
    "official_score": (lambda value: _is_whole(value, 2020, 2022), "2020, 2021 or 2022"),
    "label_list": (_is_match(r"https?://\S+/[\w.-]+\.csv"), "the address of a .csv file"),
    "md5": (
        lambda value: _is_mapping(value, _is_match("[0-9a-fA-F]{32}")),
        "lines `<archive>: <32 hexadecimal digits>`, digits in quotes if there are no letters among them",
    ),
    "machine_types": (lambda value: _is_list(value, _is_match(r"\w[\w.-]*")), "a list of different names"),
    "sections": (_is_sections, "a list of different whole numbers from 0 to 99"),
    "sections_of": (lambda value: _is_mapping(value, _is_sections), "a list of sections for each machine type in it"),
    "record": (lambda value: _is_whole(value, 1), "the number of a record on Zenodo"),
    "file": (
        lambda value: isinstance(value, str) and _is_match(FILE_NAME)(value.replace("{m}", "m", 1)) and "{m}" in value,
        'the name of a .zip file with {m} for the machine type, in quotes: "dev_{m}.zip"',
    ),
    "files": (lambda value: _is_mapping(value, _is_match(FILE_NAME)), "a .zip file for each machine type in it"),
    "clips": (_is_clips, "numbers of clips such as {test: {source normal: 50}}"),
    "clips_of": (lambda value: _is_mapping(value, _is_clips), "numbers of clips for each machine type in it"),
}
ZENODO_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "file": (_is_match(r"https?://\S+\{record\}\S*\{file\}"), "an address with {record} and {file} in it"),
    "record": (_is_match(r"https?://\S+\{record\}"), "an address with {record} in it"),
}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader, which refuses a key that occurs twice instead of using the last."""

    def construct_mapping(self, node, deep=False):
        keys = [getattr(key, "value", None) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: the key {key} occurs twice in one block")
        return super().construct_mapping(node, deep)


@functools.cache
def _read() -> dict:
    """Read the catalogue and check it."""
    try:
        catalogue = yaml.load(CATALOGUE.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"cannot read {CATALOGUE}: {reason}; restore it from the repository") from error
    if not isinstance(catalogue, dict) or "zenodo" not in catalogue:
        raise InputError(f"{CATALOGUE} has no block `zenodo`; restore it from the repository")
    _check_keys(catalogue["zenodo"], ("zenodo",), required=("file", "record"), rules=ZENODO_RULES)
    for name, entry in catalogue.items():
        if name == "zenodo":
            continue
        if not _is_match(CHALLENGE_NAME)(name):
            raise InputError(f"{CATALOGUE}: {name}: a challenge has a name such as DCASE2023T2; rename the block")
        optional = ("official_score", "label_list", "md5", "eval")
        _check_keys(entry, (name,), required=("channels", "dev"), optional=optional)
        for subset, parts in (("dev", ("dev",)), ("eval", ("add", "eval"))):
            if subset in entry:
                _check_subset(entry[subset], (name, subset), parts)
    return catalogue


def _check_subset(block: object, where: tuple[str, ...], parts: tuple[str, ...]) -> None:
    optional = ("sections_of", "clips", "clips_of")
    subset = _check_keys(block, where, required=("machine_types", "sections", "archives"), optional=optional)
    archives = _check_keys(subset["archives"], (*where, "archives"), optional=parts)
    for part, source in archives.items():
        _check_keys(source, (*where, "archives", part), required=("record", "file"), optional=("files",))
    by_machine_type = {key: subset.get(key, {}) for key in ("sections_of", "clips_of")}
    by_machine_type |= {f"archives: {part}: files": source.get("files", {}) for part, source in archives.items()}
    for key, values in by_machine_type.items():
        for machine_type in values.keys() - set(subset["machine_types"]):
            _refuse((*where, key), f"{machine_type} is not one of its machine types", "correct its name")


def _check_keys(
    block: object,
    where: tuple[str, ...],
    required: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
    rules: dict[str, tuple[Callable[[object], bool], str]] = RULES,
) -> dict:
    """Check the keys of a block, and the values that there is a rule for; return the block."""
    keys = ", ".join(required + optional)
    if not isinstance(block, dict):
        _refuse(where, f"{str(block)[:60]!r} is not allowed", f"give a block with the keys {keys}")
    for key in block:
        if key not in required + optional:
            _refuse(where, f"unknown key {str(key)[:60]!r}", f"the keys are {keys}")
    for key in required:
        if key not in block:
            allowed = f"give {rules[key][1]}" if key in rules else "add the block"
            _refuse(where, f"the key '{key}' is missing", allowed)
    for key, value in block.items():
        if key in rules and not rules[key][0](value):
            _refuse((*where, key), f"{str(value)[:60]!r} is not allowed", f"give {rules[key][1]}")
    return block


def _refuse(where: tuple[str, ...], what: str, advice: str) -> NoReturn:
    raise InputError(f"{CATALOGUE}: {': '.join(where)}: {what}; {advice}")
