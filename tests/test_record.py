"""The record as the network's passport: parameters come from it, and files that do not belong together are refused."""

import contextlib
import json
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
import torch
from synthetic import (
    REPOSITORY,
    RUN,
    checkpoint_path,
    machine_folder,
    network_path,
    run,
    small_run,
    write_clip,
    write_machine,
)

import common
from common import BY_NAME, SCORES

FEATURES = {  # another value for each parameter of features and vectors than that of baseline.yaml
    "channel": 1,
    "n_mels": 64,
    "frames": 4,
    "frame_hop_length": 2,
    "n_fft": 512,
    "hop_length": 256,
    "power": 1.0,
    "fmin": 50.0,
    "fmax": 7000.0,
    "win_length": 800,
}
TRAINING = {
    "batch_size": 32,
    "epochs": 3,
    "learning_rate": 0.01,
    "precision": "bf16",
    "cuda_step": "graph",
    "shuffle": False,
    "validation_split": 0.2,
}
NOT_LISTED = {"front_end", "model", "seed", "threads", "instruction_set"}  # tested elsewhere; the last two may differ
OWN_SCORE = """
import torch
from common import SCORES
from networks.scores import Score

@SCORES.register
class Mean(Score):
    name, unit, description = "MEAN", "dB", "distance of a clip's mean vector to the training clips'"

    def fit(self, data):
        self.mean = torch.stack([clip.vectors.mean(dim=0) for clip in data.clips]).mean(dim=0)
        return [self.of_clip(clip) for clip in data.clips]

    def of_clip(self, clip):
        return float((clip.vectors.mean(dim=0) - self.mean).norm())

    def state(self):
        return {"mean": self.mean}

    def load(self, state):
        self.mean = state["mean"]
"""


