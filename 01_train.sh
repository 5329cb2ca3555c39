#!/usr/bin/env bash
# Train a network for each machine type and section of the challenge.
# usage: bash 01_train.sh (-d|-e) [MACHINE_TYPE ...] [--challenge NAME] [option ...]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/tools/python.sh"
run_python "$REPOSITORY/tools/jobs.py" "$0" train "$@"
