"""Labels, further clips, joint networks: trained once on all machine types, then written as ordinary runs."""

import shutil

import pytest
from synthetic import (
    REPOSITORY,
    RUN,
    directories,
    error_of,
    machine_folder,
    network_path,
    record_of,
    rows,
    succeed,
    write_machine,
    written,
)

import train
from tools import jobs

CLASSIFIER = REPOSITORY / "examples/attribute_classifier.py"
TYPES = ("fan", "valve")
RUNS = [f"CLASSIFIER_DCASE2023T2{name}_id(0_)_seed13711" for name in TYPES]


@pytest.fixture
def machines(workplace):
    """Return the folders of two machine types, of which each has clips of two attributes."""
    folders = [machine_folder(workplace / "data", name) for name in TYPES]
    write_machine(folders[1])
    for folder in folders:
        for path in sorted((folder / "train").iterdir())[::2]:
            path.rename(path.with_name(path.name.replace("spd_1", "spd_2")))
    return folders


@pytest.fixture
def joint(machines, workplace, no_pictures):
    """Return the options of a joint network of two machine types."""
    network = [f"--extension={CLASSIFIER}", "--model=CLASSIFIER", "--frames=8", "--batch_size=16"]
    return [*network, *directories(workplace)]


def test_a_joint_network_is_written_for_each_machine_type_and_resumes_to_the_same_bytes(
    call_train, succeeds, call_train_and_stop, workplace, joint, monkeypatch
):
    words = ["--dataset=DCASE2023T2", "-d", "--train_only", "--epochs=3", *joint, "--machine_types"]
    succeeds(*words, *TYPES)
    fan, valve = (network_path(workplace, run) for run in RUNS)
    assert fan.read_bytes() == valve.read_bytes()
    labels = {f"{name} 00 spd_{i}": 3 for name in TYPES for i in (1, 2)}
    for name, run in zip(TYPES, RUNS, strict=True):
        record = record_of(workplace, run)
        assert (record["dataset"], record["n_clips"], record["labels"]) == (f"DCASE2023T2{name}", 6, labels)
        assert record["trained_on"]["dataset"] == [f"DCASE2023T2{name}" for name in TYPES]
        assert list(record["scores"]) == ["CLASS-KNN"]
    header, *log = rows(workplace / "logs/baseline" / RUNS[0] / "log.csv")
    assert (header[-1], len(log)) == ("val_accuracy", 3)
    uninterrupted = written(workplace)
    assert len(uninterrupted) == 2 * 4  # network, record, tensors, log

    before = record_of(workplace, RUNS[0])
    valve.unlink()  # one part is lost: fitted and written again, not trained
    again = succeeds(*words, *TYPES, "--restart")
    assert ("3 of 3 epochs are done" in again, "epoch " in again) == (True, False)
    assert written(workplace) == uninterrupted
    assert record_of(workplace, RUNS[0]) == before  # with its calibration, if it has one
    assert "is complete; nothing is left to do" in succeeds(*words, *reversed(TYPES), "--restart")

    for name in ("models", "logs"):
        shutil.rmtree(workplace / name)
    assert call_train_and_stop(*words, *TYPES).status == 143
    with monkeypatch.context() as patched:
        write_files = train.write_files
        patched.setattr(train, "write_files", lambda *a: write_files(*a) if a[2].run.name == RUNS[0] else 1 / 0)
        assert call_train(*words, *TYPES, "--restart").status == 1  # after the first part
        assert [path.is_file() for path in (fan, valve)] == [True, False]
    assert "3 of 3 epochs are done" in succeeds(*words, *TYPES, "--restart")
    assert written(workplace) == uninterrupted


def test_jobs_of_a_joint_network_are_seeds_and_its_parts_are_tested_like_other_runs(
    run_jobs, call_command, summarize, workplace, joint
):
    seeds = ["--seeds", 1, 2]
    training = ["01_train.sh", "train", "-d", *TYPES, "--epochs=3", *joint]
    testing = ["tools/02_test.sh", "test", "-d", *TYPES, *joint, "--score=CLASS-KNN"]
    assert run_jobs(*training, *seeds) == 2
    assert run_jobs(*testing, *seeds) == 2 * len(TYPES)
    scores = list(workplace.glob("results/dev_data/baseline_CLASSIFIER_CLASS-KNN/anomaly_score*seed[12]_*.csv"))
    assert [len(rows(path)) for path in scores] == [12] * 2 * len(TYPES)

    summary = [f"--extension={CLASSIFIER}", *seeds]
    assert "mixture" not in succeed(summarize(*summary))
    training.remove("valve")
    assert run_jobs(*training, "--seed=1") == 1  # fan again, alone
    assert run_jobs(*testing, "--seed=1") == len(TYPES)
    mixture = "baseline_CLASSIFIER_CLASS-KNN is a mixture: the joint network differs for "
    assert mixture in succeed(summarize(*summary))

    refused = call_command(lambda: jobs.main(["02a_test.sh", "MSE", "-d", *TYPES, *joint, "--dry_run"]))
    assert "MSE does not apply to the network CLASSIFIER; " in error_of(refused)
    assert refused.out == ""


