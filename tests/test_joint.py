"""Labels, further clips, joint networks: trained once on all machine types, then written as ordinary runs."""

import json
import shlex
import shutil

import pytest
from synthetic import REPOSITORY, directories, machine_folder, network_path, rows, succeed, write_machine, written

import train
from tools import jobs
from tools.results import __main__ as summarize_results

CLASSIFIER = REPOSITORY / "examples/attribute_classifier.py"
TYPES = ("fan", "valve")
RUNS = [f"CLASSIFIER_DCASE2023T2{name}_id(0_)_seed13711" for name in TYPES]
VECTORS = ["--frames", "8", "--batch_size", "16"]


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
def words(machines, workplace, no_pictures):
    """Return the options of a joint training of two machine types."""
    options = ["--extension", CLASSIFIER, "--model", "CLASSIFIER", *VECTORS, *directories(workplace)]
    return ["--dataset", "DCASE2023T2", "-d", "--machine_types", *TYPES, "--train_only", "--epochs", 3, *options]


def networks(root):
    """Return the networks of both machine types."""
    return [network_path(root, run) for run in RUNS]


def record_of(path):
    """Return the content of a network's record."""
    return json.loads(path.with_suffix(".json").read_text())


def test_a_joint_network_is_written_for_each_machine_type_and_resumes_to_the_same_bytes(
    call_train, call_train_and_stop, workplace, words, monkeypatch
):
    succeed(call_train(*words))
    fan, valve = networks(workplace)
    assert fan.read_bytes() == valve.read_bytes()
    records = [record_of(path) for path in (fan, valve)]
    labels = {f"{name} 00 spd_{i}": 3 for name in TYPES for i in (1, 2)}
    for name, record in zip(TYPES, records, strict=True):
        assert (record["dataset"], record["n_clips"], record["labels"]) == (f"DCASE2023T2{name}", 6, labels)
        assert record["trained_on"]["dataset"] == [f"DCASE2023T2{name}" for name in TYPES]
        assert list(record["scores"]) == ["CLASS-KNN"]
    log = rows(next(workplace.glob(f"logs/baseline/{RUNS[0]}/log.csv")))
    assert (log[0][-1], len(log)) == ("val_accuracy", 4)
    uninterrupted = written(workplace)
    assert len(uninterrupted) == 2 * 4  # network, record, tensors, log

    before = fan.with_suffix(".json").read_bytes()
    valve.unlink()  # one part is lost: fitted and written again, not trained
    again = succeed(call_train(*words, "--restart"))
    assert ("3 of 3 epochs are done" in again, "epoch " in again) == (True, False)
    assert written(workplace) == uninterrupted
    assert fan.with_suffix(".json").read_bytes() == before  # with its calibration, if it has one
    assert "is complete; nothing is left to do" in call_train(*words[:4], *TYPES[::-1], *words[6:], "--restart").out

    for name in ("models", "logs"):
        shutil.rmtree(workplace / name)
    assert call_train_and_stop(*words).status == 143
    with monkeypatch.context() as patched:
        write_files = train.write_files
        patched.setattr(train, "write_files", lambda *a: write_files(*a) if a[2].run.name == RUNS[0] else 1 / 0)
        assert call_train(*words, "--restart").status == 1  # after the first part
        assert [path.is_file() for path in (fan, valve)] == [True, False]
    assert "3 of 3 epochs are done" in succeed(call_train(*words, "--restart"))
    assert written(workplace) == uninterrupted


def test_jobs_of_a_joint_network_are_seeds_and_its_parts_are_tested_like_other_runs(
    run_jobs, call_command, call_train, words, workplace
):
    script = ["-d", *TYPES, *words[words.index("--epochs") :], "--seeds", "1", "2"]
    assert run_jobs("01_train.sh", "train", *script) == 2
    testing = [word for word in script if word not in ("--epochs", 3)]
    assert run_jobs("tools/02_test.sh", "test", *testing, "--score", "CLASS-KNN") == 2 * len(TYPES)
    scores = sorted(workplace.glob("results/dev_data/baseline_CLASSIFIER_CLASS-KNN/anomaly_score*seed[12]_*.csv"))
    assert len(scores) == 2 * len(TYPES)
    assert all(len(rows(path)) == 12 for path in scores)

    summary = ["DCASE2023T2", "-d", "--extension", CLASSIFIER, "--seeds", "1", "2", *directories(workplace)]
    assert "mixture" not in succeed(call_command(summarize_results.main, *summary))
    assert run_jobs("01_train.sh", "train", *script[:1], "fan", *script[1 + len(TYPES) : -1]) == 1  # again, alone
    assert run_jobs("tools/02_test.sh", "test", *testing[:-1], "--score", "CLASS-KNN") == len(TYPES)
    mixture = "baseline_CLASSIFIER_CLASS-KNN is a mixture: the joint network differs for "
    assert mixture in succeed(call_command(summarize_results.main, *summary))

    refused = call_command(lambda: jobs.main(["02a_test.sh", "MSE", *map(str, testing), "--dry_run"]))
    assert (refused.status, refused.out) == (1, "")
    assert (
        "the score MSE does not apply to the network CLASSIFIER; give --score with one that does: CLASS-KNN"
        in refused.err
    )
    (command, _) = call_command(
        lambda: jobs.main(["01_train.sh", "train", *map(str, script), "--dry_run"])
    ).out.splitlines()
    assert shlex.split(command)[2:7] == ["--dataset", "DCASE2023T2", "-d", "--machine_types", "fan"]


