"""Extensions: what a user's file registers is trained, resumed, tested and scored like what is built in.

The contract tests run over all networks, front ends and scores, the examples' included.
"""

import json
import shutil
import sys
from pathlib import Path

import common

import numpy as np
import pytest
import soundfile
from synthetic import REPOSITORY, RUN, directories, folders, machine_folder, rows, succeed, written

from networks.names import Experiment, Run
from tools import score as score_command
from tools.results import __main__ as summarize_results
from tools.score import Scorer

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
EXTENSIONS = [word for path in EXAMPLES for word in ("--extension", str(path))]
RECONSTRUCTION = ("MAHALA", "MSE", "KNN")
TAGGED = ("-tag", "id(0_)", "--use_ids", "0")  # as the scripts call it
WAVE = ("--model", "WAVE-AE", "--front_end", "WAVEFORM", "--frames", "8")
VARIANTS = [
    ((), RECONSTRUCTION),
    (("--model", "VAE", "--front_end", "PCEN"), RECONSTRUCTION),
    (WAVE, ("WAVE-MSE",)),
]
LOUDNESS = """
import numpy as np
from datasets.audio import read_samples
from networks.scores import score_function

@score_function("LOUDNESS", unit="dB", description="loudness of a clip")
def loudness(path):
    return float(10 * np.log10(np.mean(read_samples(path)[0] ** 2)))
"""


@pytest.fixture
def extension(tmp_path):
    """Return a function that writes an extension file and returns its path."""

    def write(text: str, name: str = "extension.py") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.mark.parametrize(("variant", "scores"), VARIANTS, ids=["baseline", "VAE and PCEN", "waveforms"])
def test_an_interrupted_run_ends_with_the_same_bytes_and_single_clips_have_the_scores_of_the_test_stage(
    call_train, call_train_and_stop, workplace, options, variant, scores
):
    words = [*options, *EXTENSIONS, *variant, "--epochs", "3"]
    assert call_train(*words, "--train_only").status == 0
    uninterrupted = written(workplace)
    n_networks = sum(name.endswith(".pth") for name in uninterrupted)
    assert n_networks == 1 + ("KNN" in scores)  # the network, and KNN's tensors
    shutil.rmtree(workplace / "models")
    shutil.rmtree(workplace / "logs")
    stopped = call_train_and_stop(*words, "--train_only")
    assert (stopped.status, "1 of 3 epochs are saved" in stopped.err) == (143, True)
    resumed = call_train(*words, "--train_only", "--restart")
    assert (resumed.status, "1 of 3 epochs are done" in resumed.out) == (0, True)
    assert written(workplace) == uninterrupted

    (network,) = (p for p in workplace.glob("models/saved_model/baseline/*.pth") if not p.name.startswith("score_"))
    for name in scores:
        assert call_train(*words, "--test_only", "--score", name).status == 0
        (anomaly_scores,) = workplace.glob(f"results/dev_data/*_{name}/anomaly_score*.csv")
        (decisions,) = anomaly_scores.parent.glob("decision*.csv")
        scorer = Scorer(network, score=name, extensions=EXAMPLES)
        for line, decision in zip(rows(anomaly_scores)[::5], rows(decisions)[::5], strict=True):
            scored = scorer(machine_folder(workplace / "data") / "test" / line[0])
            assert ([line[0], repr(scored.score)], [line[0], str(scored.decision)]) == (line, decision)


def test_networks_and_front_ends_of_one_experiment_do_not_overwrite_each_other(workplace):
    common.load_extensions([REPOSITORY / "examples/vae_network.py", REPOSITORY / "examples/pcen_front_end.py"])
    settings = common.Settings(common.read_defaults()).replace(**folders(workplace))
    systems = Experiment.of(settings, is_eval=False).systems()
    assert {name for name in systems if name.endswith("MSE")} == {
        *("baseline_MSE", "baseline_VAE_MSE", "baseline_PCEN_MSE", "baseline_VAE_PCEN_MSE"),
    }
    assert len({Run(experiment, "DCASE2023T2fan", "").network for experiment, _ in systems.values()}) == 4


