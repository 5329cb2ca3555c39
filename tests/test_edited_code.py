"""Edits of the code that decides numbers: what is edited trains, and no result passes for that of other code."""

import json
import subprocess
import sys
from pathlib import Path

import common
from common import load_extensions

import pytest
from synthetic import (
    RUN,
    checkpoint_path,
    copy_repository,
    error_of,
    make_network,
    network_path,
    rows,
    run,
    succeed,
)

from networks.fast_step import FastStep
from networks.steps import make_step
from networks.training import PlainStep
from runtime import sources
from tools.results import __main__ as summary

GELU = ("networks.autoencoder", "nn.ReLU()", "nn.GELU()")
EDITS = {
    "activation": GELU,
    "loss": ("networks.network", "functional.mse_loss", "functional.l1_loss"),
    "step": ("networks.training", "self.optimizer.step()", "self.optimizer.step(lambda: None)"),
    "imported module": ("networks.autoencoder", "import Network", "import Losses, Network"),
}
ONLY_LAYOUT = (
    "networks.autoencoder",
    "    hidden = [HIDDEN] * N_HIDDEN",
    "    # wider\n        hidden = ([HIDDEN]  *  N_HIDDEN)",
)


@pytest.fixture
def edit(monkeypatch):
    """Return a function that edits a module's code as this process has read it."""

    def edited(module: str, old: str, new: str) -> None:
        code = sources._code[module]
        assert old.encode() in code
        monkeypatch.setitem(sources._code, module, code.replace(old.encode(), new.encode()))
        sources._hash.cache_clear()

    yield edited
    sources._hash.cache_clear()


def edit_file(path: Path, old: str, new: str) -> None:
    """Replace a text in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def repository(tmp_path):
    """Return a copy of the repository, under git, to be edited."""
    copy = copy_repository(tmp_path / "repository")
    git(copy, "init", "-q")
    git(copy, "add", ".")
    git(copy, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    return copy


def git(repository, *words):
    """Run git in a repository and return its output."""
    done = subprocess.run(["git", "-C", repository, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


DURING_TRAINING = """
import subprocess
import train
train_epoch = train.train_epoch
def own():
    return {name for name in sys.modules if name.partition(".")[0] in ("common", "datasets", "networks", "tools")}
def with_a_commit_during_training(*arguments):
    global before
    before = own()
    path = REPOSITORY / "networks/threshold.py"
    path.write_text("raise SyntaxError\\n")
    git = ["git", "-C", str(REPOSITORY), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "commit", "-qam", "second"], check=True)
    return train_epoch(*arguments)
train.train_epoch = with_a_commit_during_training
status = train.main()
print("imported late:", sorted(own() - before))
sys.exit(status)
"""


def test_an_edit_of_the_network_is_trained_and_a_commit_during_the_run_is_not(
    repository, workplace, options, call_train
):
    succeed(call_train(*options, "--train_only", "--epochs", "1"))
    log = workplace / "logs/baseline" / RUN / "log.csv"
    before, first = rows(log), git(repository, "rev-parse", "HEAD")
    edit_file(repository / "networks/autoencoder.py", "nn.ReLU()", "nn.GELU()")
    head = f"import sys; sys.path.insert(0, {str(repository)!r})"
    code = f"{head}\nfrom pathlib import Path; REPOSITORY = Path({str(repository)!r})\n{DURING_TRAINING}"
    outcome = run(sys.executable, "-c", code, *options, "--epochs", "1")
    assert outcome.returncode == 0, outcome.stderr
    assert "the plain training step is used, as networks/autoencoder.py is not the code" in outcome.stdout
    assert "imported late: []" in outcome.stdout
    assert rows(log)[1] != before[1]
    record = json.loads(network_path(workplace).with_suffix(".json").read_text())
    assert record["commit"] == f"{first}-dirty"


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_the_fast_step_trains_only_the_code_that_it_stands_for(edit, change):
    edit(*change)
    assert type(make_step(make_network(8, frames=2))) is PlainStep


def test_comments_and_layout_are_no_other_code(edit, call_train, trained):
    edit(*ONLY_LAYOUT)
    assert type(make_step(make_network(8, frames=2))) is FastStep
    assert "2 of 3 epochs are done" in succeed(call_train(*trained, "--train_only", "--restart", "--epochs", "3"))
    outcome = call_train(*trained, "--test_only", "--epochs", "3")
    assert (outcome.status, "before" in outcome.out) == (0, False)


def test_an_edit_between_training_and_testing_is_reported_and_one_before_resuming_is_refused(
    edit, call_train, workplace, trained
):
    commit = json.loads(network_path(workplace).with_suffix(".json").read_text())["commit"]
    edit(*GELU)
    outcome = call_train(*trained, "--test_only")
    since = (
        f"networks/autoencoder.py changed (it was commit {commit[:10]}" if commit else "networks/autoencoder.py changed"
    )
    assert outcome.status == 0
    assert f"warning: {RUN}.pth was trained before {since}" in outcome.out
    assert f"{checkpoint_path(workplace)} was trained before {since}" in error_of(
        call_train(*trained, "--train_only", "--restart", "--epochs", "3")
    )


@pytest.mark.parametrize(
    ("module", "old", "new", "file"),
    [
        (
            "networks.checkpoint",
            "load_weights(network, settings.initial_weights)",
            "load_weights(network.half(), settings.initial_weights)",
            "networks/checkpoint.py",
        ),
        ("train", "step = make_step(network)", "step = make_step(network.double())", "train.py"),
    ],
)
def test_an_edit_of_the_first_weights_or_of_the_loop_is_not_resumed(edit, call_train, trained, module, old, new, file):
    edit(module, old, new)
    assert f"was trained before {file} changed" in error_of(
        call_train(*trained, "--train_only", "--restart", "--epochs", "3")
    )


def test_results_tested_by_other_code_than_trained_are_reported_with_the_tables(
    edit, call_train, call_command, workplace, options
):
    words = ["--dataset", "DCASE2023T2fan", "-tag", "id(0_)", "--use_ids", "0", *options[2:]]
    succeed(call_train(*words))
    edit(*GELU)
    succeed(call_train(*words, "--test_only"))
    outcome = call_command(summary.main, "DCASE2023T2", "-d", "--result_directory", workplace / "results",
                           "--model_directory", workplace / "models")  # fmt: skip
    note = (
        "baseline_MSE, fan section 00: it was tested by other code of networks/autoencoder.py than trained; test again"
    )
    assert note in outcome.out


def test_an_edit_of_a_score_between_training_and_testing_is_reported(edit, call_train, trained):
    edit("networks.mahalanobis", "errors.double().mean(dim=0)", "errors.double().median(dim=0).values")
    outcome = call_train(*trained, "--test_only", "--score", "MAHALA")
    assert f"warning: MAHALA was fitted to {RUN}.pth before networks/mahalanobis.py changed" in outcome.out
    outcome = call_train(*trained, "--test_only")
    assert (outcome.status, "before" in outcome.out) == (0, False)


def test_an_edited_front_end_never_meets_features_of_the_former_one(edit, call_train, workplace, options):
    succeed(call_train(*options))
    processed = workplace / "data/dcase2023t2/dev_data/processed/fan"
    before = {path.name: path.stat().st_mtime_ns for path in processed.glob("*.npy")}
    edit("datasets.front_ends", "20 / s.power", "10 / s.power")
    outcome = call_train(*options)
    assert outcome.out.count("is outdated or damaged; the features of fan are computed again") == 2
    after = {path.name: path.stat().st_mtime_ns for path in processed.glob("*.npy")}
    assert before.keys() == after.keys()  # replaced, not kept beside
    assert all(before[name] != after[name] for name in before)


EXTENSION = """
import helper
from common import NETWORKS, SCORES
from networks.autoencoder import AutoEncoder
from networks.scores import Score

