"""The report: the page is self-contained, reports omissions, takes any name; its pictures have labelled axes."""

import errno
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

from common import InputError, load_extensions

import numpy as np
import pytest
import torch
from pandas import DataFrame
from reports import Parsed, run_of, settings_of, write_report, write_scores
from synthetic import (
    call,
    clip_names,
    directories,
    machine_folder,
    section_scores,
    write_clip,
    write_machine,
    write_network_record,
)
from tools.results.test_record import make_test_record, result_record_path, write_test_record

import train
from datasets.front_ends import make_front_end
from networks.trained import Trained, load_trained
from runtime.files import sha256_of
from tools import plot_time_frequency
from tools.report import report as report_module
from tools.report.chapters import worst_clips
from tools.report.page import Chapter, Picture, render
from tools.report.time_frequency import draw_time_frequency, reconstruct
from tools.results import __main__ as summarize_results
from tools.results.files import read_clip_values

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Return a folder with a network, its log, its test clips, and the results of both scores."""
    root = tmp_path_factory.mktemp("run")
    write_machine(machine_folder(root / "data"))
    words = ["--dataset", "DCASE2023T2fan", "-d", "-tag", "id(0_)", "--use_ids", "0", "--use_cuda", "false"]
    words += ["--epochs", "2", "--batch_size", "16", "--n_mels", "32", "--frames", "3", *directories(root)]
    for more in ([], ["--test_only", "--score", "MAHALA"]):
        assert call(train.main, *words, *more) == 0
    return root


@pytest.fixture
def trained(small_run, tmp_path):
    """Return a copy of the small run."""
    return Path(shutil.copytree(small_run, tmp_path / "copy"))


def test_a_complete_run_gives_one_page_with_all_pictures_in_it(trained, monkeypatch, capsys):
    words = ["DCASE2023T2", "-d", "--report", *directories(trained)]
    monkeypatch.setattr("sys.argv", ["03_summarize_results.sh", *map(str, words)])
    assert summarize_results.main() == 0, capsys.readouterr().err
    report = run_of(trained).experiment.report("DCASE2023T2")
    text = report.read_text(encoding="utf-8")
    page = Parsed(text)
    images = page.all("img")
    assert images and all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in images)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert {attributes["href"][0] for attributes in page.all("a")} == {"#"}
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    pictures = sorted(path.stem for path in (report.parent / "report").iterdir())
    assert len(pictures) == len(images)
    expected = ["heat_map", "losses_fan_section_00"]
    expected += [f"{kind}_fan_section_00_{score}" for kind in ("scores", "roc") for score in ("MSE", "MAHALA")]
    assert set(pictures) >= set(expected)
    assert sum(name.startswith("clip_fan_section_00_") for name in pictures) >= 2
    assert all(path.read_bytes().startswith(PNG) for path in (report.parent / "report").iterdir())
    shown = " ".join(page.words)
    assert "1 of 7" in shown and "threshold" in shown and "ranked lowest by" in shown
    assert "Official score, its 95 % interval over clips (5,000 resamples), percent" in shown
    assert "loss curves" not in shown.lower().partition("how to read")[0]


def test_without_room_in_shared_memory_one_process_draws(monkeypatch):
    """A pool of processes needs semaphores, which are files in /dev/shm."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", full)
    monkeypatch.setattr("tools.report.report.available_cores", lambda: 2)
    monkeypatch.setattr("tools.report.report._draw", lambda *words: words[-1])
    parts = [None, ("fan", 0), ("valve", 0)]
    with report_module._drawn(None, [], SimpleNamespace(extension=[]), parts) as drawn:
        assert list(drawn) == parts


def test_other_systems_are_in_the_tables_and_the_heat_map(trained):
    rival = trained / "Rival_X_task2_1"
    rival.mkdir()
    ours = run_of(trained).anomaly_scores("MSE", 0)
    shutil.copy(ours, rival / "anomaly_score_fan_section_00_test.csv")
    _, _, shown = write_report(trained, others=[rival])
    assert "Rival_X_task2_1, percent" in shown
    assert re.search(
        r"Official score, its 95 % .* Rival_X_task2_1 \d+\.\d\d \d+\.\d\d \d+\.\d\d 12 of 12 1 of 7 ", shown
    )


