"""CLASSIFIER: one network for all machine types, which learns to tell them and their attributes apart; kNN scores.

bash 01_train.sh -d --extension examples/attribute_classifier.py --model CLASSIFIER --frames 32 --frame_hop_length 8
bash tools/02_test.sh -d --extension examples/attribute_classifier.py --model CLASSIFIER --score CLASS-KNN

A clip's class is its machine type, section and attributes. An angular margin loss (ArcFace, Deng et al., 2019), with
AdaCos's fixed scale (Zhang et al., 2019), spreads the embeddings of different classes over a sphere. The score is the
cosine distance to the nearest training clips, of the source or of the target domain, whichever is nearer.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from common import NETWORKS, NOT_NEGATIVE, SCORES, Parameter, Settings, integer

import torch
from torch import nn
from torch.nn import functional

from datasets.clips import Clip
from datasets.vectors import ClipInput
from networks.network import EpochLosses, Losses, Network
from networks.scores import Score, TrainingData

N_VALUES = 64  # of an embedding


@NETWORKS.register
class AttributeClassifier(Network):
    """A convolutional network over spectrograms of `frames` frames; forward returns embeddings of length 1."""

    name = "CLASSIFIER"
    description = "convolutional classifier of machine types and attributes"
    options = (Parameter("margin", NOT_NEGATIVE, "angular margin in radians", default=0.2),)
    joint, reconstructs = True, False

    @staticmethod
    def label(clip: Clip, settings: Settings) -> str:
        """Return the clip's class, such as `fan 00 m-n_W`."""
        return f"{clip.machine_type} {clip.section:02d} {clip.attributes}".strip()

    def __init__(self, settings: Settings, n_bins: int, labels: Mapping[str, int]):
        super().__init__(settings, n_bins, labels)
        blocks = [self._block(*channels) for channels in ((1, 16), (16, 32), (32, 64))]
        self.encoder = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, N_VALUES))
        self.centres = nn.Parameter(torch.randn(len(labels), N_VALUES))  # of the classes, whatever their length
        self.scale = math.sqrt(2) * math.log(max(len(labels) - 1, 2))
        self.is_right: list[torch.Tensor] = []  # in this epoch's validation

    @staticmethod
    def _block(n_in: int, n_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2)
        )

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Embed vectors: (batch, frames * n_bins) -> (batch, N_VALUES)."""
        spectrograms = vectors.view(-1, 1, self.settings.frames, self.n_bins)
        return functional.normalize(self.encoder(spectrograms / 20))  # dB; about one standard deviation

    def losses(self, vectors: torch.Tensor, labels: torch.Tensor) -> Losses:
        """Return each vector's cross entropy, in training with the margin added to the angle to its own class."""
        cosines = self(vectors) @ functional.normalize(self.centres).T  # (batch, n_classes)
        if self.training:
            own = functional.one_hot(labels, len(self.labels)).bool()
            angles = cosines.clamp(-0.9999, 0.9999).acos() + self.settings.margin
            cosines = torch.where(own, angles.clamp(max=math.pi).cos(), cosines)
        else:
            self.is_right.append(cosines.argmax(dim=1) == labels)
        return Losses(functional.cross_entropy(self.scale * cosines, labels, reduction="none"))

    def after_epoch(self, number: int, losses: EpochLosses, folder: Path) -> dict[str, float]:
        """Return the share of validation vectors whose class is found, a column of log.csv."""
        accuracy = torch.cat(self.is_right).double().mean().item() if self.is_right else 0.0
        self.is_right.clear()
        return {"val_accuracy": accuracy}


@SCORES.register
class ClassNeighbours(Score):
    """Cosine distance to the nearest training clips: of either domain's, the smaller."""

    name = "CLASS-KNN"
    unit = "cosine distance"
    description = "distance of a clip's mean embedding to its nearest training clips"
    domain_generalization = "the nearer of source and target domain"
    options = (Parameter("neighbours", integer(1), "nearest training clips of a domain", default=1),)

    @classmethod
    def takes(cls, model: str) -> bool:
        """Apply to this network alone."""
        return model == AttributeClassifier.name

    def fit(self, data: TrainingData) -> list[float]:
        """Keep the training clips' embeddings; the threshold comes from each one's distance to the others."""
        self.embeddings = torch.stack([self.embed(clip) for clip in data.clips])  # (n_clips, N_VALUES)
        self.is_target = torch.tensor([clip.is_target for clip in data.clips], device=self.embeddings.device)
        distances = (1 - self.embeddings @ self.embeddings.T).fill_diagonal_(torch.inf)  # not to itself
        return [self.nearest(row) for row in distances]

    def of_clip(self, clip: ClipInput) -> float:
        """Return the distance to the nearest training clips."""
        return self.nearest(1 - self.embeddings @ self.embed(clip))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the training clips' embeddings and domains."""
        return {"embeddings": self.embeddings, "is_target": self.is_target}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Restore what `state` returned."""
        device = self.network.centres.device
        self.embeddings, self.is_target = state["embeddings"].to(device), state["is_target"].to(device)

    def embed(self, clip: ClipInput) -> torch.Tensor:
        """Return a clip's mean embedding, of length 1: (N_VALUES,)."""
        return functional.normalize(self.network(clip.vectors).mean(dim=0), dim=0)

    def nearest(self, distances: torch.Tensor) -> float:
        """Return the smaller of the domains' mean distances to their nearest clips; distances (n_clips,)."""
        means = []
        for chosen in (self.is_target, ~self.is_target):
            finite = distances[chosen & distances.isfinite()]
            if len(finite):
                k = min(self.settings.neighbours, len(finite))
                means.append(finite.topk(k, largest=False).values.mean().item())
        return min(means)
