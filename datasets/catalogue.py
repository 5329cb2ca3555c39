"""catalogue.yaml, read and checked: challenges, their machine types and sections in table order, and archives.

A data set's name is a challenge followed by a machine type: `DCASE2023T2` + `ToyCar`.
"""

import functools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from common import NAME, InputError, did_you_mean
from datasets.archives import Archive
from datasets.clips import MachineFolders, clip_paths, parse_clip

CATALOGUE = Path(__file__).with_name("catalogue.yaml")
OWN = "MINE"  # the challenge of a user's own machines: its machine types are folders
SUBSETS = {False: "dev", True: "eval"}  # keys of a challenge's subsets, by is_eval


@dataclass(frozen=True)
class Challenge:
    """One subset (development or evaluation) of a challenge."""

    name: str
    is_eval: bool
    sections: dict[str, tuple[int, ...]]  # machine type -> its sections, in the tables' order
    channels: int | None  # of every clip; None: as many as a section's first clip has
    # the year whose official score applies: "2020" (arithmetic means of AUC and pAUC), "2021" (AUC
    # and pAUC inside each domain) or "2022" (AUC of each domain's normal and all anomalous clips, and pAUC)
    official_score: str
    label_list: str | None  # address of the list of the evaluation clips' labels
    # machine type -> split -> domain and label -> clips per section, where known
    clips: dict[str, dict[str, dict[str, int]]]

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types in the order of the summary tables' columns."""
        return tuple(self.sections)

    def n_clips(self, machine_type: str, split: str) -> int:
        """Return how many clips the machine type's train or test has; 0 if that is not known."""
        return sum(self.clips[machine_type].get(split, {}).values()) * len(self.sections[machine_type])

    def choose(self, names: list[str]) -> list[str]:
        """Return the given machine types (none: all) as the subset spells them; unknown ones are an error.

        A Mac decomposes the accents in the names of a user's folders.
        """
        spelling = {unicodedata.normalize("NFC", name): name for name in self.sections}
        for name in names:
            if unicodedata.normalize("NFC", name) not in spelling:
                subset, other = ("evaluation", "development") if self.is_eval else ("development", "evaluation")
                there = _read().get(self.name, {}).get(SUBSETS[not self.is_eval], {}).get("machine_types", ())
                advice = f"; {name} is in the {other} set" if name in there else did_you_mean(name, self.sections)
                raise InputError(
                    f"{self.name} has no {subset} machine type '{name}'; it has {', '.join(self.sections)}{advice}"
                )
        return [spelling[unicodedata.normalize("NFC", name)] for name in names] or list(self.sections)


def challenge_names() -> tuple[str, ...]:
    """Return the names of all challenges."""
    return tuple(name for name in _read() if name != "zenodo")


def runnable_names() -> tuple[str, ...]:
    """Return the names of all challenges, and MINE."""
    return (*challenge_names(), OWN)


def has_subset(challenge: str, is_eval: bool) -> bool:
    """Return whether the catalogue has this subset of a challenge yet."""
    return SUBSETS[is_eval] in _read()[challenge]


def load_challenge(name: str, is_eval: bool, dataset_directory: Path | None = None) -> Challenge:
    """Return one subset of a challenge; MINE is read from the data set directory."""
    if name == OWN and dataset_directory is not None:
        return _load_own(dataset_directory, is_eval)
    if name not in challenge_names():
        near = did_you_mean(name, challenge_names())
        raise InputError(f"unknown challenge '{name}'; the catalogue has {', '.join(challenge_names())}{near}")
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
    """Build a challenge from the machines' folders and the sections in their clips' names.

    A folder without clips counts as section 00; reading it then reports what is missing.
    """
    raw = MachineFolders(dataset_directory, OWN, "", is_eval).raw
    found = {}
    for folder in sorted(raw.iterdir()) if raw.is_dir() else ():
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        folders = MachineFolders(dataset_directory, OWN, folder.name, is_eval)
        sections, errors = set(), []
        for path in (*clip_paths(folders.train), *clip_paths(folders.test)):
            try:
                sections.add(parse_clip(path).section)
            except InputError as error:
                errors.append(error)
        if errors and not sections:
            raise errors[0]
        NAME.read(folder.name, f"rename the folder {str(folder)!r}, which becomes a machine type: ")
        found[folder.name] = tuple(sorted(sections)) or (0,)
    if not found:
        raise InputError(
            f"{raw} holds no machine's folder; put clips there, such as MyPump/train/section_00_normal_0001.wav, or "
            "choose another --dataset_directory"
        )
    return Challenge(OWN, is_eval, found, None, official_score="2022", label_list=None, clips={m: {} for m in found})


def list_archives(challenge: str, part: str) -> list[Archive]:
    """List the archives of one part (dev, add or eval) of a challenge, one per machine type, in table order."""
    entry, zenodo = _read()[challenge], _read()["zenodo"]
    subset = entry.get(SUBSETS[part != "dev"], {"archives": {}})
    source = subset["archives"].get(part)
    if source is None:
        return []
    files = {m: source["file"].format(m=m) for m in subset["machine_types"]} | source.get("files", {})
    return [
        Archive(
            url=zenodo["file"].format(record=source["record"], file=file),
            file=file,
            machine_type=machine_type,
            md5=entry.get("md5", {}).get(file),
            api_url=zenodo["record"].format(record=source["record"]),
        )
        for machine_type, file in files.items()
    ]


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

