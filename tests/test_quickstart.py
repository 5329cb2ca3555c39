"""The demo: tools/quickstart.sh from beginning to end without the installation, and the reference's figures for it."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from synthetic import OTHER_PROCESSOR, REPOSITORY, rows, same_processor_type

sys.path.insert(0, str(Path(__file__).parent / "demo"))
from compare import CLIPS, EXPECTED, KINDS, cells, difference, differences, digest, kind_of, verdict

MACHINE_TYPES = ("ToyCar", "ToyTrain", "fan", "gearbox", "bearing", "slider", "valve")
amd = pytest.mark.skipif(not same_processor_type(), reason="another processor type than the reference's")


@pytest.mark.parametrize("score", ["MSE", "MAHALA"])
@pytest.mark.parametrize("machine_type", MACHINE_TYPES)
def test_each_machine_type_is_neither_hopeless_nor_perfect(demo, machine_type, score):
    table = demo.folder / "results/dev_data/baseline/summarize/DCASE2023T2" / f"baseline_{score}"
    auc = cells(table / f"result_DCASE2023T2{machine_type}_test_seed13711_roc.csv")[1, "AUC (source)"]
    assert 0.6 < float(auc) < 0.99


def test_the_last_lines_show_the_table_and_the_paths_of_the_pictures(demo):
    assert re.search(r"baseline_MSE +AUC \(source\)( +\d+\.\d\d){9}", demo.out)
    for pattern in (
        "logs/baseline/*/log.png",
        "results/dev_data/baseline_MSE/*.png",
        "results/dev_data/baseline_MAHALA/*.png",
    ):
        assert len(list(demo.folder.glob(pattern))) == len(MACHINE_TYPES)
    assert f"{demo.folder}/logs/baseline/*/log.png" in demo.out
    assert demo.out.splitlines()[-1] == verdict(demo.folder)


def test_the_demo_leaves_the_users_folders_alone(demo):
    runs = [path for name in ("models", "logs", "results") for path in (REPOSITORY / name).glob("**/*DCASE2023T2fan*")]
    newer = [path for path in runs if path.stat().st_mtime > (demo.folder / "data").stat().st_ctime]
    assert newer == []


# --- the reference's figures ------------------------------------------------------------------------------------------


def test_the_demos_clips_have_the_same_bytes_everywhere(demo):
    assert len(list(demo.folder.glob("data/**/*.wav"))) == len(MACHINE_TYPES) * (66 + 40)
    assert digest(demo.folder / "data") == CLIPS


@amd
def test_the_demo_gives_the_references_figures(demo):
    compared = differences(demo.folder)
    assert {path: value for path, value in compared.items() if value > KINDS[kind_of(path)]} == {}
    assert len(compared) == len(MACHINE_TYPES) * (1 + 2 * 4) + 2  # log; scores, decisions, two tables of metrics; 03's
    assert ": 65 of 65 files agree (losses equal, MSE scores equal, MAHALA scores within " in demo.out


@amd
def test_the_demos_thresholds_come_from_the_references_gamma_parameters(demo):
    expected = json.loads((EXPECTED / "score_distributions.json").read_text())
    assert len(expected) == 2 * len(MACHINE_TYPES)
    for name, parameters in expected.items():
        run, _, score = Path(name).stem.removeprefix("score_distr_").rpartition("_")
        record = json.loads((demo.folder / "models/saved_model/baseline" / f"{run}.json").read_text())
        assert list(record["scores"][score.upper()]["gamma"].values()) == parameters


@pytest.mark.parametrize("log", sorted(EXPECTED.glob("logs/*/*/log.csv")), ids=lambda path: path.parent.name)
def test_the_first_epoch_is_the_references_on_any_processor(demo, log):
    ours, expected = (rows(path) for path in (demo.folder / log.relative_to(EXPECTED), log))
    assert ours[0] == expected[0]
    assert [*map(float, ours[1])] == pytest.approx([*map(float, expected[1])], rel=OTHER_PROCESSOR)
    assert len(ours) == len(expected) == 1 + 40


def test_the_verdict_counts_the_files_that_it_compared(tmp_path):
    shutil.copytree(EXPECTED, tmp_path, dirs_exist_ok=True)
    agreeing = ", ".join(f"{kind} equal" for kind in KINDS)
    assert verdict(tmp_path) == (
        f"the reference's figures for its clips, which are not these: 65 of 65 files agree ({agreeing})"
    )
    changes = {
        "logs/baseline/*fan*/log.csv": (r"(\d)\n\Z", lambda match: f"{(int(match[1]) + 1) % 10}\n"),
        "results/*/baseline_MAHALA/anomaly_score_*fan*.csv": (r",(\d+)\.", lambda match: f",{int(match[1]) + 1}."),
        "results/*/baseline_MSE/decision_result_*fan*.csv": (r",1\n", ",0\n"),
        "results/*/baseline_MSE/result_*fan*.csv": (r"\n00,[^\n]+", ""),
    }
    for n, (pattern, (digits, change)) in enumerate(changes.items(), 1):
        (path,) = tmp_path.glob(pattern)
        path.write_text(re.sub(digits, change, path.read_text(), count=1))
        assert f" {65 - n} of 65 files agree (losses within " in verdict(tmp_path)
    path.unlink()
    assert " 61 of 65 files agree " in verdict(tmp_path)
    assert "metrics missing or of other rows). They were made on an AMD processor; " in verdict(tmp_path)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ({(1, "AUC"): "0.5"}, 0.0),
        ({(1, "AUC"): "0.50"}, 0.0),
        ({(1, "AUC"): "0.4"}, 0.2),
        ({(1, "AUC"): ""}, float("inf")),
        ({(1, "AUC"): "nan"}, float("inf")),
        ({(1, "pAUC"): "0.5"}, float("inf")),
        ({(1, "AUC"): "0.5", (2, "AUC"): "0.5"}, float("inf")),
    ],
)
def test_a_difference_is_relative_and_infinite_where_cells_are_missing(ours, expected):
    assert difference(ours, {(1, "AUC"): "0.5"}) == pytest.approx(expected)
