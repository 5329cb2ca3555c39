"""The choice of the training step: the plain one, or a fast one that computes the same."""

from common import code_hashes, contract_error

import torch

from networks.autoencoder import AutoEncoder
from networks.fast_step import FastStep
from networks.network import Network
from networks.training import PlainStep, Step
from runtime.progress import say
from runtime.sources import changed_files
from runtime.wording import listed

PROVEN = {  # the code that the fast step computes the same as, bit by bit: tests/test_fast_step.py, which checks this
    "networks/autoencoder.py": "4b4115e5e555c1b9bc4e86352ec4b330666b299ed0a7df353500bcaad79ff80c",
    "networks/network.py": "f4bbc9b8bff302705eeb4a7b9c379db7f92d3896ead4566374cfbdaa7ca8c4ec",
    "networks/training.py": "d755772a5059953235d371766dee60485167bbd08bc747a1e74457ca4b58e9ba",
}


def make_step(network: Network) -> Step:
    """Return the step that trains a network: the plain one, or on a CPU the baseline's own, which has the same bits."""
    settings, device = network.settings, network.cov_source.device.type
    if network.extension is not None and network.reconstructs:
        _check_forward(network)
    if type(network) is AutoEncoder and device == "cpu" and settings.precision != "bf16":
        changed = changed_files(PROVEN, code_hashes(AutoEncoder, modules=("networks.training",)))
        if not changed:
            return FastStep(network, settings.learning_rate)
        say(f"the plain training step is used, as {listed(changed)} is not the code that the fast step stands for")
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
