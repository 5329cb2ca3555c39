"""Training: the plain step, and an epoch.

Conventions: a batch is (vectors, is_target): (batch, frames * n_bins) float32 and (batch,) bool; for a network with
labels, (vectors, is_target, labels), the last (batch,) int64. Losses stay on the
device as tensors until the end of an epoch. The order of operations is the reference's wherever it decides the bits.
"""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch

from datasets.vectors import Batches
from networks.network import EpochLosses, Losses, Network, as_floats, read_if_on_cpu


@dataclass(frozen=True)
class Epoch:
    """An epoch's line of the log, and the reconstruction losses of its training batches, then validation batches."""

    losses: EpochLosses
    batch_losses: list[float]


class Step(Protocol):
    """A training step: called with vectors, and labels if any, it updates the network and returns the losses."""

    def __call__(self, vectors: torch.Tensor, *labels: torch.Tensor) -> Losses: ...  # noqa: D102
    def end_epoch(self) -> None: ...  # noqa: D102
    def state_dict(self) -> dict: ...  # noqa: D102
    def load_state_dict(self, state: dict) -> None: ...  # noqa: D102


class PlainStep:
    """The training step of any network: autograd and the network's own optimiser.

    The parameter `precision` applies to the step's matrix products; validation and scores are always float32.
    """

    def __init__(self, network: Network):
        self.network = network
        self.precision = network.settings.precision
        self.optimizer, self.scheduler = network.configure_optimizers()

    def __call__(self, vectors: torch.Tensor, *labels: torch.Tensor) -> Losses:
        """Take a step on (batch, frames * n_bins) and, for a network with labels, (batch,); batch > 1."""
        self.optimizer.zero_grad()
        torch.backends.cuda.matmul.allow_tf32 = self.precision == "tf32"
        with torch.autocast(vectors.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext():
            losses = self.network.checked_losses(vectors, *labels)
        losses.total().backward()
        torch.backends.cuda.matmul.allow_tf32 = False
        self.optimizer.step()
        further = None if losses.further is None else losses.further.detach()
        return Losses(losses.reconstruction.detach(), further)

    def end_epoch(self) -> None:
        """Step the scheduler, if there is one."""
        if self.scheduler is not None:
            self.scheduler.step()

    def state_dict(self) -> dict:
        """Return the state of optimiser and scheduler."""
        return {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler and self.scheduler.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Load the state, that of either step."""
        ours, saved = self.optimizer.state_dict(), state["optimizer"]
        self.optimizer.load_state_dict({**saved, "param_groups": saved["param_groups"] or ours["param_groups"]})
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])


def train_epoch(
    network: Network, step: Step, training: Iterable, validation: Batches | Sequence, n_training: int
) -> Epoch:
    """Train on every training batch (there are `n_training`), then compute the losses of every validation batch.

    A batch of a single vector is skipped, since batch normalisation needs two: only the last can be so small. The
    reference skips it too.
    """
    trained: list[torch.Tensor | float] = []  # four losses of each batch
    validated: list[torch.Tensor | float] = []  # two of each batch
    network.train()
    for vectors, is_target, *labels in training:
        if len(vectors) > 1:
            losses = step(vectors, *labels)
            by_domain = (mean_where(chosen, losses.reconstruction) for chosen in (~is_target, is_target))
            trained += map(read_if_on_cpu, (losses.total(), losses.mean_reconstruction(), *by_domain))
    step.end_epoch()
    network.eval()
    with torch.no_grad():
        for vectors, _, *labels in validation:
            validated += map(read_if_on_cpu, network.validation_losses(vectors, *labels))
    values = as_floats(trained + validated)
    loss, reconstruction, source, target = (values[i : len(trained) : 4] for i in range(4))
    validation_loss, validation_reconstruction = (values[len(trained) + i :: 2] for i in range(2))
    means = EpochLosses(
        loss=_mean(loss, n_training),
        val_loss=_mean(validation_loss, len(validation)),
        recon_loss=_mean(reconstruction, n_training),
        recon_loss_source=_mean(source, n_training),
        recon_loss_target=_mean(target, n_training),
    )
    return Epoch(means, reconstruction + validation_reconstruction)


def mean_where(selected: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the mean of the selected values, (batch,) both, or 0 if there are none.

    The CPU's form decides the bits; on other devices, a masked sum avoids waiting for the host.
    """
    if values.device.type == "cpu":
        chosen = values[selected]
        return chosen.sum() / max(len(chosen), 1)
    return (values * selected).sum() / selected.sum().clamp(min=1)


def _mean(values: list[float], count: int) -> float:
    """Return the mean, added from left to right as in the reference; sum() rounds differently from Python 3.12 on."""
    total = 0.0
    for value in values:
        total += value
    return total / count
