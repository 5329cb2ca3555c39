"""The decision threshold: a quantile of the gamma distribution fitted to the scores of normal sound."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from common import InputError


@dataclass(frozen=True)
class GammaDistribution:
    """A gamma distribution with free location, as scipy.stats.gamma names its parameters."""

    shape: float
    loc: float
    scale: float

    def quantile(self, probability: float) -> float:
        """Return the score below which a value of the distribution falls with this probability."""
        from scipy.special import gammaincinv  # as scipy.stats.gamma.ppf, whose import takes three times as long

        with np.errstate(all="ignore"):  # what comes of absurd numbers is seen below
            value = float(gammaincinv(self.shape, probability) * self.scale + self.loc)
        if not math.isfinite(value):
            raise InputError(f"the {probability:g} quantile of {self} is not finite; train again")
        return value


def fit_gamma(scores: list[float]) -> GammaDistribution | None:
    """Fit a gamma distribution, location free, to scores; None if they do not determine one (all equal, say)."""
    from scipy.stats import FitError, gamma

    try:
        with np.errstate(all="ignore"):  # what comes of such scores is seen below
            distribution = GammaDistribution(*(float(value) for value in gamma.fit(scores)))
    except (FitError, ValueError, RuntimeError, ZeroDivisionError):
        return None
    return distribution if all(math.isfinite(value) for value in asdict(distribution).values()) else None


def dump_gamma(distribution: GammaDistribution | None) -> bytes:
    """Return the distribution's three numbers as a JSON file's content; null if there is none."""
    return f"{json.dumps(distribution and asdict(distribution), indent=1)}\n".encode()


def load_gamma(path: Path) -> GammaDistribution | None:
    """Read a distribution; None if there is no file, or it says that there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values is None:
            return None
        distribution = GammaDistribution(*(float(values[name]) for name in ("shape", "loc", "scale")))
        finite = all(math.isfinite(value) for value in asdict(distribution).values())
        if not finite or distribution.shape <= 0 or distribution.scale <= 0:
            raise ValueError("the numbers are out of range")
        if not distribution.quantile(0.1) < distribution.quantile(0.9):  # of a shape such as 1e300
            raise ValueError("the distribution has no spread")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError, InputError) as error:
        raise InputError(
            f"{path} does not hold shape, loc and scale of a gamma distribution ({error}); train again, or remove it "
            "to test without decisions"
        ) from error
    return distribution
