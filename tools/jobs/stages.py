"""The steps of an experiment as data, and the jobs of a step: one for each seed, machine type and section.

The challenge's networks are trained for one section each, so a job is a call of train.py for one section. Here, side
by side (tools/jobs/pool.py) or on a cluster (tools/jobs/slurm.py), a job's command is the same.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from common import BY_NAME, REPOSITORY, InputError, Settings, as_text, extension_parameters
from datasets.catalogue import load_challenge
from datasets.clips import MachineFolders
from tools.runtime.names import Experiment, Run

PROGRAM = REPOSITORY / "train.py"
LIBRARIES = (
    "datasets.vectors",
    "networks.network",
    "networks.trained",
    "networks.training",
    "networks.scores",
    "tools.results.files",
    "tools.results.plots",
    "librosa.core.spectrum",  # librosa imports lazily
    "librosa.filters",
    "librosa.util.utils",
    "scipy.stats",
)


@dataclass(frozen=True)
class Stage:
    """A step of an experiment; `{score}` in its texts stands for the score that a test is by.

    Attributes
    ----------
    name
        Of the logs and of Slurm's jobs.
    verb
        What a job does, in messages.
    options
        Options of train.py that make it this step.
    libraries
        Modules that are imported once for all jobs that run side by side.
    dependency
        The condition under which Slurm starts a task: aftercorr, its counterpart in the step before has succeeded.
    """

    name: str
    verb: str
    options: tuple[str, ...]
    libraries: tuple[str, ...]
    dependency: str = ""

    def by(self, score: str) -> "Stage":
        """Return the stage for a score."""
        name, verb, *options = (text.format(score=score) for text in (self.name, self.verb, *self.options))
        return replace(self, name=name, verb=verb, options=tuple(options))


SUBSETS = {False: "-d", True: "-e"}  # options, by whether it is the evaluation set
TRAIN = Stage("01_train", "training", ("--train_only",), LIBRARIES)
TEST = Stage(
    "02_test_{score}",
    "testing by {score}",
    ("--test_only", "--score={score}"),
    (*LIBRARIES, "tools.results.sections", "sklearn.metrics"),
    "aftercorr",
)


@dataclass(frozen=True)
class Job:
    """A call of train.py: its command line, and the log for its output when jobs run side by side."""

    name: str
    words: list[str]
    log: Path
    clips: Path  # the folder of the clips that it reads
    run: Run


def make_jobs(stage: Stage, settings: Settings) -> list[Job]:
    """Return the jobs of a stage for every seed, machine type and section, in the catalogue's order.

    Each gets the parameters that the command line named, and training what is to be resumed.
    """
    challenge = load_challenge(settings.challenge, settings.eval, settings.dataset_directory)
    machine_types = challenge.choose(settings.machine_types)
    given = [name for name in [*BY_NAME, *extension_parameters()] if name in settings.given]
    options = [*stage.options]
    if stage is TRAIN:
        options += ["--restart"] if settings.restart else []
        options += [f"--checkpoint_path={settings.checkpoint_path}"] if settings.checkpoint_path else []
    options += [f"--{name}={as_text(settings.values[name])}" for name in given if name != "score"]
    options += [f"--extension={path}" for path in settings.extension]
    options += [f"--config={settings.config}"] if settings.config else []
    jobs = []
    for seed in settings.seeds or (None,):
        experiment = Experiment.of(settings if seed is None else settings.replace(seed=seed), settings.eval)
        for machine_type in machine_types:
            folders = MachineFolders(settings.dataset_directory, settings.challenge, machine_type, settings.eval)
            for section in challenge.sections[machine_type]:
                run = experiment.run(settings.challenge, machine_type, section)
                words = ["--dataset", run.dataset, SUBSETS[settings.eval], "-tag", run.tag, "--use_ids", str(section)]
                words += [*options, *([] if seed is None else [f"--seed={seed}"])]
                name = f"{machine_type} section {section:02d}" + ("" if seed is None else f" seed {seed}")
                clips = folders.train if stage is TRAIN else folders.test
                jobs.append(Job(name, words, run.output(stage.name), clips, run))
    return jobs


def check_inputs(stage: Stage, settings: Settings, jobs: list[Job]) -> None:
    """Raise InputError, before any job begins, if more than one lacks its clips or its network.

    One that lacks them fails by itself and the others are of use; of many, the user would read many sentences.
    """
    trains = stage is TRAIN
    part = "dev" if not settings.eval else "add" if trains else "eval"
    if not settings.is_auto_download:
        _require(
            jobs,
            lambda job: _has_clips(job.clips),
            lambda job: f"no {'training' if trains else 'test'} clips (for example in {job.clips})",
            [
                f"download them (bash tools/data_download.sh {settings.challenge} {part})",
                "give another --dataset_directory",
            ],
        )
    if not trains:
        score = settings.score
        _require(
            jobs,
            lambda job: job.run.scored_by(score) is not job.run or job.run.network.is_file(),
            lambda job: f"no trained network (for example {job.run.network})",
            [f"train them first (bash 01_train.sh {SUBSETS[settings.eval]}; --restart resumes interrupted training)"],
        )


def _require(jobs: list[Job], is_met: Callable[[Job], bool], what: Callable[[Job], str], advice: list[str]) -> None:
    missing = [job for job in jobs if not is_met(job)]
    if len(missing) > 1:
        names = ", ".join(job.name for job in missing[:3]) + (f" and {len(missing) - 3} more" if missing[3:] else "")
        there = ", ".join(dict.fromkeys(job.name.partition(" ")[0] for job in jobs if job not in missing))
        advice = [*advice, *([f"run only the machine types that have them: {there}"] if there else [])]
        raise InputError(f"{len(missing)} of {len(jobs)} jobs have {what(missing[0])}: {names}; {', or '.join(advice)}")


def _has_clips(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.lower().endswith(".wav") for entry in entries)
    except OSError:
        return False
