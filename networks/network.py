"""The base class of networks: what training and scores require, in ordinary PyTorch."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import NETWORKS, Extension, InputError, Parameter, Settings, contract_error

import torch
from torch import nn
from torch.nn import functional

from datasets.clips import Clip, MachineFolders


@dataclass(frozen=True)
class Losses:
    """The losses of a batch.

    Attributes
    ----------
    reconstruction
        Each vector's: (batch,), of any loss. The thresholds of MSE are fitted to the mean of squared errors.
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
        """Return the loss that training minimises: ()."""
        mean = self.mean_reconstruction()
        return mean if self.further is None else mean + self.further


@dataclass(frozen=True)
class EpochLosses:
    """A line of log.csv: means over a pass's batches; a batch that was skipped, or has no such vectors, counts as 0."""

    loss: float
    val_loss: float
    recon_loss: float  # the same as loss unless the network has a further term
    recon_loss_source: float
    recon_loss_target: float
    further: dict[str, float] = field(default_factory=dict)  # what the network's after_epoch returned


class Network(nn.Module):
    """A network that learns from vectors, by default to reconstruct them.

    An extension's class sets `name` and defines `forward`. It draws its initial weights from torch's global generator
    in __init__, and calls super().__init__ first.

    Attributes
    ----------
    label
        None, or a static method that returns the label of a training clip, any text, of clip and settings. The network
        is then trained with labels.
    reconstructs
        Whether `forward` reconstructs vectors. If not, it may return anything, and MSE and MAHALA do not apply.
    joint
        Whether one network is trained for all machine types and sections of a command. It cannot reconstruct.
    labels
        Label -> number of training clips, in alphabetical order; empty without `label`.
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
    label: Callable[[Clip, Settings], str] | None = None
    reconstructs = True
    joint = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.joint and cls.reconstructs:
            raise InputError(
                f"{cls.__name__}: MSE and MAHALA would mix the machine types of a joint network; set reconstructs = "
                "False, or joint = False"
            )

    @staticmethod
    def further_clips(folders: list[MachineFolders], settings: Settings) -> list[Clip]:
        """Return normal clips to be trained on too, to which no score is fitted; by default none.

        `folders` are those of the machine types that the network is trained for.
        """
        return []

    def __init__(self, settings: Settings, n_bins: int, labels: Mapping[str, int] | None = None):
        super().__init__()
        self.labels = dict(labels or {})
        self.settings, self.n_bins, self.n_values = settings, n_bins, settings.frames * n_bins
        self.cov_source = nn.Parameter(torch.zeros(n_bins, n_bins), requires_grad=False)
        self.cov_target = nn.Parameter(torch.zeros(n_bins, n_bins), requires_grad=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Reconstruct vectors: (batch, frames * n_bins) -> the same shape."""
        raise NotImplementedError

    def losses(self, vectors: torch.Tensor, *labels: Any) -> Losses:
        """Return the losses of a batch, (batch, frames * n_bins), for autograd; by default only squared errors.

        A network with `label` also gets each vector's label, (batch,) int64, as a position in `self.labels`.
        """
        errors = functional.mse_loss(self(vectors), vectors, reduction="none")
        return Losses(errors.mean(dim=1), elements=errors)

    def checked_losses(self, vectors: torch.Tensor, *labels: torch.Tensor) -> Losses:
        """Return `losses`, after checking their type, and a shape that would pass without an error."""
        losses = self.losses(vectors, *labels)
        if not isinstance(losses, Losses):
            raise contract_error(self, ".losses returned", losses, "return Losses(one loss per vector)")
        if losses.reconstruction.shape != (len(vectors),):
            advice = f"give one loss per vector, a tensor of shape ({len(vectors)},)"
            raise contract_error(self, ".losses returned as Losses.reconstruction", losses.reconstruction, advice)
        return losses

    def validation_losses(self, vectors: torch.Tensor, *labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return total loss and reconstruction loss of a validation batch, each ()."""
        losses = self.checked_losses(vectors, *labels)
        mean = losses.mean_reconstruction() if losses.elements is None else losses.elements.mean()
        return mean if losses.further is None else mean + losses.further, mean

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
        """Return the optimiser, and the scheduler that is stepped after each epoch, if any; by default Adam."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.Adam(trained, lr=self.settings.learning_rate), None

    def after_epoch(self, number: int, losses: EpochLosses, folder: Path) -> dict[str, float] | None:
        """Return further columns of log.csv, the same in each epoch; by default none.

        Called in eval mode after the validation of each epoch, counted from 1. `folder` holds the run's log.csv and may
        take other logs.
        """


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


def make_network(settings: Settings, n_bins: int, labels: Mapping[str, int]) -> Network:
    """Return the network that settings name, with new weights; `labels` are those of its training clips, if it has any.

    Classes without `label` take no third argument.
    """
    cls = NETWORKS.get(settings.model)
    if cls.label is None:
        return cls(settings, n_bins)
    network = cls(settings, n_bins, labels)
    if network.labels != labels:
        raise contract_error(cls, ".labels is", network.labels, "call super().__init__(settings, n_bins, labels)")
    return network


def label_clips(clips: Iterable[Clip], settings: Settings) -> tuple[dict[str, int], list[int] | None]:
    """Return the number of clips with each label, in alphabetical order, and each clip's label as a position in it.

    ({}, None) if the network that settings name has no labels.
    """
    cls = NETWORKS.get(settings.model)
    if cls.label is None:
        return {}, None
    labels = []
    for clip in clips:
        label = cls.label(clip, settings)
        if not isinstance(label, str):
            raise contract_error(cls, ".label returned", label, f"return a string for {clip.path}")
        labels.append(str.__str__(label))  # a plain text, also of NumPy's and of an enumeration's
    counts = dict(sorted(Counter(labels).items()))
    numbers = {label: number for number, label in enumerate(counts)}
    return counts, [numbers[label] for label in labels]
