"""The clips of a data set: their folders, and the only parser of their names.

Names, by year (the attributes after the number are free):
    2021 on     section_00_source_train_normal_0003_spd_28.wav
    2020        normal_id_01_00000003.wav
    unlabelled  section_00_0003.wav, section_03_source_test_0003.wav (2021), id_01_00000003.wav (2020)
"""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from common import InputError

from runtime.wording import counted

SECTION_NAME = re.compile(
    r"section_(?P<section>\d\d)(_(?P<domain>source|target))?(_(train|test))?(_(?P<label>normal|anomaly))?_\d+"
    r"(_(?P<attributes>.*))?(?i:\.wav)",
    re.DOTALL | re.ASCII,
)
ID_NAME = re.compile(
    r"((?P<label>normal|anomaly)_)?id_(?P<section>\d\d)_\d+(_(?P<attributes>.*))?(?i:\.wav)", re.DOTALL | re.ASCII
)


@dataclass(frozen=True)
class Clip:
    """One recording. `domain` and `label` are None if the name has none; `attributes`: spd_28V_mic_1."""

    path: Path
    section: int
    domain: str | None  # source or target
    label: str | None  # normal or anomaly
    attributes: str = ""

    @property
    def name(self) -> str:
        """The file's name, which stands for the clip in score files."""
        return self.path.name

    @property
    def machine_type(self) -> str:
        """The name of the folder that holds the clip's split, `fan` for fan/train."""
        return self.path.parent.parent.name

    @property
    def is_target(self) -> bool:
        """Whether the clip is from the target domain; a clip without a domain counts as source, as in the reference."""
        return self.domain == "target"


@dataclass(frozen=True)
class MachineFolders:
    """The folders of one machine type's clips and features, below the data set directory."""

    dataset_directory: Path
    challenge: str
    machine_type: str
    is_eval: bool

    def _folder(self, root: Path, kind: str) -> Path:
        return root / self.challenge.lower() / ("eval_data" if self.is_eval else "dev_data") / kind / self.machine_type

    @property
    def raw(self) -> Path:
        """The folder that holds train, test and test_rename."""
        return self._folder(self.dataset_directory, "raw")

    @property
    def train(self) -> Path:
        """The folder of the training clips."""
        return self.raw / "train"

    @property
    def test(self) -> Path:
        """The folder of the test clips: in evaluation mode the labelled test_rename, if it exists."""
        renamed = self.raw / "test_rename"
        return renamed if self.is_eval and renamed.is_dir() else self.raw / "test"

    def processed(self, cache_directory: Path | None) -> Path:
        """Return the folder of the features: beside the clips, or below `cache_directory`."""
        return self._folder(cache_directory or self.dataset_directory, "processed")


def parse_clip(path: Path) -> Clip:
    """Read a clip's section, domain and label from its name, which has one of the forms in the module docstring."""
    if not path.name.isprintable():  # it would split a score file's line, or deceive a terminal
        raise InputError(
            f"{str(path)!r} has a name with characters that cannot be printed, such as a line break; rename the file"
        )
    match = SECTION_NAME.fullmatch(path.name) or ID_NAME.fullmatch(path.name)
    if match is None:
        raise InputError(
            f"{str(path)!r} is not a valid clip name, such as section_00_source_train_normal_0003_spd_28.wav or "
            "section_00_0003.wav; rename the file or move it away"
        )
    facts = match.groupdict()
    attributes = (facts["attributes"] or "").removeprefix("noAttributes")
    return Clip(path, int(facts["section"]), facts.get("domain"), facts["label"], attributes)


def clip_paths(folder: Path) -> list[Path]:
    """List the .wav files of a folder in path order, without hidden ones; none if there is no folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if path.suffix.lower() == ".wav" and not path.name.startswith("."))


def other_files(folder: Path) -> str:
    """Return how many files and folders beside the clips a folder holds, without hidden ones: `1 .flac file`."""
    others = {path for path in folder.iterdir() if not path.name.startswith(".")} - set(clip_paths(folder))
    kinds = Counter("folder" if path.is_dir() else f"{path.suffix or 'other'} file" for path in others)
    return ", ".join(counted(n, kind) for kind, n in sorted(kinds.items()))


def list_clips(folder: Path, sections: list[int] | None = None) -> dict[int, list[Clip]]:
    """List the clips of a folder by section: the normal ones in path order, then the anomalous ones (reference).

    Parameters
    ----------
    folder
        A folder of .wav files; hidden files are skipped.
    sections
        Sections to list, in this order; by default all.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; put the clips there or choose another --dataset_directory")
    clips = [parse_clip(path) for path in clip_paths(folder)]
    for path in (clip.path for clip in clips if not clip.path.exists()):
        raise InputError(f"{path} is a link to {path.readlink()}, which does not exist; remove or correct the link")
    present = sorted({clip.section for clip in clips})
    if not clips:
        others = other_files(folder)
        only = f", only {others}" if others else ""
        advice = (
            "rename the .flac files to .wav to have them read" if ".flac" in others.lower() else "put the clips there"
        )
        raise InputError(f"{folder} holds no .wav files{only}; {advice}")
    for section in sections or ():
        if section not in present:
            names = ", ".join(f"{s:02d}" for s in present)
            raise InputError(f"{folder} holds no clips of section {section:02d}, only of {names}; check --use_ids")
    labels = ("normal", None, "anomaly")
    return {
        section: sorted((clip for clip in clips if clip.section == section), key=lambda clip: labels.index(clip.label))
        for section in sections or present
    }


def manifest(clips: list[Clip]) -> str:
    """Return the SHA-256 of the clips' names and sizes in bytes, in their order."""
    lines = (f"{clip.path.stat().st_size} {clip.name}\0" for clip in clips)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def check_training_clips(clips: list[Clip]) -> None:
    """Raise InputError if a training clip is labelled anomaly: the baseline learns normal sound only."""
    anomalous = [clip.path for clip in clips if clip.label == "anomaly"]
    if anomalous:
        raise InputError(
            f"{anomalous[0].parent} holds {counted(len(anomalous), 'clip')} labelled anomaly, first "
            f"{anomalous[0].name}; training takes normal clips only, move the others away"
        )
