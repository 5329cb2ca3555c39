"""A user's own machine (--challenge MINE), and single clips scored by tools.score."""

import csv
import io
import json
import re
import shlex
import shutil
from functools import partial

import numpy as np
import pytest
import soundfile
from synthetic import REPOSITORY, directories, error_of, machine_folder, network_path, run, succeed, write_clip

from datasets.clips import parse_clip
from tools import jobs, score
from tools.results import __main__ as summarize_results

SMALL = ["--epochs", "1", "--batch_size", "16"]


@pytest.fixture
def pump(tmp_path):
    """Return the clips of a machine whose names have sections and labels, but no domains."""
    folder = machine_folder(tmp_path / "data", "MyPump", "mine")
    for i in range(12):
        label = ("normal", "anomaly")[i // 2 % 2]
        write_clip(folder / "train" / f"section_0{i % 2}_normal_{i:04d}.wav", i)
        write_clip(
            folder / "test" / f"section_0{i % 2}_{label}_{i:04d}.wav", i, period=30 if label == "anomaly" else 40
        )
    return folder


def test_a_folder_of_recordings_is_a_machine_type(pump, tmp_path, call_train, call_command):
    words = ["-d", "MyPump", "--challenge", "MINE", *directories(tmp_path), "--dry_run"]
    for stage in (["01_train.sh", "train", *SMALL], ["02a_test.sh", "test", "--score", "MSE"]):
        commands = call_command(lambda stage=stage: jobs.main([*stage, *words])).out.splitlines()
        assert len(commands) == 2
        for command in commands:
            succeed(call_train(*shlex.split(command)[2:]))
    names = [path.name for path in tmp_path.glob("models/saved_model/baseline/*.pth")]
    assert sorted(names) == [f"DCASE2023T2-AE_MINEMyPump_id({i}_)_seed13711.pth" for i in range(2)]
    outcome = call_command(summarize_results.main, "MINE", "-d", *directories(tmp_path))
    assert (outcome.status, "2 of 2" in outcome.out) == (0, True)
    table = next(tmp_path.rglob("MINE_auc_pauc_extract.csv")).read_text()
    assert table.splitlines()[0] == "System,metric,h-mean,a-mean,MyPump"
    assert "baseline_MSE,AUC," in table


def test_an_own_machine_may_have_any_number_of_channels_if_all_clips_have_the_same(pump, tmp_path, call_train):
    words = ["--dataset", "MINEMyPump", "-d", "--train_only", *SMALL, *directories(tmp_path)]
    first, second, *_ = clips = sorted((pump / "train").iterdir())
    for path in clips:
        soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, (9000, 2)), 16000)
    succeed(call_train(*words))
    write_clip(second, 0)
    assert f"{second} has 1 channel, but {first.name} has 2" in error_of(call_train(*words))


def test_the_layout_is_shown_if_there_is_no_machine(tmp_path, call_command):
    words = ["01_train.sh", "train", "-d", "--challenge", "MINE", *directories(tmp_path)]
    assert "such as MyPump/train/section_00_normal_0001.wav" in error_of(call_command(lambda: jobs.main(words)))


# --- single clips -----------------------------------------------------------------------------------------------------


@pytest.fixture
def call_score(call_command):
    """Return a function that calls tools.score and returns status, output and errors."""
    return partial(call_command, score.main)


@pytest.fixture
def network(workplace, trained):
    """Return a trained network, whose clips are in the workplace."""
    return network_path(workplace)


@pytest.fixture
def clip(workplace):
    """Return a test clip."""
    return min((machine_folder(workplace / "data") / "test").iterdir())


def test_single_clips_have_the_scores_and_decisions_of_the_test_stage(call_train, call_score, workplace, options, clip):
    succeed(call_train(*options, "--n_mels", "64", "--frames", "3", "--train_only"))
    for kind in ("MSE", "MAHALA"):
        succeed(call_train(*options, "--test_only", "--score", kind))
        status, out, _ = call_score(network_path(workplace), *clip.parent.iterdir(), "--score", kind)
        assert status == 0
        rows = list(csv.DictReader(io.StringIO(out)))
        for column, prefix in (("anomaly_score", "anomaly_score"), ("decision", "decision_result")):
            file = next(workplace.glob(f"results/dev_data/baseline_{kind}/{prefix}*.csv"))
            expected = dict(line.rsplit(",", 1) for line in file.read_text().splitlines())
            assert {row["clip"].rpartition("/")[2]: row[column] for row in rows} == expected
        (row,) = (row for row in rows if row["clip"] == str(clip))
        scored = json.loads(call_score(network_path(workplace), clip, "--score", kind, "--format", "json").out)
        assert (scored["anomaly_score"], scored["decision"]) == (float(row["anomaly_score"]), int(row["decision"]))


