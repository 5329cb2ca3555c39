"""A challenge package, ours or another's, read and checked; each problem is a line.

A package is a folder or a zip of one to four systems' folders; a folder is named by the system's label and holds
`<label>.meta.yaml` and the files of tools/score_files.py. All of it is read into memory, within limits: nothing is
unpacked, so a zip can write nowhere. Technical reports (.pdf) are passed over.
"""

import csv
import io
import itertools
import math
import re
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path

from common import InputError
from datasets.archives import BROKEN
from datasets.catalogue import Challenge, load_challenge
from datasets.clips import MachineFolders, clip_paths, parse_clip
from tools.score_files import Labels, challenge_names_of
from tools.submission_meta import LABEL, LABEL_FORM, check_meta

Files = dict[str, bytes]  # name -> content
Published = dict[tuple[str, int], frozenset[str]]  # machine type and section -> names of the test clips, where known

MAX_FILES = 500
MAX_BYTES = 100_000  # of a file: a section's 200 clips take 10,000
MAX_ZIP = 50_000_000  # bytes
MAX_SYSTEMS = 4
SYSTEM_FILE = re.compile(r"(anomaly_score_|decision_result_).*\.csv|[^.].*\.meta\.yaml", re.DOTALL)
REPORT = ".pdf"


def published_names(challenge: Challenge, dataset_directory: Path, labels: Labels) -> Published:
    """Return the test clips' published names: of the label list, else of the folder test, where either is at hand."""
    published = {}
    for machine_type, sections in challenge.sections.items():
        test = MachineFolders(dataset_directory, challenge.name, machine_type, is_eval=True).raw / "test"
        names = list(labels.get(machine_type, ())) or [path.name for path in clip_paths(test)]
        for section in sections:
            published[machine_type, section] = frozenset(name for name in names if _is_published(name, section))
    return {key: names for key, names in published.items() if names}


def check_package(path: Path, challenge: Challenge, published: Published) -> tuple[list[str], list[str]]:
    """Check a package; return the labels of its systems, and the problems, a line each.

    Raises
    ------
    InputError
        There is no such folder or file, it is no zip, or far too large for a package.
    """
    if path.is_dir():
        files, problems = _read_folder(path)
    elif path.is_file():
        files, problems = _read_zip(path)
    else:
        raise InputError(f"there is no {path}; give a package's folder or zip with --check")
    by_folder: dict[str, Files] = {}
    for name, content in files.items():
        folder, _, file = name.rpartition("/")
        by_folder.setdefault(folder, {})[file] = content
    systems = {folder: held for folder, held in by_folder.items() if any(map(SYSTEM_FILE.fullmatch, held))}
    for folder, held in by_folder.items():
        label, inside = folder.rpartition("/")[2], f"{folder}/" if folder else ""
        if folder not in systems:
            problems += [f"{inside}{name}: it is in no system's folder" for name in held if not name.endswith(REPORT)]
            continue
        if not LABEL.fullmatch(label):
            problems.append(f"{folder or path.name}: the folder's name {label!r} is no label: {LABEL_FORM}")
        problems += [inside + line for line in check_system(label, held, challenge, published)]
    if not systems:
        problems.append(f"{path.name}: it holds no system, a folder of <label>.meta.yaml and the files of scores")
    if len(systems) > MAX_SYSTEMS:
        problems.append(f"{path.name}: it holds {len(systems)} systems; {MAX_SYSTEMS} are allowed")
    return [folder.rpartition("/")[2] for folder in systems], problems


def check_system(label: str, files: Files, challenge: Challenge, published: Published) -> list[str]:
    """Return what is wrong with a system's files, a line each that begins with the file's name."""
    problems = check_values(label, files, challenge, published)
    meta = f"{label}.meta.yaml"
    if meta not in files:
        return [*problems, f"{meta}: it is missing"]
    development = load_challenge(challenge.name, is_eval=False)
    return problems + [f"{meta}: {problem}" for problem in check_meta(label, files[meta], development)]


def check_values(label: str, files: Files, challenge: Challenge, published: Published) -> list[str]:
    """Return what is wrong with a system's scores and decisions, and which files do not belong to it."""
    problems, wanted = [], {f"{label}.meta.yaml"}
    for machine_type, sections in challenge.sections.items():
        n_clips = sum(challenge.clips[machine_type].get("test", {}).values())
        for section in sections:
            pair = challenge_names_of(machine_type, section)
            wanted.update(pair)
            found = [
                _read_values(files[name], is_decision=i == 1) if name in files else None for i, name in enumerate(pair)
            ]
            expected = published.get((machine_type, section))
            for name, table in zip(pair, found, strict=True):
                lines = (
                    ["it is missing"]
                    if table is None
                    else [*table[1], *_check_names(table[0], section, expected, n_clips)]
                )
                problems += [f"{name}: {line}" for line in lines]
            if None not in found and set(found[0][0]) != set(found[1][0]):
                problems.append(f"{pair[1]}: its clips are not those of {pair[0]}")
    extra = [name for name in files if name not in wanted and not name.endswith(REPORT)]
    return problems + [f"{name}: it does not belong to the package" for name in extra]


