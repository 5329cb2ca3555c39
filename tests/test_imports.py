"""The import direction, and what is imported only where it is needed."""

import ast

import pytest
import torch
from synthetic import REPOSITORY, make_settings, python, run, small_run

from datasets.run_data import RunData

LAYERS = (  # from the bottom up: a package imports itself and those before it
    ("common",),
    ("runtime",),
    ("datasets",),
    ("networks",),
    ("tools.results",),
    ("tools.report", "tools.submission", "tools.jobs"),  # and, of these three, none but itself
    ("train", "tools"),  # the program, and the commands at the top of tools/
)
EXCEPTIONS = {  # what a command also imports
    "tools.results.__main__": {"tools.report"},  # --report
    "tools.quickstart": set(),
}
TOP_LEVEL = {"common", "train", "datasets", "networks", "tools"}
FILES = sorted(
    path
    for pattern in ("*.py", "datasets/**/*.py", "networks/**/*.py", "tools/**/*.py", "examples/*.py")
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


def test_no_module_imports_train():
    assert [path for path in FILES if "train" in imports(path)] == []


def test_every_file_is_checked():
    names = {path.name for path in FILES}
    assert names >= {"train.py", "common.py", "training.py", "cache.py", "record.py", "pool.py", "page.py", "score.py"}
    assert {package_of(module_of(path)) for path in FILES} >= {package for layer in LAYERS for package in layer}


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("import train; train.parse_arguments(['--dataset', 'x', '-d'])", ("numpy", "torch", "librosa", "matplotlib")),
        ("import tools.results.__main__, networks.record", ("torch", "librosa", "matplotlib")),
        ("import tools.report.report", ("torch", "sklearn", "matplotlib")),  # its processes have them
        ("import tools.jobs.__main__", ("numpy", "torch")),
    ],
)
def test_slow_packages_are_imported_only_where_they_are_needed(command, absent):
    process = run(*python(command, "print(*sys.modules)"))
    assert process.returncode == 0, process.stderr
    assert not set(absent) & set(process.stdout.split())


@pytest.mark.parametrize("is_cached", [True, False])
def test_training_starts_with_few_packages(workplace, is_cached):
    if is_cached:
        settings = make_settings(dataset_directory=workplace / "data")
        data = RunData("DCASE2023T2fan", False, None, settings)
        data.vectors(data.training_clips(), settings, torch.device("cpu"))
    code = f"""
import train

def begin(*_):
    print(*sys.modules)
    import tools.results.sections  # which testing needs too
    print(*sys.modules)
    sys.exit()

train.train_epochs = begin
train.run(train.parse_arguments({small_run(workplace)}))
"""
    process = run(*python(code))
    assert process.returncode == 0, process.stderr
    training, testing = (set(line.split()) for line in process.stdout.splitlines()[-2:])
    assert "torch" in training
    assert ("soundfile" in training) is not is_cached  # it reads the clips
    assert not training & {"librosa", "numba", "scipy.stats", "sklearn", "pandas"}
    assert not testing & {"librosa", "numba", "scipy.stats", "sklearn", "pandas"}


def test_torchvision_is_imported_nowhere():
    for path in REPOSITORY.glob("**/*.py"):
        if ".venv" not in path.parts and path.name != "test_imports.py":
            assert "import torchvision" not in path.read_text(encoding="utf-8")
