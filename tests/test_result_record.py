"""The origin of results: the record of a test, and how 03_summarize_results.sh uses it."""

import json
from itertools import product

import pandas as pd
from reports import LABELLED, run_of, write_own, write_test_record, write_values
from synthetic import error_of, succeed, write_network_record

from runtime.files import sha256_of
from tools.results import __main__ as summary
from tools.results.result_record import network_digest, result_record_path

TRAINED = "2026-11-20 10:00:00 UTC"


def write_run(root, machine_type="fan", seed=13711, score="MSE", names=LABELLED, test=None, **record):
    """Write a network's record, results of it, and the record of their test."""
    run = run_of(root, machine_type, seed)
    content = {"date": TRAINED, "epochs": 8, "network_sha256": "aa", "scores": {score: {"gamma": {"shape": 1.0}}}}
    write_network_record(run.record, **content | {"seed": seed} | record)
    write_own(root, machine_type, seed=seed, names=names, system=f"baseline_{score}")
    write_test_record(run, score, **test or {})
    return run


def test_a_mixture_of_configurations_is_reported(summarize, tmp_path):
    """Learning rates of 0.003, 0.0003 and 0.003 were averaged without a word, over machine types and over seeds."""
    usual = {"learning_rate": 0.003, "precision": "bf16", "test": {"threshold_from": "60 training clips"}}
    usual["sources"] = {"networks/autoencoder.py": "0a", "networks/network.py": "0b"}
    usual["scores"] = {"MSE": {"sources": {"networks/scores.py": "0a"}}}
    other = {"learning_rate": 0.0003, "initial_weights": "0a", "epochs": 100, "test": {"threshold_from": "a number"}}
    other["sources"] = {"networks/autoencoder.py": "0c", "networks/network.py": "0b"}
    other["scores"] = {"MSE": {"sources": {"networks/scores.py": "0c"}}}
    for machine_type, seed in product(("fan", "valve"), (13711, 7, 8)):
        write_run(tmp_path, machine_type, seed, **(other if seed == 8 else usual))
    phrases = (
        "epochs 8, but 100 for {0}; learning_rate 0.003, but 0.0003 for {0}; precision bf16, but float32 for {0}; "
        "initial_weights null, but 0a for {0}; code differs in networks/autoencoder.py for {0}; code differs in "
        "networks/scores.py for {0}; threshold the training clips, but a number for {0}; train and test all alike\n"
    )
    out = summarize("--seeds", 13711, 7, 8).out
    assert f"\n  baseline_MSE over the seeds is a mixture: {phrases.format('seed 8')}" in out
    assert out.count("is a mixture") == 1
    write_run(tmp_path, "slider", **other)
    assert f"\n  baseline_MSE is a mixture: {phrases.format('slider section 00')}" in summarize().out


def test_runs_of_one_configuration_are_no_mixture(summarize, tmp_path):
    for machine_type, seed in product(("fan", "valve"), (13711, 7)):
        test = {"threshold_from": f"{seed} training clips"}
        write_run(tmp_path, machine_type, seed, test=test, learning_rate=0.001, clips_manifest=machine_type)
    write_run(tmp_path, score="MAHALA", epochs=100, learning_rate=0.001, clips_manifest="fan")
    out = summarize("--seeds", 13711, 7).out
    assert "the seeds do not have results of the same systems" in out
    assert "mixture" not in out


def test_a_compared_system_is_shown_with_its_origin_and_its_differences_from_ours(summarize, tmp_path):
    """A learning rate trained for 3 epochs was compared with one trained for 8 without a word."""
    write_run(tmp_path, learning_rate=0.001, clips_manifest="0a", data="0a", sources={"own.py": "0a"})
    further = {"clips_manifest": "0a", "data": "0b", "sources": {"copy.py": "0b"}, "resumed_from": [{"seed": 2}]}
    test = {"files": {"anomaly_score_DCASE2023T2fan_section_00_test_seed13711_id(0_).csv": "0a"}}
    run = write_run(tmp_path / "other", epochs=3, learning_rate=0.003, test=test, **further)
    write_values(run.decisions("MSE", 0), dict.fromkeys(LABELLED, 1))
    out = succeed(summarize("--systems", f"lr3={run.decisions('MSE', 0).parent}"))
    assert "\n  lr3: trained for 3 epochs on 2026-11-20, tested on 2026-11-21, 40 clips\n" in out
    differences = (
        "epochs 8, but 3 for lr3; learning_rate 0.001, but 0.003 for lr3; initial_weights null, but those of seed 2 "
        "for lr3; training features differ for lr3; code differs in own.py for lr3; code differs in copy.py for lr3"
    )
    assert f"\n  lr3 and baseline_MSE differ: {differences}\n" in out
    assert "\n  lr3, fan section 00: anomaly_score_DCASE2023T2fan_section_00_test_seed13711_id(0_).csv changed " in out
    assert "all clips are on one side of the threshold: lr3; tools.calibrate or --threshold_from sets another\n" in out


def test_seeds_on_other_clips_or_sections_are_reported(summarize, tmp_path):
    for seed, score in product((13711, 7), ("MSE", "MAHALA")):
        write_run(tmp_path, seed=seed, score=score, clips_manifest="0a")
    assert "differences paired by seed" in summarize("--seeds", 13711, 7).out
    write_run(tmp_path, "valve", 7, "MAHALA", clips_manifest="0a")
    different = "not compared (different sections with seed 7): baseline_MAHALA and baseline_MSE\n"
    assert different in summarize("--seeds", 13711, 7).out
    names = [name.replace(".wav", "_a.wav") for name in LABELLED]
    write_run(tmp_path, seed=7, names=names, clips_manifest="0b")
    out = summarize("--seeds", 13711, 7).out
    phrases = "training clips differ for seed 7; test clips differ for seed 7"
    assert f"baseline_MSE over the seeds is a mixture: {phrases};" in out
    assert "seed 7: no official score of baseline_MAHALA: fan section 00 has 40 of 80 clips; test again\n" in out