@pytest.fixture
def no_pictures(monkeypatch):
    """Draw no pictures: these tests run many commands."""
    monkeypatch.setattr("tools.results.plots.draw_losses", lambda *_, **__: None)
    monkeypatch.setattr("tools.results.plots.draw_scores", lambda *_, **__: None)
    monkeypatch.setattr("tools.results.plots.to_png", lambda _: b"picture")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a folder with clips, their features and a run that has been trained."""
    root = tmp_path_factory.mktemp("finished")
    write_machine(machine_folder(root / "data"))
    assert run(sys.executable, REPOSITORY / "train.py", *small_run(root)).returncode == 0
    shutil.rmtree(root / "results")
    return root


@pytest.fixture
def workplace(finished, tmp_path):
    """Return a folder with nothing but clips and their features."""
    shutil.copytree(finished / "data", tmp_path / "data")
    return tmp_path


@pytest.fixture
def trained(finished, workplace, options, no_pictures):
    """Return the options of a run that has been trained in the workplace."""
    for name in ("models", "logs"):
        shutil.copytree(finished / name, workplace / name)
    return options


@pytest.fixture
def figures(call_train, workplace):
    """Test by MSE and MAHALA, and return the bytes of scores and decisions; None for a score that was refused."""

    def test(words):
        shutil.rmtree(workplace / "results", ignore_errors=True)
        found = {}
        for score in ("MSE", "MAHALA"):
            outcome = call_train(*words, "--test_only", "--score", score)
            if outcome.status:
                assert outcome.status == 1
                assert len(outcome.err.strip().splitlines()) == 1
            folder = workplace / f"results/dev_data/baseline_{score}"
            found[score] = {p.name: p.read_bytes() for p in folder.glob("[ad]*.csv")} if outcome.status == 0 else None
        return found

    return test


def files_of_a_run(root: Path) -> dict[str, bytes]:
    """Return the bytes of network, thresholds and log."""
    paths = [*network_path(root).parent.glob("*seed13711*.pth"), *network_path(root).parent.glob("score_*")]
    return {path.name: path.read_bytes() for path in [*paths, root / "logs/baseline" / RUN / "log.csv"]}


def flip(path: Path, position: int, bit: int = 1) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


# --- parameters -------------------------------------------------------------------------------------------------------


def test_every_parameter_that_decides_numbers_is_tested_here():
    decide = {parameter.name for parameter in BY_NAME.values() if parameter.affects in ("features", "training")}
    assert decide - NOT_LISTED == {*FEATURES, *TRAINING}


@pytest.mark.parametrize(("name", "value"), [*FEATURES.items(), *TRAINING.items()])
def test_a_parameter_given_otherwise_than_in_training_is_an_error_that_names_both_values(
    call_train, workplace, trained, name, value
):
    known = json.loads(network_path(workplace).with_suffix(".json").read_text())[name]
    assert known != value
    outcome = call_train(*trained, "--test_only", f"--{name}", common.as_text(value))
    assert outcome.status == 1
    sentence = f"--{name} {common.as_text(value)}, but {RUN} was trained with {common.as_text(known)}; leave the option"
    assert sentence in outcome.err
    assert not (workplace / "results").exists()


@pytest.mark.parametrize(("name", "value"), FEATURES.items())
def test_a_parameter_changed_in_baseline_yaml_is_reported_and_that_of_training_is_used(
    call_train, figures, workplace, trained, monkeypatch, name, value
):
    before = figures(trained)
    assert None not in before.values()
    defaults = common.read_defaults
    known = defaults()[name]
    monkeypatch.setattr(common, "read_defaults", lambda *_: {**defaults(), name: value})
    assert figures(trained) == before
    outcome = call_train(*trained, "--test_only")
    text = f"{name} {common.as_text(known)} (baseline.yaml: {common.as_text(value)})"
    assert f"parameters of the network's record: {text}\n" in outcome.out


def test_parameters_equal_to_the_records_may_be_given(call_train, trained):
    words = [word for name in FEATURES for word in (f"--{name}", common.as_text(common.read_defaults()[name]))]
    assert call_train(*trained, "--test_only", *words).status == 0


def test_without_a_record_the_given_parameters_count(call_train, workplace, options, no_pictures):
    """As of a network of the reference."""
    assert call_train(*options, "--hop_length", 256).status == 0
    scores = next((workplace / "results").rglob("anomaly_score*"))
    before = scores.read_bytes()
    network_path(workplace).with_suffix(".json").unlink()
    outcome = call_train(*options, "--test_only", "--hop_length", 256)
    assert f"{RUN}.pth has no record beside it" in outcome.out
    assert scores.read_bytes() == before
    assert call_train(*options, "--test_only").status == 0
    assert scores.read_bytes() != before


def test_a_record_of_an_earlier_version_is_used(call_train, workplace, trained):
    record = network_path(workplace).with_suffix(".json")
    later = ("format", "front_end", "network_sha256", "scores", "data", "checksum", "clip_channels", "sampling_rate")
    content = {name: value for name, value in json.loads(record.read_text()).items() if name not in later}
    record.write_text(json.dumps(content))
    assert call_train(*trained, "--test_only").status == 0
    outcome = call_train(*trained, "--test_only", "--hop_length", 256)
    assert "--hop_length 256, but" in outcome.err


@pytest.mark.parametrize("change", [("--hop_length", 256), ("--batch_size", 8)])
def test_a_record_says_what_the_network_was_trained_with(call_train, workplace, options, no_pictures, change):
    assert call_train(*options, "--train_only", *change).status == 0
    content = json.loads(network_path(workplace).with_suffix(".json").read_text())
    decide = {parameter.name for parameter in BY_NAME.values() if parameter.affects in ("features", "training")}
    assert decide <= set(content)
    assert content[change[0].removeprefix("--")] == change[1]
    assert {"network_sha256", "data", "versions", "instructions", "scores", "extensions"} <= set(content)
    assert set(content["scores"]) == set(SCORES.builtin)


def test_test_clips_of_another_rate_than_the_training_clips_are_refused(call_train, workplace, trained):
    for path in (machine_folder(workplace / "data") / "test").iterdir():
        write_clip(path, 1, rate=8000)
    outcome = call_train(*trained, "--test_only")
    assert outcome.status == 1
    assert "a sampling rate of 8000 Hz, but the network was trained at 16000 Hz" in outcome.err


# --- files that do not belong together --------------------------------------------------------------------------------


def test_a_flipped_bit_is_refused_in_every_file_of_a_run(call_train, workplace, options, no_pictures, tmp_path):
    (tmp_path / "own.py").write_text(OWN_SCORE)
    words = [*options, "--extension", tmp_path / "own.py"]
    assert call_train(*words, "--train_only").status == 0
    folder = network_path(workplace).parent
    names = {path.name for path in folder.iterdir()}
    distributions = {f"score_distr_{RUN}_{score}.json" for score in ("mse", "mahala", "mean")}
    assert names == {f"{RUN}.pth", f"{RUN}.json", f"score_state_{RUN}_mean.pth", *distributions}
    for name in sorted(names):
        path = folder / name
        whole = path.read_bytes()
        score = name.removesuffix(path.suffix).rpartition("_")[2].upper() if name.startswith("score") else "MSE"
        for share in (0.1, 0.4, 0.7, 0.95):
            flip(path, int(share * len(whole)))
            outcome = call_train(*words, "--test_only", "--score", score)
            assert (outcome.status, name in outcome.err) == (1, True), f"{name}: {outcome.out} {outcome.err}"
            assert len(outcome.err.strip().splitlines()) == 1
            path.write_bytes(whole)
        assert call_train(*words, "--test_only", "--score", score).status == 0


@pytest.mark.parametrize(
    "damage", [lambda c: b"", lambda c: c[:-1], lambda c: c[:50] + bytes([c[50] ^ 4]) + c[51:], None]
)
def test_restart_of_a_complete_run_repairs_its_files(call_train, figures, workplace, trained, damage):
    before, scores = files_of_a_run(workplace), figures(trained)
    paths = [network_path(workplace).parent / name for name in before if name != "log.csv"]
    assert len(paths) == 3
    for path in paths:
        path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
        outcome = call_train(*trained, "--train_only", "--restart")
        assert outcome.status == 0, outcome.err
        assert "nothing is left to do" not in outcome.out
        assert files_of_a_run(workplace) == before
        assert "nothing is left to do" in call_train(*trained, "--train_only", "--restart").out
    log = workplace / "logs/baseline" / RUN / "log.csv"
    for restore in (lambda: log.write_bytes(b""), log.unlink):
        restore()
        assert call_train(*trained, "--train_only", "--restart").status == 0
        assert files_of_a_run(workplace) == before
    assert figures(trained) == scores


def test_a_damaged_record_is_refused_and_written_again_by_training(call_train, workplace, trained):
    record = network_path(workplace).with_suffix(".json")
    for content in ("", "{", "[]", "[" * 100_000, '{"format": 2}', '{"format": 2, "scores": []}', "1" * 5000):
        record.write_text(content)
        outcome = call_train(*trained, "--test_only")
        assert outcome.status == 1
        assert f"{record} is not a record of a training run" in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1
    record.unlink()
    assert call_train(*trained, "--train_only", "--restart").status == 0
    assert call_train(*trained, "--test_only").status == 0


@pytest.fixture
def stop_at_rename(monkeypatch):
    """Return a function that makes the process end at its k-th rename, as kill -9 does; None: at none."""
    replace = Path.replace
    left = [None]

    def counted(path, target):
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                raise SystemExit(137)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", counted)
    return lambda k: left.__setitem__(0, k)


def test_a_kill_at_any_rename_never_leaves_a_mixture_that_is_used(
    call_train, figures, workplace, trained, stop_at_rename, tmp_path_factory
):
    """Training again over an earlier run's files, with another learning rate."""
    keep = tmp_path_factory.mktemp("keep")
    new = [*trained, "--learning_rate", "0.01"]

    def restore(which):
        for name in ("models", "logs"):
            shutil.rmtree(workplace / name)
            shutil.copytree(keep / which / name, workplace / name)

    def save(which):
        for name in ("models", "logs"):
            shutil.copytree(workplace / name, keep / which / name)

    old_figures = figures(trained)
    save("old")
    assert call_train(*new, "--train_only").status == 0
    new_figures, new_files = figures(new), files_of_a_run(workplace)
    assert None not in (*old_figures.values(), *new_figures.values())
    assert all(old_figures[score] != new_figures[score] for score in old_figures)
    seen = set()
    for k in range(100):
        restore("old")
        stop_at_rename(k)
        status = call_train(*new, "--train_only").status
        stop_at_rename(None)
        if status == 0:
            break
        assert status == 137
        found = figures(trained)  # without the learning rate, so that the record of either run will do
        runs = [known for known in (old_figures, new_figures) if all(found[s] in (None, known[s]) for s in known)]
        assert runs, f"rename {k}"
        seen |= {"refused" if found[s] is None else "old" if found[s] == old_figures[s] else "new" for s in found}
        resumed = call_train(*new, "--train_only", "--restart")
        if resumed.status:  # the earlier run's checkpoint is still there
            assert "learning_rate is 0.001 there and 0.01 here" in resumed.err
            assert call_train(*new, "--train_only").status == 0
        assert files_of_a_run(workplace) == new_files, f"rename {k}"
    assert k >= 10
    assert seen == {"old", "refused", "new"}


