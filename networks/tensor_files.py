"""Files of tensors, which hold no code: torch.load(weights_only=True).

A network's file is the plain state_dict that the reference writes; a score's file holds what it has learned.
"""

import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

from common import InputError

import torch

from networks.network import Network
from runtime.command import lacks_memory
from runtime.files import writing
from runtime.wording import listed


def load_weights(network: Network, path: Path) -> None:
    """Load a network's file, ours or the reference's."""
    state, expected, s = load_tensors(path), network.state_dict(), network.settings
    lacking, further = [n for n in expected if n not in state], [n for n in state if n not in expected]
    if lacking or further:
        raise InputError(
            f"{path} is not a network of {s.model}: it has {listed(further, 2) or 'nothing else'} and lacks "
            f"{listed(lacking, 2) or 'nothing'}; give a .pth file that 01_train.sh wrote with this --model"
        )
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            labels = f" and {len(network.labels)} labels" if network.labels else ""
            raise InputError(
                f"{path} does not fit n_mels {s.n_mels} and frames {s.frames}{labels} (its {name} is "
                f"{tuple(state[name].shape)}, not {tuple(tensor.shape)}); give the parameters that it was trained "
                "with, or restore its code if that was changed"
            )
    network.load_state_dict(state)


def dump_tensors(state: Mapping[str, object]) -> bytes:
    """Return a state_dict as a file's content: given a path, torch.save would store its name too."""
    buffer = io.BytesIO()
    torch.save(copied(state), buffer)
    return buffer.getvalue()


def load_tensors(path: Path) -> dict:
    """Load a dictionary that torch.save wrote, onto the CPU."""
    with writing(path, "check the path", "read"):
        try:
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # torch.load does not compare the checksums that torch.save writes
                    raise ValueError("a tensor is damaged")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about damaged files, which the error below covers
                content = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(content, dict):
                raise ValueError("it holds no state_dict")
        except OSError:
            raise
        except Exception as error:  # torch has no narrower class for the many kinds of damage
            if lacks_memory(error):
                raise
            raise InputError(
                f"{path} cannot be loaded; it is damaged, or holds more than tensors (pickles and whole models are "
                "never loaded, of the reference's files only networks; save model.state_dict() alone)"
            ) from error
    return content


def copied(value):
    """Copy a state's tensors to the CPU: torch.save would write the whole memory behind a view."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return type(value)((k, copied(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return type(value)(copied(v) for v in value)
    return value
