"""Common ground: the instruction set, parameters, extensions, the command line.

Throughout the project, bad input raises InputError: one sentence that says what was given, what is allowed and what to
do. Docstrings mention other exceptions only.

A parameter is a key of baseline.yaml and the command line option of the same name. baseline.yaml holds the defaults,
PARAMETERS the types and help texts, and `affects` which results depend on a parameter: what a cache, a checkpoint and
a network's record must agree on is derived from it. An extension file may register networks, scores and front ends
with parameters of their own (NETWORKS, SCORES, FRONT_ENDS).

Imports runtime only, so that `--help` is immediate. It is the one door: whatever imports NumPy imports this before.
"""

import argparse
import difflib
import hashlib
import importlib
import importlib.util
import json
import math
import os
import platform
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from runtime import REPOSITORY, sources
from runtime.command import prepare_caches, recognisers
from runtime.errors import InputError, Stopped, note  # noqa: F401 (handed on)

DEFAULTS = REPOSITORY / "baseline.yaml"

# --- the environment of libraries, before anything imports them ------------------------------------------------------

AVX2_VARIABLES = {  # NumPy's own loops, its BLAS, and torch's own loops; torch's matrix products (MKL) need none
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
}
INSTRUCTION_SETS = ("avx2", "native")
INSTRUCTION_SET = "BASELINE_INSTRUCTION_SET"  # the environment variable by which a process hands its choice on


def set_instruction_set(name: str) -> None:
    """Restrict NumPy and torch to an instruction set: `avx2`, or `native` for the widest that the processor has.

    Done when this module is imported, by --instruction_set, else the --config file, else $BASELINE_INSTRUCTION_SET,
    else `avx2`. AVX-512 orders sums differently, and training amplifies it: scores of a small real set were up to 43 %
    apart. With `avx2` an AMD Zen 4 gave the reference's figures on a Zen 3 to the last digit, at the same speed. Both
    libraries read these variables on import, so values set otherwise are replaced. RuntimeError: NumPy is already
    imported.
    """
    os.environ[INSTRUCTION_SET] = name
    if name == "native" or platform.machine() not in ("x86_64", "AMD64"):
        return
    if AVX2_VARIABLES.items() <= os.environ.items():
        return
    if "numpy" in sys.modules:
        raise RuntimeError("set_instruction_set must come before the first import of NumPy and torch")
    os.environ.update(AVX2_VARIABLES)


def _wanted_instruction_set(argv: Sequence[str]) -> str:
    """Return the instruction set of a command line, which is parsed later; an invalid one is reported then."""
    text = "\n".join(argv)
    wanted = re.search(r"^--instruction_set[=\n](\w+)$", text, re.MULTILINE)
    config = re.search(r"^--config[=\n](.*)$", text, re.MULTILINE)
    if wanted is None and config is not None and Path(config[1]).is_file():
        wanted = re.search(r"^-*instruction_set: *(\w+)", Path(config[1]).read_text(errors="replace"), re.MULTILINE)
    name = wanted[1] if wanted else os.environ.get(INSTRUCTION_SET, INSTRUCTION_SETS[0])
    return name if name in INSTRUCTION_SETS else INSTRUCTION_SETS[0]


prepare_caches()
if os.environ.get("MPLBACKEND", "").startswith("module:") and "IPython" not in sys.modules:
    del os.environ["MPLBACKEND"]  # of the notebook that started this process, where its module may be missing

try:
    set_instruction_set(_wanted_instruction_set(sys.argv[1:]))
except RuntimeError:
    note("NumPy was imported before this project, so the last digits are those of --instruction_set native")


# --- types of parameters ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParameterType:
    """A type of parameter: `parse` turns text into the value or raises an error, `allowed` describes valid text.

    `words` lists the valid texts if there are only a few, for errors to suggest the nearest one.
    """

    allowed: str | Callable[[], str]
    parse: Callable[[str], object]
    words: Callable[[], Sequence[str]] = tuple

    @property
    def description(self) -> str:
        """What the type allows, as error messages and help texts say it."""
        return self.allowed if isinstance(self.allowed, str) else self.allowed()

    def read(self, text: str, where: str = "") -> object:
        """Return the value of a text; `where` begins the error message."""
        try:
            return self.parse(text)
        except (ValueError, OverflowError, LookupError, TypeError) as error:
            what = f"{text!r} is not allowed; it takes {self.description}"
            raise InputError(f"{where}{what}{did_you_mean(text, self.words())}") from error


