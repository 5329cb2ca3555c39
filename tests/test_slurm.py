"""The experiment as jobs of Slurm: what is submitted, and a real Slurm of one node that runs it."""

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from synthetic import REPOSITORY, directories, machine_folder, run, script, write_machine
from test_run_jobs import outputs

from tools.jobs import slurm as slurm_array

DAEMONS = {
    name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("munged", "slurmctld", "slurmd")
}
COMMANDS = ("sbatch", "scancel", "scontrol", "squeue")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes={host} Default=YES State=UP PriorityTier=1
PartitionName=urgent Nodes={host} State=UP PriorityTier=2 PreemptMode=OFF
"""


# --- without Slurm ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "options", "user_options"),
    [
        ("-d fan --epochs 3 -- --partition=x --mem=2G", {"epochs"}, ["--partition=x", "--mem=2G"]),
        ("fan -d -- -p x --time 1:00:00 -- -A 'y z'", set(), ["-p", "x", "--time", "1:00:00", "--", "-A", "y z"]),
        ("fan -d --", set(), []),
        ("-d fan", set(), []),
    ],
)
def test_options_of_sbatch_are_separated(words, options, user_options):
    settings, scores, given = slurm_array.parse(shlex.split(words))
    assert (settings.machine_types, settings.given, given) == (["fan"], options, user_options)
    assert scores == ("MAHALA", "MSE")


@pytest.mark.parametrize(
    "words",
    ["", "-d -e", "-d --sbatch x", "-d -- --array=1-2", "-d -- -d 3", "-- -d"],
)
def test_wrong_usage_is_refused(words):
    with pytest.raises(SystemExit, match="2"):
        slurm_array.parse(shlex.split(words))


def test_an_array_has_a_task_for_each_job_and_waits_for_the_right_ones():
    settings, scores, given = slurm_array.parse("-e --challenge DCASE2020T2 -j 4 --threads 2 -- --mem=2G".split())
    train, mahala, mse, summary = slurm_array.make_submissions(settings, scores)
    assert [mahala.name, mse.name] == ["02_test_MAHALA", "02_test_MSE"]
    for array in (train, mse, mahala):
        assert array.script.count(" set -- ") == 18
        assert {"--array=0-17%4", "--cpus-per-task=2", "--requeue"} <= set(array.command(given, {train.name: "7"}))
    assert train.script.count(" --restart --threads=2 ;;") == 18
    assert "--restart" not in mse.script + mahala.script
    numbers = {train.name: "7", mse.name: "8", mahala.name: "9"}
    assert "--dependency=aftercorr:7" in mse.command(given, numbers)
    assert "--dependency=afterok:9:8" in summary.command(given, numbers)
    assert all(s.command(given, numbers)[-1] == "--mem=2G" for s in (train, mse, mahala, summary))
    assert summary.script.count("/tools/results DCASE2020T2 -e ") == 1
    assert summary.script.endswith(" --seed=13711\n")


def test_each_seed_has_its_tasks_and_the_tables_are_over_all_of_them():
    settings, scores, _ = slurm_array.parse("-d fan valve --seeds 1 2 3 --max_fpr 0.2".split())
    *arrays, summary = slurm_array.make_submissions(settings, scores)
    for array in arrays:
        assert "--array=0-5" in array.options
        assert [array.script.count(f" --seed={seed} ") for seed in (1, 2, 3)] == [2, 2, 2]
    assert summary.script.endswith(" --max_fpr=0.2 --seeds 1 2 3\n")


def test_the_tables_script_takes_the_options_that_it_is_given(workplace):
    settings, scores, _ = slurm_array.parse(["-d", "fan", *directories(workplace)])
    process = run("bash", "-c", slurm_array.make_submissions(settings, scores)[-1].script)
    assert process.returncode == 1
    assert "there are no results of DCASE2023T2 with seed 13711 in" in process.stderr


def stub_slurm(folder: Path, sbatch: str) -> dict[str, str]:
    """Write commands that stand for Slurm's and write down how they are called; return the environment with them."""
    folder.mkdir()
    for name, body in (("sbatch", sbatch), ("scancel", "")):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{folder}/calls"\n{body}\n')
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_dry_run_is_a_script_that_submits_and_submits_nothing_itself(workplace):
    before = sorted(workplace.rglob("*"))
    odd = workplace / "a 'b' %A"
    words = ["-d", "fan", "valve", "--dry_run", *directories(workplace), "--log_directory", odd, "--", "-p", "x y"]
    environment = stub_slurm(workplace.with_name("bin"), 'cat > /dev/null; wc -l < "$(dirname "$0")/calls"')
    process = script("tools/slurm_array.sh", *words, cwd=workplace, **environment)
    assert process.returncode == 0, process.stderr
    assert sorted(workplace.rglob("*")) == before
    written = run("bash", "-c", process.stdout, cwd=workplace, **environment)
    assert (written.returncode, written.stderr) == (0, "")
    calls = (workplace.with_name("bin") / "calls").read_text().splitlines()
    assert [re.search(r"--dependency=\S+|$", call)[0] for call in calls] == [
        "", "--dependency=aftercorr:1", "--dependency=aftercorr:1", "--dependency=afterok:2:3",
    ]  # fmt: skip
    assert all(
        call.endswith(" -p x y") and f"--output={workplace}/a 'b' %%A/baseline/slurm/0" in call for call in calls
    )


