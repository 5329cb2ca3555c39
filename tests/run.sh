#!/usr/bin/env bash
# Check the code's style and run the tests, in .venv, which is made and completed first.
# usage: bash tests/run.sh [pytest option ...]
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../tools/python.sh"
. "$REPOSITORY/tools/environment.sh"

make_environment "$REPOSITORY/requirements.txt" "$REPOSITORY/tests/requirements.txt"
cd -- "$REPOSITORY"
"$PYTHON" -m ruff format --check .
"$PYTHON" -m ruff check .
"$PYTHON" -m pytest "$@"