def did_you_mean(words: str | Iterable[str], known: Iterable[str]) -> str:
    """Return what ends an error message about unknown words: the nearest known one of each, if any.

    Known words may be alternatives, `-lr or --learning_rate`.
    """
    names = {name.lower().lstrip("-"): text for text in known for name in text.split(" or ")}
    given = [word.lower().lstrip("-") for word in ([words] if isinstance(words, str) else words)]
    found = [names[near] for word in given for near in difflib.get_close_matches(word, names, 1)]
    return f"; did you mean {', '.join(found)}?" if found else ""


def integer(minimum: int, maximum: int = 2**31 - 1) -> ParameterType:
    """Return the type of whole numbers from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,12}", text, re.ASCII) or not minimum <= int(text) <= maximum:
            raise ValueError
        return int(text)

    return ParameterType(f"a whole number from {minimum}" + ("" if maximum == 2**31 - 1 else f" to {maximum}"), parse)


def number(allowed: str, accepts: Callable[[float], bool]) -> ParameterType:
    """Return the type of the finite numbers that `accepts` is true for; `allowed` describes them."""

    def parse(text: str) -> float:
        value = float(text) if text.isascii() else math.nan
        if not math.isfinite(value) or not accepts(value):
            raise ValueError
        return value

    return ParameterType(allowed, parse)


def optional(base: ParameterType) -> ParameterType:
    """Return the type of values of another type, or null."""
    return ParameterType(
        lambda: f"{base.description}, or null",
        lambda text: None if text.lower() in ("null", "none", "~", "") else base.parse(text),
    )


def choice(*choices: str) -> ParameterType:
    """Return the type of one of some words."""
    return ParameterType(" or ".join(choices), lambda text: choices[choices.index(text)], lambda: choices)


def matching(pattern: str, allowed: str, convert: Callable[[str], object]) -> ParameterType:
    """Return the type of the texts that match a pattern."""
    return ParameterType(allowed, lambda text: convert(re.fullmatch(pattern, text)[0]))  # type: ignore[index]


def _name(text: str) -> str:
    if text in ("", ".", "..") or "/" in text or not text.isprintable() or text[0] in "-=+@" or len(text) > 100:
        raise ValueError
    return text


def _export_dir(text: str) -> str:
    if text:
        return _name(text)
    note("export_dir is empty, as it may be in the reference: networks, logs and summaries have no folder of their own")
    return text


def _shuffle(text: str) -> bool:
    if text not in ("full", "simple"):
        return BOOLEANS[text.lower()]
    note(f"shuffle {text} is taken as true, as the reference takes any text")
    return True


BOOLEANS = dict.fromkeys(("true", "yes", "1"), True) | dict.fromkeys(("false", "no", "0"), False)
BOOLEAN = ParameterType("true, false, 1, 0, yes or no", lambda text: BOOLEANS[text.lower()])
NAME = ParameterType("a name without / or control characters, of up to 100 letters, not starting with - = + @", _name)
TAG = ParameterType("a name without /, or nothing", lambda text: text and _name(text))
EXPORT_DIR = ParameterType(f"{NAME.allowed}; or nothing", _export_dir)
SHUFFLE = ParameterType(BOOLEAN.allowed, _shuffle)
PATH = matching(r"[^\x00-\x1f\x7f]+", "a path", lambda text: Path(text).expanduser())
SECTION = integer(0, 99)
ADDRESS = matching(
    r"https?://[^\s/]+(/\S*)?", "an address such as http://127.0.0.1:8000", lambda text: text.rstrip("/")
)
FRACTION = number("a number between 0 and 1", lambda x: 0 < x < 1)
POSITIVE = number("a number above 0, up to 1e30", lambda x: 0 < x <= 1e30)
NUMBER = number("a number", lambda x: True)
THRESHOLD_FROM = optional(
    ParameterType("batches, clips, a number", lambda text: text if text in ("batches", "clips") else NUMBER.parse(text))
)
NOT_NEGATIVE = number("a number from 0", lambda x: x >= 0)


def as_text(value: object) -> str:
    """Return the text that a parameter's type parses to the value."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


