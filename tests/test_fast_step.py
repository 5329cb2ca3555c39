"""The written-out training step against the plain one, autograd and torch.optim.Adam, to the last bit."""

import copy
import itertools

from common import code_hashes

import pytest
import torch
from synthetic import make_network, make_settings
from torch.nn import functional

from networks.autoencoder import AutoEncoder
from networks.fast_step import FastStep
from networks.network import Losses, Network
from networks.steps import PROVEN, make_step
from networks.training import PlainStep, train_epoch

LEARNING_RATE = 3e-3


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
    return make_network(n_mels, frames=frames, learning_rate=LEARNING_RATE).train()


def make_batches(n_mels, frames, sizes):
    """Make batches of dB-like values, (vectors, is_target), some vectors from the target domain."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(n, n_mels * frames, generator=generator) * 20 - 40, torch.rand(n, generator=generator) < 0.3)
        for n in sizes
    ]


def make_fast(network):
    """Return the fast step."""
    return FastStep(network, LEARNING_RATE)


def assert_equal(network, other):
    """Fail if two networks differ in any bit of any tensor."""
    for (name, ours), theirs in zip(network.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    ("n_mels", "frames", "sizes", "threads"),
    [(128, 5, [256] * 2 + [37], 1), (128, 5, [256, 37], 2), (64, 3, [99, 99, 2], 1), (3, 1, [7, 5, 7, 16], 1)],
)
@pytest.mark.parametrize("make_plain", [PlainStep, ReferenceStep])
def test_epochs_equal_those_of_the_plain_step_to_the_last_bit(n_mels, frames, sizes, threads, make_plain):
    """Whole epochs: with validation in between, which must leave batch normalisation to the training pass."""
    torch.set_num_threads(threads)
    fast, plain = small_network(n_mels, frames), small_network(n_mels, frames)
    steps = make_fast(fast), make_plain(plain)
    training, validation = make_batches(n_mels, frames, [*sizes, 1]), make_batches(n_mels, frames, sizes[-2:])
    for _ in range(3):
        ours, expected = (
            train_epoch(network, step, iter(training), validation, len(training))
            for network, step in zip((fast, plain), steps, strict=True)
        )
        assert ours == expected
        assert len(ours.batch_losses) == len(sizes) + 2
        assert_equal(fast, plain)
    counts = [module.num_batches_tracked for module in plain.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    assert {int(count) for count in counts} == {3 * len(sizes)}  # in train mode in each epoch
    torch.set_num_threads(1)


@pytest.mark.parametrize("makers", list(itertools.product((make_fast, PlainStep), repeat=2)))
def test_a_step_resumes_from_another_steps_state(makers):
    networks = [small_network(8, 2), small_network(8, 2)]
    first, second = (make(network) for make, network in zip(makers, networks, strict=True))
    batches = [vectors for vectors, _ in make_batches(8, 2, [20] * 6)]
    for vectors in batches[:3]:
        first(vectors)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    networks[1].load_state_dict(networks[0].state_dict())
    for vectors in batches[3:]:
        assert torch.equal(first(vectors).reconstruction, second(vectors).reconstruction)
    assert_equal(*networks)


def test_only_the_baselines_own_network_is_trained_by_the_fast_step():
    class Other(AutoEncoder):
        """The same network under another class, which may override anything."""

    class Linear(Network):
        """A network of one layer."""

        def __init__(self, settings, n_bins):
            super().__init__(settings, n_bins)
            self.layer = torch.nn.Linear(self.n_values, self.n_values)

    assert code_hashes(AutoEncoder, modules=("networks.training",)) == PROVEN, (
        "the code that the fast step stands for has changed: change the fast step alike, pass the tests above, then "
        "copy these hashes to networks/steps.py"
    )
    assert type(make_step(small_network(8, 2))) is FastStep
    for cls in (Other, Linear):
        assert type(make_step(cls(make_settings(), 8))) is PlainStep
