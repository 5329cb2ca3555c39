"""The origin of results: the record of a test, and how 03_summarize_results.sh uses it."""

import json
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
from matplotlib.text import Text
from synthetic import make_settings, write_network_record
from test_systems import LABELLED, write_own, write_scores

from networks.names import Experiment, Run
from runtime.files import sha256_of
from tools.results import __main__ as summary
from tools.results.plots import draw_scores, score_title
from tools.results.result_record import (
    make_result_record,
    read_result_record,
    result_record_path,
    write_result_record,
)


@pytest.fixture
def summarize(call_command, tmp_path):
    """Return a function that calls 03 on what is below tmp_path."""
    places = [w for kind in ("result", "model", "log") for w in (f"--{kind}_directory", tmp_path / f"{kind}s")]
    return partial(call_command, summary.main, "DCASE2023T2", "-d", *places)


@pytest.fixture
def tested(tmp_path):
    """Write a network's record, results and the test's record; return the run."""
    write_own(tmp_path / "results", ["fan"])
    places = [tmp_path / f"{kind}s" for kind in ("result", "model", "log")]
    run = Experiment(*places, "baseline", "DCASE2023T2-AE", "log_mel", 13711, False).run("DCASE2023T2", "fan", 0)
    run.network.parent.mkdir(parents=True)
    run.network.write_bytes(b"weights")
    _write_network_record(run)
    files = {path.name: sha256_of(path) for path in (run.anomaly_scores("MSE", 0), run.decisions("MSE", 0))}
    settings = make_settings(score="MSE")
    _write(run, make_result_record(run, settings, {0: LABELLED}, labelled=True, threshold=1.5, files=files))
    return run


def _write(run, record, score="MSE"):
    with result_record_path(run, score).open("w") as file:
        write_result_record(file, record)


def _write_network_record(run, digest="aa", **further):
    scores = {"MSE": {"gamma": {"shape": 1.0}, "state_sha256": None}}
    content = {"date": "2026-11-20 10:00:00 UTC", "epochs": 8, "network_sha256": digest, "scores": scores}
    write_network_record(run.record, **{**content, **further})


def _write_run(run, machine_type="fan", seed=13711, score="MSE", test=None, names=LABELLED, **record):
    """Write results of another run than the tested one, its network's record and its test's."""
    other = Run(replace(run.experiment, seed=seed), f"DCASE2023T2{machine_type}", run.tag)
    files = other.anomaly_scores(score, 0), other.decisions(score, 0)
    write_scores(files[0].parent, machine_type, seed, names, [path.name for path in files])
    _write_network_record(other, **{"seed": seed, **record})
    content = replace(read_result_record(run, "MSE"), run=other.name, score=score, network=None, files={})
    _write(other, replace(content, **(test or {})), score)


