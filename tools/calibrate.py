#!/usr/bin/env python3
"""Set the decision threshold of a network for a false alarm rate, by normal recordings that it was not trained on.

    python -m tools.calibrate MODEL.pth normal/*.wav --false_alarms 0.01

The threshold goes into the network's record, where tools.score, its Scorer and the tests find it, until the network is
trained again.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import FRACTION, InputError, option_type, parse_settings

import numpy as np

from datasets.audio import in_parallel
from networks.threshold import CONFIDENCE, calibrate, clips_needed
from networks.trained import write_calibration
from runtime.command import command
from runtime.progress import progress
from tools.score import Scorer, add_arguments, given_clips

NAMES = ("score", "use_cuda", "gpu_id", "threads", "instruction_set")
FAR = 10  # interquartile ranges above the upper quartile; a score there is reported


@command
def main() -> None:
    """Score the clips that the command line names, and write the threshold."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.calibrate",
        description="Set a network's decision threshold by normal recordings that it was not trained on.",
        allow_abbrev=False,
    )
    add_arguments(parser)
    text = "the share of normal recordings that may raise an alarm, such as 0.01"
    parser.add_argument("--false_alarms", type=option_type(FRACTION), required=True, metavar="RATE", help=text)
    settings = parse_settings(parser, names=NAMES)
    clips = list(dict.fromkeys(clip for group in given_clips(settings.clips) for clip in group))
    anomalous = [clip for clip in clips if "_anomaly_" in f"_{clip.name}"]
    if anomalous:
        raise InputError(f"{len(anomalous)} clips are labelled anomaly, first {anomalous[0]}; give normal ones only")
    scorer = Scorer(settings.network, settings=settings.replace(threshold_from="batches"))
    record, name, rate = scorer.trained.record, settings.score, settings.false_alarms
    if record is None or not record.fitted(name):
        raise InputError(f"{settings.network} has no record of {name} to write to; give --threshold_from with tests")
    attempts = list(progress(in_parallel(scorer.attempt, clips), len(clips), "scoring", "clips"))
    scores = [scored.score for scored in attempts if scored is not None]
    if len(scores) < len(clips):
        raise InputError(f"{len(clips) - len(scores)} of {len(clips)} clips cannot be scored; nothing was written")
    if trained_on := set(scores) & set(record.fitted(name).get("clip_scores", ())):
        raise InputError(
            f"{len(trained_on)} of the clips have exactly the scores of training clips; give recordings that the "
            "network was not trained on"
        )
    calibration = calibrate(scores, rate)
    write_calibration(record, name, calibration)
    low, high = (100 * limit for limit in calibration.interval)
    before = "" if scorer.threshold is None else f" (so far {scorer.threshold:g})"
    print(
        f"{name}: {calibration.n_above} of {len(clips)} clips are above the threshold {calibration.threshold:g}"
        f"{before}; false alarm rate between {low:.2f} and {high:.2f} % ({100 * CONFIDENCE:g} % interval), "
        f"{100 * rate:g} % requested"
    )
    lower, upper = np.quantile(scores, (0.25, 0.75))
    if (highest := max(scores)) > upper + FAR * (upper - lower):
        print(
            f"warning: {clips[scores.index(highest)]} scores {highest:g}, but three quarters of the clips at most "
            f"{upper:g}; listen to it, and calibrate without it if it is not normal"
        )
    least, good = clips_needed(rate)
    if len(clips) < least:
        print(
            f"warning: the threshold is the highest score, which {100 / (len(clips) + 1):.2g} % of normal clips exceed "
            f"on average; {100 * rate:g} % needs {least} clips or more"
        )
    if len(clips) < good:
        print(f"with {good} clips or more, the interval ends below {200 * rate:g} %")
    print(f"wrote {record.path}; tests and tools.score use the threshold from now on")


if __name__ == "__main__":
    sys.exit(main())
