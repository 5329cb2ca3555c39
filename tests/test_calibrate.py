"""Thresholds calibrated on normal clips, taken from the training clips' scores, or given."""

import shutil
import subprocess
import sys

from common import Settings

import numpy as np
import pytest
import soundfile
from scipy.stats import binomtest
from synthetic import (
    REPOSITORY,
    error_of,
    folders,
    machine_folder,
    make_settings,
    network_path,
    record_of,
    results_of,
    succeed,
    write_clip,
)

from networks import trained
from networks.names import Experiment, Run
from networks.threshold import Calibration, GammaDistribution, calibrate, choose_threshold, clips_needed
from tools import calibrate as calibrate_command
from tools import score
from tools.results.result_record import problems_of, read_result_record, result_record_path
from tools.score import Scorer

GAMMA = "the 0.9 quantile of a gamma distribution fitted to scores of the training data"


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


@pytest.fixture
def call_calibrate(call_command, workplace):
    """Return a function that calls tools.calibrate for 10 % false alarms on clips."""
    return lambda *clips: call_command(calibrate_command.main, network_path(workplace), *clips, "--false_alarms=0.1")


@pytest.fixture
def last_test(workplace):
    """Return a function that returns the threshold of the last test by a score, its source, and its problems."""
    run = Run(Experiment.of(make_settings(**folders(workplace)), is_eval=False), "DCASE2023T2fan", "")

    def read(name="MSE"):
        record = read_result_record(result_record_path(run.anomaly_scores(name, 0)))
        return record.threshold, record.threshold_from, problems_of(record, run, name)

    return read


def interval_of(n_above, n):
    """Return the 95 % interval of Clopper and Pearson."""
    return binomtest(n_above, n).proportion_ci(0.95, method="exact")


@pytest.mark.parametrize(("n", "rate"), [(99, 0.01), (24, 0.1), (333, 0.02)])
def test_the_threshold_is_the_lowest_that_another_clip_exceeds_at_most_at_the_requested_rate(n, rate):
    calibration = calibrate(np.random.default_rng(0).gamma(2, size=n), rate)
    # of n + 1 exchangeable scores, the further one is above the threshold if it is one of the n_above + 1 highest
    assert (calibration.n_above + 1) / (n + 1) <= rate + 1e-9 < (calibration.n_above + 2) / (n + 1)
    assert calibration.interval == tuple(interval_of(calibration.n_above, n))
    least, good = clips_needed(rate)
    assert calibrate(range(least), rate).threshold == least - 1
    assert 1 / (least + 1) <= rate < 1 / least
    assert interval_of(int(rate * good), good).high < 2 * rate


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
    succeeds, call_command, call_calibrate, last_test, workplace, options, normal
):
    fitted, *test = last_test()
    assert test == [GAMMA, []]
    outcome, network = call_calibrate(normal), network_path(workplace)
    out = succeed(outcome)
    assert "calibrated again, since the test" in last_test()[2][0]
    scorer = Scorer(network)
    assert (
        f"MSE: 1 of 24 clips are above the threshold {scorer.threshold:g} (so far {fitted:g}); false alarm rate" in out
    )
    assert "between 0.11 and 21.12 % (95 % interval), 10 % requested" in out
    assert "with 80 clips or more, the interval ends below 20 %" in out
    assert "warning" not in out
    assert sum(scorer(clip).decision for clip in normal.iterdir()) == 1
    calibrated = "the calibration for 10 % false alarms on 24 normal clips"
    assert calibrated in succeeds(*options, "--test_only")
    assert last_test() == (scorer.threshold, calibrated, [])
    (workplace / "k.yaml").write_text("threshold_from: 4.25\n")
    outcome = call_command(score.main, network, min(normal.iterdir()), "--config", workplace / "k.yaml")
    assert "threshold of MSE: 4.25, a given number" in outcome.err
    succeeds(*options, "--test_only", "--score=MAHALA")
    assert last_test("MAHALA")[1] == GAMMA
    (log,) = workplace.glob("logs/**/log.png")  # lost from a complete run
    log.unlink()
    succeeds(*options, "--train_only", "--restart")
    assert log.is_file()
    assert Scorer(network).threshold == scorer.threshold
    succeeds(*options)
    assert last_test() == (fitted, GAMMA, [])


