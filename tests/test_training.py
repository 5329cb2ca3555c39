"""Training, covariances and scores against the formulas written out in float64."""

import numpy as np
import pytest
import torch

from networks.autoencoder import AutoEncoder
from networks.engine import (
    fit_covariances,
    inverse_covariances,
    mahalanobis_batch_scores,
    mahalanobis_clip_scores,
    mse_clip_scores,
    run_epoch,
    train_batches,
)
from networks.training_step import TrainingStep

N_MELS, FRAMES = 4, 3


@pytest.fixture
def network():
    """Return a small network."""
    torch.manual_seed(0)
    return AutoEncoder(N_MELS, FRAMES)


@pytest.fixture
def batches():
    """Return batches of both domains, one without target vectors, the last one of a single vector."""
    generator = torch.Generator().manual_seed(1)
    sizes, targets = (32, 32, 20, 1), (0.3, 0.0, 0.5, 1.0)
    return [
        (torch.randn(n, FRAMES * N_MELS, generator=generator) * 5, torch.rand(n, generator=generator) < share)
        for n, share in zip(sizes, targets, strict=True)
    ]


def errors_of(network, vectors):
    """Return input - reconstruction in float64: (n_rows, n_mels)."""
    network.eval()
    with torch.no_grad():
        return (vectors - network(vectors)).double().numpy().reshape(-1, N_MELS)


def test_the_state_dict_has_the_references_keys():
    state = AutoEncoder(128, 5).state_dict()
    assert state["cov_source"].shape == state["cov_target"].shape == (128, 128)
    linear = {name: tuple(t.shape) for name, t in state.items() if t.ndim == 2 and "cov" not in name}
    hidden = {f"{half}.{i}.weight": (128, 128) for half in ("encoder", "decoder") for i in (3, 6, 9)}
    ends = {"encoder.0.weight": (128, 640), "encoder.12.weight": (8, 128)}
    ends |= {"decoder.0.weight": (128, 8), "decoder.12.weight": (640, 128)}
    assert linear == hidden | ends
    assert "encoder.13.running_mean" in state
    assert "decoder.13.running_mean" not in state


def test_a_single_vector_is_skipped_but_counts_as_a_batch(network, batches):
    epoch = run_epoch(network, TrainingStep(network, 1e-3), batches, batches[:2], n_training=len(batches))
    assert len(epoch.batch_losses) == 3 + 2
    assert epoch.losses.loss == pytest.approx(sum(epoch.batch_losses[:3]) / 4, rel=1e-12)
    assert epoch.losses.val_loss == pytest.approx(sum(epoch.batch_losses[3:]) / 2, rel=1e-12)


def test_a_batch_without_target_vectors_counts_0_for_target(network, batches):
    losses = train_batches(TrainingStep(network, 1e-3), batches)
    assert losses.target[1] == 0.0
    assert losses.source[1] == pytest.approx(losses.total[1], rel=1e-6)
    n_target = int(batches[0][1].sum())
    mean = (n_target * losses.target[0] + (32 - n_target) * losses.source[0]) / 32
    assert losses.total[0] == pytest.approx(mean, rel=1e-6)


def test_covariances_are_centred_by_batch_and_divided_by_vectors(network, batches):
    fit_covariances(network, batches)
    for covariance, wanted in ((network.cov_source, False), (network.cov_target, True)):
        scatter, n_vectors = np.zeros((N_MELS, N_MELS)), 0
        for vectors, is_target in batches[:3]:  # not the single vector
            chosen = (is_target == wanted).numpy()
            if chosen.any():
                rows = errors_of(network, vectors).reshape(len(vectors), -1)[chosen].reshape(-1, N_MELS)
                scatter += (rows - rows.mean(axis=0)).T @ (rows - rows.mean(axis=0))
                n_vectors += int(chosen.sum())
        np.testing.assert_allclose(covariance, scatter / (n_vectors - 1), rtol=1e-4)


def test_without_target_vectors_the_covariances_are_equal(network, batches):
    fit_covariances(network, [batches[1]])
    assert torch.equal(network.cov_source, network.cov_target)


def test_scores_are_the_formulas(network, batches):
    fit_covariances(network, batches)
    clips = [vectors for vectors, _ in batches]
    inverses = inverse_covariances(network)
    pairwise = mahalanobis_batch_scores(network, batches[:2], batches[2:])
    direct = list(mahalanobis_clip_scores(network, inverses, clips))
    squared = list(mse_clip_scores(network, clips))
    for i, vectors in enumerate(clips):  # the single vector is scored too
        errors = errors_of(network, vectors)
        mean = errors.mean(axis=0)
        expected = min(mean @ inverse.double().numpy() @ mean for inverse in inverses)
        assert direct[i] == pytest.approx(expected, rel=1e-5)
        assert pairwise[i] == pytest.approx(expected, rel=1e-4)
        assert squared[i] == pytest.approx((errors**2).mean(), rel=1e-5)


def test_a_singular_covariance_is_noticed(network, batches):
    assert torch.equal(network.cov_source, torch.zeros(N_MELS, N_MELS))
    assert inverse_covariances(network) is None
    assert mahalanobis_batch_scores(network, batches, batches) is None
