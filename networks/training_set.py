"""What a network is trained on: the clips of one run, or of several for a joint network, and further clips.

A part is a run that the trained network is written for, with its clips. An ordinary training has one part, its own run.
A joint network is trained once on all machine types, and then written for each of their sections under the names of an
ordinary run, so that tests, scores and tables know nothing about joint networks.
"""

import functools
import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby

from common import FRONT_ENDS, NETWORKS, InputError, Settings, code_hashes

import torch

from datasets.catalogue import load_challenge, runnable_names
from datasets.clips import check_training_clips, manifest
from datasets.run_data import RunData
from datasets.vectors import TrainingBatches, Vectors, make_batches
from networks.names import Experiment, Run, is_joint
from networks.network import Network, label_clips
from runtime.files import sha256_of
from runtime.progress import say
from runtime.sources import TRAINING
from runtime.wording import counted, listed


@dataclass(frozen=True)
class Part:
    """A run that a trained network is written for, and the vectors of its training clips."""

    run: Run
    data: RunData
    vectors: Vectors

    @functools.cached_property
    def facts(self) -> dict[str, object]:
        """What identifies the clips."""
        return {
            "dataset": self.data.dataset,
            "evaluation": self.data.is_eval,
            "sections": self.data.sections,
            "channels": self.data.channels,
            "clips_manifest": manifest(self.vectors.clips),
            "data": self.vectors.features.sha256,
        }


@dataclass(frozen=True)
class TrainingSet:
    """All that a network is trained on.

    Attributes
    ----------
    further
        The vectors of the network's further_clips, a folder each; no score is fitted to them.
    labels
        Label -> number of clips; empty for a network without labels.
    clip_labels
        The label of each clip of parts and further, as a position in `labels`, or None without labels.
    """

    parts: list[Part]
    further: list[Vectors]
    labels: dict[str, int]
    clip_labels: list[int] | None

    def batches(self, settings: Settings) -> TrainingBatches:
        """Split all vectors into training and validation batches."""
        return make_batches([*(part.vectors for part in self.parts), *self.further], settings, self.clip_labels)

    def identity(self, settings: Settings, device: str) -> dict[str, object]:
        """Return all that decides the numbers of a training, except the epochs; parts of a joint network are lists."""
        parameters = settings.affecting("features", "training")
        del parameters["epochs"]
        facts = [part.facts for part in self.parts]
        further = [[manifest(vectors.clips), vectors.features.sha256] for vectors in self.further]
        clip_labels = hashlib.sha256(str(self.clip_labels).encode()).hexdigest()
        network = NETWORKS.get(settings.model)
        return {
            **parameters,
            **({name: [each[name] for each in facts] for name in facts[0]} if network.joint else facts[0]),
            **({"labels": self.labels, "clip_labels": clip_labels} if self.labels else {}),
            **({"further_clips": further} if further else {}),
            "device": device,
            "versions": {name: version(name) for name in ("torch", "numpy")},
            "sources": code_hashes(network, FRONT_ENDS.get(settings.front_end), modules=TRAINING),
            **({"initial_weights": sha256_of(settings.initial_weights)} if settings.initial_weights else {}),
        }


def list_runs(settings: Settings) -> tuple[Run, dict[Run, RunData]]:
    """Return the run that settings name, and the runs that its network is written for, with their data."""
    experiment = Experiment.of(settings, settings.eval)
    run = Run(experiment, settings.dataset, settings.model_name_suffix)
    if settings.test_only or not is_joint(settings.model):
        if settings.machine_types:
            raise InputError(f"--machine_types, but {settings.model} is trained for one machine type; give --dataset")
        return run, {run: RunData(settings.dataset, settings.eval, settings.use_ids or None, settings)}
    if settings.dataset not in runnable_names() or not settings.train_only or settings.use_ids or run.tag:
        raise InputError(
            f"{settings.model} is one network for all machine types: run 01_train.sh, or give a challenge, such as "
            "DCASE2023T2, as --dataset, with --train_only and without --use_ids and -tag"
        )
    challenge = load_challenge(settings.dataset, settings.eval, settings.dataset_directory)
    runs = {}
    chosen = set(challenge.section_keys(settings.machine_types))
    for machine_type, section in (
        key for key in challenge.section_keys() if key in chosen
    ):  # in one order, whatever was typed
        part = experiment.run(challenge.name, machine_type, section)
        runs[part] = RunData(part.dataset, settings.eval, [section], settings)
    return run, runs


def load_training_set(name: str, runs: dict[Run, RunData], settings: Settings, device: torch.device) -> TrainingSet:
    """Load the features of the training clips of a run's parts, from the cache or computed now, and label the clips."""
    clips = {run: data.training_clips() for run, data in runs.items()}
    folders = list(dict.fromkeys(data.folders for data in runs.values()))
    where = folders[0].train if len(folders) == 1 else f"{len(folders)} machine types"
    say(f"training {name} on {sum(map(len, clips.values()))} clips of {where}")
    parts = [Part(run, data, data.vectors(clips[run], settings, device)) for run, data in runs.items()]
    first = parts[0]
    chosen = sorted(NETWORKS.get(settings.model).further_clips(folders, settings), key=lambda clip: clip.path)
    check_training_clips(chosen)
    if chosen or NETWORKS.get(settings.model).further_clips is not Network.further_clips:
        say(f"and on {counted(len(chosen), 'further clip')}")
    further = [
        first.data.vectors(list(group), settings, device)
        for _, group in groupby(chosen, key=lambda clip: clip.path.parent)
    ]
    everything = [*(part.vectors for part in parts), *further]
    for vectors in everything:
        _check_alike(first.vectors, vectors)
    labels, clip_labels = label_clips([clip for vectors in everything for clip in vectors.clips], settings)
    if labels:
        say(f"{counted(len(labels), 'label')}: {listed(f'{label} ({n})' for label, n in labels.items())}")
    return TrainingSet(parts, further, labels, clip_labels)


def _check_alike(first: Vectors, other: Vectors) -> None:
    """Raise InputError if clips that are trained on together differ in sampling rate or channels."""
    ours, theirs = first.features, other.features
    for what, one, two in (
        ("a sampling rate in Hz", ours.sampling_rate, theirs.sampling_rate),
        ("a number of channels", ours.channels, theirs.channels),
    ):
        if one != two:
            raise InputError(
                f"the clips of {other.clips[0].path.parent} have {what} of {two}, but those of "
                f"{first.clips[0].path.parent} of {one}; clips that are trained on together must match: convert "
                "some, or leave them out"
            )
