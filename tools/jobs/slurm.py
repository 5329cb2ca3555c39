#!/usr/bin/env python3
"""The whole experiment on a Slurm cluster: training and tests as arrays of tasks, then the summary tables.

Task i of an array runs the i-th job of a stage. The batch scripts hold the commands, and Slurm keeps a copy of them;
parameter files are copies in the log folder. Each test waits for its own task of the training, the tables for all
tests.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a script: import from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from common import BY_NAME, REPOSITORY, SCORES, InputError, Settings, as_text, option_type

from networks.names import PLACES
from runtime.command import command
from runtime.files import require_writable
from tools.jobs.command_line import make_parser, parse_jobs
from tools.jobs.stages import PROGRAM, SUBSETS, TRAIN, Job, Stage, freeze, make_jobs, score_stage

SUMMARY = "03_summarize"
SUMMARY_PARAMETERS = (*PLACES, "max_fpr")  # that 03_summarize_results.sh shares, apart from the seed
SET_HERE = ("-a", "--array", "-d", "--dependency", "--wrap", "--test-only")  # options of sbatch
OPTIONS = (  # of each job
    "--parsable",
    "--requeue",  # after a preemption or a failure of the node; training resumes by --restart
    "--signal=B:TERM@60",  # a minute before the time limit, to the batch process, train.py: it saves and exits with 143
    "--open-mode=append",  # a requeued task keeps its file
    "--kill-on-invalid-dep=yes",  # a job that waits for a failed task is cancelled, not left pending for ever
)
PROG = "bash tools/slurm_array.sh"
DESCRIPTION = (
    "Submit training, tests and summary tables to Slurm, one task per machine type and section (and seed). Words "
    "after -- are options of sbatch. The nodes must share all folders; a task takes `threads` cores and about 1 GiB. "
    "Training resumes from a checkpoint if there is one, so after a failure or a time limit the same command finishes "
    "the rest."
)
JOBS_HELP = "number of tasks of an array that may run at once [default: as many as the cluster allows]"
DRY_RUN_HELP = "print a shell script that submits the jobs, and submit none"


@dataclass(frozen=True)
class Submission:
    """A call of sbatch."""

    name: str
    options: list[str]  # of sbatch
    script: str
    output: Path  # file for the output of Slurm and of the batch script itself
    dependency: str = ""  # aftercorr: starts after the same task has succeeded; afterok: after all tasks have
    after: tuple[str, ...] = ()  # names of the submissions that it depends on

    def waits(self, numbers: dict[str, str]) -> str:
        """Return the dependency; `numbers` are those of the jobs submitted before, by name."""
        return ":".join([self.dependency, *(numbers[name] for name in self.after)]) if self.after else ""

    def command(self, user_options: list[str], numbers: dict[str, str]) -> list[str]:
        """Return the command line; later options override earlier ones."""
        waits = [f"--dependency={self.waits(numbers)}"] if self.after else []
        output = f"--output={str(self.output.parent).replace('%', '%%')}/{self.output.name}"
        return ["sbatch", *OPTIONS, f"--job-name={self.name}", output, *self.options, *waits, *user_options]


def parse(words: Sequence[str]) -> tuple[Settings, tuple[str, ...], list[str]]:
    """Parse a command line: the settings, the scores to test by, and the options of sbatch."""
    end = [*words, "--"].index("--")
    own, user_options = list(words[:end]), list(words[end + 1 :])
    parser = make_parser(PROG, DESCRIPTION, is_training=True, jobs_help=JOBS_HELP, dry_run_help=DRY_RUN_HELP)
    parser.usage = f"{parser.usage} [-- option_of_sbatch ...]"
    parser.add_argument(
        "--scores",
        nargs="+",
        type=option_type(SCORES),
        metavar="NAME",
        help="scores to test by [default: all, those of extensions included]",
    )
    settings = parse_jobs(parser, own, [name for name in BY_NAME if name != "score"])
    for option in user_options:
        if option.partition("=")[0] in SET_HERE:
            parser.error(f"{option} is set by this script for each job; leave it out of the options of sbatch")
    return settings, tuple(settings.scores or SCORES.names()), user_options


def make_submissions(settings: Settings, scores: Sequence[str]) -> list[Submission]:
    """Return the calls of sbatch, in order."""
    settings = settings.replace(restart=True)
    folder = settings.log_directory / settings.export_dir / "slurm"
    arrays = [_array(TRAIN, settings, folder)]
    for score in scores:
        arrays.append(_array(score_stage(score), settings, folder, "aftercorr", (TRAIN.name,)))
    tests = tuple(array.name for array in arrays[1:])
    summary = Submission(SUMMARY, [], summary_script(settings), folder / f"{SUMMARY}-%j.out", "afterok", tests)
    return [*arrays, summary]


def _array(
    stage: Stage, settings: Settings, folder: Path, dependency: str = "", after: tuple[str, ...] = ()
) -> Submission:
    jobs = make_jobs(stage, settings)
    limit = f"%{settings.jobs}" if settings.jobs else ""
    options = [f"--array=0-{len(jobs) - 1}{limit}", f"--cpus-per-task={settings.threads}"]
    output = folder / f"{stage.name}-%A_%a.out"
    return Submission(stage.name, options, array_script(jobs, stage.verb), output, dependency, after)


def array_script(jobs: list[Job], verb: str) -> str:
    """Return the batch script of an array: each task runs its job's command, with the output in the job's log."""
    cases = []
    for number, job in enumerate(jobs):
        command = shlex.join([sys.executable, str(PROGRAM), *job.words])
        cases.append(f"{number}) name={shlex.quote(job.name)} log={shlex.quote(str(job.log))}; set -- {command} ;;")
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            "set -euo pipefail",
            'case "$SLURM_ARRAY_TASK_ID" in',
            *cases,
            "esac",
            f'echo "{verb.format("$name")} on $(hostname), log: $log"',
            'mkdir -p -- "$(dirname -- "$log")"',
            '[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || : > "$log"',
            'exec "$@" >> "$log" 2>&1',
            "",
        ]
    )


def summary_script(settings: Settings) -> str:
    """Return the batch script of the summary tables."""
    words = [str(REPOSITORY / "tools/results"), settings.challenge, SUBSETS[settings.eval]]
    words += [f"--{name}={as_text(settings.values[name])}" for name in SUMMARY_PARAMETERS]
    words += [f"--extension={path}" for path in settings.extension]
    words += ["--seeds", *map(str, settings.seeds)] if settings.seeds else [f"--seed={settings.seed}"]
    return f"#!/usr/bin/env bash\nset -euo pipefail\nexec {shlex.join([sys.executable, *words])}\n"


def show(submissions: list[Submission], user_options: list[str]) -> None:
    """Print a shell script that submits the jobs."""
    print("set -euo pipefail")
    print(shlex.join(["mkdir", "-p", "--", *dict.fromkeys(str(s.output.parent) for s in submissions)]))
    variables = {submission.name: f"$job_{i}" for i, submission in enumerate(submissions)}
    for i, submission in enumerate(submissions):
        words = [
            f'"{word}"' if word.startswith("--dependency=") else shlex.quote(word)
            for word in submission.command(user_options, variables)
        ]
        end = "END"
        while end in submission.script.split("\n"):
            end += "_"
        print(f"job_{i}=$({' '.join(words)} << '{end}'\n{submission.script}{end}\n)")


def submit(submissions: list[Submission], user_options: list[str]) -> None:
    """Submit the jobs and print them with their dependencies; if one is refused, cancel those before it."""
    if shutil.which("sbatch") is None:
        raise InputError(
            "there is no sbatch on this machine; run this where Slurm's commands are (a cluster's login node), or run "
            "01_train.sh, the test scripts and 03_summarize_results.sh, which need no Slurm"
        )
    numbers: dict[str, str] = {}
    try:
        for submission in submissions:
            require_writable(submission.output.parent)  # Slurm creates no folder, and reports nothing
            number = _sbatch(submission, submission.command(user_options, numbers))
            waits = submission.waits(numbers)
            numbers[submission.name] = number
            output = str(submission.output).replace("%A", number).replace("%j", number).replace("%a", "*")
            print(f"job {number}: {submission.name}{f', {waits}' if waits else ''}, output: {output}", flush=True)
    except BaseException:
        if numbers:
            subprocess.run(["scancel", *numbers.values()], check=False)
        raise
    print(f"to see them: squeue --jobs={','.join(numbers.values())}; to end them: scancel {' '.join(numbers.values())}")
    print("if a task fails, the jobs that wait for it are cancelled; the same command finishes the rest", flush=True)


def _sbatch(submission: Submission, command: list[str]) -> str:
    """Submit a job and return its number."""
    process = subprocess.run(command, input=submission.script, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        said = " ".join(process.stderr.replace("sbatch: error: ", "").split())
        raise InputError(
            f"sbatch refused {submission.name}: {said or f'exit status {process.returncode}'}; nothing is left "
            "submitted; give your cluster's options after --, e.g. -- --partition=NAME --account=NAME --time=2:00:00"
        )
    return process.stdout.strip().partition(";")[0]  # number;cluster


@command
def main(argv: Sequence[str]) -> None:
    """Submit what the command line asks for, or print how."""
    settings, scores, user_options = parse(argv)
    submissions = make_submissions(freeze(settings), scores)
    (show if settings.dry_run else submit)(submissions, user_options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
