# Sourced by the scripts: where the repository is, and which Python to run ($PYTHON, else .venv's, else python3).
# shellcheck shell=bash
REPOSITORY=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON_GIVEN=${PYTHON:-}
if [ -n "$PYTHON_GIVEN" ]; then
    PYTHON=$PYTHON_GIVEN
elif [ -x "$REPOSITORY/.venv/bin/python" ]; then
    PYTHON=$REPOSITORY/.venv/bin/python
else
    PYTHON=python3
fi
