"""The challenge's package: made from results, with a meta file, and checked."""

import shutil
import zipfile
from functools import partial

from common import REPOSITORY, SCORES

import pytest
import torch
import yaml
from synthetic import clip_names, directories, folders, machine_folder, make_settings, write_clip, write_network_record

from datasets.catalogue import load_challenge
from networks.names import Experiment, score_state_path
from tools import make_submission
from tools.results.files import challenge_files, write_result_table
from tools.results.result_record import ResultRecord, result_record_path, write_result_record

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


def run_of(root, machine_type, is_eval=True):
    return Experiment.of(make_settings(**folders(root)), is_eval).run("DCASE2023T2", machine_type, 0)


def write_results(root, names=LABELLED, score="MSE"):
    """Write the scores and decisions of an evaluation, in the order of the clips' names, as in the test stage."""
    for run in (run_of(root, machine_type) for machine_type in MACHINE_TYPES):
        for kind, path in zip(VALUES, (run.anomaly_scores(score, 0), run.decisions(score, 0)), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(sorted(f"{n},{v}\n" for n, v in zip(names, VALUES[kind], strict=True))))


def write_list(root, machine_types=MACHINE_TYPES):
    pairs = "".join(f"{name},{label}\n" for name, label in zip(PUBLISHED, LABELLED, strict=True))
    (root / "data").mkdir(exist_ok=True)
    (root / "data/eval_data_list_2023.csv").write_text("".join(f"{m}\n{pairs}" for m in machine_types))


@pytest.fixture
def results(tmp_path):
    """Write the results of a complete evaluation on labelled clips, and the label list; return their folder."""
    write_results(tmp_path)
    write_list(tmp_path)
    return tmp_path


@pytest.fixture
def call(call_command, tmp_path):
    """Call the command, with the folder `out`."""
    return partial(call_command, make_submission.main, "--output", tmp_path / "out", *directories(tmp_path)[:6])


@pytest.fixture
def make(call, tmp_path):
    """Make a package; return the outcome, the members' content by their names, and the meta file."""

    def make(*words):
        outcome = call("--label", LABEL, *words)
        assert (outcome.status, outcome.err) == (0, "")
        with zipfile.ZipFile(tmp_path / "out" / f"{LABEL}.zip") as archive:
            members = {name.removeprefix(f"{LABEL}/"): archive.read(name) for name in archive.namelist()}
        assert members[f"{LABEL}.meta.yaml"] == (tmp_path / "out" / f"{LABEL}.meta.yaml").read_bytes()
        return outcome, members, yaml.safe_load(members[f"{LABEL}.meta.yaml"])

    return make


# --- scores and decisions ---------------------------------------------------------------------------------------------


def test_labelled_clips_get_their_published_names_back_and_unlabelled_ones_give_the_same_files(results, make):
    outcome, members, _ = make()
    assert "14 files of 28 clips" in outcome.out
    assert "names compared with the 28 in the label list or --dataset_directory; the challenge has 1400" in outcome.out
    names = {f"{kind}_{m}_section_00_test.csv": kind for m in MACHINE_TYPES for kind in VALUES}
    assert set(members) == {*names, f"{LABEL}.meta.yaml"}
    for name, kind in names.items():
        lines = [f"{clip},{value}\n" for clip, value in zip(PUBLISHED, VALUES[kind], strict=True)]
        assert members[name].decode() == "".join(lines)
    (results / "data/eval_data_list_2023.csv").unlink()
    write_results(results, PUBLISHED)
    for machine_type in MACHINE_TYPES:
        for name in PUBLISHED:
            write_clip(machine_folder(results / "data", machine_type, split="eval_data") / "test" / name, 1, 0.01)
    assert make()[1] == members


