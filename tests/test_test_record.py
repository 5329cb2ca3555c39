"""The origin of results: the record of a test, and how 03_summarize_results.sh uses it."""

import json
import os
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
from matplotlib.text import Text
from synthetic import make_settings, write_network_record
from test_comparison import LABELLED, write_own, write_scores
from tools.results.test_record import make_test_record, read_test_record, result_record_path, write_test_record

from networks.names import Experiment, Run
from runtime.files import sha256_of
from tools.results import __main__ as summary
from tools.results.files import read_section, write_result_table
from tools.results.metrics import result_columns
from tools.results.plots import ScoreGroup, draw_scores, score_title


@pytest.fixture
def summarize(call_command, tmp_path):
    """Return a function that calls 03 on what is below tmp_path."""
    places = [w for kind in ("result", "model", "log") for w in (f"--{kind}_directory", tmp_path / f"{kind}s")]
    return partial(call_command, summary.main, "DCASE2023T2", "-d", *places)


@pytest.fixture
def tested(tmp_path):
    """Write a network's record, results and the test's record; return the run and how to write that again."""
    write_own(tmp_path / "results", ["fan"], 13711)
    places = [tmp_path / f"{kind}s" for kind in ("result", "model", "log")]
    run = Experiment(*places, "baseline", "DCASE2023T2-AE", "log_mel", 13711, False).run("DCASE2023T2", "fan", 0)
    run.network.parent.mkdir(parents=True)
    run.network.write_bytes(b"weights")
    _write_network_record(run, "aa", epochs=8)

    def write(labelled=True, max_fpr=0.1):
        settings = make_settings(score="MSE", max_fpr=max_fpr)
        paths = (run.anomaly_scores("MSE", 0), run.decisions("MSE", 0))
        files = {path.name: sha256_of(path) for path in paths}
        record = make_test_record(run, settings, {0: LABELLED}, labelled, 1.5, files)
        with result_record_path(run, "MSE").open("w") as file:
            write_test_record(file, record)

    write()
    return run, write


def _write_network_record(run, digest, epochs, **further):
    scores = {"MSE": {"gamma": {"shape": 1.0}, "state_sha256": None}}
    content = {"date": "2026-11-20 10:00:00 UTC", "epochs": epochs, "network_sha256": digest}
    write_network_record(run.record, **{**content, "scores": scores, **further})


def _write_run(tested, machine_type="fan", seed=13711, score="MSE", test=None, names=LABELLED, **record):
    """Write results of another run than the tested one, its network's record and its test's."""
    run, _ = tested
    other = Run(replace(run.experiment, seed=seed), f"DCASE2023T2{machine_type}", run.tag)
    files = other.anomaly_scores(score, 0), other.decisions(score, 0)
    write_scores(files[0].parent, machine_type, seed, names, [path.name for path in files])
    _write_network_record(other, "aa", **{"epochs": 8, "seed": seed, **record})
    content = replace(read_test_record(run, "MSE"), run=other.name, score=score, network=None, files={}, **(test or {}))
    with result_record_path(other, score).open("w") as file:
        write_test_record(file, content)


MIXED = {
    "parameter": ({"learning_rate": 0.003}, {"learning_rate": 0.0003}, "learning_rate 0.003, but 0.0003 for {}"),
    "parameter since absent": ({"precision": "bf16"}, {}, "precision bf16, but float32 for {}"),
    "weights": ({}, {"initial_weights": "0a"}, "initial_weights null, but given for {}"),
    "code": (
        {"sources": {"networks/autoencoder.py": "0a", "networks/network.py": "0b"}},
        {"sources": {"networks/autoencoder.py": "0c", "networks/network.py": "0b"}},
        "code differs in networks/autoencoder.py for {}",
    ),
    "code of the score": (
        {"scores": {"MSE": {"sources": {"networks/scores.py": "0a"}}}},
        {"scores": {"MSE": {"sources": {"networks/scores.py": "0b"}}}},
        "code differs in networks/scores.py for {}",
    ),
}


