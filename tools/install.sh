#!/usr/bin/env bash
# Make .venv with the packages of requirements.txt and of any other requirement files, unless they are installed.
# usage: bash tools/install.sh [REQUIREMENTS.txt ...]
# Needs Python 3.11 to 3.14. With $PYTHON set, that Python is used as it is.
# On Linux (x86-64) it downloads 2.9 GB, as PyPI's torch brings CUDA. For the CPU alone, 0.4 GB, set PIP_EXTRA_INDEX_URL
# to the address of torch's CPU builds, which pytorch.org/get-started names.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
REPOSITORY=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
if [[ "${1:-}" =~ ^(-h|--help)$ ]]; then
    sed -n '2,6s/^# //p' -- "${BASH_SOURCE[0]}"
    exit
fi
if [[ "${1:-}" == -* ]]; then
    echo "usage: bash tools/install.sh [REQUIREMENTS.txt ...]" >&2
    exit 2
fi
if [ -n "${PYTHON:-}" ]; then
    echo "using $PYTHON as it is"
    exit
fi
files=("$REPOSITORY/requirements.txt" "$@")
stamp=$REPOSITORY/.venv/installed.txt
if [ -f "$stamp" ] && [[ "$(cat -- "$stamp")" == "$(cat -- "$REPOSITORY/constraints.txt" "${files[@]}")"* ]]; then
    echo "$REPOSITORY/.venv has all packages"
    exit
fi
base=
for candidate in python3 python3.11 python3.12 python3.13 python3.14 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
        base=$(command -v "$candidate")
        break
    fi
done
if [ -z "$base" ]; then
    echo "error: no Python 3.11 or later was found; install one, or give it as PYTHON=/path/to/python" >&2
    exit 1
fi
echo "making $REPOSITORY/.venv with $("$base" --version) and installing ${files[*]}"
[ "$(uname -sm)" != "Linux x86_64" ] || [ -n "${PIP_EXTRA_INDEX_URL:-}" ] ||
    echo "about 2.9 GB to download (PyPI's torch brings CUDA); 0.4 GB for the CPU alone: bash tools/install.sh --help"
"$base" -m venv "$REPOSITORY/.venv" || {
    echo "error: $base cannot make a virtual environment; install its venv module (Debian: apt install python3-venv)" >&2
    exit 1
}
options=(-c "$REPOSITORY/constraints.txt")
for file in "${files[@]}"; do options+=(-r "$file"); done
"$REPOSITORY/.venv/bin/python" -m pip install --quiet --disable-pip-version-check "${options[@]}" || {
    echo "error: the packages could not be installed (see above); check the network and run this again" >&2
    exit 1
}
cat -- "$REPOSITORY/constraints.txt" "${files[@]}" > "$stamp.partial" && mv -- "$stamp.partial" "$stamp"
echo "done; the scripts use it, and \`.venv/bin/python -m tools.X\` runs a command"
