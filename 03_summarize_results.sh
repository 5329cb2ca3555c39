#!/usr/bin/env bash
# Make the summary tables of all machine types' results.
# usage: bash 03_summarize_results.sh CHALLENGE (-d|-e) [--systems [NAME=]PATH ...] [--seeds N ...] [--report]; --help shows all
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/tools/python.sh"
run_python "$REPOSITORY/tools/results" "$@"
