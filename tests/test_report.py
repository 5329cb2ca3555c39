"""The report: its page is self-contained, plays recordings, reports omissions, and takes any name."""

import json
import re
import shutil
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import torch
from reports import Parsed, run_of, write_scores
from synthetic import (
    call,
    clip_names,
    directories,
    error_of,
    machine_folder,
    make_settings,
    succeed,
    write_clip,
    write_machine,
    write_network_record,
)

import train
from datasets.front_ends import make_front_end
from networks.trained import Trained
from tools import plot_time_frequency
from tools.report.time_frequency import reconstruct
from tools.results import __main__ as summary

PICTURES = {"heat_map", "scores_fan_section_00_MSE", "roc_fan_section_00_MSE"}
OURS = "_seed13711_id(0_)"


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Return a folder with a network, its log, its test clips, the results of both scores, and their report."""
    root = tmp_path_factory.mktemp("run")
    write_machine(machine_folder(root / "data"))
    words = ["--dataset", "DCASE2023T2fan", "-d", "-tag", "id(0_)", "--use_ids", "0", "--use_cuda", "false"]
    words += ["--epochs", "2", "--batch_size", "16", "--n_mels", "32", "--frames", "3", *directories(root)]
    for more in ([], ["--test_only", "--score", "MAHALA"]):
        assert call(train.main, *words, *more) == 0
    assert call(summary.main, "DCASE2023T2", "-d", "--report", *directories(root)) == 0
    return root


@pytest.fixture
def trained(small_run, tmp_path):
    """Return a copy of the small run."""
    return shutil.copytree(small_run, tmp_path, dirs_exist_ok=True)


def read_report(root):
    """Return the path of the report below a folder, its parsed page, its words, and the names of its pictures."""
    (report,) = root.rglob("report.html")
    page = Parsed(report.read_text(encoding="utf-8"))
    return report, page, " ".join(" ".join(page.words).split()), {p.stem for p in report.with_suffix("").glob("*.png")}


@pytest.fixture
def report(summarize, tmp_path):
    """Return a function that has 03 report what is below tmp_path, and reads the report."""

    def make(*words, **places):
        outcome = summarize("--report", *words, **places)
        assert "report: " in outcome.out, outcome.err
        return read_report(tmp_path)

    return make


def test_a_complete_run_gives_one_page_with_all_pictures_in_it(small_run):
    report, page, shown, pictures = read_report(small_run)
    images = page.all("img")
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in images)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert not re.search(r"http|url\(|@import", report.read_text())
    expected = {name.replace("MSE", score) for name in PICTURES for score in ("MSE", "MAHALA")}
    assert pictures > {"losses_fan_section_00_DCASE2023T2-AE"} | expected and len(pictures) == len(images)
    network = json.loads(run_of(small_run).record.read_text())
    for words in (
        "DCASE2023T2, development set: baseline, seed 13711",
        f"trained for 2 epochs on {network['date'][:10]}, tested on ",
        "Official score, its 95 % interval over clips (5,000 resamples), percent",
        "1 of 7",
        "n_mels 32",
        "batch_size 16",
        "the 0.9 quantile of a gamma distribution fitted to",
    ):
        assert words in shown
    thresholds = re.findall(r"Anomaly scores by \w+, threshold ([\d.]+)\.", shown)
    assert len(thresholds) == 2 and all(f" {threshold} " in shown for threshold in thresholds)
    assert "loss curves" not in shown.lower().partition("how to read")[0]


def test_clips_can_be_played_where_they_are_and_the_worst_have_one_picture_each(small_run):
    report, page, _, pictures = read_report(small_run)
    (listed,) = (report.parent / unquote(a["href"]) for a in page.all("a") if not a["href"].startswith("#"))
    everything = Parsed(listed.read_text(encoding="utf-8"))
    test_clips = set((machine_folder(small_run / "data") / "test").iterdir())
    for place, controls in ((report, page.all("audio")), (listed, everything.all("audio"))):
        recordings = {(place.parent / unquote(audio["src"])).resolve() for audio in controls}
        assert {audio["preload"] for audio in controls} == {"none"}
        assert len(recordings) == len(controls) and recordings <= test_clips
    assert len(page.all("audio")) == sum(name.startswith("clip_") for name in pictures)
    assert len(everything.all("audio")) == len(test_clips) == 12
    ranks = re.findall(r"^(\d+) \([\d.]+\)$", "\n".join(everything.words), re.MULTILINE)
    assert sorted(map(int, ranks)) == sorted([*range(1, 13)] * 2)
    captions = "\n".join(page.words)
    for score in ("MSE", "MAHALA"):
        scores = pd.read_csv(run_of(small_run).anomaly_scores(score, 0), header=None, index_col=0)[1]
        worst = {"highest normal": scores.filter(like="_normal_").idxmax()}
        worst["lowest anomalous"] = scores.filter(like="_anomaly_").idxmin()
        for extreme, clip in worst.items():
            rank = int(scores.rank(ascending=False, method="first")[clip])
            assert re.search(rf"rank {rank} of 12 by {score} \(\S+ \S+, the {extreme} one\).* {clip}", captions)


def test_other_systems_stale_results_and_broken_files_are_shown(trained, report):
    rival, run = trained / "Rival_X_task2_1", run_of(trained)
    rival.mkdir()
    shutil.copy(run.anomaly_scores("MSE", 0), rival / "anomaly_score_fan_section_00_test.csv")
    run.network.write_bytes(run.network.read_bytes() + b" ")
    run.log_csv.write_text("loss,val_loss\n1.0\n")
    record = json.loads(run.record.read_text())
    record["scores"]["MSE"]["gamma"] = [1.0, 2.0, 3.0]  # as training again leaves it
    write_network_record(run.record, **record)
    _, _, shown, pictures = report("--systems", rival)
    assert re.search(
        r"Official score, its 95 % .* Rival_X_task2_1 \d+\.\d\d \d+\.\d\d \d+\.\d\d 12 of 12 1 of 7 ", shown
    )
    assert f"{run.network} is not the file that {run.record.name} describes" in shown
    assert "baseline_MSE, fan section 00: the network was trained again" in shown
    assert "log.csv is not a log of a training run" in shown
    assert not any(name.startswith(("clip_", "losses_")) for name in pictures)  # of the earlier report


def test_a_network_is_drawn_with_the_parameters_of_its_record(trained, call_command):
    run, output = run_of(trained), trained / "picture.png"
    clip = next((machine_folder(trained / "data") / "test").iterdir())
    words = [run.network, clip, "--output", output]
    succeed(call_command(plot_time_frequency.main, *words))
    assert output.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    record = json.loads(run.record.read_text())
    write_network_record(run.record, **{**record, "n_mels": 10})
    assert "n_mels 10 " in error_of(call_command(plot_time_frequency.main, *words))
    run.record.unlink()  # as with a network of the reference: baseline.yaml's, which do not fit
    assert "does not fit n_mels 128" in error_of(call_command(plot_time_frequency.main, *words))


def test_frames_in_no_vector_have_no_reconstruction_and_the_mean_is_over_vectors(tmp_path):
    """With 3 frames a vector, one every 2: of 6 frames the last is in none, and frame 2 is in two vectors."""

    class Position(torch.nn.Module):
        def forward(self, vectors):  # the first vector gives 0, the second 1
            return torch.arange(len(vectors)).float()[:, None].expand(vectors.shape)

    write_clip(tmp_path / "clip.wav", 0, seconds=5.5 * 512 / 16000)
    settings = make_settings(n_mels=8, frames=3, frame_hop_length=2)
    shown = reconstruct(Trained(None, Position(), make_front_end(settings), settings, None), tmp_path / "clip.wav")
    assert shown.frames.shape == (6, 8)
    np.testing.assert_array_equal(shown.reconstruction[:, 0], [0, 0, 0.5, 1, 1, np.nan])


def test_a_clips_hostile_name_is_text_in_caption_and_picture_and_can_be_played(trained, report):
    hostile = "<b>$\\frac$ #1%2F&' \N{SNOWMAN}"
    for file in (machine_folder(trained / "data") / "test").iterdir():
        file.rename(file.with_name(file.name.replace("spd_1", hostile)))
    run = run_of(trained)
    scores = run.anomaly_scores("MSE", 0)
    scores.write_bytes(scores.read_bytes().replace(b"spd_1", hostile.encode()))
    run.decisions("MSE", 0).unlink()
    run.anomaly_scores("MAHALA", 0).unlink()
    page_path, page, shown, _ = report()
    assert not page.all("b") and f"_{hostile}.wav" in shown
    played = [page_path.parent / unquote(audio["src"]) for audio in page.all("audio")]
    assert len(played) == 2 and all(path.is_file() for path in played)


def test_missing_files_are_left_out_and_reported(tmp_path, report):
    hostile = "<script>alert(1)<&script>"
    names = [name.replace("spd_1", "é") for name in clip_names()]
    write_scores(tmp_path / f"results/dev_data/{hostile}_MSE", "DCASE2023T2fan", names=names, end=OURS)
    _, page, shown, pictures = report("--export_dir", hostile)
    assert not page.all("script") and not page.all("audio") and hostile in shown
    for sentence in (
        "Loss curves: there is no log.csv (fan).",
        "Worst-ranked clips: there is no network (fan).",
        "The threshold of MSE: its test has no record (fan).",
        "Recordings to draw and to listen to: not all are below ",
        "No MAHALA scores for ToyCar, ",
    ):
        assert sentence in shown
    assert pictures == PICTURES


def test_unlabelled_clips_have_score_distributions_only(tmp_path, report):
    names, folder = [f"section_00_{i:04d}.wav" for i in range(9)], tmp_path / "results/eval_data/baseline_MSE"
    write_scores(folder, "DCASE2023T2bandsaw", names=names, end=f"{OURS}_Eval")
    _, _, shown, pictures = report(subset="-e")
    assert pictures == {"scores_bandsaw_section_00_MSE"}
    assert "the test clips are not labelled (bandsaw)" in shown
    scores = pd.read_csv(next(folder.glob("anomaly*")), header=None)[1]
    low, high = (f"{value:.4g}".replace("-", "−") for value in (scores.min(), scores.max()))
    assert re.search(rf"baseline_MSE bandsaw 0 9 {low} \S+ {high} 9 ", shown)
    assert "official score" not in shown.lower().partition("how to read this")[0]


def test_an_extensions_score_is_drawn_like_ours(tmp_path, report):
    (tmp_path / "own.py").write_text(
        "from networks.scores import score_function\nscore_function('LOUD', 'dB', 'level')(lambda path: 1.0)\n"
    )
    write_scores(tmp_path / "results/dev_data/baseline_LOUD", "DCASE2023T2fan", names=clip_names(), end=OURS)
    _, _, shown, pictures = report("--extension", tmp_path / "own.py")
    assert pictures == {name.replace("MSE", "LOUD") for name in PICTURES}
    assert "Worst-ranked clips" not in shown and "Losses:" not in shown
