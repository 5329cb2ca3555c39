"""The stages of a run: a training epoch, covariances, the batches' scores for the thresholds, the clips' scores.

Conventions: a batch is (vectors, is_target): (batch, frames * n_mels) float32 and (batch,) bool. Losses stay on the
device as tensors until the end of a pass. The order of operations is the reference's wherever it decides the bits.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from networks.autoencoder import AutoEncoder
from networks.mahalanobis import DomainCovariance, direct_score, pairwise_score
from networks.training_step import TrainingStep


@dataclass(frozen=True)
class EpochLosses:
    """A line of log.csv: means over all batches of a pass; one that was skipped or has no such vector counts 0."""

    loss: float
    val_loss: float
    recon_loss: float  # the same as loss: this network's only loss is its reconstruction's
    recon_loss_source: float
    recon_loss_target: float


@dataclass(frozen=True)
class Epoch:
    """What an epoch gave: its line of the log, and the losses of its training batches, then validation batches."""

    losses: EpochLosses
    batch_losses: list[float]


@dataclass(frozen=True)
class BatchLosses:
    """The losses of the training batches in turn: over all vectors, over the source's, over the target's."""

    total: list[float]
    source: list[float]
    target: list[float]


def run_epoch(
    network: AutoEncoder, step: TrainingStep, training: Iterable, validation: Collection, n_training: int
) -> Epoch:
    """Train on every training batch (there are `n_training`), then compute the loss of every validation batch."""
    losses = train_batches(step, training)
    validation_losses = _numbers(_validation_losses(network, validation))
    loss = _mean(losses.total, n_training)
    means = EpochLosses(
        loss=loss,
        val_loss=_mean(validation_losses, len(validation)),
        recon_loss=loss,
        recon_loss_source=_mean(losses.source, n_training),
        recon_loss_target=_mean(losses.target, n_training),
    )
    return Epoch(means, losses.total + validation_losses)


def train_batches(step: TrainingStep, training: Iterable) -> BatchLosses:
    """Take a step for every batch but one of a single vector, since batch normalisation needs two.

    The reference skips that one too; only the last can be so small.
    """
    total, source, target = [], [], []
    for vectors, is_target in training:
        if len(vectors) > 1:
            scores = step(vectors)  # (batch,)
            total.append(scores.sum() / len(scores))
            source.append(_mean_where(~is_target, scores))
            target.append(_mean_where(is_target, scores))
    return BatchLosses(_numbers(total), _numbers(source), _numbers(target))


@torch.no_grad()
def fit_covariances(network: AutoEncoder, training: Iterable) -> None:
    """Set the network's covariances from one pass over the training batches; no target vector: target is as source."""
    network.eval()
    device = network.cov_source.device
    source, target = (DomainCovariance(network.n_mels, device) for _ in range(2))
    for vectors, is_target in training:
        if len(vectors) > 1:  # the reference skips the single vector here too
            errors = vectors - network(vectors)
            source.add(errors[~is_target])
            target.add(errors[is_target])
    network.cov_source.copy_(source.covariance() if source.n_vectors else target.covariance())
    network.cov_target.copy_(target.covariance() if target.n_vectors else source.covariance())


@torch.no_grad()
def mahalanobis_batch_scores(network: AutoEncoder, training: Iterable, validation: Iterable) -> list[float] | None:
    """Score every training batch, then every validation batch, as if it were a clip; None: singular covariance."""
    network.eval()
    inverses = inverse_covariances(network)
    if inverses is None:
        return None
    return [
        pairwise_score(_error_rows(network, vectors), inverses)
        for loader in (training, validation)
        for vectors, _ in loader
    ]


@torch.no_grad()
def mse_clip_scores(network: AutoEncoder, clips: Iterable[torch.Tensor]) -> Iterator[float]:
    """Yield each clip's mean squared error over all its vectors, (n_vectors, frames * n_mels) a clip."""
    network.eval()
    for vectors in clips:
        yield float(functional.mse_loss(network(vectors), vectors))


@torch.no_grad()
def mahalanobis_clip_scores(
    network: AutoEncoder, inverses: list[torch.Tensor], clips: Iterable[torch.Tensor]
) -> Iterator[float]:
    """Yield each clip's selective Mahalanobis distance, (n_vectors, frames * n_mels) a clip."""
    network.eval()
    for vectors in clips:
        yield direct_score(_error_rows(network, vectors), inverses)


def inverse_covariances(network: AutoEncoder) -> list[torch.Tensor] | None:
    """Return the inverses of source and target covariance, (n_mels, n_mels) float32; None where one is singular."""
    try:
        inverses = [torch.inverse(covariance) for covariance in (network.cov_source, network.cov_target)]
    except torch.linalg.LinAlgError:
        return None
    return inverses if all(bool(inverse.isfinite().all()) for inverse in inverses) else None


@torch.no_grad()
def _validation_losses(network: AutoEncoder, validation: Iterable) -> list[torch.Tensor]:
    """Return the loss of each batch: one mean over all its elements, another last digit than the training loss."""
    network.eval()
    return [functional.mse_loss(network(vectors), vectors) for vectors, _ in validation]


def _error_rows(network: nn.Module, vectors: torch.Tensor) -> torch.Tensor:
    """Return reconstruction - input, a row a frame: (n_vectors * frames, n_mels)."""
    return (network(vectors) - vectors).reshape(-1, network.n_mels)


def _mean_where(selected: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Return the mean of the selected scores, 0 where there are none."""
    chosen = scores[selected]
    return chosen.sum() / max(len(chosen), 1)


def _numbers(tensors: list[torch.Tensor]) -> list[float]:
    """Return the values of scalar tensors, read from the device at once."""
    return torch.stack(tensors).tolist() if tensors else []


def _mean(values: list[float], count: int) -> float:
    """Return sum / count, added from left to right as the reference does; sum() rounds otherwise from Python 3.12."""
    total = 0.0
    for value in values:
        total += value
    return total / count
