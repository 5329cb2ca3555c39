"""The gamma distribution of scores, its file and its quantile."""

import json

import pytest
from scipy.stats import gamma

from networks.threshold import GammaDistribution, fit_gamma, load_gamma, save_gamma


def test_the_fit_is_scipys_and_the_quantile_has_its_probability():
    scores = gamma.rvs(2.0, loc=10, scale=3, size=200, random_state=0).tolist()
    distribution = fit_gamma(scores)
    assert (distribution.shape, distribution.loc, distribution.scale) == gamma.fit(scores)
    quantile = distribution.quantile(0.9)
    assert gamma.cdf(quantile, distribution.shape, distribution.loc, distribution.scale) == pytest.approx(0.9)


@pytest.mark.parametrize("scores", [[1.0, float("nan")], [float("inf"), 1.0], [3.0, 3.0, 3.0]])
def test_scores_that_determine_no_distribution_give_none(scores):
    assert fit_gamma(scores) is None


def test_the_file_keeps_every_digit(tmp_path):
    distribution = GammaDistribution(0.4826377812110595, 270.5584106445312, 53.73147092359473)
    save_gamma(distribution, tmp_path / "models" / "x.json")
    assert load_gamma(tmp_path / "models" / "x.json") == distribution
    assert json.loads((tmp_path / "models" / "x.json").read_text())["shape"] == 0.4826377812110595
    assert load_gamma(tmp_path / "y.json") is None
