"""Training, covariances and scores against the formulas written out in float64; what an extension's score may do."""

import random
from pathlib import Path

from common import SCORES, Extension

import numpy as np
import pytest
import torch
from synthetic import make_network, random_batches, random_vectors

from datasets.vectors import ClipInput, TrainingBatches, make_batches
from networks import training
from networks.mahalanobis import direct_score, error_rows, fit_covariances, inverse_covariances, pairwise_score
from networks.scores import NoThresholdError, Score, TrainingData, fit_scores, make_score, score_clips
from networks.steps import make_step
from networks.threshold import fit_gamma
from networks.training import PlainStep, train_epoch

N_MELS, FRAMES = 4, 3


@pytest.fixture
def network():
    """Return a small network."""
    return make_network(N_MELS, frames=FRAMES)


@pytest.fixture
def batches():
    """Return batches of both domains, one without target vectors, the last one of a single vector."""
    batches = random_batches(FRAMES * N_MELS, (32, 32, 20, 1))
    batches[1][1].fill_(False)
    return batches


def errors_of(network, vectors):
    """Return input - reconstruction in float64: (n_rows, n_mels)."""
    network.eval()
    with torch.no_grad():
        return (vectors - network(vectors)).double().numpy().reshape(-1, N_MELS)


def test_a_single_vector_is_skipped_but_counts_as_a_batch(network, batches):
    epoch = train_epoch(network, make_step(network), batches, batches[:2], n_training=4)
    *training, first, second = epoch.batch_losses
    assert len(training) == 3
    assert epoch.losses.loss == epoch.losses.recon_loss == pytest.approx(sum(training) / 4, rel=1e-12)
    assert epoch.losses.val_loss == pytest.approx((first + second) / 2, rel=1e-12)
    squared = [(errors_of(network, vectors) ** 2).mean() for vectors, _ in batches[:2]]  # by the network in eval mode
    assert [first, second] == pytest.approx(squared, rel=1e-5)


def test_the_scheduler_steps_after_each_epoch(network, batches):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    network.configure_optimizers = lambda: (optimizer, scheduler)
    step = PlainStep(network)
    for learning_rate in (0.0005, 0.00025):
        train_epoch(network, step, batches, batches[:1], n_training=4)
        assert optimizer.param_groups[0]["lr"] == learning_rate


def test_means_of_the_log_are_added_from_left_to_right():
    """As the reference adds them; sum() gives 1.0 from Python 3.12 on."""
    assert training._mean([0.1] * 10, 10) == 0.9999999999999999 / 10


def test_a_batch_without_target_vectors_counts_0_for_target(network, batches):
    """Each batch in a separate epoch, so that the log's line is the batch's."""
    step = make_step(network)
    first, second = (train_epoch(network, step, [batch], batches[:1], n_training=1).losses for batch in batches[:2])
    assert (second.recon_loss_target, second.recon_loss_source) == (0, pytest.approx(second.loss, rel=1e-6))
    share = batches[0][1].double().mean().item()
    mean = share * first.recon_loss_target + (1 - share) * first.recon_loss_source
    assert first.loss == pytest.approx(mean, rel=1e-6)


def test_covariances_are_centred_by_batch_and_divided_by_vectors(network, batches):
    fit_covariances(network, batches)
    for covariance, wanted in ((network.cov_source, False), (network.cov_target, True)):
        # not of the single vector
        errors = [errors_of(network, vectors[is_target == wanted]) for vectors, is_target in batches[:3]]
        scatter = sum(np.cov(rows.T, bias=True) * len(rows) for rows in errors if len(rows))
        np.testing.assert_allclose(covariance, scatter / (sum(map(len, errors)) / FRAMES - 1), rtol=1e-4)
    fit_covariances(network, [batches[1]])  # without target vectors
    assert torch.equal(network.cov_source, network.cov_target)


@torch.no_grad()
def test_scores_follow_the_formulas(network, batches):
    fit_covariances(network, batches)
    network.train()  # scores set it to eval mode
    inverses = inverse_covariances(network)
    clips = [ClipInput(Path("clip.wav"), lambda v=vectors: v) for vectors, _ in batches]  # a single vector too
    mahala, mse = (make_score(name, network.settings, network) for name in ("MAHALA", "MSE"))
    mahala.load({})
    for (vectors, _), direct, squared in zip(batches, score_clips(mahala, clips), score_clips(mse, clips), strict=True):
        errors = errors_of(network, vectors)
        mean = errors.mean(axis=0)
        expected = min(mean @ inverse.double().numpy() @ mean for inverse in inverses)
        rows = error_rows(network, vectors)
        assert direct == pytest.approx(expected, rel=1e-5)
        assert direct == direct_score(rows, inverses)  # not the pairwise form
        assert pairwise_score(rows, inverses) == pytest.approx(expected, rel=1e-4)
        rows = torch.from_numpy(errors).float()
        assert direct_score(rows, inverses) == pytest.approx(expected, rel=1e-12)  # float64 from the mean on
        assert squared == pytest.approx((errors**2).mean(), rel=1e-5)


