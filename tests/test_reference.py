"""Coming from the reference: its form of baseline.yaml, its options and files, and fine-tuning from a network."""

import json
import shlex
from pathlib import Path

from common import InputError

import numpy as np
import pytest
import soundfile
import torch
from synthetic import checkpoint_path, machine_folder, make_settings, network_path, rows

import tools.jobs
import tools.results.__main__ as summary
import train
from networks.autoencoder import AutoEncoder

CALL = ("--dataset", "DCASE2023T2fan", "-d", "-tag", "id(0_)", "--use_ids", "0")


# --- parameters in a file of the user's -------------------------------------------------------------------------------


def test_the_command_line_overrides_the_config_and_the_config_overrides_baseline_yaml(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("--epochs: 5\n-lr: 0.25\nbatch_size: 32\nresult_directory: out\nseed: 7\n")
    settings = train.parse_arguments([*CALL, "--config", str(config), "--epochs", "6"])
    assert (settings.epochs, settings.learning_rate, settings.batch_size, settings.frames) == (6, 0.25, 32, 5)
    assert settings.result_directory == tmp_path / "out"  # relative to the file
    assert settings.given & {"epochs", "learning_rate", "seed"} == {"epochs"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("--epoch: 5", "; did you mean epochs?"),
        ("learning_rate: 1\n-lr: 1", "key 'learning_rate' appears more than once"),
        ("--epochs: 0", "epochs: '0' is not allowed; it takes a whole number from 1"),
        ("epochs", "it holds no `key: value` lines"),
    ],
)
def test_a_mistake_in_the_config_is_reported(tmp_path, text, sentence):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        train.parse_arguments([*CALL, "--config", str(tmp_path / "mine.yaml")])
    assert str(tmp_path / "mine.yaml") in str(error.value)
    assert sentence in str(error.value)


def test_a_baseline_yaml_in_the_current_folder_is_reported_as_not_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "baseline.yaml").write_text("--epochs: 5\n")
    monkeypatch.chdir(tmp_path)
    assert train.parse_arguments(CALL).epochs == 100
    assert (
        f"note: {tmp_path / 'baseline.yaml'} is not read; give it with --config baseline.yaml"
        in capsys.readouterr().err
    )
    assert train.parse_arguments([*CALL, "--config", "baseline.yaml"]).epochs == 5
    assert capsys.readouterr().err == ""


def test_the_scripts_pass_the_config_to_each_job(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("epochs: 5\n")
    words = ["-d", "fan", "--config", str(tmp_path / "mine.yaml"), "--initial_weights", "/a.pth", "--dry_run"]
    words += ["--log_directory", str(tmp_path)]
    assert tools.jobs.main(["01_train.sh", "train", *words]) == 0
    job = shlex.split(capsys.readouterr().out)
    (copy,) = tmp_path.glob("baseline/parameters/*/mine.yaml")
    assert copy.read_text().splitlines()[1:] == ["epochs: '5'"]
    assert f"--config={copy}" in job
    assert job[-1] == "--initial_weights=/a.pth"


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (("--gpu_id", "2", "3"), "gpu_id", 2),
        (("--gpu_id", "2"), "gpu_id", 2),
        (("--shuffle", "full"), "shuffle", True),
        (("--shuffle", "simple"), "shuffle", True),
        (("--checkpoint_path", ""), "checkpoint_path", None),
        (("--use_ids",), "use_ids", []),
    ],
)
def test_values_of_the_reference_are_taken_as_it_takes_them(words, name, value):
    settings = train.parse_arguments([*CALL, *words, "--epochs", "3"])
    assert (settings.values[name], settings.epochs) == (value, 3)


def test_an_experiment_without_a_name_has_the_references_paths(call_train, call_command, workplace, options):
    words = [*options, "-tag", "id(0_)", "--use_ids", "--export_dir", ""]
    outcome = call_train(*words)
    assert outcome.status == 0
    name = "DCASE2023T2-AE_DCASE2023T2fan_id(0_)_seed13711"
    assert (workplace / f"models/saved_model/{name}.pth").is_file()
    assert (workplace / f"logs/{name}/log.csv").is_file()
    assert list((workplace / "results/dev_data/_MSE").glob("anomaly_score_*"))
    (workplace / "empty.yaml").write_text(f"export_dir:\nresult_directory: {workplace}/results\n")
    outcome = call_command(summary.main, "DCASE2023T2", "-d", "--config", workplace / "empty.yaml")
    assert outcome.status == 0, outcome.err
    assert (workplace / "results/dev_data/summarize/DCASE2023T2/DCASE2023T2_auc_pauc.csv").is_file()


def test_the_parameters_of_a_run_are_beside_its_checkpoint(workplace, trained):
    arguments = json.loads(checkpoint_path(workplace).with_name("args.json").read_text())
    assert (arguments["dataset"], arguments["epochs"], arguments["train_only"]) == ("DCASE2023T2fan", 2, False)
    assert Path(arguments["dataset_directory"]).name == "data"


