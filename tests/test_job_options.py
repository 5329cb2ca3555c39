"""The command line of 01, 02 and 03: options, machine types and seeds, and the resulting jobs."""

import json
import os
import shlex

from common import BY_NAME, Settings

import pytest
from synthetic import REPOSITORY, directories, script

from tools.jobs import __main__ as jobs_command
from tools.jobs import pool
from tools.jobs.command_line import make_parser, parse_jobs
from tools.jobs.stages import TRAIN, make_jobs, score_stage


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
    words = "--dataset DCASE2020T2fan -e -tag id(1_) --use_ids 1 --test_only --score=MAHALA --seed=7".split()
    assert [word for word in jobs[0].words if not word.startswith("--defaults=")] == words
    assert jobs[-1].words[1] == "DCASE2020T2ToyConveyor"


def test_each_seed_is_a_separate_job():
    line = settings_of("--seeds 3 1 3 fan -d --epochs 2")
    assert (line.seeds, line.machine_types) == ((3, 1), ["fan"])
    jobs = make_jobs(TRAIN, line)
    assert [job.name for job in jobs] == ["fan section 00 seed 3", "fan section 00 seed 1"]
    assert [job.words[-2:] for job in jobs] == [["--epochs=2", f"--seed={seed}"] for seed in ("3", "1")]
    assert len({job.log for job in jobs}) == 2
    for words in ("-d --seeds", "-d --seeds x", "-d --seeds 1 --seed 2"):
        with pytest.raises(SystemExit, match="2"):
            settings_of(words)


def test_the_legacy_scripts_take_the_challenge_first(capsys, tmp_path):
    words = ["tools/01_train_legacy.sh", "train", "--legacy"]
    given = [*"DCASE2021T2 -d pump --epochs 3 --dry_run --log_directory".split(), str(tmp_path)]
    assert jobs_command.main([*words, *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("train.py ")[2].split()[1] for line in lines] == ["DCASE2021T2pump"] * 3
    assert " -d -tag 'id(2_)' --use_ids 2 --defaults=" in lines[2]
    assert lines[2].endswith(f" --train_only --log_directory={tmp_path} --epochs=3")
    for wrong, said in (
        ([], "one of the arguments"),
        (["-d"], "required: CHALLENGE"),
        (["pump", "-d"], "'pump' is not"),
    ):
        with pytest.raises(SystemExit, match="2"):
            jobs_command.main([*words, *wrong])
        assert said in capsys.readouterr().err


def test_the_score_of_02a_and_02b_is_fixed_and_02_takes_any_registered_one(tmp_path):
    process = script("02a_test.sh", "-d", "--score", "MAHALA")
    assert process.returncode == 2
    assert "tools/02_test.sh takes any" in process.stderr
    words = ["-d", "fan", "--dry_run", "--log_directory", tmp_path]
    process = script("tools/02_test.sh", *words, "--score", "MAHALA")
    assert process.stdout == script("02b_test.sh", *words).stdout != ""
    process = script("tools/02_test.sh", "-d", "--score", "KNN")
    assert process.returncode == 2
    assert "'KNN' is not allowed; it takes MAHALA or MSE" in process.stderr


def test_a_dry_run_shows_commands_and_only_copies_the_parameters(workplace):
    before = sorted(path for path in workplace.rglob("*") if path.is_file())
    process = script("01_train.sh", "-d", "fan", "valve", "--dry_run", *directories(workplace))
    assert process.returncode == 0
    assert [shlex.split(line)[1:4] for line in process.stdout.splitlines()] == [
        [str(REPOSITORY / "train.py"), "--dataset", f"DCASE2023T2{machine_type}"] for machine_type in ("fan", "valve")
    ]
    (copy,) = workplace.glob("logs/baseline/parameters/*/baseline.yaml")
    assert sorted(path for path in workplace.rglob("*") if path.is_file()) == sorted([*before, copy])


def job_words(call_command, *argv: object) -> list[list[str]]:
    """Return the words of train.py, for each job of a script: its name, train or test, and its words."""
    outcome = call_command(lambda: jobs_command.main([*map(str, argv), "--dry_run"]))
    assert outcome.status == 0, outcome.err
    return [shlex.split(line)[2:] for line in outcome.out.splitlines()]


def test_parameters_edited_after_the_start_do_not_reach_the_jobs(call_command, call_train, workplace, monkeypatch):
    """Neither those of baseline.yaml nor of --config; paths in both stay relative to their folders."""
    config, defaults = workplace / "own" / "c.yaml", workplace / "repository" / "baseline.yaml"
    for file in (config, defaults):
        file.parent.mkdir()
    text = (REPOSITORY / "baseline.yaml").read_text()
    for name in ("data", "models", "results"):
        text = text.replace(f": ./{name} ", f": ../{name} ")
    defaults.write_text(text)
    config.write_text("log_directory: ../logs\nepochs: 1\nbatch_size: 16\n")
    monkeypatch.setattr("common.DEFAULTS", defaults)
    words = ["01_train.sh", "train", "-d", "fan", "--config", config, "-lr", "0.002"]
    (job,) = job_words(call_command, *words)
    assert job_words(call_command, *words) == [job]
    copies = list(workplace.glob("logs/baseline/parameters/*/*.yaml"))
    assert sorted(path.name for path in copies) == ["baseline.yaml", "c.yaml"]
    for file in (config, defaults):
        file.write_text("epochs: 2\nframes: 3\nseed: 1\n")
    assert call_train(*job).status == 0
    (record,) = workplace.glob("models/saved_model/baseline/DCASE2023T2-AE*_seed13711.json")
    content = json.loads(record.read_text())
    assert [content[name] for name in ("epochs", "frames", "batch_size", "learning_rate")] == [1, 5, 16, 0.002]


def test_a_copied_parameter_is_no_option_of_the_user(call_command, call_train, workplace):
    """An option that contradicts the record is an error; a file's value is a note with the file's name."""
    words = ["-d", "fan", *directories(workplace)]
    (job,) = job_words(call_command, "01_train.sh", "train", *words, "--epochs", 1, "--frames", 4)
    assert call_train(*job).status == 0
    config = workplace / "c.yaml"
    config.write_text("n_mels: 64\n")
    (job,) = job_words(call_command, "02a_test.sh", "test", "--score=MSE", *words, "--config", config)
    outcome = call_train(*job)
    assert outcome.status == 0
    assert "parameters of the network's record: n_mels 128 (c.yaml: 64), frames 4 (baseline.yaml: 5)" in outcome.out


@pytest.mark.parametrize(
    ("cores", "gib", "threads", "on_cuda", "expected"),
    [(8, 16, 1, False, 8), (8, 16, 3, False, 2), (8, 3.5, 1, False, 3), (1, 0.5, 4, False, 1), (8, 16, 1, True, 1)],
)
def test_as_many_jobs_run_as_cores_and_memory_allow(monkeypatch, cores, gib, threads, on_cuda, expected):
    monkeypatch.setattr(pool, "available_cores", lambda: cores)
    monkeypatch.setattr(pool, "available_memory", lambda: int(gib * 2**30))
    assert pool.default_parallel(threads, on_cuda)[0] == expected


def test_cores_and_memory_of_this_machine_are_found():
    assert 1 <= pool.available_cores() <= os.cpu_count()
    assert 2**26 < pool.available_memory() < 2**50