Test = Callable[[Any], bool]


def _whole(minimum: int, maximum: int = 10**9) -> Test:
    return lambda value: type(value) is int and minimum <= value <= maximum


def _mapping(is_value: Test) -> Test:
    return lambda value: isinstance(value, dict) and all(isinstance(k, str) and is_value(v) for k, v in value.items())


def _list(is_value: Test) -> Test:
    return lambda value: (
        isinstance(value, list) and len(value) > 0 and all(map(is_value, value)) and len(set(value)) == len(value)
    )


def _match(pattern: str) -> Test:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _is_clips(value: Any) -> bool:
    groups = {f"{domain} {label}" for domain in ("source", "target") for label in ("normal", "anomaly")}
    of_splits = _mapping(lambda split: _mapping(_whole(0))(split) and split.keys() <= groups)
    return of_splits(value) and value.keys() <= {"train", "test"}


ZIP = _match(r"[\w-][\w.-]*\.zip")
SECTIONS = _list(_whole(0, 99))
# A block's keys, with ? if optional: each is itself a block, or has a test and a description of valid values.
ARCHIVE = {
    "record": (_whole(1), "the number of a record on Zenodo"),
    "file": (
        _match(r"([\w-][\w.-]*)?\{m\}[\w.-]*\.zip"),
        'the name of a .zip file with {m} for the machine type, in quotes: "dev_{m}.zip"',
    ),
    "files?": (_mapping(ZIP), "a .zip file for each of its machine types"),
}
SUBSET = {
    "machine_types": (_list(_match(r"\w[\w.-]*")), "a list of different names"),
    "sections": (SECTIONS, "a list of different whole numbers from 0 to 99"),
    "archives": {},
    "sections_of?": (_mapping(SECTIONS), "a list of sections for each of its machine types"),
    "clips?": (_is_clips, "numbers of clips such as {test: {source normal: 50}}"),
    "clips_of?": (_mapping(_is_clips), "numbers of clips for each of its machine types"),
}
CHALLENGE = {
    "channels": (_whole(1), "a whole number from 1"),
    "dev": {**SUBSET, "archives": {"dev?": ARCHIVE}},
    "official_score?": (_whole(2020, 2022), "2020, 2021 or 2022"),
    "label_list?": (_match(r"https?://\S+/[\w.-]+\.csv"), "the address of a .csv file"),
    "md5?": (
        _mapping(_match("[0-9a-fA-F]{32}")),
        "lines `<archive>: <32 hexadecimal digits>`, in quotes if there is no letter among the digits",
    ),
    "eval?": {**SUBSET, "archives": {"add?": ARCHIVE, "eval?": ARCHIVE}},
}
ZENODO = {
    "file": (_match(r"https?://\S+\{record\}\S*\{file\}"), "an address with {record} and {file} in it"),
    "record": (_match(r"https?://\S+\{record\}"), "an address with {record} in it"),
}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader, except that a repeated key is an error."""

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
    for name, block in catalogue.items():
        if name != "zenodo" and not _match(r"DCASE\d{4}T\d+")(name):
            raise InputError(f"{CATALOGUE}: {name}: a challenge has a name such as DCASE2023T2; rename the block")
        _check(block, ZENODO if name == "zenodo" else CHALLENGE, (name,))
        for subset in {"dev", "eval"} & set(block):
            _check_machine_types(block[subset], (name, subset))
    return catalogue


def _check(value: Any, rule: Any, where: tuple[str, ...]) -> None:
    """Check a value, or the keys and values of a block."""
    if isinstance(rule, tuple):
        is_allowed, allowed = rule
        if not is_allowed(value):
            _refuse(where, f"{str(value)[:60]!r} is not allowed", f"give {allowed}")
        return
    rules = {key.removesuffix("?"): of_key for key, of_key in rule.items()}
    if not isinstance(value, dict):
        _refuse(where, f"{str(value)[:60]!r} is not allowed", f"give a block with the keys {', '.join(rules)}")
    for key in value:
        if key not in rules:
            _refuse(where, f"unknown key {str(key)[:60]!r}", f"the keys are {', '.join(rules)}")
    for key in rule:
        if not key.endswith("?") and key not in value:
            advice = f"give {rule[key][1]}" if isinstance(rule[key], tuple) else "add the block"
            _refuse(where, f"the key '{key}' is missing", advice)
    for key, of_key in value.items():
        _check(of_key, rules[key], (*where, key))


def _check_machine_types(subset: dict, where: tuple[str, ...]) -> None:
    """Check that the subset has each machine type that a key singles out."""
    by_machine_type = {key: subset.get(key, {}) for key in ("sections_of", "clips_of")}
    by_machine_type |= {f"archives: {part}: files": s.get("files", {}) for part, s in subset["archives"].items()}
    for key, values in by_machine_type.items():
        for machine_type in values.keys() - set(subset["machine_types"]):
            _refuse((*where, key), f"{machine_type} is not one of its machine types", "correct its name")


def _refuse(where: tuple[str, ...], what: str, advice: str) -> NoReturn:
    raise InputError(f"{CATALOGUE}: {': '.join(where)}: {what}; {advice}")
