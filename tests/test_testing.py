"""The test stage: what it reads, and what it writes where something is missing."""

import math
import shutil
import sys

import pytest
from synthetic import REPOSITORY, RESULTS, directories, machine_folder, rows, run, succeed, write_clip, written

from tools.results import __main__ as summary

RUN = "DCASE2023T2-AE_DCASE2023T2fan_id(0_)_seed13711"


@pytest.fixture
def trained(call_train, workplace, options):
    """Return the options of a run that has been trained under the scripts' tag."""
    words = [*options, "-tag", "id(0_)", "--use_ids", "0", "--epochs", "1"]
    succeed(call_train(*words, "--train_only"))
    return words


def test_testing_reads_only_network_threshold_and_test_clips(call_train, workplace, trained):
    shutil.rmtree(machine_folder(workplace / "data") / "train")
    shutil.rmtree(workplace / "data/dcase2023t2/dev_data/processed")
    shutil.rmtree(workplace / "models/checkpoint")
    succeed(call_train(*trained, "--test_only"))
    folder = workplace / "results/dev_data/baseline_MSE"
    names = {
        "anomaly_score_DCASE2023T2fan_section_00_test_seed13711_id(0_).csv",
        "decision_result_DCASE2023T2fan_section_00_test_seed13711_id(0_).csv",
        "result_DCASE2023T2fan_test_seed13711_id(0_)_roc.csv",
        f"{RUN}_anm_score.png",
        "test_DCASE2023T2fan_test_seed13711_id(0_).json",
    }
    assert {path.name for path in folder.iterdir()} == names


@pytest.mark.parametrize("score", ["MSE", "MAHALA"])
def test_a_network_without_threshold_gives_scores_without_decisions(call_train, workplace, trained, score):
    """A network of the reference comes as a .pth alone."""
    for path in workplace.glob("models/saved_model/baseline/*.json"):
        path.unlink()
    out = succeed(call_train(*trained, "--test_only", "--score", score))
    assert out.count("no decisions: ") == 1
    assert "; train here: the reference's pickle is never loaded\n" in out
    folder = workplace / f"results/dev_data/baseline_{score}"
    scores = rows(folder / "anomaly_score_DCASE2023T2fan_section_00_test_seed13711_id(0_).csv")
    decisions = rows(folder / "decision_result_DCASE2023T2fan_section_00_test_seed13711_id(0_).csv")
    assert [name for name, _ in scores] == [name for name, _ in decisions]
    assert all(math.isfinite(float(value)) for _, value in scores)
    assert {value for _, value in decisions} == {""}
    header, first, *_ = rows(folder / "result_DCASE2023T2fan_test_seed13711_id(0_)_roc.csv")
    cells = dict(zip(header, first, strict=True))
    assert float(cells["AUC (source)"]) >= 0
    assert cells["precision (source)"] == cells["F1 score (target)"] == ""


def test_a_single_class_leaves_auc_empty_here_and_in_the_summary(call_train, call_command, workplace, trained):
    for path in (machine_folder(workplace / "data") / "test").glob("*anomaly*"):
        path.unlink()
    out = succeed(call_train(*trained, "--test_only"))
    undefined = "AUC (source), AUC (target), pAUC, pAUC (source), pAUC (target)"
    assert f"section 00: {undefined} left empty: there are no anomalous clips\n" in out
    assert "; hits 0 of 0 (source), 0 of 0 (target)\n" in out
    header, first, *_ = rows(
        workplace / "results/dev_data/baseline_MSE/result_DCASE2023T2fan_test_seed13711_id(0_)_roc.csv"
    )
    cells = dict(zip(header, first, strict=True))
    assert (cells["pAUC"], cells["recall (source)"]) == ("", "0.0")  # 0: as in the reference
    outcome = call_command(summary.main, "DCASE2023T2", "-d", *directories(workplace))
    assert outcome.status == 0, outcome.err
    assert "fan section 00 has no AUC (source), AUC (target), pAUC: there are no anomalous clips" in outcome.out
    for absent in ("Empty DataFrame", "None", " 0.00", "by machine type", "complete set"):
        assert absent not in outcome.out
    assert "baseline_MSE has no labelled results for ToyCar, " in outcome.out
    extract = rows(workplace / "results/dev_data/baseline/summarize/DCASE2023T2/DCASE2023T2_auc_pauc_extract.csv")
    assert extract[0][:4] == ["System", "metric", "h-mean", "a-mean"]
    assert all(cell == "" for row in extract[1:] for cell in row[2:])


def test_clips_of_unequal_length_work(call_train, workplace, options):
    folder = machine_folder(workplace / "data")
    write_clip(folder / "train" / "section_00_source_train_normal_0020.wav", 20, seconds=1.7)
    write_clip(folder / "test" / "section_00_source_test_normal_0020.wav", 21, seconds=0.2)
    succeed(call_train(*options, "--score", "MAHALA"))
    scores = rows(
        workplace / "results/dev_data/baseline_MAHALA/anomaly_score_DCASE2023T2fan_section_00_test_seed13711.csv"
    )
    assert len(scores) == 13
    assert "section_00_source_test_normal_0020.wav" in dict(scores)


def test_results_are_the_same_from_any_folder_and_number_of_cores(call_train, workplace, trained):
    succeed(call_train(*trained, "--test_only"))
    before = written(workplace, RESULTS)
    words = [word.replace(f"{workplace}/", "") for word in trained]
    process = run(sys.executable, REPOSITORY / "train.py", *words, cwd=workplace, OMP_NUM_THREADS="2")
    assert process.returncode == 0, process.stderr
    assert written(workplace, RESULTS) == before
