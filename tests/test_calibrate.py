"""Thresholds calibrated on normal clips, taken from the training clips' scores, or given."""

import json
import shutil
import subprocess
import sys

from common import Settings

import numpy as np
import pytest
import soundfile
from scipy.stats import binomtest
from synthetic import REPOSITORY, folders, machine_folder, make_settings, network_path, rows, succeed, write_clip

from networks import trained
from networks.names import Experiment, Run
from networks.record import read_record
from networks.threshold import Calibration, GammaDistribution, calibrate, choose_threshold, clips_needed
from tools import calibrate as calibrate_command
from tools import score
from tools.results.result_record import problems_of, read_result_record, result_record_path
from tools.score import Scorer


@pytest.fixture
def workplace(finished_run, tmp_path):
    """Return a copy of a finished run, and 24 normal clips that it has not seen; `options` has its options."""
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    for i in range(24):
        write_clip(copy / "normal" / f"Fan {i}, hall.wav", 1000 + i)
    return copy


@pytest.fixture
def normal(workplace):
    """Return the folder of the normal clips."""
    return workplace / "normal"


def written_threshold(workplace, score_name="MSE"):
    """Return the threshold and its source in the record of the last test."""
    (path,) = workplace.glob(f"results/dev_data/baseline_{score_name}/test_*.json")
    record = json.loads(path.read_text())
    return record["threshold"], record["threshold_from"]


@pytest.mark.parametrize(("n", "rate"), [(99, 0.01), (24, 0.1), (333, 0.02)])
def test_the_threshold_is_the_lowest_that_another_clip_exceeds_at_most_at_the_requested_rate(n, rate):
    calibration = calibrate(np.random.default_rng(0).gamma(2, size=n), rate)
    # of n + 1 exchangeable scores, the further one is above the threshold if it is one of the n_above + 1 highest
    assert (calibration.n_above + 1) / (n + 1) <= rate + 1e-9 < (calibration.n_above + 2) / (n + 1)
    interval = binomtest(calibration.n_above, n).proportion_ci(0.95, method="exact")
    assert calibration.interval == (interval.low, interval.high)


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_the_clips_needed_for_a_rate_are_enough(rate):
    least, good = clips_needed(rate)
    assert calibrate(range(least), rate).threshold == least - 1
    assert 1 / (least + 1) <= rate < 1 / least
    assert binomtest(int(rate * good), good).proportion_ci(0.95, method="exact").high < 2 * rate


def test_the_command_line_overrides_the_calibration_and_the_calibration_overrides_the_defaults():
    distribution = GammaDistribution(2.0, 0.0, 1.0)
    fitted = {"calibration": vars(Calibration(7.5, 0.05, 40, 1, (0.0, 0.1))), "clip_scores": [1.0, 2.0, 3.0]}
    fitted |= {"gamma": vars(distribution), "fitted_to": "values", "range": [0.0, 9.0]}
    values = make_settings().values
    threshold = choose_threshold(Settings(values), fitted)
    assert (threshold, threshold.source) == (7.5, "the calibration for 5 % false alarms on 40 normal clips")
    for given, expected in (
        ({"threshold_from": "batches"}, distribution.quantile(0.9)),
        ({"threshold_from": "clips", "decision_threshold": 0.5}, 2.0),
        ({"threshold_from": 4.25}, 4.25),
        ({"decision_threshold": 0.8}, distribution.quantile(0.8)),
    ):
        assert choose_threshold(Settings({**values, **given}, given), fitted) == expected


