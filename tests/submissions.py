"""Results, label lists and filled-in packages for the tests of tools/submission, and their fixtures."""

import shutil
import zipfile

from common import Settings, read_defaults

import pytest
import synthetic
import yaml
from synthetic import directories, folders

from datasets.catalogue import load_challenge
from networks.names import Experiment
from tools import make_submission
from tools.results.files import challenge_files, write_clip_values

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
    """Return the names of a section's score and decision files."""
    return [name for pair in challenge_files(challenge, machine_type, section).values() for name in pair]


SCORE_FILE, DECISION_FILE = names_of("bandsaw")


def run_of(root, machine_type, is_eval=True, challenge="DCASE2023T2", section=0):
    settings = Settings({**read_defaults(), **folders(root)})
    return Experiment.of(settings, is_eval).run(challenge, machine_type, section)


def write_values(path, names, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        write_clip_values(file, names, values)


def write_results(root, names, machine_types=MACHINE_TYPES, score="MSE"):
    """Write scores and decisions of the machine types, in the order of the clips' names, as in the test stage."""
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
    write_list(root / "data" / "eval_data_list_2023.csv")


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


def edit(folder, name, old, new):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def read_meta(root, label=LABEL):
    return yaml.safe_load((root / "out" / f"{label}.meta.yaml").read_text())


def invoke(root, *words):
    """Call the command in this process; return its status."""
    return synthetic.call(make_submission.main, *words, *directories(root)[:6])


@pytest.fixture
def call(capsys, tmp_path):
    """Call the command; return status, output and errors."""
    return lambda *words: (invoke(tmp_path, *words), *capsys.readouterr())


@pytest.fixture
def make(call, tmp_path):
    """Call the command to make a package in the folder `out`."""
    return lambda *words: call("--label", LABEL, "--output", tmp_path / "out", *words)


@pytest.fixture
def results(tmp_path):
    """Write the results of a complete evaluation on labelled clips, and the label list."""
    write_evaluation(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def filled_in(tmp_path_factory):
    """Make a package, fill in its meta file, make it again, and unpack it; return the folder."""
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
