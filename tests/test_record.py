"""The network's record: parameters come from it, and files that do not belong together are refused."""

import shutil
from pathlib import Path

from common import BY_NAME, SCORES, as_text, read_defaults

import pytest
from synthetic import (
    REPOSITORY,
    RUN,
    machine_folder,
    network_path,
    record_of,
    succeed,
    write_clip,
    written,
)

from tools import score

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
    """Test by MSE and MAHALA, and return the bytes of scores and decisions; {} for a score that was refused."""

    def test(words):
        shutil.rmtree(workplace / "results", ignore_errors=True)
        figures = {}
        for name in ("MSE", "MAHALA"):
            outcome = call_train(*words, "--test_only", f"--score={name}")
            assert (outcome.status, outcome.err.count("\n")) in ((0, 0), (1, 1)), outcome.err
            files = workplace.glob(f"results/dev_data/baseline_{name}/[ad]*.csv")
            figures[name] = {path.name: path.read_bytes() for path in files}
        return figures

    return test


# --- parameters -------------------------------------------------------------------------------------------------------


def test_a_record_holds_everything_that_decides_numbers(finished_run):
    content = record_of(finished_run)
    decide = {parameter.name for parameter in BY_NAME.values() if parameter.affects in ("features", "training")}
    assert decide - NOT_LISTED == {*FEATURES, *TRAINING}  # each is tested below
    assert decide | {"network_sha256", "data", "instructions", "extensions"} <= set(content)
    assert set(content["scores"]) == set(SCORES.builtin)
    assert (content["seed"], content["epochs"], content["n_mels"], content["sections"]) == (13711, 2, 128, None)
    assert set(content["versions"]) >= {"python", "torch", "numpy", "librosa"}
    assert len(content["clips_manifest"]) == 64
    assert content["seconds"]["epochs"] > 0
    assert content["commit"] is None or len(content["commit"].removesuffix("-dirty")) == 40


def test_a_parameter_that_contradicts_training_is_an_error_that_gives_both_values(succeeds, fails, workplace, trained):
    words, content = [*trained, "--test_only"], record_of(workplace)
    for name, value in (FEATURES | TRAINING).items():
        assert content[name] != value
        ours, theirs = as_text(value), as_text(content[name])
        refused = fails(*words, f"--{name}={ours}")
        assert f"--{name} {ours}, but {RUN} was trained with {theirs}; leave the option" in refused
    assert not (workplace / "results").exists()
    succeeds(*words, *(f"--{name}={as_text(content[name])}" for name in FEATURES))


def test_parameters_changed_in_baseline_yaml_are_reported_and_the_trained_ones_are_used(
    succeeds, figures, trained, monkeypatch
):
    before, values = figures(trained), read_defaults()
    assert all(before.values())
    monkeypatch.setattr("common.read_defaults", lambda *_: {**values, **FEATURES})
    assert figures(trained) == before
    out = succeeds(*trained, "--test_only")
    assert "\nparameters of the network's record: " in out
    for name, value in FEATURES.items():
        assert f"{name} {as_text(values[name])} (baseline.yaml: {as_text(value)})" in out


def test_test_clips_of_another_rate_than_the_training_clips_are_refused(fails, workplace, trained):
    for path in (machine_folder(workplace / "data") / "test").iterdir():
        write_clip(path, 1, rate=8000)
    refused = fails(*trained, "--test_only")
    assert "a sampling rate of 8000 Hz, but the network was trained at 16000 Hz" in refused


# --- files that do not belong together --------------------------------------------------------------------------------


def test_a_flipped_bit_is_refused_in_every_file_of_a_run(succeeds, fails, call_command, workplace, options):
    extension = f"--extension={REPOSITORY}/examples/knn_score.py"
    succeeds(*options, extension, "--train_only")
    network = network_path(workplace)
    clip = next((machine_folder(workplace / "data") / "test").iterdir())
    paths = sorted(network.parent.iterdir())
    assert [path.name for path in paths] == [f"{RUN}.json", f"{RUN}.pth", f"score_state_{RUN}_knn.pth"]
    for path in paths:
        whole = path.read_bytes()
        words = [extension, "--score=KNN" if path.name.startswith("score") else "--score=MSE"]
        for share in (0.1, 0.4, 0.95):
            damaged = bytearray(whole)
            damaged[int(share * len(whole))] ^= 2
            path.write_bytes(damaged)
            refused = fails(*options, *words, "--test_only")
            assert (path.name in refused, refused.count("\n")) == (True, 1)
            scored = call_command(score.main, network, clip, *words)
            assert (scored.status, scored.out, path.name in scored.err) == (1, "", True)
        path.write_bytes(whole)
        succeeds(*options, *words, "--test_only")