def test_a_calibrated_threshold_is_used_by_tests_and_scorers_until_training_replaces_it(
    call_train, call_command, workplace, options, normal
):
    fitted, source = written_threshold(workplace)
    assert source == "the 0.9 quantile of a gamma distribution fitted to scores of the training data"
    network = network_path(workplace)
    run = Run(Experiment.of(make_settings(**folders(workplace)), is_eval=False), "DCASE2023T2fan", "")
    tested = read_result_record(result_record_path(run.anomaly_scores("MSE", 0)))
    assert problems_of(tested, run, "MSE") == []
    outcome = call_command(calibrate_command.main, network, normal, "--false_alarms", 0.1)
    assert outcome.status == 0, outcome.err
    assert "calibrated again, since the test" in problems_of(tested, run, "MSE")[0]
    assert "MSE: 1 of 24 clips are above the threshold" in outcome.out
    assert "between 0.11 and 21.12 % (95 % interval), 10 % requested" in outcome.out
    assert "with 80 clips or more, the interval ends below 20 %" in outcome.out
    assert f"threshold of MSE: {fitted:g}, " in outcome.err
    assert f" (so far {fitted:g}); false alarm rate" in outcome.out
    assert "warning" not in outcome.out
    scorer = Scorer(network)
    assert sum(scorer(clip).decision for clip in normal.iterdir()) == 1
    calibrated = "the calibration for 10 % false alarms on 24 normal clips"
    assert calibrated in call_train(*options, "--test_only").out
    assert written_threshold(workplace) == (scorer.threshold, calibrated)
    assert Scorer(network, threshold_from="batches").threshold == fitted
    (workplace / "k.yaml").write_text("threshold_from: 4.25\n")
    outcome = call_command(score.main, network, next(normal.iterdir()), "--config", workplace / "k.yaml")
    assert "threshold of MSE: 4.25, a given number" in outcome.err
    succeed(call_train(*options, "--test_only", "--decision_threshold", 0.9))
    assert written_threshold(workplace) == (fitted, source)
    succeed(call_train(*options, "--test_only", "--score", "MAHALA"))
    assert written_threshold(workplace, "MAHALA")[1] == source
    assert call_train(*options, "--train_only", "--restart").status == 0  # the run is complete
    assert Scorer(network).threshold == scorer.threshold
    succeed(call_train(*options))
    assert written_threshold(workplace) == (fitted, source)


def test_clips_unfit_for_calibration_are_refused_and_outliers_reported(call_command, workplace, normal):
    network, folder = network_path(workplace), machine_folder(workplace / "data")
    before = network.with_suffix(".json").read_bytes()
    for clips, sentence in (
        (folder / "train", "6 of the clips have exactly the scores of training clips"),
        (folder / "test", "6 clips are labelled anomaly"),
        (workplace / "data", "holds no .wav files"),
    ):
        outcome = call_command(calibrate_command.main, network, clips, "--false_alarms", 0.1)
        assert (outcome.status, sentence in outcome.err) == (1, True), outcome.err
    assert network.with_suffix(".json").read_bytes() == before
    few = sorted(normal.iterdir())[:5]
    outcome = call_command(calibrate_command.main, network, *few, "--false_alarms", 0.1)
    assert "warning: the threshold is the highest score, which 17 % of normal clips exceed on average" in outcome.out
    assert "10 % needs 9 clips or more" in outcome.out
    soundfile.write(normal / "silent.wav", np.zeros(16000), 16000)
    assert f"warning: {normal}/silent.wav scores " in succeed(
        call_command(calibrate_command.main, network, normal, "--false_alarms", 0.1)
    )
    before = network.with_suffix(".json").read_bytes()
    for name in ("a.wav", "b.wav"):
        (normal / name).write_text("not audio")
    outcome = call_command(calibrate_command.main, network, normal, "--false_alarms", 0.1)
    assert (outcome.status, outcome.err.count("cannot be read as audio")) == (1, 2)
    assert "2 of 27 clips cannot be scored; nothing was written" in outcome.err
    assert network.with_suffix(".json").read_bytes() == before


def test_training_reports_alarms_among_its_clips_and_warns_of_too_few(call_train, workplace, options):
    output = (workplace / "output").read_text()
    assert "warning: 6 training clips are too few for a meaningful threshold" in output
    assert "warning: 2 target clips are too few for a meaningful threshold" in output
    network = network_path(workplace)
    for name in ("MSE", "MAHALA"):
        scorer = Scorer(network, score=name)
        clips = list((machine_folder(workplace / "data") / "train").iterdir())
        above = sum(scorer(clip).decision for clip in clips)
        threshold = f"{scorer.threshold:g}"
        assert f"{name}: {above} of 6 training clips are above the threshold of {threshold}" in output
        scores = sorted(scorer(clip).score for clip in clips)
        assert Scorer(network, score=name, threshold_from="clips", decision_threshold=0.2).threshold == scores[1]
    succeed(call_train(*options, "--test_only", "--threshold_from", "9.5"))
    assert written_threshold(workplace) == (9.5, "a given number")


