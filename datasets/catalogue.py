"""catalogue.yaml: challenges, their machine types and sections in table order, and archives.

A data set's name is a challenge followed by a machine type: `DCASE2023T2` + `ToyCar`.
"""

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path

from common import NAME, InputError, did_you_mean

import yaml

from datasets.clips import MachineFolders, clip_paths, parse_clip

CATALOGUE = Path(__file__).with_name("catalogue.yaml")
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "lost+found")  # of macOS, Synology and Linux, beside a user's machines
OWN = "MINE"  # the challenge of a user's own machines: its machine types are folders
SUBSETS = {False: "dev", True: "eval"}  # keys of a challenge's subsets, by is_eval


@dataclass(frozen=True)
class Challenge:
    """One subset (development or evaluation) of a challenge."""

    name: str
    is_eval: bool
    sections: dict[str, tuple[int, ...]]  # machine type -> its sections, in the tables' order
    channels: int | None  # of every clip; by default those of a section's first clip
    # the year whose official score applies: "2020" (arithmetic means of AUC and pAUC), "2021" (AUC
    # and pAUC inside each domain) or "2022" (AUC of each domain's normal and all anomalous clips, and pAUC)
    official_score: str
    label_list: str | None  # address of the list of the evaluation clips' labels
    # machine type -> split -> domain and label, or "all" -> clips per section, where known
    clips: dict[str, dict[str, dict[str, int]]]

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types in the order of the summary tables' columns."""
        return tuple(self.sections)

    def n_clips(self, machine_type: str, split: str) -> int:
        """Count the clips of a machine type's train or test; 0 if unknown."""
        return sum(self.clips[machine_type].get(split, {}).values()) * len(self.sections[machine_type])

    def choose(self, names: list[str]) -> list[str]:
        """Check the given machine types, by default all."""
        for name in names:
            if name not in self.sections:
                near = "; several seeds are given as --seeds" if name.isdigit() else did_you_mean(name, self.sections)
                near = "; repeat --extension for each file" if name.endswith(".py") else near
                with contextlib.suppress(InputError):
                    if name in load_challenge(self.name, not self.is_eval).sections:
                        near = f"; {name} is in the {_subset(not self.is_eval)} set ({'-d' if self.is_eval else '-e'})"
                raise InputError(
                    f"{self.name} has no {_subset(self.is_eval)} machine type '{name}'; it has "
                    f"{', '.join(self.sections)}{near}"
                )
        return names or list(self.sections)

    def section_keys(self, machine_types: list[str] | None = None) -> list[tuple[str, int]]:
        """Return the given machine types, by default all, with each of their sections."""
        return [(name, section) for name in self.choose(machine_types or []) for section in self.sections[name]]


@dataclass(frozen=True)
class Archive:
    """A zip file of one machine type's clips; `api_url` is its record in Zenodo's API."""

    machine_type: str
    file: str
    url: str
    api_url: str
    md5: str | None  # None if the catalogue has none


def challenge_names() -> tuple[str, ...]:
    """List the names of all challenges."""
    return tuple(name for name in _read() if name != "zenodo")


def runnable_names() -> tuple[str, ...]:
    """List the names of all challenges, and MINE."""
    return (*challenge_names(), OWN)


def load_challenge(name: str, is_eval: bool, dataset_directory: Path | None = None) -> Challenge:
    """Return one subset of a challenge; MINE is read from the data set directory."""
    if name == OWN and dataset_directory is not None:
        return _load_own(dataset_directory, is_eval)
    if name not in challenge_names():
        near = did_you_mean(name, challenge_names())
        raise InputError(f"unknown challenge '{name}'; the catalogue has {', '.join(challenge_names())}{near}")
    entry = _read()[name]
    if SUBSETS[is_eval] not in entry:
        raise InputError(
            f"{name} has no {_subset(is_eval)} data set yet; add the block `{SUBSETS[is_eval]}` to {CATALOGUE} when it "
            "is published"
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


def _subset(is_eval: bool) -> str:
    return "evaluation" if is_eval else "development"


def _load_own(dataset_directory: Path, is_eval: bool) -> Challenge:
    """Build a challenge from the machines' folders and the sections in their clips' names.

    A folder without clips counts as section 00; reading it then reports what is missing.
    """
    raw = MachineFolders(dataset_directory, OWN, "", is_eval).raw
    found = {}
    for folder in sorted(raw.iterdir()) if raw.is_dir() else ():
        if not folder.is_dir() or folder.name.startswith(".") or folder.name in SYSTEM_FOLDERS:
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
    return Challenge(OWN, is_eval, found, None, official_score="own", label_list=None, clips={m: {} for m in found})


def list_archives(challenge: str, part: str) -> list[Archive]:
    """List the archives of one part (dev, add or eval) of a challenge, one per machine type, in table order."""
    entry, zenodo = _read()[challenge], _read()["zenodo"]
    subset = entry.get(SUBSETS[part != "dev"])
    if subset is None or part not in subset["archives"]:
        return []
    source = subset["archives"][part]
    record, further = source["record"], source.get("files", {})
    files = {m: further.get(m, source["file"].format(m=m)) for m in subset["machine_types"]}
    api_url = zenodo["record"].format(record=record)
    return [
        Archive(m, file, zenodo["file"].format(record=record, file=file), api_url, entry.get("md5", {}).get(file))
        for m, file in files.items()
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


@functools.cache
def _read() -> dict:
    """Read the catalogue; tests/test_catalogue.py checks it."""
    return yaml.load(CATALOGUE.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
