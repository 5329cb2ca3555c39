"""The command line of 01_train.sh, 02a_test.sh and 02b_test.sh."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthetic import REPOSITORY, directories, machine_folder, run, script, write_machine

from common import BY_NAME, Settings
from tools.jobs import __main__ as jobs_command
from tools.jobs import pool
from tools.jobs.command_line import make_parser, parse_jobs
from tools.jobs.display import Display
from tools.jobs.stages import TRAIN, make_jobs, score_stage
from tools.runtime.progress import Level, Line


def settings_of(words: str) -> Settings:
    """Return the settings of a command line of 01_train.sh."""
    names = [name for name in BY_NAME if name != "score"]
    return parse_jobs(make_parser("bash 01_train.sh", "", is_training=True), words.split(), names)


@pytest.mark.parametrize(
    ("words", "expected", "given"),
    [
        ("-d", (False, "DCASE2023T2", ()), {}),
        ("--eval bandsaw", (True, "DCASE2023T2", ("bandsaw",)), {}),
        ("fan -d ToyCar --epochs 3", (False, "DCASE2023T2", ("fan", "ToyCar")), {"epochs": 3}),
        ("fan --epochs 3 -d", (False, "DCASE2023T2", ("fan",)), {"epochs": 3}),
        ("-d --epochs 3 fan", (False, "DCASE2023T2", ("fan",)), {"epochs": 3}),
        ("-e pump --challenge DCASE2021T2 -lr 0.1", (True, "DCASE2021T2", ("pump",)), {"learning_rate": 0.1}),
        ("--challenge=DCASE2022T2 -d", (False, "DCASE2022T2", ()), {}),
    ],
)
def test_options_and_machine_types_may_stand_anywhere(words, expected, given):
    line = settings_of(words)
    assert (line.eval, line.challenge, tuple(line.machine_types)) == expected
    assert {name: line.values[name] for name in line.given} == given


@pytest.mark.parametrize(
    "words",
    [
        "",
        "-d -e",
        "fan",
        "-d --challenge",
        "-d --challenge DCASE1999T2",
        "-d --use_ids 1",
        "-d -tag x",
        "-d --score=MSE",
    ],
)
def test_wrong_usage_is_refused(words):
    with pytest.raises(SystemExit, match="2"):
        settings_of(words)


@pytest.mark.parametrize("words", ["-d -j 3 fan", "fan -d --jobs 3", "--jobs=3 fan -d", "fan -d -j 3", "-j3 fan -d"])
def test_the_number_of_jobs_may_stand_anywhere(words):
    line = settings_of(words)
    assert (line.jobs, line.machine_types, line.given) == (3, ["fan"], frozenset())


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²", "1001"])
def test_an_invalid_number_of_jobs_is_refused(value, capsys):
    with pytest.raises(SystemExit, match="2"):
        settings_of(f"-d --jobs={value}")
    assert f"{value!r} is not allowed; it takes a whole number from 1 to 1000" in capsys.readouterr().err


def test_all_machine_types_and_sections_are_run_with_the_references_tags():
    jobs = make_jobs(score_stage("MAHALA"), settings_of("-e --challenge DCASE2020T2 --seed 7"))
    assert len(jobs) == len({job.log for job in jobs}) == 18
    assert jobs[0].words == (
        "--dataset DCASE2020T2fan -e -tag id(1_) --use_ids 1 --test_only --score=MAHALA --seed=7".split()
    )
    assert jobs[-1].words[1] == "DCASE2020T2ToyConveyor"


def test_each_seed_is_a_job_of_its_own():
    line = settings_of("--seeds 3 1 3 fan -d --epochs 2")
    assert (line.seeds, line.machine_types) == ((3, 1), ["fan"])
    jobs = make_jobs(TRAIN, line)
    assert [job.name for job in jobs] == ["fan section 00 seed 3", "fan section 00 seed 1"]
    assert [job.words[-2:] for job in jobs] == [["--epochs=2", f"--seed={seed}"] for seed in ("3", "1")]
    assert len({job.log for job in jobs}) == 2
    for words in ("-d --seeds", "-d --seeds x", "-d --seeds 1 --seed 2"):
        with pytest.raises(SystemExit, match="2"):
            settings_of(words)


def test_the_legacy_scripts_take_the_challenge_first(capsys):
    words = ["tools/01_train_legacy.sh", "train", "--legacy"]
    assert jobs_command.main([*words, *"DCASE2021T2 -d pump --epochs 3 --dry_run".split()]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("train.py ")[2].split()[1] for line in lines] == ["DCASE2021T2pump"] * 3
    assert lines[2].endswith(" -d -tag 'id(2_)' --use_ids 2 --train_only --epochs=3")
    for wrong, said in (
        ([], "one of the arguments"),
        (["-d"], "required: CHALLENGE"),
        (["pump", "-d"], "'pump' is not"),
    ):
        with pytest.raises(SystemExit, match="2"):
            jobs_command.main([*words, *wrong])
        assert said in capsys.readouterr().err


def test_the_score_of_02a_and_02b_is_fixed_and_02_takes_any_registered_one():
    process = script("02a_test.sh", "-d", "--score", "MAHALA")
    assert process.returncode == 2
    assert "tools/02_test.sh takes any" in process.stderr
    process = script("tools/02_test.sh", "-d", "fan", "--score", "MAHALA", "--dry_run")
    assert process.stdout == script("02b_test.sh", "-d", "fan", "--dry_run").stdout != ""
    process = script("tools/02_test.sh", "-d", "--score", "KNN")
    assert process.returncode == 2
    assert "'KNN' is not allowed; it takes MAHALA or MSE" in process.stderr


def test_a_dry_run_shows_commands_and_does_nothing(workplace):
    before = sorted(workplace.rglob("*"))
    process = script("01_train.sh", "-d", "fan", "valve", "--dry_run", *directories(workplace))
    assert process.returncode == 0
    assert [shlex.split(line)[1:4] for line in process.stdout.splitlines()] == [
        [str(REPOSITORY / "train.py"), "--dataset", f"DCASE2023T2{machine_type}"] for machine_type in ("fan", "valve")
    ]
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize(
    ("cores", "gib", "threads", "on_cuda", "expected"),
    [(8, 16, 1, False, 8), (8, 16, 3, False, 2), (8, 3.5, 1, False, 3), (1, 0.5, 4, False, 1), (8, 16, 1, True, 1)],
)
def test_as_many_jobs_as_cores_and_memory_allow(monkeypatch, cores, gib, threads, on_cuda, expected):
    monkeypatch.setattr(pool, "available_cores", lambda: cores)
    monkeypatch.setattr(pool, "available_memory", lambda: int(gib * 2**30))
    assert pool.default_parallel(threads, on_cuda)[0] == expected


def test_cores_and_memory_of_this_machine_are_found():
    assert 1 <= pool.available_cores() <= os.cpu_count()
    assert 2**26 < pool.available_memory() < 2**50


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["-d", "fann"], 1, "DCASE2023T2 has no development machine type 'fann'; it has ToyCar, ToyTrain, fan"),
        (["-e", "fan"], 1, "it has ToyDrone, ToyNscale, ToyTank, Vacuum, bandsaw, grinder, shaker"),
        ([], 2, "one of the arguments -d/--dev -e/--eval is required"),
        (["-d", "--dataset", "x"], 2, "unrecognized arguments: --dataset"),
        (["-d", "--no_such_option"], 2, "unrecognized arguments: --no_such_option"),
        (["-d", "fan", "--epochs", "few"], 2, "'few' is not allowed; it takes a whole number from 1"),
    ],
)
def test_wrong_words_are_reported_from_any_folder(tmp_path, words, status, sentence):
    process = script("01_train.sh", *words, cwd=tmp_path)
    assert process.returncode == status
    assert sentence in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("name", ["01_train.sh", "02a_test.sh", "02b_test.sh", "03_summarize_results.sh"])
def test_help_shows_the_usage(name):
    process = script(name, "--help")
    assert process.returncode == 0
    assert name in process.stdout
    assert "--export_dir" in process.stdout or "MACHINE_TYPE" in process.stdout


def outputs(root):
    """Return the bytes of everything that is compared between runs: networks, thresholds, logs and tables."""
    patterns = (
        "models/saved_model/*/*.pth",
        "models/saved_model/*/score_distr*",
        "logs/*/*/log.csv",
        "results/*/*/*.csv",
    )
    return {str(path.relative_to(root)): path.read_bytes() for pattern in patterns for path in root.glob(pattern)}


def test_no_number_of_jobs_or_cores_changes_a_bit(tmp_path):
    """Two machine types, in turn on all cores and side by side on one; the parity cases run side by side on all."""
    cores = os.sched_getaffinity(0)
    for case, jobs, affinity in (("turn", 1, cores), ("side", 2, {min(cores)})):
        for i, machine_type in enumerate(("fan", "valve")):
            write_machine(machine_folder(tmp_path / case / "data", machine_type), n_train=6 + i, seconds=1.0)
        words = ["-d", "fan", "valve", "-j", jobs, *directories(tmp_path / case)]
        os.sched_setaffinity(0, affinity)  # of this thread and the processes that it starts
        try:
            process = script("01_train.sh", *words, "--epochs", "2")
            assert process.returncode == 0, process.stderr
        finally:
            os.sched_setaffinity(0, cores)
    assert len(outputs(tmp_path / "turn")) == 6 + 2
    assert outputs(tmp_path / "side") == outputs(tmp_path / "turn")


def test_side_by_side_a_failed_job_is_reported_and_the_others_finish(workplace):
    valve = write_machine(machine_folder(workplace / "data", "valve"))
    next((valve / "train").iterdir()).write_bytes(b"no audio")
    write_machine(machine_folder(workplace / "data", "slider"))
    words = ["-d", "fan", "valve", "slider", "-j", "2", "--epochs", "10", *directories(workplace)]
    process = script("01_train.sh", *words)
    assert process.returncode == 1
    assert len(list(workplace.glob("models/saved_model/baseline/*.pth"))) == 2
    said = next(line for line in process.stdout.splitlines() if "valve section 00: failed" in line)
    log = Path(said.rpartition("log: ")[2])
    assert "valve" in said.partition("(")[2].partition("log: ")[0]
    assert log.read_text().splitlines()[-1].startswith("error: ")
    assert "training failed for 1 of 3 jobs: valve section 00; the first: valve section 00 failed" in process.stderr
    assert str(log) in process.stderr
    assert process.stdout.count("fan section 00: epoch") == 10


def test_a_log_file_shows_each_tenth_of_the_epochs_and_the_news(capsys):
    display = Display()
    for n in range(1, 101):
        display.report("fan", Line(f"epoch {n}", Level.PROGRESS, ((n - 1) / 100, n / 100)))
    display.report("fan", Line("seconds", Level.DETAIL))
    display.report("fan", Line("news \x1b[31m", Level.NEWS))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [*(f"fan: epoch {n}" for n in range(10, 101, 10)), "fan: news \\x1b[31m"]


def test_a_jobs_name_and_section_are_shown_once(capsys):
    Display().report("fan section 00 seed 1", Line("section 00: AUC (source) 50.00 %", Level.NEWS))
    Display().report("fan section 00", Line("epoch 1: loss 1", Level.NEWS))
    expected = ["fan section 00 seed 1: AUC (source) 50.00 %", "fan section 00: epoch 1: loss 1"]
    assert capsys.readouterr().out.splitlines() == expected


def test_the_tests_own_help_installs_nothing(tmp_path):
    (tmp_path / "tests").mkdir()
    shutil.copy(REPOSITORY / "tests/run.sh", tmp_path / "tests/run.sh")  # with no tools/install.sh beside it
    for option in ("--help", "-h"):
        process = run("bash", tmp_path / "tests/run.sh", option)
        assert (process.returncode, process.stderr) == (0, "")
        assert "usage: bash tests/run.sh [pytest option ...]" in process.stdout


def test_missing_clips_and_networks_of_several_jobs_are_one_sentence(workplace):
    process = script("01_train.sh", "-d", *directories(workplace))
    assert process.returncode == 1
    assert process.stdout == ""
    assert len(process.stderr.splitlines()) == 1
    assert "6 of 7 jobs have no training clips" in process.stderr
    assert "bash tools/data_download.sh DCASE2023T2 dev" in process.stderr
    assert "run only the machine types that have them: fan" in process.stderr
    write_machine(machine_folder(workplace / "data", "valve"))
    process = script("02a_test.sh", "-d", "fan", "valve", *directories(workplace))
    assert (process.returncode, process.stdout) == (1, "")
    assert "2 of 2 jobs have no trained network" in process.stderr
    assert "train them first (bash 01_train.sh -d" in process.stderr


def test_without_the_packages_one_sentence_says_how_to_install_them(tmp_path):
    copy = tmp_path / "copy"
    for name in ("01_train.sh", "tools/python.sh"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, copy / name)
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    process = run("bash", copy / "01_train.sh", "-d", PYTHON="", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert process.returncode == 1
    assert len(process.stderr.splitlines()) == 1
    assert f"bash {copy}/tools/install.sh" in process.stderr


def test_no_module_of_the_folder_that_a_script_is_called_from_is_imported(workplace):
    write_machine(machine_folder(workplace / "data", "valve"))
    (workplace / "tools").mkdir()
    for name in ("common.py", "tools/__init__.py", "signal.py", "torch.py", "threading.py"):
        (workplace / name).write_text("raise SystemExit('imported from the wrong folder')\n")
    words = ["-d", "fan", "valve", "-j", "2", "--epochs", "1", *directories(workplace)]
    process = script("01_train.sh", *words, cwd=workplace)
    assert (process.returncode, process.stderr) == (0, "")


PROGRAM = """
import sys, time
from common import Stopped
from tools.runtime.process import run_command
from tools.runtime.progress import say