def test_several_systems_make_one_package_if_their_labels_fit(results, call, make):
    write_results(results, score="MAHALA")
    both = ["--label", LABEL, SECOND, "--score", "MSE", "MAHALA"]
    assert "Lastname_INST_task2.zip: 28 files of 56 clips" in call(*both).out
    with zipfile.ZipFile(results / "out/Lastname_INST_task2.zip") as archive:
        assert len(archive.namelist()) == 30
        meta = yaml.safe_load(archive.read(f"{SECOND}/{SECOND}.meta.yaml"))
    assert "Mahalanobis" in meta["system"]["description"]["aggregation_method"]
    assert "warning: Lastname_INST_task2.zip beside it is from another package" in make()[0].out
    assert f"warning: {LABEL}.zip beside it is from another package" in call(*both).out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "required: --label"),
        (["--label", "Lastname_task2_1"], "is not allowed"),
        (["--label", "A_B_task2_5"], "is not allowed"),
        (["--label", LABEL, SECOND], "give one for each"),
        (["--label", LABEL, LABEL, "--score", "MSE", "MAHALA"], "give one for each"),
        (["--label", LABEL, "Other_INST_task2_2", "--score", "MSE", "MAHALA"], "differ only in the final number"),
        (["--label", LABEL, "--from", "x", "--score", "MSE"], "not allowed with"),
        (["--label", LABEL, "--report", "report.docx"], "a PDF file"),
    ],
)
def test_a_wrong_command_line_ends_with_status_2(call, words, sentence):
    outcome = call(*words)
    assert outcome.status == 2 and sentence in outcome.err


def write_folder(folder, year, n_clips):
    """Write another system's scores and decisions of a year; return the words that make its package."""
    form = {2020: "id_{:02d}_{:08d}.wav", 2021: "section_{:02d}_{domain}_test_{:04d}.wav"}
    challenge = load_challenge(f"DCASE{year}T2", is_eval=True)
    for machine_type, sections in challenge.sections.items():
        for section in sections:
            for domain, names in challenge_files(challenge, machine_type, section).items():
                clip = partial(form.get(year, "section_{:02d}_{:04d}.wav").format, section, domain=domain)
                for name in names:
                    folder.mkdir(exist_ok=True)
                    (folder / name).write_text("".join(f"{clip(i)},{i % 2}\n" for i in range(n_clips)))
    return ["--label", LABEL, "--challenge", challenge.name, "--from", folder]


@pytest.mark.parametrize(
    ("year", "end", "clip"),
    [
        (2020, "fan_id_01", "id_01_00000001.wav"),
        (2021, "fan_section_03_target_test", "section_03_target_test_0001.wav"),
        (2022, "fan_section_03_test", "section_03_0001.wav"),
        (2023, "bandsaw_section_00_test", "section_00_0001.wav"),
        (2024, "3DPrinter_section_00_test", "section_00_0001.wav"),
        (2025, "AutoTrash_section_00_test", "section_00_0001.wav"),
        (2026, "Sander_section_00_test", "section_00_0001.wav"),
    ],
)
def test_a_folder_of_any_year_is_packed_under_the_challenges_names(call, tmp_path, year, end, clip):
    outcome = call(*write_folder(tmp_path / "theirs", year, 200))
    assert (outcome.status, outcome.err) == (0, "")
    with zipfile.ZipFile(tmp_path / "out" / f"{LABEL}.zip") as archive:
        assert len(archive.namelist()) == len(list((tmp_path / "theirs").iterdir())) + 1
        assert archive.read(f"{LABEL}/anomaly_score_{end}.csv").decode().splitlines()[1] == f"{clip},1.0"
        assert archive.read(f"{LABEL}/decision_result_{end}.csv").decode().splitlines()[1] == f"{clip},1"


