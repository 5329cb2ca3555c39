"""The import direction, and what is imported only where it is needed."""

import ast
import sys

import pytest
from synthetic import REPOSITORY, python, run

LAYERS = {  # package -> layer: it imports itself and those of lower layers
    "runtime": 0,
    "common": 1,
    "datasets": 2,
    "networks": 3,
    "tools.results": 4,
    "tools.report": 5,
    "tools.jobs": 5,
    "train": 6,  # the program
    "tools": 6,  # the commands at the top of tools/
}
EXCEPTIONS = {  # what a command also imports
    ("tools.results.__main__", "tools.report"),  # --report
    ("tools.jobs", "train"),  # runs it in its own process
}
FILES = sorted(
    path
    for pattern in ("*.py", "runtime/*.py", "datasets/**/*.py", "networks/**/*.py", "tools/**/*.py", "examples/*.py")
    for path in REPOSITORY.glob(pattern)
)


def parse(path):
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(nodes):
    """Return the dotted names that statements import, those for types only too."""
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def package_of(name):
    """Return the package that a dotted name belongs to; None if it is not the project's."""
    return max((package for package in LAYERS if f"{name}.".startswith(f"{package}.")), key=len, default=None)


def test_imports_point_one_way():
    assert len(FILES) > 50
    for path in FILES:
        module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        package, others = package_of(module), {*map(package_of, imports(ast.walk(parse(path))))} - {None}
        if package is None:  # an example: what a user's extension may import
            assert others <= {"common", "datasets", "networks"}
            continue
        for other in others - {package}:
            allowed = LAYERS[other] < LAYERS[package] or (module, other) in EXCEPTIONS
            assert allowed, f"{module} imports {other}"


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("import tools.results.__main__, networks.record", "torch librosa matplotlib"),
        ("import tools.jobs", "numpy torch"),
        ("import train, tools.results.write_results", "librosa numba scipy.stats sklearn pandas"),
    ],
)
def test_slow_packages_are_imported_only_where_they_are_needed(command, absent):
    process = run(*python(command, "print(*sys.modules)"))
    assert process.returncode == 0, process.stderr
    assert not {*absent.split()} & set(process.stdout.split())


def test_common_is_imported_before_numpy():
    """It fixes the instruction set: every package imports it first, and so does every program."""
    programs = [path for path in FILES if path.name == "train.py" or "if not __package__" in path.read_text()]
    assert len(programs) >= 12
    for path in (*(REPOSITORY / name / "__init__.py" for name in ("datasets", "networks", "tools")), *programs):
        packages = [name.partition(".")[0] for name in imports(parse(path).body)]
        assert next(name for name in packages if name not in sys.stdlib_module_names) == "common", path


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
