"""The written-out training step against the plain one, autograd and torch.optim.Adam, to the last bit."""

import copy

from common import code_hashes

import pytest
import torch
from synthetic import make_network, random_batches
from torch.nn import functional
from torch.testing import assert_close

from networks.autoencoder import AutoEncoder
from networks.fast_step import FastStep
from networks.network import Losses
from networks.steps import PROVEN, make_step
from networks.training import PlainStep, train_epoch


class ReferenceStep(PlainStep):
    """The reference's step, with the loss written here, in case that of the networks' base class changes."""

    def __call__(self, vectors):
        """Take a step; return each vector's loss."""
        self.optimizer.zero_grad()
        scores = functional.mse_loss(self.network(vectors), vectors, reduction="none").mean(dim=1)
        (scores.sum() / len(scores)).backward()
        self.optimizer.step()
        return Losses(scores.detach())


def small_network(n_mels, frames):
    """Return the same network each time, in train mode."""
    return make_network(n_mels, frames=frames, learning_rate=3e-3).train()


@pytest.mark.parametrize(
    ("n_mels", "frames", "sizes", "threads"),
    [(128, 5, [256] * 2 + [37], 1), (128, 5, [256, 37], 2), (64, 3, [99, 99, 2], 1), (3, 1, [7, 5, 7, 16], 1)],
)
def test_epochs_equal_those_of_the_plain_step_to_the_last_bit(n_mels, frames, sizes, threads):
    """Whole epochs: with validation in between, which must leave batch normalisation to the training pass."""
    torch.set_num_threads(threads)
    networks = [small_network(n_mels, frames) for _ in range(3)]
    steps = [make(network) for make, network in zip((make_step, PlainStep, ReferenceStep), networks, strict=True)]
    training, validation = (random_batches(n_mels * frames, of) for of in ([*sizes, 1], sizes[-2:]))
    for _ in range(3):
        ours, *others = (
            train_epoch(network, step, iter(training), validation, len(training))
            for network, step in zip(networks, steps, strict=True)
        )
        assert others == [ours] * 2
        assert len(ours.batch_losses) == len(sizes) + 2
        for network in networks[1:]:
            assert_close(networks[0].state_dict(), network.state_dict(), rtol=0, atol=0)
    assert networks[0].encoder[1].num_batches_tracked == 3 * len(sizes)  # in train mode in each epoch
    torch.set_num_threads(1)


@pytest.mark.parametrize("make_first", [make_step, PlainStep])
@pytest.mark.parametrize("make_second", [make_step, PlainStep])
def test_a_step_resumes_from_another_steps_state(make_first, make_second):
    network, other = small_network(8, 2), small_network(8, 2)
    first, second = make_first(network), make_second(other)
    batches = [vectors for vectors, _ in random_batches(16, [20] * 6)]
    for vectors in batches[:3]:
        first(vectors)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    other.load_state_dict(network.state_dict())
    for vectors in batches[3:]:
        assert torch.equal(first(vectors).reconstruction, second(vectors).reconstruction)
    assert_close(network.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_only_the_baselines_own_network_is_trained_by_the_fast_step():
    assert code_hashes(AutoEncoder, modules=("networks.training",)) == PROVEN, (
        "the code that the fast step stands for has changed: change the fast step alike, pass the tests above, then "
        "copy these hashes to networks/steps.py"
    )
    network = small_network(8, 2)
    assert type(make_step(network)) is FastStep
    network.__class__ = type("Other", (AutoEncoder,), {})  # which may override anything
    assert type(make_step(network)) is PlainStep
