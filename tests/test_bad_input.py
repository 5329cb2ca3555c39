"""Bad input: one sentence about it, the exit status, and nothing half-written."""

import os
import shutil

import numpy as np
import pytest
import soundfile
import torch
from synthetic import error_of, machine_folder, network_path, write_clip

from tools import jobs


@pytest.fixture
def fails(call_train, workplace, options):
    """Assert that further options of a run end it with a status and one sentence with all these words, and no file."""

    def files() -> dict:  # except clips and complete features
        paths = (path for path in workplace.rglob("*") if path.is_file())
        kept = (path for path in paths if path.suffix == ".partial" or not {"raw", "processed"} & {*path.parts})
        return {path: path.read_bytes() for path in kept}

    def check(words: str, *sentences: str, status: int = 1):
        before = files()
        outcome = call_train(*options, *words.split())
        assert outcome.status == status, outcome.out
        *usage, error = outcome.err.splitlines()
        assert status == 2 or (error.startswith("error: ") and not usage), outcome.err
        assert all(sentence in error for sentence in sentences), error
        assert files() == before

    return check


@pytest.fixture
def train_folder(workplace):
    """Return the folder of the training clips."""
    return machine_folder(workplace / "data") / "train"


@pytest.fixture
def network(workplace, trained):
    """Return a trained network, whose clips are in the workplace."""
    return network_path(workplace)


# --- clips ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: write_clip(path, 1, 0.1), "too short: 4 frames, but a vector takes 5"),
        (
            lambda path: write_clip(path, 1, rate=8000),
            "8000 Hz, but section_00_source_train_normal_0000_spd_1.wav of 16000",
        ),
        (
            lambda path: soundfile.write(path, np.zeros((8000, 2)), 16000),
            "has 2 channels, but this challenge's clips have 1; average them first (ffmpeg -i IN.wav -ac 1 OUT.wav)",
        ),
        (
            lambda path: soundfile.write(path, np.full(8000, np.nan), 16000, subtype="FLOAT"),
            "holds NaN or infinite samples",
        ),
        (lambda path: path.rename(str(path).replace("normal", "anomaly")), "labelled anomaly"),
        (lambda path: path.rename(path.with_name("recording 7.wav")), "is not a valid clip name"),
        (
            lambda path: path.rename(os.fsdecode(os.fsencode(path.with_suffix("")) + b"_\xff.wav")),
            "has a name with characters that cannot be printed",
        ),
    ],
)
def test_a_training_clip_that_cannot_be_used_is_reported(fails, train_folder, damage, sentence):
    before = set(train_folder.iterdir())
    path = max(before)
    damage(path)
    (path,) = set(train_folder.iterdir()) - before or {path}
    fails("", sentence, path.name.encode(errors="backslashreplace").decode())


def test_missing_clips_are_reported(fails, workplace, train_folder):
    fails("--use_ids 3", "no clips of section 03, only of 00")
    fails("--dataset DCASE2023T2Valve", "has no development machine type 'Valve'", "did you mean valve?")
    fails("--dataset DCASE2023T2ToyDrone", "ToyDrone is in the evaluation set (-e)")
    fails("--dataset DCASE1999T2fan", "--dataset DCASE1999T2fan: give a challenge (DCASE2020T2, ")
    fails("--dataset DCASE2023T2", "followed by a machine type")
    shutil.copytree(train_folder.parent, machine_folder(workplace / "data", "fan", "dcase2026t2"))
    fails("--dataset DCASE2026T2fan", "_0000_spd_1.wav has 1 channel, but this challenge's clips have 2")
    for path in train_folder.iterdir():
        path.rename(path.with_suffix(".flac"))
    fails("", f"{train_folder} holds no .wav files, only 6 .flac files; rename the .flac files to .wav")
    shutil.rmtree(train_folder)
    train_folder.mkdir()
    fails("", f"{train_folder} holds no .wav files")
    train_folder.rmdir()
    fails("", f"there is no folder {train_folder}", "--dataset_directory")


# --- parameters -------------------------------------------------------------------------------------------------------


def test_parameters_that_do_not_fit_the_clips_are_refused(fails, train_folder):
    fails("--fmax 8001", "fmax at most half the sampling rate (8000 Hz)")
    fails("--fmin 500 --fmax 500", "fmin must be below fmax")
    fails("--win_length 1025", "win_length 1025 is above n_fft 1024")
    fails("--validation_split 0.99999", "leaves none to train with")
    fails("--batch_size 1", "in batches of 1: batch normalisation needs two in a batch")
    for path in sorted(train_folder.iterdir())[1:]:
        path.unlink()
    fails("--frames 16", "1 training vectors", "--validation_split")
    fails("--frames 15", "1 training vector in batches of 16: batch normalisation needs two in a batch")


