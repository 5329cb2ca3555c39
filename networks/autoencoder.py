"""The dense autoencoder of the DCASE 2023 Task 2 baseline (Harada et al., 2023, arXiv 2303.00455)."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from common import Settings

import torch
from torch import nn

from networks.network import Network

HIDDEN = 128  # units of each hidden layer
N_HIDDEN = 4  # hidden layers of the encoder, and of the decoder
BOTTLENECK = 8  # units
BATCH_NORM: dict[str, Any] = {"momentum": 0.01, "eps": 1e-3}


class AutoEncoder(Network):
    """Encoder and decoder of fully connected layers.

    The state_dict's keys are the reference's, so that either can load the other's networks. The layers draw their
    initial weights from torch's generator, encoder first.
    """

    name = "DCASE2023T2-AE"
    description = "autoencoder"

    def __init__(self, settings: Settings, n_bins: int, labels: Mapping[str, int] | None = None):
        super().__init__(settings, n_bins, labels)
        hidden = [HIDDEN] * N_HIDDEN
        self.encoder = dense([self.n_values, *hidden, BOTTLENECK])
        self.decoder = dense([BOTTLENECK, *hidden, self.n_values])[:-2]  # the last layer is linear

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Reconstruct vectors: (batch, frames * n_bins) -> the same shape."""
        return self.decoder(self.encoder(vectors))  # (batch, 8) between the two


def dense(units: list[int]) -> nn.Sequential:
    """Return Linear, BatchNorm and ReLU from each number of units to the next."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(units):
        layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out, **BATCH_NORM), nn.ReLU()]
    return nn.Sequential(*layers)
