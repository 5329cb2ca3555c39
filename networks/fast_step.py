"""The training step of the baseline's own network on a CPU, written out. Nobody needs to read it.

The plain step (networks/training.py) gives the same bits, but with products this small, autograd and torch.optim.Adam
take as long again: Python and C++ between the operations, new memory for every result, an update for each of 38
tensors. Here memory is allocated once, and the parameters, their gradients and Adam's moments are one flat tensor each.
tests/test_fast_step.py compares the two bit by bit.

Source: the operations of torch's own formulas for addmm, batch_norm, threshold and mse_loss, in their order; Adam as in
Kingma and Ba, 2015, arXiv 1412.6980, in the order of torch.optim.Adam.
"""

# mypy: disable-error-code="union-attr, arg-type, misc, attr-defined, operator"
# torch declares the tensors of batch normalisation optional; this network has them all.

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import nn

from networks.autoencoder import BATCH_NORM, AutoEncoder
from networks.network import Losses

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # torch.optim.Adam's defaults


class _Layer:
    """The tensors of a layer of a flattened network, and of the batch normalisation after it, if any."""

    def __init__(self, linear: nn.Linear, norm: nn.BatchNorm1d | None):
        self.weight, self.bias = linear.weight.detach(), linear.bias.detach()  # (n_out, n_in), (n_out,)
        self.weight_transposed = self.weight.T
        self.weight_gradient, self.bias_gradient = linear.weight.grad, linear.bias.grad
        self.has_norm = norm is not None
        if norm is not None:  # each (n_out,)
            self.norm_weight, self.norm_bias = norm.weight.detach(), norm.bias.detach()
            self.norm_weight_gradient, self.norm_bias_gradient = norm.weight.grad, norm.bias.grad
            self.running = norm.running_mean, norm.running_var
            self.batch = torch.empty_like(norm.running_mean), torch.empty_like(norm.running_mean)  # mean, 1 / deviation


@dataclass(frozen=True)
class _Memory:
    """A step's results for one batch size: a tensor for each layer, and one for each width of a gradient.

    Tensors no longer needed are overwritten, which keeps most of this memory in the caches.
    """

    linear: list[torch.Tensor]  # (batch, n_out); in the backward pass, its gradient
    active: list[torch.Tensor]  # (batch, n_out), after batch normalisation and ReLU; not for the last layer
    gradients: dict[int, torch.Tensor]  # n_out: (batch, n_out), with respect to `active`
    error: torch.Tensor  # (batch, frames * n_bins)


