"""tools/slurm_array.sh: what it submits, and the experiment on a one-node Slurm on this machine."""

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic import REPOSITORY, RESULTS, directories, machine_folder, run, script, wait_for, write_machine, written
from test_run_jobs import EXTENSION, SLOW


def stub_slurm(folder: Path, body: str) -> dict[str, str]:
    """Write stubs of Slurm's commands that record how they are called; return the environment with them."""
    for name, lines in (("sbatch", body), ("scancel", "")):
        (folder / name).write_text(f'#!/bin/bash\necho "{name} ${{*@Q}}" >> "{folder}/calls"\n{lines}\n')
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_training_tests_and_tables_are_arrays_that_wait_for_each_other(tmp_path):
    stub = f'n=$(wc -l < "{tmp_path}/calls"); cat > "{tmp_path}/script_$n"; echo "$n;cluster"'
    words = ["-d", "fan", "valve", "--seeds", 13711, 1, "-j", 4, "--threads", 2, *directories(tmp_path)]
    words += ["--log_directory", tmp_path / "a 'b' %A", "--restart", "--", "-p", "x y", "--time=3"]
    process = script("tools/slurm_array.sh", *words, **stub_slurm(tmp_path, stub))
    assert process.returncode == 0, process.stderr
    ends = (
        "--array=0-3%4",
        "--array=0-3%4 --dependency=aftercorr:1",
        "--array=0-3%4 --dependency=aftercorr:1",
        "--array=0-0%4 --dependency=afterok:2:3",
    )
    for line, end in zip((tmp_path / "calls").read_text().splitlines(), ends, strict=True):
        options = " ".join(shlex.split(line))
        assert options.startswith("sbatch --parsable --requeue --open-mode=append --signal=B:TERM@60 ")
        assert f" --cpus-per-task=2 --output={tmp_path}/a 'b' %%A/baseline/slurm/0" in options
        assert "-%A_%a.out -p x y --time=3 --job-name=0" in options
        assert options.endswith(end)
    scripts = [(tmp_path / f"script_{number}").read_text() for number in (1, 2, 3, 4)]
    for text, counts in (
        ("--restart", [4, 0, 0, 0]),
        ("--score=MSE", [0, 4, 0, 0]),
        ("--seed=13711", [2, 2, 2, 0]),
        ('--seed=1"', [2, 2, 2, 0]),
        ("'--seeds' '13711' '1'", [0, 0, 0, 1]),
    ):
        assert [script.count(text) for script in scripts] == counts, text
    tables = run("bash", "-c", scripts[3], SLURM_ARRAY_TASK_ID="0")
    assert "there are no results of DCASE2023T2 with seed 13711 in" in tables.stderr


def test_a_dry_run_submits_nothing_and_shows_that_tests_wait_for_all_of_a_joint_networks_training(tmp_path):
    words = ["-d", "fan", "valve", "--dry_run", "--seed", 5, "--epochs", 3, *directories(tmp_path)]
    words += ["--extension", REPOSITORY / "examples/attribute_classifier.py", "--model", "CLASSIFIER"]
    process = script("tools/slurm_array.sh", *words, SCORES="CLASS-KNN", **stub_slurm(tmp_path, "exit 1"))
    assert process.returncode == 0, process.stderr
    assert not (tmp_path / "calls").exists()
    jobs = re.findall(r"^sbatch .* '--job-name=(\S+)' '--array=(\S+)'(?: '--dependency=(\w+):)?", process.stderr, re.M)
    assert jobs == [
        ("01_train", "0-0", ""),
        ("02_test_CLASS-KNN", "0-1", "afterok"),
        ("03_summarize", "0-0", "afterok"),
    ]
    assert process.stderr.count(" '--seed' '5'") == 1


def test_if_slurm_refuses_a_job_nothing_stays_submitted(tmp_path):
    refuses = 'case "$*" in *03_summarize*) echo "sbatch: error: no such partition" >&2; exit 1 ;; esac; echo 41'
    words = ["-d", "fan", *directories(tmp_path)]
    process = script("tools/slurm_array.sh", *words, SCORES="MSE", **stub_slurm(tmp_path, refuses))
    assert process.returncode == 1
    assert "no such partition\nerror: sbatch refused a job (see above), and nothing stays submitted" in process.stderr
    assert (tmp_path / "calls").read_text().splitlines()[-1] == "scancel '41' '41'"


