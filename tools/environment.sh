# Sourced after tools/python.sh: make_environment FILE ... makes .venv and installs these requirement files into it.
# Does nothing where that was done before with the same files, or where $PYTHON was given: then that one is used as it is.
# shellcheck shell=bash
make_environment() {
    local stamp=$REPOSITORY/.venv/installed.txt
    if [ -n "${PYTHON_GIVEN}" ]; then
        echo "using $PYTHON as it is"
        return
    fi
    if cat -- "$@" | cmp -s - "$stamp"; then
        PYTHON=$REPOSITORY/.venv/bin/python
        return
    fi
    local base
    base=$(find_python) || {
        echo "error: no Python 3.11 or later was found; install one, or give it as PYTHON=/path/to/python" >&2
        return 1
    }
    echo "making $REPOSITORY/.venv with $("$base" --version) and installing $* (some minutes)"
    "$base" -m venv "$REPOSITORY/.venv" || {
        echo "error: $base cannot make a virtual environment; install its venv module (Debian: apt install python3-venv)" >&2
        return 1
    }
    PYTHON=$REPOSITORY/.venv/bin/python
    local options=() file
    for file in "$@"; do options+=(-r "$file"); done
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "${options[@]}" || {
        echo "error: the packages could not be installed (see above); check the network and run this again" >&2
        return 1
    }
    cat -- "$@" > "$stamp.partial" && mv -- "$stamp.partial" "$stamp"
}

# Print the first Python that is 3.11 or later.
find_python() {
    local candidate
    for candidate in python3 python3.11 python3.12 python3.13 python3.14 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}
