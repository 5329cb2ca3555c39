#!/usr/bin/env bash
# Test the networks of 01_train.sh by any score, such as one of an extension.
# usage: bash tools/02_test.sh (-d|-e) [MACHINE_TYPE ...] --score NAME [--challenge NAME] [option ...]
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"
run_python "$REPOSITORY/tools/jobs" "$0" test "$@"
