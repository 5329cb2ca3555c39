"""A challenge package, ours or another's, read and checked; each problem is one line.

A package is a folder or a zip of one to four systems' folders, each named after the system's label, with
`<label>.meta.yaml` and the files of `file_names` in it. All of it is read into memory, within limits. Technical
reports (.pdf) are ignored. Parts of 2023's form that were not required in 2026 are noted if missing.
"""

import itertools
import re
from collections.abc import Collection
from pathlib import Path

from common import InputError

from datasets.catalogue import Challenge, load_challenge
from datasets.clips import MachineFolders, clip_paths, parse_clip
from runtime.wording import counted, listed
from tools.results.files import DECISION, FINITE, Labels, challenge_files, is_number, keys_of, parse_clip_values
from tools.results.members import members
from tools.submission.meta import LABEL, LABEL_FORM, check_meta

Part = tuple[str, int, str | None]  # machine type, section, and domain where a challenge has a file for each
Files = dict[str, bytes]  # name -> content
Published = dict[Part, frozenset[str]]  # names of the test clips, where known

MAX_FILES = 500
MAX_BYTES = 100_000  # of a file: a section's 200 clips take 10,000
MAX_ZIP = 50_000_000  # bytes
MAX_SYSTEMS = 4
SYSTEM_FILE = re.compile(r"(anomaly_score_|decision_result_).*\.csv|[^.].*\.meta\.yaml", re.DOTALL)
REPORT = ".pdf"


def file_names(challenge: Challenge) -> dict[Part, tuple[str, str]]:
    """Return the challenge's names for a system's score and decision files."""
    return {
        (*key, domain): pair for key in keys_of(challenge) for domain, pair in challenge_files(challenge, *key).items()
    }


def published_names(challenge: Challenge, dataset_directory: Path, labels: Labels) -> Published:
    """Return the test clips' published names: from the label list, else from the folder test, if available."""
    published = {}
    for machine_type, section, domain in file_names(challenge):
        test = MachineFolders(dataset_directory, challenge.name, machine_type, is_eval=True).raw / "test"
        names = labels.get(machine_type) or [path.name for path in clip_paths(test)]
        known = frozenset(name for name in names if _is_published(name, section, domain))
        if known:
            published[machine_type, section, domain] = known
    return published


def check_package(path: Path, challenge: Challenge, published: Published) -> tuple[list[str], list[str], list[str]]:
    """Check a package; return the labels of its systems, the problems and the notes, one line each."""
    files, problems = _read_package(path)
    notes: list[str] = []
    by_folder: dict[str, Files] = {}
    for name, content in files.items():
        folder, _, file = name.rpartition("/")
        by_folder.setdefault(folder, {})[file] = content
    systems = {folder: held for folder, held in by_folder.items() if any(map(SYSTEM_FILE.fullmatch, held))}
    for folder, held in by_folder.items():
        label, inside = folder.rpartition("/")[2], f"{folder}/" if folder else ""
        if folder not in systems:
            problems += [f"{inside}{name}: not in a system's folder" for name in held]
            continue
        if not LABEL.fullmatch(label):
            problems.append(f"{folder or path.name}: the folder's name {label!r} is not a label: {LABEL_FORM}")
        wrong, remarks = _check_system(label, held, challenge, published)
        problems += [inside + line for line in wrong]
        notes += [inside + line for line in remarks]
    if not systems:
        problems.append(f"{path.name}: no system in it: a folder with <label>.meta.yaml and score files")
    if len(systems) > MAX_SYSTEMS:
        problems.append(f"{path.name}: it holds {len(systems)} systems; {MAX_SYSTEMS} are allowed")
    return [folder.rpartition("/")[2] for folder in systems], problems, notes


def _check_system(label: str, files: Files, challenge: Challenge, published: Published) -> tuple[list[str], list[str]]:
    """Return problems and notes about a system's files, one line each, beginning with the file's name."""
    problems = check_values(label, files, challenge, published)
    meta = f"{label}.meta.yaml"
    if meta not in files:
        return [*problems, f"{meta}: missing"], []
    wrong, notes = check_meta(label, files[meta], load_challenge(challenge.name, is_eval=False))
    return problems + [f"{meta}: {line}" for line in wrong], [f"{meta}: {line}" for line in notes]


