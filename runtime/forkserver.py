"""multiprocessing's forkserver: a process that imports libraries once, so that its forks start at once."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker

from runtime.command import STOP_SIGNALS


def start_server(modules: Sequence[str]) -> None:
    """Start the process that imports these modules and that others are forked from, without waiting for it.

    It and its children begin with stop signals blocked, until run_command handles them: Ctrl-C reaches all of them.
    """
    multiprocessing.set_forkserver_preload([*modules, "runtime.forkserver_exit"])
    resource_tracker.ensure_running()  # before signals are blocked: it unblocks them
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    tempfile.tempdir = "/tmp"  # since the path of the server's socket may have 108 characters
    try:
        forkserver.ensure_running()
    finally:
        tempfile.tempdir = None  # $TMPDIR again
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end_with_parent() -> None:
    """Send this process SIGTERM when the parent has ended, however that ended."""

    def wait() -> None:
        multiprocessing.parent_process().join()  # type: ignore[union-attr]
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
