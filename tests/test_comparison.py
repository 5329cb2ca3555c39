"""03_summarize_results.sh beyond the reference's tables: official score, other systems, several seeds."""

import csv
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tools.results import __main__ as summary

LABELLED = [
    f"section_00_{domain}_test_{label}_{i:04d}.wav"
    for domain in ("source", "target")
    for label in ("normal", "anomaly")
    for i in range(10)
]
KINDS = ("anomaly_score", "decision_result")
PUBLISHED = [f"section_00_{i:04d}.wav" for i in range(len(LABELLED))]


def write_scores(folder, machine_type, seed, names, file=None):
    """Write a machine type's scores and decisions; return the scores, the anomalies' 0.5 higher."""
    rng = np.random.default_rng([seed, len(machine_type)])
    scores = rng.normal(size=len(LABELLED)) + [0.5 * ("anomaly" in name) for name in LABELLED]
    score_name, decision_name = file or (f"{kind}_{machine_type}_section_00_test.csv" for kind in KINDS)
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in ((score_name, scores), (decision_name, (scores > 0).astype(int))):
        with (folder / name).open("w", newline="") as out:
            csv.writer(out).writerows(zip(names, values.tolist(), strict=True))
    return scores


def write_own(results, machine_types, seed, names=LABELLED, is_eval=False):
    """Write our own scores, and the result tables that the reference's summary reads."""
    folder = results / ("eval_data" if is_eval else "dev_data") / "baseline_MSE"
    suffix = "_Eval" if is_eval else ""
    for machine_type in machine_types:
        end = f"DCASE2023T2{machine_type}_section_00_test_seed{seed}_id(0_){suffix}.csv"
        write_scores(folder, machine_type, seed, names, (f"anomaly_score_{end}", f"decision_result_{end}"))
        table = folder / f"result_DCASE2023T2{machine_type}_test_seed{seed}_id(0_){suffix}_roc.csv"
        table.write_text("section,AUC (source),AUC (target),pAUC\n00,0.5,0.5,0.5\n")


@pytest.fixture
def summarize(call_command):
    """Return a function that calls 03_summarize_results.sh's command and returns status, output and errors."""
    return partial(call_command, summary.main)


def test_a_system_with_only_a_result_table_is_shown_without_a_number_of_clips(summarize, tmp_path):
    """03 used to end in an unexpected TypeError."""
    write_own(tmp_path, ["fan"], 13711)
    folder = tmp_path / "dev_data" / "baseline_MAHALA"
    folder.mkdir()
    for path in (tmp_path / "dev_data" / "baseline_MSE").glob("result_*"):
        shutil.copy(path, folder)
    status, out, _ = summarize("DCASE2023T2", "-d", "--result_directory", tmp_path)
    assert status == 0
    rows = out.partition("official score")[2].splitlines()
    assert any(row.split()[:5] == ["baseline_MAHALA", "50.00", "1", "of", "7"] for row in rows)
    assert any(row.split()[4:] == "40 of 40 1 of 7".split() for row in rows if row.startswith("baseline_MSE"))


def test_the_official_score_is_computed_from_the_score_files(summarize, tmp_path):
    write_own(tmp_path, ["fan", "valve"], 13711)
    status, out, _ = summarize("DCASE2023T2", "-d", "--result_directory", tmp_path)
    assert status == 0
    table = pd.read_csv(tmp_path / "dev_data/baseline/summarize/DCASE2023T2/DCASE2023T2_official_score.csv")
    areas = []
    for machine_type in ("fan", "valve"):
        file = next(tmp_path.rglob(f"anomaly_score_DCASE2023T2{machine_type}*"))
        rows = pd.read_csv(file, header=None)
        anomaly, target = rows[0].str.contains("anomaly"), rows[0].str.contains("target")
        for domain in (~target, target):
            areas.append(roc_auc_score(anomaly[domain | anomaly], rows[1][domain | anomaly]))
        areas.append(roc_auc_score(anomaly, rows[1], max_fpr=0.1))
    row = table.iloc[0]
    assert row["official score"] == pytest.approx(len(areas) / sum(1 / area for area in areas))
    assert row["95 % from"] < row["official score"] < row["95 % to"]
    assert row["sections"] == "2 of 7"
    assert f"{100 * row['official score']:.2f}" in out


