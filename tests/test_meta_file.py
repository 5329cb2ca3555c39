"""The meta file of a package says what is known and marks the rest; what the entrant wrote stays."""

import shutil

from common import REPOSITORY

import pytest
import torch
from submissions import LABEL, LABELLED, MACHINE_TYPES, META_FILE, edit, read_meta, run_of, write_results
from synthetic import machine_folder, write_clip, write_network_record
from tools.results.test_record import TestRecord, result_record_path, write_test_record

from networks.names import score_state_path
from tools.results.files import write_result_table


def write_records(root, parameters):
    """Write a record beside each network."""
    for machine_type in MACHINE_TYPES:
        path = run_of(root, machine_type).record
        path.parent.mkdir(parents=True, exist_ok=True)
        write_network_record(path, **parameters)


def test_the_meta_file_gives_known_facts_and_marks_the_rest(results, make, tmp_path):
    write_clip(machine_folder(results / "data", split="eval_data", machine_type="bandsaw") / "test" / "x.wav", 1)
    metrics = {"AUC (source)": 0.61234, "AUC (target)": 0.5, "pAUC": 0.51}
    table = run_of(results, "fan", is_eval=False).result_table("MSE")
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w") as file:
        write_result_table(file, {0: metrics})
    write_records(results, {"batch_size": 77, "epochs": 3})
    status, out, _ = make()
    meta = read_meta(tmp_path)
    description = meta["system"]["description"]
    assert status == 0
    assert meta["submission"]["label"] == LABEL
    assert description["input_sampling_rate"] == "16 kHz"
    assert "n_mels 128" in description["acoustic_features"]
    assert "fmax null" in description["acoustic_features"]
    assert "batch_size 77" in description["machine_learning_method"]
    assert "epochs 3" in description["machine_learning_method"]
    assert description["aggregation_method"] == "mean squared error over all vectors of a clip"
    # by hand: (640 + 8) * 128 * 2 weights of the outer layers, 6 * 128**2 of the inner ones; biases and BatchNorm
    macs = 2 * (640 * 128 + 128 * 8) + 6 * 128 * 128
    assert meta["system"]["complexity"] == {
        "total_parameters": macs + 8 * 128 + 8 + 640 + 2 * (8 * 128 + 8),
        "MACS": macs,
    }
    assert meta["results"]["development_dataset"]["fan"] == {"auc_source": 61.23, "auc_target": 50.0, "pauc": 51.0}
    assert "note: without records, the development figures of fan are taken for those of the evaluation's para" in out
    for key in ("submission.name:", "submission.authors.1.email:", "results.development_dataset: 18 figures"):
        assert f"{key} still to be written" in out
    assert "test the development set, remove this file and make the package again)" in out


def test_the_meta_file_describes_the_score_that_was_used(results, make, tmp_path):
    write_results(tmp_path, LABELLED, score="MAHALA")
    assert make()[0] == 0
    by_mse = read_meta(tmp_path)["system"]
    (tmp_path / "out" / META_FILE).unlink()
    assert make("--score", "MAHALA")[0] == 0
    by_mahala = read_meta(tmp_path)["system"]
    difference = by_mahala["complexity"]["total_parameters"] - by_mse["complexity"]["total_parameters"]
    assert difference == 2 * 128**2
    assert "covariance" in by_mahala["description"]["domain_generalization_method"]
    assert by_mse["description"]["domain_generalization_method"] is None
    assert "squared" not in (tmp_path / "out" / META_FILE).read_text()


EXTENSION = """
from common import NETWORKS
from networks.network import Network
from networks.scores import score_function
from torch import nn

score_function("LOUD", "dB", {description!r})(lambda path: 1.0)

@NETWORKS.register
class Flat(Network):
    name = "FLAT"

    def __init__(self, settings, n_bins):
        super().__init__(settings, n_bins)
        self.conv = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, vectors):
        return self.conv(vectors[:, None])[:, 0]
"""


def test_options_and_tensors_of_a_score_are_in_the_meta_file_and_mixtures_are_noted(results, make, tmp_path):
    write_results(tmp_path, LABELLED, score="KNN")
    write_records(results, {})
    none = {"trained": None, "epochs": None, "network": None, "clips": {}, "files": {}}
    for machine_type in MACHINE_TYPES:
        run, k = run_of(tmp_path, machine_type), "32" if machine_type == "bandsaw" else "8"
        record = TestRecord(run.name, "KNN", "2026", **none, labelled=True, max_fpr=0.1, decision_threshold=0.9,
                            threshold=1.0, options={"knn_k": k}, sources={"knn_score.py": k})  # fmt: skip
        with result_record_path(run, "KNN").open("w") as file:
            write_test_record(file, record)
        torch.save({"clips": torch.zeros(int(k), 8)}, score_state_path(run.network, "KNN"))
    status, out, err = make("--extension", REPOSITORY / "examples/knn_score.py", "--score", "KNN")
    assert (status, err) == (0, "")
    assert f"note: {LABEL} is a mixture: knn_k 8, but 32 for bandsaw section 00; train and test all alike\n" in out
    assert f"note: {LABEL} is a mixture: the test's code differs in knn_score.py for bandsaw section 00; train" in out
    system = read_meta(tmp_path)["system"]
    assert system["description"]["aggregation_method"].endswith("training clips; knn_k 8 or 32")
    network = 2 * (640 * 128 + 128 * 8) + 6 * 128 * 128 + 8 * 128 + 8 + 640 + 2 * (8 * 128 + 8)
    assert system["complexity"]["total_parameters"] == network + 32 * 8


