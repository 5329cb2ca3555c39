"""Imported last by the forkserver (forkserver.py), which then ends without the clean-up of the libraries."""

import atexit

from tools.runtime.process import exit_now

atexit.register(exit_now, 0)