def test_a_score_fitted_on_first_use_has_the_bytes_of_one_fitted_in_training(call_train, workplace, trained):
    knn = [*trained, "--extension", REPOSITORY / "examples/knn_score.py"]
    before = written(workplace)
    originals = {path.name: path.read_bytes() for path in workplace.glob("models/saved_model/baseline/*")}
    outcome = call_train(*knn, "--test_only", "--score", "KNN")
    assert (outcome.status, "fitting KNN (knn_k 1) to the training clips" in outcome.out) == (0, True), outcome.err
    on_first_use = written(workplace)
    assert set(on_first_use) - set(before) == {f"models/saved_model/baseline/score_state_{RUN}_knn.pth"}
    assert call_train(*knn, "--train_only").status == 0
    assert written(workplace) == on_first_use
    for path in workplace.glob("models/saved_model/baseline/*"):  # as before the extension was given
        path.unlink() if path.name.startswith("score_state") else path.write_bytes(originals[path.name])
    outcome = call_train(*knn, "--train_only", "--restart")
    assert (outcome.status, "is complete" in outcome.out) == (0, True)
    assert written(workplace) == before
    assert call_train(*knn, "--test_only", "--score", "KNN").status == 0
    for words, is_fitted in ((("KNN",), False), (("KNN", "--knn_k", "2"), True), (("MSE",), False)):
        outcome = call_train(*knn, "--test_only", "--score", *words)
        assert (outcome.status, "fitting KNN" in outcome.out) == (0, is_fitted)
    next((machine_folder(workplace / "data") / "train").iterdir()).unlink()
    outcome = call_train(*knn, "--test_only", "--score", "KNN", "--knn_k", "3")
    assert (outcome.status, "the training clips have changed since" in outcome.err) == (1, True)


def test_a_function_of_a_path_is_a_score_that_needs_no_network(call_train, workplace, options, extension):
    path = extension(LOUDNESS)
    words = [*options, "--extension", path, "--test_only", "--score", "LOUDNESS"]
    for expected in (True, False):
        outcome = call_train(*words)
        assert outcome.status == 0, outcome.err
        assert ("fitting LOUDNESS to the training clips" in outcome.out) == expected
    folder, ending = workplace / "results/dev_data/baseline_LOUDNESS", "DCASE2023T2fan_section_00_test_seed13711.csv"
    assert len(rows(folder / f"anomaly_score_{ending}")) == 12
    assert {decision for _, decision in rows(folder / f"decision_result_{ending}")} <= {"0", "1"}
    assert (folder / "result_DCASE2023T2fan_test_seed13711_roc.csv").is_file()
    assert not list(workplace.rglob("*.npy"))
    assert not list(workplace.rglob("*.pth"))


def test_a_networks_changed_extension_is_reported_and_a_scores_changed_extension_is_fitted_again(
    call_train, workplace, options, extension
):
    vae = extension((REPOSITORY / "examples/vae_network.py").read_text(), "vae.py")
    knn = extension((REPOSITORY / "examples/knn_score.py").read_text(), "knn.py")
    words = [*options, "--extension", vae, "--extension", knn, "--model", "VAE", "--score", "KNN"]
    assert call_train(*words).status == 0
    for path in (knn, vae):
        path.write_text(path.read_text() + "\n# another comment\n")
    outcome = call_train(*words, "--test_only")
    assert (outcome.status, "fitting KNN" in outcome.out, "before" in outcome.out) == (0, False, False)
    knn.write_text(knn.read_text() + "\nANOTHER = 1\n")
    outcome = call_train(*words, "--test_only")
    assert (outcome.status, "fitting KNN" in outcome.out) == (0, True)
    vae.write_text(vae.read_text() + "\nANOTHER = 1\n")
    outcome = call_train(*words, "--test_only")
    assert outcome.status == 0
    assert "VAE_DCASE2023T2fan_seed13711.pth was trained before vae.py changed" in outcome.out
    outcome = call_train(*words, "--train_only", "--restart")
    assert outcome.status == 1
    assert "checkpoint.tar was trained before vae.py changed" in outcome.err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\ny = x +\n", "line 2: SyntaxError: invalid syntax"),
        ("x = 1\n", "registers no network, score or front end"),
        ("from common import SCORES\n\n@SCORES.register\nclass A:\n    name = 'mse'\n", "the name mse is taken"),
    ],
)
def test_an_error_in_an_extension_is_reported_with_its_line(call_train, options, extension, text, sentence):
    path = extension(text)
    outcome = call_train(*options, "--extension", path)
    assert outcome.status == 1
    assert sentence in outcome.err
    assert str(path) in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("name", ["frames", "seeds"])
