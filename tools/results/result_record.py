"""The record of a test, beside its CSV files: its network, clips, parameters and date. Written by the test stage.

The summary and the report use it to find results of a network that was trained again, changed files and other
parameters. Results without a record (the reference's) are accepted. One record for each run and score:
`test_<data set>_test_seed<seed><tag>.json`.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from common import InputError, Settings

from networks.names import Run
from networks.record import Record, read_record
from runtime.files import sha256_of
from runtime.wording import listed
from tools.results.parameters import Configuration, changed_code, configuration_of


@dataclass(frozen=True)
class ResultRecord:
    """The origin of a test's results."""

    run: str
    score: str
    date: str  # of the test, ISO 8601 in UTC
    trained: str | None  # when, by the network's record
    network: str | None  # network_digest() at the time of the test
    # by section, `00`: the number of clips and the SHA-256 of their names, in the order of the score file
    clips: dict[str, dict[str, int | str]]
    labelled: bool
    max_fpr: float
    decision_threshold: float
    # the score above which a clip was anomalous (None without decisions), and where it comes from, as a noun phrase
    threshold: float | None
    files: dict[str, str]  # the SHA-256 of the score and decision files by name
    threshold_from: str | None
    configuration: Configuration  # of the network and the score, at the time of the test

    @property
    def n_clips(self) -> int:
        """The number of clips of all sections."""
        return sum(int(section["number"]) for section in self.clips.values())


def make_result_record(
    run: Run,
    settings: Settings,
    clips: Mapping[int, Sequence[str]],
    labelled: bool,
    threshold: float | None,
    files: Mapping[str, str],
) -> ResultRecord:
    """Return the record of a test just made with these settings (score, max_fpr, decision_threshold).

    Parameters
    ----------
    clips
        The names of each section's clips, in the order of the score file.
    files
        Name of each score and decision file -> its SHA-256, as write_clip_values returns it.
    """
    record = network_record_of(run, settings.score)
    return ResultRecord(
        run=run.name,
        score=settings.score,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        trained=record.content.get("date") if record else None,
        network=network_digest(run, settings.score),
        clips={
            f"{section:02d}": {
                "number": len(names),
                "sha256": hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest(),
            }
            for section, names in clips.items()
        },
        labelled=labelled,
        max_fpr=settings.max_fpr,
        decision_threshold=settings.decision_threshold,
        threshold=threshold,
        files=dict(files),
        threshold_from=getattr(threshold, "source", None),
        configuration=configuration_of(record, settings.score, settings, threshold),
    )


def write_result_record(file: TextIO, record: ResultRecord) -> None:
    """Write a record to an open file."""
    json.dump(asdict(record), file, indent=1)
    file.write("\n")


def result_record_path(scores: Path) -> Path:
    """Return the record of a test, which lies beside its files of scores."""
    return scores.with_name(re.sub(r"^anomaly_score(_.+)_section_\d\d_test", r"test\1_test", scores.stem) + ".json")


def read_result_record(path: Path) -> ResultRecord:
    """Read the record in a file."""
    try:
        return ResultRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is not the record of a test ({error!r}); test again or remove it") from error


def network_digest(run: Run, score: str) -> str | None:
    """Return the SHA-256 of a run's network, fitted score and threshold, or None without any of the files.

    The network's record has them; without a record, the network's file alone counts.
    """
    record, path = network_record_of(run, score), run.scored_by(score).network
    if record is not None:
        entry = {name: value for name, value in record.fitted(score).items() if name != "date"}
        digests = [record.content.get("network_sha256"), entry]
    else:
        digests = [sha256_of(path) if path.is_file() else None]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest() if any(digests) else None


def network_record_of(run: Run, score: str) -> Record | None:
    """Return the record beside a network; None without one, or if it is damaged."""
    with contextlib.suppress(InputError):
        return read_record(run.scored_by(score).record)
    return None


def problems_of(record: ResultRecord, run: Run, score: str) -> list[str]:
    """List the reasons why a test's results may be stale: its network or its files have changed since."""
    problems = []
    network = network_digest(run, score)
    if record.network is not None and network is not None and network != record.network:
        problems.append("the network was trained again, or its threshold fitted or calibrated again, since the test")
    elif files := changed_code(record.configuration):
        problems.append(f"it was tested by other code of {listed(files)} than trained")
    changed = changed_results(record, run.anomaly_scores(score, 0))
    return [*problems, changed] if changed else problems


def changed_results(record: ResultRecord, scores: Path) -> str:
    """Say which files of a test, beside its `scores`, have changed since; "" if none has."""
    paths = {name: scores.with_name(name) for name in record.files}
    current = {name: sha256_of(path) if path.is_file() else None for name, path in paths.items()}
    changed = [name for name, digest in record.files.items() if digest != current[name]]
    return f"{', '.join(changed)} changed since the test" if changed else ""
