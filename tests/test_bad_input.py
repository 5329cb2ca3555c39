"""Bad input: one sentence about it, the exit status, and nothing half-written."""

import os
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from synthetic import machine_folder, network_path, script, write_clip


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
        assert outcome.status == status
        error = outcome.err.strip().splitlines()[-1]
        assert error.startswith("error: ") if status == 1 else "error: " in error
        for part in sentence:
            assert part in error
        assert "Traceback" not in outcome.err
        if status == 1:
            assert len(outcome.err.strip().splitlines()) == 1
        assert files(workplace) == before

    return check


def train_clip(workplace: Path) -> Path:
    """Return one of the training clips."""
    return sorted((machine_folder(workplace / "data") / "train").iterdir())[2]


def write_empty_clip(path: Path) -> None:
    """Write a WAV without samples."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))


def write_sample(path: Path, value: float) -> None:
    """Write silence with one sample of this value."""
    samples = np.zeros(8000, dtype=np.float32)
    samples[4000] = value
    soundfile.write(path, samples, 16000, subtype="FLOAT")


def replace_with_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


UNUSABLE = {  # what is done to a clip, and what the error says
    "too short for a vector": (
        lambda path: write_clip(path, 1, seconds=0.1),
        "too short: 4 frames, but a vector takes 5",
    ),
    "not audio": (lambda path: path.write_text("not audio"), "cannot be read as audio"),
    "no bytes": (lambda path: path.write_bytes(b""), "cannot be read as audio (no bytes)"),
    "no samples": (write_empty_clip, "is empty"),
    "another sampling rate": (lambda path: write_clip(path, 1, rate=8000), "8000 Hz", "16000 Hz"),
    "another number of channels": (
        lambda path: soundfile.write(path, np.zeros((8000, 2)), 16000),
        "has 2 channels, but this challenge's clips have 1; average them first (ffmpeg -i IN.wav -ac 1 OUT.wav)",
    ),
    "NaN": (lambda path: write_sample(path, np.nan), "holds NaN or infinite samples"),
    "infinite": (lambda path: write_sample(path, np.inf), "holds NaN or infinite samples"),
    "a pipe": (replace_with_pipe, "is not a plain file"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_training_clip_that_cannot_be_used_is_reported(fails, workplace, options, case):
    damage, *sentence = UNUSABLE[case]
    path = train_clip(workplace)
    damage(path)
    fails(options, *sentence, path.name)


@pytest.mark.parametrize(
    ("rename", "sentence"),
    [
        (lambda name: name.replace("normal", "anomaly"), "labelled anomaly"),
        (lambda name: "recording 7.wav", "is not a valid clip name"),
        (lambda name: name.replace("section_00", "section_٠٠"), "is not a valid clip name"),
    ],
    ids=["labelled anomaly", "no section", "digits of another alphabet"],
)
def test_a_training_clip_with_an_unsuitable_name_is_reported(fails, workplace, options, rename, sentence):
    path = train_clip(workplace)
    path = path.rename(path.with_name(rename(path.name)))
    fails(options, sentence, path.name)


def test_a_clip_name_that_is_not_utf8_is_reported(fails, workplace, options):
    path = train_clip(workplace)
    path.rename(os.fsdecode(os.fsencode(path.with_suffix("")) + b"_\xff.wav"))
    fails(options, f"{path.stem}_\\udcff.wav is not valid UTF-8; rename the file")


def test_clips_of_one_channel_are_refused_where_the_challenge_has_two(fails, workplace, options):
    folder = machine_folder(workplace / "data")
    shutil.copytree(folder, machine_folder(workplace / "data", "fan", "dcase2026t2"))
    first = min((folder / "train").iterdir()).name
    fails([*options, "--dataset", "DCASE2026T2fan"], f"{first} has 1 channel, but this challenge's clips have 2")


def test_a_missing_folder_is_reported(fails, workplace, options):
    shutil.rmtree(machine_folder(workplace / "data") / "train")
    fails(options, "there is no folder", str(machine_folder(workplace / "data") / "train"), "--dataset_directory")


def test_a_misspelt_machine_type_is_answered_by_the_nearest(fails, options):
    fails([*options, "--dataset", "DCASE2023T2Valve"], "has no development machine type 'Valve'", "did you mean valve?")


def test_a_folder_without_clips_is_reported(fails, workplace, options):
    for path in (machine_folder(workplace / "data") / "train").iterdir():
        path.unlink()
    fails(options, "holds no .wav files", str(machine_folder(workplace / "data") / "train"))


def test_a_folder_of_flac_alone_is_reported_with_what_to_do(fails, workplace, options):
    folder = machine_folder(workplace / "data") / "train"
    for path in folder.iterdir():
        path.rename(path.with_suffix(".flac"))
    fails(options, f"{folder} holds no .wav files, only 6 .flac files; rename the .flac files to .wav")


def test_a_section_without_clips_is_reported(fails, options):
    fails([*options, "--use_ids", "3"], "no clips of section 03, only of 00")


def test_training_that_diverges_is_reported_and_leaves_no_network_or_checkpoint(call_train, workplace, options):
    outcome = call_train(*options, "--learning_rate", "1e12", "--epochs", "5")
    assert outcome.status == 1
    assert "the losses are not finite in epoch" in outcome.err
    assert [path.name for path in (workplace / "models").rglob("*") if path.is_file()] == ["lock"]


def test_a_network_whose_scores_are_not_finite_is_reported(call_train, fails, workplace, options):
    assert call_train(*options, "--train_only").status == 0
    network = network_path(workplace)
    weights = torch.load(network, weights_only=True)
    for factor, sentence in (
        (float("nan"), "MSE gives scores that are not finite"),
        (1e30, "MSE gives scores that are not finite"),
    ):
        torch.save({k: v * factor if v.is_floating_point() else v for k, v in weights.items()}, network)
        record = network.with_suffix(".json")
        content = record.read_bytes()
        fails([*options, "--test_only"], f"{network} is not the file that {record.name} describes")
        record.unlink()
        fails([*options, "--test_only"], sentence)
        record.write_bytes(content)
    assert not (workplace / "results").exists()


def test_a_split_that_leaves_no_training_vectors_is_refused(fails, workplace, options):
    fails([*options, "--validation_split", "0.99999"], "leaves none to train with")


def test_a_split_that_leaves_no_validation_vectors_is_refused(fails, workplace, options):
    for path in sorted((machine_folder(workplace / "data") / "train").iterdir())[1:]:
        path.unlink()
    fails([*options, "--frames", "16"], "1 training vectors", "--validation_split")


def test_testing_without_a_network_is_reported(call_train, fails, workplace, options):
    fails([*options, "--test_only"], "there is no network", "train first")
    assert call_train(*options, "--train_only").status == 0
    network_path(workplace).unlink()
    fails([*options, "--test_only"], "finish a training that was interrupted by 01_train.sh --restart")


def test_a_network_of_another_shape_is_refused(call_train, fails, workplace, options):
    assert call_train(*options, "--train_only").status == 0
    words = [*options, "--test_only", "--n_mels", "64"]
    fails(words, "--n_mels 64, but", "was trained with 128")
    network_path(workplace).with_suffix(".json").unlink()
    fails(words, "does not fit n_mels 64 and frames 5", "cov_source is (128, 128)")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half an archive", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_a_file_that_is_not_a_network_is_refused_and_not_run(call_train, fails, workplace, options, content):
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


def test_another_programs_network_is_called_so(call_train, fails, workplace, options):
    assert call_train(*options, "--train_only").status == 0
    path = network_path(workplace)
    path.with_suffix(".json").unlink()
    state = torch.load(path, weights_only=True)
    for change, sentence in FOREIGN.values():
        torch.save(change(state), path)
        fails([*options, "--test_only"], str(path), sentence)
    fails([*options, "--train_only", "--initial_weights", str(path)], sentence)


def test_half_labelled_test_clips_are_refused(call_train, fails, workplace, options):
    assert call_train(*options, "--train_only").status == 0
    path = sorted((machine_folder(workplace / "data") / "test").iterdir())[0]
    path.rename(path.with_name("section_00_0007.wav"))
    fails([*options, "--test_only"], "1 of 12 test clips are not labelled", "section_00_0007.wav")


def test_frequencies_that_do_not_fit_are_refused(fails, options):
    fails([*options, "--fmax", "9000"], "fmax at most half the sampling rate (8000 Hz)")
    fails([*options, "--fmin", "500", "--fmax", "400"], "fmin must be below fmax")
    fails([*options, "--win_length", "2000"], "win_length 2000 is above n_fft 1024")


def test_a_data_set_of_no_challenge_is_refused(fails, options):
    fails([*options, "--dataset", "DCASE1999T2fan"], "--dataset DCASE1999T2fan", "DCASE2023T2")
    fails([*options, "--dataset", "DCASE2023T2"], "followed by a machine type")


def test_a_folder_that_cannot_be_written_is_reported(fails, workplace, options):
    (workplace / "file").write_text("")
    fails(
        [*options, "--cache_directory", str(workplace / "file")], f"cannot write {workplace}/file/", "--cache_directory"
    )
    for option in ("--model_directory", "--log_directory"):  # reported before the first epoch
        fails(
            [*options, option, str(workplace / "file"), "--epochs", "1000000"], f"cannot write {workplace}/file", option
        )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--epochs", "0"], "'0' is not allowed; it takes a whole number from 1"),
        (["--epochs", "ten"], "'ten' is not allowed"),
        (["--learning_rate", "nan"], "'nan' is not allowed; it takes a number above 0"),
        (["--learning_rate", "1e300"], "'1e300' is not allowed; it takes a number above 0, up to 1e30"),
        (["--n_fft", "2147483647"], "'2147483647' is not allowed; it takes a whole number from 2 to 1048576"),
        (["--use_cuda", "maybe"], "true, false, 1, 0, yes or no"),
        (["--score", "AUC"], "MAHALA or MSE"),
        (["--export_dir", "../elsewhere"], "a name without /"),
        (["--no_such_option", "1"], "unrecognized arguments: --no_such_option 1"),
        (["-e"], "not allowed with argument"),
        (["--train_only", "--test_only"], "not allowed with argument"),
        (["--epoch", "3"], "unrecognized arguments: --epoch 3; did you mean --epochs?"),
        (["-epochs", "3"], "unrecognized arguments: -epochs; did you mean --epochs?"),
        (["--lr", "1"], "unrecognized arguments: --lr 1; did you mean --learning_rate or -lr?"),
        (["--score", "Mahala"], "; did you mean MAHALA?"),
        (["--model", "DCASE2023T2-EA"], "; did you mean DCASE2023T2-AE?"),
    ],
)
def test_wrong_usage_ends_with_status_2(fails, options, words, sentence):
    fails([*options, *words], sentence, status=2)


def test_neither_dev_nor_eval_is_wrong_usage(fails, options):
    fails([word for word in options if word != "-d"], "one of the arguments -d/--dev -e/--eval is required", status=2)


def test_the_scripts_stop_at_the_first_failure_and_report_the_machine_type(workplace, options):
    words = ["-d", "fan", "ToyCar", "-j", "1", *options[3:]]
    process = script("02a_test.sh", *words, cwd=workplace)
    assert process.returncode == 1
    assert "2 of 2 jobs have no trained network" in process.stderr
    for machine_type in ("fan", "ToyCar"):
        path = network_path(workplace, f"DCASE2023T2-AE_DCASE2023T2{machine_type}_id(0_)_seed13711")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not a network")
    process = script("02a_test.sh", *words, cwd=workplace)
    assert process.returncode == 1
    assert "cannot be loaded" in process.stderr
    assert "testing fan section 00 by MSE failed with exit status 1" in process.stderr
    assert "ToyCar" not in process.stdout
    assert not (workplace / "results").exists()
