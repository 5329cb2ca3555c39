"""Extensions: what a user's file registers is trained, resumed, tested and scored like what is built in.

The contract tests run over all networks, front ends and scores, the examples' included.
"""

import importlib
import json
import os
import re
import shutil
import signal
from functools import partial
from pathlib import Path

import common

import pytest
from synthetic import REPOSITORY, call, machine_folder, write_machine, written

import train
from tools import score as score_command
from tools.score import Scorer

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
EXTENSIONS = [word for path in EXAMPLES for word in ("--extension", str(path))]
VARIANTS = [(), ("--model", "VAE"), ("--front_end", "PCEN"), ("--model", "VAE", "--front_end", "PCEN")]
RUN = "DCASE2023T2-AE_DCASE2023T2fan_seed13711"
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


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda words: "-".join(words[1::2]) or "baseline")
def test_an_interrupted_run_ends_with_the_bytes_of_an_uninterrupted_one(
    call_train, workplace, options, variant, monkeypatch
):
    words = [*options, *EXTENSIONS, *variant, "--train_only", "--epochs", "4"]
    assert call_train(*words).status == 0
    uninterrupted = written(workplace)
    assert sum(name.endswith(".pth") for name in uninterrupted) == 2  # the network, and KNN's tensors
    shutil.rmtree(workplace / "models")
    shutil.rmtree(workplace / "logs")
    train_epoch, calls = train.train_epoch, []

    def stop_in_the_third_epoch(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_epoch(*arguments)

    monkeypatch.setattr(train, "train_epoch", stop_in_the_third_epoch)
    stopped = call_train(*words)
    assert (stopped.status, "2 of 4 epochs are saved" in stopped.err) == (143, True)
    resumed = call_train(*words, "--restart")
    assert (resumed.status, "2 of 4 epochs are done" in resumed.out) == (0, True)
    assert written(workplace) == uninterrupted


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda words: "-".join(words[1::2]) or "baseline")
@pytest.mark.parametrize("name", ["MSE", "MAHALA", "KNN"])
def test_single_clips_have_the_scores_of_the_test_stage(call_train, workplace, options, variant, name):
    words = [*options, *EXTENSIONS, *variant, "--score", name]
    assert call_train(*words).status == 0
    (scores,) = workplace.glob("results/dev_data/*/anomaly_score*.csv")
    (decisions,) = workplace.glob("results/dev_data/*/decision*.csv")
    (network,) = (p for p in workplace.glob("models/saved_model/baseline/*.pth") if not p.name.startswith("score_"))
    scorer = Scorer(network, score=name, extensions=EXAMPLES)
    for line, decision in zip(scores.read_text().splitlines(), decisions.read_text().splitlines(), strict=True):
        clip, _, value = line.partition(",")
        scored = scorer(machine_folder(workplace / "data") / "test" / clip)
        assert (repr(scored.score), f"{clip},{scored.decision}") == (value, decision)


def test_networks_and_front_ends_of_one_experiment_do_not_overwrite_each_other(call_train, workplace, options):
    for variant in VARIANTS:
        assert call_train(*options, *EXTENSIONS, *variant).status == 0
    folders = {path.name for path in (workplace / "results/dev_data").iterdir()}
    assert folders == {"baseline_MSE", "baseline_VAE_MSE", "baseline_PCEN_MSE", "baseline_VAE_PCEN_MSE"}
    assert len(list(workplace.glob("models/saved_model/*/*seed13711.pth"))) == 4


def test_two_experiments_whose_names_give_one_folder_do_not_mix_their_results(call_train, workplace, options):
    vae = [*options, *EXTENSIONS, "--export_dir", "a", "--model", "VAE"]
    assert call_train(*vae).status == 0
    before = written(workplace, "results/*/*/*")
    write_machine(machine_folder(workplace / "data", "valve"))
    outcome = call_train(*options, "--dataset", "DCASE2023T2valve", "--export_dir", "a_VAE")
    assert outcome.status == 1
    folder = workplace / "results/dev_data/a_VAE_MSE"
    assert f"error: {folder} holds results of VAE, tested with another --export_dir; those of DCASE2" in outcome.err
    assert before == {name: content for name, content in written(workplace, "results/*/*/*").items() if name in before}
    assert not list(folder.glob("*valve*"))
    assert call_train(*vae, "--test_only").status == 0