# --- channels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data_set", "words", "sentence"),
    [
        ("DCASE2023T2fan", ("--mono", "False"), "--mono false, but the clips of DCASE2023T2 have 1 channel;"),
        ("DCASE2026T2fan", ("--mono", "True"), "--mono true, but the clips of DCASE2026T2 have 2 channels;"),
        ("DCASE2023T2fan", ("--channel", "1"), "has 1 channel, so there is no channel 1"),
    ],
)
def test_channels_that_the_clips_do_not_have_are_refused(call_train, options, data_set, words, sentence):
    outcome = call_train(*options, "--dataset", data_set, *words)
    assert (outcome.status, sentence in outcome.err) == (1, True)


def test_a_chosen_channel_gives_the_figures_of_clips_with_only_that_channel(call_train, workplace, options):
    for path in machine_folder(workplace / "data").rglob("*.wav"):
        samples, rate = soundfile.read(path, dtype="int16")
        both = workplace / f"data/dcase2026t2/dev_data/raw/fan/{path.parent.name}/{path.name}"
        both.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(both, np.stack([samples // 7, samples], axis=1), rate)
    assert call_train(*options, "--epochs", 1).status == 0
    words = [*options, "--dataset", "DCASE2026T2fan", "--epochs", 1]
    assert call_train(*words, "--mono", "false", "--channel", "1", "--train_only").status == 0
    outcome = call_train(*words, "--test_only")
    assert "parameters of the network's record: channel 1 (baseline.yaml: 0)\n" in outcome.out
    scores = [next((workplace / "results").rglob(f"anomaly_score_DCASE{year}T2fan_*")) for year in (2023, 2026)]
    assert scores[0].read_bytes() == scores[1].read_bytes()


# --- the reference's files, and fine-tuning ---------------------------------------------------------------------------


def test_a_checkpoint_or_pickle_of_the_reference_is_refused_with_advice(call_train, workplace, options):
    torch.save({"epoch": 2, "model_state_dict": {"a": torch.zeros(1)}, "loss": 0.5}, workplace / "checkpoint.tar")
    outcome = call_train(*options, "--checkpoint_path", workplace / "checkpoint.tar")
    assert outcome.status == 1
    assert "is not a checkpoint of this baseline; a run of the reference cannot be resumed: train again" in outcome.err
    assert "--initial_weights RUN.pth" in outcome.err
    (workplace / "score_distr_fan.pickle").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    outcome = call_train(*options, "--initial_weights", workplace / "score_distr_fan.pickle")
    assert (outcome.status, "pickles and whole models are never loaded" in outcome.err) == (1, True)


def test_training_can_start_from_a_network_and_records_it(call_train, workplace, trained):
    words = [*trained, "--train_only"]
    first, path = rows(workplace / "logs/baseline" / network_path(workplace).stem / "log.csv"), network_path(workplace)
    tuned = [*words, "--export_dir", "tuned", "--initial_weights", path, "--checkpoint_interval", "1"]
    outcome = call_train(*tuned, "--epochs", "1")
    assert f"starting from the weights of {path}\n" in outcome.out
    log = rows(workplace / "logs/tuned" / path.stem / "log.csv")
    assert float(log[1][0]) < float(first[-1][0]) < float(first[1][0])  # training continues where the network was
    record = json.loads(network_path(workplace, export_dir="tuned").with_suffix(".json").read_text())
    content = json.loads(path.with_suffix(".json").read_text())
    assert record["initial_weights"] == content["network_sha256"]
    assert record["initial_weights_file"] == str(path)
    assert "initial_weights" not in content

    without = [word for word in tuned if word not in ("--initial_weights", path)]
    outcome = call_train(*without, "--epochs", "3", "--restart")
    assert (outcome.status, "initial_weights is '" in outcome.err) == (1, True)
    assert call_train(*tuned, "--epochs", "3", "--restart").status == 0
    resumed = network_path(workplace, export_dir="tuned").read_bytes()
    assert call_train(*tuned, "--epochs", "3").status == 0
    assert network_path(workplace, export_dir="tuned").read_bytes() == resumed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--n_mels", "64"), "does not fit n_mels 64 and frames 5 (its cov_source is (128, 128), not (64, 64))"),
        (("--initial_weights", "none.pth"), "No such file or directory: "),
    ],
)
def test_initial_weights_that_do_not_fit_are_refused(call_train, workplace, options, words, sentence):

    torch.save(AutoEncoder(make_settings(), 128).state_dict(), workplace / "a.pth")
    outcome = call_train(*options, "--initial_weights", workplace / "a.pth", *words)
    assert (outcome.status, sentence in outcome.err) == (1, True)
    assert not network_path(workplace).exists()
