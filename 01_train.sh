#!/usr/bin/env bash
# Train a network for each machine type and section of the challenge.
# usage: bash 01_train.sh (-d|-e) [MACHINE_TYPE ...] [--challenge NAME] [option ...]
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/tools/python.sh"
run_python "$REPOSITORY/tools/jobs" "$0" train "$@"