def test_a_score_fitted_on_first_use_has_the_bytes_of_one_fitted_in_training(call_train, workplace, options):
    knn = ["--extension", REPOSITORY / "examples/knn_score.py"]
    assert call_train(*options, *knn, "--train_only").status == 0
    in_training = written(workplace)
    assert call_train(*options, "--train_only").status == 0
    assert not json.loads(next(workplace.glob("models/saved_model/*/*fan_seed13711.json")).read_text())["scores"].get(
        "KNN"
    )
    outcome = call_train(*options, *knn, "--test_only", "--score", "KNN")
    assert outcome.status == 0, outcome.err
    assert "fitting KNN (knn_k 1) to the training clips" in outcome.out
    assert written(workplace) == in_training
    outcome = call_train(*options, *knn, "--test_only", "--score", "KNN")
    assert "fitting" not in outcome.out
    outcome = call_train(*options, *knn, "--test_only", "--score", "KNN", "--knn_k", "2")
    assert "fitting KNN" in outcome.out
    outcome = call_train(*options, *knn, "--test_only", "--score", "MSE")
    assert (outcome.status, "fitting" in outcome.out) == (0, False)


def test_a_score_is_not_fitted_to_other_clips_than_the_networks(call_train, workplace, options):
    assert call_train(*options, "--train_only").status == 0
    next((machine_folder(workplace / "data") / "train").iterdir()).unlink()
    knn = ["--extension", REPOSITORY / "examples/knn_score.py"]
    outcome = call_train(*options, *knn, "--test_only", "--score", "KNN")
    assert outcome.status == 1
    assert "the training clips have changed since" in outcome.err


def test_restart_of_a_complete_run_fits_the_scores_of_a_new_extension(call_train, workplace, options):
    assert call_train(*options, "--train_only").status == 0
    before = written(workplace)
    knn = ["--extension", REPOSITORY / "examples/knn_score.py"]
    outcome = call_train(*options, *knn, "--train_only", "--restart")
    assert (outcome.status, "is complete" in outcome.out) == (0, True)
    after = written(workplace)
    assert set(after) - set(before) == {f"models/saved_model/baseline/score_state_{RUN}_knn.pth"}
    (record,) = (name for name in after if name.endswith(".json"))
    scores = json.loads(after[record])
    assert {name: scores.pop(name) for name in ("KNN",)}["KNN"]["gamma"] is not None
    assert scores == json.loads(before[record])


def test_a_function_of_a_path_is_a_score_that_needs_no_network(call_train, workplace, options, extension):
    path = extension(LOUDNESS)
    words = [*options, "--extension", path, "--test_only", "--score", "LOUDNESS"]
    for expected in (True, False):
        outcome = call_train(*words)
        assert outcome.status == 0, outcome.err
        assert ("fitting LOUDNESS to the training clips" in outcome.out) == expected
    folder = workplace / "results/dev_data/baseline_LOUDNESS"
    assert len((folder / "anomaly_score_DCASE2023T2fan_section_00_test_seed13711.csv").read_text().splitlines()) == 12
    decisions = (folder / "decision_result_DCASE2023T2fan_section_00_test_seed13711.csv").read_text().splitlines()
    assert {line[-1] for line in decisions} <= {"0", "1"}
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
        ("import nothing_of_that_name\n", "line 1: ModuleNotFoundError"),
        ("x = 1\ny = x +\n", "line 2: SyntaxError: invalid syntax; correct"),
        ("x = 1\n", "registers no network, score or front end"),
        ("from common import SCORES\n\n@SCORES.register\nclass A:\n    name = 'mse'\n", "the name mse is taken"),
        ("from common import SCORES\n\n@SCORES.register\nclass A:\n    name = 'a/b'\n", "letters, digits"),
        (
            "from common import *\n@SCORES.register\nclass A:\n    name = 'A'\n"
            "    options = (Parameter('frames', NAME, ''),)",
            "declares the parameter 'frames'",
        ),
    ],
)
def test_an_error_in_an_extension_is_reported_with_its_line(call_train, options, extension, text, sentence):
    path = extension(text)
    outcome = call_train(*options, "--extension", path)
    assert outcome.status == 1
    assert sentence in outcome.err
    assert str(path) in outcome.err
    assert "Traceback" not in outcome.err


PARAMETER = """from common import *
from networks.scores import Score
@SCORES.register
class A(Score):
    name, unit, description = "A", "dB", "a"
    options = (Parameter(NAME, TYPE, "", DEFAULT),)
    def of_clip(self, clip): return 1.0
"""