def test_renames_survive_a_loss_of_power(call_train, workplace, options, no_pictures, monkeypatch):
    """Each folder is synced after the renames in it."""
    synced, sync = set(), os.fsync

    def recorded(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.add(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    shutil.rmtree(next(workplace.rglob("processed")))
    assert call_train(*options).status == 0
    written = {path.parent for path in workplace.rglob("*.*") if path.is_file() and "raw" not in path.parts}
    assert len(written) == 5
    assert {folder.stat().st_ino for folder in written} <= synced


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_restart_after_clips_were_replaced_under_the_same_names_sizes_and_times_is_refused(
    call_train, workplace, trained
):
    path = min((machine_folder(workplace / "data") / "train").iterdir())
    before = path.stat()
    write_clip(path, 77)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    for words in (["--restart"], ["--restart", "--epochs", "3"]):
        outcome = call_train(*trained, "--train_only", *words)
        assert outcome.status == 1
        assert "the training clips are not those of " in outcome.err


@pytest.mark.parametrize(
    ("name", "there", "value", "here"),
    [("threads", "1", 2, "2"), ("instruction_set", "'avx2'", "native", "'native'"), ("shuffle", "True", "no", "False")],
)
@pytest.mark.parametrize("epochs", [2, 3])
def test_restart_with_anything_that_decides_digits_changed_is_refused(
    call_train, trained, name, there, value, here, epochs
):
    outcome = call_train(*trained, "--train_only", "--restart", "--epochs", epochs, f"--{name}", value)
    torch.set_num_threads(1)
    assert outcome.status == 1
    assert f"belongs to another run: {name} is {there} there and {here} here; give the same" in outcome.err


def test_restart_with_another_version_of_torch_is_refused(call_train, trained, monkeypatch):
    from networks import record

    version = record.version
    monkeypatch.setattr(record, "version", lambda package: "1.0" if package == "torch" else version(package))
    outcome = call_train(*trained, "--train_only", "--restart", "--epochs", "3")
    assert outcome.status == 1
    assert "belongs to another run: versions is " in outcome.err


def test_restart_with_what_decides_no_digits_changed_is_allowed(call_train, workplace, trained):
    words = ["--epochs", "3", "--log_interval", "7", "--checkpoint_interval", "1", "--decision_threshold", "0.8"]
    assert call_train(*trained, "--train_only", "--restart", *words).status == 0


def test_a_start_from_another_runs_checkpoint_stays_in_the_record(call_train, workplace, trained):
    shutil.copy(checkpoint_path(workplace), workplace / "start.tar")
    words = [*trained, "--train_only", "--seed", "5"]
    assert call_train(*words, "--epochs", "3", "--checkpoint_path", workplace / "start.tar").status == 0
    record = network_path(workplace, RUN.replace("13711", "5")).with_suffix(".json")
    first = {"checkpoint": str(workplace / "start.tar"), "seed": 13711, "epochs": 2}
    assert json.loads(record.read_text())["resumed_from"] == [first]
    assert call_train(*words, "--epochs", "4", "--restart").status == 0  # the trace survives a later --restart
    second = {"checkpoint": str(checkpoint_path(workplace, RUN.replace("13711", "5"))), "seed": 5, "epochs": 3}
    assert json.loads(record.read_text())["resumed_from"] == [first, second]


def test_a_checkpoint_of_an_earlier_version_is_resumed(call_train, workplace, trained):
    """It has neither the clips' content nor threads, instruction set and versions in its identity."""
    path = checkpoint_path(workplace)
    content = torch.load(path, weights_only=True)
    for name in ("data", "seed", "threads", "instruction_set", "device", "versions", "front_end", "extensions"):
        content["identity"].pop(name, None)
    del content["resumed_from"]
    torch.save(content, path)
    outcome = call_train(*trained, "--train_only", "--restart", "--epochs", "3")
    assert outcome.status == 0, outcome.err
    assert "2 of 3 epochs are done" in outcome.out


# --- tensors of other kinds -------------------------------------------------------------------------------------------

TENSORS = {
    "NaN": lambda tensor: tensor * float("nan"),
    "infinite": lambda tensor: tensor / 0,
    "complex": lambda tensor: tensor.to(torch.complex64),
    "float64": lambda tensor: tensor.double(),
    "float16": lambda tensor: tensor.half(),
    "integer": lambda tensor: tensor.long(),
    "of another shape": lambda tensor: tensor.flatten()[:-1],
    "text": lambda tensor: "weights",
    "nothing": lambda tensor: None,
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("key", ["encoder.3.weight", "encoder.1.running_var", "cov_target"])
def test_a_network_with_tensors_of_another_kind_is_refused(call_train, workplace, trained, kind, key):
    path = network_path(workplace)
    path.with_suffix(".json").unlink()  # as from elsewhere; with the record its hash tells already
    state = torch.load(path, weights_only=True)
    state[key] = TENSORS[kind](state[key])
    torch.save(state, path)
    outcome = call_train(*trained, "--test_only")
    assert outcome.status == 1
    assert f"{path} does not fit n_mels 128 and frames 5 (" in outcome.err
    assert key in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


CHECKPOINTS = {
    **{
        f"{part} {key}, {kind}": lambda c, part=part, key=key, change=change: c[part].update(
            {key: change(c[part][key])}
        )
        for part, key in (("network", "encoder.3.weight"), ("step", "moment1"), ("step", "moment2"))
        for kind, change in TENSORS.items()
        if (kind, key) != ("infinite", "moment1")  # 0 / 0 is NaN
    },
    "second moment below 0": lambda c: c["step"]["moment2"].neg_(),
    "steps below 0": lambda c: c["step"].update(n_steps=-1),
    "steps a text": lambda c: c["step"].update(n_steps="7"),
    "steps a fraction": lambda c: c["step"].update(n_steps=7.5),
    "steps out of range": lambda c: c["step"].update(n_steps=2**60),
    "losses NaN": lambda c: c["batch_losses"].__setitem__(0, float("nan")),
    "losses a text": lambda c: c["batch_losses"].__setitem__(0, "small"),
    "losses of an epoch missing": lambda c: c["epochs"][0].pop("val_loss"),
    "losses of an epoch NaN": lambda c: c["epochs"][1].update(val_loss=float("nan")),
    "Python's generator out of range": lambda c: c["random"].update(python=(3, (2**40,) * 625, None)),
    "Python's generator short": lambda c: c["random"].update(python=(3, (1, 2), None)),
    "NumPy's generator short": lambda c: c["random"].update(numpy=("MT19937", torch.zeros(3), 0, 0, 0.0)),
    "NumPy's generator out of range": lambda c: c["random"].update(
        numpy=("MT19937", torch.zeros(624, dtype=torch.int64), 10**6, 0, 0.0)
    ),
    "torch's generator short": lambda c: c["random"].update(torch=torch.zeros(3, dtype=torch.uint8)),
    "torch's generator of another type": lambda c: c["random"].update(torch=torch.zeros(5056)),
    "no generators": lambda c: c.update(random=None),
    "no step": lambda c: c.pop("step"),
    "no identity": lambda c: c.update(identity=None),
    "trace of another form": lambda c: c.update(resumed_from=[3]),
}


@pytest.mark.parametrize("change", CHECKPOINTS)
def test_a_checkpoint_with_anything_of_another_kind_is_refused(call_train, workplace, trained, change):
    path = checkpoint_path(workplace)
    content = torch.load(path, weights_only=True)
    CHECKPOINTS[change](content)
    torch.save(content, path)
    before = files_of_a_run(workplace)
    outcome = call_train(*trained, "--train_only", "--restart", "--epochs", "3")
    assert outcome.status == 1, outcome.out
    assert f"{path} is not a checkpoint of this run's network and optimiser" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert files_of_a_run(workplace) == before


@pytest.mark.parametrize(
    "values", [{"shape": 1e300}, {"shape": float("nan")}, {"scale": -1.0}, {"loc": "many"}, {"loc": 10**400}]
)
@pytest.mark.parametrize("has_record", [True, False])
def test_a_distribution_without_a_usable_threshold_is_refused(call_train, workplace, trained, values, has_record):
    (path,) = network_path(workplace).parent.glob("*_mse.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    if not has_record:
        network_path(workplace).with_suffix(".json").unlink()
    outcome = call_train(*trained, "--test_only")
    assert outcome.status == 1
    sentence = "is not the file that" if has_record else "does not hold shape, loc and scale of a gamma distribution"
    assert f"{path} {sentence}" in outcome.err
    assert not (workplace / "results").exists()


# --- names and errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "export_dir"),
    [("日" * 80, "x"), ("t", "日" * 90), ("t" * 100, "日" * 90)],
    ids=["tag", "export_dir", "both"],
)
def test_names_too_long_for_a_file_are_refused_before_the_work(call_train, workplace, options, tag, export_dir):
    shutil.rmtree(next(workplace.rglob("processed")))
    outcome = call_train(*options, "-tag", tag, "--export_dir", export_dir)
    assert outcome.status == 1
    assert "bytes; 240 are allowed, shorten -tag or --export_dir" in outcome.err
    assert sorted(path.name for path in workplace.iterdir()) == ["data"]
    assert not list(workplace.rglob("processed"))


@pytest.mark.parametrize("n_letters", range(60, 101, 8))
def test_long_names_that_are_allowed_give_each_score_its_own_file(
    call_train, workplace, options, no_pictures, n_letters
):
    words = [*options, "-tag", "t" * n_letters, "--export_dir", "e" * 100]
    assert call_train(*words).status == 0
    distributions = {path.read_bytes() for path in workplace.rglob("score_distr_*.json")}
    assert len(distributions) == len(SCORES.builtin)
    assert len(list(workplace.rglob("anomaly_score*"))) == 1


def test_an_error_that_nobody_expected_is_one_sentence_and_a_file_with_the_traceback(
    call_train, workplace, options, monkeypatch, tmp_path
):
    def broken(*_):
        raise ZeroDivisionError("division\nby zero")

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("networks.training.train_epoch", broken)
    outcome = call_train(*options)
    assert outcome.status == 1
    (file,) = (tmp_path / "temporary").iterdir()
    sentence = (
        "error: unexpected ZeroDivisionError: division by zero; please report it with the command and the traceback"
    )
    assert outcome.err == f"{sentence} in {file}\n"
    text = file.read_text()
    assert text.startswith("Traceback (most recent call last):")
    assert "in broken" in text
    with contextlib.suppress(FileNotFoundError):
        file.unlink()
