"""The report: its page is self-contained, plays recordings, reports omissions, and takes any name."""

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

from common import InputError, load_extensions

import numpy as np
import pytest
import torch
from pandas import DataFrame
from reports import Parsed, run_of, scored_clips, settings_of, write_report, write_scores
from synthetic import call, clip_names, directories, machine_folder, write_clip, write_machine, write_network_record

import train
from datasets.front_ends import make_front_end
from networks.trained import Trained
from tools import plot_time_frequency
from tools.report.page import Chapter, Picture, audio_control, render
from tools.report.sections import worst_clips
from tools.report.time_frequency import reconstruct
from tools.results import __main__ as summarize_results

PNG = b"\x89PNG\r\n\x1a\n"
HOSTILE = "<b>$\\frac$ #1%2F&' \N{SNOWMAN}"


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Return a folder with a network, its log, its test clips, the results of both scores, and their report."""
    root = tmp_path_factory.mktemp("run")
    write_machine(machine_folder(root / "data"))
    words = ["--dataset", "DCASE2023T2fan", "-d", "-tag", "id(0_)", "--use_ids", "0", "--use_cuda", "false"]
    words += ["--epochs", "2", "--batch_size", "16", "--n_mels", "32", "--frames", "3", *directories(root)]
    for more in ([], ["--test_only", "--score", "MAHALA"]):
        assert call(train.main, *words, *more) == 0
    assert call(summarize_results.main, "DCASE2023T2", "-d", "--report", *directories(root)) == 0
    return root


@pytest.fixture
def trained(small_run, tmp_path):
    """Return a copy of the small run."""
    return Path(shutil.copytree(small_run, tmp_path / "copy"))


def pictures_of(report):
    return {path.stem for path in report.with_suffix("").glob("*.png")}


def test_a_complete_run_gives_one_page_with_all_pictures_in_it(small_run):
    report = run_of(small_run).experiment.report("DCASE2023T2")
    text = report.read_text(encoding="utf-8")
    page = Parsed(text)
    images = page.all("img")
    assert images and all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in images)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    pictures = pictures_of(report)
    assert len(pictures) == len(images)
    expected = {f"{kind}_fan_section_00_{score}" for kind in ("scores", "roc") for score in ("MSE", "MAHALA")}
    assert pictures > {"heat_map", "losses_fan_section_00_DCASE2023T2-AE"} | expected
    shown = " ".join(" ".join(page.words).split())
    network = json.loads(run_of(small_run).record.read_text())
    for words in (
        "DCASE2023T2, development set: baseline, seed 13711",
        f"trained for 2 epochs on {network['date'][:10]}, tested on ",
        "Official score, its 95 % interval over clips (5,000 resamples), percent",
        "1 of 7",
        "Parameters of baseline_MAHALA, baseline_MSE: ",
        "n_mels 32",
        "batch_size 16",
        "the 0.9 quantile of a gamma distribution fitted to",
        "AUC (source) sets the source domain's normal clips",
    ):
        assert words in shown
    thresholds = re.findall(r"Anomaly scores by \w+, threshold ([\d.]+)\.", shown)
    assert len(thresholds) == 2 and all(f" {threshold} " in shown for threshold in thresholds)
    assert shown.count("gamma distribution") == 2  # a line a system
    assert "loss curves" not in shown.lower().partition("how to read")[0]


def test_clips_can_be_played_where_they_are_and_have_one_picture_each(small_run):
    report = run_of(small_run).experiment.report("DCASE2023T2")
    page = Parsed(report.read_text(encoding="utf-8"))
    (listed,) = (report.parent / unquote(a["href"]) for a in page.all("a") if not a["href"].startswith("#"))
    everything = Parsed(listed.read_text(encoding="utf-8"))
    test_clips = sorted((machine_folder(small_run / "data") / "test").iterdir())
    for place, controls in ((report, page.all("audio")), (listed, everything.all("audio"))):
        recordings = [(place.parent / unquote(audio["src"])).resolve() for audio in controls]
        assert all(audio["preload"] == "none" and "controls" in audio for audio in controls)
        assert len(set(recordings)) == len(recordings) and set(recordings) <= {clip.resolve() for clip in test_clips}
    assert len(page.all("audio")) == sum(name.startswith("clip_") for name in pictures_of(report))
    assert len(everything.all("audio")) == len(test_clips) == 12
    words = [word for word in everything.words if word.strip()]
    ranks = [re.fullmatch(r"(\d+) \([\d.]+\)", word) for word in words]
    assert sorted(int(rank[1]) for rank in ranks if rank) == sorted([*range(1, 13)] * 2)
    captions = [word for word in page.words if word.startswith(("Normal clip: ", "Anomalous clip: "))]
    assert all(re.search(r"rank \d+ of 12 by MAHALA .*; rank \d+ of 12 by MSE ", caption) for caption in captions)
    assert sum("rank 12 of 12" in caption or "lowest anomalous" in caption for caption in captions)


def test_other_systems_stale_results_and_broken_files_are_shown(trained):
    rival, run = trained / "Rival_X_task2_1", run_of(trained)
    rival.mkdir()
    shutil.copy(run.anomaly_scores("MSE", 0), rival / "anomaly_score_fan_section_00_test.csv")
    run.network.write_bytes(run.network.read_bytes() + b" ")
    run.log_csv.write_text("loss,val_loss\n1.0\n")
    record = json.loads(run.record.read_text())
    record["scores"]["MSE"]["gamma"] = [1.0, 2.0, 3.0]  # as training again leaves it
    write_network_record(run.record, **record)
    report, _, shown = write_report(trained, others=[rival])
    assert "Rival_X_task2_1, percent" in shown
    assert re.search(
        r"Official score, its 95 % .* Rival_X_task2_1 \d+\.\d\d \d+\.\d\d \d+\.\d\d 12 of 12 1 of 7 ", shown
    )
    assert f"{run.network} is not the file that {run.record.name} describes" in shown
    assert "baseline_MSE, fan section 00: the network was trained again" in shown
    assert "log.csv is not a log of a training run" in shown
    assert not any(name.startswith(("clip_", "losses_")) for name in pictures_of(report))  # of the earlier report


def test_a_network_is_drawn_with_the_parameters_of_its_record(trained, call_command):
    network = run_of(trained).network
    clip = next((machine_folder(trained / "data") / "test").iterdir())
    clip, output = clip.rename(trained / f"any name {HOSTILE}.wav".replace("/", "")), trained / "picture.png"
    words = [network, clip, "--output", output]
    assert call_command(plot_time_frequency.main, *words).status == 0
    assert output.read_bytes().startswith(PNG)
    output.unlink()
    record = json.loads(network.with_suffix(".json").read_text())
    write_network_record(network.with_suffix(".json"), **{**record, "n_mels": 10})
    outcome = call_command(plot_time_frequency.main, *words)
    assert outcome.status == 1 and "n_mels 10 " in outcome.err
    network.with_suffix(".json").unlink()  # as with a network of the reference: baseline.yaml's, which do not fit
    outcome = call_command(plot_time_frequency.main, *words)
    assert outcome.status == 1 and "does not fit n_mels 128" in outcome.err and not output.exists()


def test_frames_in_no_vector_have_no_reconstruction_and_the_mean_is_over_vectors(tmp_path):
    """With 3 frames a vector, one every 2: of 6 frames the last is in none, and frame 2 is in two vectors."""

    class Position(torch.nn.Module):
        def forward(self, vectors):  # the first vector gives 0, the second 1
            return torch.arange(len(vectors)).float()[:, None].expand(vectors.shape)

    write_clip(tmp_path / "clip.wav", 0, seconds=5.5 * 512 / 16000)
    settings = settings_of(tmp_path).replace(n_mels=8, frames=3, frame_hop_length=2)
    shown = reconstruct(Trained(None, Position(), make_front_end(settings), settings, None), tmp_path / "clip.wav")
    assert shown.frames.shape == (6, 8)
    np.testing.assert_array_equal(shown.reconstruction[:, 0], [0, 0, 0.5, 1, 1, np.nan])


def test_every_text_of_a_page_is_escaped_and_printable(tmp_path):
    hostile = '<a href="x">\'\udcff\x00'
    recording = tmp_path / "a'b" / '<a href="x">?#%\udcff.wav'
    recording.parent.mkdir()
    recording.touch()
    audio = audio_control(recording, tmp_path / "page.html")
    picture = Picture("name", PNG, hostile, hostile, inches=5, audio=audio)
    table = DataFrame([[hostile, hostile]], columns=[hostile, hostile])
    text = render(hostile, [hostile], {hostile: [hostile]}, [Chapter(hostile, [hostile], {hostile: table}, [picture])])
    assert text.count("&lt;a href=&#34;x&#34;&gt;&#39;\\udcff\\x00") == 16
    assert not any(c in text for c in ('<a href="x', "\udcff", "\x00"))
    assert 'src="a%27b/%3Ca%20href%3D%22x%22%3E%3F%23%25%FF.wav" aria-label="&lt;a href=&#34;x' in text


def test_a_clips_hostile_name_is_text_in_caption_and_picture_and_can_be_played(trained):
    folder = machine_folder(trained / "data") / "test"
    paths = run_of(trained)
    hostile = HOSTILE.replace("/", "")
    for file in folder.iterdir():
        file.rename(file.with_name(file.name.replace("spd_1", hostile)))
    scores = paths.anomaly_scores("MSE", 0)
    scores.write_text(scores.read_text().replace("spd_1", hostile))
    paths.decisions("MSE", 0).unlink()
    paths.anomaly_scores("MAHALA", 0).unlink()
    report, text, shown = write_report(trained)
    assert "<b>" not in text and f"_{hostile}.wav" in shown
    played = [report.parent / unquote(audio["src"]) for audio in Parsed(text).all("audio")]
    assert len(played) == 2 and all(path.is_file() for path in played)


def test_missing_files_are_left_out_and_reported(tmp_path):
    hostile = "<script>alert(1)<&script>"
    write_scores(run_of(tmp_path, export_dir=hostile), [name.replace("spd_1", "é") for name in clip_names()])
    report, text, shown = write_report(tmp_path, export_dir=hostile)
    assert "<script" not in text and "<audio" not in text and hostile in shown
    for sentence in (
        "Loss curves: there is no log.csv (fan).",
        "Worst-ranked clips: there is no network (fan).",
        "The threshold of MSE: its test has no record (fan).",
    ):
        assert sentence in shown
    assert re.search(r"Recordings to draw and to listen to: they are not below \S+ \(fan\)\.", shown)
    assert re.search(r"No MAHALA scores for ToyCar, .* valve\.", shown)
    assert pictures_of(report) == {"heat_map", "scores_fan_section_00_MSE", "roc_fan_section_00_MSE"}


def test_unlabelled_clips_have_score_distributions_only(tmp_path):
    names = [f"section_00_{i:04d}.wav" for i in range(9)]
    write_scores(run_of(tmp_path, is_eval=True, machine_type="bandsaw"), names)
    report, _, shown = write_report(tmp_path, is_eval=True)
    assert pictures_of(report) == {"scores_bandsaw_section_00_MSE"}
    assert "the test clips are not labelled (bandsaw)" in shown
    low, high = (f"{value:.4g}" for value in scored_clips(names)["score"].agg(["min", "max"]))
    assert re.search(rf"baseline_MSE bandsaw 0 9 {low} [\d.]+ {high} –", shown)
    assert "official score" not in shown.lower().partition("how to read this")[0]


def test_without_any_scores_there_is_no_report(tmp_path):
    with pytest.raises(InputError, match=r"there are no scores of DCASE2023T2 .* run 02a_test.sh"):
        write_report(tmp_path)
    assert not run_of(tmp_path).experiment.report("DCASE2023T2").exists()


def test_the_worst_clips_are_the_highest_normal_and_the_lowest_anomalous():
    clips = scored_clips(clip_names(1))  # source and target normal, source and target anomalous
    assert worst_clips(clips.assign(rank=[4, 2, 3, 1])) == {1: "highest normal", 2: "lowest anomalous"}


def test_an_extensions_score_is_drawn_like_ours(tmp_path):
    extension = tmp_path / "own.py"
    extension.write_text(
        "from networks.scores import score_function\nscore_function('LOUD', 'dB', 'level')(lambda path: 1.0)\n"
    )
    load_extensions([extension])
    try:
        write_scores(run_of(tmp_path), clip_names(), "LOUD")
        report, _, shown = write_report(tmp_path)
    finally:
        load_extensions([])
    assert pictures_of(report) == {"heat_map", "scores_fan_section_00_LOUD", "roc_fan_section_00_LOUD"}
    assert "Worst-ranked clips" not in shown and "Losses:" not in shown
