"""The project's own figures on a small case (golden/make_golden.py), through the scripts.

Compared to the last digit on the processor type and C library that made them; on others, the first epoch's losses
within OTHER_PROCESSOR; and on all, the tables that come from the golden scores within 1e-9.
"""

import shutil
import sys
from pathlib import Path

import pytest
from synthetic import OTHER_PROCESSOR, copy_repository, rounds_alike, rows, script

sys.path.insert(0, str(Path(__file__).parent / "golden"))
from make_golden import EXPECTED, golden_files, run_golden


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a finished run."""
    root = tmp_path_factory.mktemp("golden")
    run_golden(root)
    return root


def test_the_same_files_are_written(finished):
    assert golden_files(finished) == golden_files(EXPECTED)
    assert len(golden_files(EXPECTED)) == 2 + 1 + 2 * 2 * 3 + 2 * 2 + 6


@pytest.mark.skipif(not rounds_alike(), reason="another processor type or C library than the golden figures'")
@pytest.mark.parametrize("path", golden_files(EXPECTED), ids=str)
def test_every_figure_is_the_same_to_the_last_digit(finished, path):
    assert (finished / path).read_bytes() == (EXPECTED / path).read_bytes()


@pytest.mark.parametrize("path", [path for path in golden_files(EXPECTED) if path.name == "log.csv"], ids=str)
def test_the_first_epoch_is_the_same_on_any_processor(finished, path):
    ours, expected = rows(finished / path), rows(EXPECTED / path)
    assert ours[0] == expected[0] == ["loss", "val_loss", "recon_loss", "recon_loss_source", "recon_loss_target"]
    assert [float(v) for v in ours[1]] == pytest.approx([float(v) for v in expected[1]], rel=OTHER_PROCESSOR)
    assert len(ours) == len(expected) == 3


def test_the_golden_result_tables_give_the_golden_summary(tmp_path):
    results = tmp_path / "results"
    shutil.copytree(EXPECTED / "results", results)
    summary = results / "dev_data" / "baseline"
    shutil.rmtree(summary)
    process = script("03_summarize_results.sh", "DCASE2023T2", "-d", "--result_directory", results)
    assert process.returncode == 0, process.stderr
    tables = [path for path in golden_files(EXPECTED) if "summarize" in path.parts]
    assert len(tables) == 10
    for path in tables:
        ours, expected = rows(tmp_path / path), rows(EXPECTED / path)
        assert [row[0] for row in ours] == [row[0] for row in expected]
        assert ours[0] == expected[0]
        for our_row, expected_row in zip(ours[1:], expected[1:], strict=True):
            for ours_cell, expected_cell in zip(our_row, expected_row, strict=True):
                if ours_cell != expected_cell:
                    assert float(ours_cell) == pytest.approx(float(expected_cell), rel=1e-9)


def test_the_scripts_work_from_the_repository_of_a_path_with_spaces(tmp_path):
    copy = tmp_path / "a copy"
    copy_repository(copy)
    process = script(str(copy / "03_summarize_results.sh"), "DCASE2023T2", "-e", cwd=tmp_path)
    assert process.returncode == 1
    assert f"{copy}/results/eval_data/baseline_MAHALA" in process.stderr