def test_other_systems_are_in_the_tables_beside_ours(summarize, tmp_path):
    write_own(tmp_path / "results", ["fan"], 13711)
    for machine_type in ("fan", "valve"):
        write_scores(tmp_path / "Rival_X_task2_1", machine_type, 5, LABELLED)
    words = ["DCASE2023T2", "-d", "--result_directory", tmp_path / "results", "--systems", tmp_path / "Rival_X_task2_1"]
    status, out, _ = summarize(*words)
    assert status == 0
    table = pd.read_csv(tmp_path / "results/dev_data/baseline/summarize/DCASE2023T2/DCASE2023T2_systems.csv")
    assert list(table["System"].unique()) == ["baseline_MSE", "Rival_X_task2_1"]
    valve = table.set_index(["System", "metric"])["valve"].notna()
    for metric in (
        "AUC (source)",
        "AUC (target)",
        "pAUC",
        "AUC (all)",
        "precision (all)",
        "recall (all)",
        "F1 score (all)",
    ):
        assert not valve["baseline_MSE", metric]
        assert valve["Rival_X_task2_1", metric]
    assert "by machine type, percent" in out


def test_published_names_are_labelled_by_the_organisers_list(summarize, tmp_path):
    write_own(tmp_path / "results", ["bandsaw"], 13711, PUBLISHED, is_eval=True)
    write_scores(tmp_path / "rival", "bandsaw", 5, PUBLISHED)
    words = ["DCASE2023T2", "-e", "--result_directory", tmp_path / "results", "--dataset_directory", tmp_path]
    status, out, err = summarize(*words, "--systems", tmp_path / "rival")
    assert status == 1
    assert (
        "have scores, but no labels, so there is nothing to summarise; give the organisers' list with --eval_data_list"
        in err
    )
    assert "official score, its" not in out
    with (tmp_path / "eval_data_list_2023.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["bandsaw"], *zip(PUBLISHED, LABELLED, strict=True)])
    status, out, _ = summarize(*words, "--systems", tmp_path / "rival")
    assert status == 0
    assert "rival" in out.partition("official score, its")[2]


def test_clips_of_sections_without_results_are_not_counted(summarize, tmp_path):
    """The list's seven machine types were counted: 280 test clips, where the challenge has 1400."""
    write_own(tmp_path / "results", ["bandsaw"], 13711, is_eval=True)
    with (tmp_path / "eval_data_list_2023.csv").open("w", newline="") as file:
        for machine_type in ("bandsaw", "grinder", "shaker"):
            csv.writer(file).writerows([[machine_type], *zip(PUBLISHED, LABELLED, strict=True)])
    words = ["DCASE2023T2", "-e", "--result_directory", tmp_path / "results", "--dataset_directory", tmp_path]
    assert "\n  40 test clips in these sections, where the challenge has 200: the figures" in summarize(*words).out


def test_mean_and_deviation_over_seeds(summarize, tmp_path):
    tables = tmp_path / "dev_data/baseline/summarize/DCASE2023T2"
    singles = []
    for seed in (1, 2, 3):
        write_own(tmp_path, ["fan"], seed)
        assert summarize("DCASE2023T2", "-d", "--result_directory", tmp_path, "--seed", seed)[0] == 0
        table = pd.read_csv(tables / f"DCASE2023T2_seed{seed}_official_score.csv")
        singles.append(table["official score"][0])
    status, out, _ = summarize("DCASE2023T2", "-d", "--result_directory", tmp_path, "--seeds", 1, 2, 3)
    assert status == 0
    row = pd.read_csv(tables / "DCASE2023T2_seeds_1_2_3.csv").set_index("metric").loc["official score"]
    assert row["seeds"] == 3
    assert row["h-mean mean"] == pytest.approx(np.mean(singles))
    assert row["h-mean std"] == pytest.approx(np.std(singles, ddof=1))
    assert f"{100 * np.mean(singles):.2f} ± {100 * np.std(singles, ddof=1):.2f}" in out
    assert "over the seeds 1, 2, 3" in out
    status, _, err = summarize("DCASE2023T2", "-d", "--result_directory", tmp_path, "--seeds", 1, 9)
    assert status == 1
    assert "with seed 9" in err


def test_scores_of_unlabelled_clips_are_not_reported_as_missing(summarize, tmp_path):
    write_own(tmp_path, ["bandsaw"], 13711, PUBLISHED, is_eval=True)
    next(tmp_path.rglob("result_*")).unlink()
    status, _, err = summarize("DCASE2023T2", "-e", "--result_directory", tmp_path)
    assert status == 1
    assert "have scores, but no labels" in err


@pytest.mark.parametrize("damage", ["missing", "no scores", "same name"])
def test_a_folder_that_is_not_a_system_is_reported(summarize, tmp_path, damage):
    write_own(tmp_path / "results", ["fan"], 13711)
    folder = tmp_path / ("baseline_MSE" if damage == "same name" else "rival")
    if damage != "missing":
        folder.mkdir()
    if damage == "same name":
        write_scores(folder, "fan", 1, LABELLED)
    status, _, err = summarize("DCASE2023T2", "-d", "--result_directory", tmp_path / "results", "--systems", folder)
    assert status == 1
    assert str(folder) in err
    shutil.rmtree(folder, ignore_errors=True)
