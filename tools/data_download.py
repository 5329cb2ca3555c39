#!/usr/bin/env python3
"""Download a challenge's recordings; see datasets/download.py."""

import argparse
import itertools
import sys
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import PATH, choice, option_type, parse_settings

from datasets.catalogue import challenge_names, list_archives, load_challenge
from datasets.download import PARTS, Source, fetch_part
from runtime.command import command


@command
def main() -> None:
    """Fetch what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="data_download.sh",
        usage="%(prog)s CHALLENGE [dev|add|eval|all] [MACHINE_TYPE ...] [options]",
        description="Fetch a challenge's recordings, verify them, and unpack them to the data set directory.",
        epilog="data_download_<year>*.sh give CHALLENGE (and the part, for 2023) themselves.",
        allow_abbrev=False,
    )
    challenges = challenge_names()
    kind = option_type(choice(*challenges))
    parser.add_argument("challenge", type=kind, metavar="CHALLENGE", help=", ".join(challenges))
    text = "; ".join(f"{part}: {meaning}" for part, meaning in PARTS.items())
    parser.add_argument(
        "wanted",
        nargs="*",
        default=[],
        metavar="dev|add|eval|all MACHINE_TYPE",
        help=f"{text}; all: the three [default: all]; then machine types to include [default: all]",
    )
    parser.add_argument(
        "--from_directory", type=option_type(PATH), metavar="DIR", help="take the archives from here, fetch nothing"
    )
    parser.add_argument("--dry_run", action="store_true", help="print addresses, sizes and targets, fetch nothing")
    settings = parse_settings(parser, names=("dataset_directory", "mirror"))
    source = Source(settings.mirror, settings.from_directory, settings.dry_run)
    part, *machine_types = settings.wanted or ["all"]
    if part not in (*PARTS, "all"):
        part, machine_types = "all", settings.wanted
    parts = [part] if part != "all" else [part for part in PARTS if list_archives(settings.challenge, part)]
    of_part = {part: load_challenge(settings.challenge, is_eval=part != "dev").machine_types for part in parts}
    names = list(dict.fromkeys(itertools.chain(*of_part.values())))
    for name in machine_types:
        if name not in names:
            parser.error(
                f"{name!r} is neither a part (dev, add, eval, all) nor a machine type of {settings.challenge} "
                f"({', '.join(names)})"
            )
    for part, of_one in of_part.items():
        chosen = [name for name in of_one if name in (machine_types or names)]
        if chosen:
            fetch_part(settings.challenge, part, chosen, settings.dataset_directory, source)


if __name__ == "__main__":
    sys.exit(main())
