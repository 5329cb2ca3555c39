"""01_train.sh and the test scripts as processes: jobs side by side and one after another, logs, failures, signals."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthetic import REPOSITORY, directories, machine_folder, run, script, succeed, wait_for, write_machine, written

from tools import jobs

RUN_OF = "SLOW_DCASE2023T2{}_id(0_)_seed{}"  # a run of a script, by machine type and seed
EXTENSION = """
import sys, time
from unittest.mock import Mock

from common import NETWORKS, NOT_NEGATIVE, Parameter
from networks.autoencoder import AutoEncoder
from runtime.cores import available_cores

print(available_cores(), "cores", file=sys.stderr)


@NETWORKS.register
class Slow(AutoEncoder):
    name, description = "SLOW", "takes its time for each batch, but not the processor's; more for valve"
    options = (Parameter("pause", NOT_NEGATIVE, "seconds", default=0.0025),)

    def losses(self, vectors):
        time.sleep(self.settings.pause * (40 if self.settings.dataset.endswith("valve") else 1))
        return super().losses(vectors)

    def configure_optimizers(self):  # one that leaves the weights alone: torch's take two seconds to import
        state = {"state": {}, "param_groups": []}
        return Mock(**{"state_dict.return_value": state}), None
"""
SLOW = ("--model", "SLOW", "--extension")  # with a file that holds it


def test_mistakes_are_reported_from_any_folder_by_sh_through_a_link_and_with_cdpath(tmp_path):
    """CDPATH lets `cd` print where it went, and go elsewhere; sh may be dash; a link is not beside tools/."""
    (tmp_path / "link").symlink_to(REPOSITORY / "01_train.sh")
    for shell, name, cwd in (
        ("bash", f"{REPOSITORY}/01_train.sh", tmp_path),
        ("bash", "link", tmp_path),
        ("sh", f"{REPOSITORY.name}/01_train.sh", REPOSITORY.parent),
    ):
        process = run(shell, name, "-d", "--no_such_option", cwd=cwd, CDPATH=str(REPOSITORY.parent))
        assert (process.returncode, process.stdout) == (2, "")
        assert process.stderr.startswith(f"usage: bash {name} (-d | -e) ")
        assert process.stderr.endswith("unrecognized arguments: --no_such_option\n")
    process = script("01_train.sh", "-d", "fann", "--log_directory", tmp_path)
    assert (process.returncode, process.stdout) == (1, "")
    assert "DCASE2023T2 has no development machine type 'fann'; it has ToyCar, ToyTrain, fan" in process.stderr


def test_without_the_packages_one_sentence_says_how_to_install_them(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(REPOSITORY / "tools", copy / "tools")
    shutil.copy(REPOSITORY / "01_train.sh", copy)
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    process = run("bash", copy / "01_train.sh", "-d", PYTHON="", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (process.returncode, process.stderr.count("\n")) == (1, 1)
    assert f"bash {copy}/tools/install.sh" in process.stderr


def test_missing_clips_of_several_jobs_are_reported_in_one_sentence(call_command, workplace):
    """Missing networks: test_bad_input.py."""
    outcome = call_command(lambda: jobs.main(["01_train.sh", "train", "-d", *directories(workplace)]))
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    advice = r"download them \(bash tools/data_download.sh DCASE2023T2 dev\).* run only .* that have them: fan\n"
    assert re.search(f"6 of 7 jobs have no training clips, .*{advice}", outcome.err)


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory):
    """Run four jobs side by side, of two machine types; slider has a broken clip, and names need quoting."""
    root = tmp_path_factory.mktemp("side") / "a 'b' [c] $d"
    write_machine(machine_folder(root / "data"))
    slider = write_machine(machine_folder(root / "data", "slider"))
    next((slider / "train").iterdir()).write_bytes(b"no audio")
    extension, cwd, temporary = root / "my (1) [x].py", root / "modules", root / ("t" * 100)
    extension.write_text(EXTENSION)
    for folder in (temporary, cwd / "tools"):
        folder.mkdir(parents=True)
    for name in ("common.py", "tools/__init__.py", "signal.py", "torch.py", "threading.py"):
        (cwd / name).write_text("raise SystemExit('imported from the wrong folder')\n")
    words = ["-d", "fan", "slider", "--seeds", 1, 2, "--epochs", 20, *SLOW, extension, "--pause", 0.001]
    words += directories(root)
    environment = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "TMPDIR": str(temporary)}
    process = script("01_train.sh", *words, "-j", 2, cwd=cwd, **environment)
    assert not list(temporary.glob("pymp*"))  # the folder of a socket, whose path may not be so long
    return root, words, process


def test_a_failed_parallel_job_is_reported_and_the_others_finish(side_by_side):
    root, _, process = side_by_side
    logs = [root / "logs/baseline" / RUN_OF.format("slider", seed) / "01_train.log" for seed in (1, 2)]
    names = "slider section 00 seed 1, slider section 00 seed 2"
    assert process.returncode == 1
    assert process.stderr.endswith(f"error: 2 of 4 jobs failed: {names}; log of the first: {logs[0]}\n")
    assert all(log.read_text().splitlines()[-1].startswith("error: ") for log in logs)
    failed = r"slider section 00 seed 1: failed with exit status 1 \(.*slider.*\); log: (.+)"
    assert re.findall(failed, process.stdout) == [str(logs[0])]
    networks = {path.stem for path in root.glob("models/saved_model/baseline/SLOW*.pth")}
    assert networks == {RUN_OF.format("fan", seed) for seed in (1, 2)}


def test_jobs_have_logs_and_share_the_cores_and_the_output_summarises_them(side_by_side):
    """They load the extension themselves, and no module of the caller's folder."""
    root, _, process = side_by_side
    for seed in (1, 2):
        job, log = f"fan section 00 seed {seed}", root / "logs/baseline" / RUN_OF.format("fan", seed) / "01_train.log"
        text = log.read_text()
        assert f"{max(1, len(os.sched_getaffinity(0)) // 2)} cores" in text
        assert text.count("\nepoch ") == 20
        assert f"training {job}, log: {log}\n" in process.stdout
        shown = re.findall(
            rf"^{job}: (epoch +\d+|warning: 6 training clips are too few|done in)", process.stdout, re.MULTILINE
        )
        epochs = [f"epoch {n:3}" for n in range(2, 21, 2)]
        assert sorted(shown) == ["done in", *epochs, "warning: 6 training clips are too few"]
        assert log.with_name("log.png").stat().st_size > 1000  # not blank