REQUIRED = object()  # a file without the parameter is an error


@dataclass(frozen=True)
class Parameter:
    """A key of baseline.yaml and the option of the same name.

    Attributes
    ----------
    affects
        Which results depend on it: `features`; `training` (the network); `fit` (what a score fits after training);
        `test`; `nothing`. None: by the class that declares it, front end features, network training, score fit.
    default
        Of an extension's parameter. The baseline's own have their defaults in baseline.yaml.
    since_absent
        The value that a file written before the parameter existed stands for; a value equal to it is left out of
        keys and records, so that these files stay usable.
    short
        An older spelling of the option.
    """

    name: str
    type: ParameterType
    help: str
    affects: str | None = None
    default: object = None
    since_absent: object = REQUIRED
    short: str | None = None

    def check(self, owner: str) -> None:
        """Raise InputError if an extension's class, `owner`, declares it with an unusable name, type or default."""
        where = f"{owner} declares the parameter {self.name!r}"
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise InputError(f"{where}; give it a lower case name with _, such as n_neighbours")
        if not isinstance(self.type, ParameterType):
            raise InputError(
                f"{where} with the type {self.type!r}; give a type of common, such as integer(1) or FRACTION"
            )
        if self.type.read(as_text(self.default), f"{where} with the default ") != self.default:
            raise InputError(f"{where} with the default {self.default!r}; give {self.type.description}, not as text")


# --- networks, scores and front ends, built in and registered by extensions -------------------------------------------


@dataclass(frozen=True)
class Extension:
    """A user's file that registers networks, scores or front ends."""

    path: Path
    sha256: str


class Registry:
    """The classes that an option such as --score may name; built-in ones are imported when they are first asked for.

    A class derives from `base`, defines what `needed` lists, and has a `name` and `options`, the parameters of its own;
    `register` is a class decorator for extension files.
    """

    def __init__(self, option: str, affects: str, builtin: dict[str, str], base: str, needed: tuple[str, ...]):
        self.option, self.affects, self.builtin, self.base, self.needed = option, affects, builtin, base, needed
        self.registered: dict[str, Any] = {}

    def register(self, cls: type) -> type:
        """Make a class available by its name."""
        name = getattr(cls, "name", None)
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,39}", name):
            raise InputError(f"{cls.__name__}.name is {name!r}; give a name of letters, digits, - and .")
        if name.lower() in (known.lower() for known in self.names()):
            raise InputError(f"the name {name} is taken; {self.option} already has {', '.join(self.names())}")
        options = getattr(cls, "options", ())
        if not isinstance(options, tuple) or not all(isinstance(option, Parameter) for option in options):
            raise InputError(f"{name}.options is not a tuple of Parameter; write (Parameter(...),), with the comma")
        taken = {
            *BY_NAME,
            *RESERVED,
            *dir(Settings),
            *vars(Settings({})),
            *(p.name for registry in REGISTRIES for c in registry.registered.values() for p in c.options),
        }
        for parameter in options:
            parameter.check(name)
            for word in (parameter.name, (parameter.short or "").lstrip("-")):
                if word in taken:
                    raise InputError(
                        f"{name} declares the parameter {parameter.name!r}, but the name {word!r} is taken; give it "
                        f"another, such as own_{word}"
                    )
            taken |= {parameter.name}
        bases = [f"{c.__module__}.{c.__name__}" for c in cls.__mro__]
        if self.base not in bases:
            raise InputError(f"{name} does not derive from {self.base}; derive from it")
        own = {word for c in cls.__mro__[: bases.index(self.base)] for word in vars(c)}
        missing = [word for word in self.needed if word not in own]
        if missing:
            raise InputError(f"{name} has no {' and no '.join(missing)}; see README.md, Build on it")
        self.registered[name] = cls
        _registering.append((self, cls))
        return cls

    def names(self) -> tuple[str, ...]:
        """Return all names, the built-in ones first."""
        return (*self.builtin, *self.registered)

    def get(self, name: str) -> Any:
        """Return the class of a name; an unknown one is an InputError that lists the names."""
        if name in self.builtin:
            module, _, cls = self.builtin[name].partition(":")
            return getattr(importlib.import_module(module), cls)
        if name not in self.registered:
            raise InputError(
                f"{self.option} {name}: there is only {', '.join(self.names())}; give one of these, or the file that "
                f"registers it with --extension{did_you_mean(name, self.names())}"
            )
        return self.registered[name]

    @property
    def type(self) -> ParameterType:
        """The type of a parameter that takes one of the names."""
        further = ", or what a file given as --extension has"
        return ParameterType(
            lambda: " or ".join(self.names()) + ("" if self.registered else further),
            lambda text: self.names()[self.names().index(text)],
            self.names,
        )


