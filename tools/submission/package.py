"""A challenge package made from systems' results: the files of scores and decisions, and the zip.

Clips get their published names back and are sorted by them. The same results give the same bytes.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from common import InputError

from datasets.catalogue import Challenge
from runtime.files import FileGroup
from runtime.wording import counted, listed
from tools.results.files import Labels, System, keys_of, write_clip_values
from tools.results.notes import section_names
from tools.submission.check import Files, Published, check_values, file_names

DATE = (1980, 1, 1, 0, 0, 0)  # of the files in the zip


@dataclass(frozen=True)
class Entry:
    """A system's scores and decisions, the folder they come from, and advice if something is missing."""

    label: str
    system: System
    folder: Path
    advice: str


def published_files(
    entry: Entry, challenge: Challenge, labels: Labels, label_list: Path, published: Published
) -> Files:
    """Return the challenge's files of a system's scores and decisions, which must cover all its test clips."""
    keys, found = keys_of(challenge), entry.system
    missing = [key for key in keys if key not in found]
    undecided = [key for key in keys if key in found and found[key].decisions is None]
    for which, what in ((missing, "scores"), (undecided, "decisions")):
        if which:
            raise InputError(f"{entry.folder} has no {what} of {section_names(which)}; {entry.advice}")
    files = {}
    for (machine_type, section, domain), pair in file_names(challenge).items():
        scored = found[machine_type, section]
        published_name = {labelled: name for name, labelled in labels.get(machine_type, {}).items()}
        names = [clip.name if clip.label is None else published_name.get(clip.name, "") for clip in scored.clips]
        unknown = [clip.name for clip, name in zip(scored.clips, names, strict=True) if not name]
        if unknown:
            raise InputError(
                f"{counted(len(unknown), 'clip')} of {machine_type} section {section:02d}, such as {unknown[0]}, have "
                f"labelled names, but a package needs the published ones; {label_list} "
                f"{'does not list them' if labels else 'is missing'}: give --eval_data_list"
            )
        values = zip(scored.clips, names, scored.scores, scored.decisions, strict=True)  # type: ignore[arg-type]
        rows = sorted(
            (name, float(score), int(decision))
            for clip, name, score, decision in values
            if domain in (None, clip.domain)
        )
        for file, column in zip(pair, (1, 2), strict=True):
            text = io.StringIO()
            write_clip_values(text, [row[0] for row in rows], [row[column] for row in rows])
            files[file] = text.getvalue().encode()
    wrong = check_values(entry.label, files, challenge, published)
    if wrong:
        raise InputError(
            f"the results in {entry.folder} are not those of the challenge's clips; nothing was written: "
            f"{listed(wrong, separator='; ')}; {entry.advice}"
        )
    return files


def write_package(path: Path, systems: dict[str, Files], metas: dict[str, bytes]) -> None:
    """Write the zip of the systems, by label, and copies of their meta files beside it: all of them or none."""
    members: dict[str, bytes] = {}
    for label, files in systems.items():
        members |= {f"{label}/{name}": content for name, content in files.items()}
        members[f"{label}/{label}.meta.yaml"] = metas[label]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in sorted(members.items()):
            info = zipfile.ZipInfo(name, DATE)
            info.external_attr = 0o100644 << 16  # a plain file, readable by all
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    with FileGroup() as group:
        for label, meta in metas.items():
            group.open(path.with_name(f"{label}.meta.yaml"), "wb").write(meta)
        group.open(path, "wb").write(packed.getvalue())