def test_a_line_of_a_dry_run_gives_the_same_files_when_a_shell_runs_it(side_by_side, call_train):
    root, words, _ = side_by_side
    (root / "alone").mkdir()
    folders = [word for name in ("model", "log") for word in (f"--{name}_directory", root / "alone" / f"{name}s")]
    line = script("01_train.sh", *words, *folders, "--dry_run").stdout.splitlines()[0]
    program, *job = run("sh", "-c", f"set -- {line}; shift; printf '%s\\n' \"$@\"").stdout.splitlines()
    assert program == str(REPOSITORY / "train.py")
    succeed(call_train(*job))
    ours = written(root / "alone")
    assert len(ours) == 3  # network, record, losses
    assert ours.items() <= written(root).items()
    (record,) = root.glob("alone/models/saved_model/baseline/*.json")
    assert json.loads(record.read_text())["pause"] == 0.001


def test_one_at_a_time_jobs_write_to_our_output_and_the_first_failure_ends_the_run(workplace):
    slider = write_machine(machine_folder(workplace / "data", "slider"))
    next((slider / "train").iterdir()).write_bytes(b"no audio")
    write_machine(machine_folder(workplace / "data", "valve"))
    words = ["-d", "fan", "slider", "valve", "-j", "1", "--epochs", "2", *directories(workplace)]
    process = script("01_train.sh", *words)
    assert process.returncode == 1
    assert process.stdout.count("\nepoch   2/2: loss ") == 1
    assert "[2/3] training slider section 00\n" in process.stdout
    ending = "error: training slider section 00 failed with exit status 1; the others were not started\n"
    assert re.fullmatch(f"error: .*slider.*\n{ending}", process.stderr)
    networks = [path.stem for path in workplace.glob("models/saved_model/baseline/*.pth")]
    assert networks == ["DCASE2023T2-AE_DCASE2023T2fan_id(0_)_seed13711"]
    assert not list(workplace.glob("logs/baseline/*/01_train.log"))


def test_ctrl_c_while_a_command_starts_gives_no_traceback(tmp_path):
    with started("-d", "fan", *directories(tmp_path), stderr=subprocess.PIPE, text=True) as process:
        while not Path(f"/proc/{process.pid}/cmdline").read_text().startswith(sys.executable):
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        sentence = "error: stopped by SIGINT; nothing is half-written; run the same command again to start over\n"
        assert (process.wait(), process.stderr.read()) == (130, sentence)


