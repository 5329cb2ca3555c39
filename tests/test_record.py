"""The network's record: parameters come from it, and files that do not belong together are refused."""

import json
import shutil
from pathlib import Path

import common
from common import BY_NAME, SCORES

import pytest
from synthetic import (
    REPOSITORY,
    RUN,
    machine_folder,
    network_path,
    write_clip,
    written,
)

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
    "shuffle": False,
    "validation_split": 0.2,
}
NOT_LISTED = {"front_end", "model", "seed", "threads", "instruction_set"}  # tested elsewhere; the last two may differ


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
def test_a_parameter_that_contradicts_training_is_an_error_that_gives_both_values(
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
def test_a_parameter_changed_in_baseline_yaml_is_reported_and_the_trained_one_is_used(
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


def test_without_a_record_the_given_parameters_are_used(call_train, workplace, options, no_pictures):
    """As for a network of the reference."""
    assert call_train(*options, "--hop_length", 256).status == 0
    scores = next((workplace / "results").rglob("anomaly_score*"))
    before = scores.read_bytes()
    network_path(workplace).with_suffix(".json").unlink()
    outcome = call_train(*options, "--test_only", "--hop_length", 256)
    assumed = "model DCASE2023T2-AE, n_mels 128, n_fft 1024, hop_length 256, power 2.0, fmin 0.0, fmax null"
    assert f"{RUN}.pth has no record ({RUN}.json) beside it; assumed: {assumed}" in outcome.out
    assert scores.read_bytes() == before
    assert call_train(*options, "--test_only").status == 0
    assert scores.read_bytes() != before


@pytest.mark.parametrize("change", [("--hop_length", 256), ("--batch_size", 8)])
def test_a_record_holds_the_training_parameters(call_train, workplace, options, no_pictures, change):
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


def test_a_flipped_bit_is_refused_in_every_file_of_a_run(call_train, workplace, options, no_pictures):
    words = [*options, "--extension", REPOSITORY / "examples/knn_score.py"]
    assert call_train(*words, "--train_only").status == 0
    folder = network_path(workplace).parent
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{RUN}.pth", f"{RUN}.json", f"score_state_{RUN}_knn.pth"}
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
    "damage", [lambda c: b"", lambda c: c[:-2], lambda c: c[:50] + bytes([c[50] ^ 4]) + c[51:], None]
)
def test_restart_of_a_complete_run_repairs_its_files(call_train, figures, workplace, trained, damage):
    before, scores = written(workplace), figures(trained)
    paths = [workplace / name for name in before if not name.endswith("log.csv")]
    assert len(paths) == 2
    for path in paths:
        path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
        outcome = call_train(*trained, "--train_only", "--restart")
        assert outcome.status == 0, outcome.err
        assert "nothing is left to do" not in outcome.out
        assert written(workplace) == before
        assert "nothing is left to do" in call_train(*trained, "--train_only", "--restart").out
    log = workplace / "logs/baseline" / RUN / "log.csv"
    for restore in (lambda: log.write_bytes(b""), log.unlink):
        restore()
        assert call_train(*trained, "--train_only", "--restart").status == 0
        assert written(workplace) == before
    assert figures(trained) == scores


def test_a_damaged_record_is_refused_and_written_again_by_training(call_train, workplace, trained):
    record = network_path(workplace).with_suffix(".json")
    for content in ("", "{", "[]", "[" * 100_000, '{"format": 3}', '{"format": 3, "scores": []}', "1" * 5000):
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


def test_after_a_kill_at_any_rename_no_mixture_of_runs_is_used(
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
    new_figures, new_files = figures(new), written(workplace)
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
        assert written(workplace) == new_files, f"rename {k}"
    assert k >= 10
    assert seen == {"old", "refused", "new"}


def test_a_run_leaves_a_record(call_train, workplace, options):
    assert call_train(*options).status == 0
    record = json.loads(network_path(workplace).with_suffix(".json").read_text())
    assert (record["seed"], record["epochs"], record["n_mels"], record["sections"]) == (13711, 2, 128, None)
    assert set(record["versions"]) >= {"python", "torch", "numpy", "librosa"}
    assert len(record["clips_manifest"]) == 64
    assert record["seconds"]["epochs"] > 0
    assert record["commit"] is None or len(record["commit"].removesuffix("-dirty")) == 40
