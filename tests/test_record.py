"""The network's record: parameters come from it, and files that do not belong together are refused."""

import json
import shutil
from functools import partial
from pathlib import Path

import common
from common import BY_NAME, SCORES

import pytest
from synthetic import REPOSITORY, RUN, directories, machine_folder, network_path, write_clip, written

from tools.results import __main__ as summary

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
def record(workplace):
    """Return the path of the run's record."""
    return network_path(workplace).with_suffix(".json")


@pytest.fixture
def figures(call_train, workplace):
    """Test by MSE and MAHALA, and return the bytes of scores and decisions; None for a score that was refused."""

    def test(words):
        shutil.rmtree(workplace / "results", ignore_errors=True)
        figures = {}
        for score in ("MSE", "MAHALA"):
            outcome = call_train(*words, "--test_only", "--score", score)
            assert (outcome.status, outcome.err.count("\n")) in ((0, 0), (1, 1)), outcome.err
            folder = workplace / f"results/dev_data/baseline_{score}"
            figures[score] = {p.name: p.read_bytes() for p in folder.glob("[ad]*.csv")} or None
        return figures

    return test


# --- parameters -------------------------------------------------------------------------------------------------------


def test_a_record_holds_everything_that_decides_numbers(workplace, trained, record):
    content = json.loads(record.read_text())
    decide = {parameter.name for parameter in BY_NAME.values() if parameter.affects in ("features", "training")}
    assert decide - NOT_LISTED == {*FEATURES, *TRAINING}  # each is tested below
    assert decide <= set(content)
    assert {"network_sha256", "data", "instructions", "extensions"} <= set(content)
    assert set(content["scores"]) == set(SCORES.builtin)
    assert (content["seed"], content["epochs"], content["n_mels"], content["sections"]) == (13711, 2, 128, None)
    assert set(content["versions"]) >= {"python", "torch", "numpy", "librosa"}
    assert len(content["clips_manifest"]) == 64
    assert content["seconds"]["epochs"] > 0
    assert content["commit"] is None or len(content["commit"].removesuffix("-dirty")) == 40


def test_a_parameter_that_contradicts_training_is_an_error_that_gives_both_values(
    call_train, workplace, trained, record
):
    content = json.loads(record.read_text())
    for name, value in (FEATURES | TRAINING).items():
        assert content[name] != value
        outcome = call_train(*trained, "--test_only", f"--{name}", common.as_text(value))
        assert outcome.status == 1
        ours, theirs = common.as_text(value), common.as_text(content[name])
        assert f"--{name} {ours}, but {RUN} was trained with {theirs}; leave the option" in outcome.err
    assert not (workplace / "results").exists()
    words = [word for name in FEATURES for word in (f"--{name}", common.as_text(content[name]))]
    assert call_train(*trained, "--test_only", *words).status == 0


def test_parameters_changed_in_baseline_yaml_are_reported_and_the_trained_ones_are_used(
    call_train, figures, trained, monkeypatch
):
    before, defaults = figures(trained), common.read_defaults
    assert None not in before.values()
    values = defaults()
    monkeypatch.setattr(common, "read_defaults", lambda *_: {**values, **FEATURES})
    assert figures(trained) == before
    line = next(line for line in call_train(*trained, "--test_only").out.splitlines() if "network's record" in line)
    assert all(
        f"{n} {common.as_text(values[n])} (baseline.yaml: {common.as_text(v)})" in line for n, v in FEATURES.items()
    )


def test_without_a_record_the_given_parameters_are_used(call_train, workplace, options, no_pictures, record):
    """As for a network of the reference."""
    assert call_train(*options, "--hop_length", 256).status == 0
    assert json.loads(record.read_text())["hop_length"] == 256
    scores = next((workplace / "results").rglob("anomaly_score*"))
    before = scores.read_bytes()
    record.unlink()
    outcome = call_train(*options, "--test_only", "--hop_length", 256)
    assumed = "model DCASE2023T2-AE, n_mels 128, n_fft 1024, hop_length 256, power 2.0, fmin 0.0, fmax null"
    assert f"{RUN}.pth has no record ({RUN}.json) beside it; assumed: {assumed}" in outcome.out
    assert scores.read_bytes() == before
    assert call_train(*options, "--test_only").status == 0
    assert scores.read_bytes() != before


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
    paths = sorted(network_path(workplace).parent.iterdir())
    assert [path.name for path in paths] == [f"{RUN}.json", f"{RUN}.pth", f"score_state_{RUN}_knn.pth"]
    for path in paths:
        whole = path.read_bytes()
        test = [*words, "--test_only", "--score", "KNN" if path.name.startswith("score") else "MSE"]
        for share in (0.1, 0.4, 0.95):
            damaged = bytearray(whole)
            damaged[int(share * len(whole))] ^= 2
            path.write_bytes(damaged)
            outcome = call_train(*test)
            assert (outcome.status, outcome.err.count("\n"), path.name in outcome.err) == (1, 1, True), outcome.err
        path.write_bytes(whole)
        assert call_train(*test).status == 0


