"""Coming from the reference: its form of baseline.yaml, its options and files, and fine-tuning from a network."""

import json

import pytest
import torch
from synthetic import (
    RUN,
    checkpoint_path,
    make_network,
    network_path,
    record_of,
    results_of,
    rows,
    succeed,
    write_two_channels,
)

import tools.results.__main__ as summary
import train

CALL = "--dataset DCASE2023T2fan -d -tag id(0_) --use_ids 0".split()


# --- parameters in a file of the user's -------------------------------------------------------------------------------


def test_the_command_line_overrides_the_config_and_the_config_overrides_baseline_yaml(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("--epochs: 5\n-lr: 0.25\nbatch_size: 32\nresult_directory: out\nseed: 7\n")
    settings = train.parse_arguments([*CALL, f"--config={config}", "--epochs=6"])
    assert (settings.epochs, settings.learning_rate, settings.batch_size, settings.frames) == (6, 0.25, 32, 5)
    assert settings.result_directory == tmp_path / "out"  # relative to the file
    assert settings.given & {"epochs", "learning_rate", "seed"} == {"epochs"}


def test_a_baseline_yaml_in_the_current_folder_is_reported_as_not_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "baseline.yaml").write_text("--epochs: 5\n")
    monkeypatch.chdir(tmp_path)
    assert train.parse_arguments(CALL).epochs == 100
    assert f"note: {tmp_path}/baseline.yaml is not read; give it " in capsys.readouterr().err
    assert train.parse_arguments([*CALL, "--config=baseline.yaml"]).epochs == 5
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--gpu_id 2 3 --shuffle full --use_ids", {"gpu_id": 2, "shuffle": True, "use_ids": []}),
        ("--gpu_id 2 --shuffle simple --checkpoint_path=", {"gpu_id": 2, "shuffle": True, "checkpoint_path": None}),
    ],
)
def test_values_of_the_reference_are_taken_as_it_takes_them(words, expected):
    assert train.parse_arguments([*CALL, *words.split(), "--epochs=3"]).values.items() >= expected.items()


def test_an_experiment_without_a_name_has_the_references_paths(succeeds, call_command, workplace, options):
    succeeds(*options, "-tag", "id(0_)", "--use_ids", "--export_dir=")
    (workplace / "empty.yaml").write_text(f"export_dir:\nresult_directory: {workplace}/results\n")
    succeed(call_command(summary.main, "DCASE2023T2", "-d", "--config", workplace / "empty.yaml"))
    name = "DCASE2023T2-AE_DCASE2023T2fan_id(0_)_seed13711"
    for path in (
        f"models/saved_model/{name}.pth",
        f"logs/{name}/log.csv",
        "results/dev_data/_MSE/result_DCASE2023T2fan_test_seed13711_id(0_)_roc.csv",
        "results/dev_data/summarize/DCASE2023T2/DCASE2023T2_auc_pauc.csv",
    ):
        assert (workplace / path).is_file()


def test_the_parameters_of_a_run_are_beside_its_checkpoint(finished_run):
    arguments = json.loads(checkpoint_path(finished_run).with_name("args.json").read_text())
    expected = {"dataset": "DCASE2023T2fan", "epochs": 2, "train_only": False}
    expected["dataset_directory"] = str(finished_run / "data")
    assert arguments.items() >= expected.items()


# --- channels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--mono=False", "--mono false, but the clips of DCASE2023T2 have 1 channel;"),
        ("--mono=True --dataset=DCASE2026T2fan", "--mono true, but the clips of DCASE2026T2 have 2 channels;"),
        ("--channel=1", "has 1 channel, so there is no channel 1"),
    ],
)
def test_channels_that_the_clips_do_not_have_are_refused(fails, options, words, sentence):
    assert sentence in fails(*options, *words.split())


def test_a_chosen_channel_gives_the_figures_of_clips_with_only_that_channel(succeeds, workplace, options):
    succeeds(*options, "--epochs=1")
    write_two_channels(workplace)
    words = [*options, "--dataset=DCASE2026T2fan", "--epochs=1", "--export_dir=both"]
    succeeds(*words, "--mono=false", "--channel=1", "--train_only")
    out = succeeds(*words, "--test_only")
    assert "parameters of the network's record: channel 1 (baseline.yaml: 0)\n" in out
    alone, chosen = (results_of(workplace, "anomaly_score", f"{name}_MSE") for name in ("baseline", "both"))
    assert alone == chosen


# --- the reference's files, and fine-tuning ---------------------------------------------------------------------------


def test_a_checkpoint_of_the_reference_is_refused_with_advice(fails, workplace, options):
    path = workplace / "checkpoint.tar"
    torch.save({"epoch": 2, "model_state_dict": {"a": torch.zeros(1)}, "loss": 0.5}, path)
    err = fails(*options, f"--checkpoint_path={path}")
    assert "is not a checkpoint of this baseline; a run of the reference cannot be resumed: train again" in err
    assert "--initial_weights RUN.pth" in err


def test_training_can_start_from_a_network_and_records_it(succeeds, fails, workplace, trained):
    path, tuned = network_path(workplace), network_path(workplace, export_dir="tuned")
    content = record_of(workplace)
    assert "initial_weights" not in content
    words = [*trained, "--train_only", "--export_dir=tuned", "--checkpoint_interval=1"]
    start = f"--initial_weights={path}"
    out = succeeds(*words, start, "--epochs=1")
    assert f"starting from the weights of {path}\n" in out
    first, log = (rows(workplace / "logs" / name / RUN / "log.csv") for name in ("baseline", "tuned"))
    assert float(log[1][0]) < float(first[-1][0]) < float(first[1][0])  # training continues where the network was
    record = json.loads(tuned.with_suffix(".json").read_text())
    assert record["initial_weights"] == content["network_sha256"]
    assert record["initial_weights_file"] == str(path)

    words.append("--epochs=3")
    assert "initial_weights is '" in fails(*words, "--restart")
    succeeds(*words, start, "--restart")
    resumed = tuned.read_bytes()
    succeeds(*words, start)
    assert tuned.read_bytes() == resumed


def test_initial_weights_that_cannot_be_used_are_refused(fails, workplace, options):
    path = workplace / "a.pth"
    words = [*options, f"--initial_weights={path}"]
    torch.save(make_network(128).state_dict(), path)
    misfit = "does not fit n_mels 64 and frames 5 (its cov_source is (128, 128), not (64, 64))"
    assert misfit in fails(*words, "--n_mels=64")
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")  # a pickle, as the reference writes for scores
    assert "pickles and whole models are never loaded" in fails(*words)
    path.unlink()
    assert "No such file or directory: " in fails(*words)
    assert not network_path(workplace).exists()