def test_a_score_equal_to_the_threshold_is_no_alarm(call_train, workplace, options):
    folder = workplace / "results/dev_data/baseline_MSE"
    (path,) = folder.glob("anomaly_score*.csv")
    scores = {name: float(value) for name, value in rows(path)}
    clip, threshold = sorted(scores.items(), key=lambda item: item[1])[5]
    succeed(call_train(*options, "--test_only", "--threshold_from", repr(threshold)))
    (path,) = folder.glob("decision_result*.csv")
    assert {name: value == "1" for name, value in rows(path)} == {n: score > threshold for n, score in scores.items()}
    scorer = Scorer(network_path(workplace), threshold_from=threshold)
    scored = scorer(machine_folder(workplace / "data") / "test" / clip)
    assert (scored.score, scored.decision) == (threshold, 0)


def test_thresholds_that_need_a_record_and_an_exit_status_that_needs_a_threshold(
    call_command, call_train, workplace, options, normal
):
    network = network_path(workplace)
    clips = [network, normal, "--exit_status"]
    succeed(call_command(score.main, *clips, "--threshold_from", 1e9))
    assert call_command(score.main, *clips, "--threshold_from", 0).status == 3
    network.with_suffix(".json").unlink()
    for outcome, sentence in (
        (call_command(score.main, *clips), "has no threshold; give --threshold_from NUMBER"),
        (
            call_train(*options, "--test_only", "--threshold_from", "clips"),
            "--threshold_from clips, but no record has scores of training clips; train again, or give a number",
        ),
        (
            call_command(calibrate_command.main, network, normal, "--false_alarms", 0.1),
            "has no record of MSE to write to; give --threshold_from ",
        ),
    ):
        assert (outcome.status, sentence in outcome.err) == (1, True)


def test_a_link_is_scored_with_the_record_of_its_network_and_a_copy_with_the_parameters_it_prints(
    call_command, call_train, workplace, options, tmp_path
):
    succeed(call_train(*options, "--train_only", "--hop_length", "256", "--epochs", "1"))
    clip = next((machine_folder(workplace / "data") / "test").iterdir())
    expected = call_command(score.main, network_path(workplace), clip).out
    link, copy = tmp_path / "best.pth", tmp_path / "copy.pth"
    link.symlink_to(network_path(workplace))
    outcome = call_command(score.main, link, clip)
    assert (outcome.out, "no record" in outcome.err) == (expected, False)
    shutil.copy(network_path(workplace), copy)
    outcome = call_command(score.main, copy, clip)
    assert "copy.pth has no record (copy.json) beside it; assumed: model DCASE2023T2-AE, n_mels 128" in outcome.err


def test_two_calibrations_at_once_are_both_kept(workplace, normal, monkeypatch):
    path = network_path(workplace).with_suffix(".json")
    record, read = read_record(path), trained.read_record
    words = [sys.executable, REPOSITORY / "tools/calibrate.py", network_path(workplace), normal, "--false_alarms=0.1"]

    def read_while_another_waits(of):
        other = subprocess.Popen([*map(str, words), "--score", "MAHALA"], stdout=subprocess.PIPE, text=True)
        lines = iter(other.stdout.readline, "")
        assert any("waiting for another process that trains or calibrates" in line for line in lines)
        others.append(other)
        return read(of)

    others = []
    monkeypatch.setattr(trained, "read_record", read_while_another_waits)
    trained.write_calibration(record, "MSE", calibrate([1.0, 2.0, 3.0], 0.1))
    others[0].communicate(timeout=60)
    assert others[0].returncode == 0
    scores = read(path).content["scores"]
    assert scores["MSE"]["calibration"]["n_clips"] == 3
    assert scores["MAHALA"]["calibration"]["n_clips"] > 3
