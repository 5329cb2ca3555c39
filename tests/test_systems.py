"""03_summarize_results.sh beyond the reference's tables: official scores, other systems, missing clips, seeds."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from reports import LABELLED, write_own, write_scores
from scipy.stats import hmean
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score
from synthetic import error_of, machine_folder, succeed

PUBLISHED = [f"section_00_{i:04d}.wav" for i in range(len(LABELLED))]
EXTRA = "section_00_source_test_normal_0099.wav"


def change(folder, edit, pattern="*"):
    """Change the text of files of a folder."""
    for path in folder.glob(pattern):
        path.write_text(edit(path.read_text()))


def label_list(path, machine_types=("bandsaw",)):
    """Write the organisers' list of labels."""
    path.parent.mkdir(exist_ok=True)
    pairs = "".join(f"{name},{label}\n" for name, label in zip(PUBLISHED, LABELLED, strict=True))
    path.write_text("".join(f"{machine_type}\n{pairs}" for machine_type in machine_types))
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
    folder = write_own(tmp_path, "fan", "valve")
    (folder.parent / "baseline_MAHALA").mkdir()
    shutil.copy(next(folder.glob("result_*fan*")), folder.parent / "baseline_MAHALA")
    write_scores(tmp_path / "rival")
    out = succeed(summarize("--max_fpr", max_fpr, "--systems", tmp_path / "rival"))
    areas = []
    for path in folder.glob("anomaly_score*"):
        clips, scores = pd.read_csv(path, header=None).to_numpy().T
        anomaly, target = (np.array([word in clip for clip in clips]) for word in ("anomaly", "target"))
        areas += [roc_auc_score(anomaly[d | anomaly], scores[d | anomaly]) for d in (~target, target)]
        areas.append(roc_auc_score(anomaly, scores, max_fpr=max_fpr))
    official = table()
    row, alone = official.loc["baseline_MSE"], official.loc["baseline_MAHALA"]
    assert row["official score"] == pytest.approx(hmean(areas))
    assert row["95 % from"] < row["official score"] < row["95 % to"]
    assert (row["clips"], row["sections"]) == ("80 of 80", "2 of 7")
    assert f"{100 * row['official score']:.2f}" in out
    extract = table("auc_pauc_extract").set_index("metric", append=True)["h-mean"]
    assert extract["baseline_MSE", "TOTAL score"] == row["official score"]
    assert alone["official score"] == pytest.approx(0.5) and pd.isna(alone["clips"])
    said = "baseline_MAHALA, fan section 00: it has no score files, so its pAUC is up to max_fpr 0.1 instead of 0.5"
    assert (said in out) == (max_fpr == 0.5)


def test_other_systems_alone_are_summarised(summarize, tmp_path, table):
    """A byte-order mark, and the order of a file's lines, change nothing, not even the intervals."""
    write_scores(tmp_path / "rival", seed=3)
    write_scores(tmp_path / "rival", "Fan")
    shutil.copytree(tmp_path / "rival", tmp_path / "marked")
    change(tmp_path / "marked", lambda text: "\ufeff" + "\n".join(text.split()[::-1]), "anomaly*")
    out = succeed(summarize("--systems", tmp_path / "rival", tmp_path / "marked"))
    assert "rival: ignored 2 files whose name is not one of DCASE2023T2's: anomaly_score_Fan_section_00_test.csv" in out
    for name in ("official_score", "decisions"):
        assert table(name).loc["rival"].to_numpy().tolist() == table(name).loc["marked"].to_numpy().tolist()
    assert not list(tmp_path.rglob("*_auc_pauc.csv"))


@pytest.mark.parametrize(
    ("former", "new", "metric", "reason"),
    [
        ("target_test_anomaly", "target_test_normal", "pAUC (target)", None),
        ("_source_test|_target_test", "_test", "AUC", "fan section 00 has no AUC (source), AUC (target): "),
        ("anomaly", "normal", "pAUC", "fan section 00 has no AUC (source), AUC (target), pAUC: there are no anomalous"),
    ],
    ids=["anomalies of one domain", "no domains", "no anomalies"],
)
def test_metrics_that_clips_leave_undefined_are_empty(summarize, tmp_path, table, former, new, metric, reason):
    names = [f"{re.sub(former, new, name).removesuffix('.wav')}_{i}.wav" for i, name in enumerate(LABELLED)]
    write_own(tmp_path, "fan", names=names)
    assert (f"no official score of baseline_MSE: {reason}" in summarize().out) == (reason is not None)
    path = next(tmp_path.rglob("*_auc_pauc.csv"))
    assert pd.read_csv(path)[f"fan_dev_00_{metric}_ave"].isna().all() == (former != "_source_test|_target_test")


