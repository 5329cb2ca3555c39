#!/usr/bin/env bash
# Test the networks of 01_train.sh by mean squared error.
# usage: bash 02a_test.sh (-d|-e) [MACHINE_TYPE ...] [--challenge NAME] [option ...]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/tools/python.sh"
run_python "$REPOSITORY/tools/jobs.py" "$0" MSE "$@"
