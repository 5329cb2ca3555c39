"""The command line of 01 and 02: options, machine types and seeds, and the resulting jobs."""

import json
import os
import re
import shlex
from functools import partial
from unittest.mock import Mock

import pytest
from synthetic import REPOSITORY, directories, script, succeed

from tools import jobs
from tools.jobs import make_jobs, parse_arguments


def settings_of(words: str, stage: str = "train"):
    """Return the settings of a command line of 01_train.sh, or of another stage."""
    return parse_arguments("01_train.sh", stage, words.split())


@pytest.mark.parametrize(
    ("words", "expected", "given"),
    [
        ("fan -d ToyCar --epochs 3", (False, "DCASE2023T2", ["fan", "ToyCar"], None), {"epochs": 3}),
        ("-e pump --challenge DCASE2021T2 -lr 0.1 -j 2", (True, "DCASE2021T2", ["pump"], 2), {"learning_rate": 0.1}),
    ],
)
def test_options_and_machine_types_may_stand_anywhere(words, expected, given):
    line = settings_of(words)
    assert (line.eval, line.challenge, line.machine_types, line.jobs) == expected
    assert {name: line.values[name] for name in line.given} == given


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "one of the arguments -d/--dev -e/--eval is required"),
        ("-d --challenge DCASE1999T2", "'DCASE1999T2' is not allowed; it takes DCASE2020T2 or "),
        ("-d --use_ids 1", "unrecognized arguments: --use_ids"),
        ("-d --score=MSE", "unrecognized arguments: --score=MSE"),
        ("-d --jobs=0", "'0' is not allowed; it takes a whole number from 1 to 1000"),
        ("-d --seeds x", "'x' is not allowed; it takes whole numbers from 0"),
        ("-d --seeds 1 2 --seed 2", "give either --seed or --seeds"),
    ],
)
def test_wrong_usage_is_refused(words, sentence, capsys):
    with pytest.raises(SystemExit, match="2"):
        settings_of(words)
    assert sentence in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        settings_of("-d --score KNN", "MSE")
    assert "tests by MSE; another score: bash tools/02_test.sh --score NAME" in capsys.readouterr().err


def test_each_machine_type_section_and_seed_is_a_job_with_the_references_tag():
    made = make_jobs(settings_of("-e --challenge DCASE2020T2 --seed 7", "MAHALA"))
    assert len(made) == len({job.log for job in made}) == 18
    words = r"--dataset DCASE2020T2fan -e -tag id\(1_\) --use_ids 1 --test_only --score=MAHALA --defaults=\S+ --seed=7"
    assert re.fullmatch(words, " ".join(made[0].words))
    assert made[-1].words[1] == "DCASE2020T2ToyConveyor"
    assert make_jobs(settings_of("-d --score MAHALA", "test")) == make_jobs(settings_of("-d", "MAHALA"))  # 02 and 02b
    made = make_jobs(settings_of("fan -d --seeds 3 1 3 --epochs 2"))
    expected = {f"fan section 00 seed {seed}": ["--epochs=2", f"--seed={seed}"] for seed in (3, 1)}
    assert {job.name: job.words[-2:] for job in made} == expected
    assert len(made) == len({job.log for job in made}) == 2


def test_the_legacy_scripts_take_the_challenge_first(tmp_path):
    legacy = partial(script, "tools/02b_test_legacy.sh")
    process = legacy("DCASE2021T2", "-d", "pump", "--log_directory", tmp_path, "--max_fpr", 0.3, "--dry_run")
    expected = "--dataset DCASE2021T2pump -d -tag 'id({0}_)' --use_ids {0} --test_only --score=MAHALA --defaults="
    for section, line in enumerate(process.stdout.splitlines()):
        assert expected.format(section) in line and line.endswith(f" --log_directory={tmp_path} --max_fpr=0.3")
    assert section == 2
    process = legacy("pump", "-d")
    assert process.returncode == 2
    assert "argument --challenge: 'pump' is not allowed; it takes DCASE2020T2 or" in process.stderr


def job_words(call_command, *argv: object) -> list[list[str]]:
    """Return the words of train.py, for each job of a stage."""
    out = succeed(call_command(lambda: jobs.main(["01_train.sh", *map(str, argv), "--dry_run"])))
    lines = [shlex.split(line) for line in out.splitlines()]
    assert {line[1] for line in lines} == {str(REPOSITORY / "train.py")}
    return [line[2:] for line in lines]


def test_parameters_edited_after_the_start_do_not_reach_the_jobs(call_command, call_train, workplace, monkeypatch):
    """Neither those of baseline.yaml nor of --config; paths in both stay relative to their folders."""
    config, defaults = workplace / "own/c.yaml", workplace / "repository/baseline.yaml"
    for file in (config, defaults):
        file.parent.mkdir()
    defaults.write_text((REPOSITORY / "baseline.yaml").read_text().replace(": ./", ": ../"))
    config.write_text("log_directory: ../losses\nepochs: 1\nbatch_size: 16\n")
    monkeypatch.setattr("common.DEFAULTS", defaults)
    words = ["train", "-d", "fan", "--config", config, "-lr", "0.002"]
    (job,) = job_words(call_command, *words)
    assert job_words(call_command, *words) == [job]
    copies = workplace.glob("losses/baseline/parameters/*/*")
    assert sorted(path.name for path in copies) == ["baseline.yaml", "c.yaml"]
    for file in (config, defaults):
        file.write_text("epochs: 2\nframes: 3\nseed: 1\n")
    succeed(call_train(*job))
    (record,) = workplace.glob("models/saved_model/baseline/DCASE2023T2-AE*_seed13711.json")
    expected = {"epochs": 1, "frames": 5, "batch_size": 16, "learning_rate": 0.002}
    assert expected.items() <= json.loads(record.read_text()).items()


def test_a_copied_parameter_is_no_option_of_the_user(call_command, call_train, workplace):
    """An option that contradicts the record is an error; a file's value is a note with the file's name."""
    words = ["-d", "fan", *directories(workplace)]
    (job,) = job_words(call_command, "train", *words, "--epochs", 1, "--frames", 4)
    succeed(call_train(*job))
    config = workplace / "c.yaml"
    config.write_text("n_mels: 64\n")
    (job,) = job_words(call_command, "MSE", *words, "--config", config)
    assert "parameters of the network's record: n_mels 128 (c.yaml: 64), frames 4 (baseline.yaml: 5)" in succeed(
        call_train(*job)
    )


@pytest.mark.parametrize(
    ("cores", "gib", "threads", "on_cuda", "expected"),
    [(8, 16, 1, False, 8), (8, 16, 3, False, 2), (8, 3.5, 1, False, 3), (1, 0.5, 4, False, 1), (8, 16, 1, True, 1)],
)
def test_as_many_jobs_run_as_cores_and_memory_allow(monkeypatch, cores, gib, threads, on_cuda, expected):
    assert 1 <= jobs.available_cores() <= os.cpu_count()
    assert 2**26 < jobs.free_memory() < 2**50
    for name, value in (("available_cores", cores), ("free_memory", int(gib * 2**30)), ("_has_cuda", on_cuda)):
        monkeypatch.setattr(jobs, name, Mock(return_value=value))
    assert jobs.default_parallel(settings_of(f"-d --threads {threads}")) == expected
