"""The project's own figures on a small case (golden/make_golden.py), through the scripts.

Compared to the last digit on the processor type and C library that made them; on others, the first epoch's losses
within OTHER_PROCESSOR; and on all, the tables that come from the golden scores within 1e-9.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from synthetic import assert_first_epoch, copy_repository, rounds_alike, script

sys.path.insert(0, str(Path(__file__).parent / "golden"))
from make_golden import EXPECTED, golden_files, run_golden

FILES = golden_files(EXPECTED)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a finished run."""
    root = tmp_path_factory.mktemp("golden")
    run_golden(root)
    return root


def test_the_same_files_are_written_and_the_first_epoch_is_the_same_on_any_processor(finished):
    assert golden_files(finished) == FILES
    assert len(FILES) == 2 + 1 + 2 * 2 * 3 + 2 * 2 + 6
    for path in FILES[:2]:
        assert_first_epoch(finished / path, EXPECTED / path)


@pytest.mark.skipif(not rounds_alike(), reason="another processor type or C library than the golden figures'")
def test_every_figure_is_the_same_to_the_last_digit(finished):
    assert [path for path in FILES if (finished / path).read_bytes() != (EXPECTED / path).read_bytes()] == []


def test_the_golden_result_tables_give_the_golden_summary(tmp_path, summarize):
    shutil.copytree(EXPECTED / "results", tmp_path / "results")
    shutil.rmtree(tmp_path / "results/dev_data/baseline")
    assert summarize().status == 0
    tables = [path for path in FILES if "summarize" in path.parts]
    assert len(tables) == 10
    for path in tables:
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / path), pd.read_csv(EXPECTED / path), rtol=1e-9)


def test_the_scripts_work_from_the_repository_of_a_path_with_spaces(tmp_path):
    copy = tmp_path / "a copy"
    copy_repository(copy)
    process = script(str(copy / "03_summarize_results.sh"), "DCASE2023T2", "-e", cwd=tmp_path)
    assert process.returncode == 1
    assert f"{copy}/results/eval_data/baseline_MAHALA" in process.stderr
