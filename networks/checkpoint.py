"""Training that can be resumed.

A checkpoint holds all that training needs to continue as if it had never been interrupted: weights, optimiser, every
random generator, the log so far and the last epoch's losses.
"""

import math
import random
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from common import FRONT_ENDS, NETWORKS, InputError, Settings, code_hashes, contract_error

import numpy as np
import torch

from networks.names import Run
from networks.network import Network
from networks.tensor_files import copied, dump_tensors, load_tensors, load_weights
from networks.training import Epoch, EpochLosses, Step
from networks.training_set import TrainingSet
from runtime.files import atomic_write, sha256_of
from runtime.progress import say
from runtime.sources import COMMIT, TRAINING, changed_since


@dataclass
class TrainingState:
    """A training run between two epochs; a run that resumes it must have the same `identity`."""

    network: Network
    step: Step
    identity: dict[str, object]
    epochs: list[EpochLosses] = field(default_factory=list)
    batch_losses: list[float] = field(default_factory=list)  # of the last epoch
    resumed_from: list[dict[str, object]] = field(default_factory=list)  # checkpoint, its run's seed and epochs
    loss_unit: str = "loss"  # of the epochs' losses, if it is known
    complete: bool = False  # scores are fitted and files written too
    checkpoint: dict[str, Any] = field(default_factory=dict)  # its content after the last epoch, but for `complete`

    def end_epoch(self, epoch: Epoch, folder: Path) -> None:
        """Add an epoch, and copy the state; assigned at once, since a signal may come at any time.

        `folder` is for the network's own logs.
        """
        self.epochs.append(replace(epoch.losses, further=self._further_losses(epoch.losses, folder)))
        self.batch_losses = epoch.batch_losses
        self.checkpoint = {
            "identity": self.identity,
            "network": copied(self.network.state_dict()),
            "step": copied(self.step.state_dict()),
            "random": _random_state(),
            "epochs": [asdict(losses) for losses in self.epochs],
            "batch_losses": self.batch_losses,
            "resumed_from": self.resumed_from,
            "commit": COMMIT,
        }

    def _further_losses(self, losses: EpochLosses, folder: Path) -> dict[str, float]:
        """Return the network's own columns of log.csv for an epoch."""
        further = self.network.after_epoch(len(self.epochs) + 1, losses, folder) or {}
        names = [*(self.epochs[0].further if self.epochs else further)]
        if [*further] != names or not all(map(math.isfinite, further.values())):
            advice = f"return finite numbers under the same names in each epoch{': ' * bool(names)}{', '.join(names)}"
            raise contract_error(self.network, ".after_epoch returned", further, advice)
        return {name: float(value) for name, value in further.items()}

    def resume(self, path: Path, may_differ: set[str]) -> None:
        """Restore everything from a checkpoint of the same identity, but for the keys in `may_differ`."""
        content = load_tensors(path)
        if "identity" not in content:
            raise InputError(
                f"{path} is not a checkpoint of this baseline; a run of the reference cannot be resumed: train again, "
                "or start from its network with --initial_weights RUN.pth"
            )
        before = content["identity"]
        _check_identity(path, before, self.identity, may_differ, content["commit"])
        self.epochs = [EpochLosses(**losses) for losses in content["epochs"]]
        self.batch_losses = content["batch_losses"]
        self.complete = content["complete"]
        trace = {"checkpoint": str(path), "seed": before["seed"], "epochs": len(self.epochs)}
        self.resumed_from = [*content["resumed_from"], trace]
        self.step.load_state_dict(content["step"])
        self.network.load_state_dict(content["network"])
        _restore_random(content["random"])
        self.checkpoint = {**content, "identity": self.identity, "resumed_from": self.resumed_from}

    def save(self, path: Path, complete: bool = False) -> None:
        """Write the checkpoint."""
        with atomic_write(path, "wb") as file:
            file.write(dump_tensors({**self.checkpoint, "complete": complete}))


def start_or_resume(
    network: Network, step: Step, settings: Settings, run: Run, training_set: TrainingSet
) -> TrainingState:
    """Return a new run's state, or that of the checkpoint to be resumed or started from."""
    state = TrainingState(network, step, _identity(settings, training_set, network.cov_source.device.type))
    if settings.checkpoint_path or (settings.restart and run.checkpoint.is_file()):
        path = settings.checkpoint_path or run.checkpoint
        state.resume(path, {"seed"} if settings.checkpoint_path else set())
        n_epochs = len(state.epochs)
        if n_epochs > settings.epochs:
            raise InputError(
                f"the checkpoint has {n_epochs} epochs, more than --epochs {settings.epochs}; give --epochs {n_epochs} "
                "or more, or train without --restart"
            )
        state.complete &= path == run.checkpoint and n_epochs == settings.epochs
        say(f"{n_epochs} of {settings.epochs} epochs are done, according to {path}")
        return state
    if settings.initial_weights:
        load_weights(network, settings.initial_weights)
        say(f"starting from the weights of {settings.initial_weights}")
    return state


def _identity(settings: Settings, training_set: TrainingSet, device: str) -> dict[str, object]:
    """Return all that decides a run's numbers, except the epochs."""
    parameters = settings.affecting("features", "training")
    del parameters["epochs"]
    network, front_end = NETWORKS.get(settings.model), FRONT_ENDS.get(settings.front_end)
    return {
        **parameters,
        **training_set.facts(settings),
        "device": device,
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "sources": code_hashes(network, front_end, modules=TRAINING),
        **({"initial_weights": sha256_of(settings.initial_weights)} if settings.initial_weights else {}),
    }


def _check_identity(path: Path, before: dict, now: dict, may_differ: set[str], commit: str | None) -> None:
    """Raise InputError if a checkpoint's run had another identity."""
    changed = {name for name in {**before, **now} if before.get(name) != now.get(name)} - may_differ
    others = sorted(changed - {"clips_manifest", "data", "labels", "clip_labels", "further_clips", "sources"})
    if others:
        differences = "; ".join(f"{name} is {before.get(name)!r} there and {now.get(name)!r} here" for name in others)
        raise InputError(
            f"{path} belongs to another run: {differences}; give the same parameters, or train without --restart"
        )
    if "sources" in changed:
        what = changed_since(before["sources"], now["sources"], commit) or "the code changed"
        raise InputError(f"{path} was trained before {what}; restore the code, or train without --restart")
    if changed:
        raise InputError(
            f"the training clips are not those of {path}: some were added, removed or replaced, or have other labels; "
            "train without --restart, or fine-tune a network with --initial_weights"
        )


def _random_state() -> dict[str, object]:
    """Return the states of Python's, NumPy's and torch's generators, in types that load without pickle."""
    name, keys, *further = cast(tuple, np.random.get_state())
    states: dict[str, object] = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *further),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _restore_random(states: dict) -> None:
    """Set Python's, NumPy's and torch's generators."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])
