#!/usr/bin/env bash
# Submit training, tests and summary tables to Slurm, a task for each machine type and section (and seed).
# usage: bash tools/slurm_array.sh (-d|-e) [MACHINE_TYPE ...] [01_train.sh option ...] [-- sbatch option ...]
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"
run_python "$REPOSITORY/tools/jobs/slurm.py" "$@"
