#!/usr/bin/env python3
"""Train and test the DCASE 2023 Task 2 baseline on one data set (a challenge's machine type) and its sections.

The story, top to bottom: `train` loads the clips' features, trains the network epoch by epoch, fits the scores and
their thresholds, and writes the network with its scores and record; `test` scores the test clips, decides, and writes
scores, decisions and metrics as CSV files. 01_train.sh, 02a_test.sh and 02b_test.sh run this program once for each
machine type.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if sys.flags.safe_path:  # PYTHONSAFEPATH keeps the program's own folder from the path
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import (
    PATH,
    SCORES,
    SECTION,
    TAG,
    InputError,
    Settings,
    Stopped,
    option_type,
    optional,
    parse_settings,
)

import torch

from datasets.catalogue import split_dataset_name
from datasets.clips import list_clips
from datasets.run_data import RunData
from datasets.vectors import TrainingBatches, Vectors, make_batches
from networks.checkpoint import TrainingState, dump_tensors, load_checkpoint, new_network, random_state, save_checkpoint
from networks.names import Experiment, Run
from networks.record import is_intact, missing_scores, network_record, read_record, run_identity
from networks.scores import (
    FittedScore,
    TrainingData,
    fit_scores,
    has_squared_errors,
    make_score,
    network_scores,
    path_clips,
    score_clips,
)
from networks.steps import make_step
from networks.trained import fit_missing_scores, load_score, load_trained, write_scores
from networks.training import train_epoch
from runtime.command import exit_now, no_stop_signals, run_command
from runtime.device import seed_everything, select_device
from runtime.files import FileGroup, process_lock, require_writable
from runtime.progress import Progress, Stopwatch, progress, say
from tools.results.files import write_log
from tools.results.pictures import png_or_blank
from tools.results.result_record import check_folder
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
    run = parser.add_argument_group("what to do")
    run.add_argument("--dataset", required=True, metavar="NAME", help="challenge and machine type, e.g. DCASE2023T2fan")
    subset = run.add_mutually_exclusive_group(required=True)
    subset.add_argument("-d", "--dev", action="store_true", help="development data set")
    subset.add_argument("-e", "--eval", action="store_true", help="evaluation data set")
    number, tag, path = map(option_type, (SECTION, TAG, optional(PATH)))
    run.add_argument("--use_ids", nargs="*", type=number, metavar="N", help="sections, e.g. 0 [default: all]")
    text = "added to the names of all files [default: none]"
    run.add_argument("-tag", "--model_name_suffix", type=tag, default="", metavar="TAG", help=text)
    stage = run.add_mutually_exclusive_group()
    stage.add_argument("--train_only", action="store_true", help="train, do not test")
    stage.add_argument("--test_only", action="store_true", help="test with the network that was trained before")
    run.add_argument("--restart", action="store_true", help="resume training from this run's checkpoint, if it has one")
    text = "start from another run's checkpoint"
    run.add_argument("--checkpoint_path", type=path, metavar="FILE", help=text)
    return parse_settings(parser, argv)


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(lambda: run(parse_arguments()))


def run(settings: Settings) -> None:
    """Train, test, or both."""
    watch = Stopwatch()
    for name in SCORES.names():  # imported now, like all code: a later edit does not reach this run
        SCORES.get(name)
    files = Run(Experiment.of(settings, settings.eval), settings.dataset, settings.model_name_suffix)
    data = RunData(settings.dataset, settings.eval, settings.use_ids or None, settings)
    if settings.is_auto_download:
        data.download(training=not settings.test_only, testing=not settings.train_only)
        watch.lap("download")
    device = select_device(settings.use_cuda, settings.gpu_id, settings.threads)
    if not settings.test_only:
        train(settings, files, data, device, watch)
    if not settings.train_only:
        test(settings, files, data, device, watch)
    say(str(watch))


# --- training ---------------------------------------------------------------------------------------------------------


def train(settings: Settings, files: Run, data: RunData, device: torch.device, watch: Stopwatch) -> None:
    """Train a network on the training clips, fit the scores to it, and write both with their record."""
    clips = data.training_clips()
    say(f"training {files.name} on {len(clips)} clips of {data.folders.train}")
    vectors = data.vectors(clips, settings, device)
    watch.lap("features")

    seed_everything(settings.seed)
    batches = make_batches(vectors, settings)
    network = new_network(settings, vectors.n_bins, device)
    step = make_step(network)
    state = TrainingState(network, step, run_identity(settings, data, vectors, device.type))
    for path in (files.log_csv, files.network, files.checkpoint):
        require_writable(path.parent)
    with process_lock(files.lock, f"trains {files.name}"):
        resumed = resume(state, settings, files)
        is_complete = state.complete and len(state.epochs) == settings.epochs
        if is_complete and resumed == files.checkpoint and is_intact(files):
            fit_missing_scores(network_scores(), settings, files, data, device)
            say(f"{files.name} is complete; nothing is left to do")
            return
        watch.lap("set-up")
        train_epochs(state, batches, settings, files.checkpoint)
        watch.lap("epochs")
        inputs = list(vectors.of_each_clip())
        squared = has_squared_errors(network, inputs[0].vectors)
        if squared and state.epochs[-1].loss == state.epochs[-1].recon_loss:  # no further term
            state.loss_unit = make_score("MSE", settings, None).unit
        training = TrainingData(inputs, batches, state.batch_losses if squared else None)
        fitted = fit_scores(network_scores(), settings, network, training)
        watch.lap("covariances and thresholds")
        write_network(state, fitted, settings, files, vectors, watch)
        watch.lap("files")
    say(f"wrote {files.network}")


def resume(state: TrainingState, settings: Settings, files: Run) -> Path | None:
    """Set the state to where a checkpoint's run was, if one is to be resumed; return that checkpoint."""
    checkpoint = settings.checkpoint_path
    if checkpoint is None and settings.restart and files.checkpoint.is_file():
        checkpoint = files.checkpoint
    if checkpoint is not None:
        content = load_checkpoint(checkpoint, state, may_differ=("seed",) if settings.checkpoint_path else ())
        state.resumed_from.append(
            {"checkpoint": str(checkpoint), "seed": content.get("seed"), "epochs": len(state.epochs)}
        )
        if len(state.epochs) > settings.epochs:
            raise InputError(
                f"the checkpoint has {len(state.epochs)} epochs, more than --epochs {settings.epochs}; give "
                f"--epochs {len(state.epochs)} or more, or train without --restart"
            )
        say(f"{len(state.epochs)} of {settings.epochs} epochs are done, according to {checkpoint}")
    elif files.network.is_file():
        content = record.content if (record := read_record(files.record)) else {}
        done, date = content.get("epochs", "an unknown number of"), content.get("date", "no date on record")
        say(f"{files.network.name} of {done} epochs ({date}) is replaced when this training is done")
    return checkpoint


