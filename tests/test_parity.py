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
    directories,
    machine_folder,
    rows,
    run,
    same_processor_type,
    script,
    succeed,
)

from tools import rename_eval_wav
from tools.results import __main__ as summarize_results

PARITY_DIR = Path(os.environ.get("PARITY_DIR", REPOSITORY.parent / "shared" / "parity"))
OPTIONS = (
    "--epochs 3 --seed 42 --batch_size 99 -lr 0.0005 --n_mels 64 --frames 3 --frame_hop_length 2 --n_fft 512 "
    "--hop_length 256 --validation_split 0.2 --decision_threshold 0.8 --max_fpr 0.2"
)
# case -> challenge, mode, machine types, options of the run, whether it is summarised
CASES = {
    "dcase2023_dev": ("DCASE2023T2", "-d", ("fan", "ToyCar"), "--epochs 30", True),
    "dcase2023_dev_options": ("DCASE2023T2", "-d", ("fan",), OPTIONS, False),
    "dcase2023_eval_unlabelled": ("DCASE2023T2", "-e", ("bandsaw", "Vacuum"), "--epochs 5", False),
    "dcase2023_eval": ("DCASE2023T2", "-e", ("bandsaw", "Vacuum"), "--epochs 5", True),
    "dcase2022_dev": ("DCASE2022T2", "-d", ("gearbox",), "--epochs 5", True),
    "dcase2020_dev": ("DCASE2020T2", "-d", ("ToyConveyor",), "--epochs 5", True),
}
missing = pytest.mark.skipif(
    not PARITY_DIR.is_dir(), reason=f"parity: 0 cases compared, there is no folder {PARITY_DIR}"
)


@missing
@pytest.mark.parametrize("case", CASES)
def test_case_gives_the_reference_figures(case, tmp_path, run_jobs, call_command):
    """The first case by the scripts, the others by the same commands in this process."""
    challenge, mode, machine_types, options, summarised = CASES[case]
    shutil.copytree(PARITY_DIR / "data" / challenge.lower(), tmp_path / "data" / challenge.lower())
    for path in (tmp_path / "data").rglob("*/"):
        path.chmod(0o755)  # those of the reference's clips may be read-only
    if case == "dcase2023_eval":
        label = ["--dataset_parent_dir", tmp_path / "data", "--dataset_type", challenge]
        label += ["--eval_data_list", PARITY_DIR / "data" / "eval_data_list_2023.csv"]
        succeed(call_command(rename_eval_wav.main, *label))
    words = [mode, *machine_types, *options.split(), *directories(tmp_path)]
    summary = [challenge, mode, "--result_directory", tmp_path / "results"]
    if case == "dcase2023_dev":
        for name in ("01_train.sh", "02a_test.sh", "02b_test.sh"):
            assert script(name, *words).returncode == 0
        assert script("03_summarize_results.sh", *summary).returncode == 0
    else:
        for name, stage in (("01_train.sh", "train"), ("02a_test.sh", "MSE"), ("02b_test.sh", "MAHALA")):
            run_jobs(name, stage, "--challenge", challenge, *words)
        if summarised:
            succeed(call_command(summarize_results.main, *summary))
    compare(case, tmp_path)


def compare(case: str, folder: Path) -> None:
    """Compare the files of a case's run with the reference's."""
    if same_processor_type():
        options = ["--results", folder / "results", "--logs", folder / "logs" / "baseline"]
        own = ["--own-section-only"] if case in ("dcase2020_dev", "dcase2022_dev") else []
        comparison = run(sys.executable, PARITY_DIR / "compare.py", PARITY_DIR / "expected" / case, *options, *own)
        assert comparison.returncode == 0, comparison.stdout
        distributions = json.loads((PARITY_DIR / "expected" / case / "score_distributions.json").read_text())
        assert distributions
        for name, expected in distributions.items():
            run_name, _, score = name.removeprefix("score_distr_").rpartition("_")
            record = json.loads((folder / "models" / "saved_model" / "baseline" / f"{run_name}.json").read_text())
            assert record["scores"][score.upper()]["gamma"] == expected
    else:
        for log in (PARITY_DIR / "expected" / case / "logs").glob("*.csv"):
            assert _first_epoch(folder / "logs" / "baseline" / log.stem / "log.csv") == pytest.approx(
                _first_epoch(log), rel=OTHER_PROCESSOR
            )


@missing
@pytest.mark.parametrize("further", [(), ("--mono", "True")], ids=["v2", "v5"])
def test_the_references_calls_and_parameter_file_give_its_figures(call_train, tmp_path, monkeypatch, further):
    """The calls are its scripts'; the parameters are in its form of baseline.yaml, with some of the keys."""
    shutil.copytree(PARITY_DIR / "data/dcase2023t2/dev_data/raw/fan", machine_folder(tmp_path / "data"))
    words = iter(f"{OPTIONS} --use_cuda True --fmax null --win_length null --dataset_directory ./data".split())
    lines = [f"{key}: {value}" for key, value in zip(words, words, strict=True)]
    lines += [f"--{name}_directory: ./{name}s" for name in ("result", "model", "log")]
    (tmp_path / "baseline.yaml").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    for stage in ("--train_only", "--score MSE --test_only", "--score MAHALA --test_only"):
        words = "--dataset DCASE2023T2fan -d -tag id(0_) --use_ids 0 --config baseline.yaml".split()
        outcome = call_train(*words, *further, *stage.split())
        assert outcome.status == 0, outcome.err
    compare("dcase2023_dev_options", tmp_path)


@missing
def test_every_case_of_the_reference_has_a_test():
    assert sorted(CASES) == sorted(p.name for p in (PARITY_DIR / "expected").iterdir())


def verdict(n_compared: int) -> str:
    """Return the last line of a test run."""
    if not PARITY_DIR.is_dir():
        return f"parity: 0 cases compared, since there is no folder {PARITY_DIR}"
    exactness = (
        "to the last digit"
        if same_processor_type()
        else f"first epoch within {OTHER_PROCESSOR:g} (another processor type)"
    )
    return f"parity: {n_compared} cases compared, {exactness}"


def _first_epoch(path: Path) -> list[float]:
    return [float(value) for value in rows(path)[1]]