@pytest.mark.parametrize("year", [2023, 2024, 2025, 2026])
def test_a_package_of_too_few_clips_is_refused_or_noted(call, tmp_path, year):
    words = write_folder(tmp_path / "theirs", year, 1)
    outcome = call(*words)
    assert outcome.status == 1 and "section 00 should have 200 clips instead of 1;" in outcome.err
    assert not (tmp_path / "out").exists()
    machine_types = load_challenge(f"DCASE{year}T2", is_eval=True).machine_types
    for machine_type in machine_types:
        test = machine_folder(tmp_path / "data", machine_type, f"dcase{year}t2", "eval_data") / "test"
        write_clip(test / "section_00_0000.wav", 1, 0.01)
    n = len(machine_types)
    assert (
        f"compared with the {n} in the label list or --dataset_directory; the challenge has {200 * n}"
        in call(*words).out
    )


def test_a_domain_without_clips_is_refused(call, tmp_path):
    words = write_folder(tmp_path / "theirs", 2021, 2)
    for path in (tmp_path / "theirs").glob("*_fan_section_03_target_test.csv"):
        path.write_text(path.read_text().replace("target", "source"))
    assert "no clips for anomaly_score_fan_section_03_target_test.csv" in call(*words).err


def test_a_folder_is_packed_and_its_meta_file_claims_nothing(results, make, tmp_path):
    ours = make()[1]
    (tmp_path / "out" / f"{LABEL}.meta.yaml").unlink()
    outcome, theirs, meta = make("--from", tmp_path / "results/eval_data/baseline_MSE")
    assert {name: theirs[name] for name in ours if name.endswith(".csv")} == {
        name: content for name, content in ours.items() if name.endswith(".csv")
    }
    text = theirs[f"{LABEL}.meta.yaml"].decode().lower()
    assert all(word not in text for word in ("squared", "gamma", "autoencoder", "mel"))
    assert meta["system"]["complexity"]["MACS"] == "TODO: their number, or null"
    assert "still to be written (TODO: describe it, or null)" in outcome.out


def break_results(root, case):
    bandsaw, shaker = run_of(root, "bandsaw"), run_of(root, "shaker")
    scores, decisions = shaker.anomaly_scores("MSE", 0), shaker.decisions("MSE", 0)
    if case == "missing":
        scores.unlink()
        bandsaw.anomaly_scores("MSE", 0).unlink()
    elif case == "undecided":
        decisions.write_text("".join(f"{name},\n" for name in sorted(LABELLED)))
    elif case == "no list":
        (root / "data/eval_data_list_2023.csv").unlink()
    elif case == "other list":
        write_list(root, MACHINE_TYPES[1:])
    elif case == "clip missing":
        for path in (scores, decisions):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    elif case == "other clip":
        for path in (scores, decisions):
            path.write_text(path.read_text().replace(LABELLED[0], "section_00_0009.wav"))
    elif case == "not a number":
        scores.write_text(scores.read_text().replace("0.5", "nan"))
    elif case == "meta file":
        (root / "out").mkdir()
        (root / "out" / f"{LABEL}.meta.yaml").write_text("a: [1")


@pytest.mark.parametrize(
    ("case", "sentences"),
    [
        ("missing", ["baseline_MSE", "no scores of bandsaw section 00; no scores of shaker section 00", "with -e"]),
        ("undecided", ["baseline_MSE", "no decisions of shaker section 00"]),
        ("no list", ["ToyDrone section 00 has unpublished names: section_00_source_test_normal_0000_v_0.wav"]),
        ("other list", ["ToyDrone section 00 has unpublished names: section_00_source_test_normal_0000_v_0.wav"]),
        ("clip missing", ["shaker section 00 lacks section_00_0002.wav; nothing was written"]),
        ("other clip", ["shaker section 00 lacks section_00_0000.wav", "has unpublished names: section_00_0009.wav"]),
        ("not a number", ["anomaly_score_DCASE2023T2shaker", "nan"]),
        ("meta file", [f"{LABEL}.meta.yaml is not YAML", "or remove it"]),
    ],
)
def test_incomplete_results_are_reported_and_nothing_is_written(results, call, case, sentences):
    break_results(results, case)
    outcome = call("--label", LABEL)
    assert outcome.status == 1
    assert outcome.err.startswith("error: ") and outcome.err.count("\n") == 1
    assert all(sentence in outcome.err for sentence in sentences), outcome.err
    assert not (results / "out" / f"{LABEL}.zip").exists()