def work():
    try:
        say("begun")
        time.sleep(60)
    except Stopped as stop:
        time.sleep(0.3)
        print("saved", flush=True)
        stop.say("all is saved")
        raise

sys.exit(run_command(work))
"""


@pytest.mark.parametrize("n_parallel", [1, 2])
def test_jobs_save_their_work_when_their_parent_is_killed(tmp_path, n_parallel):
    (tmp_path / "program.py").write_text(PROGRAM)
    starter = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
from tools.jobs import pool
from tools.jobs.stages import Job
from tools.runtime.forkserver import start_server
folder = Path({str(tmp_path)!r})
if __name__ == "__main__":
    start_server(["tools.jobs.pool"])
    jobs = [Job(str(i), [], folder / f"{{i}}.log", folder, None) for i in range(2)]
    pool.run_jobs(jobs, {n_parallel}, "trying", folder / "program.py")
"""
    (tmp_path / "starter.py").write_text(starter)
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen([sys.executable, tmp_path / "starter.py"], stdout=out, stderr=out)
    files = [tmp_path / "out"] if n_parallel == 1 else [tmp_path / "0.log", tmp_path / "1.log"]

    def wait_for(text):
        deadline = time.monotonic() + 60
        while not all(file.is_file() and text in file.read_text() for file in files):
            assert time.monotonic() < deadline, [file.read_text() for file in files if file.is_file()]
            time.sleep(0.05)

    wait_for("begun")
    process.kill()
    process.wait()
    wait_for("error: stopped by SIGTERM; all is saved")
    assert all("saved" in file.read_text() for file in files)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("machine_types", [["fan"], ["fan", "valve"]])
def test_a_stopped_script_leaves_no_job_behind(workplace, number, status, machine_types):
    write_machine(machine_folder(workplace / "data", "valve"))
    words = ["-d", *machine_types, "-j", "2", "--epochs", "100000", "--batch_size", "16", *directories(workplace)]
    command = ["bash", REPOSITORY / "01_train.sh", *words]
    environment = {**os.environ, "PYTHON": sys.executable}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    logs = [
        workplace / "logs/baseline" / f"DCASE2023T2-AE_DCASE2023T2{m}_id(0_)_seed13711/01_train.log"
        for m in machine_types
    ]
    if len(machine_types) == 1:
        while not process.stdout.readline().startswith("epoch   1/"):
            assert process.poll() is None
    else:
        while not all(log.is_file() and "epoch   1/" in log.read_text() for log in logs):
            assert process.poll() is None
            time.sleep(0.1)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status
    with pytest.raises(ProcessLookupError):  # no process of its session is left, but for what init has not reaped yet
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    assert not list(workplace.rglob("*.partial"))
    assert [path for path in workplace.glob("models/saved_model/**/*") if path.is_file()] == []
