"""The baseline's network: the reference's layers, names and initial weights, and its output by the formulas."""

import itertools

import numpy as np
import torch
from synthetic import make_network, make_settings

from networks.autoencoder import AutoEncoder


def test_the_state_dict_has_the_references_keys():
    state = AutoEncoder(make_settings(), 128).state_dict()
    assert state["cov_source"].shape == state["cov_target"].shape == (128, 128)
    linear = {name: tuple(t.shape) for name, t in state.items() if t.ndim == 2 and "cov" not in name}
    hidden = {f"{half}.{i}.weight": (128, 128) for half in ("encoder", "decoder") for i in (3, 6, 9)}
    ends = {"encoder.0.weight": (128, 640), "encoder.12.weight": (8, 128)}
    ends |= {"decoder.0.weight": (128, 8), "decoder.12.weight": (640, 128)}
    assert linear == hidden | ends
    assert "encoder.13.running_mean" in state
    assert "decoder.13.running_mean" not in state


def test_initial_weights_are_drawn_layer_by_layer_encoder_first():
    network = make_network(4, frames=3)
    torch.manual_seed(0)
    units = [12, 128, 128, 128, 128, 8, 128, 128, 128, 128, 12]
    drawn = [torch.nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(units)]
    linear = [layer for layer in (*network.encoder, *network.decoder) if isinstance(layer, torch.nn.Linear)]
    for ours, expected in zip(linear, drawn, strict=True):
        assert torch.equal(ours.weight, expected.weight)
        assert torch.equal(ours.bias, expected.bias)


@torch.no_grad()
def test_a_reconstruction_follows_the_formula():
    network = make_network(4, frames=3).eval()
    generator = torch.Generator().manual_seed(1)
    layers = [*network.encoder, *network.decoder]
    for layer in layers:
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.001, 0.01, generator=generator)  # so small that epsilon counts
    vectors = torch.randn(9, 12, generator=generator)
    values = vectors.double().numpy()
    block = ["Linear", "BatchNorm1d", "ReLU"]
    assert [type(layer).__name__ for layer in layers] == [*block * 5, *block * 4, "Linear"]
    for layer in layers:
        arrays = {name: tensor.double().numpy() for name, tensor in layer.state_dict().items()}
        match type(layer).__name__:
            case "Linear":
                values = values @ arrays["weight"].T + arrays["bias"]
            case "BatchNorm1d":
                values = (values - arrays["running_mean"]) / np.sqrt(arrays["running_var"] + 1e-3)
                values = values * arrays["weight"] + arrays["bias"]
            case "ReLU":
                values = np.maximum(values, 0)
    np.testing.assert_allclose(network(vectors), values, rtol=1e-3, atol=1e-4 * np.abs(values).max())


@torch.no_grad()
def test_running_statistics_move_by_a_hundredth_for_each_batch():
    network = make_network(4, frames=3).train()
    vectors = torch.randn(50, 12, generator=torch.Generator().manual_seed(1)) * 5
    network(vectors)
    inputs = network.encoder[0](vectors)
    norm = network.encoder[1]
    torch.testing.assert_close(norm.running_mean, 0.01 * inputs.mean(dim=0))
    torch.testing.assert_close(norm.running_var, 0.99 + 0.01 * inputs.var(dim=0))  # unbiased
