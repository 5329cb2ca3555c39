"""Devices other than the CPU, without having one: what a pass reads, settings, precision.

torch's meta device computes nothing: it refuses operations on tensors of two devices, and those that need values. A
pass that runs on it mixes no devices, and waits for a GPU only where `as_floats` reads.
"""

import json
import os
from types import SimpleNamespace

from common import InputError

import numpy as np
import pytest
import torch
from synthetic import RESULTS, make_network, network_path, rows, small_run, succeed, written

from datasets.cache import Features
from datasets.clips import Clip
from datasets.vectors import Vectors, make_batches
from networks.fast_step import FastStep
from networks.mahalanobis import DomainCovariance
from networks.scores import TrainingData, make_score, score_clips
from networks.steps import make_step
from networks.training import PlainStep, mean_where, train_epoch
from runtime.device import select_device

N_BINS, FRAMES = 8, 2


def small_network(device="cpu", **values):
    """Return a small network."""
    return make_network(N_BINS, device, frames=FRAMES, batch_size=16, **values)


def make_vectors(network, device):
    """Return vectors of four clips, every other one from the target domain."""
    frames = np.random.default_rng(0).standard_normal((80, N_BINS), dtype=np.float32)
    clips = [Clip(None, 0, ("source", "target")[i % 2], "normal") for i in range(4)]
    return Vectors(Features(frames, (20,) * 4), clips, network.settings, torch.device(device))


@pytest.fixture
def reads(monkeypatch):
    """Replace the one function that reads from a device, and return the number of values of each call."""
    counts = []

    def as_floats(values):
        values = list(values)
        assert {value.device.type for value in values} == {"meta"}
        counts.append(len(values))
        return [1.0] * len(values)

    for module in ("training", "mahalanobis", "scores"):
        monkeypatch.setattr(f"networks.{module}.as_floats", as_floats)
    return counts


def test_an_epoch_reads_from_its_device_once(reads):
    network = small_network("meta")
    batches = make_batches([make_vectors(network, "meta")], network.settings)
    step = make_step(network)
    for _ in range(2):
        epoch = train_epoch(network, step, iter(batches.training), batches.validation, len(batches.training))
    n_training, n_validation = len(batches.training), len(batches.validation)
    assert reads == [4 * n_training + 2 * n_validation] * 2
    assert len(epoch.batch_losses) == n_training + n_validation


def test_covariances_batch_scores_and_clip_scores_each_read_once(reads):
    network = small_network("meta").eval()
    vectors = make_vectors(network, "meta")
    batches = make_batches([vectors], network.settings)
    mahala, mse = (make_score(name, network.settings, network) for name in ("MAHALA", "MSE"))
    with torch.no_grad():
        mahala.fit(TrainingData([], batches, []))
    assert reads == [2, len(batches.training) + len(batches.validation)]  # whether both inverses are finite, scores
    mahala.load({})
    reads.clear()
    assert score_clips(mahala, vectors.of_each_clip()) == score_clips(mse, vectors.of_each_clip()) == [1.0] * 4
    assert reads == [4, 4]


def test_on_a_cpu_values_are_read_at_once(monkeypatch):
    """Small tensors kept between large ones that are freed fragment the memory."""
    kinds = set()

    def as_floats(values):
        values = list(values)
        kinds.update(map(type, values))
        return values

    for module in ("training", "scores"):
        monkeypatch.setattr(f"networks.{module}.as_floats", as_floats)
    network = small_network()
    vectors = make_vectors(network, "cpu")
    batches = make_batches([vectors], network.settings)
    train_epoch(network, make_step(network), batches.training, batches.validation, len(batches.training))
    score_clips(make_score("MSE", network.settings, network), vectors.of_each_clip())
    assert kinds == {float}


def test_a_pass_draws_the_same_on_every_device():
    network, states = small_network(), []
    for device in ("cpu", "meta"):
        np.random.seed(1)
        torch.manual_seed(1)
        batches = make_batches([make_vectors(network, device)], network.settings)
        assert {(v.device.type, t.device.type) for v, t in batches.training} == {(device, device)}
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