MIXED = {
    "parameter": ({"learning_rate": 0.003}, {"learning_rate": 0.0003}, "learning_rate 0.003, but 0.0003 for {}"),
    "parameter since absent": ({"precision": "bf16"}, {}, "precision bf16, but float32 for {}"),
    "weights": ({}, {"initial_weights": "0a"}, "initial_weights null, but given for {}"),
    "epochs": ({}, {"test": {"epochs": 100}}, "epochs 8, but 100 for {}"),
    "threshold": ({}, {"test": {"threshold_from": "a number"}}, "threshold the training clips, but a number for {}"),
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
def test_a_mixture_of_configurations_is_reported(summarize, tested, usual, other, phrase):
    """Learning rates of 0.003, 0.0003 and 0.003 were averaged without a word, over machine types and over seeds."""
    if "threshold" in phrase:
        _write_run(tested, test={"threshold_from": "57 training clips"})
        usual = {"test": {"threshold_from": "60 training clips"}}
    else:
        _write_run(tested, **usual)
    _write_run(tested, "valve", **usual)
    for machine_type in ("fan", "valve"):
        _write_run(tested, machine_type, 7, **usual)
        _write_run(tested, machine_type, 8, **other)
    _, out, _ = summarize("--seeds", 13711, 7, 8)
    assert f"\n  baseline_MSE over the seeds is a mixture: {phrase.format('seed 8')}; train and test all" in out
    assert out.count("is a mixture") == 1
    _write_run(tested, "slider", **other)
    _, out, _ = summarize()
    assert f"\n  baseline_MSE is a mixture: {phrase.format('slider section 00')}; train and test all alike\n" in out


def test_runs_of_one_configuration_are_no_mixture(summarize, tested):
    for seed in (13711, 7):
        for machine_type in ("fan", "valve"):
            _write_run(tested, machine_type, seed, learning_rate=0.001, clips_manifest=machine_type)
    _write_run(tested, score="MAHALA", test={"epochs": 100})
    _, out, _ = summarize("--seeds", 13711, 7)
    assert "the seeds do not have results of the same systems" in out
    assert "mixture" not in out


def test_seeds_on_other_clips_are_reported(summarize, tested):
    names = [name.replace(".wav", "_a.wav") for name in LABELLED]
    _write_run(tested, seed=7, names=names, clips_manifest="0b")
    for seed, digest in ((13711, "0a"), (7, "0b")):
        _write_run(tested, seed=seed, score="MAHALA", clips_manifest=digest)
    _, out, _ = summarize("--seeds", 13711, 7)
    phrases = "training clips differ for seed 7; test clips differ for seed 7"
    assert f"baseline_MSE over the seeds is a mixture: {phrases};" in out
    assert "seed 7: no official score of baseline_MAHALA: fan section 00 has 40 of 80 clips; test again\n" in out


def test_seeds_of_systems_with_different_sections_are_not_subtracted(summarize, tested):
    for seed in (13711, 7):
        _write_run(tested, seed=seed)
        _write_run(tested, seed=seed, score="MAHALA")
    assert "differences paired by seed" in summarize("--seeds", 13711, 7).out
    _write_run(tested, "valve", seed=7, score="MAHALA")
    _, out, _ = summarize("--seeds", 13711, 7)
    assert "not compared (different sections with seed 7): baseline_MAHALA and baseline_MSE\n" in out


def test_the_record_is_beside_the_results_and_the_heading_has_it(summarize, tested, tmp_path):
    record = read_result_record(tested, "MSE")
    assert (record.n_clips, record.epochs, record.threshold, record.labelled) == (40, 8, 1.5, True)
    assert result_record_path(tested, "MSE").name == "test_DCASE2023T2fan_test_seed13711_id(0_).json"
    assert read_result_record(tested, "MAHALA") is None
    status, out, _ = summarize()
    assert status == 0
    assert "development set: baseline, seed 13711" in out
    assert "baseline_MSE: trained for 8 epochs on 2026-11-20, tested on 20" in out
    assert "40 clips" in out
    assert "test again" not in out
    rows = pd.read_csv(tested.decisions("MSE", 0), header=None)
    chosen = rows[0].str.contains("_source_test_normal")
    assert "false alarms (source)" in out and f"{rows[1][chosen].sum()} of {chosen.sum()}" in out
    table = pd.read_csv(next((tmp_path / "results").rglob("*_decisions.csv"))).set_index("domain")
    assert table["false alarms"]["source"] == rows[1][chosen].sum()
    assert table["hits"]["all"] == rows[1][rows[0].str.contains("anomaly")].sum()


def test_stale_and_changed_results_are_reported_for_their_own_sections(summarize, tested):
    content = json.loads(tested.record.read_text())
    content["scores"]["MAHALA"] = {"gamma": {"shape": 2.0}, "state_sha256": None}
    write_network_record(tested.record, **content)
    assert "test again" not in summarize().out  # only another score was fitted
    _write_network_record(tested, "cc")
    _write_run(tested, "valve", score="MAHALA")
    valve = Run(tested.experiment, "DCASE2023T2valve", tested.tag)
    _write(valve, replace(read_result_record(valve, "MAHALA"), network="ee"), "MAHALA")
    lines = [line.strip() for line in summarize().out.splitlines() if "the network was trained again" in line]
    sections = [line.partition(":")[0] for line in lines]
    assert sections == ["baseline_MAHALA, valve section 00", "baseline_MSE, fan section 00"]
    names = [path.name for path in (tested.anomaly_scores("MSE", 0), tested.decisions("MSE", 0))]
    write_scores(tested.anomaly_scores("MSE", 0).parent, "fan", 99, LABELLED, names)
    assert f"{', '.join(names)} changed since the test; test again\n" in summarize().out
    out = summarize("--model_directory", "elsewhere").out
    assert "the results of baseline_MAHALA, baseline_MSE are not checked against their networks" in out


def test_systems_of_an_extension_are_shown_with_their_options_and_reported_without_it(summarize, tested, tmp_path):
    """Only the last section's options were ever seen: a mixture looked like one system."""
    for machine_type, n in (("fan", 8), ("valve", 16)):
        _write_run(tested, machine_type, score="WORST", test={"options": {"n_worst": str(n)}}, heads=4)
    assert "not shown without --extension: baseline_WORST\n" in summarize().out
    (tmp_path / "worst.py").write_text(
        "from common import NETWORKS, SCORES, Parameter, integer\nfrom networks.scores import Score\n"
        "from networks.autoencoder import AutoEncoder\n\n\n"
        "@SCORES.register\nclass Worst(Score):\n    name, unit, description = 'WORST', 'dB', 'x'\n"
        "    options = (Parameter('n_worst', integer(1), 'vectors', default=8),)\n"
        "    def of_clip(self, clip):\n        return 0\n\n\n"
        "@NETWORKS.register\nclass Heads(AutoEncoder):\n    name, description = 'HEADS', 'x'\n"
        "    options = (Parameter('heads', integer(1), 'heads', default=2),)\n"
    )
    _, out, _ = summarize("--extension", tmp_path / "worst.py")
    line = next(line for line in out.splitlines() if line.startswith("  baseline_WORST: trained for 8 epochs"))
    assert line.endswith(", heads 4, n_worst 8 or 16")
    assert "baseline_WORST is a mixture: n_worst 8, but 16 for valve section 00; train and test all alike\n" in out
    assert "not shown" not in out


def test_seeds_with_results_are_listed(summarize, tested):
    for words, script in ((("--seed", 7), "02a_test.sh"), (("--seeds", 13711, 7), "01_train.sh")):
        assert f"(there are results of seed 13711); run {script}" in summarize(*words).err


def test_results_without_records_are_accepted(summarize, tested):
    tested.record.unlink()
    record = replace(read_result_record(tested, "MSE"), trained=None, epochs=None, network=None)
    _write(tested, record)
    assert "baseline_MSE: trained elsewhere (no record), tested on" in summarize().out
    result_record_path(tested, "MSE").write_text("{}")
    status, _, err = summarize()
    assert (status, "is not the record of a test" in err) == (1, True)
    result_record_path(tested, "MSE").unlink()
    status, out, _ = summarize()
    assert (status, "the results of baseline_MSE have no test record" in out) == (0, True)
    for path in (tested.anomaly_scores("MSE", 0), tested.decisions("MSE", 0)):
        path.unlink()
    status, out, err = summarize("--report")
    assert (status, "tables: " in out, "there is no report, since there are no scores" in err) == (1, True, True)


def test_the_challenge_may_be_given_as_to_the_other_scripts(call_command, tested, tmp_path):
    words = ["-d", "--result_directory", tmp_path / "results"]
    assert call_command(summary.main, "--challenge", "DCASE2023T2", *words)[0] == 0
    assert call_command(summary.main, *words)[0] == 2
    status, _, err = call_command(summary.main, "DCASE2023T2", *words, "--seeds", "1,2")
    assert status == 2
    assert "'1,2' is not allowed; it takes whole numbers from 0, separated by spaces" in err


def test_tables_of_another_seed_leave_those_of_the_default_seed(summarize, tested, tmp_path):
    write_own(tmp_path / "results", ["fan"], 7)
    folder = tmp_path / "results/dev_data/baseline/summarize/DCASE2023T2"
    assert summarize()[0] == 0
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    assert summarize("--seeds", 7, 13711)[0] == 0
    after = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    assert {name: after[name] for name in before} == before
    assert {"DCASE2023T2_seed7_auc_pauc.csv", "DCASE2023T2_seeds_7_13711.csv"} <= set(after)


def test_names_in_pictures_are_shown_as_they_are():
    title = score_title("my$pump$", [0], "KNN", -1.5)
    assert title == "my$pump$, section 00: KNN, threshold −1.5"
    for label in ("normal", None):
        figure = draw_scores([(0, None, label, score) for score in (1.0, 2.0, 3.0)], -1.5, title, "a$b$")
        (shown,) = figure.findobj(lambda part: isinstance(part, Text) and part.get_text() == title)
        assert not shown.get_parse_math()
    assert figure.axes[0].get_ylabel() == "clips"  # unlabelled scores are a histogram
