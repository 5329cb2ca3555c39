"""The source code that decides numbers, hashed, so that no result passes for that of other code.

A hash covers a file's code as Python parses it: comments, docstrings and layout do not count, nor do registered classes
other than the hashed one. The files of networks/ and datasets/ are read when this module is imported, beside the code
that runs: a later edit, while a run lasts or jobs wait, is not what was executed.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path

from runtime import REPOSITORY
from runtime.wording import listed

PACKAGES = ("networks", "datasets")  # of the repository, whose code decides numbers
# Behind the numbers of any training: the loop, the steps, the first weights, the batches.
TRAINING = (
    "train",
    "networks.training",
    "networks.fast_step",
    "networks.checkpoint",
    "networks.training_set",
    "datasets.vectors",
)
OURS = {*PACKAGES, "train"}
NO_NUMBERS = {"common", "tools", "runtime", *sys.stdlib_module_names}
REGISTERS = r"([\w.]+\.)?(register|score_function)\b"  # a decorator that does

_code: dict[str, bytes | None] = {  # by module; None for one of a library, or without a file
    f"{package}.{path.stem}": path.read_bytes() for package in PACKAGES for path in (REPOSITORY / package).glob("*.py")
}
_code["train"] = (REPOSITORY / "train.py").read_bytes()


def _commit() -> str | None:
    """Ask git for the repository's commit, with -dirty if files differ from it; None without git."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if (REPOSITORY / ".git").exists():
            return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return None


COMMIT = _commit()  # of the code that runs, like _code


def code_hashes(*classes: type, modules: tuple[str, ...] = ()) -> dict[str, str]:
    """Hash the code behind registered classes, and behind further modules of the repository.

    It is that of the classes' own modules and their bases', and of what these import: from a user's file every file of
    the user and of the repository's PACKAGES, within the repository those of the same package.

    Returns
    -------
    File (`networks/autoencoder.py`; an extension's name alone; its helpers as they are imported) -> SHA-256.
    """
    bases = [base for cls in classes for base in cls.__mro__]
    hashed = frozenset(f"{base.__module__}:{base.__qualname__}" for base in bases)
    waiting = [*modules, *(base.__module__ for base in bases)]
    hashes: dict[str, str] = {}
    seen = set()
    while waiting:
        module = waiting.pop()
        if module not in seen and _read(module) is not None:
            hashes[_file(module)], imported = _hash(module, hashed)
            package = _package(module)
            waiting += [name for name in imported if package not in OURS or package == _package(name)]
        seen.add(module)
    return dict(sorted(hashes.items()))


def changed_files(recorded: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    """List the files whose code differs from the recorded hashes."""
    return [file for file, sha256 in current.items() if recorded.get(file) != sha256]


def changed_since(recorded: Mapping[str, str], current: Mapping[str, str], commit: str | None) -> str:
    """Say which code has changed since a commit, such as `networks/network.py changed`; "" if none has."""
    changed = changed_files(recorded, current)
    if commit and OURS & {_package(file.replace("/", ".")) for file in changed}:
        return f"{listed(changed)} changed (it was commit {commit[:10]}{' with changes' * ('-dirty' in commit)})"
    return listed(changed) and f"{listed(changed)} changed"


@functools.cache
def _hash(module: str, hashed: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """Hash a module's code, and list the modules it imports.

    Registered classes and functions other than the `hashed` ones count if the rest uses them.
    """
    tree = ast.parse(_read(module) or b"")
    names = {node: getattr(node, "name", "") for node in tree.body}
    used, kept = {"train"}, set[ast.stmt]()  # of train.py, what trains and all that it calls
    if module != "train":
        used = {name for node, name in names.items() if not _is_registered(node) or f"{module}:{name}" in hashed}
    while more := {node for node, name in names.items() if name in used} - kept:
        kept |= more
        used |= {node.id for one in more for node in ast.walk(one) if isinstance(node, ast.Name)}
    tree.body = [node for node in tree.body if node in kept]
    return hashlib.sha256(repr(_canonical(tree)).encode()).hexdigest(), tuple(_imported(tree, module))


def _is_registered(node: ast.stmt) -> bool:
    """Tell whether a decorator registers a class or function."""
    return any(re.match(REGISTERS, ast.unparse(decorator)) for decorator in getattr(node, "decorator_list", ()))


def _read(module: str) -> bytes | None:
    """Read a module of PACKAGES or of the user's, once; None for any other."""
    if module not in _code:
        loaded = sys.modules.get(module)
        path = Path(getattr(loaded, "__file__", None) or getattr(_spec(module), "origin", None) or "")
        is_library = {"site-packages", "dist-packages"} & {*path.parts} or _package(module) in NO_NUMBERS
        content = path.read_bytes() if path.suffix == ".py" and not is_library else None
        _code[module] = getattr(loaded, "__source__", content)
    return _code[module]


def _spec(module: str) -> ModuleSpec | None:
    """Find where a module comes from, before it is imported too, as one in a function may be."""
    parent = module.rpartition(".")[0]
    if not parent or _read(parent) is not None:  # to look for a library's might import the library
        with contextlib.suppress(ImportError, ValueError):
            return importlib.util.find_spec(module)
    return None


def _file(module: str) -> str:
    """Name the file under which a module's hash is recorded."""
    loaded = sys.modules.get(module)
    if hasattr(loaded, "__source__"):
        return Path(str(loaded.__file__)).name  # type: ignore[union-attr]
    return f"{module.replace('.', '/')}.py"


def _package(module: str) -> str:
    return module.partition(".")[0]


def _imported(tree: ast.Module, module: str) -> Iterator[str]:
    """Yield the modules that a module may import, by their full names."""
    package = getattr(_spec(module), "parent", None)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _canonical(node: object) -> object:
    """Turn a syntax tree into nested lists without positions and docstrings, the same for each version of Python."""
    if isinstance(node, list):
        return [_canonical(item) for item in node if not _is_docstring(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [[name, _canonical(value)] for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [type(node).__name__, *fields]


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
