"""A system's official score, with a bootstrap confidence interval, and the differences between systems.

The official score by rule (datasets/catalogue.yaml, official_score):

    2022 on     harmonic mean, over all sections of all machine types, of AUC (source), AUC (target) and pAUC
    2021        the same of AUC and pAUC of each domain's own clips
    2020        none: teams were ranked by average rank; here the arithmetic means of AUC and of pAUC, over a machine
                type's sections and then over machine types
    own         a user's machines have no official score: as 2022, without domains the harmonic mean of AUC and pAUC

Harmonic means take each area as at least float64 epsilon.

The interval reflects the draw of test clips, not the seed: the clips of each domain and label of each section are
resampled with replacement. Systems tested on the same clips share the resamples, so that their difference has an
interval too. Limits are bias-corrected (BC) percentiles, which cover better than plain percentiles where cells are few
or weak.
Source: the challenge's task description and the organisers' evaluators; BC bootstrap: Efron, 1981; partial AUC:
McClish, 1989.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from common import InputError

import numpy as np
import pandas as pd

from tools.results.clips import is_anomaly, is_target
from tools.results.metrics import EPSILON, METRICS, area_clips, lacking_clips

N_RESAMPLES = 5000
CONFIDENCE = 0.95
NORMAL = NormalDist()
Estimate = tuple[float, float | None, float | None]  # a figure and the limits of its interval, which needs score files


def required_metrics(present: Iterable[str], rule: str) -> list[str]:
    """Return the metrics of the official score of a system that has the metrics `present`."""
    if rule == "own":
        rule = "2022" if "AUC (source)" in present else "2020"
    return [metric.name for metric in METRICS if rule in metric.official]


def official_figures(figures: pd.DataFrame, rule: str) -> dict[str, float]:
    """Return a system's official score, by its name; the two means of 2020.

    Parameters
    ----------
    figures
        The system's metrics: a row for each machine type and section, NaN where undefined (Results.figures_of).
    """
    names = required_metrics(figures, rule)
    for (machine_type, section), values in figures.iterrows():
        undefined = [name for name in names if pd.isna(values.get(name))]
        if undefined:
            lacking = lacking_clips(values)
            why = f"there are no {lacking}" if lacking else "the result table does not have it; score files are needed"
            raise InputError(f"{machine_type} section {section:02d} has no {', '.join(undefined)}: {why}")
    areas = {name: figures[name].to_numpy() for name in names}
    official = _official(areas, figures.index.get_level_values("machine type"), rule)
    return {name: float(value) for name, value in official.items()}


def score_name(rule: str) -> str:
    """Return the official score's name; a user's own machines have only a harmonic mean."""
    return "harmonic mean" if rule == "own" else "official score"


def _official(areas: Mapping[str, np.ndarray], machine_types: Sequence[str], rule: str) -> dict[str, Any]:
    """Return the official score by its name.

    Parameters
    ----------
    areas
        Metric -> the areas of the sections, (n_sections,), or of many resamples of them, (n_sections, n_resamples).
    machine_types
        Of each section.
    """
    if rule == "2020":
        chosen = [[m == machine_type for m in machine_types] for machine_type in dict.fromkeys(machine_types)]
        by_type = {name: [values[some].mean(axis=0) for some in chosen] for name, values in areas.items()}
        return {f"mean {name}": np.mean(means, axis=0) for name, means in by_type.items()}
    return {score_name(rule): 1 / np.mean(1 / np.maximum(np.concatenate(list(areas.values())), EPSILON), axis=0)}


def interval(value: float, resamples: np.ndarray) -> tuple[float, float]:
    """Return the bias-corrected limits: the percentiles move by twice the bias of the resamples' median.

    Parameters
    ----------
    resamples
        The figure of each resample: (N_RESAMPLES,).
    """
    tie = np.abs(resamples - value) < 1e-9
    below = np.mean((resamples < value) & ~tie) + np.mean(tie) / 2
    n = len(resamples)
    bias = NORMAL.inv_cdf(float(np.clip(below, 0.5 / n, 1 - 0.5 / n)))
    limit = NORMAL.inv_cdf((1 + CONFIDENCE) / 2)
    low, high = np.quantile(resamples, [NORMAL.cdf(2 * bias - limit), NORMAL.cdf(2 * bias + limit)])
    return float(low), float(high)


def estimate(value: float, resamples: np.ndarray | None) -> Estimate:
    """Return a figure with its interval, if there are resamples of it."""
    return (value, None, None) if resamples is None else (value, *interval(value, resamples))


def resample_systems(
    clips: pd.DataFrame, max_fpr: float, rule: str, n_resamples: int = N_RESAMPLES
) -> dict[str, dict[str, np.ndarray]]:
    """Resample the clips of labelled systems; return each one's official figures, (n_resamples,) each.

    Clips are taken in the order of their names, and the draw is seeded by these, so that the order of a file's lines
    does not matter and two systems' equal clips are drawn together.
    """
    areas: dict[str, dict[str, list[np.ndarray]]] = {}
    machine_types: dict[str, list[str]] = {}
    for (machine_type, _), of_section in clips.groupby(["machine type", "section"], sort=False):
        counts: dict[tuple[str, ...], np.ndarray] = {}
        for system, unsorted in of_section.groupby("system", sort=False):
            section = unsorted.sort_values("clip")
            names = tuple(section["clip"])
            if names not in counts:
                counts[names] = draw_clips(section, n_resamples)
            machine_types.setdefault(system, []).append(machine_type)
            for metric, values in resample_metrics(section, counts[names], max_fpr, rule).items():
                areas.setdefault(system, {}).setdefault(metric, []).append(values)
    return {
        system: _official(
            {metric: np.stack(values) for metric, values in of_system.items()}, machine_types[system], rule
        )
        for system, of_system in areas.items()
    }


def draw_clips(section: pd.DataFrame, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Draw a section's clips with replacement, by domain and label: how often each, (n_clips, n_resamples) float32."""
    names = "\n".join(section["clip"]).encode(errors="surrogateescape")
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(names).digest()[:8], "little"))
    anomalous, target = is_anomaly(section), is_target(section)
    counts = np.zeros((len(section), n_resamples), dtype=np.float32)
    for stratum in (anomalous & target, anomalous & ~target, ~anomalous & target, ~anomalous & ~target):
        n = int(stratum.sum())
        if n:
            drawn = rng.integers(n, size=(n, n_resamples)) * n_resamples + np.arange(n_resamples)
            counts[stratum] = np.bincount(drawn.ravel(), minlength=n * n_resamples).reshape(n, n_resamples)
    return counts


