"""PCEN: per-channel energy normalisation (Lostanlen et al., 2019) of the mel spectrogram, instead of its logarithm.

bash 01_train.sh -d --extension examples/pcen_front_end.py --front_end PCEN --pcen_gain 0.8
"""

from common import FRACTION, FRONT_ENDS, Parameter

import librosa
import numpy as np

from datasets.front_ends import FrontEnd, mel_edges


@FRONT_ENDS.register
class Pcen(FrontEnd):
    """librosa's PCEN of the magnitudes in mel bands, of 32-bit samples as librosa recommends."""

    name = "PCEN"
    unit = "PCEN"
    options = (Parameter("pcen_gain", FRACTION, "exponent of the automatic gain control", default=0.98),)

    def __call__(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """Return the normalised energies: (n_frames, n_mels)."""
        s = self.settings
        mel = librosa.feature.melspectrogram(
            y=samples * 2.0**31,
            sr=rate,
            n_fft=s.n_fft,
            hop_length=s.hop_length,
            win_length=s.win_length,
            n_mels=s.n_mels,
            fmin=s.fmin,
            fmax=s.fmax,
            power=1.0,
        )
        return librosa.pcen(mel, sr=rate, hop_length=s.hop_length, gain=s.pcen_gain).T

    def edges(self, rate: int) -> np.ndarray:
        """Return the edges and centres of the mel bands in Hz, for the pictures' axis: (n_mels + 2,)."""
        return mel_edges(self.settings.n_mels, self.settings.fmin, self.settings.fmax or rate / 2)