def test_a_joint_network_is_not_trained_for_one_machine_type(call_train, words):
    for change, sentence in (
        (["--dataset", "DCASE2023T2fan"], "CLASSIFIER is one network for all machine types: run 01_train.sh, or"),
        (["--model", "DCASE2023T2-AE"], "--machine_types, but DCASE2023T2-AE is trained for one machine type"),
        (["--machine_types", "pump"], "DCASE2023T2 has no development machine type 'pump'"),
    ):
        outcome = call_train(*words, *change)
        assert (outcome.status, sentence in outcome.err) == (1, True), outcome.err


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
        (workplace / "label.txt").write_text(label)
        path = workplace / "labelled.py"
        path.write_text(LABELS.replace("RETURNED", returned).replace("KEPT", kept))
        return [*options, "--extension", path, "--model", "LABELLED", "--label_file", workplace / "label.txt"]

    return write


def test_an_autoencoder_with_labels_has_the_scores_of_reconstruction_and_other_labels_are_other_clips(
    call_train, labelled, workplace
):
    out = succeed(call_train(*labelled()))
    assert ", column " in out and "\n1 label: a (6)\n" in out
    name = "LABELLED_DCASE2023T2fan_seed13711"
    assert set(record_of(network_path(workplace, name))["scores"]) == {"MAHALA", "MSE"}
    assert (workplace / f"logs/baseline/{name}/own.log").read_text().startswith("2 ")
    same = "'b' if int(clip.path.name[31:35]) in {} else 'a'"  # as many clips of each label
    assert succeed(call_train(*labelled(same.format("(0, 1)"))))
    for label in (same.format("(0, 2)"), "clip.domain"):
        outcome = call_train(*labelled(label), "--restart", "--epochs", "3")
        assert (outcome.status, "or have other labels; train without --restart" in outcome.err) == (1, True), (
            outcome.err
        )
    outcome = call_train(*labelled("__import__('numpy').str_('c')"))
    assert call_train(*labelled("__import__('numpy').str_('c')"), "--restart").status == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"label": "3"}, "labelled.py: LABELLED.label returned 3; return a string for "),
        ({"kept": "{}"}, "LABELLED.labels is {}; call super().__init__(settings, n_bins, labels)"),
        ({"returned": "{f'column{number}': 1}"}, "LABELLED.after_epoch returned {'column2': "),
        ({"returned": "{'column': float('nan')}"}, "return finite numbers under the same names in each epoch"),
    ],
)
def test_what_a_network_returns_for_labels_and_columns_is_checked(call_train, labelled, change, sentence):
    outcome = call_train(*labelled(**change))
    assert (outcome.status, sentence in outcome.err) == (1, True), outcome.err


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


def test_further_clips_are_trained_on_but_no_score_is_fitted_to_them(call_train, machines, options, workplace):
    path, valve = workplace / "further.py", machines[1]
    path.write_text(FURTHER.replace("SPLIT", "train"))
    words = [*options, "--extension", path, "--model", "FURTHER", "--train_only"]
    succeed(call_train(*options, "--train_only"))
    succeed(call_train(*words))
    alone, record = (
        record_of(network_path(workplace, f"{name}_DCASE2023T2fan_seed13711")) for name in ("DCASE2023T2-AE", "FURTHER")
    )
    assert record["network_sha256"] != alone["network_sha256"]
    assert (record["n_clips"], record["clips_manifest"]) == (alone["n_clips"], alone["clips_manifest"])
    n_values = [each["scores"]["MSE"]["fitted_to"].split()[1] for each in (alone, record)]
    assert n_values[0] == n_values[1]  # batches of this machine's clips
    min((valve / "train").iterdir()).unlink()
    outcome = call_train(*words, "--restart", "--epochs", "3")
    assert (outcome.status, "the training clips are not those of" in outcome.err) == (1, True)

    path.write_text(FURTHER.replace("SPLIT", "test"))
    outcome = call_train(*words)
    assert (outcome.status, "labelled anomaly" in outcome.err) == (1, True)
    shutil.rmtree(valve)
    path.write_text(FURTHER.replace("SPLIT", "train"))
    write_machine(valve, rate=8000)
    outcome = call_train(*words)
    assert outcome.status == 1
    assert f"the clips of {valve / 'train'} have a sampling rate in Hz of 8000, but those of " in outcome.err
