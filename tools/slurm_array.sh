#!/usr/bin/env bash
# Submit the whole experiment to Slurm: training, both tests and the summary tables, a task for each machine type's section.
# usage: bash tools/slurm_array.sh (-d|-e) [MACHINE_TYPE ...] [--challenge NAME] [train.py option ...] [-- sbatch option ...]
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"
exec "$PYTHON" "$REPOSITORY/tools/slurm_array.py" "$@"
