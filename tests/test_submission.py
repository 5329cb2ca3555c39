"""The challenge's package: made from results, with a meta file, and checked."""

import re
import zipfile
from functools import partial
from itertools import product

from common import REPOSITORY, SCORES

import pytest
import torch
import yaml
from reports import run_of, write_test_record, write_values
from synthetic import (
    clip_names,
    directories,
    error_of,
    machine_folder,
    succeed,
    write_clip,
    write_network_record,
)

from datasets.catalogue import load_challenge
from networks.names import score_state_path
from tools import make_submission

LABEL, SECOND = "Lastname_INST_task2_1", "Lastname_INST_task2_2"
MACHINE_TYPES = load_challenge("DCASE2023T2", is_eval=True).machine_types
PUBLISHED = [f"section_00_{i:04d}.wav" for i in range(4)]
LABELLED = [f"section_00_target_test_anomaly_{i:04d}_v_{i}.wav" for i in range(2)]
LABELLED += [f"section_00_source_test_normal_{i:04d}_v_{i}.wav" for i in range(2)]
VALUES = {"anomaly_score": ["0.5", "1e-07", "123.456789012345", "2.25"], "decision_result": [0, 0, 1, 1]}
KNN = ["--extension", REPOSITORY / "examples/knn_score.py", "--score", "KNN"]
# by hand: (640 + 8) * 128 * 2 weights of the outer layers, 6 * 128**2 of the inner ones; biases and BatchNorm
MACS = 2 * (640 * 128 + 128 * 8) + 6 * 128 * 128
PARAMETERS = MACS + 8 * 128 + 8 + 640 + 2 * (8 * 128 + 8)


def write_results(root, names=LABELLED, system="baseline_MSE", challenge="DCASE2023T2"):
    """Write the scores and decisions of an evaluation, in the order of the clips' names, as in the test stage."""
    for (machine_type, section), kind in product(load_challenge(challenge, is_eval=True).section_keys(), VALUES):
        end = f"{challenge}{machine_type}_section_{section:02d}_test_seed13711_id({section}_)_Eval.csv"
        clips = [name.replace("section_00", f"section_{section:02d}") for name in names]
        values = dict(sorted(zip(clips, VALUES[kind], strict=True)))
        write_values(root / f"results/eval_data/{system}/{kind}_{end}", values)


@pytest.fixture
def results(tmp_path):
    """Write the results of a complete evaluation on labelled clips, and the label list; return their folder."""
    write_results(tmp_path)
    (tmp_path / "data").mkdir()
    pairs = "".join(f"{name},{label}\n" for name, label in zip(PUBLISHED, LABELLED, strict=True))
    (tmp_path / "data/eval_data_list_2023.csv").write_text("".join(f"{m}\n{pairs}" for m in MACHINE_TYPES))
    return tmp_path


@pytest.fixture
def call(call_command, tmp_path):
    """Call the command, with the folder `out`."""
    return partial(call_command, make_submission.main, "--output", tmp_path / "out", *directories(tmp_path)[:6])


def members_of(package):
    """Return the content of a package's files by their names, without a folder for the system."""
    with zipfile.ZipFile(package) as archive:
        return {name.removeprefix(f"{LABEL}/"): archive.read(name) for name in archive.namelist()}


@pytest.fixture
def make(call, tmp_path):
    """Make a package; return what was printed, the members' content by their names, and the meta file."""

    def make(*words):
        out = succeed(call("--label", LABEL, *words))
        members = members_of(tmp_path / f"out/{LABEL}.zip")
        assert members[f"{LABEL}.meta.yaml"] == (tmp_path / f"out/{LABEL}.meta.yaml").read_bytes()
        return out, members, yaml.safe_load(members[f"{LABEL}.meta.yaml"])

    return make


# --- scores and decisions ---------------------------------------------------------------------------------------------


