#!/usr/bin/env bash
# 01_train.sh for another year's challenge, which comes first: one network for each machine type and section.
# usage: bash tools/01_train_legacy.sh CHALLENGE (-d|-e) [MACHINE_TYPE ...] [train.py option ...]
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"
exec "$PYTHON" "$REPOSITORY/tools/run_jobs.py" train --legacy "$@"
