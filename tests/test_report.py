"""The report: the page stands alone, says what it leaves out, takes any name; its pictures have labelled axes."""

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from pandas import DataFrame
from sklearn.metrics import roc_auc_score
from synthetic import directories, machine_folder, run, write_clip, write_machine

from common import REPOSITORY, InputError, Settings, load_extensions, read_defaults
from datasets.catalogue import load_challenge
from datasets.clips import parse_clip
from datasets.front_ends import make_front_end
from networks.trained import Trained, load_trained
from networks.training import EpochLosses
from tools import plot_time_frequency
from tools.report.areas import draw_heat_map, draw_roc, partial_curve, roc_curves
from tools.report.chapters import worst_clips
from tools.report.page import Chapter, Picture, render
from tools.report.report import write_report as write_report_of
from tools.report.time_frequency import draw_time_frequency, reconstruct
from tools.results import __main__ as summarize_results
from tools.results.files import SectionScores, read_clip_values
from tools.results.plots import draw_histogram, draw_losses, score_bars, score_groups, to_png
from tools.results.reading import read_results
from tools.results.tables import our_tables
from tools.results.test_record import make_test_record, result_record_path, write_test_record
from tools.runtime.files import sha256_of
from tools.runtime.names import Experiment

PNG = b"\x89PNG\r\n\x1a\n"


