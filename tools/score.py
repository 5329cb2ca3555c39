#!/usr/bin/env python3
"""Score single recordings with a trained network: anomaly score, threshold and decision, as CSV or JSON.

    python -m tools.score MODEL.pth clip.wav ...

Scorer is the same for Python programs. Parameters are those of the network's record beside it.
"""

import argparse
import contextlib
import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import (
    PATH,
    SCORES,
    InputError,
    Settings,
    load_extensions,
    option_type,
    parse_settings,
    read_defaults,
    select_device,
    set_instruction_set,
)
from tools.runtime.process import run_command

if TYPE_CHECKING:
    import numpy as np

NAMES = ("score", "decision_threshold", "use_cuda", "gpu_id", "threads", "instruction_set")
COLUMNS = ("clip", "anomaly_score", "threshold", "decision")


class ScoredClip(NamedTuple):
    """A clip's anomaly score, the decision threshold, and 1 if the score is above it, else 0; None: no threshold."""

    score: float
    threshold: float | None
    decision: int | None


class Scorer:
    """Scores clips with a trained network; may be called from several threads at once.

    NumPy's BLAS is limited to one thread in this process, which the scores' last digits depend on.

    Parameters
    ----------
    network
        The .pth file that 01_train.sh has written; parameters come from the record beside it.
    score, decision_threshold
        As in baseline.yaml, which has the defaults; the threshold is this quantile of the score's distribution.
    extensions
        Files that register the network, the front end or the score, if they are not the baseline's.
    """

    def __init__(
        self,
        network: str | Path,
        score: str | None = None,
        decision_threshold: float | None = None,
        extensions: Iterable[str | Path] = (),
    ):
        load_extensions(Path(path) for path in extensions)
        settings = Settings(read_defaults())
        if score is not None:
            settings = settings.replace(score=score)
        if decision_threshold is not None:
            settings = settings.replace(decision_threshold=decision_threshold)
        self._load(Path(network), settings)

    @classmethod
    def of(cls, network: Path, settings: Settings) -> "Scorer":
        """Return a scorer with all settings as given."""
        scorer = cls.__new__(cls)
        scorer._load(network, settings)
        return scorer

    def _load(self, path: Path, settings: Settings) -> None:
        from threadpoolctl import threadpool_limits

        from networks.trained import load_score, load_trained

        if not SCORES.get(settings.score).needs_network:  # type: ignore[attr-defined]
            raise InputError(f"--score {settings.score} needs no network; run tools/02_test.sh to test by it")
        device = select_device(settings.use_cuda, settings.gpu_id, settings.threads, file=sys.stderr)
        self.trained = load_trained(path, settings, device)
        self.trained.network.eval()
        self._score, distribution = load_score(
            settings.score, self.trained.settings, self.trained.record, self.trained.network, path
        )
        self.threshold = None if distribution is None else distribution.quantile(settings.decision_threshold)
        self._device = device
        threadpool_limits(1, user_api="blas")

    def __call__(self, clip: "str | Path | np.ndarray", rate: int | None = None) -> ScoredClip:
        """Score a file, or samples, (n_samples,) or (n_samples, channels), full scale 1, at a rate in Hz."""
        from datasets.audio import one_channel, read_header, read_samples
        from datasets.front_ends import sample_frames
        from datasets.vectors import ClipInput, vectors_of
        from networks.scores import score_clip

        front_end = self.trained.front_end
        if isinstance(clip, str | Path):
            path, name = Path(clip), str(clip)
            channels = read_header(path).channels
            samples, rate = read_samples(path, front_end.settings.channel)
        else:
            path, name = None, "the clip"
            if rate is None:
                raise InputError("samples need their sampling rate in Hz; call scorer(samples, rate)")
            channels = 1 if clip.ndim == 1 else clip.shape[1]
            samples = one_channel(clip, front_end.settings.channel, name)
        self.trained.check_clip(f"{name} has", rate, channels)
        front_end.check(rate)
        vectors = vectors_of(sample_frames(samples, rate, front_end, name), front_end.settings, self._device, name)
        score = score_clip(self._score, ClipInput(path, lambda: vectors))
        return ScoredClip(score, self.threshold, None if self.threshold is None else int(score > self.threshold))


def score() -> None:
    """Score the clips that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.score",
        description="Score single recordings; the scores go to standard output.",
        allow_abbrev=False,
    )
    parser.add_argument("network", type=option_type(PATH), metavar="MODEL.pth", help="a network that 01_train.sh wrote")
    parser.add_argument("clips", type=option_type(PATH), nargs="+", metavar="CLIP.wav", help="recordings")
    parser.add_argument("--format", choices=("csv", "json"), default="csv", help="json: one object a line [csv]")
    settings = parse_settings(parser, names=NAMES)
    set_instruction_set(settings.instruction_set)
    from datasets.audio import in_parallel

    with contextlib.redirect_stdout(sys.stderr):  # notes, of parameters for example; standard output holds scores only
        scorer = Scorer.of(settings.network, settings)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, (clip, scored) in enumerate(zip(settings.clips, in_parallel(scorer, settings.clips), strict=True)):
        row = (str(clip), *scored)
        if settings.format == "csv":
            writer.writerows([COLUMNS, row] if number == 0 else [row])
        else:
            print(json.dumps(dict(zip(COLUMNS, row, strict=True))))


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(score)


if __name__ == "__main__":
    sys.exit(main())