NETWORKS = Registry(
    "--model",
    "training",
    {"DCASE2023T2-AE": "networks.autoencoder:AutoEncoder"},
    "networks.network.Network",
    ("forward",),
)
SCORES = Registry(
    "--score",
    "fit",
    {"MAHALA": "networks.mahalanobis:Mahalanobis", "MSE": "networks.scores:SquaredError"},
    "networks.scores.Score",
    ("unit", "of_clip"),
)
FRONT_ENDS = Registry(
    "--front_end",
    "features",
    {"log_mel": "datasets.front_ends:LogMel"},
    "datasets.front_ends.FrontEnd",
    ("unit", "__call__"),
)
REGISTRIES = (NETWORKS, SCORES, FRONT_ENDS)

# Names that an extension's parameter cannot have, beside those of the baseline's parameters and Settings' attributes.
RESERVED = frozenset(
    # options and arguments of the commands
    "challenge check checkpoint_path clip clips config d dataset dataset_parent_dir dataset_type defaults dev dry_run "
    "e eval eval_data_list exit_status extension false_alarms folders format from from_directory h help j jobs label "
    "labels lr machine_types model_name_suffix name network output report restart scores seeds subset systems tag "
    "test_only train_only use_ids wanted "
    # other keys of a network's record, a fitted score's entry in it, a checkpoint's identity and the cache's key
    "channels checksum clip_channels clips_manifest commit data date device evaluation extensions initial_weights_file "
    "instructions loss_unit n_clips n_target_clips network_sha256 resumed_from run sampling_rate seconds "
    "seconds_in_total sections sources versions".split()
)

_registering: list[tuple[Registry, type]] = []  # what the extension that is being loaded has registered
_loaded: dict[Extension, list[tuple[Registry, type]]] = {}


def load_extensions(paths: Iterable[Path]) -> None:
    """Register what these files define, in place of what other files have registered before."""
    for registry in REGISTRIES:
        registry.registered.clear()
    for path in dict.fromkeys(path.resolve() for path in paths):
        try:
            source = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the extension {path}: {error.strerror}; give a Python file") from error
        extension = Extension(path, hashlib.sha256(source).hexdigest())
        _registering.clear()
        if extension in _loaded:
            for registry, cls in _loaded[extension]:
                registry.register(cls)
        else:
            _execute(extension, source)
            _loaded[extension] = list(_registering)


def _execute(extension: Extension, source: bytes) -> None:
    """Run an extension file; whatever fails in it is an InputError that names the line."""
    name = f"extension_{extension.sha256[:12]}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(extension.path))
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    module.__file__ = str(extension.path)
    module.__source__ = source  # type: ignore[attr-defined] # which is hashed (runtime/sources.py)
    sys.modules[name] = module
    try:
        exec(compile(source, str(extension.path), "exec"), module.__dict__)  # what --extension is for
    except (Exception, SystemExit) as error:  # sys.exit(0) must not pass for success
        is_syntax = isinstance(error, SyntaxError) and error.filename == str(extension.path)
        line, what = (error.lineno, error.msg) if is_syntax else (_line_in(extension.path, error), str(error))  # type: ignore[union-attr]
        text = what if isinstance(error, InputError) else f"{type(error).__name__}: {what}; correct the extension"
        raise InputError(f"{extension.path}, line {line}: {text}") from error
    if not _registering:
        raise InputError(f"{extension.path} registers no network, score or front end; see README.md, Build on it")
    for _, cls in _registering:
        cls.extension = extension  # type: ignore[attr-defined]