def test_labelled_clips_get_their_published_names_back_and_unlabelled_ones_give_the_same_files(results, make):
    out, members, _ = make()
    assert ".zip: 1 system of 28 clips, scores, decisions and meta files\n" in out
    assert "names compared with the 28 in the label list or --dataset_directory; the challenge has 1400" in out
    files = {
        f"{kind}_{machine_type}_section_00_test.csv": "".join(
            f"{clip},{value}\n" for clip, value in zip(PUBLISHED, values, strict=True)
        ).encode()
        for machine_type in MACHINE_TYPES
        for kind, values in VALUES.items()
    }
    assert members == files | {f"{LABEL}.meta.yaml": members[f"{LABEL}.meta.yaml"]}
    (results / "data/eval_data_list_2023.csv").unlink()
    write_results(results, PUBLISHED)
    for machine_type in MACHINE_TYPES:
        for name in PUBLISHED:
            write_clip(machine_folder(results / "data", machine_type, split="eval_data") / "test" / name, 1, 0.01)
    assert make()[1] == members


def test_several_systems_make_one_package_if_their_labels_fit(results, call, make):
    write_results(results, system="baseline_MAHALA")
    both = ["--label", LABEL, SECOND, "--score", "MSE", "MAHALA"]
    assert "Lastname_INST_task2.zip: 2 systems of 28 clips" in succeed(call(*both))
    members = members_of(results / "out/Lastname_INST_task2.zip")
    meta = yaml.safe_load(members[f"{SECOND}/{SECOND}.meta.yaml"])
    assert len(members) == 30 and "Mahalanobis" in meta["system"]["description"]["aggregation_method"]
    assert "warning: Lastname_INST_task2.zip beside it is from another package" in make()[0]
    assert f"warning: {LABEL}.zip beside it is from another package" in call(*both).out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["Lastname_task2_1"], "is not allowed"),
        (["A_B_task2_5"], "is not allowed"),
        ([LABEL, SECOND], "give one for each"),
        ([LABEL, LABEL, "--score", "MSE", "MAHALA"], "give one for each"),
        ([LABEL, "Other_INST_task2_2", "--score", "MSE", "MAHALA"], "differ only in the final number"),
        ([LABEL, "--report", "report.docx"], "a PDF file"),
    ],
)
def test_a_wrong_command_line_ends_with_status_2(call, words, sentence):
    outcome = call("--label", *words)
    assert outcome.status == 2 and sentence in outcome.err


@pytest.mark.parametrize(
    ("year", "ends"),
    [(2020, ["id_{:02d}"]), (2021, ["section_{:02d}_source_test", "section_{:02d}_target_test"])]
    + [(year, ["section_{:02d}_test"]) for year in range(2022, 2027)],
)
def test_a_folder_of_any_year_is_packed_under_the_challenges_names(call, tmp_path, year, ends):
    """From 2023 on, the number of clips is known."""
    challenge, folder = load_challenge(f"DCASE{year}T2", is_eval=True), tmp_path / "theirs"
    for n_clips in (1, 200):
        for (machine_type, section), end in product(challenge.section_keys(), ends):
            start = end.format(section).removesuffix("_test" if year > 2021 else "")
            values = {f"{start}_{i:0{8 if year == 2020 else 4}d}.wav": i % 2 for i in range(n_clips)}
            for kind, number in (("anomaly_score", float), ("decision_result", int)):
                path = folder / f"{kind}_{machine_type}_{end.format(section)}.csv"
                write_values(path, {clip: number(value) for clip, value in values.items()})
        outcome = call("--label", LABEL, "--challenge", challenge.name, "--from", folder)
        is_refused = n_clips == 1 and year > 2022
        assert ("section 00 should have 200 clips instead of 1;" in outcome.err) == is_refused
        assert (tmp_path / "out").exists() == (not is_refused)
    members = members_of(tmp_path / f"out/{LABEL}.zip")
    assert members.pop(f"{LABEL}.meta.yaml")
    assert members == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_is_packed_and_its_meta_file_claims_nothing(results, make):
    ours = make()[1]
    (results / f"out/{LABEL}.meta.yaml").unlink()
    out, theirs, meta = make("--from", results / "results/eval_data/baseline_MSE")
    text = theirs.pop(f"{LABEL}.meta.yaml").decode().lower()
    assert theirs.items() < ours.items()
    assert not re.search("squared|gamma|autoencoder|mel", text)
    assert meta["system"]["complexity"]["MACS"] == "TODO: their number, or null"
    assert "still to be written (TODO: describe it, or null)" in out


