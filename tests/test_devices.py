"""Other devices than the CPU, as far as they can be seen without one: what a pass asks of them, and proofs of steps.

torch's meta device computes nothing: it refuses tensors of two devices in an operation, and whatever must look at
values. A pass that runs on it mixes no devices, and waits for a GPU only where `numbers` reads.
"""

import contextlib
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from synthetic import make_settings, network_path
from torch.utils._python_dispatch import TorchDispatchMode

from common import InputError
from datasets.cache import Features
from datasets.clips import Clip
from datasets.vectors import Vectors, make_batches
from networks.autoencoder import AutoEncoder
from networks.fast_step import FastStep
from networks.graph_step import CapturableStep, GraphStep
from networks.mahalanobis import DomainCovariance
from networks.network import Losses
from networks.record import read_record
from networks.scores import TrainingData, make_score, score_clips
from networks.steps import make_step, proven, step_difference
from networks.training import PlainStep, mean_where, train_epoch
from tools import check_device
from tools.runtime.device import select_device

N_BINS, FRAMES = 8, 2


def make_network(device="cpu", **values):
    """Return a small network, the same each time."""
    torch.manual_seed(0)
    settings = make_settings(n_mels=N_BINS, frames=FRAMES, batch_size=16, **values)
    return AutoEncoder(settings, N_BINS).to(device)


def make_vectors(network, device):
    """Return vectors of four clips, every other one of the target domain."""
    frames = np.random.default_rng(0).standard_normal((80, N_BINS), dtype=np.float32)
    clips = [Clip(None, 0, ("source", "target")[i % 2], "normal") for i in range(4)]
    return Vectors(Features(frames, (20,) * 4), clips, network.settings, torch.device(device))


@pytest.fixture
def reads(monkeypatch):
    """Replace the one function that reads from a device, and return the number of values of each call."""
    counts = []

    def numbers(values):
        values = list(values)
        assert {value.device.type for value in values} == {"meta"}
        counts.append(len(values))
        return [1.0] * len(values)

    for module in ("training", "mahalanobis", "scores"):
        monkeypatch.setattr(f"networks.{module}.numbers", numbers)
    return counts


def test_an_epoch_reads_from_its_device_once(reads):
    network = make_network("meta")
    batches = make_batches(make_vectors(network, "meta"), network.settings)
    step = make_step(network)
    for _ in range(2):
        epoch = train_epoch(network, step, iter(batches.training), batches.validation, len(batches.training))
    n_training, n_validation = len(batches.training), len(batches.validation)
    assert reads == [4 * n_training + 2 * n_validation] * 2
    assert len(epoch.batch_losses) == n_training + n_validation


def test_covariances_batch_scores_and_clip_scores_each_read_once(reads):
    network = make_network("meta").eval()
    vectors = make_vectors(network, "meta")
    batches = make_batches(vectors, network.settings)
    mahala, mse = (make_score(name, network.settings, network) for name in ("MAHALA", "MSE"))
    with torch.no_grad():
        mahala.fit(TrainingData([], batches, []))
    assert reads == [2, len(batches.training) + len(batches.validation)]  # whether both inverses are finite, scores
    mahala.load({})
    reads.clear()
    assert score_clips(mahala, vectors.of_each_clip()) == score_clips(mse, vectors.of_each_clip()) == [1.0] * 4
    assert reads == [4, 4]


def test_a_pass_draws_the_same_whatever_the_device():
    network, states = make_network(), []
    for device in ("cpu", "meta"):
        np.random.seed(1)
        torch.manual_seed(1)
        batches = make_batches(make_vectors(network, device), network.settings)
        assert {(v.device.type, t.device.type) for v, t in batches.training} == {(device, device)}
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


class Elsewhere(torch.Tensor):
    """A tensor on the CPU that says that it is on a GPU."""

    device = SimpleNamespace(type="cuda")


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_masked_sums_are_those_over_the_chosen_vectors(share):
    generator = torch.Generator().manual_seed(0)
    errors = torch.randn(30, FRAMES * N_BINS, generator=generator) * 5
    chosen = torch.rand(30, generator=generator) < share
    sums = [DomainCovariance(N_BINS, torch.device("cpu")) for _ in range(2)]
    for covariance, values in zip(sums, (errors, errors.as_subclass(Elsewhere)), strict=True):
        covariance.add(values, chosen)
        covariance.add(values, ~chosen)
    assert sums[0].n_vectors == sums[1].n_vectors == 30
    torch.testing.assert_close(sums[0].scatter, sums[1].scatter.as_subclass(torch.Tensor), rtol=1e-5, atol=1e-4)
    losses = errors.abs().mean(dim=1)
    masked = mean_where(chosen, losses.as_subclass(Elsewhere))
    assert float(masked) == pytest.approx(float(mean_where(chosen, losses)), rel=1e-6)


# --- settings of a CUDA device ----------------------------------------------------------------------------------------


