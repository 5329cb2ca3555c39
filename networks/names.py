"""The names of the files written by an experiment's runs and tests. Source: the reference, v2.0.1."""

import difflib
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from common import FRONT_ENDS, NETWORKS, SCORES, InputError, Settings, read_defaults

PLACES = ("dataset_directory", "result_directory", "model_directory", "log_directory", "export_dir")  # parameters


@dataclass(frozen=True)
class Experiment:
    """The folders of an experiment, and the names of the files that all its runs share.

    Names hold the network and the front end unless they are the baseline's, so that one experiment may have several.
    """

    result_directory: Path
    model_directory: Path
    log_directory: Path
    export_dir: str
    model: str
    front_end: str
    seed: int
    is_eval: bool

    @classmethod
    def of(cls, settings: Settings, is_eval: bool) -> "Experiment":
        """Return the experiment that settings name."""
        names = ("result_directory", "model_directory", "log_directory", "export_dir", "model", "front_end", "seed")
        return cls(**{name: settings.values[name] for name in names}, is_eval=is_eval)  # type: ignore[arg-type]

    def run(self, challenge: str, machine_type: str, section: int) -> "Run":
        """Return the run of a machine type's section, under the tag that the scripts give it."""
        return Run(self, challenge + machine_type, f"id({section}_)")

    def system(self, score: str) -> str:
        """Return the name of a score's system, as in the tables: baseline_MSE, baseline_VAE_MSE."""
        names = [self.export_dir]
        if _needs_network(score):
            names += [] if self.model in NETWORKS.builtin else [self.model]
            names += [] if self.front_end in FRONT_ENDS.builtin else [self.front_end]
        return "_".join([*names, score])

    def systems(self) -> dict[str, tuple["Experiment", str]]:
        """Return all systems, registered ones included: system -> (experiment, score), MAHALA and MSE first."""
        systems: dict[str, tuple[Experiment, str]] = {}
        for model, front_end, score in product(NETWORKS.names(), FRONT_ENDS.names(), SCORES.names()):
            if applies(score, model):
                experiment = replace(self, model=model, front_end=front_end)
                systems.setdefault(experiment.system(score), (experiment, score))
        return systems

    @property
    def split_results(self) -> Path:
        """The folder of all results of the subset, development or evaluation."""
        return self.result_directory / ("eval_data" if self.is_eval else "dev_data")

    def results(self, score: str) -> Path:
        """Return the folder of a score's results."""
        return self.split_results / self.system(score)

    def summary(self, challenge: str) -> Path:
        """Return the folder of a challenge's summary tables."""
        return self.split_results / self.export_dir / "summarize" / challenge

    @property
    def other_seed(self) -> str:
        """The seed in the summary files' names: empty for baseline.yaml's seed, else `_seed7`."""
        return "" if self.seed == read_defaults()["seed"] else f"_seed{self.seed}"

    def report(self, challenge: str) -> Path:
        """Return the report's page, beside the summary tables."""
        return self.summary(challenge) / f"report{self.other_seed}.html"

    def report_picture(self, challenge: str, name: str) -> Path:
        """Return a picture of the report."""
        return self.summary(challenge) / f"report{self.other_seed}" / f"{name}.png"