def test_restart_of_a_complete_run_repairs_its_files_or_does_nothing(succeeds, workplace, trained):
    restart = [*trained, "--train_only", "--restart"]
    before, done = written(workplace), "is complete; nothing is left to do"
    assert len(before) == 3  # network, record, log
    for path in map(workplace.joinpath, before):
        for content in (b"" if path.name == "log.csv" else path.read_bytes()[:-2], None):
            path.unlink() if content is None else path.write_bytes(content)
            assert done not in succeeds(*restart)
            assert written(workplace) == before
    times = {path: path.stat().st_mtime_ns for path in workplace.glob("models/**/*.*")}
    assert done in succeeds(*restart)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_damaged_record_is_refused(fails, workplace, trained):
    record = network_path(workplace).with_suffix(".json")
    for content in ("", "[]", '{"format": 3}', record.read_text().replace("13711", "13712")):
        record.write_text(content)
        refused = fails(*trained, "--test_only")
        assert f"{record} is not a record of a training run" in refused
        assert refused.count("\n") == 1


@pytest.fixture
def killed(monkeypatch, workplace):
    """Return a function that does work on a copy of kept files, killed at its first rename, then at its second, ...

    It yields after each kill, until the work ends of itself.
    """
    replace, left = Path.replace, [100]

    def counted(path, target):
        left[0] -= 1
        if left[0] < 0:
            raise SystemExit(137)  # as kill -9 ends the process
        return replace(path, target)

    def at_each_rename(kept, work, least):
        monkeypatch.setattr(Path, "replace", counted)
        for k in range(100):
            shutil.rmtree(workplace)
            shutil.copytree(kept, workplace)
            left[0] = k
            status = work().status
            left[0] = 100
            if status == 0:
                break
            assert status == 137
            yield k
        assert k >= least

    return at_each_rename


def test_after_a_kill_at_any_rename_no_mixture_of_runs_is_used(
    call_train, succeeds, figures, workplace, trained, killed, tmp_path_factory
):
    """Training again over an earlier run's files, with another learning rate."""
    new = [*trained, "--learning_rate=0.01", "--train_only"]
    old_figures = figures(trained)
    kept = shutil.copytree(workplace, tmp_path_factory.mktemp("kept") / "trained")
    succeeds(*new)
    new_figures, new_files = figures(trained), written(workplace)
    assert all(old_figures[name] != new_figures[name] != {} != old_figures[name] for name in old_figures)
    seen = set()
    for k in killed(kept, lambda: call_train(*new), 10):
        now = figures(trained)  # without the learning rate, so that the record of either run will do
        runs = [run for run in (old_figures, new_figures) if all(now[name] in ({}, run[name]) for name in run)]
        assert runs, f"rename {k}"
        seen |= {"refused" if not now[s] else "old" if now[s] == old_figures[s] else "new" for s in now}
        resumed = call_train(*new, "--restart")
        if resumed.status:  # the earlier run's checkpoint is still there
            assert "learning_rate is 0.001 there and 0.01 here" in resumed.err
            succeeds(*new)
        assert written(workplace) == new_files, f"rename {k}"
    assert seen == {"old", "refused", "new"}


def test_results_after_a_kill_at_any_rename_are_those_of_one_run_or_reported(
    call_train, succeeds, summarize, workplace, options, killed, tmp_path_factory
):
    """Testing and summarizing again over the files of an earlier run, with another learning rate."""
    kept, words = tmp_path_factory.mktemp("kept"), [*options, "-tag", "id(0_)", "--use_ids=0"]

    def test():
        return call_train(*words, "--test_only")

    def files():
        return {path.relative_to(workplace): path.read_bytes() for path in workplace.glob("results/**/*.csv")}

    succeeds(*words)
    succeed(summarize())
    earlier = files()
    succeeds(*words, "--learning_rate=0.01", "--train_only")
    shutil.copytree(workplace, kept / "trained")
    succeed(test())
    shutil.copytree(workplace, kept / "tested")
    succeed(summarize())
    later, n_mixed = files(), 0
    for stage, start in ((test, "trained"), (summarize, "tested")):
        for _ in killed(kept / start, stage, 3):
            assert all(content in (earlier[name], later[name]) for name, content in files().items())
            report = summarize().out
            if files() not in (earlier, later):
                assert "changed since the test" in report
                n_mixed += 1
            succeed(stage())
            succeed(summarize())
            assert files() == later
    assert n_mixed > 0
