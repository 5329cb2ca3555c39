"""The base class of networks: what training and scores require, in ordinary PyTorch."""

from collections.abc import Iterable
from dataclasses import dataclass

from common import NETWORKS, Extension, Parameter, Settings, contract_error

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Losses:
    """The losses of a batch.

    Attributes
    ----------
    reconstruction
        Each vector's: (batch,). The thresholds of MSE are fitted to its mean.
    further
        A term added to their mean, such as a divergence: (); or None.
    elements
        The losses of single values, if `reconstruction` holds their means: (batch, frames * n_bins). Validation takes
        one mean over all of them, as the reference does; its last digit differs from that of the means' mean.
    """

    reconstruction: torch.Tensor
    further: torch.Tensor | None = None
    elements: torch.Tensor | None = None

    def mean_reconstruction(self) -> torch.Tensor:
        """Return the mean over the vectors, (), in the reference's form, which decides the gradient's bits."""
        return self.reconstruction.sum() / len(self.reconstruction)

    def total(self) -> torch.Tensor:
        """Return what training minimises: ()."""
        mean = self.mean_reconstruction()
        return mean if self.further is None else mean + self.further


class Network(nn.Module):
    """A network that reconstructs vectors. An extension's class sets `name` and defines `forward`.

    It draws its initial weights from torch's global generator in __init__, and calls super().__init__ first.

    Attributes
    ----------
    settings
        The value of every parameter, its own and the baseline's, as attributes.
    n_bins, n_values
        Values in a frame, and in a vector (frames * n_bins).
    cov_source, cov_target
        Covariances that MAHALA fits after the last epoch: (n_bins, n_bins). The keys are the reference's.
    """

    name = ""
    description = ""
    options: tuple[Parameter, ...] = ()  # its own parameters
    extension: Extension | None = None

    def __init__(self, settings: Settings, n_bins: int):
        super().__init__()
        self.settings, self.n_bins, self.n_values = settings, n_bins, settings.frames * n_bins
        self.cov_source = nn.Parameter(torch.zeros(n_bins, n_bins), requires_grad=False)
        self.cov_target = nn.Parameter(torch.zeros(n_bins, n_bins), requires_grad=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Reconstruct vectors: (batch, frames * n_bins) -> the same shape."""
        raise NotImplementedError

    def losses(self, vectors: torch.Tensor) -> Losses:
        """Return the losses of a batch, (batch, frames * n_bins), for autograd; by default only squared errors."""
        errors = functional.mse_loss(self(vectors), vectors, reduction="none")
        return Losses(errors.mean(dim=1), elements=errors)

    def checked_losses(self, vectors: torch.Tensor) -> Losses:
        """Return `losses`, after checking a shape that would pass without an error."""
        losses = self.losses(vectors)
        if losses.reconstruction.shape != (len(vectors),):
            advice = f"give one loss per vector, a tensor of shape ({len(vectors)},)"
            raise contract_error(self, ".losses returned as Losses.reconstruction", losses.reconstruction, advice)
        return losses

    def validation_losses(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return total loss and reconstruction loss of a validation batch, each ()."""
        losses = self.checked_losses(vectors)
        mean = losses.mean_reconstruction() if losses.elements is None else losses.elements.mean()
        return mean if losses.further is None else mean + losses.further, mean

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
        """Return the optimiser, and the scheduler that is stepped after each epoch, if any; by default Adam."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.Adam(trained, lr=self.settings.learning_rate), None


def as_floats(values: Iterable[torch.Tensor | float]) -> list[float]:
    """Return scalars, tensors or not, as floats. A CPU's are read one by one, another device's all at once.

    An epoch, the covariances, and the scores of batches or clips each call this once: nothing else waits for a GPU.
    """
    values = [read_if_on_cpu(value) for value in values]
    if values and all(isinstance(value, torch.Tensor) for value in values):
        return torch.stack([value.reshape(()) for value in values]).double().tolist()  # type: ignore[union-attr]
    return [float(value) for value in values]


def read_if_on_cpu(value: torch.Tensor | float) -> torch.Tensor | float:
    """Return the value of a scalar on the CPU; one on another device stays there until as_floats.

    Small tensors that are kept while large ones come and go fragment the memory.
    """
    return value.item() if isinstance(value, torch.Tensor) and value.device.type == "cpu" else value


def make_network(settings: Settings, n_bins: int) -> Network:
    """Return the network that settings name, with new weights."""
    return NETWORKS.get(settings.model)(settings, n_bins)