class FastStep:
    """Trains a network, whose parameters become views of one flat tensor on its device; holds Adam's moments."""

    def __init__(self, network: AutoEncoder, learning_rate: float):
        self.learning_rate = learning_rate
        self.parameters, self.gradients = _flatten(network)
        self.moment1, self.moment2 = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        self._shapes = [parameter.shape for parameter in network.parameters() if parameter.requires_grad]
        self.n_steps = 0
        self._denominator = torch.empty_like(self.parameters)
        self._counts = [counts for name, counts in network.named_buffers() if name.endswith("num_batches_tracked")]
        modules = [*network.encoder, *network.decoder]  # Linear, BatchNorm1d, ReLU ..., Linear
        self._layers = [_Layer(*pair) for pair in zip_longest(modules[0::3], modules[1::3])]
        self._memory: dict[int, _Memory] = {}  # by batch size: all but the last batch of a pass have the same

    @torch.no_grad()
    def __call__(self, vectors: torch.Tensor, *labels: torch.Tensor) -> Losses:
        """Take a step on (batch, frames * n_bins), batch > 1; the reconstruction losses are mean squared errors."""
        n_vectors, n_values = vectors.shape
        if n_vectors not in self._memory:
            self._memory[n_vectors] = self._new_memory(n_vectors)
        memory = self._memory[n_vectors]
        output = self._forward(vectors, memory)
        torch.sub(output, vectors, out=memory.error)
        scores = torch.mul(memory.error, memory.error, out=output).mean(dim=1)  # (batch,)
        # The loss is scores.sum() / n_vectors, the reference's form: its gradient is rounded after each division.
        weight = torch.ones((), dtype=vectors.dtype) / n_vectors / n_values
        self._backward(vectors, memory.error.mul_(2 * weight.item()), memory)
        self._update()
        return Losses(scores)

    def end_epoch(self) -> None:
        """Keep the learning rate as it is."""

    def state_dict(self) -> dict[str, object]:
        """Return Adam's state in the plain step's form, so that either step resumes the other's run."""
        moments = (self._by_parameter(moment) for moment in (self.moment1, self.moment2))
        state = {
            i: {"step": torch.tensor(float(self.n_steps)), "exp_avg": mean, "exp_avg_sq": square}
            for i, (mean, square) in enumerate(zip(*moments, strict=True))
        }
        return {"optimizer": {"state": state, "param_groups": None}, "scheduler": None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load Adam's state."""
        entries = state["optimizer"]["state"]
        self.n_steps = int(entries[0]["step"])
        for name, moment in (("exp_avg", self.moment1), ("exp_avg_sq", self.moment2)):
            for i, ours in enumerate(self._by_parameter(moment)):
                ours.copy_(entries[i][name])

    def _by_parameter(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Split a tensor of all parameters' values into views of each parameter's shape."""
        parts = flat.split([shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _forward(self, vectors: torch.Tensor, memory: _Memory) -> torch.Tensor:
        """Return the reconstruction: (batch, frames * n_bins)."""
        inputs = vectors
        for layer, linear, active in zip(self._layers, memory.linear, [*memory.active, None], strict=True):
            torch.addmm(layer.bias, inputs, layer.weight_transposed, out=linear)
            if layer.has_norm:
                torch.native_batch_norm(
                    linear,
                    layer.norm_weight,
                    layer.norm_bias,
                    *layer.running,
                    training=True,
                    **BATCH_NORM,
                    out=(active, *layer.batch),
                )
                inputs = active.relu_()
        torch._foreach_add_(self._counts, 1)
        return linear

    def _backward(self, vectors: torch.Tensor, gradient: torch.Tensor, memory: _Memory) -> None:
        """Set the parameters' gradients from that with respect to the output.

        Every product has autograd's form and order of operands.
        """
        aten = torch.ops.aten
        for i in reversed(range(len(self._layers))):
            layer = self._layers[i]
            if layer.has_norm:
                aten.threshold_backward.grad_input(gradient, memory.active[i], 0, grad_input=gradient)
                gradient, _, _ = aten.native_batch_norm_backward.out(
                    gradient,
                    memory.linear[i],
                    layer.norm_weight,
                    *layer.running,
                    *layer.batch,
                    True,
                    BATCH_NORM["eps"],
                    [True, True, True],
                    out0=memory.linear[i],
                    out1=layer.norm_weight_gradient,
                    out2=layer.norm_bias_gradient,
                )
            torch.sum(gradient, 0, out=layer.bias_gradient)
            torch.mm(gradient.T, memory.active[i - 1] if i > 0 else vectors, out=layer.weight_gradient)
            if i > 0:
                gradient = torch.mm(gradient, layer.weight, out=memory.gradients[layer.weight.shape[1]])

    def _update(self) -> None:
        self.n_steps += 1
        step_size = self.learning_rate / (1 - BETA1**self.n_steps)
        self.moment1.lerp_(self.gradients, 1 - BETA1)
        self.moment2.mul_(BETA2).addcmul_(self.gradients, self.gradients, value=1 - BETA2)
        torch.sqrt(self.moment2, out=self._denominator)
        self._denominator.div_((1 - BETA2**self.n_steps) ** 0.5).add_(EPSILON)
        self.parameters.addcdiv_(self.moment1, self._denominator, value=-step_size)

    def _new_memory(self, n_vectors: int) -> _Memory:
        widths = [len(layer.bias) for layer in self._layers]

        def rows(n: int) -> torch.Tensor:
            return self.parameters.new_empty(n_vectors, n)

        return _Memory(
            linear=[rows(n) for n in widths],
            active=[rows(n) for n in widths[:-1]],
            gradients={n: rows(n) for n in widths[:-1]},
            error=rows(widths[-1]),
        )


def _flatten(network: AutoEncoder) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a network's trained parameters, and their gradients, views of one tensor each, and return the two."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    flat = torch.cat([parameter.detach().flatten() for parameter in trained])  # (n_parameters,)
    gradients = torch.zeros_like(flat)
    sizes = [parameter.numel() for parameter in trained]
    for parameter, values, gradient in zip(trained, flat.split(sizes), gradients.split(sizes), strict=True):
        parameter.data = values.view_as(parameter)
        parameter.grad = gradient.view_as(parameter)
    return flat, gradients