def write_development(root, machine_type, metrics, parameters, **test):
    """Write a development result, the record of its network, and that of its test."""
    run = run_of(root, machine_type, is_eval=False)
    run.record.parent.mkdir(parents=True, exist_ok=True)
    write_network_record(run.record, **parameters)
    table = run.result_table("MSE")
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w") as file:
        write_result_table(file, {0: metrics})
    values = {"trained": None, "epochs": parameters["epochs"], "network": None, "clips": {}, "files": {}}
    values |= {"labelled": True, "max_fpr": 0.1, "decision_threshold": 0.9, "threshold": 1.0} | test
    with result_record_path(run, "MSE").open("w") as file:
        write_test_record(file, TestRecord(run.name, "MSE", "2026", **values))


def test_development_figures_of_another_configuration_are_left_out(results, make, tmp_path):
    """Figures of 40 epochs stood in the meta file of a system of 5 epochs."""
    metrics = {"AUC (source)": 0.61234, "AUC (target)": 0.5, "pAUC": 0.51}
    write_records(results, {"epochs": 5})
    write_development(results, "fan", metrics, {"epochs": 5})
    for machine_type in ("valve", "slider"):
        write_development(results, machine_type, metrics, {"epochs": 40})
    write_development(results, "gearbox", metrics, {"epochs": 5}, max_fpr=0.5)
    write_development(results, "ToyCar", metrics, {"epochs": 5, "date": "now"}, trained="before")
    status, out, err = make()
    assert (status, err) == (0, "")
    figures = read_meta(tmp_path)["results"]["development_dataset"]
    assert figures["fan"] == {"auc_source": 61.23, "auc_target": 50.0, "pauc": 51.0}
    for machine_type in ("valve", "slider", "gearbox", "ToyCar"):
        assert all("TODO" in value for value in figures[machine_type].values())
    reasons = {
        "slider, valve": "epochs 5, but 40 for the development set; train and test both sets alike",
        "gearbox": "their pAUC is up to max_fpr 0.5 instead of 0.1; test again",
        "ToyCar": "the network was trained again since the test; test again",
    }
    for names, reason in reasons.items():
        assert f"note: development figures of {names} do not belong in {META_FILE}: {reason}\n" in out
    assert "without records" not in out


def test_stale_evaluation_results_are_noted(results, make, tmp_path):
    """The package held the scores of one network, its meta file described another."""
    write_records(results, {"epochs": 5, "network_sha256": "0b", "scores": {"MSE": {"threshold_sha256": "0c"}}})
    run = run_of(tmp_path, "bandsaw")
    values = {"trained": None, "epochs": 5, "clips": {}, "files": {}, "labelled": True, "max_fpr": 0.1}
    record = TestRecord(run.name, "MSE", "2026", network="0a", decision_threshold=0.9, threshold=1.0, **values)
    with result_record_path(run, "MSE").open("w") as file:
        write_test_record(file, record)
    assert f"note: {LABEL}, bandsaw section 00: the network was trained again, or its threshold fitted" in make()[1]


@pytest.mark.parametrize("description", ["level of the loudest frame", ""], ids=["described", "not described"])
def test_an_extensions_score_has_its_own_description_or_is_marked(results, make, tmp_path, description):
    (tmp_path / "own.py").write_text(EXTENSION.format(description=description))
    for machine_type in MACHINE_TYPES:
        run = run_of(tmp_path, machine_type)
        for kind in (run.anomaly_scores, run.decisions):
            target = kind("LOUD", 0)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(kind("MSE", 0).read_bytes())
    status, _, err = make("--extension", tmp_path / "own.py", "--score", "LOUD")
    assert (status, err) == (0, "")
    system = read_meta(tmp_path)["system"]
    assert system["description"]["aggregation_method"] == (description or "TODO: describe LOUD of own.py")
    assert system["description"]["machine_learning_method"] == "TODO: describe LOUD of own.py"
    assert "TODO" in system["complexity"]["total_parameters"]
    assert "autoencoder" not in (tmp_path / "out" / META_FILE).read_text().lower()


def test_an_extensions_network_is_marked_and_counted(results, make, tmp_path):
    (tmp_path / "own.py").write_text(EXTENSION.format(description="x"))
    folder = tmp_path / "results" / "eval_data"
    shutil.copytree(folder / "baseline_MSE", folder / "baseline_FLAT_MSE")
    write_records(tmp_path, {})
    status, _, err = make("--extension", tmp_path / "own.py", "--model", "FLAT")
    assert (status, err) == (0, "")
    system = read_meta(tmp_path)["system"]
    assert system["description"]["machine_learning_method"].startswith("TODO: describe FLAT of own.py, a network for")
    assert system["complexity"]["total_parameters"] == 4  # a kernel of three, and its bias
    assert "TODO" in system["complexity"]["MACS"]


def test_the_entrants_entries_stay_when_the_package_is_made_again(package, make, tmp_path):
    _, out, _ = make()
    assert "kept" in out
    assert "still to be written" not in out
    assert "differs" not in out
    assert "A system" in (package / META_FILE).read_text()


def test_outdated_entries_are_reported(package, make, tmp_path):
    edit(tmp_path / "out", META_FILE, "MACS: 264192", "MACS: 1")
    _, out, _ = make("--decision_threshold", "0.8")
    assert "differs from what this run would write: system.description.decision_making, system.complexity.MACS\n" in out
