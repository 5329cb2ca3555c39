"""The gamma distribution of scores, its file and its quantile."""

import json

import pytest
from scipy.stats import gamma

from common import InputError
from networks.threshold import GammaDistribution, dump_gamma, fit_gamma, load_gamma


def test_the_fit_is_scipys_and_the_quantile_has_its_probability():
    scores = gamma.rvs(2.0, loc=10, scale=3, size=200, random_state=0).tolist()
    distribution = fit_gamma(scores)
    assert (distribution.shape, distribution.loc, distribution.scale) == gamma.fit(scores)
    quantile = distribution.quantile(0.9)
    assert gamma.cdf(quantile, distribution.shape, distribution.loc, distribution.scale) == pytest.approx(0.9)


@pytest.mark.parametrize("scores", [[1.0, float("nan")], [float("inf"), 1.0], [3.0, 3.0, 3.0]])
def test_scores_that_do_not_determine_a_distribution_give_none(scores):
    assert fit_gamma(scores) is None


def test_the_file_keeps_every_digit(tmp_path):
    distribution = GammaDistribution(0.4826377812110595, 270.5584106445312, 53.73147092359473)
    path = tmp_path / "x.json"
    path.write_bytes(dump_gamma(distribution))
    assert load_gamma(path) == distribution
    assert json.loads(path.read_text())["shape"] == 0.4826377812110595
    assert load_gamma(tmp_path / "y.json") is None
    path.write_bytes(dump_gamma(None))
    assert load_gamma(path) is None


def test_a_fit_without_spread_is_written_and_read(tmp_path):
    """Mahalanobis distances by a singular covariance can be huge and negative; scipy's fit of them fails silently."""
    path = tmp_path / "x.json"
    distribution = fit_gamma([-1850656885.0, -2125906553.0, -1848607623.0, -1865412458.0, -1921868860.0])
    assert not distribution.has_spread
    path.write_bytes(dump_gamma(distribution))
    assert load_gamma(path) == distribution


GOOD = {"shape": 0.5, "loc": 270.5, "scale": 53.7}


@pytest.mark.parametrize(
    "content",
    [
        {**GOOD, "shape": 1e300},
        {**GOOD, "shape": 1e40},
        {**GOOD, "shape": -1.0},
        {**GOOD, "shape": 0},
        {**GOOD, "scale": 0},
        {**GOOD, "scale": -1},
        {**GOOD, "shape": 1e200, "scale": 1e200},
        {**GOOD, "loc": float("nan")},
        {**GOOD, "scale": float("inf")},
        {**GOOD, "loc": None},
        {**GOOD, "loc": "many"},
        {**GOOD, "loc": [270.5]},
        {**GOOD, "loc": 10**400},
        {"shape": 0.5, "loc": 270.5},
        [0.5, 270.5, 53.7],
        "0.5",
        3,
    ],
    ids=repr,
)
def test_distributions_without_a_usable_threshold_are_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"x\.json does not hold shape, loc and scale of a gamma distribution"):
        load_gamma(path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\0", '{"shape": ' + "1" * 5000 + "}"], ids=len)
def test_a_damaged_file_is_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json does not hold shape, loc and scale"):
        load_gamma(path)


@pytest.mark.parametrize(("probability", "scale"), [(0.9, 1e308), (0.999999, 3e307)])
def test_a_quantile_that_is_not_finite_is_reported(probability, scale):
    with pytest.raises(InputError, match=r"quantile of .* is not finite"):
        GammaDistribution(50.0, 0.0, scale).quantile(probability)
