"""03_summarize_results.sh beyond the reference's tables: official scores, other systems, missing clips, seeds."""

import csv
import re
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score
from synthetic import machine_folder

from datasets.catalogue import load_challenge
from tools.results import __main__ as summary
from tools.results.files import challenge_files

LABELLED = [
    f"section_00_{domain}_test_{label}_{i:04d}.wav"
    for domain in ("source", "target")
    for label in ("normal", "anomaly")
    for i in range(10)
]
PUBLISHED = [f"section_00_{i:04d}.wav" for i in range(len(LABELLED))]
EXTRA = "section_00_source_test_normal_0099.wav"


def write_scores(folder, machine_type, seed, names=LABELLED, file=None):
    """Write a machine type's scores and decisions, the anomalies' 0.5 higher."""
    rng = np.random.default_rng([seed, len(machine_type)])
    scores = rng.normal(size=len(LABELLED)) + [0.5 * ("anomaly" in name) for name in LABELLED]
    files = file or [f"{kind}_{machine_type}_section_00_test.csv" for kind in ("anomaly_score", "decision_result")]
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in zip(files, (scores, (scores > 0).astype(int)), strict=True):
        with (folder / name).open("w", newline="") as out:
            csv.writer(out).writerows(zip(names, values.tolist(), strict=True))


def write_own(results, machine_types, seed=13711, names=LABELLED, is_eval=False, system="baseline_MSE"):
    """Write our own scores, and the result tables that the reference's summary reads."""
    folder = results / ("eval_data" if is_eval else "dev_data") / system
    suffix = "_Eval" if is_eval else ""
    for machine_type in machine_types:
        end = f"DCASE2023T2{machine_type}_section_00_test_seed{seed}_id(0_){suffix}.csv"
        write_scores(folder, machine_type, seed, names, (f"anomaly_score_{end}", f"decision_result_{end}"))
        table = folder / f"result_DCASE2023T2{machine_type}_test_seed{seed}_id(0_){suffix}_roc.csv"
        table.write_text("section,AUC (source),AUC (target),pAUC\n00,0.5,0.5,0.5\n")
    return folder


def change(folder, edit):
    """Change the text of each file of a folder."""
    for path in folder.iterdir():
        path.write_text(edit(path.read_text()))


@pytest.fixture
def summarize(call_command, tmp_path):
    """Return a function that calls 03 on results below tmp_path/results and clips below tmp_path/data."""
    places = ["--result_directory", tmp_path / "results", "--dataset_directory", tmp_path / "data"]
    return partial(call_command, summary.main, *places)


@pytest.fixture
def table(tmp_path):
    """Return a function that reads one of 03's tables."""

    def read(name="official_score", subset="dev_data", challenge="DCASE2023T2"):
        folder = tmp_path / f"results/{subset}/baseline/summarize/{challenge}"
        return pd.read_csv(folder / f"{challenge}_{name}.csv").set_index("System")

    return read


