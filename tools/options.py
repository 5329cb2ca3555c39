"""The parameters of the baseline: each a key of baseline.yaml and the option of the same name.

Owns names, types and help texts (PARAMETERS); the defaults stand in baseline.yaml and nowhere else. The command line
overrides the file. Relative directories are relative to the file's folder there, to the caller's folder here.
"""

import argparse
import contextlib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from common import REPOSITORY, SCORES, InputError

MODEL = "DCASE2023T2-AE"
MAX_YAML = 100_000  # characters of baseline.yaml


@dataclass(frozen=True)
class Kind:
    """A type of parameter: `convert` returns the value or raises ValueError, `allowed` says what it takes."""

    allowed: str
    convert: Callable[[object], object]


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _integer(minimum: int, maximum: int = 2**31 - 1) -> Kind:
    def convert(value):
        _require(type(value) is int and minimum <= value <= maximum)
        return value

    return Kind(f"a whole number from {minimum}" + ("" if maximum == 2**31 - 1 else f" to {maximum}"), convert)


def _number(allowed: str, accepts: Callable[[float], bool]) -> Kind:
    def convert(value):
        _require(type(value) in (int, float, str))  # str: YAML reads 1e-3 as one
        number = float(value)
        _require(math.isfinite(number) and accepts(number))
        return number

    return Kind(allowed, convert)


def _optional(kind: Kind) -> Kind:
    return Kind(f"{kind.allowed}, or null", lambda value: None if value is None else kind.convert(value))


def _choice(*choices: str) -> Kind:
    def convert(value):
        _require(value in choices)
        return value

    return Kind(" or ".join(choices), convert)


def _boolean(value: object) -> bool:
    _require(type(value) in (bool, int) and value in (0, 1))
    return bool(value)


def _name(value: object) -> str:
    _require(value is not None and not isinstance(value, bool | list | dict))
    text = str(value)
    _require(text not in ("", ".", "..") and "\0" not in text and "/" not in text)
    return text


def _path(value: object) -> Path:
    _require(isinstance(value, str) and value != "" and "\0" not in value)
    return Path(value).expanduser()


def _address(value: object) -> str:
    _require(isinstance(value, str) and re.fullmatch(r"https?://[^\s/]+(/\S*)?", value) is not None)
    return value.rstrip("/")


BOOLEAN = Kind("true, false, 1, 0, yes or no", _boolean)
NAME = Kind("a name without /", _name)
TAG = Kind("a name without /, or nothing", lambda value: value if value == "" else _name(value))
PATH = Kind("a path", _path)
CACHE_PATH = _optional(PATH)
SECTION = _integer(0, 99)
ADDRESS = _optional(Kind("an address such as http://127.0.0.1:8000", _address))
FRACTION = _number("a number between 0 and 1", lambda x: 0 < x < 1)
POSITIVE = _number("a number above 0", lambda x: x > 0)
NOT_NEGATIVE = _number("a number from 0", lambda x: x >= 0)


@dataclass(frozen=True)
class Parameter:
    """A key of baseline.yaml and the option of the same name (and `short`, an older spelling)."""

    name: str
    kind: Kind
    help: str
    short: str | None = None


PARAMETERS: dict[str, tuple[Parameter, ...]] = {
    "where things are": (
        Parameter("dataset_directory", PATH, "the audio, in the challenge's layout"),
        Parameter("cache_directory", CACHE_PATH, "the features; null: beside the audio"),
        Parameter("result_directory", PATH, "scores, decisions and tables"),
        Parameter("model_directory", PATH, "networks, thresholds and checkpoints"),
        Parameter("log_directory", PATH, "the losses of each epoch"),
        Parameter("export_dir", NAME, "the experiment's name, a folder in the three above"),
        Parameter("is_auto_download", BOOLEAN, "fetch the clips that a run needs and that are not there"),
        Parameter("mirror", ADDRESS, "fetch from here instead of the catalogue's hosts; the paths are the same"),
    ),
    "how a run is made": (
        Parameter("seed", _integer(0, 2**32 - 1), "of all random generators"),
        Parameter("use_cuda", BOOLEAN, "use a CUDA device where there is one, else the CPU"),
        Parameter("gpu_id", _integer(0), "which CUDA device"),
        Parameter("threads", _integer(1, 1024), "torch's threads on a CPU; another number gives other last digits"),
        Parameter("instruction_set", _choice("avx2", "native"), "of NumPy and torch on a CPU; decides the last digits"),
        Parameter("log_interval", _integer(1), "batches between two updates of the progress bar"),
        Parameter("checkpoint_interval", _integer(1), "epochs between two checkpoints"),
    ),
    "features": (
        Parameter("n_mels", _integer(1), "mel bands"),
        Parameter("frames", _integer(1), "successive frames in a vector"),
        Parameter("frame_hop_length", _integer(1), "frames from one vector to the next"),
        Parameter("n_fft", _integer(2), "samples of a Fourier transform"),
        Parameter("hop_length", _integer(1), "samples from one frame to the next"),
        Parameter("power", POSITIVE, "exponent of the magnitude: 1 amplitude, 2 power"),
        Parameter("fmin", NOT_NEGATIVE, "Hz, lowest mel band edge"),
        Parameter("fmax", _optional(POSITIVE), "Hz, highest mel band edge; null: half the sampling rate"),
        Parameter("win_length", _optional(_integer(1)), "samples of the window; null: n_fft"),
    ),
    "training": (
        Parameter("model", _choice(MODEL), "the network"),
        Parameter("batch_size", _integer(1), "vectors"),
        Parameter("epochs", _integer(1), "passes over the training vectors"),
        Parameter("learning_rate", POSITIVE, "of Adam", short="-lr"),
        Parameter("shuffle", BOOLEAN, "draw the training vectors in a new order in each epoch"),
        Parameter("validation_split", FRACTION, "share of the vectors kept for validation"),
    ),
    "testing": (
        Parameter("score", _choice(*SCORES), "mean squared error or selective Mahalanobis distance"),
        Parameter(
            "decision_threshold", FRACTION, "quantile of the fitted gamma distribution above which a clip is anomalous"
        ),
        Parameter(
            "max_fpr",
            _number("a number above 0, up to 1", lambda x: 0 < x <= 1),
            "largest false positive rate of the partial AUC",
        ),
    ),
}
BY_NAME = {parameter.name: parameter for group in PARAMETERS.values() for parameter in group}


