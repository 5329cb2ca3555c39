#!/usr/bin/env python3
"""Train and test the DCASE 2023 Task 2 baseline on one data set (a challenge's machine type) and its sections.

The story, top to bottom: `train` loads the clips' features, trains the network epoch by epoch, fits the scores and
their thresholds, and writes the network with its scores and record; `test` scores the test clips, decides, and writes
scores, decisions and metrics as CSV files. 01_train.sh, 02a_test.sh and 02b_test.sh run this program once for each
machine type.
"""

import argparse
import contextlib
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if sys.flags.safe_path:  # PYTHONSAFEPATH keeps the program's own folder from the path
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import PATH, SCORES, SECTION, TAG, InputError, Settings, Stopped, option_type, optional, parse_settings

import torch

from datasets.catalogue import split_dataset_name
from datasets.clips import list_clips
from datasets.run_data import RunData
from datasets.vectors import TrainingBatches, make_batches
from networks.checkpoint import TrainingState, start_or_resume
from networks.names import Run, check_applies
from networks.network import make_network
from networks.scores import (
    Score,
    TrainingData,
    fit_scores,
    has_squared_errors,
    make_score,
    network_scores,
    score_clips,
    try_scores,
)
from networks.steps import make_step
from networks.trained import load_for_test, write_trained
from networks.training import train_epoch
from networks.training_set import Part, TrainingSet, list_runs, load_training_set
from runtime.command import command, exit_now, no_stop_signals
from runtime.device import seed_everything, select_device
from runtime.files import FileGroup, process_lock, require_writable
from runtime.progress import Progress, Stopwatch, progress, say
from tools.results.files import write_log
from tools.results.pictures import png_or_blank
from tools.results.write_results import check_labels, write_results


