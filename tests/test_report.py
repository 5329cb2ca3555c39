"""The report: the page stands alone, says what it leaves out, takes any name; its pictures have labelled axes."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from synthetic import directories, machine_folder, write_clip, write_machine

import train
from common import ExperimentPaths, InputError
from datasets.catalogue import load_challenge
from datasets.clips import parse_clip
from datasets.features import FeatureConfig
from datasets.loaders import VectorConfig
from networks.engine import EpochLosses
from tools import make_report, plot_time_frequency, summarize_results
from tools.options import MODEL
from tools.plot_time_frequency import draw_time_frequency, reconstruct
from tools.plots import draw_losses
from tools.record import load_network_of
from tools.report_html import escape
from tools.report_plots import draw_heat_map, draw_roc, draw_scores, partial_region, roc_curves, score_range
from tools.report_sections import worst_clips
from tools.score_files import SectionScores, read_values

PNG = b"\x89PNG\r\n\x1a\n"


class Page(HTMLParser):
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


def paths_of(root, is_eval=False, export_dir="baseline"):
    folders = (root / name for name in ("results", "models", "logs"))
    return ExperimentPaths(*folders, export_dir, MODEL, "DCASE2023T2fan", "id(0_)", is_eval, 13711)


def write_scores(paths, names, score="MSE", machine_type="fan"):
    """Write the scores of the clips, and nothing else."""
    file = paths.anomaly_scores(score, 0)
    file = file.with_name(file.name.replace("T2fan", f"T2{machine_type}"))
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (f'"{name}",{value}\n' for name, value in zip(names, section(names).scores, strict=True))
    file.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")


def write_report(root, is_eval=False, export_dir="baseline", others=()):
    paths = paths_of(root, is_eval, export_dir)
    challenge = load_challenge("DCASE2023T2", is_eval)
    report = make_report.write_report(challenge, paths, root / "data", 0.1, 0.9, others=others)
    text = report.read_text(encoding="utf-8")
    return report, text, " ".join(Page(text).words)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """Return a folder with a network, its log, its test clips, and scores by both scores."""
    root = tmp_path_factory.mktemp("run")
    write_machine(machine_folder(root / "data"))
    words = ["train.py", "--dataset", "DCASE2023T2fan", "-d", "-tag", "id(0_)", "--use_ids", "0", "--use_cuda", "false"]
    words += ["--epochs", "2", "--batch_size", "16", "--n_mels", "32", "--frames", "3", *directories(root)]
    for more in ([], ["--test_only", "--score", "MAHALA"]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", words + more)
            assert train.main() == 0
    return root


@pytest.fixture
def trained(small_run, tmp_path):
    """Return a copy of the small run."""
    return Path(shutil.copytree(small_run, tmp_path / "copy"))


def test_a_complete_run_gives_one_page_with_all_pictures_in_it(trained, monkeypatch, capsys):
    words = ["DCASE2023T2", "-d", "--report", *directories(trained)]
    monkeypatch.setattr("sys.argv", ["03_summarize_results.sh", *map(str, words)])
    assert summarize_results.main() == 0, capsys.readouterr().err
    report = paths_of(trained).report("DCASE2023T2")
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    images = page.all("img")
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in images)
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
    assert "(1 of 7 sections)" in shown and "threshold" in shown and "ranked lowest by" in shown
    assert "loss curves" not in shown.lower().partition("how to read")[0]


def test_other_systems_stand_in_the_tables_and_the_heat_map(trained):
    rival = trained / "Rival_X_task2_1"
    rival.mkdir()
    ours = paths_of(trained).anomaly_scores("MSE", 0)
    shutil.copy(ours, rival / "anomaly_score_fan_section_00_test.csv")
    _, _, shown = write_report(trained, others=[rival])
    assert "Rival_X_task2_1, percent" in shown
    assert "Rival_X_task2_1: official score" in shown


def test_a_network_is_drawn_with_the_parameters_of_its_record(trained, monkeypatch, capsys):
    network = paths_of(trained).network
    model, features, vectors = load_network_of(network, torch.device("cpu"))
    assert (features.n_mels, vectors.frames) == (32, 3)
    clip = next((machine_folder(trained / "data") / "test").iterdir())
    name, clip = clip.name, clip.rename(trained / "any name $x_$ \N{SNOWMAN}.wav")
    output = trained / "picture.png"
    monkeypatch.setattr("sys.argv", ["plot_time_frequency", str(network), str(clip), "--output", str(output)])
    assert plot_time_frequency.main() == 0, capsys.readouterr().err
    assert output.read_bytes().startswith(PNG)
    shown = reconstruct(model, clip, features, vectors)
    assert shown.frames.shape == shown.error.shape == (16, 32)
    *panels, _, _ = draw_time_frequency(shown, "clip").axes
    written = read_values(paths_of(trained).anomaly_scores("MSE", 0))
    assert shown.mean_squared_error == pytest.approx(written[name])
    assert [axes.get_title() for axes in panels] == ["log-mel input", "reconstruction", "error"]
    assert {axes.get_xlabel() for axes in panels} == {"time (s)"}
    assert panels[0].get_ylabel() == "frequency (kHz, 32 mel bands)"
    output.unlink()
    network.with_suffix(".json").write_text('{"n_mels": 10}')
    assert plot_time_frequency.main() == 1
    assert "is no record of a training run" in capsys.readouterr().err
    network.with_suffix(".json").unlink()  # as with a network of the reference: baseline.yaml's, which do not fit
    assert plot_time_frequency.main() == 1
    assert "does not fit n_mels 128" in capsys.readouterr().err and not output.exists()


def test_frames_in_no_vector_have_no_reconstruction_and_the_mean_is_over_vectors(tmp_path):
    """With 3 frames a vector, one every 2: of 6 frames the last is in none, and frame 2 is in two vectors."""

    class Position(torch.nn.Module):
        def forward(self, vectors):  # the first vector gives 0, the second 1
            return torch.arange(len(vectors)).float()[:, None].expand(vectors.shape)

    write_clip(tmp_path / "clip.wav", 0, seconds=5.5 * 512 / 16000)
    shown = reconstruct(Position(), tmp_path / "clip.wav", FeatureConfig(n_mels=8), VectorConfig(3, 2))
    assert shown.frames.shape == (6, 8)
    np.testing.assert_array_equal(shown.reconstruction[:, 0], [0, 0, 0.5, 1, 1, np.nan])


def test_hostile_names_are_only_text(tmp_path):
    hostile = "<img src=x onerror=alert(1)>&'$\\frac$"
    names = [name.replace("spd_1", hostile + "\udcff") for name in clip_names()]
    export_dir = "<script>alert(1)<&script>"
    write_scores(paths_of(tmp_path, export_dir=export_dir), names)
    _, text, shown = write_report(tmp_path, export_dir=export_dir)
    assert "<script" not in text and "<img src=x" not in text
    assert export_dir in shown
    assert escape('<a href="x">\'\udcff\x00') == "&lt;a href=&quot;x&quot;&gt;&#x27;\N{REPLACEMENT CHARACTER}" * 1 + (
        "\N{REPLACEMENT CHARACTER}"
    )


def test_a_clips_hostile_name_stands_in_the_caption_and_in_the_picture(trained):
    folder = machine_folder(trained / "data") / "test"
    paths = paths_of(trained)
    for file in folder.iterdir():
        file.rename(file.with_name(file.name.replace("spd_1", "<b>$\\frac$ \N{SNOWMAN}")))
    scores = paths.anomaly_scores("MSE", 0)
    scores.write_text(scores.read_text().replace("spd_1", "<b>$\\frac$ \N{SNOWMAN}"))
    paths.decisions("MSE", 0).unlink()
    paths.anomaly_scores("MAHALA", 0).unlink()
    _, text, shown = write_report(trained)
    assert "<b>" not in text and "_<b>$\\frac$ \N{SNOWMAN}.wav" in shown


def test_what_is_not_on_disk_is_left_out_and_said(tmp_path):
    write_scores(paths_of(tmp_path), clip_names())
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


def test_missing_recordings_and_a_broken_log_are_said(trained):
    for clip in (machine_folder(trained / "data") / "test").iterdir():
        clip.unlink()
    paths_of(trained).anomaly_scores("MAHALA", 0).unlink()
    paths_of(trained).log_csv.write_text("loss,val_loss\n1.0\n")
    pictures = paths_of(trained).report_picture("DCASE2023T2", "clip_fan_of_an_earlier_report")
    pictures.parent.mkdir(parents=True)
    pictures.touch()
    _, _, shown = write_report(trained)
    assert not pictures.exists()
    assert "Worst-ranked clips: their recordings are not there (fan)." in shown
    assert "log.csv is not a log of a training run" in shown


def test_unlabelled_clips_have_score_distributions_only(tmp_path):
    names = [f"section_00_{i:04d}.wav" for i in range(9)]
    write_scores(paths_of(tmp_path, is_eval=True), names, machine_type="fan")
    paths = paths_of(tmp_path, is_eval=True)
    file = paths.anomaly_scores("MSE", 0)
    file.rename(file.with_name(file.name.replace("T2fan", "T2bandsaw")))
    report, _, shown = write_report(tmp_path, is_eval=True)
    assert [path.stem for path in (report.parent / "report").iterdir()] == ["scores_bandsaw_section_00_MSE"]
    assert "the test clips are not labelled (bandsaw)" in shown
    assert "official score" not in shown.partition("How to read")[0]


def test_without_any_scores_there_is_no_report(tmp_path):
    with pytest.raises(InputError, match=r"there are no scores of DCASE2023T2 .* run 02a_test.sh"):
        write_report(tmp_path)
    assert not paths_of(tmp_path).report("DCASE2023T2").exists()


def test_every_axis_has_a_label():
    scores = section(clip_names())
    figures = [
        draw_heat_map({metric: {"MSE": {"fan": 0.5, "valve": None}} for metric in ("AUC (source)", "pAUC")}),
        draw_scores(scores, 11.0, "fan", "dB²"),
        draw_scores(scores, None, "fan", "dB²"),
        draw_roc(roc_curves(scores), 0.5, 0.1, "fan"),
    ]
    for figure in figures:
        panels = figure.axes
        assert panels[0].get_ylabel() and any(axes.get_xlabel() for axes in panels)
        for axes in panels:
            box = axes.get_subplotspec()
            assert axes.get_ylabel() or box is None or not box.is_first_col()
            assert axes.get_xlabel() or box is None or not box.is_last_row()
    assert figures[1].axes[-1].get_xlabel() == "anomaly score (dB²)"
    assert figures[0].axes[-1].get_ylabel() == "area (percent; 50 is chance)"


def test_scores_far_out_are_counted_in_the_outermost_bars_and_said():
    scores = section(clip_names(10))
    scores.scores[0] = 1e9
    low, high = score_range(scores.scores, threshold=1e8)
    assert 0 < low < high < 50
    note = draw_scores(scores, 1e8, "fan", "no unit").axes[-1].get_xlabel()
    assert "1 clip(s) beyond the axis" in note and "the threshold 1e+08 is beyond the axis" in note
    assert score_range(np.full(5, 3.0), None)[0] < 3.0 < score_range(np.full(5, 3.0), None)[1]


def test_the_pauc_region_ends_at_the_largest_false_positive_rate():
    scores = section(clip_names(10))
    curve = roc_curves(scores)[-1]
    x, y = partial_region(curve, 0.13)
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
