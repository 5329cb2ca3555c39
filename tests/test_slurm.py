"""The experiment as jobs of Slurm: what is submitted, with stubs in place of Slurm's commands."""

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from synthetic import REPOSITORY, directories, run, script

from tools.jobs import slurm as slurm_array


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


def test_the_script_of_the_tables_accepts_its_options(workplace):
    settings, scores, _ = slurm_array.parse(["-d", "fan", *directories(workplace)])
    process = run("bash", "-c", slurm_array.make_submissions(settings, scores)[-1].script)
    assert process.returncode == 1
    assert "there are no results of DCASE2023T2 with seed 13711 in" in process.stderr


def stub_slurm(folder: Path, sbatch: str) -> dict[str, str]:
    """Write stubs of Slurm's commands that record how they are called; return the environment with them."""
    folder.mkdir()
    for name, body in (("sbatch", sbatch), ("scancel", "")):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{folder}/calls"\n{body}\n')
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_dry_run_is_a_script_that_submits_and_submits_nothing_itself(workplace):
    before = sorted(path for path in workplace.rglob("*") if path.is_file())
    odd = workplace / "a 'b' %A"
    words = ["-d", "fan", "valve", "--dry_run", *directories(workplace), "--log_directory", odd, "--", "-p", "x y"]
    environment = stub_slurm(workplace.with_name("bin"), 'cat > /dev/null; wc -l < "$(dirname "$0")/calls"')
    process = script("tools/slurm_array.sh", *words, cwd=workplace, **environment)
    assert process.returncode == 0, process.stderr
    assert sorted(p for p in workplace.rglob("*") if p.is_file() and p.name != "baseline.yaml") == before
    (copy,) = odd.glob("baseline/parameters/*/baseline.yaml")
    assert process.stdout.count(f"/parameters/{copy.parent.name}/baseline.yaml") == 6
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


def test_if_slurm_refuses_a_job_nothing_stays_submitted(workplace):
    refuses = 'case "$*" in *02_test_MSE*) echo "sbatch: error: no such partition" >&2; exit 1 ;; esac; echo 41'
    environment = stub_slurm(workplace / "bin", refuses)
    process = script("tools/slurm_array.sh", "-d", "fan", *directories(workplace), **environment)
    assert process.returncode == 1
    assert "error: sbatch refused 02_test_MSE: no such partition; nothing is left submitted" in process.stderr
    assert (workplace / "bin" / "calls").read_text().splitlines()[-1] == "scancel 41 41"


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["-d", "fan", "--log_directory", "logs"], 1, "there is no sbatch on this machine"),
        (["-d", "fann"], 1, "DCASE2023T2 has no development machine type 'fann'"),
        ([], 2, "one of the arguments -d/--dev -e/--eval is required"),
        (["-d", "--no_such_option"], 2, "unrecognized arguments: --no_such_option"),
        (["-d", "--", "--array=1"], 2, "--array=1 is set by this script"),
    ],
)
def test_mistakes_are_reported_in_a_sentence(tmp_path, words, status, sentence):
    for name in ("bash", "dirname", "readlink"):
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


def test_no_folder_name_can_end_the_batch_script(workplace):
    environment = stub_slurm(workplace.with_name("stub"), "echo 1")
    process = script("tools/slurm_array.sh", "-d", "fan", "--dry_run", "--export_dir", "a\nEND\ntouch x", **environment)
    assert process.returncode == 2
    assert "is not allowed" in process.stderr
