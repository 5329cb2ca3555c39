"""Training: a step, an epoch, and which step is taken.

Conventions: a batch is (vectors, is_target): (batch, frames * n_bins) float32 and (batch,) bool. Losses stay on the
device as tensors until the end of a pass. The order of operations is the reference's wherever it decides the bits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from networks.autoencoder import AutoEncoder
from networks.fast_step import FastStep
from networks.network import Losses, Network


@dataclass(frozen=True)
class EpochLosses:
    """A line of log.csv: means over all batches of a pass; one that was skipped or has no such vector counts 0."""

    loss: float
    val_loss: float
    recon_loss: float  # the same as loss unless the network has a further term
    recon_loss_source: float
    recon_loss_target: float


@dataclass(frozen=True)
class Epoch:
    """An epoch's line of the log, and the reconstruction losses of its training batches, then validation batches."""

    losses: EpochLosses
    batch_losses: list[float]


class SizedIterable(Protocol):
    """Batches, and how many they are."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]: ...


class Step(Protocol):
    """A step of training: called with (batch, frames * n_bins), it updates the network and returns the losses."""

    def __call__(self, vectors: torch.Tensor) -> Losses: ...  # noqa: D102
    def end_epoch(self) -> None: ...  # noqa: D102
    def state_dict(self) -> dict: ...  # noqa: D102
    def load_state_dict(self, state: dict) -> None: ...  # noqa: D102


class PlainStep:
    """The training step of any network: autograd and the network's own optimiser."""

    def __init__(self, network: Network):
        self.network = network
        self.optimizer, self.scheduler = network.configure_optimizers()

    def __call__(self, vectors: torch.Tensor) -> Losses:
        """Take a step on (batch, frames * n_bins), batch > 1."""
        self.optimizer.zero_grad()
        losses = self.network.losses(vectors)
        losses.total().backward()
        self.optimizer.step()
        further = None if losses.further is None else losses.further.detach()
        return Losses(losses.reconstruction.detach(), further)

    def end_epoch(self) -> None:
        """Have the scheduler change the learning rate."""
        if self.scheduler is not None:
            self.scheduler.step()

    def state_dict(self) -> dict:
        """Return the state of optimiser and scheduler."""
        return {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler and self.scheduler.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Load the state; KeyError, TypeError or ValueError if it belongs to another optimiser."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])


def make_step(network: Network, learning_rate: float) -> Step:
    """Return the step that trains a network: the plain one, or the baseline's written out, which has the same bits."""
    if type(network) is AutoEncoder and network.cov_source.device.type == "cpu":
        return FastStep(network, learning_rate)
    return PlainStep(network)


def train_epoch(network: Network, step: Step, training: Iterable, validation: SizedIterable, n_training: int) -> Epoch:
    """Train on every training batch (there are `n_training`), then compute the losses of every validation batch.

    A batch of a single vector is skipped, since batch normalisation needs two: only the last can be so small. The
    reference skips it too.
    """
    loss, reconstruction, source, target = [], [], [], []
    network.train()
    for vectors, is_target in training:
        if len(vectors) > 1:
            losses = step(vectors)
            mean = losses.mean_reconstruction()
            loss.append(mean if losses.further is None else mean + losses.further)
            reconstruction.append(mean)
            source.append(mean_where(~is_target, losses.reconstruction))
            target.append(mean_where(is_target, losses.reconstruction))
    step.end_epoch()
    validation_loss, validation_reconstruction = _validate(network, validation)
    reconstruction_losses = numbers(reconstruction)
    means = EpochLosses(
        loss=_mean(numbers(loss), n_training),
        val_loss=_mean(validation_loss, len(validation)),
        recon_loss=_mean(reconstruction_losses, n_training),
        recon_loss_source=_mean(numbers(source), n_training),
        recon_loss_target=_mean(numbers(target), n_training),
    )
    return Epoch(means, reconstruction_losses + validation_reconstruction)


@torch.no_grad()
def _validate(network: Network, validation: Iterable) -> tuple[list[float], list[float]]:
    """Return total loss and reconstruction loss of each validation batch."""
    network.eval()
    losses = [network.validation_losses(vectors) for vectors, _ in validation]
    return numbers([total for total, _ in losses]), numbers([reconstruction for _, reconstruction in losses])


def mean_where(selected: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the mean of the selected values, (batch,) both, or 0 if there are none.

    The CPU's form decides bits; elsewhere a masked sum keeps the device from waiting for the host.
    """
    if values.device.type == "cpu":
        chosen = values[selected]
        return chosen.sum() / max(len(chosen), 1)
    return (values * selected).sum() / selected.sum().clamp(min=1)


def numbers(tensors: list[torch.Tensor]) -> list[float]:
    """Return the values of scalar tensors, read from the device at once."""
    return torch.stack(tensors).tolist() if tensors else []


def _mean(values: list[float], count: int) -> float:
    """Return sum / count, added from left to right as the reference does; sum() rounds otherwise from Python 3.12."""
    total = 0.0
    for value in values:
        total += value
    return total / count
