"""The commands, and the packages that they are made of."""

import signal
import sys

import common  # noqa: F401 (before NumPy, whose instruction set it fixes)

if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # python -m tools.x: Ctrl-C during imports ends it, with no traceback
