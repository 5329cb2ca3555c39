"""The choice of the training step: the plain one, or a fast one that computes the same, and the proof that it does."""

import copy
from collections.abc import Callable

import torch

from common import contract_error
from networks.autoencoder import AutoEncoder
from networks.fast_step import FastStep
from networks.graph_step import CapturableStep, GraphStep
from networks.network import Network, as_floats
from networks.training import PlainStep, Step
from tools.runtime.progress import say

PROOF_STEPS = 20
PROOF_TOLERANCE = 1e-5  # relative


def make_step(network: Network) -> Step:
    """Return the step that trains a network: the plain one, or a fast one that computes the same.

    On a CPU the baseline's own step is written out, with the same bits; on a CUDA device --cuda_step graph replays the
    plain one, after proof.
    """
    settings, device = network.settings, network.cov_source.device.type
    if network.extension is not None:
        _check_forward(network)
    if type(network) is AutoEncoder and device == "cpu" and settings.precision != "bf16":
        return FastStep(network, settings.learning_rate)
    if device == "cuda" and settings.cuda_step == "graph":
        return proven(network, GraphStep, CapturableStep)
    return PlainStep(network)


@torch.no_grad()
def _check_forward(network: Network) -> None:
    """Raise InputError, before training, if a network does not return what MSE and MAHALA need."""
    device = network.cov_source.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        vectors = torch.zeros(2, network.n_values, device=device)
        output = network.eval()(vectors)
    if not isinstance(output, torch.Tensor) or output.shape != vectors.shape:
        raise contract_error(
            network, ".forward returned", output, f"return the reconstruction of the vectors, {tuple(vectors.shape)}"
        )


def proven(network: Network, make_fast: Callable[[Network], Step], make_same: Callable[[Network], Step]) -> Step:
    """Return the fast step if it computes what another does; else report why not, and return the plain one."""
    try:
        difference = step_difference(network, make_fast, make_same)
        if difference <= PROOF_TOLERANCE:
            return make_fast(network)
        reason = f"its losses differ by {difference:.1e}, relative"
    except Exception as error:  # the many ways in which a device can refuse
        reason = " ".join(str(error).split())[:200]
    say(f"warning: the fast training step failed its proof; the plain one is used: {reason}")
    return PlainStep(network)


def step_difference(network: Network, *makers: Callable[[Network], Step]) -> float:
    """Return the largest relative difference between the losses of two kinds of step in PROOF_STEPS.

    Both train a copy of the network, on the same noise in batches of two sizes. Adam amplifies rounding: where it
    differs, losses are 2 % apart after 20 steps. A small difference thus means the same operations, none left out.
    """
    size, device = network.settings.batch_size, network.cov_source.device
    generator = torch.Generator().manual_seed(0)
    differences = []
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # what a network draws
        steps = [make(copy.deepcopy(network).train()) for make in makers]
        for number in range(PROOF_STEPS):
            n_vectors = size if number % 4 else max(size // 2, 2)
            vectors = (torch.randn(n_vectors, network.n_values, generator=generator) * 20 - 40).to(device)
            ours, expected = (step(vectors).reconstruction for step in steps)
            differences.append(((ours - expected).abs() / expected).max())
    return as_floats([torch.stack(differences).max()])[0]
