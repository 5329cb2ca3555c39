"""The written-out training step against autograd and torch.optim.Adam, to the last bit."""

import pytest
import torch
from torch.nn import functional

from networks.autoencoder import AutoEncoder
from networks.training_step import TrainingStep

LEARNING_RATE = 3e-3


def reference_step(network, optimizer, vectors):
    """Take the reference's step, with autograd; return each vector's loss."""
    optimizer.zero_grad()
    scores = functional.mse_loss(network(vectors), vectors, reduction="none").mean(dim=1)
    (scores.sum() / len(scores)).backward()
    optimizer.step()
    return scores.detach()


def make_network(n_mels, frames):
    """Make the same network each time."""
    torch.manual_seed(0)
    return AutoEncoder(n_mels, frames).train()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("n_mels", "frames", "sizes"), [(128, 5, [256] * 4 + [37]), (64, 3, [99, 99, 2]), (3, 1, [7, 5, 7, 16])]
)
def test_the_step_is_autograds_to_the_last_bit(n_mels, frames, sizes, threads):
    torch.set_num_threads(threads)
    try:
        ours, reference = make_network(n_mels, frames), make_network(n_mels, frames)
        step = TrainingStep(ours, LEARNING_RATE)
        optimizer = torch.optim.Adam(reference.parameters(), lr=LEARNING_RATE)
        for size in sizes * 3:
            vectors = torch.randn(size, n_mels * frames) * 20 - 40
            assert torch.equal(step(vectors), reference_step(reference, optimizer, vectors))
    finally:
        torch.set_num_threads(1)
    for (name, our), its in zip(ours.state_dict().items(), reference.state_dict().values(), strict=True):
        assert torch.equal(our, its), name


def test_a_step_goes_on_from_another_ones_state():
    first, second = (TrainingStep(make_network(8, 2), LEARNING_RATE) for _ in range(2))
    batches = [torch.randn(20, 16) for _ in range(6)]
    for vectors in batches[:3]:
        first(vectors)
    second.load_state_dict(first.state_dict())
    second.parameters.copy_(first.parameters)
    for vectors in batches[3:]:
        assert torch.equal(first(vectors), second(vectors))
    assert torch.equal(first.parameters, second.parameters)