def label_list(path, machine_types=("bandsaw",)):
    """Write the organisers' list of labels."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        for machine_type in machine_types:
            csv.writer(file).writerows([[machine_type], *zip(PUBLISHED, LABELLED, strict=True)])
    return path


def clips_on_disk(tmp_path, names, machine_type="fan", split="dev_data", folder="test"):
    """Make test clips, of which 03 reads only the names."""
    test = machine_folder(tmp_path / "data", machine_type, split=split) / folder
    test.mkdir(parents=True)
    for name in names:
        (test / name).touch()
    return test


# --- official scores, other systems -----------------------------------------------------------------------------------


@pytest.mark.parametrize("max_fpr", [0.1, 0.5])
def test_figures_are_computed_from_the_score_files_with_one_max_fpr(summarize, tmp_path, table, max_fpr):
    """The result tables beside them say 0.5, and are not used; a system with only these has no number of clips."""
    folder = write_own(tmp_path / "results", ["fan", "valve"])
    (folder.parent / "baseline_MAHALA").mkdir()
    shutil.copy(next(folder.glob("result_*fan*")), folder.parent / "baseline_MAHALA")
    write_scores(tmp_path / "rival", "fan", 5)
    status, out, _ = summarize("DCASE2023T2", "-d", "--max_fpr", max_fpr, "--systems", tmp_path / "rival")
    assert status == 0
    areas = []
    for machine_type in ("fan", "valve"):
        rows = pd.read_csv(next(folder.glob(f"anomaly_score_DCASE2023T2{machine_type}*")), header=None)
        anomaly, target = rows[0].str.contains("anomaly"), rows[0].str.contains("target")
        areas += [roc_auc_score(anomaly[d | anomaly], rows[1][d | anomaly]) for d in (~target, target)]
        areas.append(roc_auc_score(anomaly, rows[1], max_fpr=max_fpr))
    row = table().loc["baseline_MSE"]
    assert row["official score"] == pytest.approx(len(areas) / sum(1 / area for area in areas))
    assert row["95 % from"] < row["official score"] < row["95 % to"]
    assert (row["clips"], row["sections"]) == ("80 of 80", "2 of 7")
    assert f"{100 * row['official score']:.2f}" in out
    extract = table("auc_pauc_extract").set_index("metric", append=True)["h-mean"]
    assert extract["baseline_MSE", "TOTAL score"] == row["official score"]
    alone = table().loc["baseline_MAHALA"]
    assert alone["official score"] == pytest.approx(0.5) and pd.isna(alone["clips"])
    said = "baseline_MAHALA, fan section 00: it has no score files, so its pAUC is up to max_fpr 0.1 instead of 0.5"
    assert (said in out) == (max_fpr == 0.5)
    systems = table("systems").set_index("metric", append=True)
    assert systems.loc[("rival", "F1 score (all)"), "fan"] > 0
    assert pd.isna(systems.loc[("rival", "AUC (all)"), "valve"])


def test_other_systems_alone_are_summarised(summarize, tmp_path, table):
    write_scores(tmp_path / "rival", "fan", 5)
    write_scores(tmp_path / "rival", "Fan", 5)
    shutil.copytree(tmp_path / "rival", tmp_path / "marked")
    for path in (tmp_path / "marked").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    status, out, _ = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "rival", tmp_path / "marked")
    assert status == 0
    assert "rival: ignored 2 files whose name is not one of DCASE2023T2's: anomaly_score_Fan_section_00_test.csv" in out
    scores = table()
    assert scores.loc["rival"].tolist() == scores.loc["marked"].tolist()  # a byte-order mark changes nothing
    assert not list((tmp_path / "results").rglob("*_auc_pauc.csv"))


@pytest.mark.parametrize(
    ("former", "new", "metric", "reason"),
    [
        ("target_test_anomaly", "target_test_normal", "pAUC (target)", None),
        ("_source_test|_target_test", "_test", "AUC", "fan section 00 has no AUC (source), AUC (target): "),
    ],
    ids=["anomalies of one domain", "no domains"],
)
def test_metrics_that_clips_leave_undefined_are_empty(summarize, tmp_path, table, former, new, metric, reason):
    names = [f"{re.sub(former, new, name).removesuffix('.wav')}_{i}.wav" for i, name in enumerate(LABELLED)]
    write_own(tmp_path / "results", ["fan"], names=names)
    status, out, _ = summarize("DCASE2023T2", "-d")
    assert status == 0
    assert (f"no official score of baseline_MSE: {reason}" in out) == (reason is not None)
    path = next((tmp_path / "results").rglob("*_auc_pauc.csv"))
    assert pd.read_csv(path)[f"fan_dev_00_{metric}_ave"].isna().all() == (reason is None)


def test_tables_of_another_program_are_kept(summarize, tmp_path):
    write_own(tmp_path / "results", ["fan"])
    path = tmp_path / "results/dev_data/baseline/summarize/DCASE2023T2/DCASE2023T2_auc_pauc.csv"
    path.parent.mkdir(parents=True)
    path.write_text("theirs")
    assert "another program had written there: DCASE2023T2_auc_pauc.csv.bak\n" in summarize("DCASE2023T2", "-d").out
    assert "another program" not in summarize("DCASE2023T2", "-d").out
    assert path.read_text() != "theirs" and path.with_name(f"{path.name}.bak").read_text() == "theirs"


def test_systems_may_lie_in_folders_of_folders_and_links(summarize, tmp_path, table):
    for name, seed in (("A_X_task2_1", 1), ("A_X_task2_2", 2)):
        write_scores(tmp_path / "packed/deeper" / name, "fan", seed)
    (tmp_path / "links").mkdir()
    (tmp_path / "links/linked").symlink_to(tmp_path / "packed/deeper/A_X_task2_1")
    assert summarize("DCASE2023T2", "-d", "--systems", tmp_path / "packed", tmp_path / "links")[0] == 0
    assert sorted(table().index) == ["A_X_task2_1", "A_X_task2_2", "linked"]
    differences = table("differences")
    assert len(differences) == 2 + 1
    official = table()["official score"]
    for first, row in differences.iterrows():
        assert row["difference"] == pytest.approx(official[first] - official[row["minus"]])
        assert row["95 % from"] <= row["difference"] <= row["95 % to"]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("missing", "{} is no folder; give a system's folder"),
        ("packed.zip", "{} is no folder; unzip it and give its folder"),
        ("empty", "{} holds no scores of DCASE2023T2, such as anomaly_score_ToyCar_section_00_test.csv;"),
        ("baseline_MSE", "there is another system called baseline_MSE; give one of them another name with --systems N"),
        ("two tags", "holds 2 runs of fan section 00 and seed 5 (anomaly_score_"),
    ],
)
def test_a_place_that_is_not_a_system_is_reported(summarize, tmp_path, place, sentence):
    write_own(tmp_path / "results", ["fan"])
    (tmp_path / "packed.zip").touch()
    (tmp_path / "empty").mkdir()
    write_scores(tmp_path / "baseline_MSE", "fan", 1)
    for tag in ("a", "b"):
        (tmp_path / "two tags").mkdir(exist_ok=True)
        (tmp_path / f"two tags/anomaly_score_DCASE2023T2fan_section_00_test_seed5_{tag}.csv").touch()
    status, _, err = summarize("DCASE2023T2", "-d", "--systems", tmp_path / place)
    assert (status, sentence.format(tmp_path / place) in err) == (1, True)


def test_semicolons_and_decimal_commas_are_called_so(summarize, tmp_path):
    write_scores(tmp_path / "rival", "fan", 5)
    change(tmp_path / "rival", lambda text: text.replace(",", ";").replace(".", ",").replace(",wav", ".wav"))
    status, _, err = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "rival")
    assert status == 1
    assert "its columns are separated by semicolons: convert them to commas, and decimal commas to points; " in err


def test_each_year_has_its_own_file_names(summarize, tmp_path, table):
    names = {
        year: challenge_files(load_challenge(f"DCASE{year}T2", False), "fan", 0) for year in (2020, 2021, 2022, 2023)
    }
    assert names[2020] == {None: ("anomaly_score_fan_id_00.csv", "decision_result_fan_id_00.csv")}
    assert names[2021]["target"][0] == "anomaly_score_fan_section_00_target_test.csv"
    assert names[2022] == names[2023]
    assert names[2022] == {None: ("anomaly_score_fan_section_00_test.csv", "decision_result_fan_section_00_test.csv")}
    (tmp_path / "rival").mkdir()
    for domain, files in names[2021].items():
        clips = [name for name in LABELLED if f"_{domain}_" in name]
        for file, values in zip(files, (range(20), [0] * 10 + [1] * 10), strict=True):
            lines = (f"{name},{value}\n" for name, value in zip(clips, values, strict=True))
            (tmp_path / "rival" / file).write_text("".join(lines))
    assert summarize("DCASE2021T2", "-d", "--systems", tmp_path / "rival")[0] == 0
    row = table(challenge="DCASE2021T2").iloc[0]
    assert (row["official score"], row["AUC (source only)"], row["pAUC (target)"]) == (1, 1, 1)
    assert row["clips"] == "40 of 40"


# --- which clips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["our results", "clips on disk", "label list"])
@pytest.mark.parametrize("is_further", [True, False])
def test_another_systems_further_or_foreign_clips_cost_it_its_official_score_and_not_ours(
    summarize, tmp_path, table, source, is_further
):
    """A colleague's file with a line too many, or with .WAV for .wav, took our official score, with status 0."""
    is_eval = source == "label list"
    machine_type, words = ("bandsaw", ["DCASE2023T2", "-e"]) if is_eval else ("fan", ["DCASE2023T2", "-d"])
    where = "not in our results"
    if source == "clips on disk":
        where = f"not in {clips_on_disk(tmp_path, LABELLED)}"
    elif source == "label list":
        where = "missing from the label list"
        words += ["--eval_data_list", label_list(tmp_path / "list.csv")]
    write_own(tmp_path / "results", [machine_type], is_eval=is_eval)
    write_scores(tmp_path / "rival", machine_type, 5)
    assert summarize(*words)[0] == 0
    subset = "eval_data" if is_eval else "dev_data"
    alone = table(subset=subset).loc["baseline_MSE"]
    edit = (lambda text: f"{text}{EXTRA},1\n") if is_further else lambda text: text.replace(".wav", ".WAV")
    change(tmp_path / "rival", edit)
    status, _, err = summarize(*words, "--systems", tmp_path / "rival")
    assert status == 1
    n_others = "1 clip" if is_further else "40 clips"
    assert f"no official score of rival: {machine_type} section 00 has {n_others} {where}: section_00_" in err
    assert "baseline_MSE" not in err
    scores = table(subset=subset)
    assert scores.loc["baseline_MSE", alone.index].tolist() == alone.tolist()
    assert pd.isna(scores["official score"]["rival"])
    assert scores["clips"].tolist() == ["40 of 40", f"{40 if is_further else 0} of 40"]