def test_a_parameters_invalid_or_taken_name_is_refused_when_the_extension_is_loaded(extension, name):
    text = OWN["score"].replace("import SCORES", "import *")
    text += f"    options = (Parameter({name!r}, integer(1), '', default=1),)"
    with pytest.raises(common.InputError, match=f"OWN declares the parameter '{name}'.*; give it another name"):
        common.load_extensions([extension(text)])


def test_the_keys_of_records_and_of_the_caches_key_are_reserved(finished_run):
    """An extension's parameter of that name would overwrite them, or be overwritten."""
    record = json.loads(next(finished_run.glob(f"models/saved_model/*/{RUN}.json")).read_text())
    cache = json.loads(next(finished_run.glob("data/*/*/processed/*/train*.json")).read_text())["key"]["config"]
    keys = {*record, *record["scores"]["MSE"]["fitted_with"], *cache, "initial_weights_file"}
    assert keys - set(common.BY_NAME) - common.RESERVED == set()


WORDS = {
    "network": ["--model", "OWN"],
    "front_end": ["--front_end", "OWN"],
    "score": ["--train_only"],
    "function": ["--test_only", "--score", "OWN"],
}
OWN = {
    "score": """
from common import SCORES
from networks.scores import Score
@SCORES.register
class Own(Score):
    name, unit, description = "OWN", "dB", "own"
    def of_clip(self, clip): return clip.vectors.mean()
""",
    "function": """
from networks.scores import score_function
@score_function("OWN", unit="dB", description="own")
def own(path): return 1.0
""",
    "network": """
import torch
from common import NETWORKS
from networks.autoencoder import AutoEncoder
from networks.network import Losses
@NETWORKS.register
class Own(AutoEncoder):
    name, description = "OWN", "own"
    def forward(self, vectors): return super().forward(vectors)
""",
    "front_end": """
import numpy as np
from common import FRONT_ENDS
from datasets.front_ends import LogMel
@FRONT_ENDS.register
class Own(LogMel):
    name, unit = "OWN", "dB"
""",
}


@pytest.mark.parametrize(
    ("kind", "method", "sentence"),
    [
        ("score", "fit(self, data): return [1.0]", "no gamma distribution fits the 1 values (1 distinct) that OWN"),
        ("score", "of_clip(self, clip): return clip.vectors.mean(dim=1)", "values of shape (12,); return one"),
        ("score", "of_clip(self, clip): return float('nan')", "OWN gives scores that are not finite, first for /"),
        ("score", "fit(self, data): self.a = 1; return [1, 2]\n    def of_clip(self, clip): return self.a",
         "OWN cannot score a clip after load(state()) (AttributeError: 'Own' object has no attribute 'a')"),
        ("score", "state(self): return {'a': Score}", "OWN cannot score a clip after load(state()) (UnpicklingError"),
        ("network", "forward(self, vectors): return vectors[:, :3]", "OWN.forward returned values of shape (2, 3);"),
        ("network", "losses(self, vectors): return vectors.mean()",
         "OWN.losses returned values of shape (); return Losses(one loss per vector)"),
        ("score", "of_clip(self, clip): pass", "OWN.of_clip returned None; return one number"),
        ("network", "losses(self, vectors): return Losses(self(vectors).mean())",
         "OWN.losses returned as Losses.reconstruction values of shape (); give one loss per vector, a tensor of"),
        ("front_end", "__call__(self, samples, rate): return super().__call__(samples, rate).T",
         "OWN returned values of shape (128, 16); expected real numbers of shape (16, 128) for /"),
        ("front_end", "__call__(self, samples, rate): return super().__call__(samples, rate) * np.inf", "NaN or inf"),
    ],
)  # fmt: skip
def test_what_would_pass_without_an_error_is_checked(call_train, options, extension, kind, method, sentence):
    path = extension(OWN[kind] + f"    def {method}\n")
    outcome = call_train(*options, "--extension", path, *WORDS[kind])
    assert sentence in outcome.out + outcome.err
    if "gamma distribution" not in sentence:
        assert (outcome.status, "Traceback" in outcome.err) == (1, False)
        assert outcome.err.startswith("error: ")
        assert str(path) in outcome.err or "finite, first" in sentence