def started(*words: object, **streams) -> subprocess.Popen:
    """Start 01_train.sh in a session of its own."""
    command = ["bash", REPOSITORY / "01_train.sh", *map(str, words)]
    environment = {**os.environ, "PYTHON": sys.executable, "TERM": "xterm"}
    return subprocess.Popen(command, env=environment, start_new_session=True, **streams)


# --- signals, to training that does not end ---------------------------------------------------------------------------


def endless(root: Path, *words: object, **streams) -> subprocess.Popen:
    """Start training, with its output in files, and wait for epochs of both machine types."""
    write_machine(machine_folder(root / "data", "valve"))
    (root / "slow.py").write_text(EXTENSION)
    words = ["-d", *words, "--epochs", 100000, "--checkpoint_interval", 100000, *directories(root)]
    with (root / "out").open("w") as out, (root / "err").open("w") as err:
        process = started(*words, *SLOW, root / "slow.py", **{"stdout": out, "stderr": err, **streams})
    n_jobs = 2 if "-j2" in words else 1
    while len(re.findall(r"epoch +2/", shown(root))) < n_jobs:
        assert process.poll() is None, shown(root)
        time.sleep(0.05)
    return process


def shown(root: Path) -> str:
    """Return the output, the errors and the logs of a script."""
    files = (root / "out", root / "err", *root.glob("logs/baseline/*/01_train.log"))
    return "".join(file.read_text() for file in files)


def running(session: int) -> list[list[str]]:
    """Return the states of a session's processes; init may take seconds to remove those that have ended."""
    states = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            states.append(path.read_text().rpartition(")")[2].split())
    return [state for state in states if state[3] == str(session) and state[0] != "Z"]


def check_saved(root: Path, process: subprocess.Popen, status: int) -> None:
    """Fail unless a script ends with a status, with no process of its session left, and a job's epochs are saved."""
    assert process.wait(timeout=60) == status
    wait_for(lambda: not running(process.pid), "its jobs have ended", 30)
    assert not list(root.rglob("*.partial")) + list(root.glob("models/saved_model/**/*.*"))
    assert len(list(root.glob("models/checkpoint/baseline/*/checkpoint.tar"))) == 1
    said = r"epoch +(\d+)/.*\n(?:. cores\n)*error: stopped by \w+; (\d+) of 100000 epochs are saved; (.*)"
    ((finished, saved, advice),) = re.findall(said, shown(root))
    assert int(saved) >= int(finished)
    assert advice == "the same command with --restart resumes there"


@pytest.mark.parametrize(
    ("words", "send", "number", "status"),
    [
        ("fan", os.killpg, signal.SIGTERM, 143),
        ("fan valve -j1", os.killpg, signal.SIGHUP, 129),
        ("fan valve -j1", os.kill, signal.SIGKILL, -signal.SIGKILL),
    ],
    ids=["time limit", "closed terminal", "only the parent is killed"],
)
def test_a_stopped_training_run_saves_its_finished_epochs(workplace, words, send, number, status):
    process = endless(workplace, *words.split())
    send(process.pid, number)
    check_saved(workplace, process, status)
    assert "[2/2]" not in shown(workplace)


def test_a_killed_job_fails_alone_and_ctrl_c_twice_ends_the_others_and_loses_no_epoch(workplace):
    """A job is killed as by the kernel when memory is exhausted; a terminal shows a line for each that runs."""
    ours, theirs = os.openpty()
    process = endless(workplace, "fan", "valve", "-j2", stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen = ""

    def read_until(pattern: str) -> None:
        nonlocal screen
        while not re.search(pattern, screen):
            screen += os.read(ours, 65536).decode(errors="replace")

    read_until(r"\x1b\[Jfan section 00: epoch +\d+/100000: loss .*\r\nvalve section 00: .*\r\x1b\[1A")
    (log,) = workplace.glob("logs/baseline/*fan_id*/01_train.log")
    for output in Path("/proc").glob("[0-9]*/fd/1"):
        with contextlib.suppress(OSError):
            if output.readlink() == log:
                os.kill(int(output.parts[2]), signal.SIGKILL)
    read_until("fan section 00: was killed by signal 9")
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.01)
    said = "error: stopped by SIGINT; finished epochs are saved; the same command with --restart resumes there"
    read_until(f"{said}\r\n$")
    check_saved(workplace, process, 130)
    os.close(ours)