def _line_in(path: Path, error: BaseException) -> int | None:
    """Return the line of a file that an error passed through last, if any."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None


def extension_error(error: BaseException) -> InputError | None:
    """Return what is wrong in an extension file, where an error passed through one that is loaded."""
    what = ": ".join(filter(None, (type(error).__name__, str(error))))
    for extension in _loaded:
        line = _line_in(extension.path, error)
        if line is not None:
            return InputError(f"{extension.path}, line {line}: {what}; correct the extension")
    for cls in (cls for registry in REGISTRIES for cls in registry.registered.values()):
        if str(error).startswith(f"{cls.__qualname__}."):  # a method that takes other arguments
            return InputError(f"{cls.extension.path}: {what}; correct the extension")
    return None


recognisers.append(extension_error)


def contract_error(owner: Any, what: str, value: object, advice: str) -> InputError:
    """Return the error of an extension's object that gave something unexpected; `what` is `.fit returned`, say."""
    where = f"{owner.extension.path}: " if owner.extension else ""
    return InputError(f"{where}{owner.name}{what} {_described(value)}; {advice}")


def _described(value: Any) -> str:
    """Return what a value is: its shape, the value of a simple one, or its type."""
    kind = type(value).__name__
    if hasattr(value, "shape"):
        return f"{kind.replace('Tensor', 'a tensor').replace('ndarray', 'an array')} of shape {tuple(value.shape)}"
    return repr(value)[:60] if value is None or isinstance(value, str | float | int) else f"a value of type {kind}"


def code_hashes(*classes: type, modules: tuple[str, ...] = ()) -> dict[str, str]:
    """Hash the code behind registered classes and further modules, without other registered classes beside it."""
    return sources.code_hashes(classes, modules, _registered_in)


def _registered_in(module: str) -> set[str]:
    """Return the names of a module's registered classes, built in or not."""
    builtin = [path.split(":") for registry in REGISTRIES for path in registry.builtin.values()]
    registered = [cls for registry in REGISTRIES for cls in registry.registered.values()]
    return {name for of, name in builtin if of == module} | {
        c.__qualname__ for c in registered if c.__module__ == module
    }


# --- the parameters ---------------------------------------------------------------------------------------------------