def parse_arguments(argv: Sequence[str] | None = None) -> Settings:
    """Parse the command line on top of baseline.yaml."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        usage="train.py --dataset NAME (-d | -e) [option ...]",
        description="Train and test the DCASE 2023 Task 2 baseline on one data set.",
        epilog="Defaults are those of baseline.yaml. Exit status: 0 done, 1 failed, 2 wrong usage.",
        allow_abbrev=False,
    )
    options = parser.add_argument_group("what to do")
    options.add_argument(
        "--dataset", required=True, metavar="NAME", help="challenge and machine type, e.g. DCASE2023T2fan"
    )
    text = "a joint network's, with the challenge alone as --dataset [default: all]"
    options.add_argument("--machine_types", nargs="+", metavar="NAME", default=[], help=text)
    subset = options.add_mutually_exclusive_group(required=True)
    subset.add_argument("-d", "--dev", action="store_true", help="development data set")
    subset.add_argument("-e", "--eval", action="store_true", help="evaluation data set")
    number, tag, path = map(option_type, (SECTION, TAG, optional(PATH)))
    options.add_argument("--use_ids", nargs="*", type=number, metavar="N", help="sections, e.g. 0 [default: all]")
    text = "added to the names of all files [default: none]"
    options.add_argument("-tag", "--model_name_suffix", type=tag, default="", metavar="TAG", help=text)
    stage = options.add_mutually_exclusive_group()
    stage.add_argument("--train_only", action="store_true", help="train, do not test")
    stage.add_argument("--test_only", action="store_true", help="test with the network that was trained before")
    options.add_argument(
        "--restart", action="store_true", help="resume training from this run's checkpoint, if it has one"
    )
    text = "start from another run's checkpoint"
    options.add_argument("--checkpoint_path", type=path, metavar="FILE", help=text)
    return parse_settings(parser, argv)


@command
def main() -> None:
    """Train, test, or both, as the command line says."""
    watch, settings = Stopwatch(), parse_arguments()
    for name in SCORES.names():  # imported now, like all code: a later edit does not reach this run
        SCORES.get(name)
    run, runs = list_runs(settings)
    if not settings.train_only:
        check_applies(settings.score, settings.model)
    if settings.is_auto_download:
        for data in runs.values():
            data.download(training=not settings.test_only, testing=not settings.train_only)
        watch.lap("download")
    device = select_device(settings.use_cuda, settings.gpu_id, settings.threads)
    if not settings.test_only:
        train(settings, run, runs, device, watch)
    if not settings.train_only:
        test(settings, run, runs[run], device, watch)
    say(str(watch))


# --- training ---------------------------------------------------------------------------------------------------------


def train(settings: Settings, run: Run, runs: dict[Run, RunData], device: torch.device, watch: Stopwatch) -> None:
    """Train a network on the training clips, then fit the scores to it and write both with their record.

    `runs` are those that the network is written for, with their data: `run` itself, or those of a joint network.
    """
    training_set = load_training_set(run.name, runs, settings, device)
    parts = training_set.parts
    watch.lap("features")

    seed_everything(settings.seed)
    batches = training_set.batches(settings)
    identity = training_set.identity(settings, device.type)
    network = make_network(settings, parts[0].vectors.n_bins, training_set.labels).to(device)
    step = make_step(network)
    with contextlib.ExitStack() as locks:
        for each in dict.fromkeys((run, *runs)):
            for path in (each.log_csv, each.network, each.checkpoint):
                require_writable(path.parent)
            locks.enter_context(process_lock(each.lock, f"trains {run.name}"))
        state = start_or_resume(network, step, identity, run, runs)
        if not state.unwritten:
            say(f"{run.name} is complete; nothing is left to do")
            return
        try_scores(settings, network, list(parts[0].vectors.of_each_clip()))
        watch.lap("set-up")
        train_epochs(state, batches, settings, run)
        watch.lap("epochs")
        for part in (part for part in parts if part.run in state.unwritten):
            fitted = fit_part(state, part, training_set, batches, settings)
            watch.lap("covariances and thresholds")
            write_files(state, fitted, part, watch)
            watch.lap("files")
            say(f"wrote {part.run.network}")
        state.save(run.checkpoint, complete=True)


def train_epochs(state: TrainingState, batches: TrainingBatches, settings: Settings, run: Run) -> None:
    """Train the epochs that are left, with a checkpoint every checkpoint_interval epochs and after the last."""
    checkpoint, logs = run.checkpoint, run.log_csv.parent
    n_batches, n_epochs = len(batches.training), settings.epochs
    saved: dict | None = None
    total, done = n_epochs * n_batches, len(state.epochs) * n_batches
    shown = Progress("training", total, "batches", done, lines=False, interval=settings.log_interval)
    try:
        while len(state.epochs) < n_epochs:
            began, number = time.perf_counter(), len(state.epochs) + 1
            training = shown.over(batches.training)
            epoch = train_epoch(state.network, state.step, training, batches.validation, n_batches)
            loss, val_loss = epoch.losses.loss, epoch.losses.val_loss
            if not math.isfinite(loss + val_loss):
                raise InputError(
                    f"the losses are not finite in epoch {number} (loss {loss:g}, val_loss {val_loss:g}); lower "
                    "--learning_rate or look at the clips"
                )
            state.end_epoch(epoch, logs)
            text = f"epoch {number:3d}/{n_epochs}: loss {loss:.4f}, val_loss {val_loss:.4f}"
            text += "".join(f", {name} {value:.4g}" for name, value in state.epochs[-1].further.items())
            if not shown.note(text):
                say(f"{text} ({time.perf_counter() - began:.2f} s)")
            if number % settings.checkpoint_interval == 0 or number == n_epochs:
                state.save(checkpoint)
                saved = state.checkpoint
    except Stopped as stop:
        if state.checkpoint:
            if state.checkpoint is not saved:
                with no_stop_signals():
                    state.save(checkpoint)
            n_saved = len(state.checkpoint["epochs"])
            stop.say(f"{n_saved} of {n_epochs} epochs are saved; the same command with --restart resumes there")
        raise
    finally:
        shown.close()


def fit_part(
    state: TrainingState, part: Part, training_set: TrainingSet, batches: TrainingBatches, settings: Settings
) -> dict[Score, dict]:
    """Fit the scores that apply to the network to the clips of one part."""
    network, inputs = state.network, list(part.vectors.of_each_clip())
    if network.joint:
        say(f"fitting scores to {len(inputs)} clips of {part.data.folders.train}")
    is_squared = has_squared_errors(network, inputs[0].vectors)
    if is_squared and state.epochs[-1].loss == state.epochs[-1].recon_loss:  # no further term
        state.loss_unit = make_score("MSE", settings, None).unit
    batch_losses = state.batch_losses if is_squared else None
    if training_set.further and network.reconstructs:  # MSE and MAHALA are not fitted to further clips
        batches, batch_losses = make_batches([part.vectors], settings), None
    return fit_scores(network_scores(settings.model), settings, network, TrainingData(inputs, batches, batch_losses))


def write_files(state: TrainingState, fitted: dict[Score, dict], part: Part, watch: Stopwatch) -> None:
    """Write all files of a complete run, the record last."""
    run, sections = part.run, sorted({clip.section for clip in part.vectors.clips})
    machine_type, settings = split_dataset_name(run.dataset)[1], state.network.settings
    picture = png_or_blank(
        lambda plots: plots.draw_losses(
            state.epochs,
            f"{plots.sections_title(machine_type, sections)}: losses, seed {settings.seed}",
            state.loss_unit,
        )
    )
    with FileGroup() as group:
        write_log(group.open(run.log_csv), state.epochs)
        group.open(run.log_png, "wb").write(picture)
        print(json.dumps(settings.values, indent=1, default=str), file=group.open(run.arguments))
        write_trained(group, part, state, fitted, watch)


# --- testing ----------------------------------------------------------------------------------------------------------


def test(settings: Settings, run: Run, data: RunData, device: torch.device, watch: Stopwatch) -> None:
    """Score the test clips, decide, and write scores, decisions, metrics and a picture; nothing if a clip fails."""
    run = run.scored_by(settings.score)
    sections = list_clips(data.folders.test, data.sections)
    check_labels(sections)
    trained, score, threshold = load_for_test(run, settings, data, device)
    n_clips = sum(map(len, sections.values()))
    say(f"testing {run.name} by {score.name} on {n_clips} clips of {data.folders.test}")
    watch.lap("set-up")
    inputs = {section: trained.inputs(clips, data, device) for section, clips in sections.items()}
    watch.lap("features")
    scores = {}
    for section, clips in inputs.items():
        scores[section] = score_clips(score, progress(clips, len(clips), "scoring", "clips"))
    watch.lap("scoring")
    if threshold is None:
        advice = "" if trained.record else "; train here: the reference's pickle is never loaded"
        say(f"no decisions: {run.record} is missing or has no threshold of {score.name}{advice}")
    write_results(sections, scores, threshold, score.unit, trained.settings, run, data.folders.machine_type)
    watch.lap("files")


if __name__ == "__main__":
    exit_now(main())
