"""Edits of the code that decides numbers: what is edited trains, and no result passes for that of other code."""

import sys

import common
from common import load_extensions

import pytest
from synthetic import RUN, copy_repository, make_network, record_of, rows, run, succeed

from networks.fast_step import FastStep
from networks.steps import make_step
from networks.training import PlainStep
from runtime import sources

GELU = ("networks.autoencoder", "nn.ReLU()", "nn.GELU()")


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


DURING_TRAINING = """
import subprocess
from pathlib import Path
import train
train_epoch = train.train_epoch
def own():
    return {name for name in sys.modules if name.partition(".")[0] in ("common", "datasets", "networks", "tools")}
def with_a_commit_during_training(*arguments):
    global before
    before = own()
    Path("networks/threshold.py").write_text("raise SyntaxError\\n")
    subprocess.run("git -c user.name=a -c user.email=a@b commit -qam second", shell=True, check=True)
    return train_epoch(*arguments)
train.train_epoch = with_a_commit_during_training
status = train.main()
print("imported late:", sorted(own() - before))
sys.exit(status)
"""


def test_an_edit_of_the_network_is_trained_and_a_commit_during_the_run_is_not(tmp_path, workplace, options, succeeds):
    succeeds(*options, "--train_only", "--epochs=1")
    repository, log = copy_repository(tmp_path / "repository"), workplace / "logs/baseline" / RUN / "log.csv"
    commit = "git init -q; git add .; git -c user.name=a -c user.email=a@b commit -qm first; git rev-parse HEAD"
    before, first = rows(log), run("sh", "-c", commit, cwd=repository).stdout.strip()
    edited = repository / "networks/autoencoder.py"
    edited.write_text(edited.read_text().replace(*GELU[1:]))
    code = f"import sys; sys.path.insert(0, {str(repository)!r})\n{DURING_TRAINING}"
    outcome = run(sys.executable, "-c", code, *options, "--epochs=1", cwd=repository)
    assert outcome.returncode == 0, outcome.stderr
    assert "the plain training step is used, as networks/autoencoder.py is not the code" in outcome.stdout
    assert "imported late: []" in outcome.stdout
    assert rows(log)[1] != before[1]
    assert record_of(workplace)["commit"] == f"{first}-dirty"


@pytest.mark.parametrize(
    "change",
    [
        GELU,
        ("networks.network", "functional.mse_loss", "functional.l1_loss"),
        ("networks.training", "self.optimizer.step()", "self.optimizer.step(lambda: None)"),
        ("networks.autoencoder", "import Network", "import Losses, Network"),
    ],
)
def test_the_fast_step_trains_only_the_code_that_it_stands_for(edit, change):
    edit(*change)
    assert type(make_step(make_network(8, frames=2))) is PlainStep


def test_comments_and_layout_are_no_other_code(edit, succeeds, trained):
    edit("networks.autoencoder", "[HIDDEN] * N_HIDDEN", "(  # wider\n[HIDDEN]*N_HIDDEN)")
    assert type(make_step(make_network(8, frames=2))) is FastStep
    words = [*trained, "--epochs=3"]
    assert "2 of 3 epochs are done" in succeeds(*words, "--train_only", "--restart")
    assert "before" not in succeeds(*words, "--test_only")


@pytest.mark.parametrize(
    "change",
    [
        GELU,
        ("networks.checkpoint", "load_weights(network, ", "load_weights(network.half(), "),
        ("train", "step = make_step(network)", "step = make_step(network.double())"),
    ],
)
def test_an_edit_before_resuming_is_refused(edit, fails, trained, change):
    edit(*change)
    file = f"{change[0].replace('.', '/')}.py"
    refused = fails(*trained, "--train_only", "--restart", "--epochs=3")
    assert f"checkpoint.tar was trained before {file} changed" in refused