@pytest.mark.parametrize(
    ("name", "kind", "default", "sentence"),
    [
        ("n", "int", "default=1", "with the type <class 'int'>; give a type of common"),
        ("n", "integer(1)", "default=0", "with the default '0' is not allowed; it takes a whole number from 1"),
        ("n", "integer(1)", "", "with the default 'null' is not allowed; it takes a whole number from 1"),
        ("n", "integer(1)", "default='1'", "with the default '1'; give a whole number from 1, not as text"),
        ("nCentres", "integer(1)", "default=1", "'nCentres'; give it a lower case name with _, such as n_neighbours"),
        (
            "values",
            "integer(1)",
            "default=1",
            "'values', but the name 'values' is taken; give it another, such as own_v",
        ),
        ("replace", "integer(1)", "default=1", "the parameter 'replace', but the name 'replace' is taken"),
        ("seeds", "integer(1)", "default=1", "the parameter 'seeds', but the name 'seeds' is taken"),
        ("n", "integer(1)", "default=1, short='-d'", "the parameter 'n', but the name 'd' is taken"),
        (
            "n",
            "integer(1)",
            "default=1), Parameter('n', integer(1), '', default=1",
            "parameter 'n', but the name 'n' is taken",
        ),
    ],
)
def test_an_invalid_parameter_is_refused_when_the_extension_is_loaded(extension, name, kind, default, sentence):
    text = PARAMETER.replace("NAME", repr(name)).replace("TYPE", kind).replace(", DEFAULT", default and f", {default}")
    with pytest.raises(common.InputError) as error:
        common.load_extensions([extension(text)])
    assert sentence in str(error.value)


def test_the_names_of_all_options_are_reserved(monkeypatch):
    parsers = []
    monkeypatch.setattr("argparse.ArgumentParser.print_help", lambda parser, *_: parsers.append(parser))
    commands = [REPOSITORY / "train.py", *(REPOSITORY / "tools").rglob("*.py")]
    for path in commands:
        code = path.read_text()
        if re.search(r"parse_settings|parse_jobs|make_parser", code) and "__main__" in code:
            module = importlib.import_module(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))
            takes_words = path.parent.name == "jobs"
            call(partial(module.main, ["01_train.sh", "train", "--help"]) if takes_words else module.main, "--help")
    assert len(parsers) >= 11
    options = {
        word for parser in parsers for action in parser._actions for word in (action.dest, *action.option_strings)
    }
    assert {word.lstrip("-") for word in options} - set(common.BY_NAME) - common.RESERVED == set()


def test_the_keys_of_records_and_of_the_caches_key_are_reserved(finished_run):
    """An extension's parameter of that name would overwrite them, or be overwritten."""
    record = json.loads(next(finished_run.glob(f"models/saved_model/*/{RUN}.json")).read_text())
    cache = json.loads(next(finished_run.glob("data/*/*/processed/*/train*.json")).read_text())["key"]["config"]
    keys = {*record, *record["scores"]["MSE"]["fitted_with"], *cache, "initial_weights_file"}
    assert keys - set(common.BY_NAME) - common.RESERVED == set()


