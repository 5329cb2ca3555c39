"""A network's record, a JSON file beside it: what it was trained on and with, and the SHA-256 of the files it owns.

Programs that score clips take the parameters from it, and refuse files that do not belong together. It is written last:
the files of a run that was killed while writing do not match the old record. A score that needs no network has its own
record, which holds only the score. 03 reads records without torch.
"""

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from common import FRONT_ENDS, NETWORKS, SCORES, InputError, Settings, as_text, code_hashes

from networks.names import score_state_path
from runtime.files import content_checksum, sha256_of

FORMAT = 3


@dataclass(frozen=True)
class Record:
    """The record beside a network; `content` is its JSON."""

    path: Path
    content: dict

    @property
    def network(self) -> Path:
        """The network's file."""
        return self.path.with_suffix(".pth")

    def fitted(self, score: str) -> dict:
        """Return the record's entry for a score; {} if it is not fitted."""
        return self.content["scores"].get(score, {})

    def has_fitted(self, score: str, settings: Settings) -> bool:
        """Return whether a score has been fitted with the same options, and an extension's by the same code."""
        cls, entry = SCORES.get(score), self.fitted(score)
        is_same_code = cls.extension is None or entry.get("sources") == code_hashes(cls)
        return is_same_code and entry.get("fitted_with") == settings.of_class(cls)

    def code_behind(self, score: str) -> dict[str, str]:
        """Return the hashes of the code that trained the network and fitted a score; {} where neither is recorded."""
        return self.content.get("sources", {}) | self.fitted(score).get("sources", {})

    def with_scores(self, entries: dict[str, dict]) -> "Record":
        """Return the record with further entries of scores."""
        return Record(self.path, {**self.content, "scores": {**self.content["scores"], **entries}})

    def check(self, score: str | None = None) -> None:
        """Raise InputError if the network's file is not the recorded one, or that of a score's tensors, if it has any.

        Files whose SHA-256 was not recorded are not checked.
        """
        path = score_state_path(self.network, score) if score else self.network
        sha256 = self.fitted(score).get("state_sha256") if score else self.content.get("network_sha256")
        if sha256 and not (path.is_file() and sha256_of(path) == sha256):
            raise InputError(
                f"{path} is not the file that {self.path.name} describes: it is damaged, was removed, renamed or "
                "replaced, or belongs to a run that was interrupted while writing; restore it, train again, or finish "
                "the run with 01_train.sh --restart"
            )

    def write_to(self, file: IO) -> None:
        """Write the record to an open file."""
        json.dump({**self.content, "checksum": content_checksum(self.content)}, file, indent=1)
        file.write("\n")


def read_record(path: Path) -> Record | None:
    """Read a record, or return None if there is no file."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["checksum"]) != (FORMAT, content_checksum(content)):
            raise ValueError("it was changed, is damaged, or is of another version of this project")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a record of a training run ({error}); train again or remove it") from error
    return Record(path, content)


def options_text(score: str, options: dict[str, object]) -> str:
    """Return a score's name, and in brackets its options, as in `KNN (knn_k 3)`."""
    return score + (f" ({', '.join(f'{name} {as_text(value)}' for name, value in options.items())})" if options else "")


def network_code(settings: Settings) -> dict[str, str]:
    """Hash the code of the network and the front end that settings name."""
    return code_hashes(NETWORKS.get(settings.model), FRONT_ENDS.get(settings.front_end))


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