def test_a_joint_network_is_not_trained_for_one_machine_type(fails, joint):
    words = ["--dataset=DCASE2023T2", "-d", "--train_only", *joint, "--machine_types", *TYPES]
    for change, sentence in (
        ("--dataset=DCASE2023T2fan", "CLASSIFIER is one network for all machine types: run 01_train.sh, or"),
        ("--model=DCASE2023T2-AE", "--machine_types, but DCASE2023T2-AE is trained for one machine type"),
        ("--machine_types=pump", "DCASE2023T2 has no development machine type 'pump'"),
    ):
        assert sentence in fails(*words, change)


LABELS = """
from common import NETWORKS, PATH, Parameter
from networks.autoencoder import AutoEncoder
from networks.network import Losses

@NETWORKS.register
class Labelled(AutoEncoder):
    name = "LABELLED"
    options = (Parameter("label_file", PATH, "label of all clips"),)

    @staticmethod
    def label(clip, settings):
        return eval(settings.label_file.read_text())

    def __init__(self, settings, n_bins, labels):
        super().__init__(settings, n_bins, KEPT)

    def losses(self, vectors, labels):
        assert labels.shape == (len(vectors),)
        return super().losses(vectors)

    def after_epoch(self, number, losses, folder):
        (folder / "own.log").write_text(f"{number} {losses.loss}")
        return RETURNED
"""


@pytest.fixture
def labelled(workplace, options):
    """Return a function that writes LABELS, given a label and columns, and returns the options of its training."""

    def write(label="'a'", returned="{'column': losses.loss}", kept="labels"):
        extension, text = workplace / "labelled.py", workplace / "label.txt"
        text.write_text(label)
        extension.write_text(LABELS.replace("RETURNED", returned).replace("KEPT", kept))
        return [*options, f"--extension={extension}", "--model=LABELLED", f"--label_file={text}"]

    return write


def test_an_autoencoder_with_labels_has_the_scores_of_reconstruction_and_other_labels_are_other_clips(
    succeeds, fails, labelled, workplace
):
    out = succeeds(*labelled())
    assert ", column " in out and "\n1 label: a (6)\n" in out
    name = "LABELLED_DCASE2023T2fan_seed13711"
    assert set(record_of(workplace, name)["scores"]) == {"MAHALA", "MSE"}
    assert (workplace / f"logs/baseline/{name}/own.log").read_text().startswith("2 ")
    same = "'b' if int(clip.path.name[31:35]) in {} else 'a'"  # as many clips of each label
    succeeds(*labelled(same.format("(0, 1)")))
    for label in (same.format("(0, 2)"), "clip.domain"):
        refused = fails(*labelled(label), "--restart", "--epochs=3")
        assert "or have other labels; train without --restart" in refused
    words = labelled("__import__('numpy').str_('c')")
    succeeds(*words)
    succeeds(*words, "--restart")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"label": "3"}, "labelled.py: LABELLED.label returned 3; return a "),
        ({"kept": "{}"}, "LABELLED.labels is {}; call super().__init__(settings, n_bins, labels)"),
        ({"returned": "{f'column{number}': 1}"}, "LABELLED.after_epoch returned {'column2': "),
        ({"returned": "{'column': float('nan')}"}, "return finite numbers under the same names in each epoch"),
    ],
)
def test_what_a_network_returns_for_labels_and_columns_is_checked(fails, labelled, change, sentence):
    assert sentence in fails(*labelled(**change))


FURTHER = """
from common import NETWORKS
from datasets.clips import clip_paths, parse_clip
from networks.autoencoder import AutoEncoder

@NETWORKS.register
class Further(AutoEncoder):
    name = "FURTHER"

    @staticmethod
    def further_clips(folders, settings):
        (fan,) = folders
        return [parse_clip(path) for path in clip_paths(fan.raw.with_name("valve") / "SPLIT")]
"""


def test_further_clips_are_trained_on_but_no_score_is_fitted_to_them(succeeds, fails, machines, options, workplace):
    path, valve = workplace / "further.py", machines[1]
    path.write_text(FURTHER.replace("SPLIT", "train"))
    words = [*options, f"--extension={path}", "--model=FURTHER", "--train_only"]
    succeeds(*options, "--train_only")
    succeeds(*words)
    alone, record = (record_of(workplace, name) for name in (RUN, "FURTHER_DCASE2023T2fan_seed13711"))
    assert record["network_sha256"] != alone["network_sha256"]
    assert (record["n_clips"], record["clips_manifest"]) == (alone["n_clips"], alone["clips_manifest"])
    n_values = {each["scores"]["MSE"]["fitted_to"].split()[1] for each in (alone, record)}
    assert len(n_values) == 1  # batches of this machine's clips
    min((valve / "train").iterdir()).unlink()
    refused = fails(*words, "--restart", "--epochs=3")
    assert "the training clips are not those of" in refused

    path.write_text(FURTHER.replace("SPLIT", "test"))
    assert "labelled anomaly" in fails(*words)
    shutil.rmtree(valve)
    path.write_text(FURTHER.replace("SPLIT", "train"))
    write_machine(valve, rate=8000)
    refused = f"the clips of {valve / 'train'} have a sampling rate in Hz of 8000, but those of "
    assert refused in fails(*words)