# fmt: off
PARAMETERS: dict[str, tuple[Parameter, ...]] = {  # name, type, help, affects
    "directories": (
        Parameter("dataset_directory", PATH, "recordings, in the challenge's layout", "nothing"),
        Parameter("cache_directory", optional(PATH), "features; null: beside the recordings", "nothing"),
        Parameter("result_directory", PATH, "scores, decisions and tables", "nothing"),
        Parameter("model_directory", PATH, "networks, thresholds and checkpoints", "nothing"),
        Parameter("log_directory", PATH, "losses of each epoch", "nothing"),
        Parameter("export_dir", EXPORT_DIR, "name of the experiment, a folder in the three above", "nothing"),
        Parameter("is_auto_download", BOOLEAN, "download recordings that a run needs and cannot find", "nothing"),
        Parameter("mirror", optional(ADDRESS), "download from here, by the same paths", "nothing"),
    ),
    "run": (
        Parameter("seed", integer(0, 2**32 - 1), "seed of all random generators", "training"),
        Parameter("use_cuda", BOOLEAN, "use a CUDA device if there is one, else the CPU", "nothing"),
        Parameter("gpu_id", integer(0), "number of the CUDA device", "nothing"),
        Parameter("threads", integer(1, 1024), "torch's threads on a CPU; decides the last digits", "training"),
        Parameter("instruction_set", choice(*INSTRUCTION_SETS),
                  "instructions of NumPy and torch on a CPU; decides the last digits", "training"),
        Parameter("log_interval", integer(1), "batches between two updates of the progress bar", "nothing"),
        Parameter("checkpoint_interval", integer(1), "epochs between two checkpoints", "nothing"),
    ),
    "features": (
        Parameter("channel", integer(0), "channel of the recordings, counted from 0", "features", since_absent=0),
        Parameter("mono", optional(BOOLEAN),
                  "for compatibility with the reference: whether recordings have one channel", "nothing",
                  since_absent=None),
        Parameter("front_end", FRONT_ENDS.type, "from samples to frames", "features", since_absent="log_mel"),
        Parameter("n_mels", integer(1), "mel bands", "features"),
        Parameter("frames", integer(1), "successive frames in a vector", "training"),
        Parameter("frame_hop_length", integer(1), "frames from one vector to the next", "training"),
        Parameter("n_fft", integer(2, 2**20), "samples of a Fourier transform", "features"),
        Parameter("hop_length", integer(1), "samples from one frame to the next", "features"),
        Parameter("power", POSITIVE, "exponent of the magnitude: 1 amplitude, 2 power", "features"),
        Parameter("fmin", NOT_NEGATIVE, "lowest mel band edge in Hz", "features"),
        Parameter("fmax", optional(POSITIVE), "highest mel band edge in Hz; null: half the sampling rate", "features"),
        Parameter("win_length", optional(integer(1)), "samples of the window; null: n_fft", "features"),
    ),
    "training": (
        Parameter("model", NETWORKS.type, "network", "training"),
        Parameter("initial_weights", optional(PATH), "network (.pth) to start from; null: random weights", "nothing",
                  since_absent=None),  # its content is part of a run's identity, not its path
        Parameter("batch_size", integer(1), "vectors in a batch", "training"),
        Parameter("epochs", integer(1), "passes over the training vectors", "training"),
        Parameter("learning_rate", POSITIVE, "learning rate of Adam", "training", short="-lr"),
        Parameter("precision", choice("float32", "tf32", "bf16"), "matrix products of the training step: tf32 keeps 10 "
                  "bits of their factors (on a CUDA device, a CPU uses float32), bf16 keeps 7 bits, also "
                  "in activations; weights, validation and scores stay float32", "training", since_absent="float32"),
        Parameter("shuffle", SHUFFLE, "shuffle the training vectors in each epoch", "training"),
        Parameter("validation_split", FRACTION, "share of the vectors kept for validation", "training"),
    ),
    "testing": (
        Parameter("score", SCORES.type, "anomaly score", "test"),
        Parameter("threshold_from", THRESHOLD_FROM, "score above which a clip is anomalous: a quantile of the gamma "
                  "distribution fitted to what the score was fitted to (MSE, MAHALA: batches), a quantile of the "
                  "training clips' scores, or this number; null: batches for MSE and MAHALA, clips for an extension's "
                  "score whose fit returns a value for each clip", "test", since_absent=None),
        Parameter("decision_threshold", FRACTION, "the quantile that is the threshold", "test"),
        Parameter("max_fpr", number("a number above 0, up to 1", lambda x: 0 < x <= 1),
                  "largest false positive rate of the partial AUC", "test"),
    ),
}
# fmt: on
BY_NAME = {parameter.name: parameter for group in PARAMETERS.values() for parameter in group}
SEEDS = replace(BY_NAME["seed"].type, allowed="whole numbers from 0, separated by spaces")  # each of --seeds
NOT_RECORDED = ("threads", "instruction_set")  # testing may differ from training in these: last digits only


def extension_parameters() -> dict[str, Parameter]:
    """Return the parameters of all registered extensions by name."""
    found = {}
    for registry in REGISTRIES:
        for cls in registry.registered.values():
            for parameter in cls.options:
                found[parameter.name] = replace(parameter, affects=parameter.affects or registry.affects)
    return found