def test_a_network_is_drawn_with_the_parameters_of_its_record(trained, monkeypatch, capsys):
    network = run_of(trained).network
    model = load_trained(network, settings_of(trained), torch.device("cpu"))
    assert (model.settings.n_mels, model.settings.frames) == (32, 3)
    clip = next((machine_folder(trained / "data") / "test").iterdir())
    name, clip = clip.name, clip.rename(trained / "any name $x_$ \N{SNOWMAN}.wav")
    output = trained / "picture.png"
    monkeypatch.setattr("sys.argv", ["plot_time_frequency", str(network), str(clip), "--output", str(output)])
    assert plot_time_frequency.main() == 0, capsys.readouterr().err
    assert output.read_bytes().startswith(PNG)
    shown = reconstruct(model, clip)
    assert shown.frames.shape == shown.error.shape == (16, 32)
    panels = draw_time_frequency(shown, "clip").axes
    written = read_clip_values(run_of(trained).anomaly_scores("MSE", 0))
    assert shown.mean_squared_error == pytest.approx(written[name])
    assert [axes.get_title() for axes in panels] == ["log-mel input", "reconstruction", "error"]
    assert {axes.get_xlabel() for axes in panels} == {"time (s)"}
    assert panels[0].get_ylabel() == "frequency (kHz, 32 bands)"
    output.unlink()
    record = json.loads(network.with_suffix(".json").read_text())
    write_network_record(network.with_suffix(".json"), **{**record, "n_mels": 10})
    assert plot_time_frequency.main() == 1
    assert "n_mels 10 " in capsys.readouterr().err
    network.with_suffix(".json").unlink()  # as with a network of the reference: baseline.yaml's, which do not fit
    assert plot_time_frequency.main() == 1
    assert "does not fit n_mels 128" in capsys.readouterr().err and not output.exists()


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


def test_hostile_names_are_shown_as_text(tmp_path):
    hostile = "<img src=x onerror=alert(1)>&'$\\frac$"
    names = [name.replace("spd_1", hostile + "\udcff") for name in clip_names()]
    export_dir = "<script>alert(1)<&script>"
    write_scores(run_of(tmp_path, export_dir=export_dir), names)
    _, text, shown = write_report(tmp_path, export_dir=export_dir)
    assert "<script" not in text and "<img src=x" not in text
    assert export_dir in shown


def test_every_text_of_a_page_is_escaped_and_printable():
    hostile = '<a href="x">\'\udcff\x00'
    picture = Picture("name", PNG, hostile, hostile, inches=5)
    table = DataFrame([[hostile, hostile]], columns=[hostile, hostile])
    text = render(hostile, [hostile], {hostile: [hostile]}, [Chapter(hostile, [hostile], {hostile: table}, [picture])])
    assert text.count("&lt;a href=&#34;x&#34;&gt;&#39;\\udcff\\x00") == 15
    assert not any(c in text for c in ('<a href="x', "\udcff", "\x00"))


def test_a_clips_hostile_name_is_text_in_caption_and_picture(trained):
    folder = machine_folder(trained / "data") / "test"
    paths = run_of(trained)
    for file in folder.iterdir():
        file.rename(file.with_name(file.name.replace("spd_1", "<b>$\\frac$ \N{SNOWMAN}")))
    scores = paths.anomaly_scores("MSE", 0)
    scores.write_text(scores.read_text().replace("spd_1", "<b>$\\frac$ \N{SNOWMAN}"))
    paths.decisions("MSE", 0).unlink()
    paths.anomaly_scores("MAHALA", 0).unlink()
    _, text, shown = write_report(trained)
    assert "<b>" not in text and "_<b>$\\frac$ \N{SNOWMAN}.wav" in shown


def test_missing_files_are_left_out_and_reported(tmp_path):
    write_scores(run_of(tmp_path), clip_names())
    report, _, shown = write_report(tmp_path)
    for sentence in (
        "Loss curves: there is no log.csv (fan).",
        "Worst-ranked clips: there is no network (fan).",
        "The threshold of MSE: its test has no record (fan).",
    ):
        assert sentence in shown
    assert re.search(r"No MAHALA scores for ToyCar, .* valve\.", shown)
    assert {path.stem for path in (report.parent / "report").iterdir()} == {
        "heat_map",
        "scores_fan_section_00_MSE",
        "roc_fan_section_00_MSE",
    }


def test_sections_drawn_in_parallel_equal_those_drawn_in_turn(tmp_path, monkeypatch):
    for machine_type in ("fan", "valve"):
        write_scores(run_of(tmp_path, machine_type=machine_type), clip_names())
    written = []
    for cores in (1, 2):
        monkeypatch.setattr("tools.report.report.available_cores", lambda n=cores: n)
        report, text, _ = write_report(tmp_path)
        pictures = {path.name: path.read_bytes() for path in (report.parent / "report").iterdir()}
        written.append((text, pictures))
    assert written[0] == written[1]
    assert len(written[0][1]) == 5


def test_missing_recordings_and_a_broken_log_are_reported(trained):
    for clip in (machine_folder(trained / "data") / "test").iterdir():
        clip.unlink()
    run_of(trained).anomaly_scores("MAHALA", 0).unlink()
    run_of(trained).log_csv.write_text("loss,val_loss\n1.0\n")
    pictures = run_of(trained).experiment.report_picture("DCASE2023T2", "clip_fan_of_an_earlier_report")
    pictures.parent.mkdir(parents=True)
    pictures.touch()
    _, _, shown = write_report(trained)
    assert not pictures.exists()
    assert "Worst-ranked clips: their recordings are not there (fan)." in shown
    assert "log.csv is not a log of a training run" in shown