def test_tables_of_another_program_are_kept(summarize, tmp_path):
    write_own(tmp_path, "fan")
    path = tmp_path / "results/dev_data/baseline/summarize/DCASE2023T2/DCASE2023T2_auc_pauc.csv"
    path.parent.mkdir(parents=True)
    path.write_text("theirs")
    assert "another program had written there: DCASE2023T2_auc_pauc.csv.bak\n" in summarize().out
    assert "another program" not in summarize().out
    assert path.read_text() != "theirs" and path.with_name(f"{path.name}.bak").read_text() == "theirs"


def test_systems_may_lie_in_folders_of_folders_and_links(summarize, tmp_path, table):
    for seed in (1, 2):
        write_scores(tmp_path / f"packed/deeper/A_X_task2_{seed}", seed=seed)
    (tmp_path / "links").mkdir()
    (tmp_path / "links/linked").symlink_to(tmp_path / "packed/deeper/A_X_task2_1")
    succeed(summarize("--systems", tmp_path / "packed", tmp_path / "links"))
    official, differences = table()["official score"], table("differences")
    assert sorted(official.index) == ["A_X_task2_1", "A_X_task2_2", "linked"]
    assert len(differences) == 2 + 1
    for first, row in differences.iterrows():
        assert row["difference"] == pytest.approx(official[first] - official[row["minus"]])
        assert row["95 % from"] <= row["difference"] <= row["95 % to"]
    same = differences[differences["difference"] == 0]  # resampled in pairs
    assert same[["95 % from", "95 % to"]].to_numpy().tolist() == [[0, 0]]


