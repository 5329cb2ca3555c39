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
from synthetic import (
    REPOSITORY,
    directories,
    error_of,
    machine_folder,
    network_path,
    results_of,
    run,
    succeed,
    write_clip,
)

from datasets.clips import parse_clip
from tools import jobs, score

SMALL = ["--epochs=1", "--batch_size=16"]


@pytest.fixture
def pump(tmp_path):
    """Return the clips of a machine whose names have sections and labels, but no domains."""
    folder = machine_folder(tmp_path / "data", "MyPump", "mine")
    for i in range(12):
        label, period = (("normal", 40), ("anomaly", 30))[i // 2 % 2]
        write_clip(folder / "train" / f"section_0{i % 2}_normal_{i:04d}.wav", i)
        write_clip(folder / "test" / f"section_0{i % 2}_{label}_{i:04d}.wav", i, period=period)
    return folder


def test_a_folder_of_recordings_is_a_machine_type(pump, tmp_path, run_jobs, summarize, table):
    words = ["-d", "MyPump", "--challenge=MINE", *directories(tmp_path)]
    assert run_jobs("01_train.sh", "train", *SMALL, *words) == 2
    assert run_jobs("02a_test.sh", "MSE", *words) == 2
    names = [path.name for path in tmp_path.glob("models/saved_model/baseline/*.pth")]
    assert sorted(names) == [f"DCASE2023T2-AE_MINEMyPump_id({i}_)_seed13711.pth" for i in range(2)]
    assert "2 of 2" in succeed(summarize(challenge="MINE"))
    extract = table("auc_pauc_extract", "MINE")
    assert list(extract) == ["metric", "h-mean", "a-mean", "MyPump"]
    assert "baseline_MSE" in extract.index


def test_an_own_machine_may_have_any_number_of_channels_if_all_clips_have_the_same(pump, tmp_path, succeeds, fails):
    words = ["--dataset=MINEMyPump", "-d", "--train_only", *SMALL, *directories(tmp_path)]
    first, second, *_ = clips = sorted((pump / "train").iterdir())
    for path in clips:
        soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, (9000, 2)), 16000)
    succeeds(*words)
    write_clip(second, 0)
    assert f"{second} has 1 channel, but {first.name} has 2" in fails(*words)


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


def scored(out):
    """Return the lines of tools.score by clip name."""
    return {line["clip"].rpartition("/")[2]: line for line in csv.DictReader(io.StringIO(out))}


def test_single_clips_have_the_scores_and_decisions_of_the_test_stage(succeeds, call_score, workplace, options, clip):
    succeeds(*options, "--n_mels=64", "--frames=3", "--score=MAHALA")
    words = [network_path(workplace), "--score=MAHALA"]
    lines = scored(succeed(call_score(*words, clip.parent)))
    for column, kind in (("anomaly_score", "anomaly_score"), ("decision", "decision_result")):
        expected = dict(results_of(workplace, kind, "baseline_MAHALA"))
        assert {name: line[column] for name, line in lines.items()} == expected
    content = json.loads(succeed(call_score(*words, clip, "--format=json")))
    assert {key: str(value) for key, value in content.items()} == lines[clip.name]


def test_clips_that_cannot_be_scored_are_reported_and_the_others_scored(
    call_score, workplace, network, clip, monkeypatch
):
    shutil.copy(clip, workplace / "pump, left.wav")
    header, line = succeed(call_score(network, workplace / "pump, left.wav")).splitlines()
    assert header == "clip,anomaly_score,threshold,decision"
    assert line.startswith(f'"{workplace}/pump, left.wav",')

    (workplace / "text.wav").write_text("not audio")
    write_clip(workplace / "slow.wav", 1, rate=8000)
    soundfile.write(workplace / "stereo.wav", np.zeros((8000, 2)), 16000)
    for name, sentence in (
        ("no.wav", "cannot be read: No such file"),
        ("text.wav", "cannot be read as audio"),
        ("slow.wav", "8000 Hz, but the network was trained at 16000 Hz"),
        ("stereo.wav", "2 channels, but the network's training clips had 1"),
    ):
        outcome = call_score(network, workplace / name)
        assert sentence in error_of(outcome)
        assert outcome.out == f"{header}\n"

    folder = workplace / "recordings"
    for i in range(4):
        write_clip(folder / f"{i}.wav", i)
    (folder / "1.wav").write_bytes((folder / "1.wav").read_bytes()[:3000])
    outcome = call_score(network, folder)
    assert f"error: {folder}/1.wav is truncated" in error_of(outcome)
    assert list(scored(outcome.out)) == ["0.wav", "2.wav", "3.wav"]
    for ending in ("\n", "\r\n"):  # a list that was written on Windows
        lines = "".join(f"{folder}/{i}.wav{ending}" for i in (0, 2, 3))
        monkeypatch.setattr("sys.stdin", io.StringIO(lines, newline=""))
        assert succeed(call_score(network, "-")) == outcome.out
    assert call_score(network).status == 2


def test_a_network_is_scored_with_the_record_beside_it_or_beside_what_a_link_points_to(
    call_score, succeeds, workplace, options, clip
):
    assert f"there is no network {workplace}/no.pth; check the path" in error_of(call_score(workplace / "no.pth", clip))
    succeeds(*options, "--train_only", "--hop_length=256", "--epochs=1")
    network = network_path(workplace)
    expected = call_score(network, clip)
    link, renamed, copy = (workplace / f"{name}.pth" for name in ("link", "renamed", "copy"))
    link.symlink_to(network)
    for path in (network, network.with_suffix(".json")):
        shutil.copy(path, renamed.with_suffix(path.suffix))
    assert call_score(link, clip) == call_score(renamed, clip) == expected
    shutil.copy(network, copy)
    outcome = call_score(copy, clip)
    assert "copy.pth has no record (copy.json) beside it; assumed: model DCASE2023T2-AE, n_mels 128" in outcome.err
    assert succeed(outcome) != expected.out


# --- the documentation ------------------------------------------------------------------------------------------------


def test_the_documented_loop_links_new_recordings_and_leaves_the_others_in_place(tmp_path):
    text = (REPOSITORY / "docs/own_machines.md").read_text()
    (lines,) = re.findall(r"```bash\n(shopt .*?)```", text, re.DOTALL)
    to, recordings = machine_folder(tmp_path / "data", "MyPump", "mine"), tmp_path / "recordings"

    def link(*names):
        for name in names:
            write_clip(recordings / name, 0)
        process = run("bash", "-euc", lines, cwd=tmp_path)
        assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
        links = {path: path.resolve() for path in to.glob("*/*")}
        assert sorted(links.values()) == sorted(path.resolve() for path in recordings.rglob("*.*"))
        return links

    first = link(*(f"ok/Pumpe {i} (früh).wav" for i in range(40)))
    clips = {(path.parent.name, parse_clip(path).section, parse_clip(path).label) for path in first}
    assert clips == {("train", 0, "normal"), ("test", 0, "normal")}
    assert 20 < len(list(to.glob("train/*"))) < 40
    second = link("ok/A.WAV", "ok/a.wav", "ok/$HOME 'x'.Wav", "broken/Lager ä.wav", "broken/A.WAV")
    assert first.items() < second.items()
    assert link() == second
    anomalous = {path.name for path in second if parse_clip(path).label == "anomaly"}
    assert anomalous == {"section_00_anomaly_0_Lager ä.wav", "section_00_anomaly_0_A.WAV"}
