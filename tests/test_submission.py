"""The challenge's package: made from results, and checked."""

import contextlib
import json
import shutil
import stat
import zipfile

import pytest
import yaml
from synthetic import machine_folder, write_clip

from common import Settings, read_defaults
from datasets.catalogue import load_challenge
from tools import make_submission
from tools.results.files import challenge_files, write_clip_values, write_result_table
from tools.runtime.names import Experiment

LABEL = "Lastname_INST_task2_1"
MACHINE_TYPES = load_challenge("DCASE2023T2", is_eval=True).machine_types
DEVELOPMENT = load_challenge("DCASE2023T2", is_eval=False).machine_types
PUBLISHED = [f"section_00_{i:04d}.wav" for i in range(4)]
LABELLED = [f"section_00_{which}_{i:04d}_v_{i}.wav" for i, which in enumerate(["target_test_anomaly"] * 2)]
LABELLED += [f"section_00_{which}_{i:04d}_v_{i}.wav" for i, which in enumerate(["source_test_normal"] * 2)]
SCORES = [0.5, 1e-7, 123.456789012345, 2.25]  # of the published clips, in their order
DECISIONS = [0, 0, 1, 1]
SECOND = "Lastname_INST_task2_2"
CHALLENGE = load_challenge("DCASE2023T2", is_eval=True)
META_FILE = f"{LABEL}.meta.yaml"


def names_of(machine_type, section=0, challenge=CHALLENGE):
    """Return the names of a section's files of scores and decisions."""
    return [name for pair in challenge_files(challenge, machine_type, section).values() for name in pair]


SCORE_FILE, DECISION_FILE = names_of("bandsaw")


def invoke(root, *words):
    """Call the command in this process; return its status."""
    folders = [word for name in ("dataset", "result", "model") for word in (f"--{name}_directory", root / name)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["make_submission", *map(str, [*words, *folders])])
        try:
            return make_submission.main()
        except SystemExit as stop:
            return stop.code


@pytest.fixture
def call(capsys, tmp_path):
    """Call the command; return status, output and errors."""
    return lambda *words: (invoke(tmp_path, *words), *capsys.readouterr())


@pytest.fixture
def make(call, tmp_path):
    """Call the command to make a package in the folder `out`."""
    return lambda *words: call("--label", LABEL, "--output", tmp_path / "out", *words)


def run_of(root, machine_type, is_eval=True, challenge="DCASE2023T2", section=0):
    folders = {f"{name}_directory": root / name for name in ("result", "model", "log")}
    settings = Settings({**read_defaults(), **folders})
    return Experiment.of(settings, is_eval).run(challenge, machine_type, section)