def test_a_cuda_device_is_set_to_deterministic_float32(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.set_device", lambda _: None)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "a card")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr("torch.backends.cudnn.allow_tf32", True)
    try:
        assert select_device(True, 0, 1) == torch.device("cuda", 0)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
    assert "device: cuda:0 (a card)" in capsys.readouterr().out
    with pytest.raises(InputError, match="--gpu_id 1: there are 1 CUDA devices"):
        select_device(True, 1, 1)


# --- precision --------------------------------------------------------------------------------------------------------


def test_tf32_holds_for_the_training_step_alone(monkeypatch):
    network, seen = make_network(precision="tf32").train(), []
    losses = network.losses
    matmul = torch.backends.cuda.matmul
    monkeypatch.setattr(network, "losses", lambda v: seen.append(matmul.allow_tf32) or losses(v))
    PlainStep(network)(torch.randn(4, network.n_values))
    assert (seen, matmul.allow_tf32) == ([True], False)


def test_bf16_products_change_the_losses_by_their_rounding_alone():
    vectors = torch.randn(16, N_BINS * FRAMES, generator=torch.Generator().manual_seed(1)) * 20 - 40
    networks = [make_network(precision=precision).train() for precision in ("float32", "bf16")]
    exact, rounded = (make_step(network) for network in networks)
    assert (type(exact), type(rounded)) == (FastStep, PlainStep)
    for _ in range(3):
        ours, expected = rounded(vectors).reconstruction, exact(vectors).reconstruction
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, expected)
    torch.testing.assert_close(ours, expected, rtol=0.02, atol=0)
    assert {parameter.dtype for parameter in networks[1].parameters()} == {torch.float32}


def test_the_precision_is_recorded_and_a_run_of_another_is_not_resumed(workplace, options, call_train):
    assert call_train(*options, "--train_only", "--precision", "bf16").status == 0
    record = read_record(network_path(workplace).with_suffix(".json"))
    assert (record.content["precision"], record.content["cuda_step"]) == ("bf16", "plain")
    status, _, err = call_train(*options, "--epochs", "3", "--restart")
    assert status == 1
    assert "precision is 'bf16' there and None here" in err


# --- proofs of fast steps ---------------------------------------------------------------------------------------------


class Wrong(FastStep):
    """A fast step with a slip in its update."""

    def _update(self):
        super()._update()
        self.parameters.mul_(1 + 1e-5)


class NotFinite(FastStep):
    """A fast step that loses its numbers."""

    def __call__(self, vectors):
        """Return losses that are not finite."""
        return Losses(super().__call__(vectors).reconstruction * torch.nan)


def make_fast(cls):
    """Return what makes a fast step of a class."""
    return lambda network: cls(network, network.settings.learning_rate)


def test_the_cpus_fast_step_proves_to_be_the_plain_one_and_leaves_no_trace(capsys):
    network = make_network()
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
def test_a_fast_step_that_fails_its_proof_gives_way_to_the_plain_one(capsys, make, reason):
    assert type(proven(make_network(), make, PlainStep)) is PlainStep
    out = "".join(capsys.readouterr())
    assert f"warning: the fast training step failed its proof, the plain one is used: {reason}" in out


class Recorder(TorchDispatchMode):
    """Stands in for a CUDA graph: keeps every operation of a block with its tensors, and repeats them on replay."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Carry out an operation, and keep it."""
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
    """Let GraphStep capture on the CPU; what a capture itself does is undone, since a GPU carries out nothing then."""
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


def test_a_captured_step_is_the_same_without_a_graph_for_every_batch_size_and_after_a_resumption(simulated_graphs):
    network = make_network()
    assert step_difference(network, GraphStep, CapturableStep) == 0
    assert type(proven(network, GraphStep, CapturableStep)) is GraphStep
    fast, same = (make(make_network().train()) for make in (GraphStep, CapturableStep))
    generator = torch.Generator().manual_seed(3)
    for number, size in enumerate((16, 16, 5, 16, 5, 16)):
        vectors = torch.randn(size, N_BINS * FRAMES, generator=generator)
        assert torch.equal(fast(vectors).reconstruction, same(vectors).reconstruction)
        if number == 3:
            fast.load_state_dict(fast.state_dict())
    assert {int(state["step"]) for state in fast.optimizer.state.values()} == {6}


def test_a_capturable_step_differs_from_the_plain_one_by_rounding(simulated_graphs):
    networks = [make_network().train() for _ in range(2)]
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
    assert type(proven(make_network(), GraphStep, CapturableStep)) is PlainStep
    assert "a graph holds the learning rate, which the network's scheduler changes" in "".join(capsys.readouterr())


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_check(monkeypatch):
    """Let tools.check_device do little."""
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


def test_check_device_fails_where_a_fast_step_cannot_be_made(small_check, call_command, monkeypatch):
    def broken(*_):
        raise RuntimeError("no\ngraph")

    monkeypatch.setattr("tools.check_device.FastStep", broken)
    outcome = call_command(check_device.main, "--use_cuda", "false")
    assert outcome.status == 1
    assert "fast step               FAILED  no graph" in outcome.out
    assert "two runs                passed" in outcome.out