def test_an_edit_between_training_and_testing_is_reported_by_the_test_and_with_the_tables(
    edit, succeeds, summarize, workplace, options
):
    words = [*options, "-tag", "id(0_)", "--use_ids=0"]
    succeeds(*words)
    edit(*GELU)
    commit = record_of(workplace)["commit"]
    since = f"networks/autoencoder.py changed{f' (it was commit {commit[:10]}' if commit else ''}"
    name = RUN.replace("_seed", "_id(0_)_seed")
    assert f"warning: {name}.pth was trained before {since}" in succeeds(*words, "--test_only")
    note = "it was tested by other code of networks/autoencoder.py than trained; test again"
    assert f"baseline_MSE, fan section 00: {note}" in succeed(summarize())


def test_an_edit_of_a_score_between_training_and_testing_is_reported(edit, succeeds, trained):
    edit("networks.mahalanobis", "errors.double().mean(dim=0)", "errors.double().median(dim=0).values")
    warning = f"warning: MAHALA was fitted to {RUN}.pth before networks/mahalanobis.py changed"
    assert warning in succeeds(*trained, "--test_only", "--score=MAHALA")
    assert "before" not in succeeds(*trained, "--test_only")


def test_an_edited_front_end_never_meets_features_of_the_former_one(edit, succeeds, workplace, trained):
    def features():
        return {path.name: path.stat().st_mtime_ns for path in workplace.glob("data/*/*/processed/fan/*.npy")}

    before = features()
    edit("datasets.front_ends", "20 / s.power", "10 / s.power")
    out = succeeds(*trained)
    assert out.count("is outdated or damaged; the features of fan are computed again") == len(before) == 2
    after = features()
    assert before.keys() == after.keys()  # replaced, not kept beside
    assert not before.items() & after.items()


EXTENSION = """
import helper, package
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

@SCORES.register
class Used(Score):
    name, unit, description = "USED", "dB", "used"
    def of_clip(self, clip): return 1.0

def twice(clip): return 2 * Used().of_clip(clip)

@SCORES.register
class Lazy(Score):
    name, unit, description = "LAZY", "dB", "lazy"
    def of_clip(self, clip):
        import lazy_helper
        return lazy_helper.FACTOR * twice(clip)
"""


def test_a_class_of_an_extension_has_the_hash_of_what_it_uses_and_of_all_files_beside_it_that_are_imported(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "package").mkdir()
    for name, text in {
        "helper.py": "FACTOR = 1.0\n",
        "lazy_helper.py": "FACTOR = 1.0\n",
        "package/__init__.py": "def later():\n    from . import inner\n",
        "package/inner.py": "from . import later\n",
    }.items():
        (tmp_path / name).write_text(text)

    def hashes(text):
        (tmp_path / "own.py").write_text(text)
        load_extensions([tmp_path / "own.py"])
        registered = {**common.NETWORKS.registered, **common.SCORES.registered}
        return {name: common.code_hashes(cls) for name, cls in registered.items()}

    def changes(text):
        after = hashes(text)
        return {name: sources.changed_files(before[name], after[name]) for name in before}

    before = hashes(EXTENSION)
    imported = [f"networks/{name}.py" for name in ("autoencoder", "network", "scores", "threshold")]
    assert list(before["OWN"]) == ["helper.py", *imported, "own.py", "package.py", "package/inner.py"]
    assert {"helper.py", "lazy_helper.py", "own.py", "package.py", "package/inner.py"} <= before["LAZY"].keys()
    assert changes(EXTENSION.replace("mean()", "std()")) == {"OWN": [], "MEAN": ["own.py"], "LAZY": [], "USED": []}
    assert {*map(tuple, changes(EXTENSION.replace("1.0", "3.0")).values())} == {("own.py",)}
    monkeypatch.setitem(sources._code, "helper", b"FACTOR = 2.0\n")
    sources._hash.cache_clear()
    assert {*map(tuple, changes(EXTENSION).values())} == {("helper.py",)}
    load_extensions([])
