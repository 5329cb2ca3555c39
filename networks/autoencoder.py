"""The dense autoencoder of the DCASE 2023 Task 2 baseline (Harada et al., 2023, arXiv 2303.00455)."""

from itertools import pairwise

import torch
from torch import nn

HIDDEN = 128  # units of each hidden layer
N_HIDDEN = 4  # hidden layers of the encoder, and of the decoder
BOTTLENECK = 8  # units
BATCH_NORM = {"momentum": 0.01, "eps": 1e-3}


class AutoEncoder(nn.Module):
    """Encoder and decoder of fully connected layers, and the covariances that are fitted after the last epoch.

    The state_dict's keys are the reference's, so that either can load the other's networks. The layers are made, and
    draw their initial weights from torch's generator, encoder first.
    """

    def __init__(self, n_mels: int, frames: int):
        super().__init__()
        self.n_mels = n_mels
        self.cov_source = nn.Parameter(torch.zeros(n_mels, n_mels), requires_grad=False)
        self.cov_target = nn.Parameter(torch.zeros(n_mels, n_mels), requires_grad=False)
        hidden = [HIDDEN] * N_HIDDEN
        self.encoder = _dense([frames * n_mels, *hidden, BOTTLENECK])
        self.decoder = _dense([BOTTLENECK, *hidden, frames * n_mels])[:-2]  # the last layer is linear

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Reconstruct vectors: (batch, frames * n_mels) -> the same shape."""
        return self.decoder(self.encoder(vectors))  # (batch, 8) between the two


def _dense(units: list[int]) -> nn.Sequential:
    """Return Linear, BatchNorm and ReLU from each number of units to the next."""
    layers = []
    for n_in, n_out in pairwise(units):
        layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out, **BATCH_NORM), nn.ReLU()]
    return nn.Sequential(*layers)