def test_mistakes_are_reported_in_a_sentence(tmp_path):
    words = ["-d", "fann", "--log_directory", tmp_path]
    process = script("tools/slurm_array.sh", *words, **stub_slurm(tmp_path, ""))
    assert (process.returncode, process.stdout) == (1, "")
    assert "DCASE2023T2 has no development machine type 'fann'" in process.stderr
    (tmp_path / "sbatch").unlink()
    for name in ("bash", "dirname", "readlink"):
        (tmp_path / name).symlink_to(shutil.which(name))
    process = script("tools/slurm_array.sh", *words, PATH=str(tmp_path))
    assert process.returncode == 1
    assert process.stderr.startswith("error: this machine has no sbatch")


# --- a real one -------------------------------------------------------------------------------------------------------

DAEMONS = {
    name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in ("munged", "slurmctld", "slurmd")
}
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
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=1000
PartitionName=all Nodes={host} Default=YES State=UP
"""


@pytest.fixture
def slurm(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Yield the environment in which Slurm's commands reach only this machine's Slurm."""
    if os.geteuid() != 0 or not all(DAEMONS.values()):
        pytest.skip("Slurm and munge are not installed, or this is not root")
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key-file"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"controller_port": one.getsockname()[1], "node_port": other.getsockname()[1]}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder, **ports))
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    with contextlib.ExitStack() as stack:

        def start(name: str, *options: str) -> None:
            """Run a daemon in the foreground, as a child that is stopped at the end, with its output in a file."""
            output = stack.enter_context((folder / f"{name}.out").open("w"))
            further = {"env": {**os.environ, **environment}, "stdout": output, "stderr": output, "cwd": folder}
            stack.callback(stack.enter_context(subprocess.Popen([DAEMONS[name], *options], **further)).terminate)

        files = ("socket", "key-file", "pid-file", "log-file", "seed-file")
        start("munged", "--foreground", "--force", *(f"--{file}={folder}/munge.{file}" for file in files))
        wait_for((folder / "munge.socket").exists, "munged listens", 20)
        start("slurmctld", "-D")
        start("slurmd", "-D", "-N", host)
        idle = ["sinfo", "--noheader", "--format=%t"]
        wait_for(lambda: run(*idle, **environment).stdout.strip() == "idle", "the node is idle", 60)
        yield environment
        run("scancel", "--user=root", **environment)
        wait_for(lambda: not run("squeue", "--noheader", **environment).stdout, "all jobs have ended", 30)


@pytest.mark.slurm
def test_an_experiment_on_slurm(slurm, workplace):
    """Tests follow their training; a requeued task resumes, one at its time limit saves, and its waiters end."""
    write_machine(machine_folder(workplace / "data", "valve"))
    (workplace / "slow.py").write_text(EXTENSION)
    options = ["--epochs", 99, "--checkpoint_interval", 99, *SLOW, workplace / "slow.py", "--pause", 0.005]
    words = ["-d", "fan", "valve", *options, *directories(workplace), "--", "--time=10"]
    process = script("tools/slurm_array.sh", *words, cwd=workplace, SCORES="MSE", **slurm)
    assert process.returncode == 0, process.stderr
    jobs = {name: number for number, name in re.findall(r"^job (\d+): (\w+)", process.stdout, re.M)}
    folder = workplace / "logs/baseline/slurm"
    output = folder / f"01_train-{jobs['01_train']}_1.out"
    task = f"{jobs['01_train']}_1"

    def wait_for_output(text: str, count: int = 1) -> None:
        wait_for(lambda: output.is_file() and output.read_text().count(text) >= count, f"'{text}' is in {output}")

    def states() -> dict[str, list[str]]:
        shown = {name: run("scontrol", "show", "job", "-o", number, **slurm).stdout for name, number in jobs.items()}
        return {name: sorted(re.findall(r"JobState=(\w+)", text)) for name, text in shown.items()}

    wait_for_output("epoch   2/")
    assert run("scontrol", "requeue", task, **slurm).returncode == 0
    wait_for_output("epochs are saved")
    wait_for_output(" of 99 epochs are done, according to ")
    assert run("scancel", "--batch", "--signal=TERM", task, **slurm).returncode == 0  # as before its time limit
    wait_for_output("epochs are saved", 2)
    ended = {
        "01_train": ["COMPLETED", "FAILED"],
        "02_test_MSE": ["CANCELLED", "COMPLETED"],
        "03_summarize": ["CANCELLED"],
    }
    wait_for(lambda: states() == ended, "all jobs have ended", 60)
    assert "ExitCode=143:0" in run("scontrol", "show", "job", task, **slurm).stdout
    files = [name for name in written(workplace, RESULTS) if "fan" in name]
    assert len(files) == 3 + 3  # network, record, losses; scores, decisions, metrics
