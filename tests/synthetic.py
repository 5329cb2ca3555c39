"""Clips, settings and command lines for the tests. Clips are integer arithmetic: the same bytes on every machine."""

import csv
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from common import AVX2_VARIABLES, INSTRUCTION_SET, Settings, load_extensions, read_defaults

import numpy as np
import soundfile

if TYPE_CHECKING:
    from networks.autoencoder import AutoEncoder

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLING_RATE = 16000  # Hz
RESULTS = "results/*/*/*.csv"
RUN = "DCASE2023T2-AE_DCASE2023T2fan_seed13711"  # the name of a run with the fixture `options`
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
EXTENSIONS = [f"--extension={path}" for path in EXAMPLES]


# Relative: what rounding alone may change in the losses of the first epoch. MKL's products by AVX-512, AVX2 and SSE2 on
# an Intel Xeon changed a loss by up to 5.1e-4; another seed changed a loss of every parity case by 8.2e-3 or more.
OTHER_PROCESSOR = 2e-3


LOG10 = "b289e4e3e5038dbb0aac5b73b0feac00b7970c5d6484de349a4e19f74f27d3b6"  # SHA-256 of the values in rounds_alike


def rounds_alike() -> bool:
    """Return whether this machine gives the golden last digits: an AMD processor with AVX2, and glibc 2.36's log10f.

    Seen on Zen 3 and Zen 4. Intel's do not, with any of MKL's instruction sets: its matrix products add in another
    order. glibc 2.43's log10f, which NumPy calls for the features, differs in the last bit of 7 % of these values.
    """
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    logarithms = np.log10(np.linspace(1e-6, 100, 2**16, dtype=np.float32))
    return "AuthenticAMD" in text and " avx2 " in text and hashlib.sha256(logarithms.tobytes()).hexdigest() == LOG10


