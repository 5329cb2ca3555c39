"""The Mahalanobis distance of reconstruction errors, selective between two domains.

Conventions: errors are rows of n_bins values, one for each frame of each vector: (n_rows, n_bins), n_rows = n_vectors *
frames. A score is the smaller of the distances by the source and by the target domain's covariance.
Source: Harada et al., 2023, arXiv 2303.00455, and the reference's behaviour.
"""

from collections.abc import Iterable
from functools import partial

import torch

from networks.network import Network
from tools.runtime.cores import in_order


class DomainCovariance:
    """Covariance of the reconstruction errors of one domain, added up batch by batch as the reference does.

    Each batch's errors are centred on that batch's own mean, and the sum is divided by the number of vectors (not
    rows) less one: both are the reference's.
    """

    def __init__(self, n_bins: int, device: torch.device):
        self.scatter = torch.zeros(n_bins, n_bins, device=device)
        self.n_vectors = 0

    def add(self, errors: torch.Tensor) -> None:
        """Add the errors of a batch's vectors of this domain: (n_vectors, frames * n_bins), which may be none."""
        if len(errors) == 0:
            return
        self.n_vectors += len(errors)
        rows = errors.reshape(-1, len(self.scatter))  # (n_rows, n_bins)
        centred = rows - rows.mean(dim=0)
        self.scatter += centred.T @ centred

    def covariance(self) -> torch.Tensor:
        """Return the covariance: (n_bins, n_bins)."""
        return self.scatter / (self.n_vectors - 1)


@torch.no_grad()
def fit_covariances(network: Network, training: Iterable, n_threads: int = 1) -> None:
    """Set the network's covariances from one pass over the training batches, reconstructed on up to `n_threads`.

    Without any target vector both are the source's.
    """
    network.eval()
    device = network.cov_source.device
    source, target = (DomainCovariance(network.n_bins, device) for _ in range(2))
    for errors, is_target in in_order(partial(_errors, network), training, n_threads):
        if len(errors) > 1:  # the reference skips the single vector here too
            source.add(errors[~is_target])
            target.add(errors[is_target])
    network.cov_source.copy_(source.covariance() if source.n_vectors else target.covariance())
    network.cov_target.copy_(target.covariance() if target.n_vectors else source.covariance())


@torch.no_grad()  # which holds for one thread only
def _errors(network: Network, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    vectors, is_target = batch
    return vectors - network(vectors), is_target


def inverse_covariances(network: Network) -> list[torch.Tensor] | None:
    """Return the inverses of source and target covariance, (n_bins, n_bins) float32; None if one is singular."""
    try:
        inverses = [torch.inverse(covariance) for covariance in (network.cov_source, network.cov_target)]
    except torch.linalg.LinAlgError:
        return None
    return inverses if all(bool(inverse.isfinite().all()) for inverse in inverses) else None


def error_rows(network: Network, vectors: torch.Tensor) -> torch.Tensor:
    """Return reconstruction - input, a row a frame: (n_vectors * frames, n_bins)."""
    return (network(vectors) - vectors).reshape(-1, network.n_bins)


def pairwise_score(errors: torch.Tensor, inverses: list[torch.Tensor]) -> float:
    """Score errors (reconstruction - input) as the reference does, by every pair of rows, in float32.

    The sum over all pairs of rows i, j of e_i^T inv(cov) e_j, divided by n_rows squared: the distance of the mean
    error, at a cost that grows with the square of n_rows. It decides the last digits of the threshold, whose fit is
    ill-conditioned, so the batches that it is fitted to are scored like this.
    """

    def distance(inverse: torch.Tensor) -> float:
        pairs = torch.matmul(torch.matmul(errors, inverse), errors.T)  # (n_rows, n_rows)
        return float(pairs.mean(dim=1).sum() / len(errors))

    return min(distance(inverse) for inverse in inverses)


def direct_score(errors: torch.Tensor, inverses: list[torch.Tensor]) -> float:
    """Score errors (reconstruction - input) by d^T inv(cov) d, d being their mean, in float64.

    The same number as pairwise_score, within 1e-6 relative, at a cost that grows with n_rows.
    """
    mean = errors.double().mean(dim=0)  # (n_bins,)
    return min(float(mean @ inverse.double() @ mean) for inverse in inverses)