@pytest.mark.parametrize("usual, other, phrase", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("over", ["machine types", "seeds"])
def test_a_mixture_of_configurations_is_reported(summarize, tested, over, usual, other, phrase):
    """Learning rates of 0.003, 0.0003 and 0.003 were averaged without a word, over machine types and over seeds."""
    _write_network_record(tested[0], "aa", **{"epochs": 8, **usual})
    if over == "seeds":
        _write_run(tested, seed=7, **usual)
        _write_run(tested, seed=8, **other)
        _, out, _ = summarize("--seeds", 13711, 7, 8)
        assert f"\n  baseline_MSE over the seeds is a mixture: {phrase.format('seed 8')}; train and test all" in out
    else:
        _write_run(tested, "valve", **usual)
        _write_run(tested, "slider", **other)
        _, out, _ = summarize()
        assert f"\n  baseline_MSE is a mixture: {phrase.format('slider section 00')}; train and test all alike\n" in out
    assert out.count("is a mixture") == 1


def test_runs_of_one_configuration_are_no_mixture(summarize, tested):
    for seed in (13711, 7):
        for machine_type in ("fan", "valve"):
            _write_run(tested, machine_type, seed, learning_rate=0.001, clips_manifest=machine_type)
    assert "mixture" not in summarize("--seeds", 13711, 7).out


def test_thresholds_from_several_sources_are_reported(summarize, tested):
    """F1 scores of calibrated machine types were averaged with those of others."""
    source = "the calibration for 5 % false alarms on {} normal clips"
    _write_run(tested, test={"threshold_from": source.format(57)})
    _write_run(tested, "valve", test={"threshold_from": source.format(60)})
    assert "mixture" not in summarize().out
    _write_run(tested, "slider", test={"threshold_from": "a given number"})
    text = (
        "is a mixture: threshold the calibration for 5 % false alarms on the normal clips, but a given number for sli"
    )
    assert text in summarize().out


def test_seeds_on_other_clips_are_reported(summarize, tested):
    _write_network_record(tested[0], "aa", 8, clips_manifest="0a")
    names = [name.replace(".wav", "_a.wav") for name in LABELLED]
    _write_run(tested, seed=7, names=names, clips_manifest="0b")
    phrases = "training clips differ for seed 7; test clips differ for seed 7"
    assert f"baseline_MSE over the seeds is a mixture: {phrases};" in summarize("--seeds", 13711, 7).out


def test_systems_of_different_epochs_are_no_mixture(summarize, tested):
    """Two systems whose epochs differ were called seeds of different epochs if one seed lacks a system."""
    _write_run(tested, seed=7)
    _write_run(tested, score="MAHALA", test={"epochs": 100})
    _, out, _ = summarize("--seeds", 13711, 7)
    assert "the seeds do not have results of the same systems" in out
    assert "mixture" not in out
    assert "different numbers of epochs" not in out


def test_what_a_later_seed_lacks_is_reported_with_its_number(summarize, tested):
    _write_run(tested, seed=7)
    _write_run(tested, seed=7, score="MAHALA", names=[name.replace(".wav", "_a.wav") for name in LABELLED])
    _write_run(tested, score="MAHALA")
    _, out, _ = summarize("--seeds", 13711, 7)
    assert "seed 7: no official score of baseline_MAHALA: fan section 00 has 40 of 80 clips; test again\n" in out


def test_seeds_of_systems_with_different_sections_are_not_subtracted(summarize, tested, tmp_path):
    for seed in (13711, 7):
        _write_run(tested, seed=seed)
        _write_run(tested, seed=seed, score="MAHALA")
    assert "differences paired by seed" in summarize("--seeds", 13711, 7).out
    _write_run(tested, "valve", seed=7, score="MAHALA")
    _, out, _ = summarize("--seeds", 13711, 7)
    assert "not compared (different sections with seed 7): baseline_MAHALA and baseline_MSE\n" in out
    table = tmp_path / "results/dev_data/baseline/summarize/DCASE2023T2/DCASE2023T2_seeds_13711_7.csv"
    assert table.is_file()


def test_a_record_is_read_as_it_was_written(tested):
    run, _ = tested
    record = read_test_record(run, "MSE")
    assert (record.n_clips, record.epochs, record.threshold, record.labelled) == (40, 8, 1.5, True)
    assert result_record_path(run, "MSE").name == "test_DCASE2023T2fan_test_seed13711_id(0_).json"
    assert read_test_record(run, "MAHALA") is None


def test_the_heading_identifies_the_experiment(summarize, tested):
    status, out, _ = summarize()
    assert status == 0
    assert "development set: baseline, seed 13711" in out
    assert "baseline_MSE: trained for 8 epochs on 2026-11-20, tested on 20" in out
    assert "40 clips" in out
    assert "test again" not in out


def test_results_of_a_network_that_was_trained_again_are_reported(summarize, tested):
    _write_network_record(tested[0], "cc", epochs=8)
    _, out, _ = summarize()
    assert "baseline_MSE, fan section 00: the network was trained again" in out


def test_each_system_is_stale_for_its_own_sections(summarize, tested):
    run, _ = tested
    _write_network_record(run, "cc", epochs=8)
    valve = Run(run.experiment, "DCASE2023T2valve", run.tag)
    write_scores(valve.anomaly_scores("MAHALA", 0).parent, "valve", 3, LABELLED, _names(valve))
    record = replace(read_test_record(run, "MSE"), network="ee", files={})
    valve.network.write_bytes(b"other weights")
    with result_record_path(valve, "MAHALA").open("w") as file:
        write_test_record(file, record)
    lines = [line.strip() for line in summarize()[1].splitlines() if "the network was trained again" in line]
    assert [line.partition(":")[0] for line in lines] == [
        "baseline_MAHALA, valve section 00",
        "baseline_MSE, fan section 00",
    ]


def test_sections_tested_with_different_options_are_reported(summarize, tested, tmp_path):
    """Only the last section's options were ever seen: a mixture looked like one system."""
    run, _ = tested
    for machine_type, n in (("fan", 8), ("valve", 16)):
        other = Run(run.experiment, f"DCASE2023T2{machine_type}", run.tag)
        write_scores(other.anomaly_scores("WORST", 0).parent, machine_type, 3, LABELLED, _worst(other))
        record = replace(read_test_record(run, "MSE"), run=other.name, score="WORST", network=None, files={})
        with result_record_path(other, "WORST").open("w") as file:
            write_test_record(file, replace(record, options={"n_worst": str(n)}))
    _, out, _ = summarize()
    assert "not shown without --extension: baseline_WORST\n" in out
    (tmp_path / "worst.py").write_text(
        "from common import SCORES, Parameter, integer\nfrom networks.scores import Score\n\n\n"
        "@SCORES.register\nclass Worst(Score):\n    name, unit, description = 'WORST', 'dB', 'x'\n"
        "    options = (Parameter('n_worst', integer(1), 'vectors', default=8),)\n"
        "    def of_clip(self, clip):\n        return 0\n"
    )
    _, out, _ = summarize("--extension", tmp_path / "worst.py")
    assert ", n_worst 8 or 16\n" in out
    assert "baseline_WORST is a mixture: n_worst 8, but 16 for valve section 00; train and test all alike\n" in out
    assert "not shown" not in out


def _worst(run):
    return run.anomaly_scores("WORST", 0).name, run.decisions("WORST", 0).name


def test_seeds_with_results_are_listed(summarize, tested):
    _, _, err = summarize("--seed", 7)
    assert "with seed 7 in " in err
    assert "(there are results of seed 13711); run 02a_test.sh" in err
    _, _, err = summarize("--seeds", 13711, 7)
    assert "(there are results of seed 13711); run 01_train.sh" in err


def test_a_network_without_a_record_is_reported_as_trained_elsewhere(summarize, tested):
    run, write = tested
    run.record.unlink()
    write()
    assert "baseline_MSE: trained elsewhere (no record), tested on" in summarize()[1]


def test_removed_decisions_are_reported_as_such(summarize, tested):
    run, _ = tested
    assert summarize()[0] == 0
    metrics = read_section([(run.anomaly_scores("MSE", 0), run.decisions("MSE", 0))]).metrics(0.1)
    with run.result_table("MSE").open("w") as file:
        write_result_table(file, {0: {name: metrics[name] for name in result_columns(metrics)}})
    run.decisions("MSE", 0).unlink()
    _, out, _ = summarize()
    assert "baseline_MSE: no decisions beside the scores of fan section 00" in out
    assert "differs from the scores beside it" not in out


def test_max_fpr_does_not_apply_to_result_tables_alone(summarize, tested):
    run, _ = tested
    for path in (run.anomaly_scores("MSE", 0), run.decisions("MSE", 0), result_record_path(run, "MSE")):
        path.unlink()
    said = "does not apply to baseline_MSE: there are result tables without score files"
    assert said not in summarize()[1]
    assert f"max_fpr 0.2 {said}" in summarize("--max_fpr", 0.2)[1]
    status, out, err = summarize("--report")
    assert status == 1
    assert "tables: " in out
    assert "there is no report, since there are no scores" in err


def test_the_challenge_may_be_given_as_to_the_other_scripts(call_command, tested, tmp_path):
    words = ["-d", "--result_directory", tmp_path / "results"]
    assert call_command(summary.main, "--challenge", "DCASE2023T2", *words)[0] == 0
    assert call_command(summary.main, *words)[0] == 2
    status, _, err = call_command(summary.main, "DCASE2023T2", *words, "--seeds", "1,2")
    assert status == 2
    assert "'1,2' is not allowed; it takes whole numbers from 0, separated by spaces" in err


def test_results_are_not_stale_when_only_another_score_was_fitted(summarize, tested):
    run, _ = tested
    content = json.loads(run.record.read_text())
    content["scores"]["MAHALA"] = {"gamma": {"shape": 2.0}, "state_sha256": None}
    write_network_record(run.record, **content)
    assert "test again" not in summarize()[1]


def test_changed_scores_are_reported(summarize, tested):
    run, _ = tested
    write_scores(run.anomaly_scores("MSE", 0).parent, "fan", 99, LABELLED, _names(run))
    assert "changed since the test" in summarize()[1]


def _names(run):
    return run.anomaly_scores("MSE", 0).name, run.decisions("MSE", 0).name


def test_a_lone_result_table_with_another_max_fpr_is_reported(summarize, tested):
    run, write = tested
    write(max_fpr=0.5)
    run.anomaly_scores("MSE", 0).unlink()
    _, out, _ = summarize()
    assert "its pAUC is up to max_fpr 0.5 instead of 0.1" in out


def test_a_result_table_that_differs_from_its_scores_is_not_used(summarize, tested, tmp_path):
    _, out, _ = summarize()  # write_own() wrote 0.5 for every area
    assert "the result table of fan section 00 differs from the scores beside it" in out
    table = pd.read_csv(tmp_path / "results/dev_data/baseline/summarize/DCASE2023T2/DCASE2023T2_auc_pauc.csv")
    assert table["TOTAL_score_hmean"][0] != 0.5


def test_a_result_table_beside_unlabelled_scores_is_not_used(summarize, tested):
    run, _ = tested
    unlabelled = [f"section_00_{i:04d}.wav" for i in range(len(LABELLED))]
    write_scores(run.anomaly_scores("MSE", 0).parent, "fan", 1, unlabelled, _names(run))
    status, out, err = summarize()
    assert status == 1
    assert "50.00" not in out
    assert "have scores, but no labels" in err


def test_a_report_of_an_older_test_is_reported(summarize, tested):
    run, _ = tested
    report = run.experiment.report("DCASE2023T2")
    report.parent.mkdir(parents=True)
    report.touch()
    assert "update it with --report" not in summarize()[1]
    os.utime(report, (1.6e9, 1.6e9))
    older = f"{report} (2020-09-13 12:26 UTC) is older than these tables; update it with --report"
    assert older in summarize()[1]
    other = replace(run.experiment, seed=7)
    assert other.report("DCASE2023T2").name == "report_seed7.html"


def test_results_without_a_record_are_accepted(summarize, tested):
    result_record_path(tested[0], "MSE").unlink()
    status, out, _ = summarize()
    assert status == 0
    assert "the results of baseline_MSE have no test record" in out


def test_a_broken_record_is_reported(summarize, tested):
    result_record_path(tested[0], "MSE").write_text("{}")
    status, _, err = summarize()
    assert status == 1
    assert "is not the record of a test" in err


def test_tables_of_another_seed_leave_those_of_the_default_seed(summarize, tested, tmp_path):
    write_own(tmp_path / "results", ["fan"], 7)
    folder = tmp_path / "results/dev_data/baseline/summarize/DCASE2023T2"
    assert summarize()[0] == 0
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    assert summarize("--seeds", 7, 13711)[0] == 0
    after = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    assert {name: after[name] for name in before} == before
    assert {"DCASE2023T2_seed7_auc_pauc.csv", "DCASE2023T2_seeds_7_13711.csv"} <= set(after)


def test_seeds_trained_for_different_epochs_are_reported(summarize, tested, tmp_path):
    run, _ = tested
    write_own(tmp_path / "results", ["fan"], 7)
    other = replace(run, experiment=replace(run.experiment, seed=7))
    record = replace(read_test_record(run, "MSE"), epochs=100, files={}, network=None)
    with result_record_path(other, "MSE").open("w") as file:
        write_test_record(file, record)
    _, out, _ = summarize("--seeds", 7, 13711)
    assert (
        "baseline_MSE over the seeds is a mixture: epochs 100, but 8 for seed 13711; train and test all alike\n" in out
    )


def test_false_alarms_and_hits_are_counted(summarize, tested, tmp_path):
    status, out, _ = summarize()
    assert status == 0
    rows = pd.read_csv(tmp_path / "results/dev_data/baseline_MSE" / tested[0].decisions("MSE", 0).name, header=None)
    chosen = rows[0].str.contains("_source_test_normal")
    text = f"{rows[1][chosen].sum()} of {chosen.sum()}"
    assert "false alarms (source)" in out
    assert text in out
    table = pd.read_csv(
        tmp_path / "results/dev_data/baseline/summarize/DCASE2023T2/DCASE2023T2_decisions.csv"
    ).set_index("domain")
    assert table["false alarms"]["source"] == rows[1][chosen].sum()
    assert table["hits"]["all"] == rows[1][rows[0].str.contains("anomaly")].sum()


def test_names_in_pictures_are_shown_as_they_are():
    title = score_title("my$pump$", [0], "KNN", -1.5)
    assert title == "my$pump$, section 00: KNN, threshold −1.5"
    for label in ("normal", None):
        figure = draw_scores([ScoreGroup(0, None, label, [1.0, 2.0, 3.0])], -1.5, title, "a$b$")
        (shown,) = figure.findobj(lambda part: isinstance(part, Text) and part.get_text() == title)
        assert not shown.get_parse_math()


def test_unlabelled_scores_are_a_histogram():
    figure = draw_scores([ScoreGroup(0, None, None, [1.0, 2.0, 3.0])], None, "fan", "dB²")
    axes = figure.axes[0]
    assert axes.get_ylabel() == "clips"
    assert sum(bars.get_data().values.sum() for bars in axes.patches) == 3