def write_clip(path: Path, seed: int, seconds: float = 0.5, period: int = 40, rate: int = SAMPLING_RATE) -> None:
    """Write a triangle wave of `period` samples with noise: mono, PCM_16."""
    n_samples = int(seconds * rate)
    noise = np.random.default_rng(seed).integers(-2000, 2001, n_samples)
    triangle = np.abs(np.arange(n_samples) % period - period // 2) * (8000 // period)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (noise + triangle).astype(np.int16), rate)


def machine_folder(
    data: Path, machine_type: str = "fan", challenge: str = "dcase2023t2", split: str = "dev_data"
) -> Path:
    """Return the folder of a machine type's clips."""
    return data / challenge / split / "raw" / machine_type


def write_machine(
    folder: Path, n_train: int = 6, n_test: int = 3, section: int = 0, seconds: float = 0.5, rate: int = SAMPLING_RATE
) -> Path:
    """Write a machine type's clips: train of both domains, and `n_test` test clips of each domain and label."""
    for i in range(n_train):
        name = f"section_{section:02d}_{'target' if i % 3 == 2 else 'source'}_train_normal_{i:04d}_spd_1.wav"
        write_clip(folder / "train" / name, i, seconds, rate=rate)
    for domain, label, i in itertools.product(("source", "target"), ("normal", "anomaly"), range(n_test)):
        name = f"section_{section:02d}_{domain}_test_{label}_{i:04d}_spd_1.wav"
        seed = 100 + 10 * i + 2 * (domain == "target") + (label == "anomaly")
        write_clip(folder / "test" / name, seed, seconds, 40 if label == "normal" else 12, rate)
    return folder


def write_two_channels(root):
    """Give the clips below `root` a first channel, and make them those of a machine type of 2026; return its folder."""
    mono, folder = (machine_folder(root / "data", challenge=name) for name in ("dcase2023t2", "dcase2026t2"))
    mono.parents[2].rename(folder.parents[2])
    for path in folder.glob("*/*.wav"):
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path, np.stack([samples[::-1] // 3, samples], axis=1), rate)
    return folder


def folders(root: Path) -> dict[str, Path]:
    """Return the parameters that keep all files of a run below a folder."""
    names = {"dataset": "data", "result": "results", "model": "models", "log": "logs"}
    return {f"{name}_directory": root / folder for name, folder in names.items()}


def directories(root: Path) -> list[str]:
    """Return the parameters of folders() as options."""
    return [word for name, folder in folders(root).items() for word in (f"--{name}", str(folder))]


def small_run(root: Path) -> list[str]:
    """Return the options of a small run of the machine type that write_machine writes, below a folder."""
    return ["--dataset", "DCASE2023T2fan", "-d", "--epochs", "2", "--batch_size", "16", *directories(root)]


def make_settings(**values: object) -> Settings:
    """Return the defaults of baseline.yaml, with other values."""
    load_extensions([])
    return Settings(read_defaults()).replace(**values)


def make_network(n_bins: int, device: str = "cpu", **values: object) -> "AutoEncoder":
    """Return the baseline's network for frames of n_bins values, with the same weights each time."""
    import torch

    from networks.autoencoder import AutoEncoder

    torch.manual_seed(0)
    return AutoEncoder(make_settings(n_mels=n_bins, **values), n_bins).to(device)


def random_batches(n_values, sizes):
    """Return batches of n_values in dB, (vectors, is_target), a third of the vectors from the target domain."""
    import torch

    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(n, n_values, generator=generator) * 20 - 40, torch.rand(n, generator=generator) < 0.3)
        for n in sizes
    ]


def random_vectors(settings, n_clips, n_frames, n_bins, device="cpu"):
    """Return the vectors of clips in dB, every other one from the target domain."""
    import torch

    from datasets.cache import Features
    from datasets.clips import Clip
    from datasets.vectors import Vectors

    frames = np.random.default_rng(0).standard_normal((n_clips * n_frames, n_bins), dtype=np.float32) * 8 - 40
    clips = [Clip(None, 0, ("source", "target")[i % 2], "normal") for i in range(n_clips)]
    return Vectors(Features(frames, (n_frames,) * n_clips), clips, settings, torch.device(device))


def network_path(root: Path, name: str = RUN, export_dir: str = "baseline") -> Path:
    """Return the path of the network of a run below `root`."""
    return root / "models/saved_model" / export_dir / f"{name}.pth"


def record_of(root, name="*"):
    """Return the content of the record of a run below `root`, by default of the only one."""
    (path,) = root.glob(f"models/saved_model/*/{name}.json")
    return json.loads(path.read_text())


def checkpoint_path(root: Path, name: str = RUN, export_dir: str = "baseline") -> Path:
    """Return the path of the checkpoint of a run below `root`."""
    return root / "models/checkpoint" / export_dir / name / "checkpoint.tar"


def clip_names(n: int = 4, attributes: str = "spd_1") -> list[str]:
    """Return the names of n test clips of each domain and label."""
    kinds = [f"{domain}_test_{label}" for label in ("normal", "anomaly") for domain in ("source", "target")]
    return [f"section_00_{kind}_{i:04d}_{attributes}.wav" for kind in kinds for i in range(n)]


def rows(path: Path) -> list[list[str]]:
    """Return the cells of a CSV file, row by row."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def assert_first_epoch(log, expected):
    """Fail if the losses of a first epoch differ by more than other rounding may change, or columns or epochs do."""
    ours, theirs = rows(log), rows(expected)
    assert (ours[0], len(ours)) == (theirs[0], len(theirs))
    losses = ([float(value) for value in table[1]] for table in (ours, theirs))
    np.testing.assert_allclose(*losses, rtol=OTHER_PROCESSOR)


def results_of(root, kind, system="*_MSE"):
    """Return the cells of the only anomaly_score, decision_result or result file of a system below `root`."""
    (path,) = root.glob(f"results/*/{system}/{kind}_*.csv")
    return rows(path)


def written(root: Path, *further: str) -> dict[str, object]:
    """Return training's files (network, thresholds in the record, tensors, log), and those of further patterns."""
    patterns = ("models/saved_model/*/*", "logs/*/*/log.csv", *further)
    files = {str(path.relative_to(root)): path.read_bytes() for pattern in patterns for path in root.glob(pattern)}
    for name, content in files.items():
        if name.endswith(".json"):  # it holds times
            scores = json.loads(content)["scores"].items()
            files[name] = {score: [entry.get(key) for key in ("gamma", "clip_scores")] for score, entry in scores}
    return files


def write_network_record(path: Path, **content: object) -> None:
    """Write a network's record with this content."""
    from networks.record import FORMAT, Record

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        Record(path, {"format": FORMAT, "scores": {}, **content}).write_to(file)


def succeed(outcome) -> str:
    """Return the output of a command called in this process, which must have succeeded."""
    assert outcome.status == 0, outcome.out + outcome.err
    return outcome.out


def error_of(outcome) -> str:
    """Return the errors of a command called in this process, which must have failed."""
    assert outcome.status == 1, outcome.out + outcome.err
    return outcome.err


def call(main: Callable[[], int], *words: object) -> int:
    """Call a command's main() in this process, with a command line; return its status."""
    with mock.patch("sys.argv", ["program", *map(str, words)]):
        try:
            return main()
        except SystemExit as stop:
            return stop.code


def run(*command: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    """Run a command with this Python as the scripts' $PYTHON, in this environment without conftest.py's variables.

    An environment variable of value "" is removed.
    """
    env = {name: value for name, value in os.environ.items() if name not in (*AVX2_VARIABLES, INSTRUCTION_SET)}
    env = {name: value for name, value in {**env, "PYTHON": sys.executable, **environment}.items() if value != ""}
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=600, check=False
    )


def script(name: str, *words: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    """Run one of the repository's shell scripts."""
    return run("bash", REPOSITORY / name, *words, cwd=cwd, **environment)


def exit_statuses(*works: Callable[[], int]) -> list[int]:
    """Call functions in forked processes, all at once; return the exit statuses, which are what they return."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=lambda work=work: sys.exit(work())) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def wait_for(condition: Callable[[], object], what: str, seconds: float = 240) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s until {what}"
        time.sleep(0.1)


def python(*lines: str) -> list[str]:
    """Return the command of a Python that runs these lines and finds this repository's modules."""
    paths = [str(REPOSITORY), str(REPOSITORY / "tests")]
    return [sys.executable, "-c", "\n".join(("import sys", f"sys.path[:0] = {paths!r}", *lines))]


def copy_repository(target: Path) -> Path:
    """Copy the repository without its environment and without files written by runs."""
    own = {"data", "demo", "logs", "models", "results", ".git", ".venv"}

    def ignored(folder: str, names: list[str]) -> set[str]:
        return own if Path(folder) == REPOSITORY else {"__pycache__"}

    return Path(shutil.copytree(REPOSITORY, target, ignore=ignored))
