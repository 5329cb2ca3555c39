"""Other systems' scores in 03_summarize_results.sh: where they may lie, and that none vanishes or shrinks unnoticed."""

import csv
import shutil
import zipfile
from functools import partial

import pandas as pd
import pytest
from synthetic import machine_folder
from test_comparison import LABELLED, PUBLISHED, write_own, write_scores

from datasets.catalogue import load_challenge
from tools.results import __main__ as summary
from tools.results.files import challenge_files

FOLDERS = {"result": "results", "dataset": "data"}
EXTRA = "section_00_source_test_normal_0099.wav"


@pytest.fixture
def summarize(call_command, tmp_path):
    """Return a function that calls 03 on results below tmp_path/results and clips below tmp_path/data."""
    places = [word for name in ("result", "dataset") for word in (f"--{name}_directory", tmp_path / FOLDERS[name])]
    return partial(call_command, summary.main, *places)


def clips_on_disk(tmp_path, names, machine_type="fan", split="dev_data", folder="test"):
    """Make test clips, of which 03 reads only the names."""
    test = machine_folder(tmp_path / "data", machine_type, split=split) / folder
    test.mkdir(parents=True)
    for name in names:
        (test / name).touch()
    return test


def tables(tmp_path, subset="dev_data", challenge="DCASE2023T2"):
    return tmp_path / "results" / subset / "baseline" / "summarize" / challenge


def official(tmp_path):
    return pd.read_csv(tables(tmp_path) / "DCASE2023T2_official_score.csv").set_index("System")


def test_other_systems_alone_are_summarised(summarize, tmp_path):
    write_scores(tmp_path / "rival", "fan", 5, LABELLED)
    status, out, _ = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "rival")
    assert status == 0
    assert "rival" in out
    assert list(official(tmp_path).index) == ["rival"]
    assert not (tables(tmp_path) / "DCASE2023T2_auc_pauc.csv").exists()


@pytest.mark.parametrize("form", ["archive", "folder of archives", "folder of folders", "folder of links"])
def test_packages_are_read_as_they_are(summarize, tmp_path, form):
    for name, seed in (("A_X_task2_1", 1), ("A_X_task2_2", 2)):
        write_scores(tmp_path / "packed" / name, "fan", seed, LABELLED)
    place = tmp_path / "packed"
    if form == "folder of links":
        place = tmp_path / "links"
        place.mkdir()
        (place / "circle").symlink_to(place)
        for folder in (tmp_path / "packed").iterdir():
            (place / folder.name).symlink_to(folder)
    elif form != "folder of folders":
        place = tmp_path / "zips" / "A_X_task2.zip"
        place.parent.mkdir()
        with zipfile.ZipFile(place, "w") as archive:
            for path in sorted((tmp_path / "packed").rglob("*.csv")):
                archive.write(path, path.relative_to(tmp_path / "packed"))
    place = place.parent if form == "folder of archives" else place
    status, _, _ = summarize("DCASE2023T2", "-d", "--systems", place)
    assert status == 0
    assert sorted(official(tmp_path).index) == ["A_X_task2_1", "A_X_task2_2"]


def test_results_of_other_seeds_and_experiments_are_read_by_the_baselines_names(summarize, tmp_path):
    write_own(tmp_path / "results", ["fan"], 13711)
    for seed in (42, 43):
        write_own(tmp_path / "old", ["fan"], seed)
    assert summarize("DCASE2023T2", "-d", "--systems", tmp_path / "old" / "dev_data" / "baseline_MSE")[0] == 0
    assert sorted(official(tmp_path).index) == ["baseline_MSE", "baseline_MSE seed 42", "baseline_MSE seed 43"]
    write_own(tmp_path / "other", ["fan"], 13711)
    status, _, err = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "other")
    assert status == 1
    assert "there is another system called baseline_MSE; give one of them another name with --systems NAME=" in err
    assert summarize("DCASE2023T2", "-d", "--systems", f"reference={tmp_path / 'other' / 'dev_data'}")[0] == 0
    assert "reference" in official(tmp_path).index


def test_a_system_with_fewer_clips_is_not_ranked(summarize, tmp_path):
    write_own(tmp_path / "results", ["fan"], 13711)
    write_scores(tmp_path / "rival", "fan", 5, LABELLED)
    for path in (tmp_path / "rival").iterdir():
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-3]))
    status, out, err = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "rival")
    assert status == 1
    assert "no official score of rival: fan section 00 has 37 of 40 clips" in err
    assert "37 of 40" in out
    table = official(tmp_path)
    assert pd.isna(table["official score"]["rival"])
    assert table["clips"]["rival"] == "37 of 40"
    assert table["official score"]["baseline_MSE"] > 0