def test_unlabelled_clips_have_score_distributions_only(tmp_path):
    names = [f"section_00_{i:04d}.wav" for i in range(9)]
    write_scores(run_of(tmp_path, is_eval=True, machine_type="bandsaw"), names)
    report, _, shown = write_report(tmp_path, is_eval=True)
    assert [path.stem for path in (report.parent / "report").iterdir()] == ["scores_bandsaw_section_00_MSE"]
    assert "the test clips are not labelled (bandsaw)" in shown
    assert "official score" not in shown.lower().partition("how to read this")[0]


def test_without_any_scores_there_is_no_report(tmp_path):
    with pytest.raises(InputError, match=r"there are no scores of DCASE2023T2 .* run 02a_test.sh"):
        write_report(tmp_path)
    assert not run_of(tmp_path).experiment.report("DCASE2023T2").exists()


def test_the_worst_clips_are_the_highest_normal_and_the_lowest_anomalous():
    scores = section_scores(clip_names(1))  # source and target normal, source and target anomalous
    scores.scores[:] = 3.0, 7.0, 5.0, 9.0
    assert worst_clips(scores) == [("highest", "normal", 1, 2), ("lowest", "anomalous", 2, 3)]


def record_test(root):
    """Write the record of a test beside the scores of the small run."""
    run = run_of(root)
    scores = run.anomaly_scores("MSE", 0)
    files = {path.name: sha256_of(path) for path in (scores, run.decisions("MSE", 0))}
    record = make_test_record(run, settings_of(root), {0: list(read_clip_values(scores))}, True, 12.5, files)
    with result_record_path(run, "MSE").open("w") as file:
        write_test_record(file, record)
    return record


def test_the_report_identifies_the_run_that_it_shows(trained):
    record = record_test(trained)
    _, _, shown = write_report(trained)
    assert "DCASE2023T2, development set: baseline, seed 13711" in shown
    assert f"trained for 2 epochs on {record.trained[:10]}, tested on {record.date[:10]}, 12 clips" in shown
    assert "Parameters of DCASE2023T2-AE: " in shown
    assert record.trained[:16] in shown
    assert "Anomaly scores by MSE, threshold 12.5." in shown
    assert "the 0.9 quantile fitted in training" in shown
    assert "AUC (source) is of the source domain's normal clips" in shown
    assert "n_mels 32" in shown and "batch_size 16" in shown


def test_stale_results_are_reported(trained):
    record_test(trained)
    assert "since the test" not in write_report(trained)[2]
    run = run_of(trained)
    run.network.write_bytes(run.network.read_bytes() + b" ")
    assert f"{run.network} is not the file that {run.record.name} describes" in write_report(trained)[2]
    record = json.loads(run.record.read_text()) | {
        "network_sha256": sha256_of(run.network)
    }  # as training again leaves it
    write_network_record(run.record, **record)
    assert "baseline_MSE, fan section 00: the network was trained again" in write_report(trained)[2]


def test_false_alarms_and_hits_are_counted(trained):
    run = run_of(trained)
    names = list(read_clip_values(run.anomaly_scores("MSE", 0)))
    decided = {name: int("source_test_normal_0000" in name or "anomaly" in name) for name in names}
    run.decisions("MSE", 0).write_text("".join(f"{name},{value}\n" for name, value in decided.items()))
    _, text, _ = write_report(trained)
    rows = [re.sub("<[^>]+>", " ", row).split() for row in text.split("<tr>")]
    rows = [row[: row.index("92.31") + 1] for row in rows if "92.31" in row]
    assert ["baseline_MSE", "fan", *"1 of 3 0 of 3 3 of 3 3 of 3 85.71 100.00 92.31".split()] in rows
    assert re.findall(r">((?:false alarms|hits) \(.*?\))<", text) == [
        "false alarms (source)",
        "false alarms (target)",
        "hits (source)",
        "hits (target)",
    ]


def test_an_extensions_score_is_drawn_like_ours(tmp_path):
    extension = tmp_path / "own.py"
    extension.write_text(
        "from networks.scores import score_function\nscore_function('LOUD', 'dB', 'level')(lambda path: 1.0)\n"
    )
    load_extensions([extension])
    try:
        write_scores(run_of(tmp_path), clip_names(), "LOUD")
        report, _, shown = write_report(tmp_path)
        pictures = {path.stem for path in (report.parent / "report").iterdir()}
    finally:
        load_extensions([])
    assert pictures == {"heat_map", "scores_fan_section_00_LOUD", "roc_fan_section_00_LOUD"}
    assert "baseline_LOUD, percent; 16 clips" in shown
    assert "Worst-ranked clips" not in shown and "Losses:" not in shown
