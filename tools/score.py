#!/usr/bin/env python3
"""Score single recordings with a trained network: anomaly score, threshold and decision, as CSV or JSON.

    python -m tools.score MODEL.pth clip.wav ...

The feature parameters are those of the network's record beside it; the threshold is the quantile of its distribution.
"""

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import InputError, run_command, select_device, set_instruction_set
from tools.options import PATH, add_parameters, option_type, read_defaults

PARAMETERS = ("score", "decision_threshold", "use_cuda", "gpu_id", "threads", "instruction_set")
COLUMNS = ("clip", "anomaly_score", "threshold", "decision")


def score_clips(network_path: Path, clips: list[Path], args: argparse.Namespace) -> Iterator[tuple]:
    """Yield (clip, anomaly score, threshold, decision) of each clip; threshold and decision None where there is none.

    Raises
    ------
    InputError
        The network, its record or a clip cannot be used; the clips before it are scored.
    """
    from datasets.cache import Features
    from datasets.clips import Clip
    from datasets.features import check_config, in_parallel, log_mel, read_headers
    from datasets.loaders import Vectors
    from networks.engine import inverse_covariances, mahalanobis_clip_scores, mse_clip_scores
    from networks.threshold import load_gamma
    from tools.record import load_network_of

    device = select_device(args.use_cuda, args.gpu_id, args.threads, file=sys.stderr)
    network, features, config = load_network_of(network_path, device)
    name = f"score_distr_{network_path.stem}_{args.score.lower()}.json"
    distribution = load_gamma(network_path.with_name(name))
    threshold = None if distribution is None else distribution.quantile(args.decision_threshold)
    headers = read_headers(clips, features.channels)
    check_config(features, headers[0].sampling_rate)
    inverses = inverse_covariances(network) if args.score == "MAHALA" else None
    if args.score == "MAHALA" and inverses is None:
        raise InputError(f"a covariance of {network_path} is singular; use --score MSE")

    def score_clip(path: Path) -> float:
        frames = log_mel(path, features)
        vectors = Vectors(Features(frames, (len(frames),)), [Clip(path, 0, None, None)], config, device).of_each_clip()
        scored = (
            mse_clip_scores(network, vectors)
            if inverses is None
            else mahalanobis_clip_scores(network, inverses, vectors)
        )
        return next(scored)

    for clip, score in zip(clips, in_parallel(score_clip, clips), strict=True):
        if not math.isfinite(score):
            raise InputError(f"{network_path} gives {clip} a score that is not finite; use another network")
        yield str(clip), score, threshold, None if threshold is None else int(score > threshold)


def score() -> None:
    """Score the clips that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.score",
        description="Score single recordings; the scores go to standard output.",
        allow_abbrev=False,
    )
    parser.add_argument("network", type=option_type(PATH), metavar="MODEL.pth", help="as 01_train.sh has written it")
    parser.add_argument("clips", type=option_type(PATH), nargs="+", metavar="CLIP.wav", help="recordings")
    parser.add_argument("--format", choices=("csv", "json"), default="csv", help="json: one object a line [csv]")
    add_parameters(parser, read_defaults(), PARAMETERS)
    args = parser.parse_args()
    set_instruction_set(args.instruction_set)
    if not args.network.is_file():
        raise InputError(f"there is no network {args.network}; give the .pth file that 01_train.sh has written")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, row in enumerate(score_clips(args.network, args.clips, args)):
        if args.format == "csv":
            writer.writerows([COLUMNS, row] if number == 0 else [row])
        else:
            print(json.dumps(dict(zip(COLUMNS, row, strict=True))))


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(score)


if __name__ == "__main__":
    sys.exit(main())