def test_dates_epochs_clips_and_decisions_are_shown(summarize, tmp_path, table):
    run = write_run(tmp_path)
    out = succeed(summarize())
    assert "development set: baseline, seed 13711" in out
    assert "baseline_MSE: trained for 8 epochs on 2026-11-20, tested on 2026-11-21, 40 clips\n" in out
    assert "test again" not in out
    decided = pd.read_csv(run.decisions("MSE", 0), header=None, index_col=0)[1]
    n_alarms, n_hits = (decided.filter(like=kind).sum() for kind in ("source_test_normal", "anomaly"))
    assert "false alarms (source)" in out and f"{n_alarms} of 10" in out
    decisions = table("decisions").set_index("domain")
    assert (decisions["false alarms"]["source"], decisions["hits"]["all"]) == (n_alarms, n_hits)


def test_stale_and_changed_results_are_reported_for_their_own_sections(summarize, tmp_path):
    run, valve = write_run(tmp_path), write_run(tmp_path, "valve", score="MAHALA")
    files = run.anomaly_scores("MSE", 0), run.decisions("MSE", 0)
    digests = {path.name: sha256_of(path) for path in files}
    write_test_record(run, network=network_digest(run, "MSE"), files=digests)
    content = json.loads(run.record.read_text())
    content["scores"]["MAHALA"] = {"gamma": {"shape": 2.0}}
    write_network_record(run.record, **content)
    assert "test again" not in summarize().out  # only another score was fitted
    write_network_record(run.record, **content | {"network_sha256": "cc"})
    write_test_record(valve, "MAHALA", network="ee")
    lines = [line.strip() for line in summarize().out.splitlines() if "the network was trained again" in line]
    sections = [line.partition(":")[0] for line in lines]
    assert sections == ["baseline_MAHALA, valve section 00", "baseline_MSE, fan section 00"]
    write_own(tmp_path, "fan", names=LABELLED[::-1])
    assert f"{', '.join(digests)} changed since the test; test again\n" in summarize().out
    out = summarize("--model_directory", "elsewhere").out
    assert "the results of baseline_MAHALA, baseline_MSE are not checked against their networks" in out


def test_systems_of_an_extension_are_shown_with_their_options_and_reported_without_it(summarize, tmp_path):
    """Only the last section's options were ever seen: a mixture looked like one system."""
    for machine_type, n in (("fan", 8), ("valve", 16)):
        write_run(tmp_path, machine_type, score="WORST", test={"options": {"heads": "4", "n_worst": str(n)}})
    write_own(tmp_path, "fan")
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
    out = summarize("--extension", tmp_path / "worst.py").out
    line = next(line for line in out.splitlines() if line.startswith("  baseline_WORST: trained for 8 epochs"))
    assert line.endswith(", heads 4, n_worst 8 or 16")
    assert "baseline_WORST is a mixture: n_worst 8, but 16 for valve section 00; train and test all alike\n" in out
    assert "not shown" not in out


def test_results_without_records_are_accepted(summarize, tmp_path):
    run = run_of(tmp_path)
    folder = write_own(tmp_path, "fan")
    assert "the results of baseline_MSE have no test record" in succeed(summarize())
    write_test_record(run)
    assert "baseline_MSE: no record of a training, tested on" in summarize().out
    record = result_record_path(run.anomaly_scores("MSE", 0))
    record.write_text("{}")
    assert "is not the record of a test" in error_of(summarize())
    record.unlink()
    for path in folder.glob("[ad]*.csv"):  # scores and decisions
        path.unlink()
    outcome = summarize("--report")
    assert "there is no report, since there are no scores" in error_of(outcome) and "tables: " in outcome.out


def test_the_challenge_may_be_given_as_to_the_other_scripts(call_command, tmp_path):
    write_own(tmp_path, "fan")
    words = ["-d", "--result_directory", tmp_path / "results"]
    succeed(call_command(summary.main, "--challenge", "DCASE2023T2", *words))
    assert call_command(summary.main, *words).status == 2
    outcome = call_command(summary.main, "DCASE2023T2", *words, "--seeds", "1,2")
    assert outcome.status == 2
    assert "'1,2' is not allowed; it takes whole numbers from 0, separated by spaces" in outcome.err


def test_tables_of_another_seed_leave_those_of_the_default_seed(summarize, tmp_path):
    write_own(tmp_path, "fan")
    for words, script in ((("--seed", 7), "02a_test.sh"), (("--seeds", 13711, 7), "01_train.sh")):
        assert f"(there are results of seed 13711); run {script}" in error_of(summarize(*words))
    write_own(tmp_path, "fan", seed=7)
    succeed(summarize())
    before = {path: path.read_bytes() for path in tmp_path.rglob("summarize/*/*.csv")}
    succeed(summarize("--seeds", 7, 13711))
    assert {path: path.read_bytes() for path in before} == before
    after = {path.name for path in tmp_path.rglob("summarize/*/*.csv")}
    assert {"DCASE2023T2_seed7_auc_pauc.csv", "DCASE2023T2_seeds_7_13711.csv"} <= after
