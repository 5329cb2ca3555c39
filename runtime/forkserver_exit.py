"""Imported last by the forkserver (forkserver.py), which then ends without the libraries' clean-up."""

import atexit

from runtime.command import exit_now

atexit.register(exit_now, 0)