def test_thresholds_are_fitted_to_the_training_batches_then_the_validation_batches(network, batches):
    losses = [3.0, 1.0, 2.0]
    data = TrainingData([], TrainingBatches(batches[:2], batches[2:]), batch_losses=losses)
    network.train()  # fitting sets it to eval mode
    mahala, mse = fit_scores(["MAHALA", "MSE"], network.settings, network, data).values()
    inverses = inverse_covariances(network)
    with torch.no_grad():
        values = [pairwise_score(error_rows(network, vectors), inverses).item() for vectors, _ in batches]
    assert [mahala["gamma"], mse["gamma"]] == [vars(fit_gamma(fitted)) for fitted in (values, losses)]


def test_covariances_and_thresholds_have_the_same_bits_on_any_number_of_cores(monkeypatch):
    torch.set_num_threads(1)
    network = make_network(128, batch_size=64).eval()
    settings = network.settings
    batches = make_batches([random_vectors(settings, 20, 60, 128)], settings)
    assert len(batches.training) == 16
    assert len(batches.training.columns[0]) % 64 != 0  # the last batch is smaller
    results = []
    for cores in (1, 2, 5):
        monkeypatch.setattr("networks.mahalanobis.available_cores", lambda n=cores: n)
        torch.manual_seed(1)
        with torch.no_grad():
            values = make_score("MAHALA", settings, network).fit(TrainingData([], batches))
        tensors = (network.cov_source, network.cov_target, torch.get_rng_state())
        results.append((values, *(tensor.tolist() for tensor in tensors)))
    assert results[1:] == results[:1] * 2


def test_without_a_covariance_there_is_no_threshold_of_mahala(network, batches, capsys):
    single = batches[3:]  # a batch of one vector is skipped, so there is nothing to fit to
    data = TrainingData([], TrainingBatches(single, batches), batch_losses=[3.0, 1.0, 2.0])
    mahala, mse = fit_scores(["MAHALA", "MSE"], network.settings, network, data).values()
    assert mahala["gamma"] is None and mse["gamma"]
    out = capsys.readouterr().out
    assert "no threshold for MAHALA: a covariance is singular" in out
    assert "too few" not in out  # about missing clips


@pytest.mark.parametrize("domain", ["cov_source", "cov_target"])
@pytest.mark.parametrize("value", [torch.ones(N_MELS, N_MELS), torch.diag(torch.tensor([1.0, 1, 1, 0])), torch.nan])
def test_a_singular_covariance_of_either_domain_is_noticed(network, domain, value):
    """Of a rank too low, with a bin that never varies, not a number."""
    for covariance in (network.cov_source, network.cov_target):
        covariance.copy_(torch.eye(N_MELS))
    assert len(inverse_covariances(network)) == 2
    getattr(network, domain)[:] = value
    with pytest.raises(NoThresholdError):
        inverse_covariances(network)


def test_a_single_target_vector_gives_no_threshold(network, batches):
    """Sums are divided by the number of vectors less one, as in the reference."""
    fit_covariances(network, [(batches[0][0], torch.arange(32) == 5)])
    assert network.cov_source.isfinite().all()
    with pytest.raises(NoThresholdError):
        inverse_covariances(network)


# --- scores of extensions ---------------------------------------------------------------------------------------------


@pytest.fixture
def fit_own(network, monkeypatch):
    """Return a function that fits a score of an extension, whose `fit` is given, to clips."""

    def call(fit, n_clips=1):
        attributes = {"name": "OWN", "extension": Extension(Path("own.py")), "fit": fit, "of_clip": lambda *_: 1.0}
        monkeypatch.setitem(SCORES.registered, "OWN", type("Own", (Score,), attributes))
        clips = [ClipInput(Path(f"{i}.wav"), lambda: None) for i in range(n_clips)]
        (entry,) = fit_scores(["OWN"], network.settings, network, TrainingData(clips, batch_losses=[1.0])).values()
        return entry

    return call


def test_an_extensions_score_is_fitted_in_eval_mode_and_draws_from_its_own_generators(fit_own, network):
    """Seeded by --seed, so that it gives the same whenever it is fitted, and nothing else changes."""

    def draw(self, data):
        assert (self.network is network, network.training, torch.is_grad_enabled()) == (True, False, False)
        assert data.batch_losses is None  # it may be fitted long after training
        return [value for _ in range(20) for value in (random.random(), np.random.rand(), torch.rand(()))]

    def states():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before = states()
    network.train()
    first, second = fit_own(draw), fit_own(draw)
    assert first["gamma"] == second["gamma"] is not None
    assert states() == before


def test_values_of_an_extension_are_the_clips_scores_if_each_clip_has_one(fit_own):
    values = [float(i % 7) for i in range(300)]
    assert fit_own(lambda self, data: values, n_clips=300)["clip_scores"] == values[::2]  # 150 at most
    assert fit_own(lambda self, data: values[1:], n_clips=300)["clip_scores"] == []