def test_a_task_runs_its_command_and_writes_its_log(workplace):
    settings, scores, _ = slurm_array.parse(["-d", "fan", "valve", *directories(workplace)])
    array = slurm_array.make_submissions(settings, scores)[0].script.replace(
        f" {REPOSITORY}/train.py", " -c 'print(\"ran\")'"
    )
    for restarts, lines in (("", 1), ("1", 2), ("0", 1)):  # a requeued task continues its log
        process = run("bash", "-c", array, SLURM_ARRAY_TASK_ID="1", SLURM_RESTART_COUNT=restarts)
        assert process.returncode == 0, process.stderr
        assert process.stdout.startswith("training valve section 00 on ")
        log = Path(process.stdout.strip().partition("log: ")[2])
        assert log.name == "01_train.log"
        assert log.read_text().splitlines() == ["ran"] * lines


def test_where_slurm_refuses_a_job_nothing_stays_submitted(workplace):
    refuses = 'case "$*" in *02_test_MSE*) echo "sbatch: error: no such partition" >&2; exit 1 ;; esac; echo 41'
    environment = stub_slurm(workplace / "bin", refuses)
    process = script("tools/slurm_array.sh", "-d", "fan", *directories(workplace), **environment)
    assert process.returncode == 1
    assert "error: sbatch refused 02_test_MSE: no such partition; nothing is left submitted" in process.stderr
    assert (workplace / "bin" / "calls").read_text().splitlines()[-1] == "scancel 41 41"


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["-d", "fan"], 1, "there is no sbatch on this machine"),
        (["-d", "fann"], 1, "DCASE2023T2 has no development machine type 'fann'"),
        ([], 2, "one of the arguments -d/--dev -e/--eval is required"),
        (["-d", "--no_such_option"], 2, "unrecognized arguments: --no_such_option"),
        (["-d", "--", "--array=1"], 2, "--array=1 is set by this script"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path, words, status, sentence):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    process = script("tools/slurm_array.sh", *words, cwd=tmp_path, PATH=str(tmp_path))
    assert process.returncode == status
    assert sentence in process.stderr
    assert "Traceback" not in process.stderr


def test_help_shows_the_usage():
    process = script("tools/slurm_array.sh", "--help")
    assert process.returncode == 0
    assert process.stdout.startswith("usage: bash tools/slurm_array.sh")
    assert "[-- option_of_sbatch ...]" in process.stdout
    assert "print a shell script that submits the jobs" in process.stdout


# --- with Slurm -------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(condition: Callable[[], object], what: str, seconds: float = 240) -> object:
    """Wait until a condition holds and return what it gives."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s until {what}"
        time.sleep(0.2)
    return value


@contextlib.contextmanager
def daemon(name: str, folder: Path, *options: str, **environment: str) -> Iterator[None]:
    """Run a daemon in the foreground, as a child that is stopped in the end, with its output in a file."""
    with (folder / f"{name}.out").open("w") as output:
        process = subprocess.Popen(
            [DAEMONS[name], *options], env={**os.environ, **environment}, stdout=output, stderr=output, cwd=folder
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Yield the environment in which Slurm's commands reach a Slurm of this machine alone."""
    if os.geteuid() != 0 or not all(DAEMONS.values()) or not all(map(shutil.which, COMMANDS)):
        pytest.skip("Slurm and munge are not installed, or this is not root")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    text = CONFIGURATION.format(host=host, folder=folder, controller_port=free_port(), node_port=free_port())
    (folder / "slurm.conf").write_text(text)
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    files = [f"--{option}={folder}/munge.{suffix}" for option, suffix in munge.items()]
    with contextlib.ExitStack() as stack:
        stack.enter_context(daemon("munged", folder, "--foreground", "--force", *files))
        wait_for((folder / "munge.socket").exists, "munged listens", 20)
        stack.enter_context(daemon("slurmctld", folder, "-D", **environment))
        stack.enter_context(daemon("slurmd", folder, "-D", "-N", host, **environment))
        idle = ["sinfo", "--noheader", "--format=%t"]
        wait_for(lambda: run(*idle, **environment).stdout.strip() == "idle", "the node is idle", 60)
        yield environment
        run("scancel", "--user=root", **environment)
        wait_for(lambda: not queue(environment), "all jobs have ended", 30)


def queue(environment: dict[str, str]) -> str:
    """Return the jobs that have not ended."""
    process = run("squeue", "--noheader", "--array", "--format=%i %j %T %r", **environment)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_no_folder_can_end_the_batch_script(workplace):
    environment = stub_slurm(workplace.with_name("stub"), "echo 1")
    process = script("tools/slurm_array.sh", "-d", "fan", "--dry_run", "--export_dir", "a\nEND\ntouch x", **environment)
    assert process.returncode == 2
    assert "is not allowed" in process.stderr