def test_missing_clips_cost_a_system_its_official_score(summarize, tmp_path, table):
    """Of systems alone, the one with fewest clips passed for complete if no other had more."""
    write_own(tmp_path / "results", ["fan"])
    for machine_type in ("fan", "valve"):
        write_scores(tmp_path / "rival", machine_type, 5)
    change(tmp_path / "rival", lambda text: "".join(text.splitlines(keepends=True)[:-3]))
    status, out, err = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "rival")
    assert status == 1
    assert "no official score of rival: fan section 00 has 37 of 40 clips" in err
    assert pd.isna(table()["official score"]["rival"]) and table()["official score"]["baseline_MSE"] > 0
    clips_on_disk(tmp_path, [*LABELLED, EXTRA, "notes.wav", "read me.txt"])
    _, out, _ = summarize("DCASE2023T2", "-d")
    assert "no official score of baseline_MSE: fan section 00 has 40 of 41 clips; test again\n" in out


def test_unlabelled_clips_leave_labelled_results_as_they_are(summarize, tmp_path):
    clips_on_disk(tmp_path, PUBLISHED[:3], "bandsaw", "eval_data")
    write_own(tmp_path / "results", ["bandsaw"], is_eval=True)
    write_scores(tmp_path / "raw", "bandsaw", 5, PUBLISHED)
    status, out, err = summarize("DCASE2023T2", "-e", "--systems", f"own={tmp_path / 'raw'}")
    assert status == 1
    assert "no official score of own: its clips are not labelled" in err
    assert "baseline_MSE" not in err and "40 of 40" in out
    clips_on_disk(tmp_path, [*LABELLED, EXTRA], "bandsaw", "eval_data", "test_rename")
    assert "baseline_MSE: bandsaw section 00 has 40 of 41 clips; test" in summarize("DCASE2023T2", "-e").out


