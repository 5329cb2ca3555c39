"""The gamma distribution of scores, its quantile, and a threshold that should not be trusted."""

import pytest
from scipy.stats import gamma
from synthetic import make_settings

from networks.threshold import GammaDistribution, choose_threshold, fit_gamma


def test_the_fit_is_scipys_and_the_quantile_has_its_probability():
    scores = gamma.rvs(2.0, loc=10, scale=3, size=200, random_state=0).tolist()
    distribution = fit_gamma(scores)
    assert tuple(vars(distribution).values()) == gamma.fit(scores)
    assert distribution.quantile(0.9) == pytest.approx(gamma.ppf(0.9, *vars(distribution).values()))


def test_scores_that_do_not_determine_a_distribution_give_none():
    assert [*map(fit_gamma, ([1.0, float("nan")], [float("inf"), 1.0], [3.0, 3.0, 3.0]))] == [None] * 3


def test_a_quantile_of_a_fit_without_spread_or_outside_the_values_is_a_warning():
    """Distances by a singular covariance can be huge and negative; scipy's fit of them fails silently."""
    values = [-1850656885.0, -2125906553.0, -1848607623.0, -1865412458.0, -1921868860.0]
    for distribution, problem in (
        (fit_gamma(values), "means nothing: the gamma distribution fitted to five values has no spread"),
        (GammaDistribution(2.0, 0.0, 1.0), "is outside the range of five values, -2.12591e+09 to -1.84861e+09"),
    ):
        entry = {"gamma": vars(distribution), "fitted_to": "five values", "range": [min(values), max(values)]}
        assert choose_threshold(make_settings(), entry).problem == problem
