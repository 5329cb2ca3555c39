"""The plain training step as a CUDA graph: captured once for each batch size, then replayed by a single launch.

Opt-in (--cuda_step graph), and proven before use to compute what the same step without a graph does
(networks/steps.py).
"""

import torch

from networks.network import Losses, Network
from networks.training import PlainStep

WARM_UP = 3  # passes before a capture, as torch's notes on CUDA graphs advise


class CapturableStep(PlainStep):
    """The plain step with an optimiser that a graph can hold: Adam and its kin then count their steps on the device.

    Adam's bias correction is then float32, which changes the last digits.
    """

    def __init__(self, network: Network):
        super().__init__(network)
        if self.scheduler is not None:
            raise ValueError("a graph fixes the learning rate, which the network's scheduler changes")
        for group in self.optimizer.param_groups:
            group["capturable"] = True


class GraphStep(CapturableStep):
    """A capturable step, captured and replayed."""

    def __init__(self, network: Network):
        super().__init__(network)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor, Losses]] = {}  # by batch size

    def __call__(self, vectors: torch.Tensor) -> Losses:
        """Take a step on (batch, frames * n_bins), batch > 1."""
        if len(vectors) not in self._graphs:
            self._graphs[len(vectors)] = self._capture(vectors.clone())
        graph, inputs, losses = self._graphs[len(vectors)]
        inputs.copy_(vectors)
        graph.replay()
        return Losses(losses.reconstruction.clone(), None if losses.further is None else losses.further.clone())

    def load_state_dict(self, state: dict) -> None:
        """Load the state, and drop the graphs, which hold the old tensors."""
        super().load_state_dict(state)
        self._graphs.clear()

    def _capture(self, inputs: torch.Tensor) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, Losses]:
        """Capture a step on `inputs`, whose memory the graph reads; weights and optimiser stay as they are."""
        kept = [(tensor, tensor.clone()) for tensor in self.network.state_dict().values()]
        stream = torch.cuda.Stream()  # a capture's warm-up must not be on the default stream
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.backward(inputs)
            if not self.optimizer.state:  # a step without gradients creates the optimiser's tensors
                self.optimizer.zero_grad(set_to_none=False)
                self.optimizer.step()
                for state in self.optimizer.state.values():
                    state["step"].zero_()
            for tensor, before in kept:
                tensor.copy_(before)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            losses = super().__call__(inputs)
        return graph, inputs, losses
