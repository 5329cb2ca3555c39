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
import math
import os
import pkgutil
import platform
import re
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from runtime import REPOSITORY
from runtime.command import no_stop_signals
from runtime.errors import InputError, Stopped, note  # noqa: F401 (handed on)
from runtime.files import writing
from runtime.sources import code_hashes  # noqa: F401 (handed on)

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
    libraries read these variables on import, so values set otherwise are replaced; a note tells if it is too late.
    """
    os.environ[INSTRUCTION_SET] = name
    if name == "native" or platform.machine() not in ("x86_64", "AMD64"):
        return
    if "numpy" not in sys.modules:
        os.environ.update(AVX2_VARIABLES)
    elif not AVX2_VARIABLES.items() <= os.environ.items():
        note("NumPy was imported before this project, so the last digits are those of --instruction_set native")


def _wanted_instruction_set() -> str:
    """Find the instruction set on the command line, which is parsed later; an invalid one is reported then."""
    text = "\n".join(sys.argv[1:])
    for path in map(Path, re.findall(r"^--config[=\n](.*)$", text, re.MULTILINE)):
        if path.is_file():
            text += "\n" + path.read_text(errors="replace")
    wanted = re.search(r"^-*instruction_set(?:=|\n|: *)(\w+)", text, re.MULTILINE)
    name = wanted[1] if wanted else os.environ.get(INSTRUCTION_SET)
    return name if name in INSTRUCTION_SETS else INSTRUCTION_SETS[0]


if os.environ.get("MPLBACKEND", "").startswith("module:") and "IPython" not in sys.modules:
    del os.environ["MPLBACKEND"]  # of the notebook that started this process, where its module may be missing

set_instruction_set(_wanted_instruction_set())


# --- types of parameters ----------------------------------------------------------------------------------------------


@dataclass(eq=False)
class ParameterType:
    """A type of parameter: `parse` turns text into a value or raises an error, `allowed` describes valid text."""

    allowed: str
    parse: Callable[[str], object]

    def read(self, text: str, where: str = "") -> object:
        """Parse a text; `where` begins the error message."""
        try:
            return self.parse(text)
        except (ValueError, OverflowError, LookupError, TypeError) as error:
            near = did_you_mean(text, re.split(", | or ", self.allowed))
            raise InputError(f"{where}{text!r} is not allowed; it takes {self.allowed}{near}") from error


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return `; did you mean X?` with the most similar word, or ""."""
    by_name = {other.lower().lstrip("-"): other for other in words}
    near = difflib.get_close_matches(word.lower().lstrip("-"), by_name, 1)
    return f"; did you mean {by_name[near[0]]}?" if near else ""


def number(allowed: str, accepts: Callable[[float], bool], convert: Callable[[str], float] = float) -> ParameterType:
    """Make the type of the finite numbers that `accepts` approves; `allowed` describes them."""

    def parse(text: str) -> float:
        value = convert(text)
        if not math.isfinite(value) or not accepts(value):
            raise ValueError
        return value

    return ParameterType(allowed, parse)


def integer(minimum: int, maximum: int = 2**31 - 1) -> ParameterType:
    """Make the type of whole numbers from `minimum` to `maximum`."""
    allowed = f"a whole number from {minimum}" + (f" to {maximum}" if maximum != 2**31 - 1 else "")
    return number(allowed, lambda value: minimum <= value <= maximum, int)


def optional(base: ParameterType) -> ParameterType:
    """Make a type that takes null besides the values of another."""
    nothing = ("null", "none", "~", "")
    return ParameterType(f"{base.allowed}, or null", lambda text: None if text.lower() in nothing else base.parse(text))


def choice(*words: str) -> ParameterType:
    """Make a type that takes one of these words."""
    return ParameterType(" or ".join(words), lambda text: words[words.index(text)])