def test_a_folder_that_cannot_be_written_is_reported_before_the_first_epoch(fails, workplace):
    file = workplace / "file"
    file.touch()
    for option in ("--cache_directory", "--model_directory", "--log_directory"):
        fails(f"{option} {file} --epochs 1000000", f"cannot write {file}", option)


def test_training_that_diverges_is_reported_and_leaves_no_network_or_checkpoint(call_train, workplace, options):
    error = error_of(call_train(*options, "--learning_rate", "1e12", "--epochs", "5"))
    assert "the losses are not finite in epoch" in error
    assert [path.name for path in (workplace / "models").rglob("*") if path.is_file()] == ["lock"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--epochs 0", "'0' is not allowed; it takes a whole number from 1"),
        ("--learning_rate nan", "'nan' is not allowed; it takes a number above 0"),
        ("--learning_rate 1e300", "'1e300' is not allowed; it takes a number above 0, up to 1e30"),
        ("--n_fft 2147483647", "'2147483647' is not allowed; it takes a whole number from 2 to 1048576"),
        ("--use_cuda maybe", "true, false, 1, 0, yes or no"),
        ("--export_dir ../elsewhere", "a name without /"),
        ("-e", "not allowed with argument"),
        ("--epoch 3", "unrecognized arguments: --epoch 3; did you mean --epochs?"),
        ("--lr 1", "unrecognized arguments: --lr 1; did you mean -lr?"),
        ("own.py", "unrecognized arguments: own.py; repeat --extension for each file"),
        ("--score Mahala", "MAHALA or MSE, or what a file given as --extension has; did you mean MAHALA?"),
    ],
)
def test_wrong_usage_ends_with_status_2(fails, words, sentence):
    fails(words, "error: ", sentence, status=2)


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half an archive", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_a_file_that_is_not_a_network_is_refused_and_not_run(fails, workplace, content):
    path = network_path(workplace)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    fails("--test_only", "cannot be loaded", path.name)


def test_a_network_that_does_not_fit_or_is_another_programs_is_refused(fails, network):
    fails("--test_only --n_mels 64", "--n_mels 64, but", "was trained with 128")
    network.with_suffix(".json").unlink()
    fails("--test_only --n_mels 64", "does not fit n_mels 64 and frames 5", "cov_source is (128, 128)")
    state, other = torch.load(network, weights_only=True), torch.nn.Linear(2, 2)
    for content, sentence in (
        (
            {"epoch": 3, "state_dict": {f"model.{name}": value for name, value in state.items()}},
            "it has epoch, state_dict and lacks cov_source, cov_target and 65 more",
        ),
        (
            {f"module.{name}": value for name, value in state.items()},  # of DataParallel
            "it has module.cov_source, module.cov_target and 65 more and lacks cov_source",
        ),
        (
            other.state_dict(),
            "it has weight, bias and lacks cov_source, cov_target and 65 more; give a .pth file that 01_train.sh",
        ),
        (state["cov_source"], "cannot be loaded"),
        (other, "pickles and whole models are never loaded"),
    ):
        torch.save(content, network)
        fails("--test_only", str(network), sentence)


def test_a_network_whose_scores_are_not_finite_is_reported(fails, workplace, network):
    record, weights = network.with_suffix(".json"), torch.load(network, weights_only=True)
    content = record.read_bytes()
    for factor in (np.nan, 1e30):
        torch.save({k: v * factor if v.is_floating_point() else v for k, v in weights.items()}, network)
        fails("--test_only", f"{network} is not the file that {record.name} describes")
        record.unlink()
        fails("--test_only", "MSE gives scores that are not finite")
        record.write_bytes(content)
    assert not (workplace / "results").exists()


def test_half_labelled_test_clips_are_refused(fails, train_folder, network):
    path = min((train_folder.parent / "test").iterdir())
    path.rename(path.with_name("section_00_0007.wav"))
    fails("--test_only", "1 of 12 test clips are not labelled", "section_00_0007.wav")


def test_testing_without_a_network_is_reported(workplace, options, fails, network, call_command):
    other = network.rename(network.with_name(network.name.replace("13711", "7")))
    sentence = "train first, or finish an interrupted one with 01_train.sh --restart"
    fails("--test_only", f"{network.name} (there is {other.name}); check the path", sentence)
    shutil.rmtree(workplace / "models")
    fails("--test_only", f"{network}; check the path")
    words = ["02a_test.sh", "test", "-d", "fan", "ToyCar", *options[3:], "--score", "MSE"]
    assert "2 of 2 jobs have no trained network" in error_of(call_command(lambda: jobs.main(words)))
    assert not (workplace / "results").exists()
