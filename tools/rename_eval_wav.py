#!/usr/bin/env python3
"""Label the evaluation clips: make test_rename from test and the organisers' list; see datasets/labels.py."""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import PATH, InputError, choice, option_type
from datasets.catalogue import challenge_names, load_challenge
from datasets.clips import MachineFolders
from datasets.labels import label_clips, label_list_path, read_label_list
from tools.runtime.process import command


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
        help="the organisers' list [default: DIR/eval_data_list_<year>.csv]",
    )
    args = parser.parse_args()
    challenge = load_challenge(args.dataset_type, is_eval=True)
    path = args.eval_data_list or label_list_path(challenge.name, args.dataset_parent_dir)
    labels = read_label_list(path, challenge.machine_types)
    folders = {m: MachineFolders(args.dataset_parent_dir, challenge.name, m, True) for m in labels}
    if not any((folder.raw / "test").is_dir() for folder in folders.values()):
        raise InputError(
            f"none of {', '.join(labels)} has a folder like {next(iter(folders.values())).raw / 'test'}; download the "
            "evaluation clips first, or give another --dataset_parent_dir"
        )
    for machine_type, names in labels.items():
        print(label_clips(folders[machine_type], names), flush=True)


if __name__ == "__main__":
    sys.exit(main())
