"""Downloads of a challenge's recordings: archives fetched, verified and unpacked, evaluation clips labelled.

Called by the data_download scripts, and by train.py with is_auto_download. Recordings that are in place are left alone.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from common import InputError
from datasets.archives import fetch_archive
from datasets.catalogue import OWN, Challenge, list_archives, load_challenge
from datasets.clips import MachineFolders, clip_paths
from datasets.download import fetch_file, remote_size
from datasets.labels import (
    LabelList,
    label_clips,
    label_list_path,
    link_clips,
    link_or_copy,
    missing_labels,
    parse_label_list,
    read_label_list,
)

PARTS = {"dev": "development set", "add": "evaluation set: training clips", "eval": "evaluation set: test clips"}
DOMAIN_FOLDERS = ("source_test", "target_test")  # in 2021, instead of test


@dataclass(frozen=True)
class Source:
    """Where archives and labels come from: the catalogue's addresses, a mirror of these, or the user's folder."""

    mirror: str | None = None
    directory: Path | None = None
    is_dry_run: bool = False  # print what would be fetched, and write nothing

    def address(self, url: str) -> str:
        """Return a catalogue's address, on the mirror if there is one."""
        return url if self.mirror is None else self.mirror + urlsplit(url).path


def fetch_part(challenge: str, part: str, machine_types: list[str], dataset_directory: Path, source: Source) -> None:
    """Download one part of a challenge's recordings.

    Parameters
    ----------
    part
        dev, add or eval, see PARTS; eval also labels test into test_rename, if there is a label list.
    machine_types
        To include; none: all of the challenge.
    """
    subset = load_challenge(challenge, is_eval=part != "dev")
    names = subset.choose(machine_types)
    for archive in list_archives(challenge, part):
        if archive.machine_type in names:
            archive = replace(archive, url=source.address(archive.url), api_url=source.address(archive.api_url or ""))
            folders = MachineFolders(dataset_directory, challenge, archive.machine_type, subset.is_eval)
            if source.is_dry_run:
                print(f"{archive.url} ({remote_size(archive.url)}) -> {folders.raw}", flush=True)
                continue
            print(fetch_archive(archive, folders.raw.parent, source.directory), flush=True)
            _merge_domains(folders)
    if part == "eval" and subset.label_list is not None:
        _label(subset, names, dataset_directory, source)


def download_for_run(folders: MachineFolders, training: bool, testing: bool, mirror: str | None) -> None:
    """Download those parts a run on a machine type needs that have no clips yet."""
    if folders.challenge == OWN:  # reading them reports what is missing
        return
    missing = [
        part
        for part, needed, folder in (
            ("add" if folders.is_eval else "dev", training, folders.train),
            ("eval" if folders.is_eval else "dev", testing, folders.test),
        )
        if needed and not clip_paths(folder)
    ]
    for part in dict.fromkeys(missing):
        fetch_part(folders.challenge, part, [folders.machine_type], folders.dataset_directory, Source(mirror))


def _merge_domains(folders: MachineFolders) -> None:
    """Link the clips of source_test and target_test together into test, as the reference copies them."""
    n_new = 0
    for name in DOMAIN_FOLDERS:
        clips = {path.name: path.name for path in clip_paths(folders.raw / name)}
        n_new += link_clips(folders.raw / name, folders.raw / "test", clips)
    if n_new:
        print(f"{folders.machine_type}: {n_new} clips of {' and '.join(DOMAIN_FOLDERS)} merged into test", flush=True)


def _label(subset: Challenge, names: list[str], dataset_directory: Path, source: Source) -> None:
    """Get the label list and make each machine type's test_rename."""
    assert subset.label_list is not None
    path = label_list_path(subset.name, dataset_directory)
    address = source.address(subset.label_list)
    if source.is_dry_run:
        print(f"{address} ({remote_size(address)}) -> {path}", flush=True)
        return
    folders = {name: MachineFolders(dataset_directory, subset.name, name, True) for name in names}
    if source.directory is not None:
        if not path.is_file():
            if not (source.directory / path.name).is_file():
                print(f"{source.directory} holds no {path.name}: the clips stay unlabelled", flush=True)
                return
            read_label_list(source.directory / path.name, subset.machine_types)
            link_or_copy(source.directory / path.name, path)
        labels = read_label_list(path, subset.machine_types)
    else:
        labels = fetch_label_list(subset, folders, path, source)
    for name in names:
        if name in labels:
            print(label_clips(folders[name], labels[name]), flush=True)


def fetch_label_list(subset: Challenge, folders: dict[str, MachineFolders], path: Path, source: Source) -> LabelList:
    """Return the label list at `path`, fetched if it lacks labels of the clips, and replaced only by a complete one."""
    if subset.label_list is None:
        raise InputError(f"the catalogue has no label list of {subset.name}; give one with --eval_data_list")
    address = source.address(subset.label_list)
    clips = {name: {clip.name for clip in clip_paths(folder.raw / "test")} for name, folder in folders.items()}
    if path.is_file():
        try:
            labels = read_label_list(path, subset.machine_types)
            problem = missing_labels(labels, subset, clips)
        except InputError as error:
            problem = str(error)
        if problem is None:
            return labels
        print(f"{path} is incomplete and is fetched again: {problem}", flush=True)

    def check(content: bytes) -> None:
        fetched = parse_label_list(content, address, subset.machine_types)
        lack = missing_labels(fetched, subset, clips)
        if lack is not None:
            raise InputError(
                f"{address} cannot be used: {lack}; run again later, check the address in datasets/catalogue.yaml, and "
                "move away clips that are not the challenge's"
            )

    fetch_file(address, path, check)
    return read_label_list(path, subset.machine_types)
