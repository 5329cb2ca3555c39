"""The command line of 01_train.sh, 02a_test.sh and 02b_test.sh."""

import os
import signal
import subprocess
import sys

import pytest
from synthetic import REPOSITORY, directories, script

from tools import run_jobs
from tools.run_jobs import UsageError, parse_command_line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-d", (False, "DCASE2023T2", [], [])),
        ("--eval bandsaw", (True, "DCASE2023T2", ["bandsaw"], [])),
        ("fan -d ToyCar --epochs 3", (False, "DCASE2023T2", ["fan", "ToyCar"], ["--epochs", "3"])),
        ("fan --epochs 3 -d", (False, "DCASE2023T2", ["fan"], ["--epochs", "3"])),
        ("-d --epochs 3 fan", (False, "DCASE2023T2", [], ["--epochs", "3", "fan"])),
        ("-e pump --challenge DCASE2021T2 -lr 0.1", (True, "DCASE2021T2", ["pump"], ["-lr", "0.1"])),
        ("--challenge=DCASE2022T2 -d", (False, "DCASE2022T2", [], [])),
    ],
)
def test_own_options_are_taken_wherever_they_stand(words, expected):
    line = parse_command_line(words.split())
    assert (line.is_eval, line.challenge, line.machine_types, line.options) == expected


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
    with pytest.raises(UsageError):
        parse_command_line(words.split())


def test_all_machine_types_and_sections_are_run_with_the_references_tags(monkeypatch):
    commands = []
    monkeypatch.setattr(run_jobs, "run_train", lambda words: commands.append(words) or 0)
    monkeypatch.setattr(run_jobs, "import_libraries", lambda stage: None)
    assert run_jobs.main("MAHALA", ["-e", "--challenge", "DCASE2020T2", "--seed", "7"]) == 0
    assert len(commands) == 18
    assert commands[0] == (
        "--dataset DCASE2020T2fan -e -tag id(1_) --use_ids 1 --test_only --score MAHALA --seed 7".split()
    )
    assert commands[-1][1] == "DCASE2020T2ToyConveyor"


def test_the_legacy_scripts_take_the_challenge_first(monkeypatch):
    commands = []
    monkeypatch.setattr(run_jobs, "run_train", lambda words: commands.append(words) or 0)
    monkeypatch.setattr(run_jobs, "import_libraries", lambda stage: None)
    assert run_jobs.main("train", ["--legacy", "DCASE2021T2", "-d", "pump", "--epochs", "3"]) == 0
    assert [command[1] for command in commands] == ["DCASE2021T2pump"] * 3
    assert commands[2][2:] == ["-d", "-tag", "id(2_)", "--use_ids", "2", "--train_only", "--epochs", "3"]
    for words in ([], ["-d"], ["pump", "-d"]):
        assert run_jobs.main("train", ["--legacy", *words]) == 2


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["-d", "fann"], 1, "DCASE2023T2 has no development machine type 'fann'; it has ToyCar, ToyTrain, fan"),
        (["-e", "fan"], 1, "it has ToyDrone, ToyNscale, ToyTank, Vacuum, bandsaw, grinder, shaker"),
        ([], 2, "give either -d (development) or -e (evaluation)"),
        (["-d", "--dataset", "x"], 2, "--dataset is set by this script"),
        (["-d", "--no_such_option"], 2, "unrecognized arguments: --no_such_option"),
        (["-d", "fan", "--epochs", "few"], 2, "'few' is not allowed; it takes a whole number from 1"),
    ],
)
def test_bad_words_are_named_from_any_folder(tmp_path, words, status, sentence):
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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_script_leaves_no_job_behind(workplace, number, status):
    words = ["-d", "fan", "--epochs", "100000", "--batch_size", "16", *directories(workplace)]
    command = ["bash", REPOSITORY / "01_train.sh", *words]
    environment = {**os.environ, "PYTHON": sys.executable}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not process.stdout.readline().startswith("epoch   1/"):
        assert process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status
    with pytest.raises(ProcessLookupError):  # no process of its session is left
        os.killpg(process.pid, 0)
    assert not list(workplace.rglob("*.partial"))
    assert [path for path in workplace.glob("models/saved_model/**/*") if path.is_file()] == []
