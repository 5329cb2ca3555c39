"""KNN: distance of a clip's mean encoder output to its k nearest training clips.

bash tools/02_test.sh -d --extension examples/knn_score.py --score KNN --knn_k 3
"""

from common import NETWORKS, SCORES, Parameter, integer

import torch

from datasets.vectors import ClipInput
from networks.scores import Score, TrainingData


@SCORES.register
class NearestNeighbours(Score):
    """Mean Euclidean distance to the k nearest training clips, in the space of the encoder's output."""

    name = "KNN"
    unit = "Euclidean distance"
    description = "mean distance of a clip's mean encoder output to its k nearest training clips"
    options = (Parameter("knn_k", integer(1), "nearest training clips", default=1),)

    @classmethod
    def takes(cls, model: str) -> bool:
        """Apply to autoencoders, which have an encoder."""
        return NETWORKS.get(model).reconstructs

    def fit(self, data: TrainingData) -> list[float]:
        """Keep the training clips' embeddings; the threshold comes from each one's distance to the others."""
        self.embeddings = torch.stack([self.embed(clip) for clip in data.clips])  # (n_clips, 8)
        distances = torch.cdist(self.embeddings, self.embeddings).fill_diagonal_(torch.inf)  # not to itself
        return [self.mean_of_nearest(row) for row in distances]

    def of_clip(self, clip: ClipInput) -> float:
        """Return the mean distance to the nearest training clips."""
        return self.mean_of_nearest(torch.linalg.vector_norm(self.embeddings - self.embed(clip), dim=1))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the training clips' embeddings, which are kept beside the network."""
        return {"embeddings": self.embeddings}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the embeddings that `state` returned."""
        self.embeddings = state["embeddings"].to(self.network.cov_source.device)

    def embed(self, clip: ClipInput) -> torch.Tensor:
        """Return a clip's mean encoder output: (8,)."""
        return self.network.encoder(clip.vectors).mean(dim=0)

    def mean_of_nearest(self, distances: torch.Tensor) -> float:
        """Return the mean of the k smallest finite distances, (n_clips,)."""
        k = min(self.settings.knn_k, int(distances.isfinite().sum()))
        return float(distances.topk(k, largest=False).values.mean())
