"""Labels of evaluation clips: the organisers' lists of labelled names, and test_rename, made from test with them.

A list is a CSV: a line with only a machine type opens its block, each line after it is
`<name in test>,<labelled name>` (2020 has a third column, which is redundant). Clips are hard-linked where the file
system allows it, else copied. Labelling again adds what is missing and removes the names that a corrected list changed.
"""

import csv
import filecmp
import io
import os
import shutil
import tempfile
from pathlib import Path

from common import InputError

from datasets.catalogue import Challenge
from datasets.clips import MachineFolders, clip_paths, parse_clip
from runtime.files import atomic_write, sha256_of, writing
from runtime.wording import counted

LabelList = dict[str, dict[str, str]]  # machine type -> name in test -> labelled name


def label_list_path(challenge: str, dataset_directory: Path) -> Path:
    """Return the path of the organisers' list of the evaluation clips' labels."""
    return dataset_directory / f"eval_data_list_{challenge.removeprefix('DCASE')[:4]}.csv"


def read_label_list(path: Path, machine_types: tuple[str, ...]) -> LabelList:
    """Read and check a label list: machine type -> name in test -> labelled name."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the label list {path} ({error.strerror or error}); give the organisers' list with "
            "--eval_data_list"
        ) from error
    return parse_label_list(content, str(path), machine_types)


def parse_label_list(content: bytes, where: str, machine_types: tuple[str, ...]) -> LabelList:
    """Read and check a label list's content; `where` begins error messages."""
    labels: LabelList = {}
    block: dict[str, str] | None = None
    seen: set[str] = set()  # labelled names of the block
    try:
        for number, row in enumerate(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")), 1):
            cells = [cell.strip() for cell in row if cell.strip()]
            if len(cells) == 1 and cells[0] in machine_types:
                block = labels.setdefault(cells[0], {})
                seen = set(block.values())
            elif len(cells) >= 2 and block is not None:
                name, label = cells[:2]
                _check_label(name, label, f"{where}, line {number}")
                if name in block or label in seen:
                    raise InputError(
                        f"{where}, line {number}: {name} or {label} is already in the list; download the list again"
                    )
                block[name] = label
                seen.add(label)
            elif cells:
                raise InputError(
                    f"{where}, line {number}: {','.join(cells)[:80]!r} is neither one of the machine types "
                    f"{', '.join(machine_types)} nor a pair of names after one; is it the list of this challenge?"
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot read the label list {where} ({error}); give the organisers' list with --eval_data_list"
        ) from error
    if not labels:
        raise InputError(f"{where} is empty; give the organisers' list with --eval_data_list")
    return labels


def _check_label(name: str, label: str, where: str) -> None:
    """Check a line: two clip names of the same section, the second with a label."""
    for text in (name, label):
        if Path(text).name != text:
            raise InputError(f"{where}: {text!r} is not a file name; download the list again")
    try:
        unlabelled, labelled = parse_clip(Path(name)), parse_clip(Path(label))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if labelled.label is None or labelled.section != unlabelled.section:
        raise InputError(
            f"{where}: {label} should be the name of {name} with normal or anomaly in it; download the list again"
        )


def missing_labels(labels: LabelList, challenge: Challenge, clips: dict[str, set[str]]) -> str | None:
    """Return what is missing in a list; None if it is complete.

    It must have all machine types, the catalogue's number of clips if that is known, and all of the `clips` (machine
    type -> names in test).
    """
    for machine_type in challenge.machine_types:
        block = labels.get(machine_type, {})
        expected = challenge.n_clips(machine_type, "test")
        if not block:
            return f"it has no labels for {machine_type}"
        if expected and len(block) != expected:
            return f"it has {len(block)} labels for {machine_type}, not {expected}"
        lacking = clips.get(machine_type, set()) - block.keys()
        if lacking:
            return f"it has no label for {counted(len(lacking), 'clip')} of {machine_type}, first {min(lacking)}"
    return None


def label_clips(folders: MachineFolders, names: dict[str, str]) -> str:
    """Make the machine type's test_rename from its test folder; return a line that reports it."""
    test, renamed = folders.raw / "test", folders.raw / "test_rename"
    if not test.is_dir():
        return f"{folders.machine_type}: there is no folder {test}, skipped"
    clips = {path.name for path in clip_paths(test)}
    known = {name: label for name, label in names.items() if name in clips}
    n_new = link_clips(test, renamed, known)
    n_former, others = _remove_former_names(renamed, names, [test / name for name in known])
    done = f"{folders.machine_type}: {n_new} clips labelled, {len(known) - n_new} were there already"
    done += f", {counted(n_former, 'former name')} removed" if n_former else ""
    problems = (
        ("in the list without a clip", set(names) - clips),
        ("not in the list", clips - set(names)),
        ("in test_rename but not in the list", others),
    )
    for what, which in problems:
        if which:
            done += f"; {len(which)} {what}: {', '.join(sorted(which)[:5])}{', ...' if len(which) > 5 else ''}"
    return done


def _remove_former_names(renamed: Path, names: dict[str, str], clips: list[Path]) -> tuple[int, set[str]]:
    """Remove what a list no longer names and is a copy of a labelled clip; return the number, and the others' names."""
    unnamed = [path for path in clip_paths(renamed) if path.name not in set(names.values())]
    contents = {sha256_of(path) for path in clips} if unnamed else set()
    former = [path for path in unnamed if sha256_of(path) in contents]
    with writing(renamed, "make it writable and run again"):
        for path in former:
            path.unlink()
    return len(former), {path.name for path in unnamed} - {path.name for path in former}


def link_clips(source: Path, target: Path, names: dict[str, str]) -> int:
    """Link clips of one folder into another under new names; return how many were missing or different.

    They are staged in a temporary folder, which becomes `target` or whose files are moved there.
    """
    wanted = {name: new for name, new in names.items() if not _same_content(source / name, target / new)}
    if not wanted:
        return 0
    with (
        writing(target, "make it writable and run again; no clip is incomplete"),
        tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary,
    ):
        staged = Path(temporary, target.name)
        staged.mkdir()
        for name, new in wanted.items():
            link_or_copy(source / name, staged / new)
        if not target.exists():
            staged.rename(target)
        else:
            for new in wanted.values():
                (staged / new).replace(target / new)
    return len(wanted)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if the file system has no links; the target is never half written."""
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        with source.open("rb") as content, atomic_write(target, "wb") as file:
            shutil.copyfileobj(content, file)


def _same_content(clip: Path, other: Path) -> bool:
    """Return whether a clip has its other name already: a link to it, or a file with the same bytes."""
    return other.exists() and (clip.samefile(other) or filecmp.cmp(clip, other, shallow=False))
