# Sourced by the scripts: where the repository is, and which Python to run ($PYTHON, else .venv's, else python3).
# shellcheck shell=bash
REPOSITORY=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x "$REPOSITORY/.venv/bin/python" ] && PYTHON=$REPOSITORY/.venv/bin/python
fi
export REPOSITORY PYTHON
