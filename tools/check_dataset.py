#!/usr/bin/env python3
"""Check a data set on disk against the catalogue: `python -m tools.check_dataset DCASE2023T2 dev`.

Prints a row for each machine type, section, split, domain and label, then everything that is wrong; see
datasets/check.py. Exit status 1 if anything is wrong.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common import parse_settings
from datasets.catalogue import load_challenge, runnable_names
from datasets.check import Report, check_machine_type, print_report
from datasets.clips import MachineFolders
from tools.runtime.process import run_command


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(check)


def check() -> int:
    """Check what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.check_dataset", description="Check a data set against the catalogue.", allow_abbrev=False
    )
    names = ", ".join(runnable_names())
    parser.add_argument("challenge", choices=runnable_names(), metavar="CHALLENGE", help=f"one of {names}")
    parser.add_argument("subset", choices=("dev", "eval"), help="development or evaluation data set")
    parser.add_argument("machine_types", nargs="*", metavar="MACHINE_TYPE", help="the wanted ones [default: all]")
    settings = parse_settings(parser, names=("dataset_directory",))
    challenge = load_challenge(settings.challenge, settings.subset == "eval", settings.dataset_directory)
    challenge.check_machine_types(settings.machine_types)
    report = Report()
    for machine_type in settings.machine_types or challenge.machine_types:
        folders = MachineFolders(settings.dataset_directory, challenge.name, machine_type, challenge.is_eval)
        check_machine_type(folders, challenge, report)
    print_report(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
