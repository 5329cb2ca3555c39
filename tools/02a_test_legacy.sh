#!/usr/bin/env bash
# 02a_test.sh for another year's challenge, given first: one network for each machine type and section.
# usage: bash tools/02a_test_legacy.sh CHALLENGE (-d|-e) [MACHINE_TYPE ...] [option ...]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/python.sh"
[[ "${1:-}" =~ ^(-h|--help)$ ]] || set -- --challenge "$@"
run_python "$REPOSITORY/tools/jobs.py" "$0 CHALLENGE" MSE "$@"