class Settings:
    """The value of every parameter and option, as attributes.

    `given` holds the names set on the command line, `configured` those set in the --config file; the others have their
    defaults.
    """

    def __init__(self, values: dict[str, object], given: Iterable[str] = (), configured: Iterable[str] = ()):
        self.values, self.given, self.configured = dict(values), frozenset(given), frozenset(configured)

    def __getattr__(self, name: str):
        if name.startswith("__") or name not in self.__dict__.get("values", {}):
            raise AttributeError(f"there is no parameter {name}")
        return self.values[name]

    def replace(self, **values: object) -> "Settings":
        """Return settings with other values."""
        return Settings({**self.values, **values}, self.given, self.configured)

    def to_json(self) -> str:
        """Return all values as JSON: args.json beside a checkpoint, which the reference writes too."""
        return json.dumps(self.values, indent=1, default=str) + "\n"

    def parameters(self, *results: str) -> list[Parameter]:
        """Return the parameters that affect one of these results.

        Those of extensions count if they belong to the front end or the network that the settings name.
        """
        own = [*FRONT_ENDS.get(self.front_end).options, *NETWORKS.get(self.model).options]
        parameters = [*BY_NAME.values(), *(extension_parameters()[p.name] for p in own)]
        return [p for p in parameters if p.affects in results]

    def affecting(self, *results: str) -> dict[str, object]:
        """Return name and value of the parameters that affect one of these results.

        A value equal to what a parameter's absence stands for (since_absent) is left out.
        """
        values = {p.name: (self.values[p.name], p.since_absent) for p in self.parameters(*results)}
        return {name: _plain(value) for name, (value, absent) in values.items() if value != absent}

    def of_class(self, cls: Any, affects: str = "fit") -> dict[str, object]:
        """Return name and value of the parameters that a registered class declares and that affect this result."""
        declared = extension_parameters()
        names = [p.name for p in cls.options]  # type: ignore[attr-defined]
        return {name: _plain(self.values[name]) for name in names if declared[name].affects == affects}


def _plain(value: object) -> object:
    """Return a value in a form that JSON and torch.load accept."""
    return str(value) if isinstance(value, Path) else value


def read_defaults(path: Path = DEFAULTS) -> dict[str, object]:
    """Read and check baseline.yaml or a copy, and add the defaults of the loaded extensions' parameters."""
    values = {name: parameter.default for name, parameter in extension_parameters().items()} | read_values(path)
    values.setdefault("instruction_set", os.environ[INSTRUCTION_SET])
    for name, parameter in BY_NAME.items():
        if name not in values:
            if parameter.since_absent is REQUIRED:
                raise InputError(
                    f"{path}: key '{name}' is missing; it takes {parameter.type.description} (a file with some of "
                    "the keys is given as --config)"
                )
            values[name] = parameter.since_absent
    return values


def read_values(path: Path) -> dict[str, object]:
    """Return the parameters in a YAML file; relative directories become relative to the file's folder."""
    known, values = {**BY_NAME, **extension_parameters()}, {}
    for key, text in _read_yaml(path).items():
        if key not in known:
            raise InputError(
                f"{path}: unknown key '{key}'; the keys are {', '.join(known)}, and those of files given as "
                f"--extension{did_you_mean(key, known)}"
            )
        value = known[key].type.read(text, f"{path}: {key}: ")
        values[key] = path.parent / value if isinstance(value, Path) else value
    return values


def _read_yaml(path: Path) -> dict[str, str]:
    """Return keys and values of a YAML file as text; lists, mappings and repeated keys are reported.

    Keys may be written as options, which is the reference's form: `--epochs: 5`, `-lr: 0.001`.
    """
    given: dict[str, str] = {}
    by_short = {p.short: p.name for p in BY_NAME.values() if p.short}
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(100_001)
        if len(text) > 100_000:
            raise ValueError("it is longer than 100000 characters")
        node = yaml.compose(text, yaml.BaseLoader)
        if not isinstance(node, yaml.MappingNode):
            raise ValueError("it holds no `key: value` lines")
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
                raise ValueError(f"{str(key.value)[:40]} holds a list or a mapping; every key takes one value")
            name = str(by_short.get(key.value, key.value.removeprefix("--")))
            if name in given:
                raise ValueError(f"key '{name}' appears more than once; keep one")
            given[name] = value.value
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        is_missing = isinstance(error, FileNotFoundError)
        reason = "there is no such file" if is_missing else " ".join(str(error).split())[:300]
        advice = "correct it, or restore it from the repository" if path == DEFAULTS else "check the file"
        raise InputError(f"cannot read {path}: {reason}; {advice}") from error
    return given


# --- the command line -------------------------------------------------------------------------------------------------


def option_type(kind: ParameterType) -> Callable[[str], object]:
    """Return the argparse type of an option; relative paths become relative to the caller's folder."""

    def convert(text: str) -> object:
        try:
            value = kind.read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return Path.cwd() / value if isinstance(value, Path) else value

    return convert


