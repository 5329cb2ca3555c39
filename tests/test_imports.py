"""The import direction, and what is imported only where it is needed."""

import ast
import sys

import pytest
from synthetic import REPOSITORY, python, run

LAYERS = (  # from the bottom up: a package imports itself and those before it
    ("runtime",),
    ("common",),
    ("datasets",),
    ("networks",),
    ("tools.results",),
    ("tools.report", "tools.jobs"),  # and, of these two, none but itself
    ("train", "tools"),  # the program, and the commands at the top of tools/
)
EXCEPTIONS = {  # what a command also imports
    "tools.results.__main__": {"tools.report"},  # --report
    "tools.jobs.pool": {"train"},  # runs it in its own process
    "tools.quickstart": set(),
}
TOP_LEVEL = {"runtime", "common", "train", "datasets", "networks", "tools"}
FILES = sorted(
    path
    for pattern in ("*.py", "runtime/*.py", "datasets/**/*.py", "networks/**/*.py", "tools/**/*.py", "examples/*.py")
    for path in REPOSITORY.glob(pattern)
)


def module_of(path):
    """Return a file's module: tools.results.files."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def package_of(module):
    """Return the package that a module belongs to."""
    packages = [package for layer in LAYERS for package in layer if f"{module}.".startswith(f"{package}.")]
    return max(packages, key=len, default=None)


def layer_of(package):
    """Return the number of a package's layer, counted from the bottom."""
    return next(i for i, layer in enumerate(LAYERS) if package in layer)


def imports(path):
    """Return the project's modules that a file imports, those for types only too."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            within = {f"{node.module}.{alias.name}" for alias in node.names}
            are_modules = {name for name in within if is_module(name)}
            names |= are_modules or {node.module}
    return {name for name in names if name.partition(".")[0] in TOP_LEVEL}


def is_module(name):
    """Return whether a dotted name is a module or package of the project."""
    path = REPOSITORY.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_point_one_way(path):
    module = module_of(path)
    package = package_of(module)
    if path.parent.name == "examples":  # what a user's extension may import
        assert {package_of(name) for name in imports(path)} <= {"common", "datasets", "networks"}
        return
    assert package is not None
    for name in imports(path):
        other = package_of(name)
        allowed = other == package != "train" or layer_of(other) < layer_of(package)
        assert allowed or other in EXCEPTIONS.get(module, ()), f"{module} imports {name}"


def test_only_jobs_import_train():
    assert [path.name for path in FILES if "train" in imports(path)] == ["pool.py"]


def test_every_file_is_checked():
    names = {path.name for path in FILES}
    assert names >= {"train.py", "common.py", "training.py", "cache.py", "record.py", "pool.py", "page.py", "score.py"}
    assert {package_of(module_of(path)) for path in FILES} >= {package for layer in LAYERS for package in layer}


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("import tools.results.__main__, networks.record", ("torch", "librosa", "matplotlib")),
        ("import tools.jobs.__main__", ("numpy", "torch")),
    ],
)
def test_slow_packages_are_imported_only_where_they_are_needed(command, absent):
    process = run(*python(command, "print(*sys.modules)"))
    assert process.returncode == 0, process.stderr
    assert not set(absent) & set(process.stdout.split())


def test_training_starts_with_few_packages():
    """Others are imported when they are used, or not at all."""
    process = run(*python("import train, tools.results.write_results; print(*sys.modules)"))
    assert process.returncode == 0, process.stderr
    assert not {"librosa", "numba", "scipy.stats", "sklearn", "pandas"} & set(process.stdout.split())


def first_imports(path):
    """Return the top-level packages that a file imports, in order, those of the standard library left out."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
    return [name.partition(".")[0] for name in names if name.partition(".")[0] not in sys.stdlib_module_names]


def test_common_is_imported_before_numpy():
    """It fixes the instruction set: every package imports it first, and so does every program."""
    programs = [path for path in FILES if path.name == "train.py" or "if not __package__" in path.read_text()]
    assert len(programs) >= 12
    for path in (*(REPOSITORY / name / "__init__.py" for name in ("datasets", "networks", "tools")), *programs):
        assert first_imports(path)[0] == "common", path


ASK = "import common, os; print(os.environ.get('ATEN_CPU_CAPABILITY'), common.INSTRUCTION_SET in os.environ)"


@pytest.mark.parametrize(
    ("first", "words", "variable", "expected"),
    [
        ("", [], "", "avx2 True"),
        ("", ["--instruction_set", "native"], "", "None True"),
        ("", ["--instruction_set=native"], "avx2", "None True"),
        ("", [], "native", "None True"),
        ("", ["--config", "c.yaml"], "", "None True"),
        ("import numpy; ", [], "", "None True"),
    ],
)
def test_the_instruction_set_is_fixed_when_common_is_imported(tmp_path, first, words, variable, expected):
    (tmp_path / "c.yaml").write_text("epochs: 3\ninstruction_set: native\n")
    process = run(*python(first + ASK), *words, cwd=tmp_path, BASELINE_INSTRUCTION_SET=variable)
    assert process.stdout == f"{expected}\n"
    assert ("NumPy was imported before this project" in process.stderr) == bool(first)


def test_torchvision_is_imported_nowhere():
    for path in REPOSITORY.glob("**/*.py"):
        if ".venv" not in path.parts and path.name != "test_imports.py":
            assert "import torchvision" not in path.read_text(encoding="utf-8")
