"""The demo: tools/quickstart.sh from beginning to end without the installation, and the reference's figures for it.

Here it has one machine type; tools/quickstart.sh itself compares the figures of all seven.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from synthetic import assert_first_epoch, record_of, rounds_alike, succeed

from tools import make_demo_dataset

sys.path.insert(0, str(Path(__file__).parent / "demo"))
from compare import CLIPS, EXPECTED, KINDS, difference, differences, digest, kind_of, verdict

RUN = "DCASE2023T2-AE_DCASE2023T2fan_id(0_)_seed13711"
amd = pytest.mark.skipif(not rounds_alike(), reason="another processor type or C library than the reference's")


def test_the_last_lines_show_the_table_the_paths_of_the_pictures_and_the_verdict(demo):
    assert re.search(r"baseline_MSE +AUC \(source\)( +\d+\.\d\d){3}", demo.out)
    pictures = (
        "logs/baseline/*/log.png",
        "results/dev_data/baseline_MSE/*.png",
        "results/dev_data/baseline_MAHALA/*.png",
    )
    assert [len(list(demo.folder.glob(picture))) for picture in pictures] == [1, 1, 1]
    assert f"{demo.folder}/logs/baseline/*/log.png" in demo.out
    assert demo.out.splitlines()[-1] == verdict(demo.folder)
    assert "the reference's figures for these clips: " in demo.out  # whose bytes are the same everywhere


def test_the_sounds_of_all_machines_have_the_same_bytes_everywhere(tmp_path, call_command):
    """Clips are independent of each other, so that a few stand for all."""
    succeed(call_command(make_demo_dataset.main, tmp_path, "--train_clips", 12, "--test_clips", 8))
    assert len(list(tmp_path.rglob("*.wav"))) == len(CLIPS) * 20
    assert digest(tmp_path) == "92940fe464d8a58564477576da2a133eb08ba5a9a7239d30300fc56ef085b2f8"


# --- the reference's figures ------------------------------------------------------------------------------------------


@amd
def test_the_demo_gives_the_references_figures(demo):
    compared = differences(demo.folder)
    assert {path: value for path, value in compared.items() if value > KINDS[kind_of(path)]} == {}
    assert len(compared) == 1 + 2 * 4  # log; of each score: scores, decisions, two tables of metrics
    assert ": 9 of 9 files agree (losses equal, MSE scores equal, MAHALA scores within " in demo.out
    expected = json.loads((EXPECTED / "score_distributions.json").read_text())
    for name, fitted in record_of(demo.folder)["scores"].items():
        assert list(fitted["gamma"].values()) == expected[f"score_distr_{RUN}_{name.lower()}.pickle"]


def test_the_first_epoch_is_the_references_on_any_processor(demo):
    log = f"logs/baseline/{RUN}/log.csv"
    assert_first_epoch(demo.folder / log, EXPECTED / log)


def test_the_verdict_counts_the_files_that_it_compared(tmp_path):
    shutil.copytree(EXPECTED, tmp_path, dirs_exist_ok=True)
    for name in CLIPS:
        (tmp_path / "data/dcase2023t2/dev_data/raw" / name).mkdir(parents=True)
    agreeing = "losses equal, MSE scores equal, MAHALA scores equal, decisions equal, metrics equal"
    assert verdict(tmp_path).endswith(f"its clips, which are not these: 65 of 65 files agree ({agreeing})")
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
    assert "metrics missing or of other rows). They were made on an AMD processor with glibc 2.36; " in verdict(
        tmp_path
    )


def test_a_difference_is_relative_and_infinite_where_cells_are_missing():
    texts = ("0.50", "0.4", "", "nan")
    values = [difference({(1, "AUC"): text}, {(1, "AUC"): "0.5"}) for text in texts]
    values.append(difference({(1, "AUC"): "0.5", (2, "AUC"): "0.5"}, {(1, "AUC"): "0.5"}))
    assert values == pytest.approx([0, 0.2, *[float("inf")] * 3])
