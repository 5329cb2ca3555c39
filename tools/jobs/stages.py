"""The steps of an experiment as data, and the jobs of a step: one for each seed, machine type and section.

The challenge's networks are trained for one section each, so a job is a call of train.py for one section. Here, side
by side (tools/jobs/pool.py) or on a cluster (tools/jobs/slurm.py), a job's command is the same.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from common import BY_NAME, REPOSITORY, InputError, Settings, as_text, extension_parameters, read_values

import yaml

from datasets.catalogue import OWN, load_challenge
from datasets.clips import MachineFolders
from networks.names import Experiment, Run
from runtime.files import atomic_write
from runtime.wording import listed

PROGRAM = REPOSITORY / "train.py"
LIBRARIES = ("train", "networks.mahalanobis", "scipy.stats")  # train.py, and what it imports when it needs it


@dataclass(frozen=True)
class Stage:
    """A step of an experiment."""

    name: str  # of the logs and of Slurm's jobs
    verb: str  # what a job does, in messages, with {} for its name
    options: tuple[str, ...]  # options of train.py that make it this step
    libraries: tuple[str, ...]  # modules that are imported once for all jobs that run side by side


SUBSETS = {False: "-d", True: "-e"}  # options, by whether it is the evaluation set
TRAIN = Stage("01_train", "training {}", ("--train_only",), LIBRARIES)


def score_stage(score: str) -> Stage:
    """Return the stage that tests by a score."""
    libraries = (*LIBRARIES, "sklearn.metrics")
    return Stage(f"02_test_{score}", f"testing {{}} by {score}", ("--test_only", f"--score={score}"), libraries)


@dataclass(frozen=True)
class Job:
    """A call of train.py: its command line, and the log for its output when jobs run side by side."""

    name: str
    words: list[str]
    log: Path
    clips: Path  # the folder of the clips that it reads
    run: Run


def freeze(settings: Settings) -> Settings:
    """Copy baseline.yaml and the --config file for the jobs, which may start days later; return changed settings.

    A copy's folder is named by its content, so that commands share it. Paths in it are absolute.
    """
    copies = {}
    for option in ("defaults", "config"):
        if path := getattr(settings, option):
            values = {name: as_text(value) for name, value in read_values(path).items()}
            text = f"# {path}, copied when its jobs were made\n{yaml.safe_dump(values, sort_keys=False)}"
            number = hashlib.sha256(text.encode()).hexdigest()[:8]
            copies[option] = settings.log_directory / settings.export_dir / "parameters" / number / path.name
            with atomic_write(copies[option], advice="choose another --log_directory") as file:
                file.write(text)
    return settings.replace(**copies)


def make_jobs(stage: Stage, settings: Settings) -> list[Job]:
    """Return the jobs of a stage for every seed, machine type and section, in the catalogue's order.

    Each gets the parameters given on the command line, and the files of `freeze`; training also --restart and
    --checkpoint_path.
    """
    challenge = load_challenge(settings.challenge, settings.eval, settings.dataset_directory)
    machine_types = challenge.choose(settings.machine_types)
    given = [name for name in [*BY_NAME, *extension_parameters()] if name in settings.given]
    files = [f"--{name}={settings.values[name]}" for name in ("defaults", "config") if settings.values[name]]
    options = [*files, *stage.options]
    if stage is TRAIN:
        options += ["--restart"] if settings.restart else []
        options += [f"--checkpoint_path={settings.checkpoint_path}"] if settings.checkpoint_path else []
    options += [f"--{name}={as_text(settings.values[name])}" for name in given if name != "score"]
    options += [f"--extension={path}" for path in settings.extension]
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

    A single one fails by itself, and the others run; of many, the user would get many messages.
    """
    if not settings.is_auto_download:
        kind, part = ("training", "add") if stage is TRAIN else ("test", "eval")
        script = f"bash tools/data_download.sh {settings.challenge} {part if settings.eval else 'dev'}"
        get = "put them there" if settings.challenge == OWN else f"download them ({script})"
        lacking = [(job, job.clips) for job in jobs if not _has_clips(job.clips)]
        _refuse(lacking, jobs, f"{kind} clips", f"{get}, or give another --dataset_directory")
    if stage is not TRAIN:
        trained = [job for job in jobs if job.run.scored_by(settings.score) is job.run]
        lacking = [(job, job.run.network) for job in trained if not job.run.network.is_file()]
        train = f"bash 01_train.sh {SUBSETS[settings.eval]}; --restart resumes interrupted training"
        _refuse(lacking, jobs, "trained network", f"train them first ({train})")


def _refuse(lacking: list[tuple[Job, Path]], jobs: list[Job], what: str, advice: str) -> None:
    """Raise InputError if several jobs lack something, which each has at a path."""
    if len(lacking) > 1:
        names = [job.name for job, _ in lacking]
        there = ", ".join(dict.fromkeys(job.name.partition(" ")[0] for job in jobs if job.name not in names))
        only = f", or run only the machine types that have them: {there}" if there else ""
        example = f"{len(lacking)} of {len(jobs)} jobs have no {what} (for example {lacking[0][1]})"
        raise InputError(f"{example}: {listed(names, 3)}; {advice}{only}")


def _has_clips(folder: Path) -> bool:
    """Return whether a folder has clips, or FLAC files, of which the job says what to do."""
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.lower().endswith((".wav", ".flac")) for entry in entries)
    except OSError:
        return False
