#!/usr/bin/env python3
"""The whole experiment on a Slurm cluster: 01_train, 02a_test and 02b_test as arrays, then 03_summarize_results.

Task i of an array runs the i-th of make_jobs' commands. The batch scripts hold the commands, and Slurm keeps a batch
script from its submission on, so there is no list of jobs on disk that could be another one by the time it is read.
Each test waits for its own task of the training, the tables for all tests (DEPENDENCIES).
"""

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import train
from common import REPOSITORY, InputError, print_error, run_command
from datasets.catalogue import runnable_names
from tools.job_pool import Job
from tools.run_jobs import SCRIPTS, VERBS, CommandLine, UsageError, make_jobs, parse_command_line

SUMMARY = "03_summarize"
DEPENDENCIES = {  # name -> what sbatch waits for; $NAME stands for the number of a job that was submitted before
    "01_train": "",
    "02a_test": "aftercorr:$TRAIN",
    "02b_test": "aftercorr:$TRAIN",
    SUMMARY: "afterok:$MSE:$MAHALA",
}
VARIABLES = {"01_train": "TRAIN", "02a_test": "MSE", "02b_test": "MAHALA", SUMMARY: "SUMMARY"}
SUMMARY_OPTIONS = (
    "dataset_directory",
    "result_directory",
    "model_directory",
    "log_directory",
    "export_dir",
    "max_fpr",
)  # train.py's that 03_summarize_results.sh has too, beside the seed
SET_HERE = ("-a", "--array", "-d", "--dependency", "--wrap", "--test-only")  # sbatch's options
OPTIONS = (  # of each job
    "--parsable",
    "--requeue",  # after a preemption or a failure of the node; training goes on by --restart
    "--signal=B:TERM@60",  # a minute before the time limit, to the batch process, train.py: it saves and exits with 143
    "--open-mode=append",  # a task that is requeued keeps its file
    "--kill-on-invalid-dep=yes",  # what waits for a task that has failed is cancelled, not left pending for ever
)
USAGE = """usage: bash tools/slurm_array.sh (-d|--dev|-e|--eval) [MACHINE_TYPE ...] [option ...] [-- sbatch option ...]

Submit training, both tests and the summary tables to Slurm: a task for each machine type's section (and seed).

  -d, --dev         development data set
  -e, --eval        evaluation data set
  MACHINE_TYPE      before the first option: which ones, e.g. fan ToyCar [default: all of the challenge]
  --challenge NAME  {challenges} [default: DCASE2023T2]
  --seeds N ...     a task for each seed too, and the tables with mean and deviation over them
  -j N, --jobs N    tasks of an array that run at once [default: as many as Slurm lets run]
  --sbatch "..."    options of sbatch for every job, in one word; or all that stands after --
  --dry_run         show the shell commands that submit the jobs, and submit nothing
  -h, --help        this text

All further options go to train.py (see python train.py --help), e.g. --epochs 30 --dataset_directory /x. All folders
must be shared by the nodes. A task takes `threads` cores and about 1 GiB. Training goes on from its checkpoint where
there is one (--restart), so after a failure or a time limit the same command does what is missing.
Exit status: 0 submitted, 1 failed (nothing is left submitted), 2 wrong usage."""


@dataclass(frozen=True)
class Submission:
    """A call of sbatch; `output` is the file for what Slurm and the batch script itself say."""

    name: str
    options: list[str]
    script: str
    output: Path

    def command(self, user_options: list[str], numbers: dict[str, str]) -> list[str]:
        """Return the command line, with the numbers of the jobs that it waits for; later options go before earlier."""
        dependency = DEPENDENCIES[self.name]
        for variable, number in numbers.items():
            dependency = dependency.replace(f"${variable}", number)
        waits = [f"--dependency={dependency}"] if dependency else []
        output = f"--output={str(self.output.parent).replace('%', '%%')}/{self.output.name}"
        return ["sbatch", *OPTIONS, f"--job-name={self.name}", output, *self.options, *waits, *user_options]


def split_command_line(words: list[str]) -> tuple[CommandLine, list[str]]:
    """Part sbatch's options, `--sbatch "..."` and what stands after --, from the command line of the scripts.

    Raises
    ------
    UsageError
        As parse_command_line, or an option of sbatch is one that is set here, or its quotes are not closed.
    """
    own, user_options = words, []
    if "--" in words:
        own, user_options = words[: words.index("--")], words[words.index("--") + 1 :]
    others, quoted = [], []
    remaining = iter(own)
    for word in remaining:
        name, equals, value = word.partition("=")
        if name == "--sbatch":
            quoted.append(value if equals else next(remaining, ""))
        else:
            others.append(word)
    try:
        user_options = [option for text in quoted for option in shlex.split(text)] + user_options
    except ValueError as error:
        raise UsageError(f"--sbatch '{' '.join(quoted)}': {error}; close the quotes") from error
    if quoted and not all(quoted):
        raise UsageError('--sbatch is given nothing; give options of sbatch in one word, e.g. "--partition=x --mem=2G"')
    for option in user_options:
        if option.partition("=")[0] in SET_HERE:
            raise UsageError(f"{option} is set by this script for each job; leave it out of sbatch's options")
    return parse_command_line(others), user_options