PLACES = {
    "missing": "{} is not a folder; give a system's folder",
    "packed.zip": "{} is not a folder; unzip it and give its folder",
    "empty": "{} holds no scores of DCASE2023T2, such as anomaly_score_ToyCar_section_00_test.csv;",
    "baseline_MSE": "there is another system called baseline_MSE; give one of them another name with --systems N",
    "two tags": "holds 2 runs of fan section 00 and seed 5 (anomaly_score_",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_is_not_a_system_is_reported(summarize, tmp_path, place):
    write_own(tmp_path, "fan")
    (tmp_path / "packed.zip").touch()
    (tmp_path / "empty").mkdir()
    write_scores(tmp_path / "baseline_MSE")
    for tag in ("a", "b"):
        write_scores(tmp_path / "two tags", "DCASE2023T2fan", end=f"_seed5_{tag}")
    assert PLACES[place].format(tmp_path / place) in error_of(summarize("--systems", tmp_path / place))


@pytest.mark.parametrize(
    ("kind", "former", "new", "sentence"),
    [
        ("anomaly_score", "(?s).+", "", "it is empty"),
        ("anomaly_score", "normal_0001", "normal_0000", "section_00_source_test_normal_0000.wav: more than once in"),
        ("anomaly_score", "\n", ",3\n", "line 1: not `<clip name>,<value>`"),
        ("anomaly_score", ",.*", ",nan", "'nan' in line 1: not a finite number"),
        (
            "anomaly_score",
            ",.*",
            ";1,5",
            "its columns are separated by semicolons: convert them to commas, and decimal",
        ),
        ("decision_result", ",.*", ",2", "'2' in line 1: not a decision, 0 or 1"),
        ("decision_result", "normal_0001", "normal_9999", " are not of the same clips; test again"),
    ],
)
def test_a_file_that_cannot_be_used_is_reported(summarize, tmp_path, kind, former, new, sentence):
    write_scores(tmp_path / "rival")
    change(tmp_path / "rival", lambda text: re.sub(former, new, text), f"{kind}*")
    err = error_of(summarize("--systems", tmp_path / "rival"))
    assert f"{tmp_path}/rival/{kind}_fan_section_00_test.csv" in err and sentence in err


# --- which clips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["not in our results", "not in {}/data/", "missing from the label list"])
@pytest.mark.parametrize("is_further", [True, False])
def test_another_systems_further_or_foreign_clips_cost_it_its_official_score_and_not_ours(
    summarize, tmp_path, table, source, is_further
):
    """A colleague's file with a line too many, or with .WAV for .wav, took our official score, with status 0."""
    is_eval = source == "missing from the label list"
    machine_type = "bandsaw" if is_eval else "fan"
    words = ["--eval_data_list", label_list(tmp_path / "list.csv")] if is_eval else []
    if source.startswith("not in {}"):
        clips_on_disk(tmp_path, LABELLED)
    write_own(tmp_path, machine_type, is_eval=is_eval)
    write_scores(tmp_path / "rival", machine_type)
    succeed(summarize(*words, subset="-e" if is_eval else "-d"))
    alone = table().loc["baseline_MSE"]
    edit = (lambda text: f"{text}{EXTRA},1\n") if is_further else lambda text: text.replace(".wav", ".WAV")
    change(tmp_path / "rival", edit)
    err = error_of(summarize(*words, "--systems", tmp_path / "rival", subset="-e" if is_eval else "-d"))
    n_others = "1 clip" if is_further else "40 clips"
    assert f"no official score of rival: {machine_type} section 00 has {n_others} {source.format(tmp_path)}" in err
    assert "baseline_MSE" not in err
    scores = table()
    assert scores.loc["baseline_MSE", alone.index].tolist() == alone.tolist()
    assert pd.isna(scores["official score"]["rival"])
    assert scores["clips"].tolist() == ["40 of 40", f"{40 if is_further else 0} of 40"]


def test_missing_clips_cost_a_system_its_official_score(summarize, tmp_path, table):
    """Of systems alone, the one with fewest clips passed for complete if no other had more."""
    write_own(tmp_path, "fan")
    for machine_type in ("fan", "valve"):
        write_scores(tmp_path / "rival", machine_type)
    change(tmp_path / "rival", lambda text: "".join(text.splitlines(keepends=True)[:-3]))
    err = error_of(summarize("--systems", tmp_path / "rival"))
    assert "no official score of rival: fan section 00 has 37 of 40 clips" in err
    assert table()["official score"].isna().to_dict() == {"baseline_MSE": False, "rival": True}
    clips_on_disk(tmp_path, [*LABELLED, EXTRA, "notes.wav", "read me.txt"])
    assert "no official score of baseline_MSE: fan section 00 has 40 of 41 clips; test again\n" in summarize().out


def test_unlabelled_clips_leave_labelled_results_as_they_are(summarize, tmp_path):
    clips_on_disk(tmp_path, PUBLISHED[:3], "bandsaw", "eval_data")
    write_own(tmp_path, "bandsaw", is_eval=True)
    write_scores(tmp_path / "raw", "bandsaw", names=PUBLISHED)
    outcome = summarize("--systems", f"own={tmp_path / 'raw'}", subset="-e")
    assert "no official score of own: its clips are not labelled" in error_of(outcome)
    assert "baseline_MSE" not in outcome.err and "40 of 40" in outcome.out
    clips_on_disk(tmp_path, [*LABELLED, EXTRA], "bandsaw", "eval_data", "test_rename")
    assert "baseline_MSE: bandsaw section 00 has 40 of 41 clips; test" in summarize(subset="-e").out


def test_published_names_are_labelled_by_the_organisers_list(summarize, tmp_path, table):
    folder = write_own(tmp_path, "bandsaw", names=PUBLISHED, is_eval=True)
    write_scores(tmp_path / "rival", "bandsaw", names=[*PUBLISHED[:-1], "section_00_9999.wav"])
    outcome = summarize(subset="-e")
    assert "have scores, but no labels, so there is nothing to summarise; give the organisers' l" in error_of(outcome)
    assert "50.00" not in outcome.out  # the result table is not that of these scores
    next(folder.glob("result_*")).unlink()
    label_list(tmp_path / "data/eval_data_list_2023.csv", ("bandsaw", "grinder"))
    outcome = summarize("--systems", tmp_path / "rival", subset="-e")
    missing = "rival: bandsaw section 00 has 1 clip missing from the label list: section_00_9999.wav"
    assert missing in error_of(outcome)
    assert table()["clips"].to_dict() == {"baseline_MSE": "40 of 40", "rival": "39 of 40"}
    assert "\n  40 test clips in these sections, where the challenge has 200: the figures" in outcome.out


def test_a_system_that_leaves_out_a_section_is_not_compared(summarize, tmp_path, table):
    write_own(tmp_path, "fan", "valve")
    write_scores(tmp_path / "theirs")
    out = succeed(summarize("--systems", tmp_path / "theirs"))
    assert table()["sections"].to_dict() == {"baseline_MSE": "2 of 7", "theirs": "1 of 7"}
    assert "not compared (different sections): " in out
    assert "theirs has no labelled results for ToyCar" in out
    areas = table("systems").set_index("metric", append=True).loc[("theirs", "AUC (all)")]
    assert areas["fan"] > 0 and pd.isna(areas["valve"])


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_configurations_are_compared_over_seeds_paired(summarize, tmp_path, table):
    """Mean and deviation of ours and of another --export_dir, and the difference paired by seed with its t interval."""
    for seed in (1, 2, 3):
        write_own(tmp_path, "fan", seed=seed)
        folder = write_own(tmp_path, "fan", seed=seed, system="lr3_MSE")
        rise = rf"anomaly\1\g<2>{seed}"  # of other scores, as by another learning rate
        change(folder, lambda text, rise=rise: re.sub(r"anomaly(.*,)(-?\d\.)", rise, text), f"anomaly*seed{seed}*")
    words = ["--systems", f"lr3={folder}"]
    singles = {}
    for seed, others in {1: "2, 3", 2: "1, 3", 3: "1, 2"}.items():
        assert f"lr3: seed {seed}, without {others}; --seeds compares" in succeed(summarize("--seed", seed, *words))
        singles[seed] = table(f"seed{seed}_official_score")["official score"]
    singles = pd.DataFrame(singles)
    out = succeed(summarize("--seeds", 1, 2, 3, *words))
    assert "--seeds compares" not in out
    seeds = table("seeds_1_2_3").set_index("metric", append=True)
    for name, scores in singles.iterrows():
        row = seeds.loc[name, "official score"]
        assert row[["seeds", "h-mean mean", "h-mean std"]].tolist() == pytest.approx([3, scores.mean(), scores.std()])
        assert f"{100 * scores.mean():.2f} ± {100 * scores.std():.2f}" in out
    higher, lower = singles.mean(axis=1).sort_values(ascending=False).index
    row, differences = table("seed_differences_1_2_3").loc[higher], singles.loc[higher] - singles.loc[lower]
    assert row["minus"] == lower
    half = student.ppf(0.975, 2) * differences.std() / np.sqrt(3)
    expected = [differences.mean(), differences.std(), differences.mean() - half, differences.mean() + half]
    assert row[["difference", "std", "95 % from", "95 % to"]].tolist() == pytest.approx(expected)
    next(folder.glob("anomaly_score*seed2*")).unlink()
    out = succeed(summarize("--seeds", 1, 2, 3, *words))
    assert "not compared (no official score of each seed): lr3\n" in out
    assert "with seed 9" in error_of(summarize("--seeds", 1, 9))


def test_results_of_other_seeds_are_read_by_the_baselines_names(summarize, tmp_path, table):
    write_own(tmp_path, "fan")
    for seed in (42, 43):
        folder = write_own(tmp_path / "old", "fan", seed=seed)
    succeed(summarize("--systems", f"old={folder}"))
    assert sorted(table().index) == ["baseline_MSE", "old seed 42", "old seed 43"]
    for path in folder.glob("*seed43*"):
        path.unlink()
    out = succeed(summarize("--systems", f"old={tmp_path / 'old'}"))
    assert "old: seed 42, since it has no seed 13711\n" in out
    assert sorted(table().index) == ["baseline_MSE", "old"]
