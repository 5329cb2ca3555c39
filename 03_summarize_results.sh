#!/usr/bin/env bash
# Make the summary tables of all machine types' results.
# usage: bash 03_summarize_results.sh CHALLENGE (-d|-e) [--systems [NAME=]PATH ...] [--seeds N ...] [--report]; --help shows all
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/tools/python.sh"
run_python "$REPOSITORY/tools/results" "$@"
