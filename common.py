"""What every part of the baseline stands on: names of output files, errors, safe writing, seeding, device.

Owns the names of all files that a run writes (ExperimentPaths), the order of random draws (seed_everything) and the
one kind of error that users see (InputError). Imports nothing of the project, and torch only where it is used, so
that `--help` is immediate. The parameters are in tools/options.py.
"""

import contextlib
import glob
import os
import platform
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

REPOSITORY = Path(__file__).resolve().parent
SCORES = ("MSE", "MAHALA")
AVX2_VARIABLES = {  # NumPy's own loops, its BLAS, and torch's own loops; the products of torch (MKL) need none
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
}


class InputError(Exception):
    """Something that was given cannot be used; the message says what, what is allowed and what to do."""


class Stopped(BaseException):
    """SIGINT (Ctrl-C) or SIGTERM asks the program to end; `status` is its exit status then, as a shell counts."""

    def __init__(self, number: int):
        super().__init__()
        self.name, self.status = signal.Signals(number).name, 128 + number
        self.say("nothing is half-written, and the same command begins again")

    def say(self, what: str) -> None:
        """Say what is left and how to go on; nothing: somebody else has said it."""
        self.args = (f"stopped by {self.name}; {what}",) if what else ()


def run_command(work: Callable[[], int | None]) -> int:
    """Run a command's work and return its exit status: its own, else 0; 1 after an error, which is said in a sentence.

    SIGINT and SIGTERM end it with status 130 and 143. An output that nobody reads any more ends it silently.
    """

    def stop(number: int, _frame: object) -> None:
        raise Stopped(number)

    try:
        with _handlers(stop):
            return work() or 0
    except InputError as error:
        print_error(error)
        return 1
    except Stopped as stopped:
        if stopped.args:
            print_error(stopped)
        return stopped.status
    except OSError as error:
        _drop_output()
        if not isinstance(error, BrokenPipeError):
            print_error(InputError(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"))
        return 1


@contextlib.contextmanager
def no_stop_signals() -> Iterator[None]:
    """Have SIGINT and SIGTERM wait until the block is done, for what must not be broken off."""
    waiting = []
    with _handlers(lambda number, _frame: waiting.append(number)):
        yield
    if waiting:
        signal.raise_signal(waiting[0])


@contextlib.contextmanager
def _handlers(handler: Callable[[int, object], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _drop_output() -> None:
    """Lead standard output nowhere, if what is still to be written cannot be: Python writes it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# --- safe writing -----------------------------------------------------------------------------------------------------

ADVICE = "free space there or name another directory"
_unpublished: ContextVar[dict[Path, Path] | None] = ContextVar("unpublished", default=None)  # temporary by final path


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w", newline: str | None = "\n", advice: str = ADVICE) -> Iterator:
    """Open a temporary file beside `path`, and rename it to `path` only if the block succeeds.

    Raises
    ------
    InputError
        The file cannot be written (folder, permission, full disk); `path` is then as it was before.
    """
    temporary = path.with_name(f".{path.name[:180]}.{platform.node()[:30]}.{os.getpid()}.partial")
    unpublished = _unpublished.get()
    try:
        with _writing(path, advice):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path)
            text = {} if "b" in mode else {"encoding": "utf-8", "errors": "surrogateescape", "newline": newline}
            with temporary.open(mode, **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if unpublished is None:
                temporary.replace(path)
            else:
                unpublished[path] = temporary
    finally:
        if unpublished is None or path not in unpublished:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def all_or_nothing() -> Iterator[None]:
    """Rename what the block writes by atomic_write only when all of it is written: results change together or not."""
    unpublished: dict[Path, Path] = {}
    token = _unpublished.set(unpublished)
    try:
        yield
        with no_stop_signals():
            for path, temporary in unpublished.items():
                with _writing(path):
                    temporary.replace(path)
    finally:
        _unpublished.reset(token)
        for temporary in unpublished.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(path: Path, advice: str = ADVICE) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files of `path` that processes of this machine have left behind when they were killed."""
    prefix = f".{path.name[:180]}.{platform.node()[:30]}."
    for temporary in path.parent.glob(f"{glob.escape(prefix)}*.partial"):
        process = temporary.name.removeprefix(prefix).removesuffix(".partial")
        if process.isdigit() and int(process) != os.getpid() and not _is_running(int(process)):
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


@contextlib.contextmanager
def exclusive(path: Path, what: str, advice: str = ADVICE) -> Iterator[None]:
    """Hold a lock between processes, the file `path`, and say so where another process has it; free when that one dies.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    import fasteners

    lock = fasteners.InterProcessLock(path)
    with _writing(path, advice):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not lock.acquire(blocking=False):
            print(f"waiting for another process that {what}", flush=True)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def print_error(error: BaseException) -> None:
    """Say in one sentence on standard error what went wrong."""
    text = str(error).encode(errors="backslashreplace").decode()  # a file's name may be no UTF-8
    with contextlib.suppress(OSError):  # where even that cannot be written, the exit status says it
        print(f"error: {text}", file=sys.stderr, flush=True)


def require_writable(folder: Path) -> None:
    """Raise InputError now, and not after the work, where a folder cannot be written to."""
    probe = folder / ".writable"
    with atomic_write(probe):
        pass
    probe.unlink(missing_ok=True)


# --- names of the files that a run writes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ExperimentPaths:
    """The names of all files of one run; nobody else makes such a name.

    `tag` is what -tag gave (the scripts give `id(0_)`), `is_eval` the mode. Source: the names that the reference v2.0.1
    writes; the thresholds are its own pickles' names, as JSON.
    """

    result_directory: Path
    model_directory: Path
    log_directory: Path
    export_dir: str
    model: str
    dataset: str
    tag: str
    is_eval: bool
    seed: int

    @property
    def _suffix(self) -> str:
        return (f"_{self.tag}" if self.tag else "") + ("_Eval" if self.is_eval else "")

    @property
    def run(self) -> str:
        """Return the name of the run: network, data set, tag, mode and seed."""
        return f"{self.model}_{self.dataset}{self._suffix}_seed{self.seed}"

    @property
    def log_csv(self) -> Path:
        """Return where the losses of each epoch are."""
        return self.log_directory / self.export_dir / self.run / "log.csv"

    @property
    def log_png(self) -> Path:
        """Return where the picture of the losses is."""
        return self.log_csv.with_name("log.png")

    def output(self, script: str) -> Path:
        """Return where the output of a script's job is kept when jobs run side by side."""
        return self.log_csv.with_name(f"{script}.log")

    @property
    def network(self) -> Path:
        """Return where the trained network's state_dict is."""
        return self.model_directory / "saved_model" / self.export_dir / f"{self.run}.pth"

    def threshold(self, score: str) -> Path:
        """Return where the gamma distribution of a score is."""
        return self.network.with_name(f"score_distr_{self.run}_{score.lower()}.json")

    @property
    def checkpoint(self) -> Path:
        """Return where training can be continued from."""
        return self.model_directory / "checkpoint" / self.export_dir / self.run / "checkpoint.tar"

    @property
    def training_lock(self) -> Path:
        """Return the file that a process locks while it trains the run."""
        return self.checkpoint.with_name("lock")

    @property
    def record(self) -> Path:
        """Return where it stands what the network comes from: parameters, clips, versions, device, times."""
        return self.network.with_suffix(".json")

    @property
    def split_results(self) -> Path:
        """Return the folder of all results of the mode (development or evaluation)."""
        return self.result_directory / ("eval_data" if self.is_eval else "dev_data")

    def results(self, score: str) -> Path:
        """Return the folder of the scores, decisions and result tables of a score."""
        return self.split_results / f"{self.export_dir}_{score}"

    def anomaly_scores(self, score: str, section: int) -> Path:
        """Return where the clips' anomaly scores are."""
        return (
            self.results(score)
            / f"anomaly_score_{self.dataset}_section_{section:02d}_test_seed{self.seed}{self._suffix}.csv"
        )

    def decisions(self, score: str, section: int) -> Path:
        """Return where the clips' decisions are."""
        return (
            self.results(score)
            / f"decision_result_{self.dataset}_section_{section:02d}_test_seed{self.seed}{self._suffix}.csv"
        )

    def result_table(self, score: str) -> Path:
        """Return where AUC, precision, recall and F1 score of the sections are."""
        return self.results(score) / f"result_{self.dataset}_test_seed{self.seed}{self._suffix}_roc.csv"

    def score_picture(self, score: str) -> Path:
        """Return where the box plots of the scores are."""
        return self.results(score) / f"{self.model}_{self.dataset}{self._suffix}_anm_score.png"

    def summary(self, challenge: str) -> Path:
        """Return the folder of the summary tables of a challenge."""
        return self.split_results / self.export_dir / "summarize" / challenge

    def report(self, challenge: str) -> Path:
        """Return where the report of a challenge is, beside its summary tables."""
        return self.summary(challenge) / "report.html"

    def report_picture(self, challenge: str, name: str) -> Path:
        """Return where a picture of the report is."""
        return self.summary(challenge) / "report" / f"{name}.png"


# --- seeding, device ----------------------------------------------------------------------------------------


def set_instruction_set(name: str) -> None:
    """Keep NumPy and torch to an instruction set: `avx2`, or `native` for the widest that the processor has.

    With AVX-512 sums are ordered differently, and training amplifies it: scores of a small real set were up to 43 %
    apart. With `avx2` an AMD Zen 4 gave the figures of the reference on a Zen 3 to the last digit, at the same speed.
    Both libraries read these variables when they are first imported; what is set already stays.
    """
    if name == "native" or platform.machine() not in ("x86_64", "AMD64"):
        return
    unset = {name: value for name, value in AVX2_VARIABLES.items() if name not in os.environ}
    if unset and "numpy" in sys.modules:
        raise RuntimeError("set_instruction_set must come before the first import of NumPy and torch")
    os.environ.update(unset)


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, once, before anything draws.

    Who draws afterwards, in this order (the reference's): the split of the vectors (NumPy), the network's initial
    weights (torch), then one torch draw for each iterator of a DataLoader and one more where it shuffles: training
    pass and validation pass of each epoch; after the last epoch the covariance pass, then the training and the
    validation pass of the batches' scores.
    """
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def select_device(use_cuda: bool, gpu_id: int, threads: int, file: TextIO | None = None):
    """Return the torch device to work on, with the CPU's number of threads set, and say to `file` which it is."""
    import torch

    torch.set_num_threads(threads)
    if use_cuda and torch.cuda.is_available():
        if gpu_id >= torch.cuda.device_count():
            count = torch.cuda.device_count()
            raise InputError(f"--gpu_id {gpu_id}: there are {count} CUDA devices, numbered from 0; give one of them")
        device = torch.device("cuda", gpu_id)
        print(f"device: {device} ({torch.cuda.get_device_name(device)})", file=file, flush=True)
        return device
    why = "no CUDA device is available" if use_cuda else "use_cuda is false"
    print(f"device: CPU, {threads} thread{'s' if threads > 1 else ''} ({why})", file=file, flush=True)
    return torch.device("cpu")