@pytest.mark.parametrize(
    ("files", "former", "new", "sentence"),
    [
        (
            "anomaly_score_DCASE2023T2[bs]*",
            "(?s).+",
            "",
            "baseline_MSE does not hold the challenge's results: no scores of bandsaw section 00; no scores of shaker "
            "section 00; nothing was written; run 01 and 02 with -e",
        ),
        ("decision_result_*shaker*", ",1", ",", ": no decisions of shaker section 00;"),
        (
            "eval_data_list_2023.csv",
            "(?s).+",
            "",
            "ToyDrone section 00 has unpublished names: section_00_source_test_n",
        ),
        ("*shaker*", f"{LABELLED[0]}.*\n", "", "shaker section 00 lacks section_00_0000.wav; nothing was written"),
        (
            "*shaker*",
            LABELLED[0],
            "section_00_0009.wav",
            "shaker section 00 has unpublished names: section_00_0009.wav",
        ),
        ("anomaly_score_*shaker*", "0.5", "nan", "'nan' in line"),
    ],
    ids=["no scores", "no decisions", "no list", "a clip less", "another clip", "no number"],
)
def test_incomplete_results_are_reported_and_nothing_is_written(results, call, files, former, new, sentence):
    for path in list(results.rglob(files)):
        text = re.sub(former, new, path.read_text())
        path.write_text(text)
        if not text:
            path.unlink()
    err = error_of(call("--label", LABEL))
    assert err.startswith("error: ") and err.count("\n") == 1 and sentence in err
    assert not (results / "out").exists()


def test_a_failed_write_leaves_the_earlier_package_as_it_was(results, make, call, monkeypatch):
    make()
    files = {path: path.read_bytes() for path in (results / "out").iterdir()}
    write_results(results, LABELLED[::-1])
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "cannot write" in error_of(call("--label", LABEL))
    assert {path: path.read_bytes() for path in (results / "out").iterdir()} == files


def test_the_technical_report_is_packed_and_kept_when_the_package_is_made_again(results, make):
    assert "note: no technical report, which the rules of 2026 require" in make()[0]
    (results / "own.pdf").write_bytes(b"PK")
    with pytest.raises(AssertionError, match="is not a PDF file"):
        make("--report", results / "own.pdf")
    (results / "own.pdf").write_bytes(b"%PDF-1")
    for words in (["--report", results / "own.pdf"], []):
        out, members, _ = make(*words)
        assert "no technical report" not in out
        assert members["Lastname_INST_task2.technical_report.pdf"] == b"%PDF-1"


# --- the meta file ----------------------------------------------------------------------------------------------------


def write_records(root, score="MSE", options=None, **parameters):
    """Write the records of the evaluation set's networks and tests."""
    for machine_type in MACHINE_TYPES:
        run = run_of(root, machine_type, is_eval=True)
        write_network_record(run.record, **parameters)
        write_test_record(run, score, options)


def write_table(root, dataset, section, *areas):
    """Write the result table of a section of the development set."""
    path = root / f"results/dev_data/baseline_MSE/result_{dataset}_test_seed13711_id({section}_)_roc.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"section,AUC (source),AUC (target),pAUC\n{section:02d},{','.join(map(str, areas))}\n")


def write_development(root, machine_type, epochs=5, test=None, **record):
    """Write a development result, the record of its network, and that of its test."""
    run = run_of(root, machine_type)
    write_network_record(run.record, epochs=epochs, **record)
    write_table(root, f"DCASE2023T2{machine_type}", 0, 0.61234, 0.5, 0.51)
    write_test_record(run, **test or {})