@dataclass(frozen=True)
class Run:
    """The names of the files of one training run and its tests; `tag` is what -tag gave, `id(0_)` in the scripts."""

    experiment: Experiment
    dataset: str
    tag: str

    @property
    def _suffix(self) -> str:
        return (f"_{self.tag}" if self.tag else "") + ("_Eval" if self.experiment.is_eval else "")

    @property
    def name(self) -> str:
        """The run's name, which begins its files' names."""
        front_end = self.experiment.front_end
        variant = "" if front_end in FRONT_ENDS.builtin else f"_{front_end}"
        return f"{self.experiment.model}{variant}_{self.dataset}{self._suffix}_seed{self.experiment.seed}"

    def scored_by(self, score: str) -> "Run":
        """Return the run whose files hold a score: this one, or a separate one for a score that needs no network."""
        if _needs_network(score):
            return self
        return replace(self, experiment=replace(self.experiment, model=score, front_end="log_mel"))

    @property
    def log_csv(self) -> Path:
        """The losses of each epoch."""
        return self.experiment.log_directory / self.experiment.export_dir / self.name / "log.csv"

    @property
    def log_png(self) -> Path:
        """The picture of the losses."""
        return self.log_csv.with_name("log.png")

    def output(self, script: str) -> Path:
        """Return the log of a script's job when jobs run in parallel."""
        return self.log_csv.with_name(f"{script}.log")

    @property
    def network(self) -> Path:
        """The trained network's state_dict."""
        return self.experiment.model_directory / "saved_model" / self.experiment.export_dir / f"{self.name}.pth"

    @property
    def record(self) -> Path:
        """The network's record: its clips, parameters and files (networks/record.py)."""
        return self.network.with_suffix(".json")

    @property
    def checkpoint(self) -> Path:
        """The file that training is resumed from."""
        return (
            self.experiment.model_directory / "checkpoint" / self.experiment.export_dir / self.name / "checkpoint.tar"
        )

    @property
    def arguments(self) -> Path:
        """The parameters and options of the training command."""
        return self.checkpoint.with_name("args.json")

    @property
    def lock(self) -> Path:
        """The file that a process locks while it trains the run, fits a score to it or calibrates it."""
        return lock_path(self.network)

    def anomaly_scores(self, score: str, section: int) -> Path:
        """Return the clips' anomaly scores."""
        return self._result(score, f"anomaly_score_{self.dataset}_section_{section:02d}_test", "")

    def decisions(self, score: str, section: int) -> Path:
        """Return the clips' decisions."""
        return self._result(score, f"decision_result_{self.dataset}_section_{section:02d}_test", "")

    def result_table(self, score: str) -> Path:
        """Return AUC, precision, recall and F1 score of the sections."""
        return self._result(score, f"result_{self.dataset}_test", "_roc")

    def _result(self, score: str, start: str, end: str) -> Path:
        return self.experiment.results(score) / f"{start}_seed{self.experiment.seed}{self._suffix}{end}.csv"

    def score_picture(self, score: str) -> Path:
        """Return the box plots of the scores; the seed in its name is ours, the reference has one picture for all."""
        return self.experiment.results(score) / f"{self.name}_anm_score.png"


# Built-in classes, whose import would be slow, are not asked.


def _needs_network(score: str) -> bool:
    """Return whether a score is computed by a network; one of an extension that is not loaded is taken to be."""
    return score not in SCORES.registered or SCORES.get(score).needs_network


def is_joint(model: str) -> bool:
    """Return whether one network is trained for all machine types."""
    return model not in NETWORKS.builtin and NETWORKS.get(model).joint


def applies(score: str, model: str) -> bool:
    """Return whether a score can be tested by: it takes the network, or needs none."""
    is_builtin = score in SCORES.builtin and model in NETWORKS.builtin
    return is_builtin or not _needs_network(score) or SCORES.get(score).takes(model)


def check_applies(score: str, model: str) -> None:
    """Raise InputError if a score does not apply to a network."""
    if not applies(score, model):
        others = [name for name in SCORES.names() if applies(name, model)]
        raise InputError(
            f"the score {score} does not apply to the network {model}; give --score with one that does: "
            f"{', '.join(others) or 'none'}"
        )


def lock_path(network: Path) -> Path:
    """Return the file that a process locks while it writes a network or its record, beside the run's checkpoint."""
    *folders, export_dir, name = network.with_suffix("").parts
    if folders[-1:] == ["saved_model"]:
        return Path(*folders[:-1], "checkpoint", export_dir, name, "lock")
    return network.with_name(f".{network.stem}.lock")  # it was moved


def score_state_path(network: Path, score: str) -> Path:
    """Return the tensors of a score that belong to a network's file."""
    return network.with_name(f"score_state_{network.stem}_{score.lower()}.pth")


def similar_networks(path: Path) -> str:
    """Return a phrase about the networks beside a missing one: ` (there is x_seed7.pth)`."""
    others = [other.name for other in sorted(path.parent.glob("*.pth")) if not other.name.startswith("score_state_")]
    near = difflib.get_close_matches(path.name, others, 3, 0.8)
    return f" (there is {', '.join(near)})" if near else ""
