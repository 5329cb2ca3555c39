"""From vectors to scores: the autoencoder, its training, Mahalanobis distance, thresholds, files."""

import common  # noqa: F401 (before NumPy, whose instruction set it fixes)
