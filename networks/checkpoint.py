"""Networks and checkpoints on disk. Loading runs nothing: torch.load(weights_only=True), never pickle.

A network file is the plain state_dict that the reference writes. A checkpoint holds all that training needs to go on
as if it had not stopped: weights, optimiser, epoch, every random generator, the log so far and the last epoch's losses.
"""

import io
import random
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from common import InputError, atomic_write
from networks.autoencoder import AutoEncoder
from networks.engine import EpochLosses
from networks.training_step import TrainingStep


@dataclass
class TrainingState:
    """A training run as far as it is; `identity` says which other runs may go on from it."""

    network: AutoEncoder
    step: TrainingStep
    identity: dict[str, object]
    epochs: list[EpochLosses] = field(default_factory=list)
    batch_losses: list[float] = field(default_factory=list)  # of the last epoch
    random: dict[str, object] = field(default_factory=dict)  # the generators' states after the last epoch
    complete: bool = False  # covariances, thresholds and files are done too

    def snapshot(self) -> dict[str, object]:
        """Return a checkpoint's content, with memory of its own: a later epoch changes nothing in it."""
        return {
            "identity": self.identity,
            "network": _own_tensors(self.network.state_dict()),
            "step": _own_tensors(self.step.state_dict()),
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "batch_losses": list(self.batch_losses),
            "complete": self.complete,
            "random": self.random,
        }


def save_network(network: AutoEncoder, path: Path) -> None:
    """Write the network's state_dict."""
    _save(path, _own_tensors(network.state_dict()))


def load_network(path: Path, n_mels: int, frames: int, device: torch.device) -> AutoEncoder:
    """Load a network, ours or the reference's.

    Raises
    ------
    InputError
        The file is missing, is no state_dict, or its shapes are not those of `n_mels` and `frames`.
    """
    if not path.is_file():
        raise InputError(f"there is no network {path}; train first, with the same data set, tag, seed and export_dir")
    state = _load(path)
    network = AutoEncoder(n_mels, frames)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} does not fit n_mels {n_mels} and frames {frames} ({_first_mismatch(network, state)}); "
            "test with the parameters that it was trained with"
        ) from error
    return network.to(device)


def save_checkpoint(path: Path, snapshot: dict[str, object]) -> None:
    """Write everything that training needs to go on from a snapshot."""
    _save(path, snapshot)


def load_checkpoint(path: Path, state: TrainingState) -> None:
    """Put a run's state, and all random generators, to where a checkpoint's run was.

    Raises
    ------
    InputError
        The file is missing or no checkpoint, or is of a run of another identity; the differences are named.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}; train without --checkpoint_path")
    content = _load(path)
    try:
        there = content["identity"]
        differences = [
            f"{name} is {there.get(name)!r} there and {here!r} here"
            for name, here in state.identity.items()
            if there.get(name) != here
        ]
        if not differences:
            state.epochs = [EpochLosses(**epoch) for epoch in content["epochs"]]
            state.batch_losses = list(content["batch_losses"])
            state.complete = bool(content["complete"])
            state.network.load_state_dict(content["network"])
            state.step.load_state_dict(content["step"])
            state.random = content["random"]
            _restore_random(state.random)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path} is not a checkpoint of this baseline; train without it") from error
    if differences:
        raise InputError(f"{path} is of another run: {'; '.join(differences)}; give the same parameters or train anew")


def _save(path: Path, content: dict[str, object]) -> None:
    """Write by way of memory: torch.save puts a file's name into it, and says nothing clear of a full disk."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path, "wb") as file:
        file.write(buffer.getbuffer())


def _own_tensors(state: dict[str, object]) -> dict[str, object]:
    """Return a state with memory of its own for each tensor, on the CPU: torch.save writes all of a view's."""
    return {k: v.detach().to("cpu", copy=True) if isinstance(v, torch.Tensor) else v for k, v in state.items()}


def _load(path: Path) -> dict:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a damaged file reminds torch; the error below says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names no narrower class for the many ways in which a file can be broken
        raise InputError(f"{path} cannot be loaded; it is damaged or no file of this baseline") from error


def random_state() -> dict[str, object]:
    """Return the states of Python's, NumPy's and torch's generators, in types that load without pickle."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
    }


def _restore_random(state: dict) -> None:
    """Set Python's, NumPy's and torch's generators."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])


def _first_mismatch(network: AutoEncoder, state: object) -> str:
    """Say in which tensor a state differs from the network."""
    if not isinstance(state, dict):
        return "it holds no state_dict"
    for name, tensor in network.state_dict().items():
        if name not in state:
            return f"it has no {name}"
        shape = tuple(getattr(state[name], "shape", ()))
        if shape != tuple(tensor.shape):
            return f"its {name} is {shape}, not {tuple(tensor.shape)}"
    return "it has more tensors than this network"
