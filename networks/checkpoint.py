"""Networks, scores' tensors and checkpoints on disk. Loading executes no code: torch.load(weights_only=True).

A network file is the plain state_dict that the reference writes. A checkpoint holds all that training needs to resume
as if never interrupted: weights, optimiser, every random generator, the log so far and the last epoch's losses.
"""

import io
import pickle
import random
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from common import InputError, Settings

import numpy as np
import torch

from networks.network import Network, make_network
from networks.training import EpochLosses, Step
from runtime.command import lacks_memory
from runtime.files import atomic_write, what_helps
from runtime.progress import say
from runtime.sources import COMMIT, changed_since
from runtime.wording import listed


@dataclass
class TrainingState:
    """The state of a training run; a run that resumes it must have the same `identity`."""

    network: Network
    step: Step
    identity: dict[str, object]
    epochs: list[EpochLosses] = field(default_factory=list)
    batch_losses: list[float] = field(default_factory=list)  # of the last epoch
    random: dict[str, object] = field(default_factory=dict)  # the generators' states after the last epoch
    complete: bool = False  # scores are fitted and files written too
    loss_unit: str = "loss"  # of the epochs' losses, if it is known
    resumed_from: list[dict[str, object]] = field(default_factory=list)  # checkpoint, its run's seed and epochs

    def snapshot(self) -> dict[str, Any]:
        """Return a checkpoint's content as copies, which later epochs do not change."""
        return {
            "identity": self.identity,
            "network": _copied(self.network.state_dict()),
            "step": _copied(self.step.state_dict()),
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "batch_losses": list(self.batch_losses),
            "complete": self.complete,
            "resumed_from": list(self.resumed_from),
            "random": self.random,
            "commit": COMMIT,
        }


def dump_tensors(state: Mapping[str, object]) -> bytes:
    """Return a state_dict as a file's content: given a path, torch.save would store its name too."""
    buffer = io.BytesIO()
    torch.save(_copied(state), buffer)
    return buffer.getvalue()


def load_network(path: Path, settings: Settings, n_bins: int, device: torch.device) -> Network:
    """Load a network, ours or the reference's."""
    with torch.random.fork_rng(devices=[]):  # the drawn weights are replaced
        network = make_network(settings, n_bins)
    _load_weights(network, path, "test with the parameters that it was trained with")
    return network.to(device)


def new_network(settings: Settings, n_bins: int, device: torch.device) -> Network:
    """Return a network to train, with random weights or those of the file initial_weights."""
    network = make_network(settings, n_bins)
    if settings.initial_weights is not None:
        _load_weights(network, settings.initial_weights, "train with the parameters of that network")
        say(f"starting from the weights of {settings.initial_weights}")
    return network.to(device)


def _load_weights(network: Network, path: Path, advice: str) -> None:
    """Load a state_dict from a file into a network; one that does not fit is an error that ends with the advice."""
    state = load_tensors(path)
    other = _other_network(network.state_dict(), state)
    if other:
        raise InputError(f"{path} is not a network of {network.settings.model}: {other}")
    problem = _mismatch(network.state_dict(), state)
    if problem:
        s = network.settings
        raise InputError(f"{path} does not fit n_mels {s.n_mels} and frames {s.frames} ({problem}); {advice}")
    network.load_state_dict(state)


