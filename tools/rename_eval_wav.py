#!/usr/bin/env python3
"""Label the evaluation clips: make test_rename from test and the organisers' list of labelled names.

The list is a CSV: a line with a machine type alone opens its block, each line after it is
`<name in test>,<labelled name>` (2020 has a third column, which says nothing new). Clips are hard-linked where the file
system can, else copied. Doing it again adds what is missing and changes nothing else.
"""

import argparse
import csv
import filecmp
import os
import shutil
import sys
import tempfile
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import InputError, atomic_write, run_command
from datasets.catalogue import challenge_names, load_challenge
from datasets.clips import MachineFolders, clip_paths, parse_clip


def label_list_path(challenge: str, dataset_directory: Path) -> Path:
    """Return where the organisers' list of the evaluation clips' labels is, unless it is given."""
    return dataset_directory / f"eval_data_list_{challenge.removeprefix('DCASE')[:4]}.csv"


def read_label_list(path: Path, machine_types: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Read a list: machine type -> name in test -> labelled name.

    Raises
    ------
    InputError
        The file is missing or is no such list, or names a clip twice or outside its folder.
    """
    labels: dict[str, dict[str, str]] = {}
    block = None
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), 1):
                cells = [cell.strip() for cell in row if cell.strip()]
                if len(cells) == 1 and cells[0] in machine_types:
                    block = labels.setdefault(cells[0], {})
                elif len(cells) >= 2 and block is not None:
                    _add_label(block, cells[0], cells[1], f"{path}, line {number}")
                elif cells:
                    raise InputError(
                        f"{path}, line {number}: {','.join(cells)[:80]!r} is neither one of the machine types "
                        f"{', '.join(machine_types)} nor a pair of names after one; is it the list of this challenge?"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot read the label list {path} ({reason}); give the organisers' list with --eval_data_list"
        ) from error
    if not labels:
        raise InputError(f"{path} is empty; give the organisers' list with --eval_data_list")
    return labels


def label_clips(folders: MachineFolders, names: dict[str, str]) -> str:
    """Make the machine type's test_rename from its test folder; return what was done, in a line.

    Raises
    ------
    InputError
        As link_clips does.
    """
    test, renamed = folders.raw / "test", folders.raw / "test_rename"
    if not test.is_dir():
        return f"{folders.machine_type}: there is no folder {test}, passed over"
    clips = {path.name for path in clip_paths(test)}
    known = {name: label for name, label in names.items() if name in clips}
    n_new = link_clips(test, renamed, known)
    done = f"{folders.machine_type}: {n_new} clips labelled, {len(known) - n_new} were there already"
    problems = (("in the list without a clip", set(names) - clips), ("not in the list", clips - set(names)))
    for what, which in problems:
        if which:
            done += f"; {len(which)} {what}: {', '.join(sorted(which)[:5])}{', ...' if len(which) > 5 else ''}"
    return done


def link_clips(source: Path, target: Path, names: dict[str, str]) -> int:
    """Link clips of one folder into another under new names; return how many were not there with that content.

    They are gathered in a temporary folder, which becomes `target` or whose clips are then moved there.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    wanted = {name: new for name, new in names.items() if not _same_content(source / name, target / new)}
    if not wanted:
        return 0
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            staged = Path(temporary, target.name)
            staged.mkdir()
            for name, new in wanted.items():
                link_or_copy(source / name, staged / new)
            if not target.exists():
                staged.rename(target)
            else:
                for new in wanted.values():
                    (staged / new).replace(target / new)
    except OSError as error:
        raise InputError(f"cannot write {target} ({error.strerror or error}); no clip was left half-made") from error
    return len(wanted)


def _same_content(clip: Path, other: Path) -> bool:
    """Tell whether a clip is there under its other name: a link to it, or a file with the same bytes."""
    return other.exists() and (clip.samefile(other) or filecmp.cmp(clip, other, shallow=False))


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where the file system has no links; the target is never half there."""
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        with source.open("rb") as content, atomic_write(target, "wb") as file:
            shutil.copyfileobj(content, file)


def _add_label(block: dict[str, str], name: str, label: str, where: str) -> None:
    for text in (name, label):
        if Path(text).name != text:
            raise InputError(f"{where}: {text!r} is not a file name; get the list anew")
        try:
            parse_clip(Path(text))
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
    if name in block or label in block.values():
        raise InputError(f"{where}: {name} or {label} stands in the list before; get the list anew")
    block[name] = label


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(rename)


def rename() -> None:
    """Label the clips that the command line names."""
    parser = argparse.ArgumentParser(description="Make test_rename from test and the label list.", allow_abbrev=False)
    parser.add_argument(
        "--dataset_parent_dir", type=Path, required=True, metavar="DIR", help="the data set directory, e.g. data"
    )
    parser.add_argument("--dataset_type", choices=challenge_names(), required=True, help="the challenge")
    parser.add_argument(
        "--eval_data_list",
        type=Path,
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
            f"none of {', '.join(labels)} has a folder like {next(iter(folders.values())).raw / 'test'}; "
            "put the evaluation clips there or check --dataset_parent_dir"
        )
    for machine_type, names in labels.items():
        print(label_clips(folders[machine_type], names), flush=True)


if __name__ == "__main__":
    sys.exit(main())
