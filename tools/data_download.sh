#!/usr/bin/env bash
# Download the recordings of any year's challenge.
# usage: bash tools/data_download.sh CHALLENGE [dev|add|eval|all] [MACHINE_TYPE ...] [--dataset_directory DIR] [--from_directory DIR]
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"
run_python "$REPOSITORY/tools/data_download.py" "$@"