def test_a_score_that_cannot_be_fitted_fails_before_training_unless_it_needs_more_than_two_clips(
    call_train, workplace, options, extension
):
    for path, message in (
        (
            extension(OWN["score"] + "    def fit(self, data): return [data.clip]\n", "a.py"),
            "no attribute 'clip'; correct",
        ),
        (extension(OWN["score"] + "    def fit(self, data): return [[1.0, 2.0, 3.0][i] for i in range(9)]\n"), "range"),
    ):
        outcome = call_train(*options, "--extension", path, "--train_only")
        assert (outcome.status, message in outcome.err, "epoch " in outcome.out) == (1, True, False), outcome.err
    assert not list(workplace.rglob("checkpoint.tar"))
    fit = "    def fit(self, data): assert len(data.clips) > 2; return super().fit(data)\n"
    assert call_train(*options, "--extension", extension(OWN["score"] + fit), "--train_only").status == 0


def test_a_module_beside_an_extension_is_imported_and_counts_as_its_code(
    call_train, workplace, options, extension, monkeypatch
):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (workplace / "my_package").mkdir()
    extension("def later():\n    from . import inner\n", "my_package/__init__.py")  # not imported, but counts
    extension("from . import later\n", "my_package/inner.py")
    extension("import my_package\n", "my_helper.py")
    path = extension(OWN["network"].replace("import torch\n", "import my_helper\nimport torch\n"))
    assert call_train(*options, "--extension", path, "--model", "OWN", "--train_only").status == 0
    record = json.loads(next(workplace.glob("models/saved_model/*/*.json")).read_text())
    assert {"extension.py", "my_helper.py", "my_package.py", "my_package/inner.py"} < {*record["sources"]}


def test_a_front_end_of_all_channels_gets_them_in_training_tests_and_single_clips(
    call_train, call_command, workplace, options, no_pictures
):
    folder = machine_folder(workplace / "data")
    for path in folder.glob("*/*.wav"):
        samples, rate = soundfile.read(path)
        soundfile.write(path, np.stack([samples, 0.3 * samples[::-1]], axis=1), rate)
    folder.parents[2].rename(workplace / "data/dcase2026t2")
    words = [*options, "--extension", REPOSITORY / "examples/two_channels.py", "--front_end", "NEAR-FAR", *TAGGED]
    words[1] = "DCASE2026T2fan"
    assert call_train(*words).status == 0
    record = json.loads(next(workplace.glob("models/saved_model/*/*.json")).read_text())
    assert record["clip_channels"] == 2
    line = rows(next(workplace.glob("results/dev_data/*/anomaly_score*.csv")))[0]
    clip = machine_folder(workplace / "data", challenge="dcase2026t2") / "test" / line[0]
    scorer = Scorer(next(workplace.glob("models/saved_model/*/*.pth")), extensions=EXAMPLES, score="MSE")
    assert scorer(clip) == scorer(*soundfile.read(clip))
    summary = ["DCASE2026T2", "-d", "--extension", REPOSITORY / "examples/two_channels.py", *directories(workplace)]
    assert "baseline_NEAR-FAR_MSE" in succeed(call_command(summarize_results.main, *summary))
    outcome = call_train(*words, "--channel", "0")
    assert (outcome.status, "--channel, but NEAR-FAR takes all channels; leave" in outcome.err) == (1, True)


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("score", "fit(self, data): pass"),
        ("function", ""),
    ],
)
def test_what_python_notices_ends_the_program(call_train, workplace, options, extension, kind, method):
    text = OWN[kind].replace("return 1.0", "return 'loud'") + (f"    def {method}\n" if method else "")
    outcome = call_train(*options, "--extension", extension(text), *WORDS[kind])
    assert (outcome.status, "Error: " in outcome.err) == (1, True)
    assert not list(workplace.glob("models/saved_model/*/*.pth"))