def add_a_line(folder, name=EXTRA):
    for path in folder.iterdir():
        path.write_text(f"{path.read_text()}{name},1\n")


def rename_to_capitals(folder):
    for path in folder.iterdir():
        path.write_text(path.read_text().replace(".wav", ".WAV"))


@pytest.mark.parametrize("source", ["our results", "clips on disk", "label list"])
@pytest.mark.parametrize(
    ("harm", "n_covered", "n_others"), [(add_a_line, 40, "1 clip"), (rename_to_capitals, 0, "40 clips")]
)
def test_another_systems_further_clips_cost_it_its_official_score_and_not_ours(
    summarize, tmp_path, source, harm, n_covered, n_others
):
    """A colleague's file with a line too many, or with .WAV for .wav, took our official score, with status 0."""
    is_eval = source == "label list"
    machine_type, words = ("bandsaw", ["DCASE2023T2", "-e"]) if is_eval else ("fan", ["DCASE2023T2", "-d"])
    where = "not in our results"
    if source == "clips on disk":
        where = f"not in {clips_on_disk(tmp_path, LABELLED)}"
    elif source == "label list":
        where = "missing from the label list"
        with (tmp_path / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["bandsaw"], *zip(PUBLISHED, LABELLED, strict=True)])
        words += ["--eval_data_list", tmp_path / "list.csv"]
    write_own(tmp_path / "results", [machine_type], 13711, is_eval=is_eval)
    write_scores(tmp_path / "rival", machine_type, 5, LABELLED)
    assert summarize(*words)[0] == 0
    subset = "eval_data" if is_eval else "dev_data"
    path = tables(tmp_path, subset) / "DCASE2023T2_official_score.csv"
    alone = pd.read_csv(path).set_index("System").loc["baseline_MSE"]
    harm(tmp_path / "rival")
    status, _, err = summarize(*words, "--systems", tmp_path / "rival")
    assert status == 1
    assert f"no official score of rival: {machine_type} section 00 has {n_others} {where}: section_00_" in err
    assert "baseline_MSE" not in err
    table = pd.read_csv(path).set_index("System")
    assert table.loc["baseline_MSE", alone.index].tolist() == alone.tolist()
    assert pd.isna(table["official score"]["rival"])
    assert table["clips"].tolist() == ["40 of 40", f"{n_covered} of 40"]


def test_the_clips_on_disk_say_which_clips_a_system_lacks(summarize, tmp_path):
    """Of systems alone, the one with fewest clips passed for complete if no other had more."""
    clips_on_disk(tmp_path, [*LABELLED, EXTRA, "notes.wav", "read me.txt"])
    write_own(tmp_path / "results", ["fan"], 13711)
    write_scores(tmp_path / "rival", "fan", 5, LABELLED)
    status, out, err = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "rival")
    assert status == 1
    assert "no official score of rival: fan section 00 has 40 of 41 clips\n" in err
    assert "no official score of baseline_MSE: fan section 00 has 40 of 41 clips; test again\n" in out


def test_results_of_another_data_set_than_the_one_on_disk_keep_their_official_score(summarize, tmp_path):
    clips_on_disk(tmp_path, [name.replace(".wav", "_spd_1.wav") for name in LABELLED])
    write_own(tmp_path / "results", ["fan"], 13711)
    status, out, _ = summarize("DCASE2023T2", "-d")
    assert status == 0
    assert f"our results cover none of the test clips below {tmp_path / 'data'}; give the --dataset" in out
    assert official(tmp_path)["official score"]["baseline_MSE"] > 0


def test_unlabelled_clips_on_disk_leave_labelled_results_as_they_are(summarize, tmp_path):
    clips_on_disk(tmp_path, PUBLISHED[:3], "bandsaw", "eval_data")
    write_own(tmp_path / "results", ["bandsaw"], 13711, is_eval=True)
    status, out, _ = summarize("DCASE2023T2", "-e")
    assert status == 0
    assert "40 of 40" in out
    assert "our results cover none" not in out
    clips_on_disk(tmp_path, [*LABELLED, EXTRA], "bandsaw", "eval_data", "test_rename")
    assert (
        "no official score of baseline_MSE: bandsaw section 00 has 40 of 41 clips; test"
        in summarize("DCASE2023T2", "-e").out
    )


