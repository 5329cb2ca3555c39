#!/usr/bin/env python3
"""Label the evaluation clips: make test_rename from test and the organisers' list; see datasets/labels.py."""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import PATH, InputError, choice, option_type, parse_settings

from datasets.catalogue import challenge_names, load_challenge
from datasets.clips import MachineFolders
from datasets.download import Source, fetch_label_list
from datasets.labels import label_clips, label_list_path, read_label_list
from runtime.command import command


@command
def main() -> None:
    """Label the clips that the command line asks for."""
    parser = argparse.ArgumentParser(description="Make test_rename from test and the label list.", allow_abbrev=False)
    parser.add_argument(
        "--dataset_parent_dir",
        type=option_type(PATH),
        required=True,
        metavar="DIR",
        help="the data set directory, e.g. data",
    )
    kind = option_type(choice(*challenge_names()))
    parser.add_argument("--dataset_type", type=kind, required=True, metavar="CHALLENGE", help="e.g. DCASE2023T2")
    parser.add_argument(
        "--eval_data_list",
        type=option_type(PATH),
        metavar="CSV",
        help="the organisers' list [default: DIR/eval_data_list_<year>.csv, fetched if it is not there]",
    )
    args = parse_settings(parser, names=("mirror",))
    challenge = load_challenge(args.dataset_type, is_eval=True)
    folders = {m: MachineFolders(args.dataset_parent_dir, challenge.name, m, True) for m in challenge.machine_types}
    require_clips(folders)
    path = args.eval_data_list or label_list_path(challenge.name, args.dataset_parent_dir)
    if args.eval_data_list:
        labels = read_label_list(path, challenge.machine_types)
    else:
        labels = fetch_label_list(challenge, path, Source(args.mirror))
    require_clips({machine_type: folders[machine_type] for machine_type in labels})
    for machine_type, names in labels.items():
        print(label_clips(folders[machine_type], names, path), flush=True)


def require_clips(folders: dict[str, MachineFolders]) -> None:
    """Raise InputError if none of the machine types has clips to label."""
    if not any((folder.raw / "test").is_dir() for folder in folders.values()):
        raise InputError(
            f"none of {', '.join(folders)} has a folder like {next(iter(folders.values())).raw / 'test'}; download the "
            "evaluation clips first, or give another --dataset_parent_dir"
        )


if __name__ == "__main__":
    sys.exit(main())