def train_epochs(state: TrainingState, batches: TrainingBatches, settings: Settings, checkpoint: Path) -> None:
    """Train the epochs that are left, with a checkpoint every checkpoint_interval epochs and after the last."""
    n_batches, n_epochs = len(batches.training), settings.epochs
    snapshot = saved = None
    shown = Progress("training", n_epochs * n_batches, "batches", len(state.epochs) * n_batches, lines=False)
    try:
        while len(state.epochs) < n_epochs:
            began = time.perf_counter()
            training = shown.count(batches.training, settings.log_interval)
            epoch = train_epoch(state.network, state.step, training, batches.validation, n_batches)
            losses, number = epoch.losses, len(state.epochs) + 1
            if not math.isfinite(losses.loss + losses.val_loss):
                raise InputError(
                    f"the losses are not finite in epoch {number} (loss {losses.loss:g}, val_loss "
                    f"{losses.val_loss:g}); lower --learning_rate or look at the clips"
                )
            state.epochs.append(losses)
            state.batch_losses = epoch.batch_losses
            state.random = random_state()
            snapshot = state.snapshot()
            text = f"epoch {number:3d}/{n_epochs}: loss {losses.loss:.4f}, val_loss {losses.val_loss:.4f}"
            if not shown.note(text):
                seconds = time.perf_counter() - began
                say(f"{text} ({seconds:.2f} s)")
            if number % settings.checkpoint_interval == 0 or number == n_epochs:
                save_checkpoint(checkpoint, snapshot)
                saved = snapshot
    except Stopped as stop:
        if snapshot is not None:
            if snapshot is not saved:
                with no_stop_signals():
                    save_checkpoint(checkpoint, snapshot)
            n_saved = len(snapshot["epochs"])
            stop.say(f"{n_saved} of {n_epochs} epochs are saved; the same command with --restart resumes there")
        raise
    finally:
        shown.close()