def write_values(path, names, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        write_clip_values(file, names, values)


def write_results(root, names, machine_types=MACHINE_TYPES, score="MSE"):
    """Write scores and decisions of the machine types, in the order of the clips' names as the test stage has it."""
    rows = sorted(zip(names, SCORES, DECISIONS, strict=True))
    for machine_type in machine_types:
        run = run_of(root, machine_type)
        write_values(run.anomaly_scores(score, 0), [row[0] for row in rows], [row[1] for row in rows])
        write_values(run.decisions(score, 0), [row[0] for row in rows], [row[2] for row in rows])


def write_list(path, machine_types=MACHINE_TYPES):
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = "".join(f"{name},{label}\n" for name, label in zip(PUBLISHED, LABELLED, strict=True))
    path.write_text("".join(f"{machine_type}\n{pairs}" for machine_type in machine_types))


def write_evaluation(root):
    write_results(root, LABELLED)
    write_list(root / "dataset" / "eval_data_list_2023.csv")


@pytest.fixture
def results(tmp_path):
    """Write the results of a complete evaluation on labelled clips, and the label list."""
    write_evaluation(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def filled_in(tmp_path_factory):
    """Make a package, fill in its meta file, make it again, and unpack it; return the folder of all that."""
    root = tmp_path_factory.mktemp("filled_in")
    write_evaluation(root)
    for _ in range(2):
        assert invoke(root, "--label", LABEL, "--output", root / "out") == 0
        fill_in(root / "out" / META_FILE)
    with zipfile.ZipFile(root / "out" / f"{LABEL}.zip") as archive:
        archive.extractall(root / "unpacked")
    return root


@pytest.fixture
def package(filled_in, tmp_path):
    """Return the folder of a complete package, a copy with the results that it was made from."""
    shutil.copytree(filled_in, tmp_path, dirs_exist_ok=True)
    return tmp_path / "unpacked" / LABEL


def fill_in(path):
    meta = yaml.safe_load(path.read_text())
    meta["submission"] |= {"name": "A system", "abbreviation": "Ab"}
    author = meta["submission"]["authors"][0] | {"firstname": "Zoë", "lastname": "Lastname", "email": "z@example.org"}
    author["affiliation"] = {"institution": "Institute", "department": None, "location": "Town"}
    meta["submission"]["authors"] = [author]
    meta["system"]["source_code"] = None
    meta["system"]["description"]["input_sampling_rate"] = "16 kHz"
    meta["results"]["development_dataset"] = {
        name: {"auc_source": 70.5, "auc_target": 50, "pauc": 52.1} for name in DEVELOPMENT
    }
    path.write_text(yaml.safe_dump(meta, allow_unicode=True))


def pack(folder, target, extra=()):
    """Zip a package's folder, and further members of any name, mode and content."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{folder.name}/{path.name}")
        for name, mode, content in extra:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return target


# --- making -----------------------------------------------------------------------------------------------------------


def test_labelled_clips_get_their_published_names_back_and_keep_their_values(results, make, tmp_path):
    status, out, err = make()
    assert (status, err) == (0, "")
    assert "14 files of 28 clips" in out
    with zipfile.ZipFile(tmp_path / "out" / f"{LABEL}.zip") as archive:
        names = [name for m in MACHINE_TYPES for name in names_of(m)]
        assert sorted(archive.namelist()) == sorted(f"{LABEL}/{name}" for name in [*names, META_FILE])
        for machine_type in MACHINE_TYPES:
            scores, decisions = (archive.read(f"{LABEL}/{n}").decode() for n in names_of(machine_type))
            assert scores == "".join(f"{n},{s}\n" for n, s in zip(PUBLISHED, SCORES, strict=True))
            assert decisions == "".join(f"{n},{d}\n" for n, d in zip(PUBLISHED, DECISIONS, strict=True))


def test_unlabelled_clips_need_no_list_and_give_the_same_files(results, make, tmp_path):
    assert make()[0] == 0
    labelled = (tmp_path / "out" / f"{LABEL}.zip").read_bytes()
    (results / "dataset" / "eval_data_list_2023.csv").unlink()
    write_results(tmp_path, PUBLISHED)
    for machine_type in MACHINE_TYPES:
        for name in PUBLISHED:
            write_clip(machine_folder(results / "dataset", machine_type, split="eval_data") / "test" / name, 1, 0.01)
    fixed = (tmp_path / "out" / META_FILE).read_bytes()
    assert make()[0] == 0
    assert (tmp_path / "out" / META_FILE).read_bytes() == fixed
    assert (tmp_path / "out" / f"{LABEL}.zip").read_bytes() == labelled


def write_records(root, parameters):
    """Write a record of an earlier version beside each network."""
    for machine_type in MACHINE_TYPES:
        path = run_of(root, machine_type).record
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(parameters))


def read_meta(root, label=LABEL):
    return yaml.safe_load((root / "out" / f"{label}.meta.yaml").read_text())


def test_the_meta_file_says_what_is_known_and_marks_the_rest(results, make, tmp_path):
    write_clip(machine_folder(results / "dataset", split="eval_data", machine_type="bandsaw") / "test" / "x.wav", 1)
    metrics = {"AUC (source)": 0.61234, "AUC (target)": 0.5, "pAUC": 0.51}
    table = run_of(results, "fan", is_eval=False).result_table("MSE")
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w") as file:
        write_result_table(file, {0: metrics})
    write_records(results, {"batch_size": 77, "epochs": 3})
    status, out, _ = make()
    meta = read_meta(tmp_path)
    description = meta["system"]["description"]
    assert status == 0
    assert meta["submission"]["label"] == LABEL
    assert description["input_sampling_rate"] == "16 kHz"
    assert "n_mels 128" in description["acoustic_features"]
    assert "fmax null" in description["acoustic_features"]
    assert "batch_size 77" in description["machine_learning_method"]
    assert "epochs 3" in description["machine_learning_method"]
    assert description["aggregation_method"] == "mean squared error over all vectors of a clip"
    # by hand: (640 + 8) * 128 * 2 weights of the outer layers, 6 * 128**2 of the inner ones; biases and BatchNorm
    macs = 2 * (640 * 128 + 128 * 8) + 6 * 128 * 128
    assert meta["system"]["complexity"] == {
        "total_parameters": macs + 8 * 128 + 8 + 640 + 2 * (8 * 128 + 8),
        "MACS": macs,
    }
    assert meta["results"]["development_dataset"]["fan"] == {"auc_source": 61.23, "auc_target": 50.0, "pauc": 51.0}
    for key in ("submission.name", "submission.authors.1.email", "results.development_dataset.valve.pauc"):
        assert f"{key}: still to be written" in out


def test_the_meta_file_describes_the_score_that_was_used(results, make, tmp_path):
    write_results(tmp_path, LABELLED, score="MAHALA")
    assert make()[0] == 0
    by_mse = read_meta(tmp_path)["system"]
    (tmp_path / "out" / META_FILE).unlink()
    assert make("--score", "MAHALA")[0] == 0
    by_mahala = read_meta(tmp_path)["system"]
    difference = by_mahala["complexity"]["total_parameters"] - by_mse["complexity"]["total_parameters"]
    assert difference == 2 * 128**2
    assert "covariance" in by_mahala["description"]["domain_generalization_method"]
    assert by_mse["description"]["domain_generalization_method"] is None
    assert "squared" not in (tmp_path / "out" / META_FILE).read_text()


EXTENSION = """
from common import NETWORKS
from networks.network import Network
from networks.scores import score_function
from torch import nn

score_function("LOUD", "dB", {description!r})(lambda path: 1.0)

@NETWORKS.register
class Flat(Network):
    name = "FLAT"

    def __init__(self, settings, n_bins):
        super().__init__(settings, n_bins)
        self.conv = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, vectors):
        return self.conv(vectors[:, None])[:, 0]
"""


@pytest.mark.parametrize("description", ["level of the loudest frame", ""], ids=["described", "not described"])
def test_a_score_of_an_extension_is_described_as_it_says_or_marked(results, make, tmp_path, description):
    (tmp_path / "own.py").write_text(EXTENSION.format(description=description))
    for machine_type in MACHINE_TYPES:
        run = run_of(tmp_path, machine_type)
        for kind in (run.anomaly_scores, run.decisions):
            target = kind("LOUD", 0)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(kind("MSE", 0).read_bytes())
    status, _, err = make("--extension", tmp_path / "own.py", "--score", "LOUD")
    assert (status, err) == (0, "")
    system = read_meta(tmp_path)["system"]
    assert system["description"]["aggregation_method"] == (description or "TODO: describe LOUD of own.py")
    assert system["description"]["machine_learning_method"] == "TODO: describe LOUD of own.py"
    assert "TODO" in system["complexity"]["total_parameters"]
    assert "autoencoder" not in (tmp_path / "out" / META_FILE).read_text().lower()


def test_a_network_of_an_extension_is_marked_and_counted(results, make, tmp_path):
    (tmp_path / "own.py").write_text(EXTENSION.format(description="x"))
    folder = tmp_path / "result" / "eval_data"
    shutil.copytree(folder / "baseline_MSE", folder / "baseline_FLAT_MSE")
    write_records(tmp_path, {})
    status, _, err = make("--extension", tmp_path / "own.py", "--model", "FLAT")
    assert (status, err) == (0, "")
    system = read_meta(tmp_path)["system"]
    assert system["description"]["machine_learning_method"].startswith("TODO: describe FLAT of own.py, a network for")
    assert system["complexity"]["total_parameters"] == 4  # a kernel of three, and its bias
    assert "TODO" in system["complexity"]["MACS"]


def test_four_systems_make_one_package_and_a_fifth_none(results, make, call, tmp_path):
    write_results(tmp_path, LABELLED, score="MAHALA")
    status, out, err = make_labels(call, tmp_path, [LABEL, SECOND], "--score", "MSE", "MAHALA")
    assert (status, err) == (0, "")
    assert "Lastname_INST_task2.zip: 28 files of 56 clips" in out
    with zipfile.ZipFile(tmp_path / "out" / "Lastname_INST_task2.zip") as archive:
        assert len(archive.namelist()) == 30
        assert archive.read(f"{SECOND}/{SECOND}.meta.yaml") == (tmp_path / "out" / f"{SECOND}.meta.yaml").read_bytes()
    assert "Mahalanobis" in read_meta(tmp_path, SECOND)["system"]["description"]["aggregation_method"]
    for labels, scores in (
        ([LABEL, SECOND], ["MSE"]),
        ([LABEL, LABEL], ["MSE", "MAHALA"]),
        ([LABEL, "Other_INST_task2_2"], ["MSE", "MAHALA"]),
    ):
        status, _, err = make_labels(call, tmp_path, labels, "--score", *scores)
        assert status == 2
        assert "label" in err


def make_labels(call, root, labels, *words):
    return call("--label", *labels, "--output", root / "out", *words)


def other_system(folder, names=PUBLISHED, machine_types=MACHINE_TYPES):
    """Write a system's scores and decisions in files with the challenge's names."""
    for machine_type in machine_types:
        for name, values in zip(names_of(machine_type), (SCORES, DECISIONS), strict=True):
            write_values(folder / name, names, values)
    return folder


def test_any_folder_of_scores_and_decisions_is_packed_and_its_meta_file_claims_nothing(results, make, tmp_path):
    assert make()[0] == 0
    ours = zipfile.ZipFile(tmp_path / "out" / f"{LABEL}.zip")
    (tmp_path / "out" / META_FILE).unlink()
    status, out, err = make("--from", other_system(tmp_path / "theirs"))
    assert (status, err) == (0, "")
    with zipfile.ZipFile(tmp_path / "out" / f"{LABEL}.zip") as archive:
        for machine_type in MACHINE_TYPES:
            for name in names_of(machine_type):
                assert archive.read(f"{LABEL}/{name}") == ours.read(f"{LABEL}/{name}")
    meta = read_meta(tmp_path)
    text = (tmp_path / "out" / META_FILE).read_text().lower()
    assert all(word not in text for word in ("squared", "gamma", "autoencoder", "mel"))
    assert "TODO" in meta["system"]["description"]["machine_learning_method"]
    assert "TODO" in meta["system"]["complexity"]["total_parameters"]
    assert "system.description.decision_making: still to be written" in out


def test_our_own_folder_of_results_is_packed_too(results, make, tmp_path):
    assert make("--from", tmp_path / "result" / "eval_data" / "baseline_MSE")[0] == 0
    with zipfile.ZipFile(tmp_path / "out" / f"{LABEL}.zip") as archive:
        assert f"{LABEL}/{SCORE_FILE}" in archive.namelist()


def test_a_folder_that_lacks_a_machine_type_or_is_not_there_is_refused(results, make, tmp_path):
    folder = other_system(tmp_path / "theirs", machine_types=MACHINE_TYPES[1:])
    status, _, err = make("--from", folder)
    assert status == 1
    assert f"{folder} has no scores of {MACHINE_TYPES[0]} section 00" in err
    assert make("--from", tmp_path / "nowhere")[0] == 1
    assert make("--from", folder, "--score", "MSE")[0] == 2
    assert not (tmp_path / "out").exists()


def test_a_package_of_2021_has_a_file_for_each_domain(call, tmp_path):
    challenge = load_challenge("DCASE2021T2", is_eval=True)
    folder = tmp_path / "theirs"
    for machine_type, sections in challenge.sections.items():
        for section in sections:
            pairs = challenge_files(challenge, machine_type, section)
            assert set(pairs) == {"source", "target"}
            for domain, names in pairs.items():
                clips = [f"section_{section:02d}_{domain}_test_{i:04d}.wav" for i in range(2)]
                for name, values in zip(names, ([0.5, 1.5], [0, 1]), strict=True):
                    write_values(folder / name, clips, values)
    words = ["--challenge", "DCASE2021T2", "--output", tmp_path / "out"]
    status, _, err = call("--label", LABEL, "--from", folder, *words)
    assert (status, err) == (0, "")
    with zipfile.ZipFile(tmp_path / "out" / f"{LABEL}.zip") as archive:
        assert len(archive.namelist()) == 7 * 3 * 2 * 2 + 1
        packed = archive.read(f"{LABEL}/anomaly_score_fan_section_03_target_test.csv").decode()
    assert packed == "section_03_target_test_0000.wav,0.5\nsection_03_target_test_0001.wav,1.5\n"
    path = folder / "anomaly_score_fan_section_03_target_test.csv"
    path.write_text(path.read_text().replace("target", "source"))
    assert call("--label", LABEL, "--from", folder, *words)[0] == 1


def test_what_the_entrant_wrote_stays_when_the_package_is_made_again(package, make, tmp_path):
    _, out, _ = make()
    assert "kept" in out
    assert "still to be written" not in out
    assert "differs" not in out
    assert "A system" in (package / META_FILE).read_text()


def test_what_was_written_and_has_changed_since_is_reported(package, make, tmp_path):
    edit(tmp_path / "out", META_FILE, "MACS: 264192", "MACS: 1")
    _, out, _ = make("--decision_threshold", "0.8")
    assert "differs from what this run would write: system.description.decision_making, system.complexity.MACS\n" in out


def break_results(root, case):
    bandsaw, shaker = run_of(root, "bandsaw"), run_of(root, "shaker")
    if case == "missing":
        for run in (bandsaw, shaker):
            run.anomaly_scores("MSE", 0).unlink()
    elif case == "undecided":
        shaker.decisions("MSE", 0).write_text("".join(f"{name},\n" for name in sorted(LABELLED)))
    elif case == "no list":
        (root / "dataset" / "eval_data_list_2023.csv").unlink()
    elif case == "other list":
        write_list(root / "dataset" / "eval_data_list_2023.csv", MACHINE_TYPES[1:])
    elif case == "clip missing":
        for path in (shaker.anomaly_scores("MSE", 0), shaker.decisions("MSE", 0)):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    elif case == "record":
        shaker.record.parent.mkdir(parents=True)
        shaker.record.write_text('{"n_mels": []}')


@pytest.mark.parametrize(
    ("case", "sentences"),
    [
        ("missing", ["baseline_MSE has no scores of bandsaw section 00, shaker section 00", "with -e first"]),
        ("undecided", ["baseline_MSE has no decisions of shaker section 00"]),
        ("no list", ["4 clips of ToyDrone section 00", "(missing)", "--eval_data_list"]),
        ("other list", ["4 clips of ToyDrone section 00", "does not list"]),
        ("clip missing", ["shaker_section_00_test.csv: section_00_0002.wav: missing", "nothing is written"]),
        ("record", ["shaker", "n_mels: '[]' is not allowed"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_incomplete_results_are_reported_and_nothing_is_written(results, make, tmp_path, case, sentences):
    break_results(results, case)
    status, _, err = make()
    assert status == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for sentence in sentences:
        assert sentence in err
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_leaves_the_earlier_package_as_it_was(results, make, tmp_path):
    (tmp_path / "out").write_text("a file")
    status, _, err = make()
    assert status == 1
    assert "cannot write" in err
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.parametrize(
    "words",
    [[], ["--label", "Lastname_task2_1"], ["--label", "A_B_task2_5"], ["--label", LABEL, "--check", "x"]],
    ids=["nothing", "no institution", "fifth", "both"],
)
def test_a_wrong_command_line_ends_with_status_2(call, words):
    status, _, err = call(*words)
    assert status == 2
    assert "error: " in err


# --- checking ---------------------------------------------------------------------------------------------------------


def test_a_package_that_is_filled_in_is_fine_as_folder_and_as_zip(package, call, tmp_path):
    for path in (package, tmp_path / "out" / f"{LABEL}.zip"):
        status, out, err = call("--check", path)
        assert (status, err) == (0, ""), out
        assert f"fine ({LABEL}; DCASE2023T2; clip names compared for 7 of 7 sections)" in out


def test_a_package_as_first_made_lacks_only_what_the_entrant_must_write(results, make, call, tmp_path):
    assert make()[0] == 0
    status, out, _ = call("--check", tmp_path / "out" / f"{LABEL}.zip")
    *problems, verdict = out.splitlines()
    assert status == 1
    assert problems
    assert all("still to be written (TODO" in line for line in problems)
    assert f"{len(problems)} problems" in verdict


def edit(folder, name, old, new):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


BROKEN = {
    "missing file": (lambda f: (f / DECISION_FILE).unlink(), f"{DECISION_FILE}: missing"),
    "missing meta": (lambda f: (f / META_FILE).unlink(), f"{META_FILE}: missing"),
    "superfluous": (lambda f: (f / "notes.txt").write_text("x"), "notes.txt: not part of the package"),
    "other machine type": (
        lambda f: (f / "anomaly_score_fan_section_00_test.csv").write_text("x"),
        "anomaly_score_fan_section_00_test.csv: not part of the package",
    ),
    "clip missing": (
        lambda f: edit(f, SCORE_FILE, "section_00_0001.wav,1e-07\n", ""),
        f"{SCORE_FILE}: section_00_0001.wav: missing",
    ),
    "clip missing here only": (
        lambda f: edit(f, SCORE_FILE, "section_00_0001.wav,1e-07\n", ""),
        f"{DECISION_FILE}: its clips differ from those of {SCORE_FILE}",
    ),
    "labelled name": (
        lambda f: edit(f, SCORE_FILE, PUBLISHED[0], LABELLED[0]),
        f"{SCORE_FILE}: {LABELLED[0]}: not the published name",
    ),
    "NaN": (lambda f: edit(f, SCORE_FILE, "0.5", "nan"), f"{SCORE_FILE}: 'nan' in line 1: not a finite number"),
    "infinite": (lambda f: edit(f, SCORE_FILE, "2.25", "1e999"), "'1e999' in line 4: not a finite number"),
    "decision 2": (
        lambda f: edit(f, DECISION_FILE, ",1", ",2"),
        f"{DECISION_FILE}: '2' in line 3, '2' in line 4: not a decision",
    ),
    "twice": (
        lambda f: edit(f, DECISION_FILE, PUBLISHED[1], PUBLISHED[0]),
        f"{DECISION_FILE}: {PUBLISHED[0]}: more than once in the file",
    ),
    "header": (
        lambda f: edit(f, SCORE_FILE, PUBLISHED[0], "clip,score\n" + PUBLISHED[0]),
        "'score' in line 1: not a finite number",
    ),
    "empty": (lambda f: (f / SCORE_FILE).write_text(""), f"{SCORE_FILE}: it is empty"),
    "byte-order mark": (
        lambda f: (f / SCORE_FILE).write_bytes(b"\xef\xbb\xbf" + (f / SCORE_FILE).read_bytes()),
        f"{SCORE_FILE}: it begins with a byte-order mark",
    ),
    "no text": (lambda f: (f / SCORE_FILE).write_bytes(b"\xff\xfe"), f"{SCORE_FILE}: not a CSV in UTF-8"),
    "too large": (lambda f: (f / SCORE_FILE).write_text("x" * 200_000), f"{SCORE_FILE}: larger than"),
    "label": (lambda f: edit(f, META_FILE, f"label: {LABEL}", "label: Other_INST_task2_1"), "they must be equal"),
    "abbreviation": (
        lambda f: edit(f, META_FILE, "abbreviation: Ab", "abbreviation: ElevenChars"),
        "'ElevenChars' has 11 characters; 10 are allowed",
    ),
    "no name": (lambda f: edit(f, META_FILE, "name: A system", "name: null"), "submission.name is empty"),
    "key": (
        lambda f: edit(f, META_FILE, "attribute_usage", "attributes"),
        "system.description.attribute_usage is missing",
    ),
    "author key": (lambda f: edit(f, META_FILE, "email", "mail"), "email of author 1 is missing"),
    "corresponding": (lambda f: edit(f, META_FILE, "corresponding: true", "corresponding: false"), "no author has"),
    "result": (lambda f: edit(f, META_FILE, "auc_source: 70.5", "auc_source: 705"), "fan.auc_source is not a number"),
    "machine type": (lambda f: edit(f, META_FILE, "valve:", "valves:"), "development_dataset.valve.pauc is missing"),
    "mark": (
        lambda f: edit(f, META_FILE, "location: Town", "location: 'TODO: x'"),
        "affiliation.location: still to be",
    ),
    "no YAML": (lambda f: (f / META_FILE).write_text("a: [1"), f"{META_FILE}: not readable as YAML"),
    "a list": (lambda f: (f / META_FILE).write_text("- 1\n"), f"{META_FILE}: it holds no `key: value` lines"),
    "nested": (lambda f: (f / META_FILE).write_text("[" * 20_000), f"{META_FILE}: not readable as YAML"),
    "python tag": (
        lambda f: (f / META_FILE).write_text("!!python/object/apply:os.getcwd []"),
        f"{META_FILE}: not readable as YAML",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_package_is_refused_and_the_fault_named(package, call, case):
    harm, line = BROKEN[case]
    harm(package)
    status, out, err = call("--check", package)
    assert (status, err) == (1, "")
    assert any(line in problem and problem.startswith(f"{LABEL}/") for problem in out.splitlines()[:-1]), out


def test_a_package_of_2026s_form_is_fine_and_what_it_lacks_is_noted(package, call):
    meta = yaml.safe_load((package / META_FILE).read_text())
    del meta["system"]["complexity"]["MACS"]
    meta["system"]["external_datasets"] = [{"name": None, "url": None}, None]
    first = meta["submission"]["authors"][0]
    second = {name: value for name, value in first.items() if name != "corresponding"}
    second["affiliation"] = {"institution": "Institute", "location": "Town"}
    meta["submission"]["authors"] = [first, second]
    (package / META_FILE).write_text(yaml.safe_dump(meta, allow_unicode=True))
    status, out, err = call("--check", package)
    assert (status, err) == (0, ""), out
    *notes, verdict = out.splitlines()
    assert f"fine ({LABEL}" in verdict
    assert [line.partition(": system")[0] for line in notes if "MACS is missing" in line] == [
        f"note: {LABEL}/{META_FILE}"
    ]
    assert any("affiliation.department of author 2 is missing" in line for line in notes)
    assert len(notes) == 2


def test_another_label_than_the_folders_name_is_no_fine_package(package, call):
    other = package.rename(package.with_name("notes"))
    status, out, _ = call("--check", other)
    assert status == 1
    assert "the folder's name 'notes' is not a label" in out
    assert "notes/notes.meta.yaml: missing" in out
    assert f"notes/{META_FILE}: not part of the package" in out


def test_a_zip_without_a_folder_is_refused(package, call, tmp_path):
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        for path in package.iterdir():
            archive.write(path, path.name)
    status, out, _ = call("--check", tmp_path / "flat.zip")
    assert status == 1
    assert "flat.zip: the folder's name '' is not a label" in out


def test_aliases_that_grow_without_end_are_read_in_no_time(package, call):
    lines = ["a0: &a0 [TODO]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40))]
    lines += ["self: &self [*self]", f"? 0x{'f' * 9000}\n: TODO"]
    (package / META_FILE).write_text("\n".join(lines))
    status, out, _ = call("--check", package)
    assert status == 1
    assert out.count("still to be written") == 2


def test_merges_that_grow_without_end_are_refused_in_no_time(package, call):
    lines = [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 40)]
    (package / META_FILE).write_text("\n".join(["a0: &a0 {b: 1}", *lines]))
    status, out, _ = call("--check", package)
    assert status == 1
    assert f"{META_FILE}: not readable as YAML" in out


def test_without_list_and_clips_the_catalogues_number_of_clips_counts(package, call, tmp_path):
    (tmp_path / "dataset" / "eval_data_list_2023.csv").unlink()
    status, out, _ = call("--check", package)
    assert status == 1
    assert f"{LABEL}/{SCORE_FILE}: 4 clips; the challenge has 200" in out
    assert "compared for 0 of 7 sections" in out
    rows = [f"section_00_{i:04d}.wav" for i in range(200)]
    for machine_type in MACHINE_TYPES:
        for name in names_of(machine_type):
            (package / name).write_text("".join(f"{row},1\n" for row in rows))
    status, out, _ = call("--check", package)
    assert status == 0, out
    edit(package, SCORE_FILE, "section_00_0199.wav", "section_01_0199.wav")
    assert f"{SCORE_FILE}: section_01_0199.wav: not the published name" in call("--check", package)[1]
    labelled = "section_00_source_test_normal_0199.wav"
    edit(package, SCORE_FILE, "section_01_0199.wav", labelled)
    assert f"{SCORE_FILE}: {labelled}: not the published name" in call("--check", package)[1]


@pytest.mark.parametrize(
    ("name", "mode", "content", "line"),
    [
        ("../evil.csv", 0o100644, "x", "../evil.csv: not a plain relative path"),
        ("/tmp/evil.csv", 0o100644, "x", "/tmp/evil.csv: not a plain relative path"),
        (f"{LABEL}/..\\evil.csv", 0o100644, "x", "not a plain relative path"),
        (f"{LABEL}/link", stat.S_IFLNK | 0o777, "/etc/passwd", f"{LABEL}/link: a link"),
        (f"{LABEL}/bomb.csv", 0o100644, "0" * 10_000_000, f"{LABEL}/bomb.csv: larger than"),
        (f"{LABEL}/{SCORE_FILE}", 0o100644, "x", f"{LABEL}/{SCORE_FILE}: twice in the zip"),
        ("loose.txt", 0o100644, "x", "loose.txt: not in a system's folder"),
        ("a\nb.txt", 0o100644, "x", "a\\nb.txt: not in a system's folder"),
        (f"__MACOSX/{LABEL}/._{META_FILE}", 0o100644, "x", "not in a system's folder"),
    ],
    ids="outside absolute backslash link bomb twice loose line-break hidden".split(),
)
def test_a_zip_that_could_do_harm_is_named_and_nothing_of_it_is_unpacked(
    package, call, tmp_path, name, mode, content, line
):
    with pytest.warns(UserWarning, match="Duplicate") if SCORE_FILE in name else contextlib.nullcontext():
        path = pack(package, tmp_path / "package.zip", [(name, mode, content)])
    before = sorted(tmp_path.rglob("*"))
    status, out, err = call("--check", path)
    assert (status, err) == (1, "")
    assert line in out
    assert len(out.splitlines()) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_of_two_systems_with_their_reports_is_fine_and_of_five_is_not(package, call, tmp_path):
    for i in range(2, 6):
        other = package.with_name(f"Lastname_INST_task2_{i}")
        other.mkdir()
        for path in package.iterdir():
            text = path.read_text().replace(LABEL, other.name)
            (other / path.name.replace(LABEL, other.name)).write_text(text)
        (other / "report.pdf").write_bytes(b"%PDF" + b"x" * 200_000)
        status, out, _ = call("--check", package.parent)
        assert status == (i == 5), out
    assert "it holds 5 systems; 4 are allowed" in out
    assert "the folder's name 'Lastname_INST_task2_5' is not a label" in out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "there is no"), (b"no zip", "not a zip"), (b"PK\x05\x06" + b"\0" * 18, "no system in it")],
    ids=["absent", "no zip", "empty"],
)
def test_what_is_no_package_is_said_in_a_sentence(call, tmp_path, content, sentence):
    path = tmp_path / "package.zip"
    if content is not None:
        path.write_bytes(content)
    status, out, err = call("--check", path)
    assert status == 1
    assert sentence in out + err


def test_a_damaged_zip_is_said_in_a_sentence(package, call, tmp_path):
    path = pack(package, tmp_path / "package.zip")
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    status, out, err = call("--check", path)
    assert status == 1
    assert "truncated, damaged" in err or "problem" in out


def test_a_folder_of_very_many_files_is_no_package(call, tmp_path):
    for i in range(501):
        (tmp_path / f"{i}.csv").touch()
    status, _, err = call("--check", tmp_path)
    assert status == 1
    assert "more than 500 files" in err
