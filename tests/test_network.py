"""The baseline's network is the reference's: layers, names, initial weights and output."""

import itertools

import torch
from synthetic import make_network, random_batches
from torch import nn


def blocks(*units):
    """Return the layers from each number of units to the next."""
    pairs = itertools.pairwise(units)
    layers = [(nn.Linear(a, b), nn.BatchNorm1d(b, momentum=0.01, eps=1e-3), nn.ReLU()) for a, b in pairs]
    return itertools.chain.from_iterable(layers)


@torch.no_grad()
def test_layers_names_initial_weights_and_outputs_are_the_references():
    """The weights are drawn layer by layer, encoder first; its outputs show the running statistics too."""
    ours = make_network(4, frames=3)
    torch.manual_seed(0)
    expected = nn.Module()
    expected.encoder = nn.Sequential(*blocks(12, 128, 128, 128, 128, 8))
    expected.decoder = nn.Sequential(*blocks(8, 128, 128, 128, 128), nn.Linear(128, 12))
    for is_training in (True, False):
        for network in (ours, expected):
            network.train(is_training)
        for vectors, _ in random_batches(12, (50, 50)):
            assert torch.equal(ours(vectors), expected.decoder(expected.encoder(vectors)))
    state = ours.state_dict()
    assert state.pop("cov_source").shape == state.pop("cov_target").shape == (4, 4)
    torch.testing.assert_close(state, expected.state_dict(), rtol=0, atol=0)