def test_options_may_be_paths_and_are_shown_in_the_lines_about_a_score(call_train, workplace, options, extension):
    declared = (
        "    options = (Parameter('own_file', optional(PATH), ''), Parameter('own_k', integer(1), '', default=1))"
    )
    score = OWN["score"].replace("import SCORES", "import *") + declared
    declared = "    options = (Parameter('net_file', PATH, '', default=Path('x')),)"
    network = OWN["network"].replace("import NETWORKS", "import *") + declared
    words = [*options, "--extension", extension(score), "--extension", extension(network, "net.py"), "--model", "OWN"]
    files = ["--own_file", workplace / "a.csv", "--net_file", workplace / "b.csv"]
    assert call_train(*words, *files, "--train_only").status == 0
    outcome = call_train(*words, *files, "--train_only", "--restart")
    assert (outcome.status, "nothing is left to do" in outcome.out) == (0, True)
    outcome = call_train(*words, *files, "--score", "OWN", "--test_only", "--own_k", "2")
    assert outcome.status == 0, outcome.err
    assert f"fitting OWN (own_file {workplace}/a.csv, own_k 2) to the training clips" in outcome.out
    assert f"threshold of OWN (own_file {workplace}/a.csv, own_k 2): " in outcome.out


def test_a_scorer_takes_the_options_that_a_score_was_fitted_with_and_refuses_others(
    call_train, call_command, workplace, trained
):
    knn = ["--extension", REPOSITORY / "examples/knn_score.py", "--score", "KNN"]
    assert call_train(*trained, *knn, "--knn_k", "2", "--test_only").status == 0
    network = next(workplace.glob("models/saved_model/*/DCASE*.pth"))
    clip = next((machine_folder(workplace / "data") / "test").iterdir())
    assert "threshold of KNN (knn_k 2): " in call_command(score_command.main, network, clip, *knn).err
    outcome = call_command(score_command.main, network, clip, *knn, "--knn_k", "3")
    assert outcome.status == 1
    assert f"KNN (knn_k 3) is not fitted to {network.name}, only KNN (knn_k 2); run" in outcome.err


@pytest.mark.parametrize("end", ["    def of_clip(self, clip): sys.exit(0)\n", "sys.exit(0)\n"])
def test_an_extension_that_ends_the_program_is_an_error(call_train, options, extension, end):
    path = extension("import sys\n" + OWN["score"] + end)
    outcome = call_train(*options, "--extension", path, "--train_only")
    sentence = f"error: {path}, line 9: SystemExit: 0; correct the extension\n"
    assert (outcome.status, outcome.err) == (1, sentence)


def test_an_unregistered_name_is_reported_with_the_known_ones(call_train, workplace, options, no_pictures):
    outcome = call_train(*options, "--score", "KNN")
    assert outcome.status == 2
    assert "'KNN' is not allowed; it takes MAHALA or MSE, or what a file given as --extension has" in outcome.err
    vae = ["--extension", REPOSITORY / "examples/vae_network.py"]
    assert call_train(*options, *vae, "--model", "VAE", "--train_only").status == 0
    network = next(workplace.glob("models/saved_model/*/VAE*.pth"))
    with pytest.raises(
        common.InputError, match=r"'VAE', which no given file registers; give --extension .*vae_network"
    ):
        Scorer(network)