def write_network(
    state: TrainingState,
    fitted: list[FittedScore],
    settings: Settings,
    files: Run,
    vectors: Vectors,
    watch: Stopwatch,
) -> None:
    """Write all files of a complete run, the record last, and mark the checkpoint as complete."""
    sections = sorted({clip.section for clip in vectors.clips})
    machine_type = split_dataset_name(settings.dataset)[1]
    picture = png_or_blank(
        lambda plots: plots.draw_losses(
            state.epochs,
            f"{plots.sections_title(machine_type, sections)}: losses, seed {settings.seed}",
            state.loss_unit,
        )
    )
    network = dump_tensors(state.network.state_dict())
    with FileGroup() as group:
        scores = write_scores(group, files.network, fitted)
        write_log(group.open(files.log_csv), state.epochs)
        group.open(files.log_png, "wb").write(picture)
        group.open(files.network, "wb").write(network)
        group.open(files.arguments).write(settings.to_json())
        record = network_record(settings, files, vectors, state, watch, network, scores)
        record.write(group.open(files.record))
    state.complete = True
    save_checkpoint(files.checkpoint, state.snapshot())


# --- testing ----------------------------------------------------------------------------------------------------------


def test(settings: Settings, files: Run, data: RunData, device: torch.device, watch: Stopwatch) -> None:
    """Score the test clips, decide, and write scores, decisions, metrics and a picture; nothing if a clip fails."""
    name = settings.score
    files = files.scored_by(name)
    sections = list_clips(data.folders.test, data.sections)
    check_labels(sections)
    check_folder(files, name)
    if os.access(files.lock, os.W_OK):  # wait while another process trains the run
        with process_lock(files.lock, f"trains {files.name}"):
            pass
    needs_network = SCORES.get(name).needs_network  # type: ignore[attr-defined]
    trained = load_trained(files, settings, device) if needs_network else None
    settings = trained.settings if trained else settings
    if missing_scores([name], settings, files):
        with process_lock(files.lock, f"fits {name} to {files.name}"):
            fit_missing_scores([name], settings, files, data, device)
    network = None if trained is None else trained.network
    score, threshold = load_score(name, settings, read_record(files.record), network, files.network)
    n_clips = sum(map(len, sections.values()))
    say(f"testing {files.name} by {name} on {n_clips} clips of {data.folders.test}")
    watch.lap("set-up")
    clips = {}
    for section, listed in sections.items():
        if trained is None:
            clips[section] = path_clips(listed)
        else:
            vectors = data.vectors(listed, settings, device)
            features = vectors.features
            trained.check_clip(f"the clips of {data.folders.test} have", features.sampling_rate, features.channels)
            clips[section] = list(vectors.of_each_clip())
    watch.lap("features")
    scores = {}
    for section, listed in sections.items():
        scores[section] = score_clips(score, progress(clips[section], len(listed), "scoring", "clips"))
    watch.lap("scoring")
    if threshold is None:
        advice = "" if trained is None or trained.record else "; train here: the reference's pickle is never loaded"
        say(f"no decisions: {files.record} is missing or has no threshold of {name}{advice}")
    write_results(sections, scores, threshold, score.unit, settings, files, data.folders.machine_type)
    watch.lap("files")


if __name__ == "__main__":
    exit_now(main())