def matching(pattern: str, allowed: str, convert: Callable[[str], object]) -> ParameterType:
    """Make the type of texts that match a regular expression as a whole."""
    return ParameterType(allowed, lambda text: convert(re.fullmatch(pattern, text)[0]))  # type: ignore[index]


def _name(text: str) -> str:
    if text in ("", ".", "..") or "/" in text or not text.isprintable() or text[0] in "-=+@" or len(text) > 100:
        raise ValueError
    return text


BOOLEANS = dict.fromkeys(("true", "yes", "1"), True) | dict.fromkeys(("false", "no", "0"), False)
BOOLEAN = ParameterType("true, false, 1, 0, yes or no", lambda text: BOOLEANS[text.lower()])
SHUFFLE = ParameterType(  # the reference takes any text as true; its help names these two
    BOOLEAN.allowed, lambda text: text in ("full", "simple") or BOOLEANS[text.lower()]
)
NAME = ParameterType("a name without / or control characters, of up to 100 letters, not starting with - = + @", _name)
TAG = ParameterType(f"{NAME.allowed}; or nothing", lambda text: text and _name(text))
PATH = matching(r"[^\x00-\x1f\x7f]+", "a path", lambda text: Path(text).expanduser())
SECTION = integer(0, 99)
ADDRESS = matching(
    r"https?://[^\s/]+(/\S*)?", "an address such as http://127.0.0.1:8000", lambda text: text.rstrip("/")
)
FRACTION = number("a number between 0 and 1", lambda x: 0 < x < 1)
POSITIVE = number("a number above 0, up to 1e30", lambda x: 0 < x <= 1e30)
NUMBER = number("a number", lambda x: True)
NOT_NEGATIVE = number("a number from 0", lambda x: x >= 0)
THRESHOLD_FROM = optional(
    ParameterType("batches, clips, a number", lambda text: text if text in ("batches", "clips") else NUMBER.parse(text))
)


def as_text(value: object) -> str:
    """Write a value as its parameter's type reads it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


REQUIRED = object()  # a file must name the parameter


@dataclass(frozen=True)
class Parameter:
    """A key of baseline.yaml and the option of the same name.

    Attributes
    ----------
    affects
        Which results depend on it: `features`; `training` (the network); `fit` (what a score fits after training);
        `test`; `nothing`. By default, an extension's parameter affects what its class decides: a front end's
        features, a network's training, a score's fit.
    default
        Of an extension's parameter. The baseline's own have their defaults in baseline.yaml.
    since_absent
        Value assumed for files that predate the parameter; keys and records leave it out, so that these files stay
        usable.
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


# --- networks, scores and front ends, built in and registered by extensions -------------------------------------------


@dataclass(frozen=True)
class Extension:
    """A user's file that registers networks, scores or front ends."""

    path: Path


class Registry(ParameterType):
    """The classes that an option such as --score may name; built-in ones are imported when they are first asked for.

    A class has a `name` and `options`, the parameters of its own. `register` is a class decorator for extension files.
    """

    def __init__(self, affects: str, **builtin: str):
        self.affects, self.builtin = affects, builtin  # name -> `module:class`
        self.registered: dict[str, Any] = {}

    def register(self, cls: Any) -> Any:
        """Make a class available by its name."""
        name = str(cls.name)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,39}", name):
            raise InputError(f"{cls.__name__}.name is {name!r}; give a name of letters, digits, - and .")
        if name.lower() in map(str.lower, self.names()):
            raise InputError(f"the name {name} is taken, as are {', '.join(self.names())}; give another")
        taken = {*BY_NAME, *RESERVED, *dir(Settings({})), *extension_parameters()}
        for parameter in cls.options:
            if parameter.name in taken or not re.fullmatch(r"[a-z][a-z0-9_]*", parameter.name):
                raise InputError(
                    f"{name} declares the parameter {parameter.name!r}, which is taken or not lower case with _; give "
                    f"it another name, such as own_{parameter.name}"
                )
        cls.options = tuple(replace(option, affects=option.affects or self.affects) for option in cls.options)
        self.registered[name] = cls
        _registering.append(cls)
        return cls

    def names(self) -> tuple[str, ...]:
        """List all names, the built-in ones first."""
        return (*self.builtin, *self.registered)

    def get(self, name: str) -> Any:
        """Find a class by its name."""
        if name in self.builtin:
            return pkgutil.resolve_name(self.builtin[name])
        return self.registered[self.read(name)]  # type: ignore[index]

    @property
    def allowed(self) -> str:  # type: ignore[override]
        """The names, as error messages and help texts list them."""
        return " or ".join(self.names()) + ("" if self.registered else ", or what a file given as --extension has")

    def parse(self, text: str) -> str:  # type: ignore[override]
        """Check that a name is registered."""
        return choice(*self.names()).parse(text)  # type: ignore[return-value]


