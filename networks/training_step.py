"""One step of training on a batch of vectors, written out: forward, backward, Adam.

autograd and torch.optim.Adam give the same bits, but around products as small as this network's they spend as much time
again: Python and C++ between the operations, fresh memory for every result, an update for each of 38 tensors. Here each
result has its memory for good, and the parameters, their gradients and Adam's moments are one flat tensor each.
tests/test_training_step.py compares the two to the last bit.

Source: the operations of torch's own formulas for addmm, batch_norm, threshold and mse_loss, in their order; Adam as in
Kingma and Ba, 2015, arXiv 1412.6980, in the order of torch.optim.Adam.
"""

from dataclasses import dataclass

import torch
from torch import nn

from networks.autoencoder import BATCH_NORM, AutoEncoder

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # torch.optim.Adam's defaults


@dataclass(frozen=True)
class _Memory:
    """The results of a step on a batch of one size: of each layer, and of the loss."""

    linear: list[torch.Tensor]  # (batch, n_out)
    active: list[torch.Tensor]  # (batch, n_out), behind batch normalisation and ReLU; the last layer has none
    mean: list[torch.Tensor]  # (n_out,), of the batch
    inverse_deviation: list[torch.Tensor]  # (n_out,), of the batch
    gradients: list[torch.Tensor]  # (batch, n_in), of each layer's input
    error: torch.Tensor  # (batch, frames * n_mels)
    squared: torch.Tensor  # (batch, frames * n_mels)


class TrainingStep:
    """Trains a network, whose parameters become views of one flat tensor; holds Adam's moments.

    Parameters
    ----------
    network
        On the device that it stays on.
    learning_rate
        Adam's.
    """

    def __init__(self, network: AutoEncoder, learning_rate: float):
        layers = [*network.encoder, *network.decoder]
        self.linear: list[nn.Linear] = layers[0::3]
        self.norms: list[nn.BatchNorm1d] = layers[1::3]  # one fewer
        self.learning_rate = learning_rate
        self.parameters, self.gradients = _flatten(network)
        self.moment1, self.moment2 = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters)
        self.n_steps = 0
        self._denominator = torch.empty_like(self.parameters)
        self._memory: dict[int, _Memory] = {}  # by batch size: all but the last batch of a pass have the same

    @torch.no_grad()
    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Take a step on (batch, frames * n_mels), batch > 1; return each vector's mean squared error: (batch,)."""
        n_vectors, n_values = vectors.shape
        if n_vectors not in self._memory:
            self._memory[n_vectors] = self._new_memory(n_vectors)
        memory = self._memory[n_vectors]
        self._forward(vectors, memory)
        torch.sub(memory.linear[-1], vectors, out=memory.error)
        torch.mul(memory.error, memory.error, out=memory.squared)
        scores = memory.squared.mean(dim=1)  # (batch,)
        # The loss is scores.sum() / n_vectors, the reference's form: its gradient is rounded after each division.
        weight = torch.ones((), dtype=vectors.dtype) / n_vectors / n_values
        self._backward(vectors, memory.error.mul_(2 * weight.item()), memory)
        self._update()
        return scores

    def state_dict(self) -> dict[str, object]:
        """Return Adam's state, to go on from later."""
        return {"n_steps": self.n_steps, "moment1": self.moment1, "moment2": self.moment2}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take Adam's state from `state_dict()`; KeyError, TypeError or RuntimeError where it is none."""
        self.n_steps = int(state["n_steps"])
        self.moment1.copy_(state["moment1"])
        self.moment2.copy_(state["moment2"])

    def _forward(self, vectors: torch.Tensor, memory: _Memory) -> None:
        inputs = vectors
        for i, (linear, norm) in enumerate(zip(self.linear, self.norms, strict=False)):
            torch.addmm(linear.bias, inputs, linear.weight.T, out=memory.linear[i])
            torch.native_batch_norm(
                memory.linear[i],
                norm.weight,
                norm.bias,
                norm.running_mean,
                norm.running_var,
                training=True,
                **BATCH_NORM,
                out=(memory.active[i], memory.mean[i], memory.inverse_deviation[i]),
            )
            norm.num_batches_tracked += 1
            inputs = memory.active[i].relu_()
        torch.addmm(self.linear[-1].bias, inputs, self.linear[-1].weight.T, out=memory.linear[-1])

    def _backward(self, vectors: torch.Tensor, gradient: torch.Tensor, memory: _Memory) -> None:
        """Set the parameters' gradients from the loss's by the output, and write over the results of the forward pass.

        Every product has the form and the order of operands that autograd gives it.
        """
        aten = torch.ops.aten
        for i in reversed(range(len(self.linear))):
            linear = self.linear[i]
            if i < len(self.norms):
                norm = self.norms[i]
                aten.threshold_backward.grad_input(gradient, memory.active[i], 0, grad_input=gradient)
                gradient, _, _ = aten.native_batch_norm_backward.out(
                    gradient,
                    memory.linear[i],
                    norm.weight,
                    norm.running_mean,
                    norm.running_var,
                    memory.mean[i],
                    memory.inverse_deviation[i],
                    True,
                    BATCH_NORM["eps"],
                    [True, True, True],
                    out0=memory.linear[i],
                    out1=norm.weight.grad,
                    out2=norm.bias.grad,
                )
            torch.sum(gradient, 0, out=linear.bias.grad)
            torch.mm(gradient.T, memory.active[i - 1] if i > 0 else vectors, out=linear.weight.grad)
            if i > 0:
                gradient = torch.mm(gradient, linear.weight, out=memory.gradients[i])

    def _update(self) -> None:
        self.n_steps += 1
        step_size = self.learning_rate / (1 - BETA1**self.n_steps)
        self.moment1.lerp_(self.gradients, 1 - BETA1)
        self.moment2.mul_(BETA2).addcmul_(self.gradients, self.gradients, value=1 - BETA2)
        torch.sqrt(self.moment2, out=self._denominator)
        self._denominator.div_((1 - BETA2**self.n_steps) ** 0.5).add_(EPSILON)
        self.parameters.addcdiv_(self.moment1, self._denominator, value=-step_size)

    def _new_memory(self, n_vectors: int) -> _Memory:
        def rows(n: int) -> torch.Tensor:
            return self.parameters.new_empty(n_vectors, n)

        n_values = self.linear[0].in_features
        return _Memory(
            linear=[rows(layer.out_features) for layer in self.linear],
            active=[rows(norm.num_features) for norm in self.norms],
            mean=[torch.empty_like(norm.running_mean) for norm in self.norms],
            inverse_deviation=[torch.empty_like(norm.running_mean) for norm in self.norms],
            gradients=[rows(layer.in_features) for layer in self.linear],
            error=rows(n_values),
            squared=rows(n_values),
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
