"""Bad input: one sentence about it, the exit status, and nothing half-written."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from synthetic import error_of, machine_folder, network_path, write_clip

from tools import jobs


def files(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, except clips and complete features; half-written ones would be among them."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (path.name.endswith(".partial") or not {"raw", "processed"} & set(path.parts))
    }


@pytest.fixture
def fails(call_train, workplace):
    """Assert that a call of train.py ends with a status and one sentence with all these words, and leaves no file."""

    def check(words: list, *sentence: str, status: int = 1):
        before = files(workplace)
        outcome = call_train(*words)
        assert outcome.status == status, outcome.out
        error = outcome.err.strip().splitlines()[-1]
        assert error.startswith("error: ") if status == 1 else "error: " in error
        for part in sentence:
            assert part in error
        assert "Traceback" not in outcome.err
        if status == 1:
            assert len(outcome.err.strip().splitlines()) == 1
        assert files(workplace) == before

    return check


@pytest.fixture
def network(workplace, trained):
    """Return a trained network, whose clips are in the workplace."""
    return network_path(workplace)


# --- clips ------------------------------------------------------------------------------------------------------------


UNUSABLE = {  # what is done to a training clip, and what the error says
    "too short for a vector": (
        lambda path: write_clip(path, 1, seconds=0.1),
        "too short: 4 frames, but a vector takes 5",
    ),
    "another sampling rate": (lambda path: write_clip(path, 1, rate=8000), "8000 Hz", "16000 Hz"),
    "another number of channels": (
        lambda path: soundfile.write(path, np.zeros((8000, 2)), 16000),
        "has 2 channels, but this challenge's clips have 1; average them first (ffmpeg -i IN.wav -ac 1 OUT.wav)",
    ),
    "NaN": (
        lambda path: soundfile.write(path, np.full(8000, np.nan), 16000, subtype="FLOAT"),
        "holds NaN or infinite samples",
    ),
    "labelled anomaly": (lambda path: path.rename(str(path).replace("normal", "anomaly")), "labelled anomaly"),
    "no section": (lambda path: path.rename(path.with_name("recording 7.wav")), "is not a valid clip name"),
    "not UTF-8": (
        lambda path: path.rename(os.fsdecode(os.fsencode(path.with_suffix("")) + b"_\xff.wav")),
        "has a name with characters that cannot be printed",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_training_clip_that_cannot_be_used_is_reported(fails, workplace, options, case):
    damage, *sentence = UNUSABLE[case]
    folder = machine_folder(workplace / "data") / "train"
    before = set(folder.iterdir())
    damage(sorted(before)[2])
    name = next((path.name for path in set(folder.iterdir()) - before), sorted(before)[2].name)
    fails(options, *sentence, name.encode(errors="backslashreplace").decode())


def test_missing_clips_are_reported(fails, workplace, options):
    folder = machine_folder(workplace / "data") / "train"
    fails([*options, "--use_ids", "3"], "no clips of section 03, only of 00")
    fails([*options, "--dataset", "DCASE2023T2Valve"], "has no development machine type 'Valve'", "did you mean valve?")
    fails([*options, "--dataset", "DCASE1999T2fan"], "--dataset DCASE1999T2fan", "DCASE2023T2")
    fails([*options, "--dataset", "DCASE2023T2"], "followed by a machine type")
    shutil.copytree(folder.parent, machine_folder(workplace / "data", "fan", "dcase2026t2"))
    first = min(folder.iterdir()).name
    fails([*options, "--dataset", "DCASE2026T2fan"], f"{first} has 1 channel, but this challenge's clips have 2")
    for path in folder.iterdir():
        path.rename(path.with_suffix(".flac"))
    fails(options, f"{folder} holds no .wav files, only 6 .flac files; rename the .flac files to .wav")
    for path in folder.iterdir():
        path.unlink()
    fails(options, f"{folder} holds no .wav files")
    folder.rmdir()
    fails(options, "there is no folder", str(folder), "--dataset_directory")


# --- parameters -------------------------------------------------------------------------------------------------------


def test_parameters_that_do_not_fit_the_clips_are_refused(fails, workplace, options):
    fails([*options, "--fmax", "9000"], "fmax at most half the sampling rate (8000 Hz)")
    fails([*options, "--fmin", "500", "--fmax", "400"], "fmin must be below fmax")
    fails([*options, "--win_length", "2000"], "win_length 2000 is above n_fft 1024")
    fails([*options, "--validation_split", "0.99999"], "leaves none to train with")
    for path in sorted((machine_folder(workplace / "data") / "train").iterdir())[1:]:
        path.unlink()
    fails([*options, "--frames", "16"], "1 training vectors", "--validation_split")


def test_a_folder_that_cannot_be_written_is_reported_before_the_first_epoch(fails, workplace, options):
    (workplace / "file").write_text("")
    for option in ("--cache_directory", "--model_directory", "--log_directory"):
        words = [*options, option, str(workplace / "file"), "--epochs", "1000000"]
        fails(words, f"cannot write {workplace}/file", option)


def test_training_that_diverges_is_reported_and_leaves_no_network_or_checkpoint(call_train, workplace, options):
    assert "the losses are not finite in epoch" in error_of(
        call_train(*options, "--learning_rate", "1e12", "--epochs", "5")
    )
    assert [path.name for path in (workplace / "models").rglob("*") if path.is_file()] == ["lock"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epochs", "0"], "'0' is not allowed; it takes a whole number from 1"),
        (["--learning_rate", "nan"], "'nan' is not allowed; it takes a number above 0"),
        (["--learning_rate", "1e300"], "'1e300' is not allowed; it takes a number above 0, up to 1e30"),
        (["--n_fft", "2147483647"], "'2147483647' is not allowed; it takes a whole number from 2 to 1048576"),
        (["--use_cuda", "maybe"], "true, false, 1, 0, yes or no"),
        (["--score", "AUC"], "MAHALA or MSE"),
        (["--export_dir", "../elsewhere"], "a name without /"),
        (["-e"], "not allowed with argument"),
        (["--epoch", "3"], "unrecognized arguments: --epoch 3; did you mean --epochs?"),
        (["--lr", "1"], "unrecognized arguments: --lr 1; did you mean -lr?"),
        (["--score", "Mahala"], "; did you mean MAHALA?"),
    ],
)
def test_wrong_usage_ends_with_status_2(fails, options, words, sentence):
    fails([*options, *words], sentence, status=2)


def test_neither_dev_nor_eval_is_wrong_usage(fails, options):
    fails([word for word in options if word != "-d"], "one of the arguments -d/--dev -e/--eval is required", status=2)


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half an archive", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_a_file_that_is_not_a_network_is_refused_and_not_run(fails, workplace, options, content):
    path = network_path(workplace)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    fails([*options, "--test_only"], "cannot be loaded", path.name)


FOREIGN = {  # what is saved of a network's state_dict, and what the error says
    "a checkpoint": (
        lambda state: {"epoch": 3, "state_dict": {f"model.{name}": value for name, value in state.items()}},
        "it has epoch, state_dict and lacks cov_source, cov_target and 65 more",
    ),
    "of DataParallel": (
        lambda state: {f"module.{name}": value for name, value in state.items()},
        "it has module.cov_source, module.cov_target and 65 more and lacks cov_source",
    ),
    "another network": (
        lambda state: torch.nn.Linear(2, 2).state_dict(),
        "it has weight, bias and lacks cov_source, cov_target and 65 more; give a .pth file that 01_train.sh",
    ),
    "a tensor": (lambda state: state["cov_source"], "cannot be loaded"),
    "a whole model": (lambda state: torch.nn.Linear(2, 2), "pickles and whole models are never loaded"),
}


def test_a_network_that_does_not_fit_or_is_another_programs_is_refused(fails, call_train, options, network):
    words = [*options, "--test_only"]
    fails([*words, "--n_mels", "64"], "--n_mels 64, but", "was trained with 128")
    network.with_suffix(".json").unlink()
    fails([*words, "--n_mels", "64"], "does not fit n_mels 64 and frames 5", "cov_source is (128, 128)")
    state = torch.load(network, weights_only=True)
    for change, sentence in FOREIGN.values():
        torch.save(change(state), network)
        fails(words, str(network), sentence)
    assert sentence in error_of(
        call_train(*options, "--train_only", "--export_dir", "other", "--initial_weights", network)
    )


def test_a_network_whose_scores_are_not_finite_is_reported(fails, workplace, options, network):
    record, weights = network.with_suffix(".json"), torch.load(network, weights_only=True)
    content = record.read_bytes()
    for factor in (np.nan, 1e30):
        torch.save({k: v * factor if v.is_floating_point() else v for k, v in weights.items()}, network)
        fails([*options, "--test_only"], f"{network} is not the file that {record.name} describes")
        record.unlink()
        fails([*options, "--test_only"], "MSE gives scores that are not finite")
        record.write_bytes(content)
    assert not (workplace / "results").exists()


def test_half_labelled_test_clips_are_refused(fails, workplace, options, network):
    path = min((machine_folder(workplace / "data") / "test").iterdir())
    path.rename(path.with_name("section_00_0007.wav"))
    fails([*options, "--test_only"], "1 of 12 test clips are not labelled", "section_00_0007.wav")


def test_testing_without_a_network_is_reported(workplace, options, fails, call_command):
    fails([*options, "--test_only"], "there is no network", "train first")
    words = ["02a_test.sh", "test", "-d", "fan", "ToyCar", *options[3:], "--score", "MSE"]
    assert "2 of 2 jobs have no trained network" in error_of(call_command(lambda: jobs.main(words)))
    assert not (workplace / "results").exists()


def test_testing_after_interrupted_training_says_how_to_finish_it(fails, options, network):
    network.unlink()
    fails([*options, "--test_only"], "finish a training that was interrupted by 01_train.sh --restart")
