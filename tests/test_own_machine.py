"""A user's own machine (--challenge MINE), and single clips scored by tools.score."""

import csv
import io
import json
import re
import shutil
from functools import partial

import numpy as np
import pytest
import soundfile
from synthetic import REPOSITORY, directories, machine_folder, network_path, run, script, write_clip

from datasets.clips import parse_clip
from tools import score
from tools.results import __main__ as summarize_results


@pytest.fixture
def pump(tmp_path):
    """Return a folder with the clips of a machine whose names have sections and labels, but no domains."""
    folder = machine_folder(tmp_path / "data", "MyPump", "mine")
    for i in range(12):
        write_clip(folder / "train" / f"section_0{i % 2}_normal_{i:04d}.wav", i, seconds=0.6)
    for i in range(12):
        label = ("normal", "anomaly")[i // 2 % 2]
        write_clip(
            folder / "test" / f"section_0{i % 2}_{label}_{i:04d}.wav", i, period=30 if label == "anomaly" else 40
        )
    return tmp_path


def test_a_folder_of_recordings_is_a_machine_type(pump, call_train, call_command):
    words = ["-d", "MyPump", "--challenge", "MINE", "-j", "1", "--epochs", "2", "--batch_size", "16"]
    process = script("01_train.sh", *words, *directories(pump))
    assert process.returncode == 0, process.stderr
    for section in (0, 1):
        words = ["--dataset", "MINEMyPump", "-d", "-tag", f"id({section}_)", "--use_ids", section, "--test_only"]
        assert call_train(*words, *directories(pump)).status == 0
    assert len(list(pump.glob("models/saved_model/baseline/DCASE2023T2-AE_MINEMyPump_id(?_)_seed13711.pth"))) == 2
    folders = ["--result_directory", pump / "results", "--dataset_directory", pump / "data"]
    status, out, _ = call_command(summarize_results.main, "MINE", "-d", *folders)
    assert status == 0
    table = next(pump.rglob("MINE_auc_pauc_extract.csv")).read_text()
    assert table.splitlines()[0] == "System,metric,h-mean,a-mean,MyPump"
    assert "baseline_MSE,AUC," in table
    assert "2 of 2" in out


def test_an_own_machine_may_have_any_number_of_channels_if_all_clips_have_the_same(pump, call_train):
    folder = machine_folder(pump / "data", "MyPump", "mine") / "train"
    words = ["--dataset", "MINEMyPump", "-d", "--train_only", "--epochs", "1", "--batch_size", "16", *directories(pump)]
    for path in folder.iterdir():
        soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, (9000, 2)), 16000)
    assert call_train(*words).status == 0
    first, second, *_ = sorted(folder.iterdir())
    write_clip(second, 0)
    outcome = call_train(*words)
    assert outcome.status == 1
    assert f"{second} has 1 channel, but {first.name} has 2" in outcome.err


def test_the_layout_is_shown_if_there_is_no_machine(tmp_path):
    process = script("01_train.sh", "-d", "--challenge", "MINE", *directories(tmp_path))
    assert process.returncode == 1
    assert "such as MyPump/train/section_00_normal_0001.wav" in process.stderr


@pytest.fixture
def call_score(call_command):
    """Return a function that calls tools.score and returns status, output and errors."""
    return partial(call_command, score.main)


@pytest.mark.parametrize("kind", ["MSE", "MAHALA"])
def test_single_clips_have_the_scores_and_decisions_of_the_test_stage(call_train, call_score, workplace, options, kind):
    assert call_train(*options, "--score", kind, "--n_mels", "64", "--frames", "3").status == 0
    network = network_path(workplace)
    clips = sorted((machine_folder(workplace / "data") / "test").iterdir())
    status, out, _ = call_score(network, *clips, "--score", kind)
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    for column, prefix in (("anomaly_score", "anomaly_score"), ("decision", "decision_result")):
        file = next(workplace.glob(f"results/dev_data/baseline_{kind}/{prefix}*.csv"))
        expected = dict(line.rsplit(",", 1) for line in file.read_text().splitlines())
        assert {row["clip"].rpartition("/")[2]: row[column] for row in rows} == expected
    status, out, _ = call_score(network, clips[0], "--score", kind, "--format", "json")
    assert json.loads(out)["anomaly_score"] == float(rows[0]["anomaly_score"])
    assert json.loads(out)["decision"] in (0, 1)


def test_a_recording_of_any_name_is_scored(call_train, call_score, workplace, options):
    assert call_train(*options, "--train_only").status == 0
    shutil.copy(next((machine_folder(workplace / "data") / "test").iterdir()), workplace / "pump, left.wav")
    status, out, _ = call_score(network_path(workplace), workplace / "pump, left.wav")
    assert status == 0
    assert out.splitlines()[1].startswith(f'"{workplace}/pump, left.wav",')