@pytest.mark.parametrize(
    ("registry", "base", "body", "sentence"),
    [
        ("SCORES", "networks.scores.Score", "description = unit = ''", "has no of_clip"),
        ("SCORES", "networks.scores.Score", "description = of_clip = ''", "has no unit"),
        ("FRONT_ENDS", "datasets.front_ends.FrontEnd", "__call__ = None", "has no unit"),
        ("FRONT_ENDS", "datasets.front_ends.FrontEnd", "unit = ''", "has no __call__"),
        ("NETWORKS", "networks.network.Network", "description = ''", "has no forward"),
        ("NETWORKS", "torch.nn.Module", "forward = description = ''", "does not derive from networks.network.Network"),
    ],
)
def test_an_incomplete_class_is_refused_when_it_is_loaded(extension, registry, base, body, sentence):
    text = f"import {base.rpartition('.')[0]}\nfrom common import *\n@{registry}.register\nclass A({base}):\n"
    with pytest.raises(common.InputError, match=f"A {sentence}"):
        common.load_extensions([extension(f"{text}    name = 'A'\n    {body}\n")])


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
        ("score", "fit(self, data): pass", "OWN.fit returned None; return a list of the values"),
        ("score", "fit(self, data): return self.of_clip(next(iter(data.clips)))", "returned a tensor of shape ();"),
        ("score", "fit(self, data): return ['1']", "OWN.fit returned, among others, '1';"),
        ("score", "fit(self, data): return [1.0]", "no gamma distribution fits the 1 values (1 distinct) that OWN"),
        ("score", "fit(self, data): return [-5.4e8, -3.8e8, -5.6e8, -14.6e8, -7.2e8]",
         "means nothing: the gamma distribution fitted to the 5 values (5 distinct) that OWN.fit returned has"),
        ("score", "of_clip(self, clip): return clip.vectors.mean(dim=1)", "a tensor of shape (12,); return one"),
        ("score", "of_clip(self, clip): pass", "OWN.of_clip returned None; return one number"),
        ("score", "fit(self, data): self.a = 1; return [1, 2]\n    def of_clip(self, clip): return self.a",
         "OWN.state returns nothing, from which load cannot restore what of_clip needs (AttributeError: 'Own' object"),
        ("score", "fit(self): pass", "TypeError: Own.fit() takes 1 positional argument but 2 were given; correct"),
        ("score", "state(self): return 3", "OWN.state returned 3; return a flat dict of tensors"),
        ("function", "", "OWN returned 'loud'; return one number"),
        ("network", "forward(self, vectors): return vectors[:, :3]", "OWN.forward returned a tensor of shape (2, 3);"),
        ("network", "losses(self, vectors): return vectors.mean()", "OWN.losses returned a tensor of shape ();"),
        ("network", "losses(self, vectors): return Losses(self(vectors).mean())",
         "OWN.losses returned as Losses.reconstruction a tensor of shape (); give one loss per vector, a tensor of"),
        ("network", "losses(self, vectors): return Losses(self(vectors).mean(dim=1), 0.0)", "as Losses.further 0.0;"),
        ("network", "configure_optimizers(self): return torch.optim.SGD(self.parameters())",
         "OWN.configure_optimizers returned a value of type SGD; return (optimizer, scheduler or None)"),
        ("network", "configure_optimizers(self): o = torch.optim.SGD(self.parameters()); "
         "return o, torch.optim.lr_scheduler.ReduceLROnPlateau(o)", "as scheduler a value of type ReduceLROnPlateau"),
        ("front_end", "__call__(self, samples, rate): pass", "OWN returned None; expected real numbers of shape"),
        ("front_end", "__call__(self, samples, rate): return super().__call__(samples, rate).T",
         "OWN returned an array of shape (128, 16); expected real numbers of shape (16, 128) for /"),
        ("front_end", "__call__(self, samples, rate): return super().__call__(samples, rate) * 1j", "expected real"),
        ("front_end", "__call__(self, samples, rate): return super().__call__(samples, rate) * np.inf", "NaN or inf"),
    ],
)  # fmt: skip
def test_what_an_extension_returns_is_checked(call_train, options, extension, kind, method, sentence):
    text = OWN[kind].replace("return 1.0", "return 'loud'") + (f"    def {method}\n" if method else "")
    words = {"network": ["--model", "OWN"], "front_end": ["--front_end", "OWN"], "score": ["--train_only"]}
    words["function"] = ["--test_only", "--score", "OWN"]
    path = extension(text)
    outcome = call_train(*options, "--extension", path, *words[kind])
    assert sentence in outcome.out + outcome.err
    if "gamma distribution" not in sentence:
        assert (outcome.status, len(outcome.err.splitlines()), "unexpected" in outcome.err) == (1, 1, False)
        assert outcome.err.startswith(f"error: {path}")


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
    call_train, call_command, workplace, options
):
    knn = ["--extension", REPOSITORY / "examples/knn_score.py", "--score", "KNN"]
    assert call_train(*options, *knn, "--knn_k", "2").status == 0
    network = next(workplace.glob("models/saved_model/*/DCASE*.pth"))
    clip = next((machine_folder(workplace / "data") / "test").iterdir())
    assert "threshold of KNN (knn_k 2): " in call_command(score_command.main, network, clip, *knn).err
    outcome = call_command(score_command.main, network, clip, *knn, "--knn_k", "3")
    assert outcome.status == 1
    assert f"KNN (knn_k 3) is not fitted to {network.name}, only with knn_k 2; run tools/02_test.sh" in outcome.err


def test_an_error_while_a_score_is_fitted_is_reported_with_its_line(call_train, options, extension):
    text = LOUDNESS.replace("return float(10", "return undefined(10")
    path = extension(text)
    outcome = call_train(*options, "--extension", path, "--test_only", "--score", "LOUDNESS")
    assert outcome.status == 1
    line = text.splitlines().index("    return undefined(10 * np.log10(np.mean(read_samples(path)[0] ** 2)))") + 1
    assert f"{path}, line {line}: NameError" in outcome.err


