"""Training that can be resumed.

A checkpoint holds all that training needs to continue as if it had never been interrupted: weights, optimiser, every
random generator, the log so far and the last epoch's losses.
"""

import contextlib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from common import InputError, contract_error

from networks.names import Run
from networks.network import Network
from networks.record import read_record
from networks.tensor_files import copied, dump_tensors, load_tensors, load_weights
from networks.training import Epoch, EpochLosses, Step
from runtime.device import random_state, restore_random
from runtime.files import atomic_write
from runtime.progress import say
from runtime.sources import COMMIT, changed_since


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
    unwritten: list[Run] = field(default_factory=list)  # the runs whose files are still to be written
    # of complete runs whose other files are lost: the network's SHA-256 and the scores' entries of their records
    kept_scores: dict[Run, tuple[str, dict[str, dict]]] = field(default_factory=dict)
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
            "random": random_state(),
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

    def resume(self, path: Path, content: dict, may_differ: set[str]) -> bool:
        """Restore everything from a checkpoint of the same identity, but for the keys in `may_differ`.

        Return whether its run was complete: with scores fitted and files written too.
        """
        if "identity" not in content:
            raise InputError(
                f"{path} is not a checkpoint of this baseline; a run of the reference cannot be resumed: train again, "
                "or start from its network with --initial_weights RUN.pth"
            )
        before = content["identity"]
        _check_identity(path, before, self.identity, may_differ, content["commit"])
        self.epochs = [EpochLosses(**losses) for losses in content["epochs"]]
        self.batch_losses = content["batch_losses"]
        trace = {"checkpoint": str(path), "seed": before["seed"], "epochs": len(self.epochs)}
        self.resumed_from = [*content["resumed_from"], trace]
        self.step.load_state_dict(content["step"])
        self.network.load_state_dict(content["network"])
        restore_random(content["random"])
        self.checkpoint = {**content, "identity": self.identity, "resumed_from": self.resumed_from}
        return content["complete"]

    def save(self, path: Path, complete: bool = False) -> None:
        """Write the checkpoint."""
        with atomic_write(path, "wb") as file:
            file.write(dump_tensors({**self.checkpoint, "complete": complete}))


def start_or_resume(
    network: Network, step: Step, identity: dict[str, object], run: Run, written_for: Iterable[Run]
) -> TrainingState:
    """Return a new run's state, or that of the checkpoint to be resumed or started from; say which it is.

    The network is `written_for` the run itself, or for those of a joint network's parts.
    """
    settings = network.settings
    state = TrainingState(network, step, identity, unwritten=list(written_for))
    if settings.checkpoint_path or (settings.restart and run.checkpoint.is_file()):
        path = settings.checkpoint_path or run.checkpoint
        is_complete = state.resume(path, load_tensors(path), {"seed"} if settings.checkpoint_path else set())
        n_epochs = len(state.epochs)
        if n_epochs > settings.epochs:
            raise InputError(
                f"the checkpoint has {n_epochs} epochs, more than --epochs {settings.epochs}; give --epochs {n_epochs} "
                "or more, or train without --restart"
            )
        if path != run.checkpoint:
            _say_replaced(run, state.unwritten)
        elif is_complete and n_epochs == settings.epochs:
            state.unwritten = [each for each in state.unwritten if not _is_intact(each)]
            state.kept_scores = {each: _kept_scores(each) for each in state.unwritten}
        say(f"{n_epochs} of {settings.epochs} epochs are done, according to {path}")
        return state
    if settings.initial_weights:
        load_weights(network, settings.initial_weights)
        say(f"starting from the weights of {settings.initial_weights}")
    _say_replaced(run, state.unwritten)
    return state


def _say_replaced(run: Run, written_for: list[Run]) -> None:
    """Say what a training that begins anew takes the place of."""
    earlier = [each for each in written_for if each.network.is_file()]
    for each in earlier:
        record = None
        with contextlib.suppress(InputError):  # it is damaged
            record = read_record(each.record)
        epochs, date = (record.content["epochs"], record.content["date"]) if record else ("some", "no record")
        say(f"warning: {each.network.name} of {epochs} epochs ({date}) is replaced when this training is done")
    if run.checkpoint.is_file() and not earlier:
        say(f"{run.checkpoint}, of an earlier training, is overwritten; --restart would resume that")


def _kept_scores(run: Run) -> tuple[str, dict[str, dict]]:
    """Return what a repair keeps of a run's record: its network's SHA-256, and the scores with intact tensors."""
    kept: dict[str, dict] = {}
    with contextlib.suppress(InputError):  # it is damaged
        if record := read_record(run.record):
            for name, entry in record.content["scores"].items():
                with contextlib.suppress(InputError):
                    record.check(name)
                    kept[name] = entry
            return record.content["network_sha256"], kept
    return "", kept


def _is_intact(run: Run) -> bool:
    """Return whether all files of a training run exist and belong together."""
    try:
        record = read_record(run.record)
        if record is None:
            return False
        for score in (None, *record.content["scores"]):
            record.check(score)
    except InputError:
        return False
    return all(path.is_file() and path.stat().st_size > 0 for path in (run.log_csv, run.log_png))


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
