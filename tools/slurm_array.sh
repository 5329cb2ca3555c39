#!/usr/bin/env bash
# Submit training, tests and summary tables to Slurm, a task for each machine type and section (and seed).
# usage: [SCORES="MSE MAHALA"] bash tools/slurm_array.sh (-d|-e) [MACHINE_TYPE ...] [option ...] [-- sbatch option ...]
# Options are those of 01_train.sh: -j N limits the tasks that run at once, --dry_run shows what would be submitted. The
# same command finishes what failed or ran out of time.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for `sh SCRIPT`
set -euo pipefail
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/python.sh"
export PYTHON
fail() { echo "error: $*" >&2 && exit 1; }

declare -A testing
challenge=DCASE2023T2 at_once='' cpus=1 options=() seeds=() numbers=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
        -h | --help) exec sed -n '2,5s/^# //p' -- "${BASH_SOURCE[0]}" ;;
        --dry_run) sbatch() { printf '%s\n' "sbatch ${*@Q} <<'END'" "$(cat)" END >&2 && echo "JOB_OF_$name"; } ;;
    esac
    [ "$1" = --restart ] || options+=("$1") # which training gets anyway
    shift
done
of_sbatch=("${@:2}") # after --
[[ " ${options[*]} " =~ \ --challenge[=\ ]([A-Za-z0-9]+) ]] && challenge=${BASH_REMATCH[1]}
[[ " ${options[*]} " =~ \ (-j|--jobs)[=\ ]?([0-9]+) ]] && at_once=%${BASH_REMATCH[2]}
command -v sbatch > /dev/null ||
    fail "this machine has no sbatch; run this on a cluster's login node; 01_train.sh needs no Slurm"

# The lists of commands, made before anything is submitted
training=$(bash "$REPOSITORY/01_train.sh" "${options[@]}" --restart --dry_run)
for score in ${SCORES:=MSE MAHALA}; do
    testing[$score]=$(bash "$REPOSITORY/tools/02_test.sh" "${options[@]}" --score "$score" --dry_run)
done

# The tables' options and sbatch's, from the words of all commands, which differ in their seeds
names='defaults|config|extension|max_fpr|export_dir|decision_threshold|(dataset|result|model|log)_directory'
tables=(env PYTHON="$PYTHON" bash "$REPOSITORY/03_summarize_results.sh" "$challenge")
eval "words=($training)"
while IFS= read -r word; do
    [[ $word =~ ^(-[de]|--($names)=.*)$ ]] && tables+=("$word")
    case $word in
        --defaults=*/parameters/*) folder=${word%/parameters/*}/slurm && folder=${folder#*=} ;; # the experiment's logs
        --threads=*) cpus=${word#*=} ;;
        --seed=*) seeds+=("${word#*=}") ;;
    esac
done < <(printf '%s\n' "${words[@]}" | awk '!seen[$0]++')
[ ${#seeds[@]} != 1 ] || tables+=(--seed "${seeds[0]}")
[ ${#seeds[@]} -lt 2 ] || tables+=(--seeds "${seeds[@]}")
mkdir -p -- "$folder"

# Submit commands, one a line, as the tasks of an array: NAME COMMANDS [DEPENDENCY]. A requeued task appends to its file
# and resumes; TERM comes a minute before the time limit; a task that waits for a failed one is cancelled.
submit() {
    local name=$1 commands script number
    mapfile -t commands <<< "$2"
    script=$(echo '#!/usr/bin/env bash' && declare -p commands && echo 'eval "exec ${commands[SLURM_ARRAY_TASK_ID]}"')
    number=$(sbatch --parsable --requeue --open-mode=append --signal=B:TERM@60 --kill-on-invalid-dep=yes \
        --cpus-per-task="$cpus" --output="${folder//%/%%}/$name-%A_%a.out" "${of_sbatch[@]}" --job-name="$name" \
        --array="0-$((${#commands[@]} - 1))$at_once" ${3:+--dependency="$3"} <<< "$script") || {
        [ ${#numbers[@]} = 0 ] || scancel "${numbers[@]}"
        fail "sbatch refused a job (see above), and nothing stays submitted; give your cluster's options after --," \
            "such as -- --partition=NAME --time=2:00:00"
    }
    numbers+=("${number%%;*}") # number;cluster
    echo "job ${numbers[-1]}: $name${3:+, $3}, output: $folder/$name-${numbers[-1]}_*.out"
}

submit 01_train "$training"
for score in $SCORES; do
    when=aftercorr # each test after its own training
    [ "$(wc -l <<< "$training")" = "$(wc -l <<< "${testing[$score]}")" ] || when=afterok # of a joint network
    submit "02_test_$score" "${testing[$score]}" "$when:${numbers[0]}"
done
submit 03_summarize "${tables[*]@Q}" "afterok:$(IFS=: && echo "${numbers[*]:1}")"
echo "to see them: squeue --jobs=$(IFS=, && echo "${numbers[*]}"); to end them: scancel ${numbers[*]}"