def test_a_failed_write_leaves_the_earlier_package_as_it_was(results, make, call, monkeypatch):
    make()
    files = {path: path.read_bytes() for path in (results / "out").iterdir()}
    write_results(results, LABELLED[::-1])
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    outcome = call("--label", LABEL)
    assert outcome.status == 1 and "cannot write" in outcome.err
    assert {path: path.read_bytes() for path in (results / "out").iterdir()} == files


def test_the_technical_report_is_packed_and_kept_when_the_package_is_made_again(results, make):
    assert "note: no technical report, which 2026's rules want" in make()[0].out
    (results / "own.pdf").write_bytes(b"%PDF-1")
    for words in (["--report", results / "own.pdf"], []):
        outcome, members, _ = make(*words)
        assert "no technical report" not in outcome.out
        assert members["Lastname_INST_task2.technical_report.pdf"] == b"%PDF-1"


# --- the meta file ----------------------------------------------------------------------------------------------------


def write_records(root, **parameters):
    """Write a record beside each network of the evaluation."""
    for path in (run_of(root, machine_type).record for machine_type in MACHINE_TYPES):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_network_record(path, **parameters)


def write_result(run, score="MSE", **values):
    """Write the record of a test, with these values."""
    origin = {"trained": None, "epochs": None, "network": None, "clips": {}, "labelled": True, "max_fpr": 0.1}
    origin |= {"decision_threshold": 0.9, "threshold": 1.0, "files": {}, "threshold_from": None}
    record = ResultRecord(run.name, score, "2026", **origin | {"options": {}, "sources": {}} | values)
    with result_record_path(run, score).open("w") as file:
        write_result_record(file, record)


def write_development(root, machine_type, epochs=5, trained=None, **record):
    """Write a development result, the record of its network, and that of its test."""
    run = run_of(root, machine_type, is_eval=False)
    for path in (run.record, run.result_table("MSE")):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_network_record(run.record, epochs=epochs, **record)
    with run.result_table("MSE").open("w") as file:
        write_result_table(file, {0: {"AUC (source)": 0.61234, "AUC (target)": 0.5, "pAUC": 0.51}})
    write_result(run, epochs=epochs, trained=trained)


def test_the_meta_file_gives_the_facts_and_marks_the_rest(results, make):
    write_clip(machine_folder(results / "data", "bandsaw", split="eval_data") / "test" / "section_00_0000.wav", 1)
    assert "no record tells how the networks of ToyDrone section 00" in make()[0].out
    (results / "out" / f"{LABEL}.meta.yaml").unlink()
    write_records(results, batch_size=77, frames=5, frame_hop_length=1, epochs=5)
    write_result(run_of(results, "bandsaw"), threshold_from="a given number")
    outcome, _, meta = make()
    description = meta["system"]["description"]
    assert meta["submission"]["label"] == LABEL
    assert description["input_sampling_rate"] == "16 kHz"
    assert "n_mels 128" in description["acoustic_features"] and "fmax null" in description["acoustic_features"]
    assert "batch_size 77" in description["machine_learning_method"]
    assert description["aggregation_method"] == "mean squared error over all vectors of a clip"
    assert description["decision_making"] == "scores above a given number"
    assert description["domain_generalization_method"] is None
    assert meta["system"]["complexity"] == {"total_parameters": PARAMETERS, "MACS": MACS}
    assert "  submission.authors.1.email: still to be written (TODO: address)\n" in outcome.out
    assert "and 18 more: still to be written (TODO: percent, or test the development set" in outcome.out