def read_defaults(path: Path = REPOSITORY / "baseline.yaml") -> dict[str, object]:
    """Read and check baseline.yaml; relative directories become relative to the file's folder.

    Raises
    ------
    InputError
        The file is missing or no YAML mapping, or a key is unknown, twice there, absent or of the wrong type.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_YAML + 1)
        if len(text) > MAX_YAML:
            raise ValueError(f"it is longer than {MAX_YAML} characters")
        node, given = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise InputError(
            f"cannot read {path}: {' '.join(str(error).split())[:300]}; restore it from the repository"
        ) from error
    if not isinstance(given, dict):
        raise InputError(f"{path} holds no `key: value` lines; restore it from the repository")
    keys = [key.value for key, _ in node.value]
    for key, value in node.value:
        if not isinstance(value, yaml.ScalarNode):
            raise InputError(f"{path}: {key.value} holds a list or a mapping; every key takes one value")
    for key in keys:
        if key not in BY_NAME:
            raise InputError(f"{path}: unknown key '{key}'; the keys are {', '.join(BY_NAME)}")
        if keys.count(key) > 1:
            raise InputError(f"{path}: key '{key}' stands there {keys.count(key)} times; keep one")
    values = {}
    for name, parameter in BY_NAME.items():
        if name not in given:
            raise InputError(f"{path}: key '{name}' is missing; it takes {parameter.kind.allowed}")
        try:
            value = parameter.kind.convert(given[name])
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"{path}: {name}: {given[name]!r} is not allowed; it takes {parameter.kind.allowed}"
            ) from error
        values[name] = path.parent / value if isinstance(value, Path) else value
    return values


def _typed(text: str) -> object:
    """Type the words of the command line as YAML would: 30 -> int, 0.5 -> float, yes -> bool, null -> None."""
    words = {"true": True, "yes": True, "false": False, "no": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for convert in (int, float):
        with contextlib.suppress(ValueError):
            return convert(text)
    return text


def option_type(kind: Kind) -> Callable[[str], object]:
    """Return the argparse type of an option that takes a kind of value."""
    takes_text = kind in (NAME, TAG, PATH, CACHE_PATH)

    def convert(text: str) -> object:
        try:
            value = kind.convert(text if takes_text and text != "null" else _typed(text))
        except (ValueError, OverflowError):
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; it takes {kind.allowed}") from None
        return Path.cwd() / value if isinstance(value, Path) else value

    return convert


def _shown(value: object) -> str:
    """Return a default as the help shows it."""
    if isinstance(value, Path) and value.is_relative_to(REPOSITORY):
        return f"{value.relative_to(REPOSITORY)} in the repository"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def add_parameters(
    parser: argparse.ArgumentParser, defaults: dict[str, object], names: Iterable[str] = tuple(BY_NAME)
) -> None:
    """Add the options of the named parameters to a parser, in groups, with their defaults."""
    for title, parameters in PARAMETERS.items():
        group = parser.add_argument_group(title)
        for parameter in parameters:
            if parameter.name in names:
                flags = [f"--{parameter.name}"] + ([parameter.short] if parameter.short else [])
                text = f"{parameter.help} [{parameter.kind.allowed}; default: {_shown(defaults[parameter.name])}]"
                group.add_argument(
                    *flags,
                    dest=parameter.name,
                    type=option_type(parameter.kind),
                    default=defaults[parameter.name],
                    metavar="X",
                    help=text,
                )