def load_tensors(path: Path) -> dict:
    """Load a file that torch.save wrote, onto the CPU."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch.save compresses nothing, so a member is no larger than the file
            if sum(info.file_size for info in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is compressed")
            if archive.testzip() is not None:  # torch.load does not compare the checksums that torch.save writes
                raise ValueError("a tensor is damaged")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged files, which the error below covers
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; check the path, or train again") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {what_helps(error, 'check the file')}") from error
    except pickle.UnpicklingError as error:  # the archive is whole, but holds more than tensors and plain values
        raise InputError(
            f"{path} holds pickled objects, such as a whole model, which are never loaded; save its weights alone: "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    except Exception as error:  # torch has no narrower class for the many kinds of damage
        if lacks_memory(error):
            raise
        raise InputError(
            f"{path} cannot be loaded; it is damaged or not a file of this baseline (of the reference's files, only "
            "networks can be used; pickles are never loaded)"
        ) from error


def save_checkpoint(path: Path, snapshot: dict[str, object]) -> None:
    """Write a snapshot."""
    with atomic_write(path, "wb") as file:
        file.write(dump_tensors(snapshot))


def load_checkpoint(path: Path, state: TrainingState, may_differ: tuple[str, ...] = ()) -> dict[str, object]:
    """Restore a run's state and all random generators from a checkpoint; return the identity of its run.

    A checkpoint with another identity is refused and the differences reported, except for the keys in `may_differ`.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}; train without --checkpoint_path")
    content = load_tensors(path)
    if isinstance(content, dict) and "identity" not in content:
        raise InputError(
            f"{path} is not a checkpoint of this baseline; a run of the reference cannot be resumed: train again, or "
            "start from its network with --initial_weights RUN.pth"
        )
    try:
        there = content["identity"]
        differences = {
            name: f"{name} is {there.get(name)!r} there and {here!r} here"
            for name in {**state.identity, **there}
            if (here := state.identity.get(name)) != there.get(name) and name not in may_differ
        }
        changed = changed_since(there.get("sources", {}), cast(dict, state.identity["sources"]), content.get("commit"))
        further = [text for name, text in differences.items() if name not in ("clips_manifest", "data", "sources")]
        if further:
            raise InputError(
                f"{path} belongs to another run: {'; '.join(further)}; give the same parameters, or train without "
                "--restart"
            )
        if changed:
            raise InputError(f"{path} was trained before {changed}; restore the code, or train without --restart")
        if differences:
            raise InputError(
                f"the training clips are not those of {path}: some were added, removed or replaced; train without "
                "--restart, or fine-tune a network with --initial_weights"
            )
        _require_finite(content)
        problem = _mismatch(state.network.state_dict(), content["network"])
        if problem:
            raise ValueError(problem)
        state.epochs = [EpochLosses(**{name: float(v) for name, v in epoch.items()}) for epoch in content["epochs"]]
        state.batch_losses = [float(value) for value in content["batch_losses"]]
        state.step.load_state_dict(content["step"])
        _restore_random(content["random"])
        state.network.load_state_dict(content["network"])
        state.random, state.complete = content["random"], bool(content["complete"])
        state.resumed_from = [dict(entry) for entry in content.get("resumed_from", [])]
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise InputError(f"{path} is not a checkpoint of this run's network and optimiser; train without it") from error
    return there


def _copied(value):
    """Copy a state's tensors to the CPU: torch.save would write the whole memory behind a view."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return type(value)((k, _copied(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_copied(v) for v in value)
    return value


def random_state() -> dict[str, object]:
    """Return the states of Python's, NumPy's and torch's generators, in types that load without pickle."""
    name, keys, position, has_gauss, cached = cast(tuple, np.random.get_state())
    states: dict[str, object] = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _restore_random(state: dict) -> None:
    """Set Python's, NumPy's and torch's generators."""
    version, internal, gauss = state["python"]
    name, keys, position, has_gauss, cached = state["numpy"]
    if keys.shape != (624,) or not 0 <= position <= 624:  # NumPy would read past the end of its keys
        raise ValueError("the state of NumPy's generator is out of range")
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _require_finite(content: object) -> None:
    """Raise ValueError if anything in a checkpoint is complex or not finite."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list | tuple):
        for value in content:
            _require_finite(value)
    elif isinstance(content, torch.Tensor | float):
        tensor = torch.as_tensor(content)
        if tensor.is_complex() or not bool(tensor.isfinite().all()):
            raise ValueError("it holds numbers that are complex or not finite")


def _other_network(expected: dict, state: object) -> str | None:
    """Return how a file shows that it is a checkpoint, or another network's, and what to do."""
    if not isinstance(state, dict):
        return "it holds no state_dict; give a network that 01_train.sh wrote"
    lacking = next((name for name in expected if name not in state), None)
    if lacking is None:
        return None
    for name, part in state.items():
        if isinstance(part, dict) and any(isinstance(value, torch.Tensor) for value in part.values()):
            return f"it is a checkpoint, with weights under {name!r}; save these alone, or give the run's .pth file"
    for name in map(str, state):
        if name.endswith(f".{lacking}"):
            return f"its tensors' names begin with {name.removesuffix(lacking)!r}; save it again without this prefix"
    names = [str(name) for name in state if name not in expected]
    others = f", but {listed(names, 2)}" if names else ""
    return f"it has no {lacking}{others}; give a network that 01_train.sh wrote with this --model and its options"


def _mismatch(expected: dict, state: object) -> str | None:
    """Return how a state differs from the expected state_dict, or which tensor is not finite."""
    if not isinstance(state, dict):
        return "it holds no state_dict"
    for name, tensor in expected.items():
        found = state.get(name)
        if not isinstance(found, torch.Tensor):
            return f"it has no {name}"
        if found.shape != tensor.shape:
            return f"its {name} is {tuple(found.shape)}, not {tuple(tensor.shape)}"
        if found.dtype != tensor.dtype:
            return f"its {name} is {found.dtype}, not {tensor.dtype}"
        if found.is_floating_point() and not bool(found.isfinite().all()):
            return f"its {name} is not finite"
    return None if len(state) == len(expected) else "it has more tensors than this network"