def parse_settings(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None, names: Iterable[str] | None = None
) -> Settings:
    """Parse the command line on baseline.yaml, after adding --extension, --config and the named parameters (None: all).

    A wrong command line exits with status 2. Positional arguments may stand between options.
    """
    argv = _with_one_gpu(list(sys.argv[1:] if argv is None else argv))
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    _add_files(first)
    try:
        known = first.parse_known_args(argv)[0]
    except argparse.ArgumentError:  # the parser itself reports it
        known = argparse.Namespace(extension=[], config=None, defaults=DEFAULTS)
    load_extensions(known.extension)
    defaults = read_defaults(known.defaults)
    configured = read_values(known.config) if known.config else {}
    if "instruction_set" in configured:
        note(
            f"instruction_set of {known.config} is taken; it is an option, or ${INSTRUCTION_SET}, and no parameter now"
        )
    defaults |= configured
    here = Path.cwd() / DEFAULTS.name
    if known.config is None and known.defaults == DEFAULTS and here.is_file() and not here.samefile(DEFAULTS):
        note(f"{here} is not read; give it as --config {DEFAULTS.name}")
    _add_files(parser)
    _add_parameters(parser, defaults, names)
    options = [action.option_strings for action in parser._actions if action.help != argparse.SUPPRESS]
    known_words = {word for names in options for word in names}
    one_dash = [word for word in argv if word[:1] == "-" and word not in known_words and f"-{word}" in known_words]
    namespace, unknown = (None, one_dash) if one_dash else parser.parse_known_intermixed_args(argv)
    if unknown:
        near = did_you_mean([w.partition("=")[0] for w in unknown if w[:1] == "-"], map(" or ".join, options))
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
    given = vars(namespace)
    return Settings({**defaults, **given}, [name for name in given if name in defaults], configured)


def _with_one_gpu(argv: list[str]) -> list[str]:
    """Return the command line without the further numbers of `--gpu_id 0 1`; the reference takes the first too."""
    first = argv.index("--gpu_id") + 1 if "--gpu_id" in argv else len(argv)
    end = next((i for i in range(first, len(argv)) if not argv[i].isdecimal()), len(argv))
    if end > first + 1:
        note(f"--gpu_id {' '.join(argv[first:end])}: a run uses one device, here the first, {argv[first]}")
    return argv[: first + 1] + argv[max(end, first + 1) :]


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--extension",
        action="append",
        type=option_type(PATH),
        default=[],
        metavar="FILE.py",
        help="load a file that registers networks, scores or front ends; may be repeated",
    )
    parser.add_argument(
        "--config",
        type=option_type(PATH),
        metavar="FILE.yaml",
        help="take parameters from this file, which may hold some or all keys of baseline.yaml",
    )
    # read instead of baseline.yaml: a job's copy, which later edits do not reach
    parser.add_argument("--defaults", type=option_type(PATH), default=DEFAULTS, help=argparse.SUPPRESS)


def _add_parameters(parser: argparse.ArgumentParser, defaults: dict[str, object], names: Iterable[str] | None) -> None:
    """Add the options of parameters in groups, with their defaults in the help; those not given stay unset."""
    own = extension_parameters()
    wanted = set(BY_NAME if names is None else names)
    if "score" in wanted or "model" in wanted:
        wanted |= set(own)
    for title, parameters in {**PARAMETERS, "extensions": tuple(own.values())}.items():
        chosen = [parameter for parameter in parameters if parameter.name in wanted]
        group = parser.add_argument_group(f"parameters: {title}") if chosen else None
        for p in chosen:
            shown = defaults[p.name]
            if isinstance(shown, Path) and shown.is_relative_to(REPOSITORY):
                shown = f"{shown.relative_to(REPOSITORY)} in the repository"
            text = f"{p.help} [{p.type.description}; default: {as_text(shown)}]".replace("%", "%%")
            flags = [f"--{p.name}"] + ([p.short] if p.short else [])
            group.add_argument(  # type: ignore[union-attr]
                *flags, dest=p.name, type=option_type(p.type), default=argparse.SUPPRESS, metavar="X", help=text
            )
