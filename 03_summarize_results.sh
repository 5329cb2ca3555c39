#!/usr/bin/env bash
# Make the summary tables of all machine types' results.
# usage: bash 03_summarize_results.sh CHALLENGE (-d|-e) [--result_directory DIR] [--export_dir NAME] [--seed N]
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/tools/python.sh"
exec "$PYTHON" "$REPOSITORY/tools/summarize_results.py" "$@"
