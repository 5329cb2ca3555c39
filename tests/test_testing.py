"""The test stage: what it reads, and what it writes where something is missing."""

import shutil
import sys

import pytest
from synthetic import (
    REPOSITORY,
    RESULTS,
    RUN,
    machine_folder,
    network_path,
    results_of,
    run,
    succeed,
    write_clip,
    written,
)


def metrics_of(root, score="MSE"):
    """Return a section's metrics by column."""
    header, first, *_ = results_of(root, "result", f"baseline_{score}")
    return dict(zip(header, first, strict=True))


def test_testing_reads_only_network_threshold_and_test_clips(succeeds, workplace, trained):
    for folder in machine_folder(workplace / "data") / "train", *workplace.glob("data/*/*/processed"):
        shutil.rmtree(folder)
    shutil.rmtree(workplace / "models/checkpoint")
    succeeds(*trained, "--test_only")
    assert {path.name for path in workplace.glob("results/dev_data/baseline_MSE/*")} == {
        "anomaly_score_DCASE2023T2fan_section_00_test_seed13711.csv",
        "decision_result_DCASE2023T2fan_section_00_test_seed13711.csv",
        "result_DCASE2023T2fan_test_seed13711_roc.csv",
        f"{RUN}_anm_score.png",
        "test_DCASE2023T2fan_test_seed13711.json",
    }


@pytest.mark.parametrize("score", ["MSE", "MAHALA"])
def test_a_network_without_a_record_is_tested_with_the_given_parameters_and_gives_scores_without_decisions(
    succeeds, workplace, options, score
):
    """A network of the reference comes as a .pth alone."""
    words, system = [*options, f"--score={score}", "--hop_length=256"], f"baseline_{score}"
    succeeds(*words)
    scores = results_of(workplace, "anomaly_score", system)
    network_path(workplace).with_suffix(".json").unlink()
    out = succeeds(*words, "--test_only")
    assumed = "model DCASE2023T2-AE, n_mels 128, n_fft 1024, hop_length 256, power 2.0, fmin 0.0, fmax null"
    assert f"{RUN}.pth has no record ({RUN}.json) beside it; assumed: {assumed}" in out
    assert out.count("no decisions: ") == 1
    assert "; train here: the reference's pickle is never loaded\n" in out
    assert results_of(workplace, "anomaly_score", system) == scores
    assert results_of(workplace, "decision_result", system) == [[name, ""] for name, _ in scores]
    metrics = metrics_of(workplace, score)
    assert float(metrics["AUC (source)"]) >= 0
    assert metrics["precision (source)"] == metrics["F1 score (target)"] == ""
    succeeds(*words, "--test_only", "--hop_length=512")
    assert results_of(workplace, "anomaly_score", system) != scores


def test_a_single_class_leaves_auc_empty_here_and_in_the_summary(succeeds, summarize, table, workplace, options):
    for path in machine_folder(workplace / "data").glob("test/*anomaly*"):
        path.unlink()
    out = succeeds(*options, "-tag", "id(0_)", "--use_ids=0")
    undefined = "AUC (source), AUC (target), pAUC, pAUC (source), pAUC (target)"
    assert f"section 00: {undefined} left empty: there are no anomalous clips\n" in out
    assert "; hits 0 of 0 (source), 0 of 0 (target)\n" in out
    metrics = metrics_of(workplace)
    assert (metrics["pAUC"], metrics["recall (source)"]) == ("", "0.0")  # 0: as in the reference
    out = succeed(summarize())
    assert "fan section 00 has no AUC (source), AUC (target), pAUC: there are no anomalous clips" in out
    assert "baseline_MSE has no labelled results for ToyCar, " in out
    assert not [word for word in ("Empty DataFrame", "None", " 0.00", "by machine type", "complete set") if word in out]
    extract = table("auc_pauc_extract")
    assert list(extract)[:3] == ["metric", "h-mean", "a-mean"]
    assert extract.iloc[:, 1:].isna().all(axis=None)


def test_clips_of_unequal_length_work(succeeds, workplace, options):
    folder, name = machine_folder(workplace / "data"), "section_00_source_test_normal_0020.wav"
    write_clip(folder / "train" / name.replace("test", "train"), 20, seconds=1.7)
    write_clip(folder / "test" / name, 21, seconds=0.2)
    succeeds(*options, "--score=MAHALA")
    scores = dict(results_of(workplace, "anomaly_score", "baseline_MAHALA"))
    assert len(scores) == 13 and name in scores


def test_results_are_the_same_from_any_folder_and_number_of_cores(succeeds, workplace, trained):
    succeeds(*trained, "--test_only")
    before = written(workplace, RESULTS)
    words = [word.replace(f"{workplace}/", "") for word in trained]
    process = run(sys.executable, REPOSITORY / "train.py", *words, cwd=workplace, OMP_NUM_THREADS="2")
    assert process.returncode == 0, process.stderr
    assert written(workplace, RESULTS) == before
