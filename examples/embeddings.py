"""SPECTRUM-KNN: a score without a network of ours. Put a pretrained model's embedding in the place of `embed`.

bash tools/02_test.sh -d --extension examples/embeddings.py --score SPECTRUM-KNN     # needs no 01_train.sh
"""

from common import SCORES

import librosa
import torch

from datasets.vectors import ClipInput
from networks.scores import Score, TrainingData


@SCORES.register
class SpectrumNeighbours(Score):
    """Euclidean distance of a clip's embedding to the nearest training clip's."""

    name, unit = "SPECTRUM-KNN", "dB"
    description = "distance of a clip's mean log-mel spectrum to the nearest training clip's"
    needs_network = False

    def embed(self, clip: ClipInput) -> torch.Tensor:
        """Return the clip's mean log-mel spectrum: (128,)."""
        samples, rate = librosa.load(clip.path, sr=None)
        return torch.from_numpy(librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate)).mean(axis=1))

    def fit(self, data: TrainingData) -> list[float]:
        """Keep the training clips' embeddings; return each one's distance to the nearest other clip."""
        self.embeddings = torch.stack([self.embed(clip) for clip in data.clips])  # (n_clips, 128)
        return torch.cdist(self.embeddings, self.embeddings).fill_diagonal_(torch.inf).amin(dim=1).tolist()

    def of_clip(self, clip: ClipInput) -> float:  # noqa: D102
        return float(torch.cdist(self.embed(clip)[None], self.embeddings).min())

    def state(self) -> dict[str, torch.Tensor]:  # noqa: D102
        return {"embeddings": self.embeddings}

    def load(self, state: dict[str, torch.Tensor]) -> None:  # noqa: D102
        self.embeddings = state["embeddings"]
