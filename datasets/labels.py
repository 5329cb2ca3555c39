"""Labels of evaluation clips: the organisers' lists of labelled names, and test_rename, made from test with them.

A list is a CSV: a line with only a machine type opens its block, each line after it is
`<name in test>,<labelled name>` (2020 has a third column, which is redundant). Clips are hard-linked where the file
system allows it, else copied. Labelling again adds missing clips and replaces changed ones.
"""

import csv
import filecmp
import os
import shutil
import tempfile
from pathlib import Path

from common import InputError

from datasets.archives import move_files
from datasets.clips import MachineFolders, clip_paths, parse_clip
from runtime.files import writing
from runtime.wording import counted, listed

LabelList = dict[str, dict[str, str]]  # machine type -> name in test -> labelled name


def label_list_path(challenge: str, dataset_directory: Path) -> Path:
    """Name the file of the organisers' list of the evaluation clips' labels."""
    return dataset_directory / f"eval_data_list_{challenge.removeprefix('DCASE')[:4]}.csv"


def read_label_list(path: Path, machine_types: tuple[str, ...]) -> LabelList:
    """Read and check a label list: machine type -> name in test -> labelled name."""
    with writing(path, "give the organisers' list with --eval_data_list", "read the label list"):
        content = path.read_bytes()
    return parse_label_list(content, str(path), machine_types)


def parse_label_list(content: bytes, where: str, machine_types: tuple[str, ...]) -> LabelList:
    """Read and check a label list's content; `where` begins error messages."""
    try:
        rows = list(csv.reader(content.decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot read the label list {where} ({error}); give the organisers' list with --eval_data_list"
        ) from error
    labels: LabelList = {}
    block: dict[str, str] | None = None
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row if cell.strip()]
        if len(cells) == 1 and cells[0] in machine_types:
            block = labels.setdefault(cells[0], {})
        elif len(cells) >= 2 and block is not None:
            name, label = cells[:2]
            _check_label(name, label, block, f"{where}, line {number}")
            block[name] = label
        elif cells:
            raise InputError(
                f"{where}, line {number}: {','.join(cells)[:80]!r} is neither one of the machine types "
                f"{', '.join(machine_types)} nor a pair of names after one; is it the list of this challenge?"
            )
    if not labels:
        raise InputError(f"{where} is empty; give the organisers' list with --eval_data_list")
    return labels


def _check_label(name: str, label: str, block: dict[str, str], where: str) -> None:
    """Check a line: names of two clips of the same section, both new, the second with a label."""
    try:
        unlabelled, labelled = parse_clip(Path(name)), parse_clip(Path(label))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if Path(label).name != label or labelled.label is None or labelled.section != unlabelled.section:
        raise InputError(
            f"{where}: {label} should be the name of {name} with normal or anomaly in it; download the list again"
        )
    if name in block or label in block.values():
        raise InputError(f"{where}: {name} or {label} is already in the list; download the list again")


def label_clips(folders: MachineFolders, names: dict[str, str], label_list: Path) -> str:
    """Make the machine type's test_rename from its test folder; return a line that reports it.

    Each clip must have a label, and test_rename no other clips: they would be missing in the tables, or count twice.
    """
    test, renamed = folders.raw / "test", folders.raw / "test_rename"
    if not test.is_dir():
        return f"{folders.machine_type}: there is no folder {test}, skipped"
    clips = {path.name for path in clip_paths(test)}
    unlabelled, unlisted = clips - names.keys(), {path.name for path in clip_paths(renamed)} - set(names.values())
    if unlabelled:
        raise InputError(
            f"{label_list} has no label for {counted(len(unlabelled), 'clip')} of {test}, first {min(unlabelled)}; "
            "download the list again, or move the clips away"
        )
    if unlisted:
        raise InputError(
            f"{renamed} holds {counted(len(unlisted), 'clip')} that {label_list} does not name, first {min(unlisted)}; "
            "remove that folder and run again"
        )
    n_new = link_clips(test, renamed, {name: names[name] for name in clips})
    lacking = sorted(names.keys() - clips)
    without = f"; {len(lacking)} in the list without a clip: {listed(lacking)}" if lacking else ""
    return f"{folders.machine_type}: {n_new} clips labelled, {len(clips) - n_new} were there already{without}"


def link_clips(source: Path, target: Path, names: dict[str, str]) -> int:
    """Link clips of one folder into another under new names; return how many were missing or different.

    They are staged in a temporary folder, which becomes `target` or whose files are moved there.
    """
    wanted = {
        name: new
        for name, new in names.items()
        if not (target / new).exists() or not filecmp.cmp(source / name, target / new, shallow=False)
    }
    if not wanted:
        return 0
    with (
        writing(target, "make it writable and run again; no clip is incomplete"),
        tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary,
    ):
        staged = Path(temporary, target.name)
        staged.mkdir()
        for name, new in wanted.items():
            try:
                os.link(source / name, staged / new)
            except OSError:  # a file system without hard links
                shutil.copyfile(source / name, staged / new)
        move_files(Path(temporary), target.parent)
    return len(wanted)