def test_the_meta_file_gives_the_facts_and_marks_the_rest(results, make):
    write_clip(machine_folder(results / "data", "bandsaw", split="eval_data") / "test" / "section_00_0000.wav", 1)
    assert "no record tells how the networks of ToyDrone section 00" in make()[0]
    (results / f"out/{LABEL}.meta.yaml").unlink()
    write_records(results, batch_size=77, frames=5, frame_hop_length=1, epochs=5)
    write_test_record(run_of(results, "bandsaw", is_eval=True), threshold_from="a given number")
    out, _, meta = make()
    description = meta["system"]["description"]
    assert meta["submission"]["label"] == LABEL
    assert description["input_sampling_rate"] == "16 kHz"
    assert re.search("n_mels 128, .*fmax null", description["acoustic_features"])
    assert "batch_size 77" in description["machine_learning_method"]
    assert description["aggregation_method"] == "mean squared error over all vectors of a clip"
    assert description["decision_making"] == "scores above a given number"
    assert description["domain_generalization_method"] is None
    assert meta["system"]["complexity"] == {"total_parameters": PARAMETERS, "MACS": MACS}
    assert "  submission.authors.1.email: still to be written (TODO: address)\n" in out
    assert "and 18 more: still to be written (TODO: percent, or train and test the development set" in out


def test_development_figures_of_another_configuration_are_left_out(results, make):
    """Figures of 40 epochs stood in the meta file of a system of 5 epochs."""
    write_records(results, epochs=5, frames=5)
    for machine_type in ("valve", "slider"):
        write_development(results, machine_type, epochs=40, frames=5)
    write_development(results, "ToyCar", network_sha256="0a", test={"network": "0b"})
    write_development(results, "gearbox")
    write_development(results, "fan", frames=5)
    write_development(results, "bearing", frames=5)  # with the scores of clips, which are not the evaluation's
    scores = {name: int("anomaly" in name) for name in clip_names()}
    write_values(run_of(results, "bearing").anomaly_scores("MSE", 0), scores)
    out, _, meta = make()
    figures = meta["results"]["development_dataset"]
    assert figures["fan"] == {"auc_source": 61.23, "auc_target": 50.0, "pauc": 51.0}
    assert figures["bearing"] == dict.fromkeys(("auc_source", "auc_target", "pauc"), 100.0)
    for machine_type in ("valve", "slider", "ToyCar", "gearbox"):
        assert all("TODO" in value for value in figures[machine_type].values())
    assert (
        "development figures of ToyCar, gearbox, slider, valve do not belong in the meta file: the network was trained "
        "again, or its threshold fitted or calibrated again, since the test; no record tells their parameters; epochs "
        "5, but 40 for the development set\n"
    ) in out


def test_development_figures_are_harmonic_means_over_all_sections_of_a_machine_type(tmp_path, make):
    write_results(tmp_path, PUBLISHED, challenge="DCASE2022T2")
    for machine_type, section in [("fan", 0), ("fan", 1), ("fan", 2), ("valve", 0), ("valve", 1)]:
        write_table(tmp_path, f"DCASE2022T2{machine_type}", section, (0.3, 0.6, 0.6)[section], "", 0.5)
    figures = make("--challenge", "DCASE2022T2")[2]["results"]["development_dataset"]
    untested = figures["valve"]["pauc"]
    assert "TODO" in untested and figures["valve"] == dict.fromkeys(figures["valve"], untested)
    assert figures["fan"] == {"auc_source": 45.0, "auc_target": untested, "pauc": 50.0}  # 3 / (1 / 0.3 + 2 / 0.6)


def test_options_tensors_mixtures_and_stale_results_are_in_the_meta_file_or_noted(results, make):
    write_results(results, system="baseline_KNN")
    write_records(results, network_sha256="0b", scores={"KNN": {"threshold_sha256": "0c"}})
    for machine_type in MACHINE_TYPES:
        run, k = run_of(results, machine_type, is_eval=True), 32 if machine_type == "bandsaw" else 8
        network = "0a" if machine_type == "shaker" else None
        write_test_record(run, "KNN", options={"knn_k": str(k)}, network=network)
        torch.save({"clips": torch.zeros(k, 8)}, score_state_path(run.network, "KNN"))
    out, _, meta = make(*KNN)
    assert "note: baseline_KNN is a mixture: knn_k 8, but 32 for bandsaw section 00; train and test all" in out
    assert "note: baseline_KNN, shaker section 00: the network was trained again, or its threshold" in out
    assert meta["system"]["description"]["aggregation_method"].endswith("training clips; knn_k 8 or 32")
    assert meta["system"]["complexity"]["total_parameters"] == PARAMETERS + 32 * 8
    write_records(results, "KNN", {"knn_k": "8"}, n_mels=128)
    write_network_record(run.record, n_mels=64)
    write_test_record(run, "KNN", {"knn_k": "8"})
    (results / f"out/{LABEL}.meta.yaml").unlink()
    assert "TODO" in make(*KNN)[2]["system"]["complexity"]["total_parameters"]


