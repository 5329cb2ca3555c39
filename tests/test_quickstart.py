"""The demo: tools/quickstart.sh from beginning to end, apart from the installation."""

import csv
import re

import pytest
from synthetic import REPOSITORY, script

MACHINE_TYPES = ("ToyCar", "ToyTrain", "fan", "gearbox", "bearing", "slider", "valve")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return the demo's folder and what the script printed."""
    folder = tmp_path_factory.mktemp("quick start") / "demo"
    process = script("tools/quickstart.sh", folder, cwd=folder.parent)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder, process.stdout


@pytest.mark.parametrize("score", ["MSE", "MAHALA"])
@pytest.mark.parametrize("machine_type", MACHINE_TYPES)
def test_each_machine_type_is_neither_hopeless_nor_perfect(demo, machine_type, score):
    table = demo[0] / "results/dev_data/baseline/summarize/DCASE2023T2" / f"baseline_{score}"
    with (table / f"result_DCASE2023T2{machine_type}_test_seed13711_roc.csv").open(newline="") as file:
        auc = float(next(csv.DictReader(file))["AUC (source)"])
    assert 0.6 < auc < 0.99


def test_the_last_lines_show_the_table_and_the_paths_of_the_pictures(demo):
    folder, out = demo
    assert re.search(r"baseline_MSE +AUC \(source\)( +\d+\.\d\d){9}", out)
    for pattern in (
        "logs/baseline/*/log.png",
        "results/dev_data/baseline_MSE/*.png",
        "results/dev_data/baseline_MAHALA/*.png",
    ):
        assert len(list(folder.glob(pattern))) == len(MACHINE_TYPES)
    assert f"{folder}/logs/baseline/*/log.png" in out


def test_the_demo_leaves_the_users_folders_alone(demo):
    runs = [path for name in ("models", "logs", "results") for path in (REPOSITORY / name).glob("**/*DCASE2023T2fan*")]
    newer = [path for path in runs if path.stat().st_mtime > (demo[0] / "data").stat().st_ctime]
    assert newer == []
