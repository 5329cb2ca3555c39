"""A challenge package made from systems' results: the files of scores and decisions, and the zip.

Clips get their published names back, and stand in their order. The same results give the same bytes.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from common import InputError
from datasets.catalogue import Challenge
from tools.results.files import Labels, System, keys_of, write_clip_values
from tools.results.notes import section_names
from tools.results.other_systems import counted
from tools.runtime.files import FileGroup
from tools.submission.check import Files, Published, check_values, file_names

SHOWN = 5  # problems in an error message
DATE = (1980, 1, 1, 0, 0, 0)  # of the files in the zip


@dataclass(frozen=True)
class Results:
    """The results of a system: its scores and decisions, the folder that they come from, and what fixes a gap."""

    label: str
    system: System
    folder: Path
    advice: str


def published_files(results: Results, challenge: Challenge, labels: Labels, label_list: Path) -> Files:
    """Return the challenge's files of a system's scores and decisions; a system that is incomplete is an InputError."""
    _require_complete(results, challenge)
    files = {}
    for (machine_type, section, domain), pair in file_names(challenge).items():
        scored = results.system[machine_type, section]
        published = {labelled: name for name, labelled in labels.get(machine_type, {}).items()}
        names = {clip: clip.name if clip.label is None else published.get(clip.name, "") for clip in scored.clips}
        unknown = [clip.name for clip, name in names.items() if not name]
        if unknown:
            raise InputError(
                f"{counted(len(unknown), 'clip')} of {machine_type} section {section:02d}, such as {unknown[0]}, have "
                f"labelled names, which {label_list} {'does not list' if labels else '(missing) would list'}; give the "
                "organisers' list, which has the published names, with --eval_data_list"
            )
        assert scored.decisions is not None  # _require_complete has seen to it
        values = zip(scored.clips, scored.scores, scored.decisions, strict=True)
        rows = sorted(
            (names[c], float(score), int(decision)) for c, score, decision in values if domain in (None, c.domain)
        )
        for file, column in zip(pair, (1, 2), strict=True):
            text = io.StringIO()
            write_clip_values(text, [row[0] for row in rows], [row[column] for row in rows])
            files[file] = text.getvalue().encode()
    return files


def _require_complete(results: Results, challenge: Challenge) -> None:
    """Raise InputError if a system lacks the scores or decisions of a machine type's section."""
    keys, found = keys_of(challenge), results.system
    missing = [key for key in keys if key not in found]
    undecided = [key for key in keys if key in found and found[key].decisions is None]
    for which, what in ((missing, "scores"), (undecided, "decisions")):
        if which:
            raise InputError(f"{results.folder} has no {what} of {section_names(which)}; {results.advice}")


def require_valid(results: Results, files: Files, challenge: Challenge, published: Published) -> None:
    """Raise InputError if a system's files are not those of the challenge's test clips."""
    wrong = check_values(results.label, files, challenge, published)
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise InputError(
            f"the results in {results.folder} are not those of the challenge's clips, and nothing is written: "
            f"{'; '.join(wrong[:SHOWN])}{more}; {results.advice}"
        )


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
