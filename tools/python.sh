# Sourced by the scripts: sets REPOSITORY, and PYTHON unless it is given (.venv's, else python3).
# shellcheck shell=bash
REPOSITORY=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$REPOSITORY/.venv/bin/python
    [ -x "$PYTHON" ] || PYTHON=python3
    if [ ! -f "$REPOSITORY/.venv/installed.txt" ] && ! "$PYTHON" -c 'if True:
        import importlib.util, sys
        packages = ("torch", "librosa", "sklearn", "yaml", "jinja2")
        sys.exit(sys.version_info < (3, 11) or not all(map(importlib.util.find_spec, packages)))' 2> /dev/null; then
        echo "error: the Python packages are not installed; run \`bash $REPOSITORY/tools/install.sh\`, or set PYTHON" \
            "to a Python 3.11 or later with those of requirements.txt" >&2
        exit 1
    fi
fi

# Matplotlib and numba (librosa) need a folder for caches. Without a home it is a new one, since numba runs what it finds.
if [ -z "${XDG_CACHE_HOME+set}" ] && ! [ -w ~ ]; then
    XDG_CACHE_HOME=$(mktemp -d "${TMPDIR:-/tmp}/baseline_cache_XXXXXXXX")
    export XDG_CACHE_HOME MPLCONFIGDIR="${MPLCONFIGDIR:-$XDG_CACHE_HOME}"
fi

# Run Python in place of the shell, with no module of the current folder in place of one of ours. Stop signals wait until
# run_command (runtime/command.py) handles them: in its first moments Python would answer Ctrl-C with a traceback, as it
# does where env cannot block signals.
run_python() {
    export PYTHONPATH="$REPOSITORY${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1
    if env --block-signal=INT true 2> /dev/null; then
        exec env --block-signal=INT,TERM,HUP "$PYTHON" "$@"
    fi
    exec "$PYTHON" "$@"
}