def test_development_figures_of_another_configuration_are_left_out(results, make):
    """Figures of 40 epochs stood in the meta file of a system of 5 epochs."""
    write_records(results, epochs=5, frames=5)
    write_development(results, "fan", frames=5)
    for machine_type in ("valve", "slider"):
        write_development(results, machine_type, epochs=40, frames=5)
    write_development(results, "ToyCar", date="now", trained="before")
    write_development(results, "gearbox")
    write_development(results, "bearing", frames=5)  # with the scores of clips, which are not the evaluation's
    scores = "".join(f"{name},{'anomaly' in name:d}\n" for name in clip_names())
    run_of(results, "bearing", is_eval=False).anomaly_scores("MSE", 0).write_text(scores)
    outcome, _, meta = make()
    figures = meta["results"]["development_dataset"]
    assert figures["fan"] == {"auc_source": 61.23, "auc_target": 50.0, "pauc": 51.0}
    assert figures["bearing"] == dict.fromkeys(("auc_source", "auc_target", "pauc"), 100.0)
    for machine_type in ("valve", "slider", "ToyCar", "gearbox"):
        assert all("TODO" in value for value in figures[machine_type].values())
    assert "development figures of ToyCar, gearbox, slider, valve do not belong in the meta file: the network was " in (
        outcome.out
    )
    assert "trained again since the test; no record tells their parameters; epochs 5, but 40 for the dev" in outcome.out


def test_development_figures_are_harmonic_means_over_all_sections_of_a_machine_type(tmp_path):
    experiment = Experiment.of(make_settings(**folders(tmp_path)), is_eval=False)
    for machine_type, sections in (("fan", (0, 1, 2)), ("valve", (0, 1))):
        for section in sections:
            table = experiment.run("DCASE2022T2", machine_type, section).result_table("MSE")
            table.parent.mkdir(parents=True, exist_ok=True)
            with table.open("w") as file:
                write_result_table(file, {section: {"AUC (source)": (0.3, 0.6, 0.6)[section], "pAUC": 0.5}})
    development = load_challenge("DCASE2022T2", is_eval=False)
    figures = make_submission.development_figures(development, "MSE", {}, make_settings(**folders(tmp_path)))
    assert figures == {"fan": {"auc_source": 45.0, "pauc": 50.0}}  # 3 / (1 / 0.3 + 2 / 0.6)


def test_options_tensors_mixtures_and_stale_results_are_in_the_meta_file_or_noted(results, make):
    write_results(results, score="KNN")
    write_records(results, network_sha256="0b", scores={"KNN": {"threshold_sha256": "0c"}})
    for machine_type in MACHINE_TYPES:
        run, k = run_of(results, machine_type), "32" if machine_type == "bandsaw" else "8"
        write_result(run, "KNN", options={"knn_k": k}, network="0a" if machine_type == "shaker" else None)
        torch.save({"clips": torch.zeros(int(k), 8)}, score_state_path(run.network, "KNN"))
    outcome, _, meta = make(*KNN)
    assert "note: baseline_KNN is a mixture: knn_k 8, but 32 for bandsaw section 00; train and test all" in outcome.out
    assert "note: baseline_KNN, shaker section 00: the network was trained again, or its threshold" in outcome.out
    assert meta["system"]["description"]["aggregation_method"].endswith("training clips; knn_k 8 or 32")
    assert meta["system"]["complexity"]["total_parameters"] == PARAMETERS + 32 * 8
    write_records(results, n_mels=128)
    write_network_record(run_of(results, "shaker").record, n_mels=64)
    (results / "out" / f"{LABEL}.meta.yaml").unlink()
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


