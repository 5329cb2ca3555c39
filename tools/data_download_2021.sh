#!/usr/bin/env bash
# Download the recordings of 2021.
# usage: bash tools/data_download_2021.sh [dev|add|eval|all] [MACHINE_TYPE ...] [--dataset_directory DIR] [--from_directory DIR]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/python.sh"
run_python "$REPOSITORY/tools/data_download.py" DCASE2021T2 "$@"