def resample_metrics(section: pd.DataFrame, counts: np.ndarray, max_fpr: float, rule: str) -> dict[str, np.ndarray]:
    """Return the official metrics of a section under each resample, (n_resamples,) each.

    Parameters
    ----------
    counts
        How often each clip is drawn: (n_clips, n_resamples).
    """
    anomalous, target, scores = is_anomaly(section), is_target(section), section["score"].to_numpy()
    areas = area_clips(anomalous, target if target.any() else None, max_fpr)
    return {
        name: weighted_area(scores[clips], ~anomalous[clips], counts[clips], limit)
        for name in required_metrics(areas, rule)
        for clips, limit in [areas[name]]
    }


def weighted_area(scores: np.ndarray, is_normal: np.ndarray, counts: np.ndarray, max_fpr: float) -> np.ndarray:
    """Return the standardised partial AUC (McClish, 1989) under weights of the clips, of many sets of weights at once.

    Parameters
    ----------
    scores, is_normal
        (n_clips,)
    counts
        The weights: (n_clips, n_sets). Each set needs normal and anomalous clips.
    max_fpr
        With 1, the result is the AUC.

    Returns
    -------
    (n_sets,)
    """
    order = np.argsort(scores[~is_normal], kind="stable")
    anomalies = scores[~is_normal][order]  # (n_anomalies,), ascending
    below = np.zeros((len(order) + 1, counts.shape[1]), dtype=counts.dtype)  # weight of the k lowest anomalies
    np.cumsum(counts[~is_normal][order], axis=0, out=below[1:])
    weights, n_anomalies = counts[is_normal], below[-1]  # (n_normal, n_sets), (n_sets,)
    n_normal = weights.sum(axis=0)
    if max_fpr == 1:
        values = scores[is_normal]
        twice_below = (
            below[np.searchsorted(anomalies, values, "left")] + below[np.searchsorted(anomalies, values, "right")]
        )
        return 1 - np.einsum("ij,ij->j", weights, twice_below) / (2.0 * n_normal.astype(float) * n_anomalies)
    values, which = np.unique(-scores[is_normal], return_inverse=True)  # the highest score first
    limit, passed, area = max_fpr * n_normal.astype(float), np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for i, value in enumerate(-values):  # normal clips of one score make one step of the ROC curve
        step = weights[which == i].sum(axis=0)
        lower = n_anomalies - below[np.searchsorted(anomalies, value, side="right")]  # anomalies above the value
        upper = n_anomalies - below[np.searchsorted(anomalies, value, side="left")]  # and at it
        width = np.clip(limit - passed, 0, step)
        if (upper == lower).all():
            area += width * lower
        else:
            area += width * (lower + (upper - lower) * width / np.maximum(step, 1) / 2)  # step 0: width 0
        passed += step
        if (passed >= limit).all():
            break
    area /= n_normal.astype(float) * n_anomalies
    chance = max_fpr**2 / 2
    return (1 + (area - chance) / (max_fpr - chance)) / 2
