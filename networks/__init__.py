"""From vectors to scores: the autoencoder, its training, Mahalanobis distance, thresholds, files."""