def submitted(root: Path, machine_types: list[str], environment: dict[str, str], *options: object) -> dict[str, str]:
    """Submit the experiment and return the jobs' numbers by name."""
    words = ["-d", *machine_types, "--epochs", "2", *directories(root), *options, "--", "--time=10"]
    process = script("tools/slurm_array.sh", *words, cwd=root, **environment)
    assert process.returncode == 0, process.stderr
    return {name: number for number, name in re.findall(r"^job (\d+): (\w+)", process.stdout, re.M)}


def state(number: str, environment: dict[str, str]) -> list[str]:
    """Return how a job's tasks ended, or what they do."""
    return re.findall(r"JobState=(\w+)", run("scontrol", "show", "job", "-o", number, **environment).stdout)


@pytest.mark.slurm
def test_slurm_gives_what_the_scripts_give(tmp_path, slurm):
    for case in ("slurm", "scripts"):
        for i, machine_type in enumerate(("fan", "valve")):
            write_machine(machine_folder(tmp_path / case / "data", machine_type), n_train=6 + i, seconds=1.0)
    jobs = submitted(tmp_path / "slurm", ["fan", "valve"], slurm)
    wait_for(lambda: not queue(slurm), "all jobs have ended")
    logs = tmp_path / "slurm/logs/baseline/slurm"
    said = "".join(path.read_text() for path in sorted(logs.iterdir()))
    ended = {name: set(state(number, slurm)) for name, number in jobs.items()}
    assert ended == {name: {"COMPLETED"} for name in jobs}, said
    assert "DCASE2023T2, development data set" in (logs / f"03_summarize-{jobs['03_summarize']}.out").read_text()
    root = directories(tmp_path / "scripts")
    for name in ("01_train.sh", "02a_test.sh", "02b_test.sh"):
        assert script(name, "-d", "fan", "valve", "--epochs", "2", *root).returncode == 0
    assert script("03_summarize_results.sh", "DCASE2023T2", "-d", *root).returncode == 0
    assert outputs(tmp_path / "slurm") == outputs(tmp_path / "scripts")
    tables = {
        case: {p.relative_to(case): p.read_bytes() for p in case.glob("results/**/summarize/**/*.csv")}
        for case in (tmp_path / "slurm", tmp_path / "scripts")
    }
    first, second = tables.values()
    assert len(first) >= 2 * 2 + 2
    assert first == second


@pytest.mark.slurm
def test_what_waits_for_a_failed_task_is_cancelled_and_the_rest_finishes(workplace, slurm):
    machine_folder(workplace / "data", "valve").mkdir()
    jobs = submitted(workplace, ["fan", "valve"], slurm)
    wait_for(lambda: not queue(slurm), "all jobs have ended")
    ended = {name: sorted(state(number, slurm)) for name, number in jobs.items()}
    assert ended == {
        "01_train": ["COMPLETED", "FAILED"],
        "02_test_MAHALA": ["CANCELLED", "COMPLETED"],
        "02_test_MSE": ["CANCELLED", "COMPLETED"],
        "03_summarize": ["CANCELLED"],
    }
    write_machine(machine_folder(workplace / "data", "valve"))
    jobs = submitted(workplace, ["fan", "valve"], slurm)
    wait_for(lambda: not queue(slurm), "all jobs have ended")
    assert state(jobs["03_summarize"], slurm) == ["COMPLETED"]
    (log,) = workplace.glob("logs/baseline/*fan*/01_train.log")
    assert "is complete; nothing is left to do" in log.read_text()


@pytest.mark.slurm
def test_a_preempted_task_goes_on_and_one_at_its_time_limit_saves(workplace, slurm):
    jobs = submitted(workplace, ["fan"], slurm, "--epochs", "100000", "--checkpoint_interval", "100000")
    task = f"{jobs['01_train']}_0"

    def wait_for_log(text: str, count: int) -> None:
        def read() -> str:
            return "".join(log.read_text() for log in workplace.glob("logs/baseline/*fan*/01_train.log"))

        wait_for(lambda: read().count(text) >= count, f"'{text}' is in the log")

    wait_for_log("epoch ", 2)
    assert run("sbatch", "--partition=urgent", "--ntasks=2", "--wrap=true", cwd=workplace, **slurm).returncode == 0
    wait_for_log("epochs are saved", 1)
    wait_for_log(" of 100000 epochs are done, according to ", 1)
    waiting = {f"{jobs[name]}_0 {name} PENDING Dependency" for name in ("02_test_MAHALA", "02_test_MSE")}
    assert waiting < set(queue(slurm).splitlines())
    assert run("scontrol", "update", f"jobid={task}", "timelimit=1", **slurm).returncode == 0
    wait_for_log("epochs are saved", 2)
    wait_for(lambda: not queue(slurm), "all jobs have ended")
    ended = {name: state(number, slurm) for name, number in jobs.items()}
    assert ended == {name: ["FAILED" if name == "01_train" else "CANCELLED"] for name in jobs}
    assert "ExitCode=143:0" in run("scontrol", "show", "job", task, **slurm).stdout
