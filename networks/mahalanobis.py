"""The Mahalanobis distance of reconstruction errors, selective between two domains.

Conventions: errors are rows of n_bins values, one for each frame of each vector: (n_rows, n_bins), n_rows = n_vectors *
frames. A score is the smaller of the distances by the source and by the target domain's covariance.
Source: Harada et al., 2023, arXiv 2303.00455, and the reference's behaviour.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import torch

from datasets.vectors import ClipInput
from networks.network import Network, as_floats
from networks.scores import NoThresholdError, ReconstructionScore, TrainingData
from runtime.cores import available_cores, in_order
from runtime.progress import progress


class Mahalanobis(ReconstructionScore):
    """Mahalanobis distance of a clip's mean reconstruction error, by the nearer of two domains' covariances.

    The covariances are in the network's state_dict, as in the reference.
    """

    name = "MAHALA"
    description = "Mahalanobis distance of the mean error over all frames of a clip, the smaller of the two domains'"
    unit = "selective Mahalanobis distance, no unit"
    domain_generalization = "the smaller of the distances by the source and the target domain's covariance"
    fitted_in_network = ("cov_source", "cov_target")

    def fit(self, data: TrainingData) -> list[float]:
        """Fit the covariances in one pass, then score every training and validation batch as if it were a clip."""
        assert data.batches is not None
        training, validation = data.batches.training, data.batches.validation
        on_cpu = self.network.cov_source.device.type == "cpu"
        one_thread = not on_cpu or self.network.extension is not None  # an extension's network may draw or keep state
        n_threads = 1 if one_thread else max(1, available_cores() // torch.get_num_threads())
        fit_covariances(self.network, progress(training, len(training), "covariances", "batches"), n_threads)
        self.load({})

        @torch.no_grad()  # applies to one thread only
        def score(batch: Sequence[torch.Tensor]) -> torch.Tensor:
            return pairwise_score(error_rows(self.network, batch[0]), self.inverses)

        return as_floats(
            value
            for batches, what in ((training, "threshold"), (validation, "threshold, validation"))
            for value in in_order(score, progress(batches, len(batches), what, "batches"), n_threads)
        )

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Invert the covariances, which the network holds."""
        self.inverses = inverse_covariances(self.network)

    def of_clip(self, clip: ClipInput) -> torch.Tensor:
        """Return the distance: ()."""
        return direct_score(error_rows(self.network, clip.vectors), self.inverses)


class DomainCovariance:
    """Covariance of the reconstruction errors of one domain, added up batch by batch as the reference does.

    Each batch's errors are centred on that batch's own mean, and the sum is divided by the number of vectors (not
    rows) less one, as in the reference.
    """

    def __init__(self, n_bins: int, device: torch.device):
        self.scatter = torch.zeros(n_bins, n_bins, device=device)
        self.n_vectors = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, errors: torch.Tensor, chosen: torch.Tensor) -> None:
        """Add a batch's errors, (n_vectors, frames * n_bins), of the vectors in this domain: (n_vectors,) bool.

        The CPU's form decides the bits; on other devices, masked sums avoid waiting for the host.
        """
        n_chosen, n_bins = chosen.sum(), len(self.scatter)
        self.n_vectors += n_chosen
        if errors.device.type == "cpu":
            rows = errors[chosen].reshape(-1, n_bins)  # (n_rows, n_bins); n_rows may be 0
            centred = rows - rows.mean(dim=0)
        else:
            of_vector = errors.reshape(len(errors), -1, n_bins) * chosen[:, None, None]  # (n_vectors, frames, n_bins)
            mean = of_vector.sum(dim=(0, 1)) / (n_chosen * of_vector.shape[1]).clamp(min=1)
            centred = ((of_vector - mean) * chosen[:, None, None]).reshape(-1, n_bins)
        self.scatter += centred.T @ centred

    def covariance(self) -> torch.Tensor:
        """Return the covariance: (n_bins, n_bins)."""
        return self.scatter / (self.n_vectors - 1)


@torch.no_grad()
def fit_covariances(network: Network, training: Iterable, n_threads: int = 1) -> None:
    """Set the network's covariances from one pass over the training batches, reconstructed on up to `n_threads`.

    Without target vectors both are the source's.
    """
    network.eval()
    device = network.cov_source.device
    source, target = (DomainCovariance(network.n_bins, device) for _ in range(2))
    for errors, is_target in in_order(partial(_errors, network), training, n_threads):
        if len(errors) > 1:  # the reference skips a single vector here too
            source.add(errors, ~is_target)
            target.add(errors, is_target)
    for covariance, domain, other in ((network.cov_source, source, target), (network.cov_target, target, source)):
        covariance.copy_(torch.where(domain.n_vectors > 0, domain.covariance(), other.covariance()))


@torch.no_grad()  # applies to one thread only
def _errors(network: Network, batch: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    vectors, is_target, *_ = batch
    return vectors - network(vectors), is_target


def inverse_covariances(network: Network) -> list[torch.Tensor]:
    """Return the inverses of source and target covariance, (n_bins, n_bins) float32; NoThresholdError: singular."""
    inverted = [torch.linalg.inv_ex(covariance) for covariance in (network.cov_source, network.cov_target)]
    if not all(as_floats((info == 0) & inverse.isfinite().all() for inverse, info in inverted)):
        raise NoThresholdError("a covariance is singular, so there is no Mahalanobis distance; use another --score")
    return [inverse for inverse, _ in inverted]


def error_rows(network: Network, vectors: torch.Tensor) -> torch.Tensor:
    """Return reconstruction - input, one row per frame: (n_vectors * frames, n_bins)."""
    return (network(vectors) - vectors).reshape(-1, network.n_bins)


def pairwise_score(errors: torch.Tensor, inverses: list[torch.Tensor]) -> torch.Tensor:
    """Score errors (reconstruction - input), (), as the reference does, by every pair of rows, in float32.

    The sum over all pairs of rows i, j of e_i^T inv(cov) e_j, divided by n_rows squared: the distance of the mean
    error, at a cost that grows with the square of n_rows. It decides the last digits of the threshold, whose fit is
    ill-conditioned, so the batches that it is fitted to are scored like this.
    """

    def distance(inverse: torch.Tensor) -> torch.Tensor:
        pairs = torch.matmul(torch.matmul(errors, inverse), errors.T)  # (n_rows, n_rows)
        return pairs.mean(dim=1).sum() / len(errors)

    return torch.stack([distance(inverse) for inverse in inverses]).min()


def direct_score(errors: torch.Tensor, inverses: list[torch.Tensor]) -> torch.Tensor:
    """Score errors (reconstruction - input), (), by d^T inv(cov) d, d being their mean, in float64.

    The same number as pairwise_score, within 1e-6 relative, at a cost that grows with n_rows.
    """
    mean = errors.double().mean(dim=0)  # (n_bins,)
    return torch.stack([mean @ inverse.double() @ mean for inverse in inverses]).min()