class OnFakeGpu(torch.Tensor):
    """A tensor on the CPU that claims to be on a GPU."""

    device = SimpleNamespace(type="cuda")


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_masked_sums_equal_those_over_the_chosen_vectors(share):
    generator = torch.Generator().manual_seed(0)
    errors = torch.randn(30, FRAMES * N_BINS, generator=generator) * 5
    chosen = torch.rand(30, generator=generator) < share
    sums = [DomainCovariance(N_BINS, torch.device("cpu")) for _ in range(2)]
    for covariance, values in zip(sums, (errors, errors.as_subclass(OnFakeGpu)), strict=True):
        covariance.add(values, chosen)
        covariance.add(values, ~chosen)
    assert sums[0].n_vectors == sums[1].n_vectors == 30
    torch.testing.assert_close(sums[0].scatter, sums[1].scatter.as_subclass(torch.Tensor), rtol=1e-5, atol=1e-4)
    losses = errors.abs().mean(dim=1)
    masked = mean_where(chosen, losses.as_subclass(OnFakeGpu))
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


def test_tf32_applies_only_to_the_training_step(monkeypatch):
    network, seen = small_network(precision="tf32").train(), []
    losses = network.losses
    matmul = torch.backends.cuda.matmul
    monkeypatch.setattr(network, "losses", lambda v: seen.append(matmul.allow_tf32) or losses(v))
    PlainStep(network)(torch.randn(4, network.n_values))
    assert (seen, matmul.allow_tf32) == ([True], False)


def test_bf16_products_change_the_losses_only_by_their_rounding():
    vectors = torch.randn(16, N_BINS * FRAMES, generator=torch.Generator().manual_seed(1)) * 20 - 40
    networks = [small_network(precision=precision).train() for precision in ("float32", "bf16")]
    exact, rounded = (make_step(network) for network in networks)
    assert (type(exact), type(rounded)) == (FastStep, PlainStep)
    for _ in range(3):
        ours, expected = rounded(vectors).reconstruction, exact(vectors).reconstruction
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, expected)
    torch.testing.assert_close(ours, expected, rtol=0.02, atol=0)
    assert {parameter.dtype for parameter in networks[1].parameters()} == {torch.float32}


def test_the_precision_is_recorded_and_a_run_with_another_is_not_resumed(workplace, options, call_train):
    succeed(call_train(*options, "--train_only", "--precision", "bf16"))
    assert json.loads(network_path(workplace).with_suffix(".json").read_text())["precision"] == "bf16"
    status, _, err = call_train(*options, "--epochs", "3", "--restart")
    assert status == 1
    assert "precision is 'bf16' there and None here" in err


# --- a CUDA device ----------------------------------------------------------------------------------------------------

# Relative. MKL's products in another order, or with two threads, changed this run's losses by up to 1.2e-5, its scores
# by 7.6e-6 (MSE) and 1e-3 (MAHALA); bf16 products changed them by 1.5e-3, 1.2e-4 and 4.5e-3, another seed by 9e-3,
# 1.3e-3 and 3.2e-2.
OTHER_DEVICE = {"loss": 1e-4, "MSE": 5e-5, "MAHALA": 3e-3}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_cuda_device_gives_the_figures_of_the_cpu_and_resumes_to_the_same_bytes(workplace, call_train):
    files, figures = {}, {}
    for name in ("cpu", "cuda", "resumed"):
        root = workplace / name
        data = ["--dataset_directory", workplace / "data", "--n_mels", 16]  # few, for well-conditioned covariances
        words = [*small_run(root), *data, "--use_cuda", name != "cpu"]
        first = ["--train_only", "--epochs", 1] if name == "resumed" else []
        for further in (first, ["--restart"], ["--test_only", "--score", "MAHALA"]):
            out = succeed(call_train(*words, *further))
            assert ("device: cuda:" in out) == (name != "cpu")
        files[name] = written(root, RESULTS)
        values = {"loss": [cell for path in root.glob("logs/*/*/log.csv") for row in rows(path)[1:] for cell in row]}
        for score in ("MSE", "MAHALA"):
            (path,) = root.glob(f"results/dev_data/baseline_{score}/anomaly_score_*.csv")
            values[score] = [value for _, value in rows(path)]
        figures[name] = {kind: [float(text) for text in texts] for kind, texts in values.items()}
    assert files["resumed"] == files["cuda"]
    for kind, tolerance in OTHER_DEVICE.items():
        assert figures["cuda"][kind] == pytest.approx(figures["cpu"][kind], rel=tolerance), kind