def test_published_names_are_labelled_by_the_organisers_list(summarize, tmp_path, table):
    folder = write_own(tmp_path / "results", ["bandsaw"], names=PUBLISHED, is_eval=True)
    write_scores(tmp_path / "rival", "bandsaw", 5, [*PUBLISHED[:-1], "section_00_9999.wav"])
    status, out, err = summarize("DCASE2023T2", "-e")
    assert status == 1
    assert "have scores, but no labels, so there is nothing to summarise; give the organisers' list with --eval" in err
    assert "50.00" not in out  # the result table is not that of these scores
    next(folder.glob("result_*")).unlink()
    label_list(tmp_path / "data/eval_data_list_2023.csv", ("bandsaw", "grinder"))
    status, out, err = summarize("DCASE2023T2", "-e", "--systems", tmp_path / "rival")
    assert status == 1
    assert "rival: bandsaw section 00 has 1 clip missing from the label list: section_00_9999.wav" in err
    assert table(subset="eval_data")["clips"].to_dict() == {"baseline_MSE": "40 of 40", "rival": "39 of 40"}
    assert "\n  40 test clips in these sections, where the challenge has 200: the figures" in out


def test_a_system_that_leaves_out_a_section_is_not_compared(summarize, tmp_path, table):
    write_own(tmp_path / "results", ["fan", "valve"])
    write_scores(tmp_path / "theirs", "fan", 5)
    status, out, _ = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "theirs")
    assert status == 0
    assert table()["sections"].to_dict() == {"baseline_MSE": "2 of 7", "theirs": "1 of 7"}
    assert "not compared (different sections): " in out
    assert "theirs has no labelled results for ToyCar" in out


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_configurations_are_compared_over_seeds_paired(summarize, tmp_path, table):
    """Mean and deviation of ours and of another --export_dir, and the difference paired by seed with its t interval."""
    singles = {"baseline_MSE": [], "lr3": []}
    for seed in (1, 2, 3):
        write_own(tmp_path / "results", ["fan"], seed)
        lr3 = write_own(tmp_path / "results", ["fan"], seed, system="lr3_MSE")
    for path in lr3.glob("anomaly_score*"):  # as another learning rate would
        rows = [line.split(",") for line in path.read_text().splitlines()]
        seed = int(path.name.partition("_seed")[2][0])
        path.write_text("".join(f"{n},{float(s) + 0.1 * seed * ('anomaly' in n)}\n" for n, s in rows))
    for seed in (1, 2, 3):
        status, out, _ = summarize("DCASE2023T2", "-d", "--seed", seed, "--systems", f"lr3={lr3}")
        assert status == 0
        others = ", ".join(str(other) for other in (1, 2, 3) if other != seed)
        assert f"lr3: seed {seed}, without {others}; --seeds compares several\n" in out
        for name, score in table(f"seed{seed}_official_score")["official score"].items():
            singles[name].append(score)
    status, out, _ = summarize("DCASE2023T2", "-d", "--seeds", 1, 2, 3, "--systems", f"lr3={lr3}")
    assert status == 0
    assert "--seeds compares" not in out
    seeds = table("seeds_1_2_3").set_index("metric", append=True)
    for name, scores in singles.items():
        row = seeds.loc[name, "official score"]
        assert (row["seeds"], row["h-mean mean"]) == (3, pytest.approx(np.mean(scores)))
        assert row["h-mean std"] == pytest.approx(np.std(scores, ddof=1))
        assert f"{100 * np.mean(scores):.2f} ± {100 * np.std(scores, ddof=1):.2f}" in out
    higher, lower = sorted(singles, key=lambda name: -np.mean(singles[name]))
    row = table("seed_differences_1_2_3").loc[higher]
    differences = np.subtract(singles[higher], singles[lower])
    mean, std = np.mean(differences), np.std(differences, ddof=1)
    assert (row["minus"], row["difference"], row["std"]) == (lower, pytest.approx(mean), pytest.approx(std))
    half = student.ppf(0.975, 2) * std / np.sqrt(3)
    assert (row["95 % from"], row["95 % to"]) == pytest.approx((mean - half, mean + half))
    next(lr3.glob("anomaly_score*seed2*")).unlink()
    out = summarize("DCASE2023T2", "-d", "--seeds", 1, 2, 3, "--systems", f"lr3={lr3}").out
    assert "not compared (no official score of each seed): lr3\n" in out
    status, _, err = summarize("DCASE2023T2", "-d", "--seeds", 1, 9)
    assert (status, "with seed 9" in err) == (1, True)


def test_results_of_other_seeds_are_read_by_the_baselines_names(summarize, tmp_path, table):
    write_own(tmp_path / "results", ["fan"])
    for seed in (42, 43):
        folder = write_own(tmp_path / "old", ["fan"], seed)
    assert summarize("DCASE2023T2", "-d", "--systems", f"old={folder}")[0] == 0
    assert sorted(table().index) == ["baseline_MSE", "old seed 42", "old seed 43"]
    for path in folder.glob("*seed43*"):
        path.unlink()
    assert summarize("DCASE2023T2", "-d", "--systems", f"old={tmp_path / 'old'}")[0] == 0
    assert sorted(table().index) == ["baseline_MSE", "old"]