@pytest.mark.parametrize(
    ("kind", "method", "words"),
    [
        ("score", "of_clip(self, clip): sys.exit(0)", ["--train_only"]),
        ("score", "fit(self, data): raise KeyboardInterrupt", ["--train_only"]),
        ("function", "", ["--test_only", "--score", "OWN"]),
        ("network", "forward(self, vectors): sys.exit(0)", ["--model", "OWN"]),
        ("front_end", "__call__(self, samples, rate): sys.exit(0)", ["--front_end", "OWN"]),
        ("score", "", []),
    ],
    ids=["of_clip", "fit", "function", "forward", "front_end", "load"],
)
def test_an_extension_that_ends_the_program_is_an_error(call_train, options, extension, kind, method, words):
    text = "import sys\n" + OWN[kind].replace("return 1.0", "sys.exit(0)")
    text += f"    def {method}\n" if method else "" if words else "sys.exit(0)\n"
    path = extension(text)
    line, cause = next(
        (number, "SystemExit: 0" if "sys.exit" in code else "KeyboardInterrupt")
        for number, code in enumerate(text.splitlines(), 1)
        if "sys.exit(0)" in code or "KeyboardInterrupt" in code
    )
    outcome = call_train(*options, "--extension", path, *words)
    assert (outcome.status, outcome.err) == (1, f"error: {path}, line {line}: {cause}; correct the extension\n")


def test_an_unregistered_name_is_reported_with_the_known_ones(call_train, workplace, options):
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


def test_the_scorer_takes_samples_and_refuses_another_rate_or_number_of_channels(
    call_train, call_command, workplace, options
):
    import soundfile

    assert call_train(*options, "--train_only").status == 0
    network = next(workplace.glob("models/saved_model/*/*.pth"))
    clip = sorted((machine_folder(workplace / "data") / "test").iterdir())[0]
    samples, rate = soundfile.read(clip, dtype="float32")
    scorer = Scorer(network, decision_threshold=0.5)
    assert scorer(samples, rate) == scorer(clip) == scorer(samples.tolist(), rate)
    with pytest.raises(
        common.InputError, match=r"the samples are int16 of shape \(\d+,\); give floats of full scale 1"
    ):
        scorer(soundfile.read(clip, dtype="int16")[0], rate)
    with pytest.raises(common.InputError, match="a sampling rate of 8000 Hz, but the network was trained at 16000 Hz"):
        scorer(samples, 8000)
    soundfile.write(workplace / "stereo.wav", samples[:, None].repeat(2, axis=1), rate)
    outcome = partial(call_command, score_command.main)(network, workplace / "stereo.wav")
    assert outcome.status == 1
    assert "stereo.wav has 2 channels, but the network's training clips had 1" in outcome.err


ABSOLUTE = """
from common import NETWORKS
from networks.autoencoder import AutoEncoder
from networks.network import Losses

@NETWORKS.register
class Absolute(AutoEncoder):
    name, description = "ABSOLUTE", "autoencoder trained on absolute errors"
    def losses(self, vectors):
        return Losses((self(vectors) - vectors).abs().mean(dim=1))
"""


def test_a_network_with_other_losses_is_validated_by_them_and_its_mse_is_fitted_to_squared_errors(
    call_train, workplace, options, extension
):
    own = [*options, "--extension", extension(ABSOLUTE), "--model", "ABSOLUTE", "--train_only"]
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


SKEWED = """
from common import SCORES
from networks.scores import Score

@SCORES.register
class Skewed(Score):
    name, unit, description = "SKEWED", "no unit", "right-skewed"
    def fit(self, data):
        return [0.072, 0.05, 0.106, 0.069, 0.063, 0.127]
    def of_clip(self, clip):
        return clip.vectors.mean()
"""


def test_a_score_with_a_value_for_each_clip_has_the_threshold_of_these_and_one_far_from_them_is_a_warning(
    call_train, workplace, options, extension
):
    words = [*options, "--extension", extension(SKEWED), "--score", "SKEWED"]
    outcome = call_train(*words)
    assert (outcome.status, "is outside the range" in outcome.out) == (0, False)
    (record,) = workplace.glob("results/dev_data/baseline_SKEWED/test*.json")
    assert json.loads(record.read_text())["threshold"] == pytest.approx(0.1165)
    outcome = call_train(*words, "--test_only", "--threshold_from", "batches", "--decision_threshold", "0.99")
    range_text = "outside the range of the 6 values (6 distinct) that SKEWED.fit returned, 0.05 to 0.127"
    assert range_text in outcome.out
    assert json.loads(record.read_text())["threshold"] > 0.127
