"""The decision threshold: a quantile of the gamma distribution fitted to the anomaly scores of training batches."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from common import InputError, atomic_write


@dataclass(frozen=True)
class GammaDistribution:
    """A gamma distribution with free location, as scipy.stats.gamma names its parameters."""

    shape: float
    loc: float
    scale: float

    def quantile(self, probability: float) -> float:
        """Return the score below which a batch falls with this probability."""
        from scipy.stats import gamma

        return float(gamma.ppf(probability, self.shape, loc=self.loc, scale=self.scale))


def fit_gamma(scores: list[float]) -> GammaDistribution | None:
    """Fit a gamma distribution, location free, to scores; None where they do not determine one (all equal, say)."""
    from scipy.stats import FitError, gamma

    try:
        with np.errstate(all="ignore"):  # what comes of such scores is seen below
            distribution = GammaDistribution(*(float(value) for value in gamma.fit(scores)))
    except (FitError, ValueError, RuntimeError, ZeroDivisionError):
        return None
    return distribution if all(math.isfinite(value) for value in asdict(distribution).values()) else None


def save_gamma(distribution: GammaDistribution | None, path: Path) -> None:
    """Write the distribution's three numbers as JSON; null where there is none."""
    with atomic_write(path) as file:
        json.dump(distribution and asdict(distribution), file, indent=1)
        file.write("\n")


def load_gamma(path: Path) -> GammaDistribution | None:
    """Read a distribution; None where there is no file, or it says that there is none.

    Raises
    ------
    InputError
        The file holds something else than three finite numbers, shape and scale above 0.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values is None:
            return None
        distribution = GammaDistribution(*(float(values[name]) for name in ("shape", "loc", "scale")))
        finite = all(math.isfinite(value) for value in asdict(distribution).values())
        if not finite or distribution.shape <= 0 or distribution.scale <= 0:
            raise ValueError("the numbers are out of range")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} does not hold shape, loc and scale of a gamma distribution ({error}); train again, or remove it "
            "to test without decisions"
        ) from error
    return distribution