NETWORKS = Registry("training", **{"DCASE2023T2-AE": "networks.autoencoder:AutoEncoder"})
SCORES = Registry("fit", MAHALA="networks.mahalanobis:Mahalanobis", MSE="networks.scores:SquaredError")
FRONT_ENDS = Registry("features", log_mel="datasets.front_ends:LogMel")
REGISTRIES = (NETWORKS, SCORES, FRONT_ENDS)


# Names that an extension's parameter cannot have, beside those of the baseline's parameters and Settings' attributes.
RESERVED = frozenset(
    # options and arguments of the commands
    "challenge check checkpoint_path clip clips config d dataset dataset_parent_dir dataset_type defaults dev dry_run "
    "e eval eval_data_list exit_status extension false_alarms folders format from from_directory h help j jobs label "
    "labels list lr machine_types model_name_suffix name network output report restart scores seeds subset systems tag "
    "test_only train_only use_ids wanted "
    # other keys of a network's record, a fitted score's entry in it, a checkpoint's identity and the cache's key
    "channels checksum clip_channels clip_labels clips_manifest commit data date device evaluation extensions "
    "further_clips initial_weights_file instructions loss_unit n_clips n_target_clips network_sha256 resumed_from run "
    "sampling_rate seconds seconds_in_total sections sources trained_on versions".split()
)

_registering: list[type] = []  # by the extension that is being loaded


def load_extensions(paths: Iterable[Path]) -> None:
    """Register the classes of these files, in place of those of other files."""
    for registry in REGISTRIES:
        registry.registered.clear()
    for path in dict.fromkeys(path.resolve() for path in paths):
        with writing(path, "give a Python file", "read the extension"):
            source = path.read_bytes()
        name = f"extension_{hashlib.sha256(source).hexdigest()[:12]}"
        module = types.ModuleType(name)
        module.__file__ = str(path)
        module.__source__ = source  # type: ignore[attr-defined] # by which runtime knows an extension, and its code
        sys.modules[name] = module
        _registering.clear()
        if str(path.parent) not in sys.path:  # for modules beside it; last, so that they replace no other module
            sys.path.append(str(path.parent))
        try:
            code = compile(source, str(path), "exec")
        except SyntaxError as error:
            raise InputError(f"{path}, line {error.lineno}: SyntaxError: {error}; correct the extension") from error
        try:
            exec(code, module.__dict__)  # what --extension is for
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if not _registering:
            raise InputError(f"{path} registers no network, score or front end; see docs/extending.md")
        for cls in _registering:
            cls.extension = Extension(path)  # type: ignore[attr-defined]


def contract_error(owner: Any, what: str, value: Any, advice: str) -> InputError:
    """Describe an extension's unexpected value; `what` says where it came from, such as `.fit returned`."""
    given = f"values of shape {tuple(value.shape)}" if hasattr(value, "shape") else repr(value)[:60]
    where = f"{owner.extension.path}: " if owner.extension else ""
    return InputError(f"{where}{owner.name}{what} {given}; {advice}")


