"""The test stage: reads the network, its threshold and the test clips, and writes scores, decisions and metrics.

All scores are computed before the first file is written, so that a test that fails leaves earlier results as they were.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from common import ExperimentPaths, InputError, all_or_nothing, exclusive
from datasets.clips import Clip, list_clips
from datasets.loaders import ClipSource, Vectors, load_vectors
from networks.autoencoder import AutoEncoder
from networks.checkpoint import load_network
from networks.engine import inverse_covariances, mahalanobis_clip_scores, mse_clip_scores
from networks.threshold import load_gamma
from tools.metrics import section_metrics
from tools.plots import ScoreGroup, plot_scores
from tools.progress import Stopwatch, progress
from tools.result_csv import write_clip_values, write_result_table

UNITS = {"MSE": "mean squared error, dB²", "MAHALA": "selective Mahalanobis distance, no unit"}


@dataclass(frozen=True)
class TestConfig:
    """The parameters of testing; baseline.yaml explains them."""

    score: str
    decision_threshold: float
    max_fpr: float


@dataclass(frozen=True)
class SectionResult:
    """The clips of a section with their scores and decisions (None: no threshold), in clip order."""

    section: int
    clips: list[Clip]
    scores: list[float]
    decisions: list[int | None]


def run_test(
    source: ClipSource, config: TestConfig, paths: ExperimentPaths, device: torch.device, watch: Stopwatch
) -> None:
    """Score the source's test clips, decide, and write the results.

    Raises
    ------
    InputError
        The network, its threshold or a clip cannot be used; nothing is written then.
    """
    sections = list_clips(source.folders.test, source.sections)
    _check_labels(sections)
    _wait_for_training(paths)
    network = load_network(paths.network, source.features.n_mels, source.vectors.frames, device)
    distribution = load_gamma(paths.threshold(config.score))
    threshold = None if distribution is None else distribution.quantile(config.decision_threshold)
    n_clips = sum(map(len, sections.values()))
    print(f"testing {paths.run} by {config.score} on {n_clips} clips of {source.folders.test}", flush=True)
    watch.lap("set-up")
    vectors = {section: load_vectors(clips, source, device, progress) for section, clips in sections.items()}
    watch.lap("features")
    results = []
    for section, clips in sections.items():
        scored = progress(_clip_scores(network, vectors[section], config.score), len(clips), "scoring", "clip")
        scores = list(scored)
        if not np.isfinite(scores).all():
            raise InputError(
                f"{paths.network} gives scores that are not finite; train again, with a lower learning rate"
            )
        decisions = [None if threshold is None else int(score > threshold) for score in scores]
        results.append(SectionResult(section, clips, scores, decisions))
    watch.lap("scoring")
    if threshold is None:
        print(f"no decisions: {paths.threshold(config.score)} is not there or holds no distribution")
    _write(results, threshold, config, paths)
    watch.lap("files")


def _wait_for_training(paths: ExperimentPaths) -> None:
    """Wait while another process trains the run, if its lock can be asked."""
    if os.access(paths.training_lock, os.W_OK):
        with exclusive(paths.training_lock, f"trains {paths.run}"):
            pass


def _check_labels(sections: dict[int, list[Clip]]) -> None:
    """Raise InputError where only a part of the clips is labelled."""
    clips = [clip for section in sections.values() for clip in section]
    unlabelled = [clip for clip in clips if clip.label is None]
    if 0 < len(unlabelled) < len(clips):
        raise InputError(
            f"{len(unlabelled)} of {len(clips)} test clips are not labelled normal or anomaly, first "
            f"{unlabelled[0].path}; label all of them or none"
        )


def _clip_scores(network: AutoEncoder, vectors: Vectors, score: str) -> Iterator[float]:
    """Return the scores of the clips, in order."""
    if score == "MSE":
        return mse_clip_scores(network, vectors.of_each_clip())
    inverses = inverse_covariances(network)
    if inverses is None:
        raise InputError(
            "a covariance of the network is singular, so there is no Mahalanobis distance; use --score MSE"
        )
    return mahalanobis_clip_scores(network, inverses, vectors.of_each_clip())


def _write(results: list[SectionResult], threshold: float | None, config: TestConfig, paths: ExperimentPaths) -> None:
    """Write scores, decisions, metrics where the clips are labelled, and the picture."""
    labelled = results[0].clips[0].label is not None  # then all are
    metrics = _metrics(results, config.max_fpr) if labelled else None
    with all_or_nothing():
        for result in results:
            names = [clip.name for clip in result.clips]
            write_clip_values(paths.anomaly_scores(config.score, result.section), names, result.scores)
            write_clip_values(paths.decisions(config.score, result.section), names, result.decisions)
        if metrics is not None:
            write_result_table(paths.result_table(config.score), metrics)
        plot_scores(paths.score_picture(config.score), _groups(results), threshold, paths.run, UNITS[config.score])
    if metrics is None:
        print("no AUC: the test clips are not labelled", flush=True)
    else:
        _print_metrics(metrics)
    print(f"wrote {paths.anomaly_scores(config.score, results[0].section)} and what belongs to it", flush=True)


def _metrics(results: list[SectionResult], max_fpr: float) -> dict[int, dict[str, float | None]]:
    """Return the metrics of each section; by domain where any clip is of the target domain (reference)."""
    has_target = any(clip.is_target for result in results for clip in result.clips)
    return {
        result.section: section_metrics(
            is_anomaly=np.array([clip.label == "anomaly" for clip in result.clips]),
            is_target=np.array([clip.is_target for clip in result.clips]) if has_target else None,
            scores=np.array(result.scores),
            decisions=None if None in result.decisions else np.array(result.decisions, dtype=bool),
            max_fpr=max_fpr,
        )
        for result in results
    }


def _print_metrics(metrics: dict[int, dict[str, float | None]]) -> None:
    """Print each section's AUCs, and say which are not defined."""
    for section, values in metrics.items():
        areas = {name: value for name, value in values.items() if "AUC" in name}
        text = ", ".join(f"{name} {100 * value:.2f} %" for name, value in areas.items() if value is not None)
        undefined = [name for name, value in areas.items() if value is None]
        if text:
            print(f"section {section:02d}: {text}", flush=True)
        if undefined:
            names = ", ".join(undefined)
            print(
                f"section {section:02d}: {names} left empty: not both normal and anomalous clips are there", flush=True
            )


def _groups(results: list[SectionResult]) -> list[ScoreGroup]:
    """Return the scores by section, domain and label, for the picture."""
    groups = {}
    for result in results:
        for clip, score in zip(result.clips, result.scores, strict=True):
            groups.setdefault((result.section, clip.domain or "", clip.label or ""), []).append(score)
    return [
        ScoreGroup(section, domain, label, scores)
        for (section, domain, label), scores in sorted(
            groups.items(), key=lambda item: (*item[0][:2], item[0][2] == "anomaly")
        )
    ]
