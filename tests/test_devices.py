"""Devices other than the CPU, without having one: what a pass reads, settings, precision.

torch's meta device computes nothing: it refuses operations on tensors of two devices, and those that need values. A
pass that runs on it mixes no devices, and waits for a GPU only where `as_floats` reads.
"""

import os
from types import SimpleNamespace

from common import InputError

import numpy as np
import pytest
import torch
from synthetic import (
    RESULTS,
    RUN,
    make_network,
    random_batches,
    random_vectors,
    results_of,
    small_run,
    written,
)

from datasets.vectors import make_batches
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


def make_vectors(settings, device):
    """Return vectors, and batches of them."""
    vectors = random_vectors(settings, 4, 20, N_BINS, device)
    return vectors, make_batches([vectors], settings)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_an_epoch_covariances_batch_scores_and_clip_scores_each_read_from_their_device_once(monkeypatch, device):
    """On a CPU, values are read at once: small tensors between large ones that are freed fragment the memory."""
    reads = []

    def as_floats(values):
        values = list(values)
        assert device == "cpu" or {value.device.type for value in values} == {"meta"}
        reads.append((len(values), *{*map(type, values)}))
        return [1.0] * len(values)

    for module in ("training", "mahalanobis", "scores"):
        monkeypatch.setattr(f"networks.{module}.as_floats", as_floats)
    network = small_network(device)
    vectors, batches = make_vectors(network.settings, device)
    n_training, n_validation = len(batches.training), len(batches.validation)
    step = make_step(network)
    for _ in range(2):
        epoch = train_epoch(network, step, iter(batches.training), batches.validation, n_training)
    mahala, mse = (make_score(name, network.settings, network) for name in ("MAHALA", "MSE"))
    with torch.no_grad():
        mahala.fit(TrainingData([], batches, []))
    clips = [score_clips(score, vectors.of_each_clip()) for score in (mahala, mse)]
    assert (len(epoch.batch_losses), clips) == (n_training + n_validation, [[1.0] * 4] * 2)
    kind = float if device == "cpu" else torch.Tensor
    n_epoch, n_batches = 4 * n_training + 2 * n_validation, n_training + n_validation
    inverses = (2, torch.Tensor)  # whether both are finite
    assert reads == [(n_epoch, kind), (n_epoch, kind), inverses, (n_batches, torch.Tensor), (4, kind), (4, kind)]


def test_a_pass_draws_the_same_on_every_device():
    settings, states = small_network().settings, []
    for device in ("cpu", "meta"):
        np.random.seed(1)
        torch.manual_seed(1)
        _, batches = make_vectors(settings, device)
        assert {(v.device.type, t.device.type) for v, t in batches.training} == {(device, device)}
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


class OnFakeGpu(torch.Tensor):
    """A tensor on the CPU that claims to be on a GPU."""

    device = SimpleNamespace(type="cuda")


def test_masked_sums_equal_those_over_the_chosen_vectors():
    ((errors, some),) = random_batches(FRAMES * N_BINS, [30])
    forms = errors, errors.as_subclass(OnFakeGpu)
    for chosen in (some, torch.zeros_like(some)):
        covariances = [DomainCovariance(N_BINS, torch.device("cpu")) for _ in forms]
        for covariance, values in zip(covariances, forms, strict=True):
            covariance.add(values, chosen)
            covariance.add(values, ~chosen)
            assert covariance.n_vectors == 30
        scatters = (covariance.scatter.as_subclass(torch.Tensor) for covariance in covariances)
        torch.testing.assert_close(*scatters, rtol=1e-5, atol=1e-4)
        mean, masked = (float(mean_where(chosen, values.mean(dim=1))) for values in forms)
        assert masked == pytest.approx(mean, rel=1e-6)


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
    ((vectors, _),) = random_batches(N_BINS * FRAMES, [16])
    networks = [small_network(precision=precision).train() for precision in ("float32", "bf16")]
    exact, rounded = (make_step(network) for network in networks)
    assert (type(exact), type(rounded)) == (FastStep, PlainStep)
    for _ in range(3):
        ours, expected = rounded(vectors).reconstruction, exact(vectors).reconstruction
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, expected)
    torch.testing.assert_close(ours, expected, rtol=0.02, atol=0)
    assert {parameter.dtype for parameter in networks[1].parameters()} == {torch.float32}


# --- a CUDA device ----------------------------------------------------------------------------------------------------

# Relative. MKL's products in another order, or with two threads, changed this run's losses by up to 1.2e-5, its scores
# by 7.6e-6 (MSE) and 1e-3 (MAHALA); bf16 products changed them by 1.5e-3, 1.2e-4 and 4.5e-3, another seed by 9e-3,
# 1.3e-3 and 3.2e-2.
OTHER_DEVICE = {"loss": 1e-4, "MSE": 5e-5, "MAHALA": 3e-3}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_cuda_device_gives_the_figures_of_the_cpu_and_resumes_to_the_same_bytes(workplace, succeeds):
    files, figures = {}, {}
    for name in ("cpu", "cuda", "resumed"):
        root = workplace / name
        data = ["--dataset_directory", workplace / "data", "--n_mels", 16]  # few, for well-conditioned covariances
        words = [*small_run(root), *data, "--use_cuda", name != "cpu"]
        first = ["--train_only", "--epochs", 1] if name == "resumed" else []
        for further in (first, ["--restart"], ["--test_only", "--score", "MAHALA"]):
            out = succeeds(*words, *further)
            assert ("device: cuda:" in out) == (name != "cpu")
        files[name] = written(root, RESULTS)
        figures[name] = {"loss": np.loadtxt(root / "logs/baseline" / RUN / "log.csv", delimiter=",", skiprows=1)}
        for score in ("MSE", "MAHALA"):
            scores = dict(results_of(root, "anomaly_score", f"baseline_{score}"))
            figures[name][score] = [float(value) for value in scores.values()]
    assert files["resumed"] == files["cuda"]
    for kind, tolerance in OTHER_DEVICE.items():
        np.testing.assert_allclose(figures["cuda"][kind], figures["cpu"][kind], rtol=tolerance, err_msg=kind)