@NETWORKS.register
class Own(AutoEncoder):
    name, description = "OWN", "own"
    def forward(self, vectors): return helper.FACTOR * super().forward(vectors)

@SCORES.register
class Mean(Score):
    name, unit, description = "MEAN", "dB", "mean"
    def of_clip(self, clip): return clip.vectors.mean()
"""


def test_an_extensions_hash_covers_its_helpers_and_no_other_registered_class(
    tmp_path, monkeypatch, call_train, options
):
    monkeypatch.syspath_prepend(tmp_path)
    extension, helper = tmp_path / "own.py", tmp_path / "helper.py"
    extension.write_text(EXTENSION)
    helper.write_text("FACTOR = 1.0\n")
    load_extensions([extension])
    network, score = (registry.registered for registry in (common.NETWORKS, common.SCORES))
    hashes = common.code_hashes(network["OWN"])
    imported = [f"networks/{name}.py" for name in ("autoencoder", "network", "scores", "threshold")]
    assert list(hashes) == ["helper.py", *imported, "own.py"]
    of_score = common.code_hashes(score["MEAN"])
    assert of_score["own.py"] != hashes["own.py"]
    extension.write_text(EXTENSION.replace("clip.vectors.mean()", "clip.vectors.std()"))
    load_extensions([extension])
    assert common.code_hashes(network["OWN"]) == hashes
    assert common.code_hashes(score["MEAN"])["own.py"] != of_score["own.py"]
    monkeypatch.setitem(sources._code, "helper", b"FACTOR = 2.0\n")
    sources._hash.cache_clear()
    assert sources.changed_files(hashes, common.code_hashes(network["OWN"])) == ["helper.py"]
    load_extensions([])


OTHERS = """
import pa, pb
from common import SCORES
from networks.scores import Score

@SCORES.register
class Used(Score):
    name, unit, description = "USED", "dB", "used"
    def of_clip(self, clip): return 1.0

def twice(): return 2 * Used().of_clip(None)

@SCORES.register
class Lazy(Score):
    name, unit, description = "LAZY", "dB", "lazy"
    def of_clip(self, clip):
        import lazy_helper
        return lazy_helper.FACTOR * twice() * pa.FACTOR * pb.FACTOR
"""


def test_every_file_that_an_extension_imports_counts_and_what_its_class_uses(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    extension = tmp_path / "own.py"
    extension.write_text(OTHERS)
    for name in ("pa/__init__.py", "pb/__init__.py", "lazy_helper.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("FACTOR = 1.0\n")
    load_extensions([extension])
    hashes = common.code_hashes(common.SCORES.registered["LAZY"])
    assert {"lazy_helper.py", "pa.py", "pb.py"} <= hashes.keys()
    extension.write_text(OTHERS.replace("return 1.0", "return 3.0"))
    load_extensions([extension])
    assert sources.changed_files(hashes, common.code_hashes(common.SCORES.registered["LAZY"])) == ["own.py"]
    load_extensions([])
    for name in ("pa", "pb", "lazy_helper"):
        sources._code.pop(name)