EXTENSION = """
from common import NETWORKS
from networks.network import Network
from networks.scores import score_function
from torch import nn

score_function("LOUD", "dB", "level of the loudest frame")(lambda path: 1.0)
score_function("QUIET", "dB", "")(lambda path: 1.0)

@NETWORKS.register
class Flat(Network):
    name = "FLAT"

    def __init__(self, settings, n_bins):
        super().__init__(settings, n_bins)
        self.conv = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, vectors):
        return self.conv(vectors[:, None])[:, 0]
"""
CLASSIFIER = ["--extension", REPOSITORY / "examples/attribute_classifier.py", "--model", "CLASSIFIER"]


@pytest.mark.parametrize(
    ("system", "words", "expected"),
    [
        (
            "MAHALA",
            ["--score", "MAHALA"],
            {
                "aggregation_method": SCORES.get("MAHALA").description,
                "domain_generalization_method": "covariance",
                "total_parameters": str(PARAMETERS + 2 * 128**2),
            },
        ),
        (
            "LOUD",
            ["--score", "LOUD"],
            {
                "aggregation_method": "level of the loudest frame",
                "machine_learning_method": "TODO: describe LOUD",
                "total_parameters": "TODO",
            },
        ),
        ("QUIET", ["--score", "QUIET"], {"aggregation_method": "TODO: describe QUIET of own.py"}),
        (
            "FLAT_MSE",
            ["--model", "FLAT"],
            {
                "machine_learning_method": "TODO: describe FLAT of own.py, a network for",
                "total_parameters": "4",  # a kernel of three, and its bias
                "MACS": "TODO",
            },
        ),
        (
            "CLASSIFIER_CLASS-KNN",
            [*CLASSIFIER, "--score", "CLASS-KNN"],
            {"machine_learning_method": "attributes, one network for all machine types; "},
        ),
    ],
)
def test_each_score_and_network_has_its_own_description_or_a_mark(results, make, system, words, expected):
    (results / "own.py").write_text(EXTENSION)
    write_results(results, system=f"baseline_{system}")
    system = make("--extension", results / "own.py", *words)[2]["system"]
    facts = system["description"] | system["complexity"]
    assert {key: text for key, text in expected.items() if text not in str(facts[key])} == {}


def test_the_entrants_entries_stay_and_faults_in_them_are_reported(results, make, call):
    make()
    path = results / f"out/{LABEL}.meta.yaml"
    content = re.sub("'?TODO: .*", "Zoë", path.read_text())
    path.write_text(content)
    out, members, _ = make()
    assert members[path.name].decode() == content
    assert "its entries are complete\n" in out and "differs" not in out
    faults = {
        f"label: {LABEL}": ("label: Other_INST_task2_1", "differs from what this run would write: submission.label\n"),
        "MACS: 264192": ("MACS: 1", "differs from what this run would write: system.complexity.MACS\n"),
        "attribute_usage": ("attributes", "system.description.attribute_usage is missing"),
        "email: Z": ("mail: Z", "submission.authors.1.email is missing"),
        "valve:": ("valves:", "development_dataset.valve.pauc is missing"),
        "location: Zoë": ("location: 'TODO: x'", "affiliation.location: still to be written (TODO: x)"),
    }
    for old, (new, sentence) in faults.items():
        assert old in content
        path.write_text(content.replace(old, new))
        assert sentence in make()[0]
    path.write_text("a: [1")
    assert re.search(f"{path.name} is not YAML .* or remove it", error_of(call("--label", LABEL)))
