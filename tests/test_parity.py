"""The reference's figures, if its parity cases are available: $PARITY_DIR, else ../shared/parity beside the checkout.

On a processor of the maker whose processor made the figures, everything is compared to the last digit (which needs the
parameter instruction_set); on another, the first epoch's losses within OTHER_PROCESSOR.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from synthetic import (
    OTHER_PROCESSOR,
    REPOSITORY,
    assert_first_epoch,
    directories,
    record_of,
    rounds_alike,
    run,
    succeed,
)

from tools import rename_eval_wav

PARITY_DIR = Path(os.environ.get("PARITY_DIR", REPOSITORY.parent / "shared" / "parity"))
OPTIONS = (
    "--epochs 3 --seed 42 --batch_size 99 -lr 0.0005 --n_mels 64 --frames 3 --frame_hop_length 2 --n_fft 512 "
    "--hop_length 256 --validation_split 0.2 --decision_threshold 0.8 --max_fpr 0.2"
)
OPTIONS_CASE = "dcase2023_dev_options"
# cases -> challenge, mode, machine types, epochs; the second of two cases has the same clips with labels
CASES = {
    ("dcase2023_dev",): ("DCASE2023T2", "-d", ("fan", "ToyCar"), 30),
    ("dcase2023_eval_unlabelled", "dcase2023_eval"): ("DCASE2023T2", "-e", ("bandsaw", "Vacuum"), 5),
    ("dcase2022_dev",): ("DCASE2022T2", "-d", ("gearbox",), 5),
    ("dcase2020_dev",): ("DCASE2020T2", "-d", ("ToyConveyor",), 5),
}
missing = pytest.mark.skipif(
    not PARITY_DIR.is_dir(), reason=f"parity: 0 cases compared, there is no folder {PARITY_DIR}"
)


@missing
@pytest.mark.parametrize("cases", CASES, ids="+".join)
def test_case_gives_the_reference_figures(run_jobs, summarize, call_command, tmp_path, cases):
    """The calls are those of the scripts, in this process: train, test by MSE, test by MAHALA, summarise."""
    challenge, mode, machine_types, epochs = CASES[cases]
    copy_clips(challenge.lower(), tmp_path)
    words = [mode, *machine_types, f"--challenge={challenge}", *directories(tmp_path)]

    def test_all():
        for score in ("MSE", "MAHALA"):
            run_jobs("02_test.sh", score, *words)

    run_jobs("01_train.sh", "train", *words, f"--epochs={epochs}")
    test_all()
    if len(cases) > 1:
        compare(cases[0], tmp_path)
        labels = ["--eval_data_list", PARITY_DIR / "data/eval_data_list_2023.csv"]
        rename = ["--dataset_parent_dir", tmp_path / "data", "--dataset_type", challenge, *labels]
        succeed(call_command(rename_eval_wav.main, *rename))
        test_all()
    succeed(summarize(challenge=challenge, subset=mode))
    compare(cases[-1], tmp_path)


def copy_clips(folder: str, root: Path) -> None:
    """Copy clips of the cases, which may be read-only, to data/ below `root`."""
    shutil.copytree(PARITY_DIR / "data" / folder, root / "data" / folder, copy_function=shutil.copyfile)
    for path in (root / "data").rglob("*/"):
        path.chmod(0o755)


def compare(case: str, folder: Path) -> None:
    """Compare the files of a case's run with the reference's."""
    expected, logs = PARITY_DIR / "expected" / case, folder / "logs/baseline"
    if not rounds_alike():
        for log in (expected / "logs").glob("*.csv"):
            assert_first_epoch(logs / log.stem / "log.csv", log)
        return
    own = ["--own-section-only"] if case in ("dcase2020_dev", "dcase2022_dev") else []
    options = ["--results", folder / "results", "--logs", logs, *own]
    comparison = run(sys.executable, PARITY_DIR / "compare.py", expected, *options)
    assert comparison.returncode == 0, comparison.stdout
    distributions = json.loads((expected / "score_distributions.json").read_text())
    assert distributions
    for name, gamma in distributions.items():
        run_name, _, score = name.removeprefix("score_distr_").rpartition("_")
        assert record_of(folder, run_name)["scores"][score.upper()]["gamma"] == gamma


@missing
def test_case_dcase2023_dev_options_by_the_references_calls_and_parameter_file(succeeds, tmp_path, monkeypatch):
    """The calls are its scripts' (v5's, with --mono); the parameters are in its form of baseline.yaml."""
    copy_clips("dcase2023t2/dev_data/raw/fan", tmp_path)
    words = iter(f"{OPTIONS} --use_cuda True --fmax null --win_length null --dataset_directory ./data".split())
    lines = [f"{key}: {value}" for key, value in zip(words, words, strict=True)]
    lines += [f"--{name}_directory: ./{name}s" for name in ("result", "model", "log")]
    (tmp_path / "baseline.yaml").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    for stage in ("--train_only", "--score MSE --test_only", "--score MAHALA --test_only"):
        words = "--dataset DCASE2023T2fan -d -tag id(0_) --use_ids 0 --config baseline.yaml --mono True".split()
        succeeds(*words, *stage.split())
    compare(OPTIONS_CASE, tmp_path)


@missing
def test_every_case_of_the_reference_has_a_test():
    cases = [OPTIONS_CASE, *(case for several in CASES for case in several)]
    assert sorted(cases) == sorted(path.name for path in (PARITY_DIR / "expected").iterdir())


def verdict(n_compared: int) -> str:
    """Return the last line of a test run."""
    if not PARITY_DIR.is_dir():
        return f"parity: 0 cases compared, since there is no folder {PARITY_DIR}"
    exactness = (
        "to the last digit"
        if rounds_alike()
        else f"first epoch within {OTHER_PROCESSOR:g} (another processor type or C library)"
    )
    return f"parity: {n_compared} cases compared, {exactness}"
