#!/usr/bin/env python3
"""Check a data set on disk against the catalogue: `python -m tools.check_dataset DCASE2023T2 dev`.

Prints a row for each machine type, section, split, domain and label, then everything that is wrong; see
datasets/check.py. Exit status 1 if anything is wrong.
"""

import sys
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from datasets.catalogue import parse_subset
from datasets.check import Report, check_machine_type, print_report
from tools.runtime.process import run_command


def main() -> int:
    """Run the command line and return the exit status."""
    return run_command(check)


def check() -> int:
    """Check what the command line asks for; return the exit status."""
    challenge, machine_types = parse_subset("python -m tools.check_dataset", "Check a data set against the catalogue.")
    report = Report()
    for folders in machine_types:
        check_machine_type(folders, challenge, report)
    print_report(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
