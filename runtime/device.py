"""Seeds of all random generators, and the device that torch works on."""

import os
import random

import numpy as np
import torch

from runtime.errors import InputError
from runtime.progress import say
from runtime.wording import counted


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, once, before anything draws.

    Draws that follow, in the reference's order: the split of the vectors (NumPy), the network's initial weights
    (torch), then one torch draw for each pass over the batches and one more if it shuffles: training and validation
    pass of each epoch; after the last epoch MAHALA's covariance pass, then the training and the validation pass of
    the batches' scores. Other scores draw from none of these generators.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def select_device(use_cuda: bool, gpu_id: int, threads: int):
    """Choose torch's device, say which it is, and set the CPU's number of threads."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; cuBLAS is deterministic then

    torch.set_num_threads(threads)
    if use_cuda and torch.cuda.is_available():
        count = torch.cuda.device_count()
        if gpu_id >= count:
            raise InputError(f"--gpu_id {gpu_id}: there are {count} CUDA devices, numbered from 0; give one of them")
        # torch warns of an extension's operation that has no deterministic form. TF32: --precision.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        device = torch.device("cuda", gpu_id)
        torch.cuda.set_device(device)
        say(f"device: {device} ({torch.cuda.get_device_name(device)})")
        return device
    why = "no CUDA device is available" if use_cuda else "use_cuda is false"
    say(f"device: CPU, {counted(threads, 'thread')} ({why})")
    return torch.device("cpu")
