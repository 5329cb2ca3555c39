#!/usr/bin/env python3
"""Download a challenge's recordings; see datasets/download.py."""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import PATH, choice, option_type, parse_settings

from datasets.catalogue import challenge_names, has_subset, load_challenge
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
    names = challenge_names()
    parser.add_argument("challenge", type=option_type(choice(*names)), metavar="CHALLENGE", help=", ".join(names))
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
    wanted = list(settings.wanted)
    part = wanted.pop(0) if wanted[:1] and wanted[0] in (*PARTS, "all") else "all"
    if part != "all":
        fetch_part(settings.challenge, part, wanted, settings.dataset_directory, source)
        return
    parts = [name for name in PARTS if has_subset(settings.challenge, is_eval=name != "dev")]
    of_part = {name: load_challenge(settings.challenge, name != "dev").machine_types for name in parts}
    known = list(dict.fromkeys(machine_type for machine_types in of_part.values() for machine_type in machine_types))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        parser.error(
            f"{unknown[0]!r} is neither a part (dev, add, eval, all) nor a machine type of {settings.challenge} "
            f"({', '.join(known)})"
        )
    for name in parts:
        chosen = [machine_type for machine_type in wanted if machine_type in of_part[name]]
        if chosen or not wanted:
            fetch_part(settings.challenge, name, chosen, settings.dataset_directory, source)


if __name__ == "__main__":
    sys.exit(main())
