"""The training stage: epochs, then covariances, then thresholds, each once, and the files that they give.

Written at the end, all or nothing: thresholds, log.csv, log.png, the record and the network; on the way: checkpoints.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from common import (
    SCORES,
    ExperimentPaths,
    InputError,
    Stopped,
    all_or_nothing,
    exclusive,
    no_stop_signals,
    require_writable,
    seed_everything,
)
from datasets.clips import check_training_clips, list_clips, manifest
from datasets.loaders import ClipSource, TrainingLoaders, load_vectors, make_training_loaders
from networks.autoencoder import AutoEncoder
from networks.checkpoint import TrainingState, load_checkpoint, random_state, save_checkpoint, save_network
from networks.engine import fit_covariances, mahalanobis_batch_scores, run_epoch
from networks.threshold import GammaDistribution, fit_gamma, save_gamma
from networks.training_step import TrainingStep
from tools.plots import plot_losses
from tools.progress import Stopwatch, TrainingProgress, progress
from tools.record import make_record, write_record
from tools.result_csv import write_log


@dataclass(frozen=True)
class TrainingConfig:
    """The parameters of training; baseline.yaml explains them."""

    seed: int
    batch_size: int
    epochs: int
    learning_rate: float
    shuffle: bool
    validation_split: float
    log_interval: int
    checkpoint_interval: int


def run_training(
    source: ClipSource,
    config: TrainingConfig,
    paths: ExperimentPaths,
    device: torch.device,
    watch: Stopwatch,
    restart: bool = False,
    resume_from: Path | None = None,
) -> None:
    """Train a network on the source's training clips and write it with all that belongs to it.

    Parameters
    ----------
    restart
        Go on from this run's own checkpoint if there is one; do nothing if the run is complete.
    resume_from
        Go on from this checkpoint, of a run with the same data and parameters.

    Raises
    ------
    InputError
        The clips, the parameters or the checkpoint cannot be used.
    """
    clips = [clip for section in list_clips(source.folders.train, source.sections).values() for clip in section]
    check_training_clips(clips)
    print(f"training {paths.run} on {len(clips)} clips of {source.folders.train}", flush=True)
    vectors = load_vectors(clips, source, device, progress)
    watch.lap("features")

    seed_everything(config.seed)
    loaders = make_training_loaders(vectors, config.batch_size, config.shuffle, config.validation_split)
    network = AutoEncoder(source.features.n_mels, source.vectors.frames).to(device)
    step = TrainingStep(network, config.learning_rate)
    state = TrainingState(network, step, _identity(source, config, paths, manifest(clips)))
    for path in (paths.log_csv, paths.network, paths.checkpoint):
        require_writable(path.parent)
    with exclusive(paths.training_lock, f"trains {paths.run}"):
        checkpoint = resume_from or (paths.checkpoint if restart and paths.checkpoint.is_file() else None)
        if checkpoint is not None:
            load_checkpoint(checkpoint, state)
            print(f"{len(state.epochs)} of {config.epochs} epochs are done, as {checkpoint} says", flush=True)
            if checkpoint == paths.checkpoint and _is_complete(state, config, paths):
                print(f"{paths.run} is complete; nothing is left to do", flush=True)
                return
            state.complete = False
        watch.lap("set-up")
        n_resumed = len(state.epochs)
        train_epochs(state, loaders, config, paths.checkpoint)
        watch.lap("epochs")
        fit_covariances(network, progress(loaders.training, len(loaders.training), "covariances", "batch"))
        thresholds = _fit_thresholds(state, loaders)
        watch.lap("covariances and thresholds")
        record = {
            **make_record(source, paths, device, watch),
            **asdict(config),
            "clips_manifest": state.identity["clips_manifest"],
            "epochs_done_before": n_resumed,
        }
        _write_files(state, thresholds, record, paths)
        watch.lap("files")
    print(f"wrote {paths.network}", flush=True)


def _is_complete(state: TrainingState, config: TrainingConfig, paths: ExperimentPaths) -> bool:
    """Tell whether all is done and all that it gave is there."""
    files = [paths.network, paths.record, paths.log_csv, paths.log_png, *map(paths.threshold, SCORES)]
    return state.complete and len(state.epochs) == config.epochs and all(path.is_file() for path in files)


def train_epochs(state: TrainingState, loaders: TrainingLoaders, config: TrainingConfig, checkpoint: Path) -> None:
    """Train the epochs that are not done yet, with a checkpoint every checkpoint_interval epochs and after the last.

    Raises
    ------
    InputError
        The state has more epochs than are wanted, or the losses of an epoch are not finite.
    """
    if len(state.epochs) > config.epochs:
        raise InputError(
            f"the checkpoint has {len(state.epochs)} epochs, more than --epochs {config.epochs}; give more"
        )
    n_batches = len(loaders.training)
    shown = TrainingProgress(config.epochs, len(state.epochs), n_batches, config.log_interval)
    snapshot = saved = None
    try:
        while len(state.epochs) < config.epochs:
            batches = shown.batches(loaders.training)
            epoch = run_epoch(state.network, state.step, batches, loaders.validation, n_batches)
            if not math.isfinite(epoch.losses.loss + epoch.losses.val_loss):
                raise InputError(
                    f"the losses are not finite in epoch {len(state.epochs) + 1} (loss {epoch.losses.loss:g}, val_loss "
                    f"{epoch.losses.val_loss:g}); lower --learning_rate or look at the clips"
                )
            state.epochs.append(epoch.losses)
            state.batch_losses = epoch.batch_losses
            state.random = random_state()
            snapshot = state.snapshot()
            shown.epoch_done(epoch.losses)
            if len(state.epochs) % config.checkpoint_interval == 0 or len(state.epochs) == config.epochs:
                save_checkpoint(checkpoint, snapshot)
                saved = snapshot
    except Stopped as stop:
        if snapshot is not saved:
            with no_stop_signals():
                save_checkpoint(checkpoint, snapshot)
        if snapshot is not None:
            n_epochs = len(snapshot["epochs"])
            stop.say(f"{n_epochs} of {config.epochs} epochs are saved, the same command with --restart goes on there")
        raise
    finally:
        shown.close()


def _fit_thresholds(state: TrainingState, loaders: TrainingLoaders) -> dict[str, GammaDistribution | None]:
    """Fit the distribution of each score's batches; where there is none, say so.

    After these two passes the reference makes one more over the validation batches, which gives nothing.
    """
    batch_scores = {
        "MSE": state.batch_losses,
        "MAHALA": mahalanobis_batch_scores(
            state.network,
            progress(loaders.training, len(loaders.training), "threshold", "batch"),
            progress(loaders.validation, len(loaders.validation), "threshold, validation", "batch"),
        ),
    }
    fitted = {score: None if batch_scores[score] is None else fit_gamma(batch_scores[score]) for score in SCORES}
    for score in SCORES:
        if fitted[score] is None:
            reason = "a covariance is singular" if batch_scores[score] is None else "no gamma distribution fits"
            print(f"warning: no threshold for {score}: {reason}; tests will give scores without decisions", flush=True)
    return fitted


def _write_files(
    state: TrainingState, thresholds: dict[str, GammaDistribution | None], record: dict, paths: ExperimentPaths
) -> None:
    """Write all that a complete run leaves, and say in the checkpoint that it is complete."""
    with all_or_nothing():
        for score, distribution in thresholds.items():
            save_gamma(distribution, paths.threshold(score))
        write_log(paths.log_csv, state.epochs)
        plot_losses(paths.log_png, state.epochs, paths.run)
        write_record(paths.record, record)
        save_network(state.network, paths.network)
    state.complete = True
    save_checkpoint(paths.checkpoint, state.snapshot())


def _identity(source: ClipSource, config: TrainingConfig, paths: ExperimentPaths, clips_manifest: str) -> dict:
    """Return what must be equal for one run to go on where another stopped."""
    return {
        "model": paths.model,
        "dataset": paths.dataset,
        "evaluation": paths.is_eval,
        "sections": source.sections,
        "clips_manifest": clips_manifest,
        **asdict(source.features),
        **asdict(source.vectors),
        **{name: getattr(config, name) for name in ("batch_size", "learning_rate", "shuffle", "validation_split")},
    }
