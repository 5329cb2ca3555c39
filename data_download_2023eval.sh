#!/usr/bin/env bash
# Download the test clips of the evaluation data set of 2023, and label them.
# usage: bash data_download_2023eval.sh [MACHINE_TYPE ...] [--dataset_directory DIR] [--from_directory DIR]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/tools/python.sh"
run_python "$REPOSITORY/tools/data_download.py" DCASE2023T2 eval "$@"