def test_restart_of_a_complete_run_repairs_its_files_or_does_nothing(call_train, workplace, trained):
    restart = [*trained, "--train_only", "--restart"]
    before = written(workplace)
    assert len(before) == 3  # network, record, log
    for path in map(workplace.joinpath, before):
        for damaged in (path.read_bytes()[:-2], None):
            path.unlink() if damaged is None else path.write_bytes(b"" if path.name == "log.csv" else damaged)
            outcome = call_train(*restart)
            assert (outcome.status, "nothing is left to do" in outcome.out) == (0, False), outcome.err
            assert written(workplace) == before
    files = [path for path in workplace.glob("models/**/*") if path.is_file()]
    times = {path: path.stat().st_mtime_ns for path in files}
    outcome = call_train(*restart)
    assert (outcome.status, "is complete; nothing is left to do" in outcome.out) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in files} == times


def test_a_damaged_record_is_refused(call_train, trained, record):
    for content in ("", "[]", '{"format": 3}', record.read_text().replace("13711", "13712")):
        record.write_text(content)
        outcome = call_train(*trained, "--test_only")
        assert (outcome.status, outcome.err.count("\n")) == (1, 1)
        assert f"{record} is not a record of a training run" in outcome.err


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
    call_train, figures, workplace, trained, stop_at_rename, tmp_path
):
    """Training again over an earlier run's files, with another learning rate."""
    kept, new = tmp_path / "kept", [*trained, "--learning_rate", "0.01"]
    old_figures = figures(trained)
    for name in ("models", "logs"):
        shutil.copytree(workplace / name, kept / name)
    assert call_train(*new, "--train_only").status == 0
    new_figures, new_files = figures(new), written(workplace)
    assert None not in (*old_figures.values(), *new_figures.values())
    assert all(old_figures[score] != new_figures[score] for score in old_figures)
    seen = set()
    for k in range(100):
        for name in ("models", "logs"):
            shutil.rmtree(workplace / name)
            shutil.copytree(kept / name, workplace / name)
        stop_at_rename(k)
        status = call_train(*new, "--train_only").status
        stop_at_rename(None)
        if status == 0:
            break
        assert status == 137
        now = figures(trained)  # without the learning rate, so that the record of either run will do
        runs = [run for run in (old_figures, new_figures) if all(now[score] in (None, run[score]) for score in run)]
        assert runs, f"rename {k}"
        seen |= {"refused" if now[s] is None else "old" if now[s] == old_figures[s] else "new" for s in now}
        resumed = call_train(*new, "--train_only", "--restart")
        if resumed.status:  # the earlier run's checkpoint is still there
            assert "learning_rate is 0.001 there and 0.01 here" in resumed.err
            assert call_train(*new, "--train_only").status == 0
        assert written(workplace) == new_files, f"rename {k}"
    assert k >= 10
    assert seen == {"old", "refused", "new"}


def test_results_after_a_kill_at_any_rename_are_those_of_one_run_or_reported(
    call_train, call_command, workplace, options, stop_at_rename, no_pictures, tmp_path
):
    """Testing and summarizing again over the files of an earlier run, with another learning rate."""
    results, kept, tested = workplace / "results", tmp_path / "kept", tmp_path / "tested"
    words = [*options, "-tag", "id(0_)", "--use_ids", 0]
    test = partial(call_train, *words, "--test_only")
    tables = partial(call_command, summary.main, "DCASE2023T2", "-d", *directories(workplace))

    def files():
        return {path.relative_to(results): path.read_bytes() for path in results.rglob("*.csv")}

    assert call_train(*words).status == tables().status == 0
    earlier = files()
    assert call_train(*words, "--learning_rate", 0.01, "--train_only").status == 0
    shutil.copytree(results, kept)
    assert test().status == 0
    shutil.copytree(results, tested)
    assert tables().status == 0
    later, n_mixed = files(), 0
    for stage, start in ((test, kept), (tables, tested)):
        for k in range(100):
            shutil.rmtree(results)
            shutil.copytree(start, results)
            stop_at_rename(k)
            status = stage().status
            stop_at_rename(None)
            if status == 0:
                break
            assert status == 137
            assert all(content in (earlier[name], later[name]) for name, content in files().items())
            report = tables().out
            if files() not in (earlier, later):
                assert "changed since the test" in report
                n_mixed += 1
            assert stage().status == tables().status == 0
            assert files() == later
        assert k > 2
    assert n_mixed > 0
