#!/usr/bin/env python3
"""Score recordings with a trained network: anomaly score, threshold and decision, as CSV or JSON.

    python -m tools.score MODEL.pth clip.wav folder ...
    find folder -name '*.wav' | python -m tools.score MODEL.pth -

Scorer does the same for Python programs. Parameters come from the record beside the network.
"""

import argparse
import contextlib
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import (
    BY_NAME,
    PATH,
    SCORES,
    InputError,
    Settings,
    as_text,
    did_you_mean,
    extension_parameters,
    load_extensions,
    note,
    option_type,
    parse_settings,
    read_defaults,
)

import numpy as np
from threadpoolctl import threadpool_limits

from datasets.audio import in_parallel, read_header, read_samples, select_channel
from datasets.clips import clip_paths, other_files
from datasets.front_ends import sample_frames
from datasets.vectors import ClipInput, vectors_of
from networks.scores import score_clips
from networks.trained import load_score, load_trained
from runtime.command import command, exit_now, print_error
from runtime.device import select_device

NAMES = ("score", "threshold_from", "decision_threshold", "use_cuda", "gpu_id", "threads", "instruction_set")
COLUMNS = ("clip", "anomaly_score", "threshold", "decision")


class ScoredClip(NamedTuple):
    """A clip's anomaly score, the threshold, and the decision, 1 above it, else 0; None without a threshold."""

    score: float
    threshold: float | None
    decision: int | None


class Scorer:
    """Scores clips with a trained network; may be called from several threads at once.

    The scores' last digits depend on two things in this process: NumPy's BLAS is limited to one thread, and the
    instruction set is AVX2, as in tests and tools.score, if NumPy is imported after this module. A program that imports
    NumPy (or soundfile, which does) before has the digits of --instruction_set native, and a note says so.

    Parameters
    ----------
    network
        The .pth file that 01_train.sh has written; parameters come from the record beside it.
    extensions
        Files that register the network, the front end or the score, if they are not the baseline's.
    settings
        A command's settings; else the defaults of baseline.yaml and `parameters`.
    parameters
        Such as score, decision_threshold, threshold_from and use_cuda, as in baseline.yaml. The threshold of
        tools.calibrate is used if there is one, and neither of the second and third is given.
    """

    def __init__(
        self,
        network: str | Path,
        extensions: Iterable[str | Path] = (),
        settings: Settings | None = None,
        **parameters: object,
    ):
        if settings is None:
            load_extensions(map(Path, extensions))
            known = {**BY_NAME, **extension_parameters()}
            for name in set(parameters) - set(known):
                raise InputError(f"there is no parameter {name}{did_you_mean(name, known)}")
            given = {name: known[name].type.read(as_text(value), f"{name} ") for name, value in parameters.items()}
            settings = Settings({**read_defaults(), **given}, given)
        if not SCORES.get(settings.score).needs_network:  # type: ignore[attr-defined]
            raise InputError(f"--score {settings.score} needs no network; run tools/02_test.sh to test by it")
        with contextlib.redirect_stdout(sys.stderr):  # what loading says; standard output holds scores only
            self._device = select_device(settings.use_cuda, settings.gpu_id, settings.threads)
            self.trained = load_trained(Path(network), settings, self._device)
            self._score, self.threshold = load_score(settings.score, self.trained)
        threadpool_limits(1, user_api="blas")

    def attempt(self, clip: Path) -> ScoredClip | None:
        """Score a file, or print the error of one that cannot be scored, so that the others are."""
        try:
            return self(clip)
        except InputError as error:
            print_error(error)
            return None

    def __call__(self, clip: "str | Path | np.ndarray", rate: int | None = None) -> ScoredClip:
        """Score a file, or samples, (n_samples,) or (n_samples, channels), floats of full scale 1, at a rate in Hz."""
        front_end, channel, path = self.trained.front_end, self.trained.front_end.channel, None
        if isinstance(clip, str | Path):
            path, name = Path(clip), str(clip)
            channels = read_header(path).channels
            samples, rate = read_samples(path, channel)
        else:
            samples, name = np.asarray(clip), "the clip"
            if rate is None or samples.dtype.kind != "f" or samples.ndim not in (1, 2):
                raise InputError(
                    f"the samples are {samples.dtype} of shape {samples.shape} at a rate of {rate}; give floats of "
                    "full scale 1, (n_samples,) or (n_samples, channels), such as soundfile.read(path) returns, and "
                    "their rate in Hz"
                )
            channels = 1 if samples.ndim == 1 else samples.shape[1]
            samples = select_channel(samples, channel, name)
        self.trained.check_clip(f"{name} has", rate, channels)
        front_end.check(rate)
        vectors = vectors_of(sample_frames(samples, rate, front_end, name), self.trained.settings, self._device, name)
        (score,) = score_clips(self._score, [ClipInput(path, lambda: vectors)])
        return ScoredClip(score, self.threshold, None if self.threshold is None else int(score > self.threshold))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the network and the recordings to a command line."""
    parser.add_argument("network", type=option_type(PATH), metavar="MODEL.pth", help="a network that 01_train.sh wrote")
    # relative to the caller's folder, but for -
    paths, text = option_type(PATH), "recordings, folders of .wav files, or -: paths on standard input, one per line"
    parser.add_argument("clips", type=lambda word: word if word == "-" else paths(word), nargs="+", help=text)


def given_clips(arguments: list[str | Path]) -> Iterator[list[Path]]:
    """Yield the recordings that arguments name, those of standard input one by one as they come."""
    for argument in arguments:
        if isinstance(argument, str):
            yield from ([Path.cwd() / line.rstrip("\r\n")] for line in sys.stdin if line.strip())
        elif argument.is_dir() and not clip_paths(argument):
            raise InputError(f"{argument} holds no .wav files; give another folder, or the recordings")
        elif argument.is_dir() and (others := other_files(argument)):
            note(f"only the .wav files of {argument} are scored; skipped: {others}")
    files = [argument for argument in arguments if not isinstance(argument, str)]
    yield [clip for path in files for clip in (clip_paths(path) if path.is_dir() else [path])]


@command
def main() -> int:
    """Score the clips that the command line names, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.score",
        description="Score recordings; the scores go to standard output, everything else to standard error.",
        epilog="Exit status: 0 done, 1 failed for a recording or altogether, 2 wrong usage; 3 with --exit_status.",
        allow_abbrev=False,
    )
    add_arguments(parser)
    parser.add_argument("--exit_status", action="store_true", help="end with status 3 if any clip is anomalous")
    parser.add_argument("--format", choices=("csv", "json"), default="csv", help="json: one object per line [csv]")
    settings = parse_settings(parser, names=NAMES)
    scorer = Scorer(settings.network, settings=settings)
    if settings.exit_status and scorer.threshold is None:
        raise InputError(f"--exit_status, but {settings.network} has no threshold; give --threshold_from NUMBER")

    is_csv, has_failed, is_anomalous = settings.format == "csv", False, False
    write_row = csv.writer(sys.stdout, lineterminator="\n").writerow
    if is_csv:
        write_row(COLUMNS)
    for clips in given_clips(settings.clips):
        for clip, scored in zip(clips, in_parallel(scorer.attempt, clips), strict=True):
            if scored is None:
                has_failed = True
                continue
            row = (str(clip), *scored)
            write_row(row) if is_csv else print(json.dumps(dict(zip(COLUMNS, row, strict=True))))
            sys.stdout.flush()
            is_anomalous |= scored.decision == 1
    return 3 if settings.exit_status and is_anomalous else int(has_failed)


if __name__ == "__main__":
    exit_now(main())
