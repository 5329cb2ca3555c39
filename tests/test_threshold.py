"""The gamma distribution of scores and its quantile."""

from common import InputError

import pytest
from scipy.stats import gamma

from networks.threshold import GammaDistribution, fit_gamma


def test_the_fit_is_scipys_and_the_quantile_has_its_probability():
    scores = gamma.rvs(2.0, loc=10, scale=3, size=200, random_state=0).tolist()
    distribution = fit_gamma(scores)
    assert (distribution.shape, distribution.loc, distribution.scale) == gamma.fit(scores)
    quantile = distribution.quantile(0.9)
    assert gamma.cdf(quantile, distribution.shape, distribution.loc, distribution.scale) == pytest.approx(0.9)


@pytest.mark.parametrize("scores", [[1.0, float("nan")], [float("inf"), 1.0], [3.0, 3.0, 3.0]])
def test_scores_that_do_not_determine_a_distribution_give_none(scores):
    assert fit_gamma(scores) is None


def test_a_fit_without_spread_is_kept():
    """Mahalanobis distances by a singular covariance can be huge and negative; scipy's fit of them fails silently."""
    distribution = fit_gamma([-1850656885.0, -2125906553.0, -1848607623.0, -1865412458.0, -1921868860.0])
    assert not distribution.has_spread


@pytest.mark.parametrize(("probability", "scale"), [(0.9, 1e308), (0.999999, 3e307)])
def test_a_quantile_that_is_not_finite_is_reported(probability, scale):
    with pytest.raises(InputError, match=r"quantile of .* is not finite"):
        GammaDistribution(50.0, 0.0, scale).quantile(probability)
