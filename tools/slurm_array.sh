#!/usr/bin/env bash
# Submit training, tests and summary tables to Slurm, a task for each machine type and section (and seed).
# usage: bash tools/slurm_array.sh (-d|-e) [MACHINE_TYPE ...] [01_train.sh option ...] [-- sbatch option ...]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/python.sh"
run_python "$REPOSITORY/tools/jobs/slurm.py" "$@"
