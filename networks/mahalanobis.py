"""Selective Mahalanobis distance: how far the mean error of a clip is from the errors of training, by frame.

Conventions: `errors` are rows of n_mels, one for each frame of each vector: (n_rows, n_mels), n_rows = n_vectors *
frames. A score is the smaller of the distances by the source and by the target domain's covariance.
Source: Harada et al., 2023, arXiv 2303.00455, and the reference's behaviour.
"""

import torch


class DomainCovariance:
    """Covariance of the reconstruction errors of one domain, added up batch by batch as the reference does.

    Each batch's errors are centred on that batch's own mean, and the sum is divided by the number of vectors (not
    rows) less one: both are the reference's.
    """

    def __init__(self, n_mels: int, device: torch.device):
        self.scatter = torch.zeros(n_mels, n_mels, device=device)
        self.n_vectors = 0

    def add(self, errors: torch.Tensor) -> None:
        """Add the errors of a batch's vectors of this domain: (n_vectors, frames * n_mels); none is fine."""
        if len(errors) == 0:
            return
        self.n_vectors += len(errors)
        rows = errors.reshape(-1, len(self.scatter))  # (n_rows, n_mels)
        centred = rows - rows.mean(dim=0)
        self.scatter += centred.T @ centred

    def covariance(self) -> torch.Tensor:
        """Return the covariance: (n_mels, n_mels)."""
        return self.scatter / (self.n_vectors - 1)


def pairwise_score(errors: torch.Tensor, inverses: list[torch.Tensor]) -> float:
    """Score errors (reconstruction - input) as the reference does, by every pair of rows, in float32.

    The sum over all pairs of rows i, j of e_i^T inv(cov) e_j, divided by n_rows squared: the distance of the mean
    error, at a cost that grows with the square of n_rows. It decides the last digits of the threshold, whose fit is
    ill-conditioned, so the batches that it is fitted on are scored like this.
    """

    def distance(inverse: torch.Tensor) -> float:
        pairs = torch.matmul(torch.matmul(errors, inverse), errors.T)  # (n_rows, n_rows)
        return float(pairs.mean(dim=1).sum() / len(errors))

    return min(distance(inverse) for inverse in inverses)


def direct_score(errors: torch.Tensor, inverses: list[torch.Tensor]) -> float:
    """Score errors (reconstruction - input) by d^T inv(cov) d, d being their mean, in float64.

    The same number as pairwise_score, within 1e-6 relative, at a cost that grows with n_rows.
    """
    mean = errors.double().mean(dim=0)  # (n_mels,)
    return min(float(mean @ inverse.double() @ mean) for inverse in inverses)
