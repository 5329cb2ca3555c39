#!/usr/bin/env python3
"""Get a challenge's recordings: fetch, verify and unpack the archives that the catalogue names, and label the clips.

What the data_download scripts call, and train.py with is_auto_download. What is in place already is left alone.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import run_command
from datasets.archives import fetch_archive
from datasets.catalogue import OWN, Challenge, challenge_names, list_archives, load_challenge
from datasets.clips import MachineFolders, clip_paths
from datasets.download import fetch_file, megabytes
from tools.options import PATH, add_parameters, option_type, read_defaults
from tools.rename_eval_wav import label_clips, link_clips, link_or_copy, read_label_list

PARTS = {"dev": "development data set", "add": "evaluation data set: training clips", "eval": "its test clips"}
HEAD_TIMEOUT = 10  # seconds
DOMAIN_FOLDERS = ("source_test", "target_test")  # of 2021, instead of test


@dataclass(frozen=True)
class Source:
    """Where archives come from: the catalogue's addresses, a mirror with the same paths, or a folder of the user."""

    mirror: str | None = None
    directory: Path | None = None
    is_dry_run: bool = False  # say what would be fetched, and touch nothing

    def address(self, url: str) -> str:
        """Return an address of the catalogue as it is on the mirror."""
        return url if self.mirror is None else self.mirror + urlsplit(url).path


def remote_size(url: str) -> str:
    """Return the size that the server names for a file, as a text, or `size unknown`."""
    import requests

    try:
        answer = requests.head(url, allow_redirects=True, timeout=HEAD_TIMEOUT)
        return megabytes(int(answer.headers["Content-Length"])) if answer.ok else "size unknown"
    except (requests.RequestException, KeyError, ValueError):
        return "size unknown"


def download(challenge: str, part: str, machine_types: list[str], dataset_directory: Path, source: Source) -> None:
    """Put one part of a challenge's recordings in place.

    Parameters
    ----------
    part
        dev, add or eval, see PARTS; eval ends by labelling test into test_rename, where there is a list of labels.
    machine_types
        Which ones; none: all of the challenge.
    source
        Where the archives and the list of labels come from.

    Raises
    ------
    InputError
        A machine type is not one of the challenge's, or something cannot be fetched, verified or written.
    """
    split = load_challenge(challenge, is_eval=part != "dev")
    split.check_machine_types(machine_types)
    names = machine_types or list(split.machine_types)
    for archive in list_archives(challenge, part):
        if archive.machine_type in names:
            archive = replace(archive, url=source.address(archive.url), api_url=source.address(archive.api_url))
            folders = MachineFolders(dataset_directory, challenge, archive.machine_type, split.is_eval)
            if source.is_dry_run:
                print(f"{archive.url} ({remote_size(archive.url)}) -> {folders.raw}", flush=True)
                continue
            print(fetch_archive(archive, folders.raw.parent, source.directory), flush=True)
            _merge_domains(folders)
    if part == "eval" and split.label_list is not None:
        _label(split, names, dataset_directory, source)


def download_for_run(folders: MachineFolders, training: bool, testing: bool, mirror: str | None) -> None:
    """Put in place what a run on a machine type needs and has no clips of.

    Raises
    ------
    InputError
        As download does.
    """
    if folders.challenge == OWN:  # what is missing there is said by whoever reads it
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
        download(folders.challenge, part, [folders.machine_type], folders.dataset_directory, Source(mirror))


def _merge_domains(folders: MachineFolders) -> None:
    """Link the clips of source_test and target_test together into test, as the reference copies them."""
    n_new = 0
    for name in DOMAIN_FOLDERS:
        clips = {path.name: path.name for path in clip_paths(folders.raw / name)}
        n_new += link_clips(folders.raw / name, folders.raw / "test", clips)
    if n_new:
        print(f"{folders.machine_type}: {n_new} clips of {' and '.join(DOMAIN_FOLDERS)} merged into test", flush=True)


def _label(split: Challenge, names: list[str], dataset_directory: Path, source: Source) -> None:
    """Get the list of labels and make test_rename of each machine type."""
    path = dataset_directory / split.label_list.rpartition("/")[2]
    address = source.address(split.label_list)
    if source.is_dry_run:
        print(f"{address} ({remote_size(address)}) -> {path}", flush=True)
        return
    if not path.is_file():
        if source.directory is None:
            fetch_file(address, path)
        elif (source.directory / path.name).is_file():
            link_or_copy(source.directory / path.name, path)
        else:
            print(f"{source.directory} holds no {path.name}: the clips stay unlabelled", flush=True)
            return
    for machine_type, labels in read_label_list(path, split.machine_types).items():
        if machine_type in names:
            folders = MachineFolders(dataset_directory, split.name, machine_type, True)
            print(label_clips(folders, labels), flush=True)


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(download_parts)


def download_parts() -> None:
    """Fetch what the command line names."""
    parser = argparse.ArgumentParser(
        prog="data_download.sh",
        description="Fetch a challenge's recordings, verify them, and unpack them to the data set directory.",
        epilog="data_download_<year>*.sh name CHALLENGE (and the part, for 2023) themselves.",
        allow_abbrev=False,
    )
    names = ", ".join(challenge_names())
    parser.add_argument("challenge", choices=challenge_names(), metavar="CHALLENGE", help=f"one of {names}")
    text = "; ".join(f"{part}: {meaning}" for part, meaning in PARTS.items())
    parser.add_argument("part", choices=(*PARTS, "all"), help=f"{text}; all: the three")
    parser.add_argument("machine_types", nargs="*", metavar="MACHINE_TYPE", help="which ones [default: all]")
    add_parameters(parser, read_defaults(), ("dataset_directory", "mirror"))
    parser.add_argument(
        "--from_directory", type=option_type(PATH), metavar="DIR", help="take the archives from here, fetch nothing"
    )
    parser.add_argument("--dry_run", action="store_true", help="print the addresses, sizes and targets, fetch nothing")
    args = parser.parse_intermixed_args()
    source = Source(args.mirror, args.from_directory, args.dry_run)
    for part in PARTS if args.part == "all" else (args.part,):
        wanted = args.machine_types
        if args.part == "all" and wanted:  # development and evaluation have other machine types
            wanted = [m for m in wanted if m in load_challenge(args.challenge, part != "dev").machine_types]
            if not wanted:
                continue
        download(args.challenge, part, wanted, args.dataset_directory, source)


if __name__ == "__main__":
    sys.exit(main())
