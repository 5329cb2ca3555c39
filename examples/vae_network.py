"""VAE: a variational autoencoder (Kingma and Welling, 2014, arXiv 1312.6114), with AdamW and a cosine schedule.

bash 01_train.sh -d --extension examples/vae_network.py --model VAE --kl_weight 0.1
"""

from common import NETWORKS, NOT_NEGATIVE, Parameter, Settings

import torch
from torch import nn
from torch.nn import functional

from networks.autoencoder import dense
from networks.network import Losses, Network


@NETWORKS.register
class VariationalAutoEncoder(Network):
    """Reconstruction by the mean of a Gaussian code; trained on a sample of it, with the divergence from a normal."""

    name = "VAE"
    description = "variational autoencoder"
    options = (Parameter("kl_weight", NOT_NEGATIVE, "weight of the Kullback-Leibler divergence", default=0.1),)

    def __init__(self, settings: Settings, n_bins: int):
        super().__init__(settings, n_bins)
        self.encoder = nn.Sequential(dense([self.n_values, 128, 128]), nn.Linear(128, 8))
        self.log_variance = nn.Linear(8, 8)
        self.decoder = nn.Sequential(dense([8, 128, 128]), nn.Linear(128, self.n_values))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Reconstruct vectors from the mean of their code: (batch, frames * n_bins) -> the same shape."""
        return self.decoder(self.encoder(vectors))

    def losses(self, vectors: torch.Tensor) -> Losses:
        """Return squared errors of a reconstruction from a sampled code, and the weighted divergence."""
        mean = self.encoder(vectors)  # (batch, 8)
        log_variance = self.log_variance(mean)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(dim=1).mean()
        errors = functional.mse_loss(self.decoder(code), vectors, reduction="none").mean(dim=1)  # (batch,)
        return Losses(errors, self.settings.kl_weight * divergence)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Return AdamW, its learning rate falling to 0 over the epochs along a cosine."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.settings.learning_rate)
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.settings.epochs)
