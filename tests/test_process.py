"""A command as a process: signals, closed streams, missing memory or home, unexpected errors."""

import errno
import fcntl
import io
import shlex
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

from common import Stopped

import pytest
from synthetic import REPOSITORY, RUN, checkpoint_path, error_of, python, run, succeed

from runtime import progress
from runtime.command import STOP_SIGNALS, run_command


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stop_signal_ends_a_command_once_and_decides_its_status(number, status, capsys):
    saved = []

    def work():
        try:
            signal.raise_signal(number)  # to this thread: a test runner may have others
            time.sleep(60)
        except Stopped:
            for further in STOP_SIGNALS:
                signal.raise_signal(further)
            saved.append(True)
            raise

    assert (run_command(work), saved) == (status, [True])
    assert capsys.readouterr().err.startswith(f"error: stopped by {number.name}; ")
    for further in STOP_SIGNALS:  # which run_command blocks
        assert signal.sigtimedwait([further], 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def test_a_test_waits_for_the_training_of_its_network(call_train, workplace, trained):
    with checkpoint_path(workplace).with_name("lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(0.5, lock.close).start()
        assert f"waiting for another process that trains {RUN}" in succeed(call_train(*trained, "--test_only"))
        assert lock.closed


def test_a_closed_output_ends_the_run_with_the_reason(workplace, options):
    """Without train.py's folder on the path, as some environments start Python."""
    words = shlex.join(map(str, [sys.executable, REPOSITORY / "train.py", *options]))
    process = run("bash", "-c", f"exec {words} > >(exec true)", cwd=workplace, PYTHONSAFEPATH="1")
    sentence = "error: the output was closed; nothing is half-written; run the same command again to start over\n"
    assert (process.returncode, process.stderr) == (1, sentence)


def test_an_output_that_fails_during_the_epochs_loses_none_of_them(call_train, options, monkeypatch):
    def write(text, **_):
        if text.startswith("epoch   3/"):
            raise OSError(errno.ENOSPC, "No space left on device")

    words = [*options, "--train_only", "--checkpoint_interval", "100", "--epochs"]
    with monkeypatch.context() as patch:
        patch.setattr(progress, "print", write, raising=False)
        assert error_of(call_train(*words, "100")) == (
            "error: cannot write the output: No space left on device; 3 of 100 epochs are saved; the same command with "
            "--restart resumes there\n"
        )
    assert "3 of 3 epochs are done" in succeed(call_train(*words, "3", "--restart"))


def test_characters_missing_from_the_locale_are_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert run_command(lambda: print("0.5 ± 0.1", flush=True)) == 0
    assert written.getvalue() == b"0.5 \\xb1 0.1\n"


def test_without_a_home_libraries_keep_their_caches_in_a_private_folder(tmp_path):
    """Numba's caches are run: nobody else may choose the folder."""
    ask = 'run_python -c \'import os; print(*map(os.environ.get, ("XDG_CACHE_HOME", "MPLCONFIGDIR")))\''
    environment = {"HOME": str(tmp_path / "none"), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": "", "MPLCONFIGDIR": ""}
    process = run("bash", "-c", f"source tools/python.sh; {ask}", cwd=REPOSITORY, **environment)
    first, second = process.stdout.split()
    assert first == second
    assert Path(first).parent == tmp_path
    assert Path(first).stat().st_mode & 0o777 == 0o700


def test_a_system_without_posix_locks_is_named_in_one_sentence(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['fcntl'] = None\n")  # as on Windows
    process = run(sys.executable, REPOSITORY / "train.py", "--help", PYTHONPATH=str(tmp_path))
    sentence = "error: this system has no POSIX file locks; use Linux or macOS, on Windows the Linux of WSL\n"
    assert (process.returncode, process.stderr) == (1, sentence)


def test_the_instruction_set_replaces_what_the_environment_says():
    """NumPy with AVX-512 gives other digits, while the run's record would say avx2."""
    shown = "print(numpy.lib.introspect.opt_func_info('^exp$')['exp']['dd']['current'])"
    process = run(*python("import common", "import numpy", shown), NPY_DISABLE_CPU_FEATURES="AVX512_SPR")
    assert process.stdout.strip() in ("X86_V3", "baseline(X86_V2)"), process.stderr


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "there is not enough memory (none is left); free some"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "there is not enough memory (Default"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "there is not enough memory ([Errno 12]"),
        (OSError(errno.EMFILE, "Too many open files", "file"), "Too many open files: file"),
    ],
)
def test_missing_resources_are_reported_in_one_sentence(call_command, error, sentence):
    line = error_of(call_command(partial(run_command, Mock(side_effect=error))))
    assert line.startswith(f"error: {sentence}") and line.count("\n") == 1


def test_an_unexpected_error_is_a_traceback(call_train, options, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("train.train_epoch", broken)
    error = error_of(call_train(*options))
    assert error.startswith("Traceback (most recent call last):") and "in broken" in error
    assert error.endswith("ZeroDivisionError: division by zero\n")
