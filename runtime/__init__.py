"""Services for every command, below common: errors, orderly ending, safe writing of files, progress, cores, device."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("fcntl") is None:
    sys.exit("error: this system has no POSIX file locks; use Linux or macOS, on Windows the Linux of WSL")

REPOSITORY = Path(__file__).resolve().parents[1]
