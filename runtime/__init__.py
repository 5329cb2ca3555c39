"""Services for every command, below common: errors, orderly ending, safe writing of files, progress, cores, device."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("fcntl") is None:
    sys.exit("error: this system has no POSIX file locks; use Linux or macOS, on Windows the Linux of WSL")

try:
    Path.cwd()
except FileNotFoundError:  # which ends the import of torch
    sys.exit("error: the current folder no longer exists; change to another one and run the command again")

REPOSITORY = Path(__file__).resolve().parents[1]
