#!/usr/bin/env bash
# Test the networks of 01_train.sh by any score, such as one of an extension.
# usage: bash tools/02_test.sh (-d|-e) [MACHINE_TYPE ...] --score NAME [--challenge NAME] [option ...]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/python.sh"
run_python "$REPOSITORY/tools/jobs.py" "$0" test "$@"