def test_clips_unfit_for_calibration_are_refused_and_outliers_reported(call_calibrate, workplace, normal):
    before, folder = record_of(workplace), machine_folder(workplace / "data")
    for clips, sentence in (
        (folder / "train", "6 of the clips have exactly the scores of training clips"),
        (folder / "test", "6 clips are labelled anomaly"),
        (workplace / "data", "holds no .wav files"),
    ):
        assert sentence in error_of(call_calibrate(clips))
    assert record_of(workplace) == before
    out = succeed(call_calibrate(*sorted(normal.iterdir())[:5]))
    assert (
        "warning: the threshold is the highest score, which 17 % of normal clips exceed on average; 10 % needs 9" in out
    )
    soundfile.write(normal / "silent.wav", np.zeros(16000), 16000)
    assert f"warning: {normal}/silent.wav scores " in succeed(call_calibrate(normal))
    before = record_of(workplace)
    for name in ("a.wav", "b.wav"):
        (normal / name).write_text("not audio")
    error = error_of(call_calibrate(normal))
    assert error.count("cannot be read as audio") == 2
    assert "2 of 27 clips cannot be scored; nothing was written" in error
    assert record_of(workplace) == before


def test_training_reports_alarms_among_its_clips_and_warns_of_too_few(workplace):
    output = (workplace / "output").read_text()
    assert "warning: 6 training clips are too few for a meaningful threshold" in output
    assert "warning: 2 target clips are too few for a meaningful threshold" in output
    for name in ("MSE", "MAHALA"):
        scorer = Scorer(network_path(workplace), score=name)
        clips = [scorer(clip) for clip in machine_folder(workplace / "data").glob("train/*")]
        above = f"{sum(clip.decision for clip in clips)} of 6 training clips are above"
        assert f"{name}: {above} the threshold of {scorer.threshold:g}" in output
        lowest = Scorer(network_path(workplace), score=name, threshold_from="clips", decision_threshold=0.2)
        assert lowest.threshold == sorted(clip.score for clip in clips)[1]


def test_a_score_equal_to_the_threshold_is_no_alarm(succeeds, last_test, workplace, options):
    scores = {name: float(value) for name, value in results_of(workplace, "anomaly_score")}
    threshold = sorted(scores.values())[5]
    succeeds(*options, "--test_only", f"--threshold_from={threshold!r}")
    assert last_test() == (threshold, "a given number", [])
    decisions = {name: value == "1" for name, value in results_of(workplace, "decision_result")}
    assert decisions == {name: score > threshold for name, score in scores.items()}
    scorer = Scorer(network_path(workplace), threshold_from=threshold)
    scored = [scorer(clip) for clip in machine_folder(workplace / "data").glob("test/*")]
    assert (threshold, threshold, 0) in scored


def test_thresholds_that_need_a_record_and_an_exit_status_that_needs_a_threshold(
    call_command, call_train, call_calibrate, workplace, options, normal
):
    network = network_path(workplace)
    clips = [score.main, network, normal, "--exit_status"]
    succeed(call_command(*clips, "--threshold_from=1e9"))
    assert call_command(*clips, "--threshold_from=0").status == 3
    network.with_suffix(".json").unlink()
    for outcome, sentence in (
        (call_command(*clips), "has no threshold; give --threshold_from NUMBER"),
        (
            call_train(*options, "--test_only", "--threshold_from=clips"),
            "--threshold_from clips, but no record has scores of training clips; train again, or give a number",
        ),
        (call_calibrate(normal), "has no record of MSE to write to; give --threshold_from "),
    ):
        assert sentence in error_of(outcome)


def test_two_calibrations_at_once_are_both_kept(workplace, normal, monkeypatch):
    path = network_path(workplace).with_suffix(".json")
    read = trained.read_record
    record = read(path)
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