class Parsed(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        """Keep a tag."""
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        """Keep some text."""
        self.words.append(data)

    def all(self, tag):
        """Return the attributes of all tags of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def clip_names(n=4, attributes="spd_1"):
    return [
        f"section_00_{domain}_test_{label}_{i:04d}_{attributes}.wav"
        for label in ("normal", "anomaly")
        for domain in ("source", "target")
        for i in range(n)
    ]


def section(names, seed=0):
    scores = np.random.default_rng(seed).normal(10, 2, len(names))
    return SectionScores([parse_clip(Path(name)) for name in names], scores, None)


def histogram(scores, threshold, title, unit):
    return draw_histogram(score_groups(scores.clips, scores.scores), threshold, title, unit)


def curves_of(scores):
    return roc_curves(scores.is_anomaly, scores.is_target, scores.scores)


def settings_of(root, export_dir="baseline"):
    folders = {f"{name}_directory": root / folder for name, folder in FOLDERS.items()}
    own = {"export_dir": export_dir, "use_cuda": False, "extension": []}
    return Settings({**read_defaults(), **folders, **own})


FOLDERS = {"result": "results", "model": "models", "log": "logs", "dataset": "data"}


def run_of(root, is_eval=False, export_dir="baseline", machine_type="fan"):
    return Experiment.of(settings_of(root, export_dir), is_eval).run("DCASE2023T2", machine_type, 0)


def write_scores(run, names, score="MSE"):
    """Write the scores of the clips, and nothing else."""
    file = run.anomaly_scores(score, 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (f'"{name}",{value}\n' for name, value in zip(names, section(names).scores, strict=True))
    file.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")


def write_report(root, is_eval=False, export_dir="baseline", others=()):
    settings = settings_of(root, export_dir)
    challenge = load_challenge("DCASE2023T2", is_eval)
    results = read_results(challenge, Experiment.of(settings, is_eval), 0.1, others=map(str, others))
    report = write_report_of(results, our_tables(results, {}) if results.figures else [], settings)
    text = report.read_text(encoding="utf-8")
    return report, text, " ".join(" ".join(Parsed(text).words).split())


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Return a folder with a network, its log, its test clips, and scores by both scores."""
    root = tmp_path_factory.mktemp("run")
    write_machine(machine_folder(root / "data"))
    words = ["--dataset", "DCASE2023T2fan", "-d", "-tag", "id(0_)", "--use_ids", "0", "--use_cuda", "false"]
    words += ["--epochs", "2", "--batch_size", "16", "--n_mels", "32", "--frames", "3", *directories(root)]
    for more in ([], ["--test_only", "--score", "MAHALA"]):
        done = run(sys.executable, REPOSITORY / "train.py", *words, *more)
        assert done.returncode == 0, done.stderr
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


def test_other_systems_stand_in_the_tables_and_the_heat_map(trained):
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
    *panels, _, _ = draw_time_frequency(shown, "clip").axes
    written = read_clip_values(run_of(trained).anomaly_scores("MSE", 0))
    assert shown.mean_squared_error == pytest.approx(written[name])
    assert [axes.get_title() for axes in panels] == ["log-mel input", "reconstruction", "error"]
    assert {axes.get_xlabel() for axes in panels} == {"time (s)"}
    assert panels[0].get_ylabel() == "frequency (kHz, 32 bands)"
    output.unlink()
    network.with_suffix(".json").write_text('{"n_mels": 10}')
    assert plot_time_frequency.main() == 1
    assert "n_mels 10" in capsys.readouterr().err
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
    shown = reconstruct(Trained(Position(), make_front_end(settings), settings, None), tmp_path / "clip.wav")
    assert shown.frames.shape == (6, 8)
    np.testing.assert_array_equal(shown.reconstruction[:, 0], [0, 0, 0.5, 1, 1, np.nan])


def test_hostile_names_are_only_text(tmp_path):
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


def test_a_clips_hostile_name_stands_in_the_caption_and_in_the_picture(trained):
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


def test_what_is_not_on_disk_is_left_out_and_reported(tmp_path):
    write_scores(run_of(tmp_path), clip_names())
    report, _, shown = write_report(tmp_path)
    for sentence in (
        "Loss curves: there is no log.csv (fan).",
        "Worst-ranked clips: there is no network (fan).",
        "The threshold of MSE: no fitted distribution is on disk (fan).",
    ):
        assert sentence in shown
    assert re.search(r"Scores by MAHALA: there are none \(ToyCar;.* valve\)", shown)
    assert {path.stem for path in (report.parent / "report").iterdir()} == {
        "heat_map",
        "scores_fan_section_00_MSE",
        "roc_fan_section_00_MSE",
    }


def test_sections_are_drawn_side_by_side_as_one_after_the_other(tmp_path, monkeypatch):
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


def test_every_axis_has_a_label():
    scores = section(clip_names())
    figures = [
        draw_heat_map({metric: {"MSE": {"fan": 0.5, "valve": None}} for metric in ("AUC (source)", "pAUC")}),
        histogram(scores, 11.0, "fan", "dB²"),
        histogram(scores, None, "fan", "dB²"),
        draw_roc(curves_of(scores), 0.5, 0.1, "fan"),
    ]
    for figure in figures:
        panels = figure.axes
        assert panels[0].get_ylabel() and any(axes.get_xlabel() for axes in panels)
        for axes in panels:
            box = axes.get_subplotspec()
            assert axes.get_ylabel() or box is None or not box.is_first_col()
            assert axes.get_xlabel() or box is None or not box.is_last_row()
    assert figures[1].axes[-1].get_xlabel() == "anomaly score (dB²)"
    assert figures[0].axes[-1].get_ylabel().split() == "area (percent; 50 is chance)".split()


def test_scores_far_out_have_a_bar_of_their_own_that_is_counted():
    scores = section(clip_names(10))
    scores.scores[0] = 1e9
    bars, low, high = score_bars(scores.scores, threshold=1e8)
    assert 0 < low < high < 50
    figure = histogram(scores, 1e8, "fan", "no unit")
    note = figure.axes[-1].get_xlabel()
    assert "beyond the grey line, in one bar: 1 above" in note and "the threshold 1e+08 is beyond the axis" in note
    assert bars[0] == low and bars[-2] == high < bars[-1]
    drawn = [bars.get_data() for axes in figure.axes for bars in axes.patches]
    assert all(np.array_equal(data.edges, bars) for data in drawn)
    assert sum(data.values.sum() for data in drawn) == 40 and sum(data.values[-1] for data in drawn) == 1
    assert figure.axes[0].get_title() == "source domain: 10 normal, 10 anomalous"
    bars, low, high = score_bars(np.full(5, 3.0), None)
    assert bars[0] == low < 3.0 < high == bars[-1]


def test_the_pauc_region_ends_at_the_largest_false_positive_rate():
    scores = section(clip_names(10))
    curve = curves_of(scores)[-1]
    x, y = partial_curve(curve.false_positive_rate, curve.true_positive_rate, 0.13)
    area = np.trapezoid(y, x)
    smallest, largest = 0.13**2 / 2, 0.13
    expected = roc_auc_score(scores.is_anomaly, scores.scores, max_fpr=0.13)
    assert (1 + (area - smallest) / (largest - smallest)) / 2 == pytest.approx(expected)
    assert x[-1] == 0.13


def test_the_worst_clips_are_the_highest_normal_and_the_lowest_anomalous():
    scores = section(clip_names(1))  # source and target normal, source and target anomalous
    scores.scores[:] = 3.0, 7.0, 5.0, 9.0
    highest, lowest = worst_clips(scores)
    assert (highest.index, highest.rank, highest.name) == (1, 2, "highest normal")
    assert (lowest.index, lowest.rank, lowest.name) == (2, 3, "lowest anomalous")


def test_labels_of_losses_over_decades_are_not_on_each_other():
    losses = [EpochLosses(*(1500 / factor for _ in range(5))) for factor in (1, 10, 100)]
    axes = draw_losses(losses, "fan", (5.4, 4.8)).axes[0]
    low, high = axes.get_ylim()
    assert [tick for tick in axes.yaxis.get_minorticklocs() if low < tick < high] == [20, 50, 200, 500]
    assert axes.get_xlabel() == "epoch" and "dB²" in axes.get_ylabel()


def record_test(root):
    """Write the record of a test beside the scores of the small run."""
    run = run_of(root)
    scores = run.anomaly_scores("MSE", 0)
    files = {path.name: sha256_of(path) for path in (scores, run.decisions("MSE", 0))}
    record = make_test_record(run, settings_of(root), {0: list(read_clip_values(scores))}, True, 12.5, files)
    with result_record_path(run, "MSE").open("w") as file:
        write_test_record(file, record)
    return record


def test_the_report_says_whose_results_it_shows(trained):
    record = record_test(trained)
    _, _, shown = write_report(trained)
    assert "DCASE2023T2, development set: baseline, seed 13711" in shown
    assert f"trained for 2 epochs on {record.trained[:10]}, tested on {record.date[:10]}, 12 clips" in shown
    assert "Parameters of DCASE2023T2-AE: " in shown
    assert record.trained[:16] in shown
    assert "Anomaly scores by MSE, threshold 12.5." in shown
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
    run.record.write_text(json.dumps(record))
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


def test_a_score_of_an_extension_is_drawn_like_ours(tmp_path):
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
    assert "Worst-ranked clips" not in shown.partition("How to read")[0]


def test_names_in_pictures_are_no_mathematics_and_have_characters_that_exist():
    scores = section(clip_names())
    for name in ("$\\frac$", "a_$x", "\N{SNOWMAN} \udcff"):
        for figure in (
            draw_heat_map({"pAUC": {name: {name: 0.5}}}),
            histogram(scores, -1.5, name, "dB²"),
            draw_roc(curves_of(scores), 0.5, 0.1, name),
        ):
            assert to_png(figure).startswith(PNG)
