"""What the tests share: train.py called in this process, a small trained run, and the long runs in the background."""

import sys

from common import set_instruction_set

set_instruction_set("avx2")  # before anything imports NumPy: calls in this process then compute as the scripts do

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from synthetic import machine_folder, small_run, write_machine

import train

LONG = (
    "test_attacks.py",
    "test_examples.py",
    "test_parity.py",
    "test_quickstart.py",
)  # they wait for runs that are made while the other tests run


class Outcome(NamedTuple):
    """What a call of a command gave."""

    status: int
    out: str
    err: str


@pytest.fixture
def call_command(monkeypatch, capsys) -> Callable[..., Outcome]:
    """Call a command's main() with a command line; the same code as the command, without the imports' seconds."""

    def call(main: Callable[[], int], *words: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["program", *map(str, words)])
        capsys.readouterr()
        try:
            status = main()
        except SystemExit as stop:
            status = stop.code
        return Outcome(status, *capsys.readouterr())

    return call


@pytest.fixture
def call_train(call_command) -> Callable[..., Outcome]:
    """Call train.py with a command line."""
    return partial(call_command, train.main)


@pytest.fixture
def workplace(tmp_path) -> Path:
    """Return a folder with the clips of one small machine type in its data folder."""
    write_machine(machine_folder(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def options(workplace) -> list[str]:
    """Return the options of a small run on the workplace."""
    return small_run(workplace)


@pytest.fixture(scope="session")
def background():
    """Yield submit(name, function, *arguments) -> Future, which makes each named run once, one after the other."""
    futures: dict[str, Future] = {}
    with ThreadPoolExecutor(1) as pool:

        def submit(name: str, function: Callable, *arguments: object) -> Future:
            if name not in futures:
                futures[name] = pool.submit(function, *arguments)
            return futures[name]

        yield submit
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session", autouse=True)
def long_runs(request, background, tmp_path_factory):
    """Start the long runs of the tests that were selected, before the first test."""
    for module in {item.module for item in request.session.items if item.path.name in LONG}:
        module.begin(background, tmp_path_factory)


def pytest_terminal_summary(terminalreporter):
    """End with how many cases of the reference were compared."""
    if "test_parity" in sys.modules:
        terminalreporter.write_line(sys.modules["test_parity"].verdict())


def pytest_collection_modifyitems(items):
    """Put the tests that wait for long runs last."""
    items.sort(key=lambda item: item.path.name in LONG)
