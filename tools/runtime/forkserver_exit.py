"""Imported last by the forkserver (forkserver.py), which then ends without the libraries' clean-up."""

import atexit

from tools.runtime.process import exit_now

atexit.register(exit_now, 0)
