"""NEAR-FAR: log-mel of the near microphone beside the level above the far one's (DCASE 2026's two channels).

bash 01_train.sh -d --challenge DCASE2026T2 --extension examples/two_channels.py --front_end NEAR-FAR
"""

from common import FRONT_ENDS, InputError

import numpy as np

from datasets.front_ends import LogMel


@FRONT_ENDS.register
class NearAndFar(LogMel):
    """2 * n_mels values a frame: the near channel in dB, then its difference from the far channel in dB."""

    name = "NEAR-FAR"
    unit = "dB"
    all_channels = True
    n_bins = property(lambda self: 2 * self.settings.n_mels)  # type: ignore[assignment]

    def __call__(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """Return the frames, (n_frames, 2 * n_mels), of (n_samples, 2)."""
        if samples.shape[1] != 2:
            raise InputError(f"the clips have {samples.shape[1]} channels, not 2; choose another --front_end")
        near, far = (super(NearAndFar, self).__call__(channel, rate) for channel in samples.T)
        return np.concatenate([near, near - far], axis=1)

    def edges(self, rate: int) -> None:  # type: ignore[override]
        """Number the bins in pictures: they are no single scale of frequencies."""
