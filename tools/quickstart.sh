#!/usr/bin/env bash
# Set everything up and run the whole baseline on a small demo data set, which is made here.
# usage: bash tools/quickstart.sh [DIRECTORY [MACHINE_TYPE ...]]
# DIRECTORY (default: demo in the repository) gets its own data, models, results and logs, for all seven or for some
# machine types.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
EPOCHS=40
if [[ "${1:-}" =~ ^(-h|--help)$ ]]; then
    sed -n '2,5s/^# //p' -- "${BASH_SOURCE[0]}"
    exit
fi
if [[ "${1:-}" == -* ]]; then
    echo "usage: bash tools/quickstart.sh [DIRECTORY [MACHINE_TYPE ...]]" >&2
    exit 2
fi
tools=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
demo=${1:-$tools/../demo}
[ $# -eq 0 ] || shift # "$@": the machine types
mkdir -p -- "$demo"
demo=$(CDPATH='' cd -- "$demo" && pwd)

step() { printf '\n== %s\n' "$1"; }

step "1/5 Python environment"
bash "$tools/install.sh"
. "$tools/python.sh"
started=$SECONDS
step "2/5 demo data set (one to two minutes from here on, on 2 cores)"
"$PYTHON" "$REPOSITORY/tools/make_demo_dataset.py" "$demo/data" ${1:+--machine_types "$@"}
directories=(--dataset_directory "$demo/data" --result_directory "$demo/results"
    --model_directory "$demo/models" --log_directory "$demo/logs")
step "3/5 training, $EPOCHS epochs for each machine type"
bash "$REPOSITORY/01_train.sh" -d "$@" --epochs "$EPOCHS" "${directories[@]}"
step "4/5 testing by mean squared error, then by selective Mahalanobis distance"
bash "$REPOSITORY/02a_test.sh" -d "$@" "${directories[@]}"
bash "$REPOSITORY/02b_test.sh" -d "$@" "${directories[@]}"
step "5/5 summary"
bash "$REPOSITORY/03_summarize_results.sh" DCASE2023T2 -d --result_directory "$demo/results"
echo
echo "next: D=\"${directories[*]}\"; bash 03_summarize_results.sh DCASE2023T2 -d \$D --report"
echo "pictures of the losses:  $demo/logs/baseline/*/log.png"
echo "pictures of the scores:  $demo/results/dev_data/baseline_{MSE,MAHALA}/*.png"
echo "The demo took $((SECONDS - started)) s. Its sounds are synthetic: the figures only show that everything works."
"$PYTHON" "$REPOSITORY/tests/demo/compare.py" "$demo"
