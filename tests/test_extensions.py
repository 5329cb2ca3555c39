"""Extensions: what a user's file registers is trained, resumed, tested and scored like what is built in.

The contract tests run over all networks, front ends and scores, the examples' included.
"""

import json
import shutil

import common

import pytest
import soundfile
from synthetic import (
    EXAMPLES,
    EXTENSIONS,
    REPOSITORY,
    RUN,
    error_of,
    folders,
    machine_folder,
    make_settings,
    network_path,
    record_of,
    results_of,
    rows,
    succeed,
    write_two_channels,
    written,
)

from networks.names import Experiment, Run
from tools import score as score_command
from tools.score import Scorer

RECONSTRUCTION = ("MAHALA", "MSE", "KNN")
VARIANTS = [
    ((), RECONSTRUCTION),
    (("--model=VAE", "--front_end=PCEN"), RECONSTRUCTION),
    (("--model=WAVE-AE", "--front_end=WAVEFORM", "--frames=8"), ("WAVE-MSE",)),
]
LOUDNESS = """
import numpy as np
from datasets.audio import read_samples
from networks.scores import score_function

@score_function("LOUDNESS", unit="dB", description="loudness of a clip")
def loudness(path):
    return float(10 * np.log10(np.mean(read_samples(path)[0] ** 2)))
"""
TRIED = {  # the options that try what an extension registers as OWN
    "score": "--train_only",
    "function": "--test_only --score=OWN",
    "network": "--train_only --model=OWN",
    "front_end": "--train_only --front_end=OWN",
}
OWN = {
    "score": """
from common import *
from networks.scores import Score
@SCORES.register
class Own(Score):
    name, unit, description = "OWN", "dB", "own"
    def of_clip(self, clip): return clip.vectors.mean()
""",
    "function": """
from networks.scores import score_function
@score_function("OWN", unit="dB", description="own")
""",
    "network": """
import torch
from common import *
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


@pytest.fixture
def extension(tmp_path):
    """Return a function that writes an extension file and returns its option."""

    def write(text, name="own.py"):
        (tmp_path / name).write_text(text)
        return f"--extension={tmp_path / name}"

    return write


@pytest.mark.parametrize(("variant", "scores"), VARIANTS, ids=["baseline", "VAE and PCEN", "waveforms"])
def test_an_interrupted_run_ends_with_the_same_bytes_and_single_clips_have_the_scores_of_the_test_stage(
    succeeds, call_train_and_stop, workplace, options, variant, scores
):
    words = [*options, *EXTENSIONS, *variant, "--epochs=3"]
    succeeds(*words, "--train_only")
    uninterrupted = written(workplace)
    assert len(uninterrupted) == 3 + ("KNN" in scores)  # network, record, log, and KNN's tensors
    for name in ("models", "logs"):
        shutil.rmtree(workplace / name)
    stopped = call_train_and_stop(*words, "--train_only")
    assert (stopped.status, "1 of 3 epochs are saved" in stopped.err) == (143, True)
    assert "1 of 3 epochs are done" in succeeds(*words, "--train_only", "--restart")
    assert written(workplace) == uninterrupted

    (network,) = workplace.glob("models/saved_model/baseline/*13711.pth")
    for name in scores:
        succeeds(*words, "--test_only", f"--score={name}")
        values, decisions = (results_of(workplace, kind, f"*_{name}") for kind in ("anomaly_score", "decision_result"))
        scorer = Scorer(network, score=name, extensions=EXAMPLES)
        for (clip, value), (_, decision) in zip(values[::5], decisions[::5], strict=True):
            scored = scorer(machine_folder(workplace / "data") / "test" / clip)
            assert (repr(scored.score), str(scored.decision)) == (value, decision)


def test_networks_and_front_ends_of_one_experiment_do_not_overwrite_each_other(workplace):
    settings = make_settings(**folders(workplace))
    common.load_extensions([REPOSITORY / "examples/vae_network.py", REPOSITORY / "examples/pcen_front_end.py"])
    systems = Experiment.of(settings, is_eval=False).systems().items()
    networks = {name: Run(of, "DCASE2023T2fan", "").network for name, (of, score) in systems if score == "MSE"}
    assert set(networks) == {"baseline_MSE", "baseline_VAE_MSE", "baseline_PCEN_MSE", "baseline_VAE_PCEN_MSE"}
    assert len({*networks.values()}) == 4


def test_a_score_fitted_on_first_use_has_the_bytes_of_one_fitted_in_training(succeeds, fails, workplace, trained):
    knn = [*trained, f"--extension={REPOSITORY}/examples/knn_score.py"]
    test = [*knn, "--test_only", "--score=KNN"]
    before, folder = written(workplace), network_path(workplace).parent
    originals = {path: path.read_bytes() for path in folder.iterdir()}
    assert "fitting KNN (knn_k 1) to the training clips" in succeeds(*test)
    on_first_use = written(workplace)
    state = f"score_state_{RUN}_knn.pth"
    assert set(on_first_use) - set(before) == {f"models/saved_model/baseline/{state}"}
    succeeds(*knn, "--train_only")
    assert written(workplace) == on_first_use
    (folder / state).unlink()
    for path, content in originals.items():  # as before the extension was given
        path.write_bytes(content)
    assert "is complete" in succeeds(*knn, "--train_only", "--restart")
    succeeds(*test)
    assert written(workplace) == on_first_use
    for option, is_fitted in (("--knn_k=1", False), ("--knn_k=2", True), ("--score=MSE", False)):
        assert ("fitting KNN" in succeeds(*test, option)) == is_fitted
    min((machine_folder(workplace / "data") / "train").iterdir()).unlink()
    assert "the training clips have changed since" in fails(*test, "--knn_k=3")


def test_a_function_of_a_path_is_a_score_that_needs_no_network(succeeds, workplace, options, extension):
    words = [*options, extension(LOUDNESS), "--test_only", "--score=LOUDNESS"]
    assert "fitting LOUDNESS to the training clips" in succeeds(*words)
    assert "fitting" not in succeeds(*words)
    scores, decisions, metrics = sorted(workplace.glob("results/dev_data/baseline_LOUDNESS/*.csv"))
    assert len(rows(scores)) == len(rows(decisions)) == 12
    assert {decision for _, decision in rows(decisions)} <= {"0", "1"}
    assert metrics.name == "result_DCASE2023T2fan_test_seed13711_roc.csv"
    assert not [path for pattern in ("*.npy", "*.pth") for path in workplace.rglob(pattern)]


def test_a_networks_changed_extension_is_reported_and_a_scores_changed_extension_is_fitted_again(
    succeeds, fails, workplace, options, extension
):
    names = ("vae_network.py", "knn_score.py")
    loaded = [extension((REPOSITORY / "examples" / name).read_text(), name) for name in names]
    words = [*options, *loaded, "--model=VAE", "--score=KNN"]
    succeeds(*words)
    with pytest.raises(
        common.InputError, match=r"'VAE', which no given file registers; give --extension .*vae_network"
    ):
        Scorer(network_path(workplace, RUN.replace("DCASE2023T2-AE", "VAE")))
    vae, knn = (workplace / name for name in names)

    def test_after(change, *paths):
        for path in paths:
            path.write_text(f"{path.read_text()}\n{change}\n")
        return succeeds(*words, "--test_only")

    out = test_after("# another comment", vae, knn)
    assert ("fitting KNN" in out, "before" in out) == (False, False)
    assert "fitting KNN" in test_after("ANOTHER = 1", knn)
    assert "VAE_DCASE2023T2fan_seed13711.pth was trained before vae_network.py changed" in test_after("A = 1", vae)
    refused = fails(*words, "--train_only", "--restart")
    assert "checkpoint.tar was trained before vae_network.py changed" in refused


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        (None, "x = 1\ny = x +\n", "own.py, line 2: SyntaxError: invalid syntax"),
        (None, "x = 1\n", "own.py registers no network, score or front end"),
        (None, "from common import SCORES\n\n@SCORES.register\nclass A:\n    name = 'mse'\n",
         "own.py: the name mse is taken"),
        ("score", "    options = (Parameter('frames', integer(1), '', default=1),)",
         "own.py: OWN declares the parameter 'frames'"),
        ("score", "    options = (Parameter('seeds', integer(1), '', default=1),)", "give it another name"),
        ("score", "    def of_clip(self, clip): raise SystemExit(0)", "own.py, line 8: SystemExit: 0; correct the"),
        ("score", "raise SystemExit(0)", "own.py, line 8: SystemExit: 0; correct the"),
        ("score", "    def fit(self, data): return [data.clip]", "own.py, line 8: AttributeError: 'TrainingData'"),
        ("score", "    def fit(self, data): return [[1, 2, 3][i] for i in range(9)]", "own.py, line 8: IndexError"),
        ("score", "    def of_clip(self, clip): return clip.vectors.mean(dim=1)",
         "own.py: OWN.of_clip returned values of shape (12,); return one number"),
        ("score", "    def of_clip(self, clip): pass", "own.py: OWN.of_clip returned None; return one number"),
        ("score", "    def of_clip(self, clip): return float('nan')", "OWN gives scores that are not finite, first"),
        ("score", "    def fit(self, data): return [1.0, 1e999]", "OWN.fit returns values that are not finite"),
        ("score", "    def fit(self, data): self.a = 1; return [1, 2]\n    def of_clip(self, clip): return self.a",
         "own.py: OWN cannot score a clip after load(state()) (AttributeError: 'Own' object has no attribute 'a')"),
        ("score", "    def state(self): return {'a': Score}",
         "own.py: OWN cannot score a clip after load(state()) (UnpicklingError"),
        ("score", "    def fit(self, data): pass", "Error: "),
        ("function", "def own(path): return 'loud'", "Error: "),
        ("network", "    def forward(self, vectors): return vectors[:, :3]",
         "own.py: OWN.forward returned values of shape (2, 3);"),
        ("network", "    def losses(self, vectors): return vectors.mean()",
         "own.py: OWN.losses returned values of shape (); return Losses(one loss per vector)"),
        ("network", "    def losses(self, vectors): return Losses(self(vectors).mean())",
         "OWN.losses returned as Losses.reconstruction values of shape (); give one loss per vector, a tensor of"),
        ("front_end", "    def __call__(self, samples, rate): return super().__call__(samples, rate).T",
         "own.py: OWN returned values of shape (128, 16); expected real numbers of shape (16, 128) for /"),
        ("front_end", "    def __call__(self, samples, rate): return super().__call__(samples, rate) * np.inf",
         "NaN or inf"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_extension_is_reported_and_nothing_is_written(
    fails, workplace, options, extension, kind, text, sentence
):
    path = extension(OWN.get(kind, "") + text)
    err = fails(*options, path, *TRIED.get(kind, "").split())
    assert sentence in err
    assert err.startswith("error: ") or sentence == "Error: "
    assert not list(workplace.rglob("*.tar")) + list(workplace.rglob("*.pth"))


def test_a_score_that_needs_more_than_two_clips_is_tried_on_all_before_training(succeeds, options, extension):
    fit = "    def fit(self, data): assert len(data.clips) > 2; return super().fit(data)\n"
    succeeds(*options, extension(OWN["score"] + fit), "--train_only")


def test_the_keys_of_records_and_of_the_caches_key_are_reserved(finished_run):
    """An extension's parameter of that name would overwrite them, or be overwritten."""
    record = record_of(finished_run)
    cache = json.loads(next(finished_run.glob("data/*/*/processed/*/train*.json")).read_text())["key"]["config"]
    keys = {*record, *record["scores"]["MSE"]["fitted_with"], *cache, "initial_weights_file"}
    assert keys - set(common.BY_NAME) - common.RESERVED == set()


def test_a_front_end_of_all_channels_gets_them_in_training_tests_and_single_clips(
    succeeds, fails, summarize, workplace, options
):
    folder = write_two_channels(workplace)
    words = [*options, *EXTENSIONS, "--front_end=NEAR-FAR", "--dataset=DCASE2026T2fan", "-tag", "id(0_)", "--use_ids=0"]
    succeeds(*words)
    assert record_of(workplace)["clip_channels"] == 2
    clip, value = results_of(workplace, "anomaly_score")[0]
    (network,) = workplace.glob("models/saved_model/*/*13711.pth")
    path, scorer = folder / "test" / clip, Scorer(network, extensions=EXAMPLES, score="MSE")
    assert scorer(path) == scorer(*soundfile.read(path))
    assert repr(scorer(path).score) == value
    assert "baseline_NEAR-FAR_MSE" in succeed(summarize(*EXTENSIONS, challenge="DCASE2026T2"))
    assert "--channel, but NEAR-FAR takes all channels; leave" in fails(*words, "--channel=0")


def test_options_may_be_paths_and_are_shown_in_the_lines_about_a_score(succeeds, workplace, options, extension):
    score = "    options = (Parameter('own_file', optional(PATH), ''), Parameter('own_k', integer(1), '', default=1))"
    network = "    options = (Parameter('net_file', PATH, '', default=Path('x')),)"
    words = [*options, extension(OWN["score"] + score), extension(OWN["network"] + network, "net.py"), "--model=OWN"]
    words += [f"--own_file={workplace}/a.csv", f"--net_file={workplace}/b.csv"]
    succeeds(*words, "--train_only")
    assert "nothing is left to do" in succeeds(*words, "--train_only", "--restart")
    out = succeeds(*words, "--score=OWN", "--test_only", "--own_k=2")
    assert f"fitting OWN (own_file {workplace}/a.csv, own_k 2) to the training clips" in out
    assert f"threshold of OWN (own_file {workplace}/a.csv, own_k 2): " in out


def test_a_scorer_takes_the_options_that_a_score_was_fitted_with_and_refuses_others(
    succeeds, call_command, workplace, trained
):
    knn = [f"--extension={REPOSITORY}/examples/knn_score.py", "--score=KNN"]
    succeeds(*trained, *knn, "--knn_k=2", "--test_only")
    clip = next((machine_folder(workplace / "data") / "test").iterdir())
    words = [score_command.main, network_path(workplace), clip, *knn]
    assert "threshold of KNN (knn_k 2): " in call_command(*words).err
    refused = error_of(call_command(*words, "--knn_k=3"))
    assert f"KNN (knn_k 3) is not fitted to {RUN}.pth, only KNN (knn_k 2)" in refused


def test_baseline_yaml_may_hold_options_of_a_loaded_extension(tmp_path):
    path = tmp_path / "baseline.yaml"
    path.write_text(f"{common.DEFAULTS.read_text()}\nknn_k: 7\n")
    common.load_extensions([REPOSITORY / "examples/knn_score.py"])
    assert common.read_values(path)["knn_k"] == 7
    common.load_extensions([])
    with pytest.raises(common.InputError, match="unknown key 'knn_k'"):
        common.read_values(path)


def test_the_scorer_takes_samples_and_refuses_another_rate_or_type(call_command, workplace, trained):
    network = network_path(workplace)
    clip = min((machine_folder(workplace / "data") / "test").iterdir())
    samples, rate = soundfile.read(clip, dtype="float32")
    scorer = Scorer(network, decision_threshold=0.5)
    assert scorer(samples, rate) == scorer(clip) == scorer(samples.tolist(), rate)
    for call, sentence in (
        (
            lambda: scorer(samples.astype("int16"), rate),
            r"samples are int16 of shape \(\d+,\) at a rate of 16000",
        ),
        (lambda: scorer(samples, 8000), "a sampling rate of 8000 Hz, but the network was trained at 16000 Hz"),
        (lambda: Scorer(network, decision_treshold=0.5), "decision_treshold; did you mean decision_threshold"),
    ):
        with pytest.raises(common.InputError, match=sentence):
            call()
    (clip.parent / "one.flac").touch()
    note = f"note: only the .wav files of {clip.parent} are scored; skipped: 1 .flac file\n"
    assert note in call_command(score_command.main, network, clip.parent).err


def test_a_network_with_other_losses_is_validated_by_them_and_its_mse_is_fitted_to_squared_errors(
    succeeds, workplace, options, extension
):
    absolute = "    def losses(self, vectors): return Losses((self(vectors) - vectors).abs().mean(dim=1))\n"
    own = [extension(OWN["network"] + absolute), "--model=OWN"]
    units, medians = [], []
    for words, name in ((own, RUN.replace("DCASE2023T2-AE", "OWN")), ([], RUN)):
        succeeds(*options, *words, "--train_only", "--learning_rate=1e-6")
        _, _, (loss, val_loss, *_) = rows(workplace / "logs/baseline" / name / "log.csv")
        assert float(val_loss) == pytest.approx(float(loss), rel=0.5)
        record = record_of(workplace, name)
        units.append(record["loss_unit"])
        medians.append(record["scores"]["MSE"]["range"][0])
    assert units == ["loss", "mean squared error, dB²"]
    assert medians[0] == pytest.approx(medians[1], rel=0.5)  # barely trained: both are the input's mean square


def test_a_score_with_a_value_for_each_clip_has_the_threshold_of_these_and_one_far_from_them_is_a_warning(
    succeeds, workplace, options, extension
):
    own = OWN["score"] + "    def fit(self, data): return [0.072, 0.05, 0.106, 0.069, 0.063, 0.127]\n"
    words = [*options, extension(own), "--score=OWN"]
    far = "outside the range of the 6 values (6 distinct) that OWN was fitted to, 0.05 to 0.127"
    assert far not in succeeds(*words)
    (record,) = workplace.glob("results/dev_data/baseline_OWN/test*.json")
    assert json.loads(record.read_text())["threshold"] == pytest.approx(0.1165)
    assert far in succeeds(*words, "--test_only", "--threshold_from=batches", "--decision_threshold=0.99")
    assert json.loads(record.read_text())["threshold"] > 0.127
    extension(OWN["score"] + "    def fit(self, data): return [1.0]\n")
    assert "no gamma distribution fits the 1 values (1 distinct) that OWN was fitted to" in succeeds(*words)