def check_values(label: str, files: Files, challenge: Challenge, published: Published) -> list[str]:
    """Return the problems of a system's scores and decisions, and the files that are not part of it."""
    problems, wanted = [], {f"{label}.meta.yaml"}
    for part, pair in file_names(challenge).items():
        wanted.update(pair)
        found = []
        for name, is_decision in zip(pair, (False, True), strict=True):
            if name not in files:
                problems.append(f"{name}: missing")
                continue
            names, lines = _read_values(files[name], is_decision)
            lines += _check_names(names, part, published.get(part), challenge)
            problems += [f"{name}: {line}" for line in lines]
            found.append(set(names))
        if len(found) == 2 and found[0] != found[1]:
            problems.append(f"{pair[1]}: its clips differ from those of {pair[0]}")
    return problems + [f"{name}: not part of the package" for name in files if name not in wanted]


def _read_values(content: bytes, is_decision: bool) -> tuple[Collection[str], list[str]]:
    """Return the clips' names in a file of scores or decisions, each once, and the problems of its lines."""
    if content.startswith(b"\xef\xbb\xbf"):
        return [], ["it begins with a byte-order mark; save it as UTF-8 without one"]
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return [], [f"not a CSV in UTF-8 ({error})"]
    if is_decision:
        return parse_clip_values(text, lambda value: value in ("0", "1"), DECISION)
    return parse_clip_values(text, is_number, FINITE)


def _check_names(
    names: Collection[str], part: Part, expected: frozenset[str] | None, challenge: Challenge
) -> list[str]:
    """Compare clip names with the published ones, or if these are unknown, check their form and number."""
    _, section, domain = part
    problems = []
    if expected:
        missing, extra = sorted(expected.difference(names)), [name for name in names if name not in expected]
        problems += [f"{listed(missing, 3)}: missing"] if missing else []
    else:
        extra = [name for name in names if not _is_published(name, section, domain)]
        n_clips = _number_of_clips(part, challenge)
        if n_clips and len(names) != n_clips:
            problems.append(f"{counted(len(names), 'clip')}; the challenge has {n_clips}")
    if extra:
        shown = listed((name[:60] for name in extra), 3)
        problems.append(f"{shown}: not the published name of a test clip of section {section:02d}")
    return problems


def _number_of_clips(part: Part, challenge: Challenge) -> int:
    """Return how many test clips the challenge has for a file; 0: unknown."""
    machine_type, _, domain = part
    counts = challenge.clips[machine_type].get("test", {})
    return sum(n for group, n in counts.items() if domain is None or group.startswith(domain))


def missing_clips(challenge: Challenge, published: Published) -> list[str]:
    """Return a sentence if fewer clips are known by their names than the challenge has in these sections; else none."""
    n_clips = {part: (len(names), _number_of_clips(part, challenge)) for part, names in published.items()}
    if all(n >= n_expected for n, n_expected in n_clips.values()):
        return []
    n, n_expected = (sum(numbers) for numbers in zip(*n_clips.values(), strict=True))
    return [
        f"the label list or --dataset_directory has {counted(n, 'test clip')} of these sections, where the challenge "
        f"has {n_expected}; a package of {'it' if n == 1 else 'them'} is not complete"
    ]


def _is_published(name: str, section: int, domain: str | None) -> bool:
    """Return whether a name has the form of a section's unlabelled clips, and of the domain's if one is given."""
    try:
        clip = parse_clip(Path(name))
    except InputError:
        return False
    is_of_domain = domain is None or clip.domain == domain
    return clip.name == name and clip.section == section and clip.label is None and is_of_domain


def _read_package(path: Path) -> tuple[Files, list[str]]:
    """Read the files of a folder or a zip except technical reports; also return why others are not read."""
    if path.is_file() and path.stat().st_size > MAX_ZIP:
        raise InputError(f"{path} is larger than {MAX_ZIP} bytes; give a package of the challenge with --check")
    found = list(itertools.islice(members(path), MAX_FILES + 1))
    if len(found) > MAX_FILES:
        raise InputError(f"{path} holds more than {MAX_FILES} files; give a package of the challenge with --check")
    files: Files = {}
    problems = []
    for member in sorted(found, key=lambda member: member.name):
        is_report, is_large = member.file.endswith(REPORT), member.size > MAX_BYTES
        problem = "twice in the zip" if member.name in files else member.problem
        if problem or (is_large and not is_report):
            problems.append(f"{member.name}: {problem or f'larger than {MAX_BYTES} bytes'}")
        elif not is_report:
            files[member.name] = member.read_bytes()
    return files, problems