def make_submissions(line: CommandLine) -> list[Submission]:
    """Return the calls of sbatch in the order in which they are made.

    Raises
    ------
    InputError
        As make_jobs.
    """
    submissions = []
    for stage, script in SCRIPTS.items():
        jobs = make_jobs(stage, replace(line, options=[*line.options, "--restart"]) if stage == "train" else line)
        arguments = train.parse_arguments(jobs[0].words)
        folder = arguments.log_directory / arguments.export_dir / "slurm"
        limit = f"%{line.parallel}" if line.parallel else ""
        options = [f"--array=0-{len(jobs) - 1}{limit}", f"--cpus-per-task={arguments.threads}"]
        name = script.removesuffix(".sh")
        submissions.append(Submission(name, options, array_script(jobs, VERBS[stage]), folder / f"{name}-%A_%a.out"))
    submissions.append(Submission(SUMMARY, [], summary_script(line, jobs), folder / f"{SUMMARY}-%j.out"))
    return submissions


def array_script(jobs: list[Job], verb: str) -> str:
    """Return the batch script of an array: each task runs its job's command, with the output in the job's log."""
    cases = []
    for number, job in enumerate(jobs):
        command = shlex.join([sys.executable, str(REPOSITORY / "train.py"), *job.words])
        cases.append(f"{number}) name={shlex.quote(job.name)} log={shlex.quote(str(job.log))}; set -- {command} ;;")
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            "set -euo pipefail",
            'case "$SLURM_ARRAY_TASK_ID" in',
            *cases,
            "esac",
            f'echo "{verb} $name on $(hostname), log: $log"',
            'mkdir -p -- "$(dirname -- "$log")"',
            '[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || : > "$log"',
            'exec "$@" >> "$log" 2>&1',
            "",
        ]
    )


def summary_script(line: CommandLine, jobs: list[Job]) -> str:
    """Return the batch script of the summary tables of the jobs' results."""
    arguments = train.parse_arguments(jobs[0].words)
    words = [str(REPOSITORY / "tools/summarize_results.py"), line.challenge, "-e" if line.is_eval else "-d"]
    for name in SUMMARY_OPTIONS:
        words += [f"--{name}", str(getattr(arguments, name))]
    words += ["--seeds", *map(str, line.seeds)] if line.seeds else ["--seed", str(arguments.seed)]
    return f"#!/usr/bin/env bash\nset -euo pipefail\nexec {shlex.join([sys.executable, *words])}\n"


def show(submissions: list[Submission], user_options: list[str]) -> None:
    """Print what submit does, as a shell script that does the same."""
    print("set -euo pipefail")
    print(shlex.join(["mkdir", "-p", "--", *dict.fromkeys(str(s.output.parent) for s in submissions)]))
    for submission in submissions:
        *words, last = [
            f'"{word}"' if word.startswith("--dependency=") else shlex.quote(word)
            for word in submission.command(user_options, {})
        ]
        print(f"{VARIABLES[submission.name]}=$({' '.join([*words, last])} << 'END'\n{submission.script}END\n)")


def submit(submissions: list[Submission], user_options: list[str]) -> None:
    """Submit the jobs and say what waits for what; where one is refused, cancel those before it.

    Raises
    ------
    InputError
        There is no sbatch, the folder for the output cannot be made, or Slurm refuses a job.
    """
    if shutil.which("sbatch") is None:
        raise InputError(
            "there is no sbatch on this machine; call this where Slurm's commands are (a cluster's login node), or "
            "01_train.sh, 02a_test.sh, 02b_test.sh and 03_summarize_results.sh, which need no Slurm"
        )
    numbers: dict[str, str] = {}
    try:
        for submission in submissions:
            _make_folder(submission.output.parent)
            number = _sbatch(submission, submission.command(user_options, numbers))
            numbers[VARIABLES[submission.name]] = number
            waits = DEPENDENCIES[submission.name]
            for variable, earlier in numbers.items():
                waits = waits.replace(f"${variable}", earlier)
            output = str(submission.output).replace("%A", number).replace("%j", number).replace("%a", "*")
            print(f"job {number}: {submission.name}{f', {waits}' if waits else ''}, output: {output}", flush=True)
    except BaseException:
        if numbers:
            subprocess.run(["scancel", *numbers.values()], check=False)
        raise
    print(f"to see them: squeue --jobs={','.join(numbers.values())}; to end them: scancel {' '.join(numbers.values())}")
    print("where a task fails, what waits for it is cancelled; the same command then does what is missing", flush=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)  # Slurm makes none, and says nothing
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror or error}; name another folder with --log_directory"
        ) from error


def _sbatch(submission: Submission, command: list[str]) -> str:
    """Submit a job and return its number."""
    process = subprocess.run(command, input=submission.script, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        said = " ".join(process.stderr.replace("sbatch: error: ", "").split())
        raise InputError(
            f"sbatch refused {submission.name}: {said or f'exit status {process.returncode}'}; nothing is left "
            "submitted; give what your cluster needs after --, e.g. -- --partition=NAME --account=NAME --time=2:00:00"
        )
    return process.stdout.strip().partition(";")[0]  # number;cluster


def main(words: list[str]) -> int:
    """Run the command line and return the exit status."""
    usage = USAGE.format(challenges=", ".join(runnable_names()))

    def run() -> int:
        if {"-h", "--help"} & set(words):
            print(usage, flush=True)
            return 0
        try:
            line, user_options = split_command_line(words)
        except UsageError as error:
            print(usage.partition("\n\n")[0], file=sys.stderr)
            print_error(error)
            return 2
        submissions = make_submissions(line)
        (show if line.is_dry_run else submit)(submissions, user_options)
        return 0

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