# --- the parameters ---------------------------------------------------------------------------------------------------

# fmt: off
PARAMETERS: dict[str, tuple[Parameter, ...]] = {  # name, type, help, affects
    "directories": (
        Parameter("dataset_directory", PATH, "recordings, in the challenge's layout", "nothing"),
        Parameter("cache_directory", optional(PATH), "features; null: beside the recordings", "nothing"),
        Parameter("result_directory", PATH, "scores, decisions and tables", "nothing"),
        Parameter("model_directory", PATH, "networks, thresholds and checkpoints", "nothing"),
        Parameter("log_directory", PATH, "losses of each epoch", "nothing"),
        Parameter("export_dir", TAG, "name of the experiment, a folder in the three above", "nothing"),
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
        Parameter("front_end", FRONT_ENDS, "from samples to frames", "features", since_absent="log_mel"),
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
        Parameter("model", NETWORKS, "network", "training"),
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
        Parameter("score", SCORES, "anomaly score", "test"),
        Parameter("threshold_from", THRESHOLD_FROM, "score above which a clip is anomalous: a quantile of the gamma "
                  "distribution of the values the score was fitted to (MSE, MAHALA: one for each batch), a quantile "
                  "of the training clips' scores, or this number; null: batches for MSE and MAHALA, clips for an "
                  "extension's score whose fit returns a value for each clip", "test", since_absent=None),
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
    """Map the parameters of all loaded extensions by name."""
    classes = [cls for registry in REGISTRIES for cls in registry.registered.values()]
    return {parameter.name: parameter for cls in classes for parameter in cls.options}


class Settings(argparse.Namespace):
    """The value of every parameter and option, as attributes.

    `given` holds the names set on the command line, `configured` those set in the --config file; the others have their
    defaults.
    """

    def __init__(self, values: dict[str, object], given: Iterable[str] = (), configured: Iterable[str] = ()):
        vars(self).update(values)
        self.values, self.given, self.configured = dict(values), frozenset(given), frozenset(configured)

    def replace(self, **values: object) -> "Settings":
        """Return settings with other values."""
        return Settings({**self.values, **values}, self.given, self.configured)

    def parameters(self, *results: str) -> list[Parameter]:
        """List the parameters that affect one of these results, those of the chosen front end and network included."""
        own = [*FRONT_ENDS.get(self.front_end).options, *NETWORKS.get(self.model).options]
        return [parameter for parameter in [*BY_NAME.values(), *own] if parameter.affects in results]

    def affecting(self, *results: str) -> dict[str, object]:
        """Map the parameters that affect one of these results to their values, without those equal to since_absent."""
        return self._plain(self.parameters(*results))

    def of_class(self, cls: Any) -> dict[str, object]:
        """Map a score's own parameters that affect its fit to their values."""
        return self._plain(parameter for parameter in cls.options if parameter.affects == "fit")

    def _plain(self, parameters: Iterable[Parameter]) -> dict[str, object]:
        """Map parameters to values that JSON and torch.load accept, without those equal to since_absent."""
        values = {p.name: self.values[p.name] for p in parameters if self.values[p.name] != p.since_absent}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def read_defaults(path: Path = DEFAULTS) -> dict[str, object]:
    """Read and check baseline.yaml or a copy, and add the defaults of the loaded extensions' parameters."""
    absent = {name: parameter.since_absent for name, parameter in BY_NAME.items()}
    own = {name: parameter.default for name, parameter in extension_parameters().items()}
    values = {**absent, "instruction_set": os.environ[INSTRUCTION_SET], **own, **read_values(path)}
    for name, value in values.items():
        if value is REQUIRED:
            raise InputError(
                f"{path}: key '{name}' is missing; it takes {BY_NAME[name].type.allowed} (a file of only some keys "
                "is given with --config)"
            )
    return values


def read_values(path: Path) -> dict[str, object]:
    """Read the parameters in a YAML file; relative directories become relative to the file's folder.

    Keys may be written as options, which is the reference's form: `--epochs: 5`, `-lr: 0.001`.
    """
    parameters, values = {**BY_NAME, **extension_parameters()}, {}
    by_short = {parameter.short: name for name, parameter in parameters.items() if parameter.short}
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    except (OSError, yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"cannot read {path}: {reason}; check the file") from error
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"cannot read {path}: it holds no `key: value` lines; check the file")
    for key, value in node.value:
        name = by_short.get(key.value, str(key.value).removeprefix("--"))
        if name not in parameters:
            raise InputError(
                f"{path}: unknown key '{name}'; the keys are {', '.join(parameters)}, and those of files given as "
                f"--extension{did_you_mean(name, parameters)}"
            )
        if name in values:
            raise InputError(f"{path}: key '{name}' appears more than once; keep one")
        if not isinstance(value, yaml.ScalarNode):
            raise InputError(f"{path}: {name} holds a list or a mapping; every key takes one value")
        values[name] = parameters[name].type.read(value.value, f"{path}: {name}: ")
        if isinstance(values[name], Path):
            values[name] = path.parent.joinpath(values[name])  # type: ignore[arg-type]
    return values


# --- the command line -------------------------------------------------------------------------------------------------


def option_type(kind: ParameterType) -> Callable[[str], object]:
    """Make an option's argparse type; relative paths become relative to the caller's folder."""

    def convert(text: str) -> object:
        try:
            value = kind.read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return Path.cwd() / value if isinstance(value, Path) else value

    return convert


def parse_settings(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None, names: Iterable[str] = BY_NAME
) -> Settings:
    """Parse the command line on top of baseline.yaml, with --extension, --config and the named parameters.

    A wrong command line exits with status 2. Positional arguments may stand between options.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--gpu_id" in argv:  # `--gpu_id 0 1` is the first device, as in the reference
        further = argv.index("--gpu_id") + 2
        while argv[further:] and argv[further].isdecimal():
            del argv[further]
    first = argparse.ArgumentParser(parser.prog, add_help=False, allow_abbrev=False)
    _add_files(first)
    files = first.parse_known_args(argv)[0]
    load_extensions(files.extension)
    configured = read_values(files.config) if files.config else {}
    defaults = read_defaults(files.defaults) | configured
    here = Path.cwd() / DEFAULTS.name
    if files.config is None and files.defaults == DEFAULTS and here.is_file() and not here.samefile(DEFAULTS):
        note(f"{here} is not read; give it with --config {DEFAULTS.name}")
    _add_files(parser)
    _add_parameters(parser, defaults, names)
    with no_stop_signals():  # one would leave argparse's parser in between, with another error
        namespace, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        near = did_you_mean(unknown[0].partition("=")[0], parser._option_string_actions)
        near = "; repeat --extension for each file" if unknown[0].endswith(".py") else near
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
    given = vars(namespace)
    return Settings({**defaults, **given}, [name for name in given if name in defaults], configured)


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


def _add_parameters(parser: argparse.ArgumentParser, defaults: dict[str, object], names: Iterable[str]) -> None:
    """Add the options of parameters in groups, with their defaults in the help; those not given stay unset."""
    own, wanted = extension_parameters(), {*names}
    if wanted & {"score", "model"}:
        wanted |= {*own}
    for title, parameters in {**PARAMETERS, "extensions": tuple(own.values())}.items():
        group = parser.add_argument_group(f"parameters: {title}")
        for p in parameters:
            if p.name in wanted:
                text = f"{p.help} [{p.type.allowed}; default: {as_text(defaults[p.name])}]".replace("%", "%%")
                group.add_argument(
                    *filter(None, (f"--{p.name}", p.short)),
                    type=option_type(p.type),
                    default=argparse.SUPPRESS,
                    metavar="X",
                    help=text,
                )
