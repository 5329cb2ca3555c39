#!/usr/bin/env bash
# Check the code's style and types and run the tests, in .venv, which is made and completed first.
# usage: bash tests/run.sh [pytest option ...]
set -euo pipefail
tests=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
bash "$tests/../tools/install.sh" "$tests/requirements.txt"
. "$tests/../tools/python.sh"

cd -- "$REPOSITORY"
"$PYTHON" -m ruff format --check .
"$PYTHON" -m ruff check .
"$PYTHON" -m mypy
"$PYTHON" -m pytest "$@"