def test_clips_that_cannot_be_scored_are_reported_and_the_others_scored(
    call_score, workplace, network, clip, monkeypatch
):
    shutil.copy(clip, workplace / "pump, left.wav")
    status, out, err = call_score(network, workplace / "pump, left.wav")
    assert status == 0
    assert out.splitlines()[0] == "clip,anomaly_score,threshold,decision"
    assert out.splitlines()[1].startswith(f'"{workplace}/pump, left.wav",')
    assert "parameters of the network's record: batch_size 16 (baseline.yaml: 256)" in err
    (workplace / "k.yaml").write_text("n_fft: 2048\n")
    err = call_score(network, clip, "--config", workplace / "k.yaml").err
    assert "record: n_fft 1024 (k.yaml: 2048), batch_size 16 (baseline.yaml: 256)" in err

    (workplace / "text.wav").write_text("not audio")
    write_clip(workplace / "slow.wav", 1, rate=8000)
    soundfile.write(workplace / "stereo.wav", np.zeros((8000, 2)), 16000)
    for name, sentence in (
        ("no.wav", "cannot be read: No such file"),
        ("text.wav", "cannot be read as audio"),
        ("slow.wav", "8000 Hz, but the network was trained at 16000 Hz"),
        ("stereo.wav", "2 channels, but the network's training clips had 1"),
    ):
        status, out, err = call_score(network, workplace / name)
        assert (status, out.count("\n"), sentence in err) == (1, 1, True)

    folder = workplace / "recordings"
    for i in range(4):
        write_clip(folder / f"{i}.wav", i)
    (folder / "1.wav").write_bytes((folder / "1.wav").read_bytes()[:3000])
    expected = [str(folder / f"{i}.wav") for i in (0, 2, 3)]
    status, out, err = call_score(network, folder)
    assert (status, f"error: {folder}/1.wav is truncated" in err) == (1, True)
    assert [row["clip"] for row in csv.DictReader(io.StringIO(out))] == expected
    for ending in ("\n", "\r\n"):  # a list that was written on Windows
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{path}{ending}" for path in expected), newline=""))
        assert call_score(network, "-")[:2] == (0, out)
    assert call_score(network)[0] == 2


def test_single_clips_are_scored_only_with_files_that_belong_together(call_score, workplace, network, clip):
    missing = call_score(workplace / "no.pth", clip).err
    assert f"there is no network {workplace}/no.pth; check the path" in missing
    record = network.with_suffix(".json")
    for path in (network, record):
        shutil.copy(path, workplace / f"renamed{path.suffix}")
    assert call_score(workplace / "renamed.pth", clip).err == call_score(network, clip).err  # its record came along
    content = record.read_bytes()
    position = content.index(b'"scale": ') + len(b'"scale": ')  # of a threshold's distribution
    for path, place, sentence in ((network, 30, "is not the file that"), (record, position, "is not a record of")):
        whole = path.read_bytes()
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        status, out, err = call_score(network, clip)
        assert (status, out, f"{path} {sentence}" in err) == (1, "", True)
        path.write_bytes(whole)
    for wrong in (b"{", b"[]", content.replace(b'"n_mels": 128', b'"n_mels": "many"')):
        record.write_bytes(wrong)
        status, _, err = call_score(network, clip)
        assert (status, "is not a record of a training run" in err) == (1, True)
    record.unlink()  # as a network of the reference: the parameters of baseline.yaml
    succeed(call_score(network, clip))


# --- the documentation ------------------------------------------------------------------------------------------------


def test_the_documented_loop_links_new_recordings_and_leaves_the_others_in_place(tmp_path):
    text = (REPOSITORY / "docs" / "own_machines.md").read_text()
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