def test_clips_that_cannot_be_scored_are_reported(call_train, call_score, workplace, options):
    assert call_train(*options, "--train_only").status == 0
    network = network_path(workplace)
    clip = next((machine_folder(workplace / "data") / "test").iterdir())
    assert f"there is no network {workplace}/no.pth; check the path" in call_score(workplace / "no.pth", clip)[2]
    assert "there is no file" in call_score(network, workplace / "no.wav")[2]
    (workplace / "text.wav").write_text("not audio")
    status, out, err = call_score(network, workplace / "text.wav")
    assert (status, out.count("\n"), "cannot be read as audio" in err) == (1, 1, True)
    record = network.with_suffix(".json")
    for path in (network, record):
        shutil.copy(path, workplace / f"renamed{path.suffix}")
    err = call_score(workplace / "renamed.pth", clip)[2]
    assert err == call_score(network, clip)[2]  # its record came along
    content = record.read_text()
    for wrong in ("{", "[]", content.replace('"n_mels": 128', '"n_mels": "many"')):
        record.write_text(wrong)
        status, _, err = call_score(network, clip)
        assert status == 1
        assert "is not a record of a training run" in err
    record.unlink()  # as a network of the reference: the parameters of baseline.yaml
    assert call_score(network, clip)[0] == 0


def test_single_clips_are_scored_only_with_files_that_belong_together(call_train, call_score, workplace, options):
    assert call_train(*options, "--train_only").status == 0
    network = network_path(workplace)
    clip = next((machine_folder(workplace / "data") / "test").iterdir())
    status, out, err = call_score(network, clip)
    assert (status, out.splitlines()[0]) == (0, "clip,anomaly_score,threshold,decision")
    assert "parameters of the network's record: batch_size 16 (baseline.yaml: 256)" in err
    (workplace / "k.yaml").write_text("n_fft: 2048\n")
    err = call_score(network, clip, "--config", workplace / "k.yaml")[2]
    assert "record: n_fft 1024 (k.yaml: 2048), batch_size 16 (baseline.yaml: 256)" in err
    write_clip(workplace / "slow.wav", 1, rate=8000)
    assert "8000 Hz, but the network was trained at 16000 Hz" in call_score(network, workplace / "slow.wav")[2]
    soundfile.write(workplace / "stereo.wav", np.zeros((8000, 2)), 16000)
    assert "2 channels, but the network's training clips had 1" in call_score(network, workplace / "stereo.wav")[2]
    record = network.with_suffix(".json")
    position = record.read_text().index('"scale": ') + len('"scale": ')  # of a threshold's distribution
    for path, place, sentence in ((network, 30, "is not the file that"), (record, position, "is not a record of")):
        whole = path.read_bytes()
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        status, out, err = call_score(network, clip)
        assert (status, out, f"{path} {sentence}" in err) == (1, "", True)
        path.write_bytes(whole)


def test_a_bad_recording_is_reported_and_the_others_are_scored(call_train, call_score, workplace, options, monkeypatch):
    assert call_train(*options, "--train_only").status == 0
    network, folder = network_path(workplace), workplace / "recordings"
    for i in range(4):
        write_clip(folder / f"{i}.wav", i)
    (folder / "1.wav").write_bytes((folder / "1.wav").read_bytes()[:3000])
    expected = [str(folder / f"{i}.wav") for i in (0, 2, 3)]
    status, out, err = call_score(network, folder)
    assert status == 1
    assert [row["clip"] for row in csv.DictReader(io.StringIO(out))] == expected
    assert f"error: {folder}/1.wav is truncated" in err
    for ending in ("\n", "\r\n"):  # a list that was written on Windows
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{path}{ending}" for path in expected), newline=""))
        assert call_score(network, "-")[:2] == (0, out)
    assert call_score(network)[0] == 2


def test_the_documented_loop_links_new_recordings_and_leaves_the_others_in_place(tmp_path):
    text = (REPOSITORY / "tools" / "README.md").read_text()
    (lines,) = re.findall(r"```bash\n(shopt .*?)```", text, re.DOTALL)
    to = machine_folder(tmp_path / "data", "MyPump", "mine")

    def link(names):
        for name in names:
            write_clip(tmp_path / "recordings" / name, 0)
        process = run("bash", "-euc", lines, cwd=tmp_path)
        assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
        links = {path: path.resolve() for path in [*to.glob("train/*"), *to.glob("test/*")]}
        assert set(links.values()) == {path.resolve() for path in (tmp_path / "recordings").rglob("*.*")}
        assert all(parse_clip(path).section == 0 for path in links)
        return links

    first = link([f"ok/Pumpe {i} (früh).wav" for i in range(40)])
    labels = {(path.parent.name, parse_clip(path).label) for path in first}
    assert labels == {("train", "normal"), ("test", "normal")}
    assert 20 < len(list((to / "train").iterdir())) < 40
    second = link(["ok/A.WAV", "ok/a.wav", "ok/$HOME 'x'.Wav", "broken/Lager ä.wav", "broken/A.WAV"])
    assert first.items() < second.items()
    assert len(second) == 45
    assert link([]) == second
    assert {path.name for path in second if parse_clip(path).label == "anomaly"} == {
        "section_00_anomaly_0_Lager ä.wav",
        "section_00_anomaly_0_A.WAV",
    }