def test_an_incomplete_system_with_further_sections_does_not_mark_ours(summarize, tmp_path):
    write_own(tmp_path / "results", ["fan"], 13711)
    for machine_type in ("fan", "valve"):
        write_scores(tmp_path / "rival", machine_type, 5, LABELLED)
    add_a_line(tmp_path / "rival")
    status, out, _ = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "rival")
    assert status == 1
    assert "fewer sections" not in out


@pytest.mark.parametrize("quote", ["", '"'])
def test_semicolons_and_decimal_commas_are_called_so(summarize, tmp_path, quote):
    """`clip.wav;0,5` was read as a clip called `clip.wav;0`, which is `not a valid clip name`."""
    write_scores(tmp_path / "rival", "fan", 5, LABELLED)
    for path in (tmp_path / "rival").iterdir():
        rows = [line.split(",") for line in path.read_text().splitlines()]
        path.write_text("".join(f"{quote}{clip}{quote};{value.replace('.', ',')}\n" for clip, value in rows))
    status, _, err = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "rival")
    assert status == 1
    assert "its columns are separated by semicolons: convert them to commas, and decimal commas to points; " in err
    assert "not a valid clip name" not in err


def test_a_system_that_leaves_out_a_section_is_ranked_below_and_marked(summarize, tmp_path):
    write_own(tmp_path / "results", ["fan", "valve"], 13711)
    write_scores(tmp_path / "theirs", "fan", 5, sorted(LABELLED, key=lambda name: "anomaly" in name))
    for path in (tmp_path / "theirs").glob("anomaly_score*"):  # a perfect score
        names = [line.partition(",")[0] for line in path.read_text().splitlines()]
        path.write_text("".join(f"{name},{float('anomaly' in name)}\n" for name in names))
    status, out, _ = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "theirs")
    assert status == 0
    table = official(tmp_path)
    assert list(table.index) == ["baseline_MSE", "theirs"]
    assert table["official score"]["theirs"] == 1
    rows = [line for line in out.partition("\nofficial score")[2].splitlines() if " of 7" in line]
    assert [row.rstrip().endswith("*") for row in rows] == [False, True]
    assert "* official score over fewer sections than others have: not comparable" in out
    assert "not compared (different sections): baseline_MSE and theirs" in out
    assert not (tables(tmp_path) / "DCASE2023T2_differences.csv").exists()


def test_unlabelled_clips_of_another_system_do_not_affect_ours(summarize, tmp_path):
    write_own(tmp_path / "results", ["bandsaw"], 13711, is_eval=True)
    write_scores(tmp_path / "raw", "bandsaw", 5, PUBLISHED)
    status, out, err = summarize("DCASE2023T2", "-e", "--systems", f"own={tmp_path / 'raw'}")
    assert status == 1
    assert "no official score of own: its clips are not labelled" in err
    assert "baseline_MSE" not in err
    assert "40 of 40" in out


def test_tables_of_another_program_are_kept(summarize, tmp_path):
    write_own(tmp_path / "results", ["fan"], 13711)
    tables(tmp_path).mkdir(parents=True)
    path = tables(tmp_path) / "DCASE2023T2_auc_pauc.csv"
    path.write_text("theirs")
    assert "another program had written there: DCASE2023T2_auc_pauc.csv.bak\n" in summarize("DCASE2023T2", "-d")[1]
    assert path.read_text() != "theirs"
    assert "another program" not in summarize("DCASE2023T2", "-d")[1]
    assert path.with_name(f"{path.name}.bak").read_text() == "theirs"


def test_a_clip_outside_the_label_list_is_reported(summarize, tmp_path):
    write_scores(tmp_path / "rival", "bandsaw", 5, [*PUBLISHED[:-1], "section_00_9999.wav"])
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["bandsaw"], *zip(PUBLISHED, LABELLED, strict=True)])
    words = ["DCASE2023T2", "-e", "--systems", tmp_path / "rival", "--eval_data_list", tmp_path / "list.csv"]
    status, out, err = summarize(*words)
    assert status == 1
    assert "1 clip missing from the label list: section_00_9999.wav" in err
    assert "39 of 40" in out


