"""The challenges: which machine types and sections they have, in which order (catalogue.yaml is the list).

A data set's name is a challenge followed by a machine type: `DCASE2023T2` + `ToyCar`.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

from common import InputError
from datasets.archives import Archive
from datasets.clips import MachineFolders, clip_paths, parse_clip

CATALOGUE = Path(__file__).with_name("catalogue.yaml")
OWN = "MINE"  # the challenge of a user's own machines: what there is of it is what its folders hold


@dataclass(frozen=True)
class Challenge:
    """One split (development or evaluation) of a challenge: machine type -> its sections, in the tables' order."""

    name: str
    is_eval: bool
    sections: dict[str, tuple[int, ...]]
    channels: int | None  # of every clip; None: as many as a section's first clip has
    label_list: str | None  # address of the list of the evaluation clips' labels
    clips: dict[str, dict[str, dict[str, int]]]  # machine type -> split -> domain and label -> clips of a section

    @property
    def machine_types(self) -> tuple[str, ...]:
        """Return the machine types in the order of the summary tables' columns."""
        return tuple(self.sections)

    def check_machine_types(self, names: list[str]) -> None:
        """Raise InputError where a name is not one of this split's machine types."""
        for name in names:
            if name not in self.sections:
                split = "evaluation" if self.is_eval else "development"
                allowed = ", ".join(self.sections)
                raise InputError(f"{self.name} has no {split} machine type '{name}'; it has {allowed}")


def challenge_names() -> tuple[str, ...]:
    """Return the names of all challenges."""
    return tuple(name for name in _read() if name != "zenodo")


def runnable_names() -> tuple[str, ...]:
    """Return the names of all challenges, and of the user's own machines."""
    return (*challenge_names(), OWN)


def load_challenge(name: str, is_eval: bool, dataset_directory: Path | None = None) -> Challenge:
    """Load one split of a challenge; of the user's own machines, look into the data set directory.

    Raises
    ------
    InputError
        There is no challenge of that name, or no machine of the user's, or a clip's name is none.
    """
    if name == OWN and dataset_directory is not None:
        return _load_own(dataset_directory, is_eval)
    if name not in challenge_names():
        raise InputError(f"unknown challenge '{name}'; the catalogue has {', '.join(challenge_names())}")
    entry = _read()[name]
    split = entry["eval" if is_eval else "dev"]
    sections, clips = split.get("sections_of", {}), split.get("clips_of", {})
    return Challenge(
        name,
        is_eval,
        sections={m: tuple(sections.get(m, split["sections"])) for m in split["machine_types"]},
        channels=entry["channels"],
        label_list=entry.get("label_list"),
        clips={m: clips.get(m, split.get("clips", {})) for m in split["machine_types"]},
    )


def _load_own(dataset_directory: Path, is_eval: bool) -> Challenge:
    """Make a challenge of the folders that hold clips, with the sections that the clips' names say."""
    raw = MachineFolders(dataset_directory, OWN, "", is_eval).raw
    found = {}
    for folder in sorted(raw.iterdir()) if raw.is_dir() else ():
        folders = MachineFolders(dataset_directory, OWN, folder.name, is_eval)
        clips = [parse_clip(path) for split in (folders.train, folders.test) for path in clip_paths(split)]
        if clips:
            found[folder.name] = tuple(sorted({clip.section for clip in clips}))
    if not found:
        raise InputError(
            f"{raw} holds no machine of yours; put clips there, such as MyPump/train/section_00_normal_0001.wav, or "
            "name another --dataset_directory"
        )
    return Challenge(OWN, is_eval, found, channels=None, label_list=None, clips={name: {} for name in found})


def list_archives(challenge: str, part: str) -> list[Archive]:
    """List the archives of one part (dev, add or eval) of a challenge, a machine type each, in the tables' order."""
    catalogue = _read()
    entry = catalogue[challenge]
    split = entry["dev" if part == "dev" else "eval"]
    source = split["archives"].get(part)
    if source is None:
        return []
    archives = []
    for machine_type in split["machine_types"]:
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
    """Split a data set's name into challenge and machine type: DCASE2023T2ToyCar -> DCASE2023T2, ToyCar.

    Raises
    ------
    InputError
        The name does not begin with a challenge of the catalogue, or ends there.
    """
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
    return yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))