def test_each_score_and_network_has_its_own_description_or_a_mark(results, make):
    (results / "own.py").write_text(EXTENSION)
    for score in ("MAHALA", "KNN", "LOUD", "QUIET"):
        write_results(results, score=score)
    texts, systems = {}, {}
    for score in ("MSE", "MAHALA", "KNN", "LOUD", "QUIET"):
        (results / "out" / f"{LABEL}.meta.yaml").unlink(missing_ok=True)
        _, members, meta = make("--extension", results / "own.py", *KNN[:2], "--score", score)
        texts[score], systems[score] = members[f"{LABEL}.meta.yaml"].decode(), meta["system"]
    for score in ("MSE", "MAHALA", "KNN", "LOUD"):
        assert [other for other, text in texts.items() if SCORES.get(score).description in " ".join(text.split())] == [
            score
        ]
    assert systems["MAHALA"]["complexity"]["total_parameters"] == PARAMETERS + 2 * 128**2
    assert "covariance" in systems["MAHALA"]["description"]["domain_generalization_method"]
    assert systems["QUIET"]["description"]["aggregation_method"] == "TODO: describe QUIET of own.py"
    assert systems["LOUD"]["description"]["machine_learning_method"] == "TODO: describe LOUD"
    assert "TODO" in systems["LOUD"]["complexity"]["total_parameters"] and "autoencoder" not in texts["LOUD"]
    shutil.copytree(results / "results/eval_data/baseline_MSE", results / "results/eval_data/baseline_FLAT_MSE")
    (results / "out" / f"{LABEL}.meta.yaml").unlink()
    system = make("--extension", results / "own.py", "--model", "FLAT")[2]["system"]
    assert system["description"]["machine_learning_method"].startswith("TODO: describe FLAT of own.py, a network for")
    assert system["complexity"]["total_parameters"] == 4  # a kernel of three, and its bias
    assert "TODO" in system["complexity"]["MACS"]
    shutil.copytree(
        results / "results/eval_data/baseline_MSE", results / "results/eval_data/baseline_CLASSIFIER_CLASS-KNN"
    )
    (results / "out" / f"{LABEL}.meta.yaml").unlink()
    classifier = REPOSITORY / "examples/attribute_classifier.py"
    system = make("--extension", classifier, "--model", "CLASSIFIER", "--score", "CLASS-KNN")[2]["system"]
    assert "attributes, one network for all machine types; " in system["description"]["machine_learning_method"]


def fill_in(path):
    """Write the entrant's entries."""
    meta = yaml.safe_load(path.read_text())
    meta["submission"] |= {"name": "A system", "abbreviation": "Ab"}
    meta["submission"]["authors"][0] |= {"firstname": "Zoë", "lastname": "Lastname", "email": "z@example.org"}
    meta["submission"]["authors"][0]["affiliation"] = {"institution": "Institute", "department": None, "location": "A"}
    meta["system"]["source_code"], meta["system"]["description"]["input_sampling_rate"] = None, "16 kHz"
    for figures in meta["results"]["development_dataset"].values():
        figures |= {"auc_source": 70.5, "auc_target": 50, "pauc": 52.1}
    path.write_text(yaml.safe_dump(meta, allow_unicode=True))


def test_the_entrants_entries_stay_and_faults_in_them_are_reported(results, make):
    make()
    path = results / "out" / f"{LABEL}.meta.yaml"
    fill_in(path)
    content = path.read_text()
    outcome, members, _ = make()
    assert "A system" in members[path.name].decode() and path.read_text() == content
    assert "its entries are complete\n" in outcome.out and "differs" not in outcome.out
    faults = {
        f"label: {LABEL}": ("label: Other_INST_task2_1", "differs from what this run would write: submission.label\n"),
        "MACS: 264192": ("MACS: 1", "differs from what this run would write: system.complexity.MACS\n"),
        "attribute_usage": ("attributes", "system.description.attribute_usage is missing"),
        "email: z": ("mail: z", "submission.authors.1.email is missing"),
        "valve:": ("valves:", "development_dataset.valve.pauc is missing"),
        "location: A": ("location: 'TODO: x'", "affiliation.location: still to be written (TODO: x)"),
    }
    for old, (new, sentence) in faults.items():
        assert old in content
        path.write_text(content.replace(old, new))
        assert sentence in make()[0].out
