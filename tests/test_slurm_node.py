"""The experiment on a one-node Slurm on this machine."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from synthetic import RESULTS, directories, machine_folder, run, script, write_machine, written

import train

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


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(condition: Callable[[], object], what: str, seconds: float = 240) -> object:
    """Wait until a condition holds and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s until {what}"
        time.sleep(0.2)
    return value


@contextlib.contextmanager
def daemon(name: str, folder: Path, *options: str, **environment: str) -> Iterator[None]:
    """Run a daemon in the foreground, as a child that is stopped at the end, with its output in a file."""
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
    """Yield the environment in which Slurm's commands reach only this machine's Slurm."""
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


def submitted(root: Path, machine_types: list[str], environment: dict[str, str], *options: object) -> dict[str, str]:
    """Submit the experiment and return the jobs' numbers by name."""
    words = ["-d", *machine_types, "--epochs", "2", *directories(root), *options, "--", "--time=10"]
    process = script("tools/slurm_array.sh", *words, cwd=root, **environment)
    assert process.returncode == 0, process.stderr
    return {name: number for number, name in re.findall(r"^job (\d+): (\w+)", process.stdout, re.M)}


def state(number: str, environment: dict[str, str]) -> list[str]:
    """Return the states of a job's tasks."""
    return re.findall(r"JobState=(\w+)", run("scontrol", "show", "job", "-o", number, **environment).stdout)


def finished(root: Path, machine_types: list[str], environment: dict[str, str]) -> dict[str, list[str]]:
    """Submit the experiment, wait for its end, and return the states of each job's tasks by the job's name."""
    jobs = submitted(root, machine_types, environment)
    wait_for(lambda: not queue(environment), "all jobs have ended")
    return {name: sorted(state(number, environment)) for name, number in jobs.items()}


@pytest.fixture(scope="module")
def repeated(slurm, tmp_path_factory) -> tuple[Path, dict[str, list[str]], dict[str, list[str]]]:
    """Return a folder and the states of two experiments in it: valve has no clips in the first, fan always does."""
    root = tmp_path_factory.mktemp("repeated")
    write_machine(machine_folder(root / "data"))
    machine_folder(root / "data", "valve").mkdir()
    first = finished(root, ["fan", "valve"], slurm)
    write_machine(machine_folder(root / "data", "valve"), n_train=7)
    return root, first, finished(root, ["fan", "valve"], slurm)


@pytest.mark.slurm
def test_jobs_that_wait_for_a_failed_task_are_cancelled_and_the_rest_finishes(repeated):
    root, first, second = repeated
    assert first == {
        "01_train": ["COMPLETED", "FAILED"],
        "02_test_MAHALA": ["CANCELLED", "COMPLETED"],
        "02_test_MSE": ["CANCELLED", "COMPLETED"],
        "03_summarize": ["CANCELLED"],
    }
    messages = "".join(path.read_text() for path in sorted((root / "logs/baseline/slurm").iterdir()))
    assert {name: set(states) for name, states in second.items()} == {name: {"COMPLETED"} for name in first}, messages
    (log,) = root.glob("logs/baseline/*fan*/01_train.log")
    assert "is complete; nothing is left to do" in log.read_text()


@pytest.mark.slurm
def test_slurm_and_calls_without_it_give_the_same_files(repeated, tmp_path, call_command):
    root = repeated[0]
    summaries = [path.read_text() for path in root.glob("logs/baseline/slurm/03_summarize-*.out")]
    assert [text.partition(":")[0] for text in summaries if text] == ["DCASE2023T2, development set"]
    shutil.copytree(root / "data", tmp_path / "data")
    for machine_type in ("fan", "valve"):
        words = ["--dataset", f"DCASE2023T2{machine_type}", "-d", "-tag", "id(0_)", "--use_ids", 0]
        for stage in (["--epochs", 2], ["--test_only", "--score", "MAHALA"]):  # the first tests by MSE, too
            assert call_command(train.main, *words, *stage, *directories(tmp_path)).status == 0
    assert script("03_summarize_results.sh", "DCASE2023T2", "-d", *directories(tmp_path)).returncode == 0
    tables = "results/**/summarize/**/*.csv"
    ours, expected = (written(folder, RESULTS, tables) for folder in (root, tmp_path))
    assert sum("summarize" in name for name in ours) >= 2 * 2 + 2
    assert ours == expected


@pytest.mark.slurm
def test_a_preempted_task_resumes_and_one_at_its_time_limit_saves(workplace, slurm):
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
