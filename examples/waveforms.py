"""WAVEFORM: vectors are pieces of waveform; the network augments them in training and has a spectrogram of its own.

bash 01_train.sh -d --extension examples/waveforms.py --front_end WAVEFORM --model WAVE-AE --frames 32
bash tools/02_test.sh -d --extension examples/waveforms.py --front_end WAVEFORM --model WAVE-AE --score WAVE-MSE
"""

from common import FRONT_ENDS, NETWORKS, NOT_NEGATIVE, SCORES, Parameter, Settings

import numpy as np
import torch
from torch import nn

from datasets.front_ends import FrontEnd
from datasets.vectors import ClipInput
from networks.autoencoder import dense
from networks.network import Losses, Network
from networks.scores import Score


@FRONT_ENDS.register
class Waveform(FrontEnd):
    """Blocks of hop_length samples; the last incomplete one is left out."""

    name = "WAVEFORM"
    unit = "full scale"
    n_bins = property(lambda self: self.settings.hop_length)  # type: ignore[assignment]

    def n_frames(self, n_samples: int) -> int:
        """Return the number of whole blocks."""
        return n_samples // self.settings.hop_length

    def __call__(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """Return the blocks: (n_blocks, hop_length)."""
        n = self.n_frames(len(samples))
        return samples[: n * self.settings.hop_length].reshape(n, -1)


@NETWORKS.register
class WaveAutoEncoder(Network):
    """An autoencoder of log spectra, whose training pieces of waveform get random gain and noise."""

    name = "WAVE-AE"
    description = "autoencoder of log spectra, trained on augmented waveforms"
    options = (
        Parameter("noise", NOT_NEGATIVE, "added noise, as a share of the piece's standard deviation", default=0.1),
    )
    reconstructs = False

    def __init__(self, settings: Settings, n_bins: int):
        super().__init__(settings, n_bins)
        n = settings.n_fft // 2 + 1
        self.encoder, self.decoder = dense([n, 128, 128, 8]), nn.Sequential(dense([8, 128, 128]), nn.Linear(128, n))

    def spectra(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return log spectra in dB: (batch, frames * hop_length) -> (n_columns, n_fft / 2 + 1)."""
        s = self.settings
        window = torch.hann_window(s.n_fft, device=vectors.device)
        power = torch.stft(vectors, s.n_fft, s.hop_length, window=window, return_complex=True).abs() ** 2
        return 10 * (power + 1e-12).log10().transpose(1, 2).flatten(0, 1)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return each piece's squared error: (batch, frames * hop_length) -> (batch,)."""
        spectra = self.spectra(vectors)
        errors = (self.decoder(self.encoder(spectra)) - spectra) ** 2
        return errors.view(len(vectors), -1).mean(dim=1)

    def losses(self, vectors: torch.Tensor) -> Losses:
        """Return the errors, in training of pieces with a random gain of up to 6 dB and added noise."""
        if self.training:
            gain = 10 ** (0.3 * (2 * torch.rand(len(vectors), 1, device=vectors.device) - 1))
            noise = torch.randn_like(vectors) * vectors.std(dim=1, keepdim=True) * self.settings.noise
            vectors = gain * (vectors + noise)
        return Losses(self(vectors))


@SCORES.register
class WaveError(Score):
    """Mean squared error of a clip's pieces."""

    name, unit = "WAVE-MSE", "mean squared error, dB²"
    description = "mean squared error of the log spectra of a clip's pieces"

    @classmethod
    def takes(cls, model: str) -> bool:
        """Apply to this network alone."""
        return model == WaveAutoEncoder.name

    def of_clip(self, clip: ClipInput) -> torch.Tensor:
        """Return the mean: ()."""
        return self.network(clip.vectors).mean()