def test_baseline_yaml_may_hold_options_of_a_loaded_extension(tmp_path):
    path = tmp_path / "baseline.yaml"
    path.write_text((REPOSITORY / "baseline.yaml").read_text() + "\nknn_k: 7\n")
    common.load_extensions([REPOSITORY / "examples/knn_score.py"])
    assert common.read_values(path)["knn_k"] == 7
    common.load_extensions([])
    with pytest.raises(common.InputError, match="unknown key 'knn_k'"):
        common.read_values(path)


def test_the_scorer_takes_samples_and_refuses_another_rate_or_number_of_channels(call_command, workplace, trained):
    network = next(workplace.glob("models/saved_model/*/*.pth"))
    clip = sorted((machine_folder(workplace / "data") / "test").iterdir())[0]
    samples, rate = soundfile.read(clip, dtype="float32")
    scorer = Scorer(network, decision_threshold=0.5)
    assert scorer(samples, rate) == scorer(clip) == scorer(samples.tolist(), rate)
    with pytest.raises(
        common.InputError, match=r"the samples are int16 of shape \(\d+,\) at a rate of 16000; give floats"
    ):
        scorer(soundfile.read(clip, dtype="int16")[0], rate)
    with pytest.raises(common.InputError, match="a sampling rate of 8000 Hz, but the network was trained at 16000 Hz"):
        scorer(samples, 8000)
    with pytest.raises(common.InputError, match="no parameter decision_treshold; did you mean decision_threshold"):
        Scorer(network, decision_treshold=0.5)
    (clip.parent / "one.flac").touch()
    note = f"note: only the .wav files of {clip.parent} are scored; skipped: 1 .flac file\n"
    assert note in call_command(score_command.main, network, clip.parent).err
    soundfile.write(workplace / "stereo.wav", samples[:, None].repeat(2, axis=1), rate)
    outcome = call_command(score_command.main, network, workplace / "stereo.wav")
    assert outcome.status == 1
    assert "stereo.wav has 2 channels, but the network's training clips had 1" in outcome.err


def test_a_network_with_other_losses_is_validated_by_them_and_its_mse_is_fitted_to_squared_errors(
    call_train, workplace, options, extension
):
    absolute = "    def losses(self, vectors): return Losses((self(vectors) - vectors).abs().mean(dim=1))\n"
    own = [*options, "--extension", extension(OWN["network"] + absolute), "--model", "OWN", "--train_only"]
    units, medians = [], []
    for words in (own, [*options, "--train_only"]):
        assert call_train(*words, "--learning_rate", "1e-6").status == 0
        log = max(workplace.glob("logs/*/*/log.csv"), key=lambda path: path.stat().st_mtime)
        record = json.loads(max(workplace.glob("models/*/*/*13711.json"), key=lambda p: p.stat().st_mtime).read_text())
        losses = dict(zip(*(line.split(",") for line in log.read_text().splitlines()[::2]), strict=True))
        assert float(losses["val_loss"]) == pytest.approx(float(losses["loss"]), rel=0.5)
        units.append(record["loss_unit"])
        medians.append(record["scores"]["MSE"]["range"][0])
    assert units == ["loss", "mean squared error, dB²"]
    assert medians[0] == pytest.approx(medians[1], rel=0.5)  # barely trained: both are the input's mean square


def test_a_score_with_a_value_for_each_clip_has_the_threshold_of_these_and_one_far_from_them_is_a_warning(
    call_train, workplace, options, extension
):
    own = OWN["score"] + "    def fit(self, data): return [0.072, 0.05, 0.106, 0.069, 0.063, 0.127]\n"
    words = [*options, "--extension", extension(own), "--score", "OWN"]
    outcome = call_train(*words)
    assert (outcome.status, "is outside the range" in outcome.out) == (0, False)
    (record,) = workplace.glob("results/dev_data/baseline_OWN/test*.json")
    assert json.loads(record.read_text())["threshold"] == pytest.approx(0.1165)
    outcome = call_train(*words, "--test_only", "--threshold_from", "batches", "--decision_threshold", "0.99")
    range_text = "outside the range of the 6 values (6 distinct) that OWN was fitted to, 0.05 to 0.127"
    assert range_text in outcome.out
    assert json.loads(record.read_text())["threshold"] > 0.127
