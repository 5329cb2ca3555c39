"""Proofs of fast steps: one that differs from the plain step, or cannot be made, is replaced by it."""

import contextlib
import sys
from types import SimpleNamespace

import pytest
import torch
from synthetic import make_network
from torch.utils._python_dispatch import TorchDispatchMode

from networks.autoencoder import AutoEncoder
from networks.fast_step import FastStep
from networks.graph_step import CapturableStep, GraphStep
from networks.network import Losses
from networks.steps import proven, step_difference
from networks.training import PlainStep
from tools import check_device

N_BINS, FRAMES = 8, 2


def small_network(device="cpu", **values):
    """Return a small network."""
    return make_network(N_BINS, device, frames=FRAMES, batch_size=16, **values)


class Wrong(FastStep):
    """A fast step with an error in its update."""

    def _update(self):
        super()._update()
        self.parameters.mul_(1 + 1e-5)


class NotFinite(FastStep):
    """A fast step whose losses are NaN."""

    def __call__(self, vectors):
        """Return losses that are not finite."""
        return Losses(super().__call__(vectors).reconstruction * torch.nan)


def make_fast(cls):
    """Return a function that makes a fast step of a class."""
    return lambda network: cls(network, network.settings.learning_rate)


def test_the_proof_of_the_cpus_fast_step_passes_and_changes_nothing(capsys):
    network = small_network()
    before, drawn = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    assert step_difference(network, make_fast(FastStep), PlainStep) == 0
    assert type(proven(network, make_fast(FastStep), PlainStep)) is FastStep
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_fast(Wrong), "its losses differ by"),
        (make_fast(NotFinite), "its losses differ by nan"),
        (GraphStep, ""),  # in torch's words: there is no capture on a CPU
    ],
)
def test_a_fast_step_that_fails_its_proof_is_replaced_by_the_plain_one(capsys, make, reason):
    assert type(proven(small_network(), make, PlainStep)) is PlainStep
    out = "".join(capsys.readouterr())
    assert f"warning: the fast training step failed its proof; the plain one is used: {reason}" in out


class Recorder(TorchDispatchMode):
    """Stands in for a CUDA graph: keeps every operation of a block with its tensors, and repeats them on replay."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Carry out an operation, and record it."""
        result = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        """Repeat the operations on the same memory."""
        for function, args, kwargs, kept in self.operations:
            new = function(*args, **kwargs)
            for ours, theirs in zip(*(torch.utils._pytree.tree_leaves(r) for r in (kept, new)), strict=True):
                if isinstance(ours, torch.Tensor) and ours.data_ptr() != theirs.data_ptr():
                    ours.copy_(theirs)


@pytest.fixture
def simulated_graphs(monkeypatch):
    """Let GraphStep capture on the CPU; a capture's own effects are undone, since a GPU executes nothing then."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr("torch.cuda.Stream", lambda: stream)
    monkeypatch.setattr("torch.cuda.current_stream", lambda: stream)
    monkeypatch.setattr("torch.cuda.stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr("torch.cuda.CUDAGraph", Recorder)
    adam = sys.modules[torch.optim.Adam.__module__]
    monkeypatch.setattr(adam, "_get_capturable_supported_devices", lambda *args, **kwargs: ["cpu"])
    capture = GraphStep._capture

    def capture_only(self, inputs):
        network, states = self.network, self.optimizer.state

        @contextlib.contextmanager
        def graph(recorder):
            tensors = [*network.state_dict().values(), *(t for state in states.values() for t in state.values())]
            before = [tensor.clone() for tensor in tensors]
            with recorder:
                yield
            with torch.no_grad():
                for tensor, value in zip(tensors, before, strict=True):
                    tensor.copy_(value)

        monkeypatch.setattr("torch.cuda.graph", graph)
        return capture(self, inputs)

    monkeypatch.setattr(GraphStep, "_capture", capture_only)


def test_a_captured_step_equals_the_uncaptured_one_for_every_batch_size_and_after_resuming(simulated_graphs):
    network = small_network()
    assert step_difference(network, GraphStep, CapturableStep) == 0
    assert type(proven(network, GraphStep, CapturableStep)) is GraphStep
    fast, same = (make(small_network().train()) for make in (GraphStep, CapturableStep))
    generator = torch.Generator().manual_seed(3)
    for number, size in enumerate((16, 16, 5, 16, 5, 16)):
        vectors = torch.randn(size, N_BINS * FRAMES, generator=generator)
        assert torch.equal(fast(vectors).reconstruction, same(vectors).reconstruction)
        if number == 3:
            fast.load_state_dict(fast.state_dict())
    assert {int(state["step"]) for state in fast.optimizer.state.values()} == {6}


def test_a_capturable_step_differs_from_the_plain_one_by_rounding(simulated_graphs):
    networks = [small_network().train() for _ in range(2)]
    vectors = torch.randn(16, N_BINS * FRAMES, generator=torch.Generator().manual_seed(3))
    for step in (CapturableStep(networks[0]), PlainStep(networks[1])):
        step(vectors)
    for ours, expected in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)


def test_a_network_with_a_scheduler_keeps_the_plain_step(monkeypatch, capsys):
    def configured(network):
        optimizer = torch.optim.Adam(network.parameters())
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)

    monkeypatch.setattr(AutoEncoder, "configure_optimizers", configured)
    assert type(proven(small_network(), GraphStep, CapturableStep)) is PlainStep
    assert "a graph fixes the learning rate, which the network's scheduler changes" in "".join(capsys.readouterr())


# --- tools.check_device -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_check(monkeypatch):
    """Reduce the work of tools.check_device."""
    for name, value in (("CLIPS", 5), ("FRAMES_PER_CLIP", 150), ("ROUNDS", 1), ("STEPS", 1)):
        monkeypatch.setattr(f"tools.check_device.{name}", value)


def test_check_device_passes_on_a_cpu(small_check, call_command):
    outcome = call_command(check_device.main, "--use_cuda", "false")
    assert outcome.status == 0, outcome.out
    checks = [line.split("  ")[0] for line in outcome.out.splitlines() if " passed  " in line]
    assert checks == ["fast step", "two runs", "first losses", "epoch's loss"]


def test_check_device_fails_if_the_fast_step_is_wrong(small_check, call_command, monkeypatch):
    monkeypatch.setattr("tools.check_device.FastStep", Wrong)
    outcome = call_command(check_device.main, "--use_cuda", "false")
    assert outcome.status == 1
    assert "fast step               FAILED" in outcome.out


def test_check_device_fails_if_a_fast_step_cannot_be_made(small_check, call_command, monkeypatch):
    def broken(*_):
        raise RuntimeError("no\ngraph")

    monkeypatch.setattr("tools.check_device.FastStep", broken)
    outcome = call_command(check_device.main, "--use_cuda", "false")
    assert outcome.status == 1
    assert "fast step               FAILED  no graph" in outcome.out
    assert "two runs                passed" in outcome.out
