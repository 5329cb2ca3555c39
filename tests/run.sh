#!/usr/bin/env bash
# Check the code's style and types and run the tests, in .venv, which is made or completed first.
# usage: bash tests/run.sh [pytest option ...]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
case " $* " in *" --help "* | *" -h "*)
    sed -n '2,3s/^# //p' -- "${BASH_SOURCE[0]}"
    exit
    ;;
esac
tests=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
bash "$tests/../tools/install.sh" "$tests/requirements.txt"
. "$tests/../tools/python.sh"

cd -- "$REPOSITORY"
"$PYTHON" -m ruff format --check .
"$PYTHON" -m ruff check .
"$PYTHON" -m mypy
"$PYTHON" -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