def _read_values(content: bytes, is_decision: bool) -> tuple[list[str], list[str]]:
    """Return the clips' names in a file of scores or decisions, each once, and what is wrong with its lines."""
    names, odd, twice, wrong = {}, [], [], []
    try:
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        return [], [f"it is no CSV in UTF-8 ({error})"]
    for number, row in enumerate(rows, 1):
        if len(row) != 2:
            odd.append(f"line {number}")
            continue
        if row[0] in names:
            twice.append(row[0])
        if not (row[1] in ("0", "1") if is_decision else _is_finite(row[1])):
            wrong.append(f"{row[1][:30]!r} in line {number}")
        names[row[0]] = None
    problems = [] if rows else ["it is empty"]
    for which, what in (
        (odd, "no `<clip name>,<value>`"),
        (twice, "there more than once"),
        (wrong, "no decision, 0 or 1" if is_decision else "no finite number"),
    ):
        problems += [_several(which, what)] if which else []
    return list(names), problems


def _check_names(names: list[str], section: int, expected: frozenset[str] | None, n_clips: int) -> list[str]:
    """Compare clip names with the published ones, or where those are not at hand, with their form and number."""
    if expected:
        missing, extra = sorted(expected.difference(names)), [name for name in names if name not in expected]
    else:
        missing, extra = [], [name for name in names if not _is_published(name, section)]
    problems = [_several(missing, "missing")] if missing else []
    if extra:
        problems.append(_several(extra, f"not the published name of a test clip of section {section:02d}"))
    if not expected and n_clips and len(names) != n_clips:
        problems.append(f"it has {len(names)} clips; the challenge has {n_clips}")
    return problems


def _several(items: list[str], what: str) -> str:
    """Return `a, b is what`, three named at most."""
    shown = ", ".join(item[:60] for item in items[:3])
    return f"{shown}{f' and {len(items) - 3} more' if len(items) > 3 else ''}: {what}"


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_published(name: str, section: int) -> bool:
    """Tell whether a name is of the form that unlabelled clips of a section have."""
    try:
        clip = parse_clip(Path(name))
    except InputError:
        return False
    return clip.name == name and clip.section == section and clip.label is None


def printable(lines: Iterable[str]) -> str:
    """Join lines; what would move a terminal's cursor, such as a line break in a name, becomes an escape."""
    return "\n".join(
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line) for line in lines
    )


# --- reading ----------------------------------------------------------------------------------------------------------


def _read_folder(folder: Path) -> tuple[Files, list[str]]:
    """Read a folder's files, their names beginning with the folder's; return what is wrong with some, too."""
    files, problems = {}, []
    found = list(itertools.islice((path for path in folder.rglob("*") if not path.is_dir()), MAX_FILES + 1))
    _check_number(folder, found)
    for path in sorted(found):
        name = f"{folder.resolve().name}/{path.relative_to(folder).as_posix()}"
        if not path.is_file():
            problems.append(f"{name}: it is no plain file")
        elif name.endswith(REPORT):
            files[name] = b""
        elif path.stat().st_size > MAX_BYTES:
            problems.append(f"{name}: it is larger than {MAX_BYTES} bytes")
        else:
            files[name] = path.read_bytes()
    return files, problems


def _read_zip(path: Path) -> tuple[Files, list[str]]:
    """Read a zip's files; return what is wrong with some, too."""
    files, problems = {}, []
    if path.stat().st_size > MAX_ZIP:
        raise InputError(f"{path} is larger than {MAX_ZIP} bytes; give a package of the challenge with --check")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            _check_number(path, members)
            for info in members:
                problem = "it is there twice" if info.filename in files else _odd_member(info)
                if problem:
                    problems.append(f"{info.orig_filename}: {problem}")
                elif info.filename.endswith(REPORT):
                    files[info.filename] = b""
                else:
                    with archive.open(info) as file:
                        files[info.filename] = file.read(MAX_BYTES + 1)  # to the end, so that zipfile compares the CRC
    except BROKEN as error:
        raise InputError(
            f"{path} is truncated, damaged, encrypted or no zip ({error}); give a package's folder or zip with --check"
        ) from error
    return files, problems


def _odd_member(info: zipfile.ZipInfo) -> str | None:
    """Say why a member of a zip is not read; None: it is."""
    name = info.orig_filename
    if {"", ".", ".."} & set(name.split("/")) or any(character in name for character in "\\:\0"):
        return "it is no plain relative path"
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        return "it is a link or a special file"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # the others have no limit on reading
        return "it is packed by another method than zip's usual one"
    if info.file_size > MAX_BYTES and not name.endswith(REPORT):
        return f"it is larger than {MAX_BYTES} bytes"
    return None


def _check_number(path: Path, files: Iterable) -> None:
    if len(list(files)) > MAX_FILES:
        raise InputError(f"{path} holds more than {MAX_FILES} files; give a package of the challenge with --check")
