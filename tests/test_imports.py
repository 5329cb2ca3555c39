"""The import directions, and what is imported only where it is needed."""

import ast
import sys

import pytest
from synthetic import REPOSITORY, run

ALLOWED = {  # package -> the project's packages that it may import
    "common": set(),
    "datasets": {"common", "datasets"},
    "networks": {"common", "networks"},
    "tools": {"common", "datasets", "networks", "tools"},
    "train": {"common", "datasets", "networks", "tools"},
}
COMMANDS = {  # what two commands may import beside that: a check among the data sets, and what calls train.py
    "check": {"tools.options", "tools.progress"},
    "run_jobs": {"train"},
    "slurm_array": {"train"},
}
LEAVES = {"metrics", "options", "plots", "progress", "result_csv"}  # tools that know nothing of data sets or networks
FILES = [
    path
    for path in [*REPOSITORY.glob("*.py"), *REPOSITORY.glob("*/*.py")]
    if path.parent.name in (*ALLOWED, REPOSITORY.name)
]


def imports(path, types_too):
    """Return the project's modules that a file imports, `if TYPE_CHECKING:` counted or not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = [n for n in ast.walk(tree) if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
    skipped = set() if types_too else {id(n) for block in typing for n in ast.walk(block)}
    nodes = [node for node in ast.walk(tree) if id(node) not in skipped]
    names = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name for name in names if name.partition(".")[0] in ALLOWED}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_point_one_way(path):
    package = path.stem if path.parent == REPOSITORY else path.parent.name
    for name in imports(path, types_too=True):
        assert name.partition(".")[0] in ALLOWED[package] or name in COMMANDS.get(path.stem, ())
    if package == "tools" and path.stem in LEAVES:
        for name in imports(path, types_too=False):
            assert name == "common" or name.removeprefix("tools.") in LEAVES


def test_every_file_is_looked_at():
    assert {path.name for path in FILES} >= {"train.py", "common.py", "engine.py", "cache.py", "summarize_results.py"}


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("import train; train.parse_arguments(['--dataset', 'x', '-d'])", ("numpy", "torch", "librosa", "matplotlib")),
        ("import tools.testing", ("librosa", "soundfile", "sklearn", "scipy.stats")),
        ("import tools.summarize_results", ("torch", "librosa", "matplotlib")),
        ("import tools.run_jobs", ("numpy", "torch")),
    ],
)
def test_slow_packages_are_imported_only_where_they_are_needed(command, absent):
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); {command}; print(*sys.modules)"
    process = run(sys.executable, "-c", code)
    assert process.returncode == 0, process.stderr
    assert not set(absent) & set(process.stdout.split())


def test_torchvision_is_imported_nowhere():
    for path in REPOSITORY.glob("**/*.py"):
        if ".venv" not in path.parts and path.name != "test_imports.py":
            assert "import torchvision" not in path.read_text(encoding="utf-8")