def test_files_with_unknown_names_are_reported(summarize, tmp_path):
    write_scores(tmp_path / "rival", "fan", 5, LABELLED)
    write_scores(tmp_path / "rival", "Fan", 5, LABELLED)
    status, out, _ = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "rival")
    assert status == 0
    assert "rival: ignored 2 files whose name is not one of DCASE2023T2's: anomaly_score_Fan_section_00_test.csv" in out


def test_a_byte_order_mark_changes_nothing(summarize, tmp_path):
    write_scores(tmp_path / "rival", "fan", 5, LABELLED)
    shutil.copytree(tmp_path / "rival", tmp_path / "marked")
    for path in (tmp_path / "marked").iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert summarize("DCASE2023T2", "-d", "--systems", tmp_path / "rival", tmp_path / "marked")[0] == 0
    table = official(tmp_path)
    assert table.loc["rival"].tolist() == table.loc["marked"].tolist()


def test_differences_of_systems_are_paired(summarize, tmp_path):
    write_own(tmp_path / "results", ["fan"], 13711)
    for name, seed in (("one", 1), ("two", 2)):
        write_scores(tmp_path / name, "fan", seed, LABELLED)
    status, out, _ = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "one", tmp_path / "two")
    assert status == 0
    assert "differences on the same clips" in out
    table = pd.read_csv(tables(tmp_path) / "DCASE2023T2_differences.csv")
    scores = official(tmp_path)["official score"]
    assert len(table) == 3
    for row in table.itertuples(index=False):
        assert row.difference == pytest.approx(scores[row.System] - scores[row.minus])
        assert row[4] <= row.difference <= row[5]


@pytest.mark.parametrize("max_fpr", [0.1, 0.5])
def test_one_max_fpr_applies_to_all_figures(summarize, tmp_path, max_fpr):
    write_own(tmp_path / "results", ["fan"], 13711)
    assert summarize("DCASE2023T2", "-d", "--max_fpr", max_fpr)[0] == 0
    extract = pd.read_csv(tables(tmp_path) / "DCASE2023T2_auc_pauc_extract.csv").set_index("metric")
    assert extract["h-mean"]["TOTAL score"] == official(tmp_path)["official score"]["baseline_MSE"]


def test_the_archive_is_reported_if_it_cannot_be_read(summarize, tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"not an archive")
    status, _, err = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "broken.zip")
    assert status == 1
    assert "broken.zip is truncated, damaged, encrypted or not a zip" in err


def test_a_file_that_must_not_be_read_is_reported(summarize, tmp_path):
    with zipfile.ZipFile(tmp_path / "rival.zip", "w") as archive:
        archive.writestr("../anomaly_score_fan_section_00_test.csv", "a,1\n")
    status, _, err = summarize("DCASE2023T2", "-d", "--systems", tmp_path / "rival.zip")
    assert status == 1
    assert "anomaly_score_fan_section_00_test.csv is not read: not a plain relative path" in err


def test_each_year_has_its_own_file_names(summarize, tmp_path):
    names = {
        year: challenge_files(load_challenge(f"DCASE{year}T2", False), "fan", 0) for year in (2020, 2021, 2022, 2023)
    }
    assert names[2020] == {None: ("anomaly_score_fan_id_00.csv", "decision_result_fan_id_00.csv")}
    assert {domain: scores for domain, (scores, _) in names[2021].items()} == {
        "source": "anomaly_score_fan_section_00_source_test.csv",
        "target": "anomaly_score_fan_section_00_target_test.csv",
    }
    assert (
        names[2022]
        == names[2023]
        == {None: ("anomaly_score_fan_section_00_test.csv", "decision_result_fan_section_00_test.csv")}
    )


def test_a_system_of_2021_is_read_by_domain(summarize, tmp_path):
    for domain in ("source", "target"):
        names = [name for name in LABELLED if f"_{domain}_" in name]
        for kind, values in (("anomaly_score", range(20)), ("decision_result", [0] * 10 + [1] * 10)):
            path = tmp_path / "rival" / f"{kind}_fan_section_00_{domain}_test.csv"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"{name},{value}\n" for name, value in zip(names, values, strict=True)))
    assert summarize("DCASE2021T2", "-d", "--systems", tmp_path / "rival")[0] == 0
    table = pd.read_csv(tables(tmp_path, challenge="DCASE2021T2") / "DCASE2021T2_official_score.csv")
    row = table.iloc[0]
    assert (row["official score"], row["AUC (source only)"], row["pAUC (target)"]) == (1, 1, 1)
    assert row["clips"] == "40 of 40"
