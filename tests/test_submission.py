"""The challenge's package: made from results, and checked."""

import contextlib
import json
import shutil
import stat
import zipfile

import pytest
import yaml
from synthetic import machine_folder, write_clip

from common import ExperimentPaths
from datasets.catalogue import load_challenge
from tools import make_submission
from tools.options import MODEL
from tools.result_csv import write_clip_values, write_result_table
from tools.score_files import challenge_names_of
from tools.submission_meta import FEATURES, TRAINING

LABEL = "Lastname_INST_task2_1"
MACHINE_TYPES = load_challenge("DCASE2023T2", is_eval=True).machine_types
DEVELOPMENT = load_challenge("DCASE2023T2", is_eval=False).machine_types
PUBLISHED = [f"section_00_{i:04d}.wav" for i in range(4)]
LABELLED = [f"section_00_{which}_{i:04d}_v_{i}.wav" for i, which in enumerate(["target_test_anomaly"] * 2)]
LABELLED += [f"section_00_{which}_{i:04d}_v_{i}.wav" for i, which in enumerate(["source_test_normal"] * 2)]
SCORES = [0.5, 1e-7, 123.456789012345, 2.25]  # of the published clips, in their order
DECISIONS = [0, 0, 1, 1]
SCORE_FILE, DECISION_FILE = challenge_names_of("bandsaw", 0)
META_FILE = f"{LABEL}.meta.yaml"


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


def run_paths(root, machine_type, is_eval=True):
    folders = (root / "result", root / "model", root / "log")
    return ExperimentPaths(*folders, "baseline", MODEL, f"DCASE2023T2{machine_type}", "id(0_)", is_eval, 13711)


def write_results(root, names, machine_types=MACHINE_TYPES):
    """Write scores and decisions of the machine types, in the order of the clips' names as the test stage has it."""
    rows = sorted(zip(names, SCORES, DECISIONS, strict=True))
    for machine_type in machine_types:
        paths = run_paths(root, machine_type)
        write_clip_values(paths.anomaly_scores("MSE", 0), [row[0] for row in rows], [row[1] for row in rows])
        write_clip_values(paths.decisions("MSE", 0), [row[0] for row in rows], [row[2] for row in rows])


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
        names = [name for m in MACHINE_TYPES for name in challenge_names_of(m, 0)]
        assert sorted(archive.namelist()) == sorted(f"{LABEL}/{name}" for name in [*names, META_FILE])
        for machine_type in MACHINE_TYPES:
            scores, decisions = (archive.read(f"{LABEL}/{n}").decode() for n in challenge_names_of(machine_type, 0))
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


def test_the_meta_file_says_what_is_known_and_marks_the_rest(results, make, tmp_path):
    write_clip(machine_folder(results / "dataset", split="eval_data", machine_type="bandsaw") / "test" / "x.wav", 1)
    metrics = {"AUC (source)": 0.61234, "AUC (target)": 0.5, "pAUC": 0.51}
    write_result_table(run_paths(results, "fan", is_eval=False).result_table("MSE"), {0: metrics})
    for machine_type in MACHINE_TYPES:
        path = run_paths(results, machine_type).record
        path.parent.mkdir(parents=True, exist_ok=True)
        record = dict.fromkeys((*FEATURES, *TRAINING), 2) | {"n_mels": 128, "frames": 5, "batch_size": 77, "fmax": None}
        path.write_text(json.dumps(record | {"validation_split": 0.1}))
    status, out, _ = make()
    meta = yaml.safe_load((tmp_path / "out" / META_FILE).read_text())
    description = meta["system"]["description"]
    assert status == 0
    assert meta["submission"]["label"] == LABEL
    assert description["input_sampling_rate"] == "16 kHz"
    assert "n_mels 128" in description["acoustic_features"]
    assert "fmax null" in description["acoustic_features"]
    assert "batch_size 77" in description["machine_learning_method"]
    # by hand: (640 + 8) * 128 * 2 weights of the outer layers, 6 * 128**2 of the inner ones; biases and BatchNorm
    macs = 2 * (640 * 128 + 128 * 8) + 6 * 128 * 128
    assert meta["system"]["complexity"] == {
        "total_parameters": macs + 8 * 128 + 8 + 640 + 2 * (8 * 128 + 8),
        "MACS": macs,
    }
    assert meta["results"]["development_dataset"]["fan"] == {"auc_source": 61.23, "auc_target": 50.0, "pauc": 51.0}
    for key in ("submission.name", "submission.authors.1.email", "results.development_dataset.valve.pauc"):
        assert f"{key}: still to be written" in out


def test_mahala_counts_the_covariances(results, make, tmp_path):
    for machine_type in MACHINE_TYPES:
        paths = run_paths(results, machine_type)
        for of in (paths.anomaly_scores, paths.decisions):
            of("MAHALA", 0).parent.mkdir(parents=True, exist_ok=True)
            of("MAHALA", 0).write_bytes(of("MSE", 0).read_bytes())
    assert make()[0] == 0
    by_mse = yaml.safe_load((tmp_path / "out" / META_FILE).read_text())["system"]
    (tmp_path / "out" / META_FILE).unlink()
    assert make("--score", "MAHALA")[0] == 0
    by_mahala = yaml.safe_load((tmp_path / "out" / META_FILE).read_text())["system"]
    difference = by_mahala["complexity"]["total_parameters"] - by_mse["complexity"]["total_parameters"]
    assert difference == 2 * 128**2
    assert "covariance" in by_mahala["description"]["domain_generalization_method"]
    assert by_mse["description"]["domain_generalization_method"] is None


def test_what_the_entrant_wrote_stays_when_the_package_is_made_again(package, make, tmp_path):
    _, out, _ = make()
    assert "kept" in out
    assert "still to be written" not in out
    assert "otherwise" not in out
    assert "A system" in (package / META_FILE).read_text()


def test_what_was_written_and_is_not_so_any_more_is_named(package, make, tmp_path):
    edit(tmp_path / "out", META_FILE, "MACS: 264192", "MACS: 1")
    _, out, _ = make("--decision_threshold", "0.8")
    assert "otherwise than this run would write it: system.description.decision_making, system.complexity.MACS\n" in out


def break_results(root, case):
    bandsaw, shaker = run_paths(root, "bandsaw"), run_paths(root, "shaker")
    if case == "missing":
        for paths in (bandsaw, shaker):
            paths.anomaly_scores("MSE", 0).unlink()
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
        ("missing", ["no MSE scores of bandsaw section 00, shaker section 00", "with -e first"]),
        ("undecided", ["no MSE decisions of shaker section 00"]),
        ("no list", ["4 clips of ToyDrone section 00", "is not there", "--eval_data_list"]),
        ("other list", ["4 clips of ToyDrone section 00", "does not have them"]),
        ("clip missing", ["shaker_section_00_test.csv: section_00_0002.wav: missing", "nothing is written"]),
        ("record", ["shaker", "no record of a training run"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_incomplete_results_are_named_and_nothing_is_written(results, make, tmp_path, case, sentences):
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
    "missing file": (lambda f: (f / DECISION_FILE).unlink(), f"{DECISION_FILE}: it is missing"),
    "missing meta": (lambda f: (f / META_FILE).unlink(), f"{META_FILE}: it is missing"),
    "superfluous": (lambda f: (f / "notes.txt").write_text("x"), "notes.txt: it does not belong to the package"),
    "other machine type": (
        lambda f: (f / "anomaly_score_fan_section_00_test.csv").write_text("x"),
        "anomaly_score_fan_section_00_test.csv: it does not belong",
    ),
    "clip missing": (
        lambda f: edit(f, SCORE_FILE, "section_00_0001.wav,1e-07\n", ""),
        f"{SCORE_FILE}: section_00_0001.wav: missing",
    ),
    "clip missing here only": (
        lambda f: edit(f, SCORE_FILE, "section_00_0001.wav,1e-07\n", ""),
        f"{DECISION_FILE}: its clips are not those of {SCORE_FILE}",
    ),
    "labelled name": (
        lambda f: edit(f, SCORE_FILE, PUBLISHED[0], LABELLED[0]),
        f"{SCORE_FILE}: {LABELLED[0]}: not the published name",
    ),
    "NaN": (lambda f: edit(f, SCORE_FILE, "0.5", "nan"), f"{SCORE_FILE}: 'nan' in line 1: no finite number"),
    "infinite": (lambda f: edit(f, SCORE_FILE, "2.25", "1e999"), "'1e999' in line 4: no finite number"),
    "decision 2": (lambda f: edit(f, DECISION_FILE, ",1", ",2"), f"{DECISION_FILE}: '2' in line 3, '2' in line 4: no"),
    "twice": (
        lambda f: edit(f, DECISION_FILE, PUBLISHED[1], PUBLISHED[0]),
        f"{DECISION_FILE}: {PUBLISHED[0]}: there more than once",
    ),
    "header": (lambda f: edit(f, SCORE_FILE, PUBLISHED[0], "clip,score\n" + PUBLISHED[0]), "'score' in line 1: no"),
    "empty": (lambda f: (f / SCORE_FILE).write_text(""), f"{SCORE_FILE}: it is empty"),
    "no text": (lambda f: (f / SCORE_FILE).write_bytes(b"\xff\xfe"), f"{SCORE_FILE}: it is no CSV in UTF-8"),
    "too large": (lambda f: (f / SCORE_FILE).write_text("x" * 200_000), f"{SCORE_FILE}: it is larger than"),
    "label": (lambda f: edit(f, META_FILE, f"label: {LABEL}", "label: Other_INST_task2_1"), "they must be equal"),
    "abbreviation": (
        lambda f: edit(f, META_FILE, "abbreviation: Ab", "abbreviation: ElevenChars"),
        "'ElevenChars' has 11 characters; it may have 10",
    ),
    "no name": (lambda f: edit(f, META_FILE, "name: A system", "name: null"), "submission.name is empty"),
    "key": (
        lambda f: edit(f, META_FILE, "attribute_usage", "attributes"),
        "system.description.attribute_usage is missing",
    ),
    "author key": (lambda f: edit(f, META_FILE, "email", "mail"), "email of author 1 is missing"),
    "corresponding": (lambda f: edit(f, META_FILE, "corresponding: true", "corresponding: false"), "none has"),
    "result": (lambda f: edit(f, META_FILE, "auc_source: 70.5", "auc_source: 705"), "fan.auc_source is no number"),
    "machine type": (lambda f: edit(f, META_FILE, "valve:", "valves:"), "development_dataset.valve.pauc is missing"),
    "mark": (
        lambda f: edit(f, META_FILE, "location: Town", "location: 'TODO: x'"),
        "affiliation.location: still to be",
    ),
    "no YAML": (lambda f: (f / META_FILE).write_text("a: [1"), f"{META_FILE}: it is no YAML that can be read"),
    "a list": (lambda f: (f / META_FILE).write_text("- 1\n"), f"{META_FILE}: it holds no `key: value` lines"),
    "nested": (lambda f: (f / META_FILE).write_text("[" * 20_000), f"{META_FILE}: it is no YAML that can be read"),
    "python tag": (
        lambda f: (f / META_FILE).write_text("!!python/object/apply:os.getcwd []"),
        f"{META_FILE}: it is no YAML that can be read",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_package_is_refused_and_the_fault_named(package, call, case):
    harm, line = BROKEN[case]
    harm(package)
    status, out, err = call("--check", package)
    assert (status, err) == (1, "")
    assert any(line in problem and problem.startswith(f"{LABEL}/") for problem in out.splitlines()[:-1]), out


def test_another_label_than_the_folders_name_is_no_fine_package(package, call):
    other = package.rename(package.with_name("notes"))
    status, out, _ = call("--check", other)
    assert status == 1
    assert "the folder's name 'notes' is no label" in out
    assert "notes/notes.meta.yaml: it is missing" in out
    assert f"notes/{META_FILE}: it does not belong to the package" in out


def test_a_zip_without_a_folder_is_refused(package, call, tmp_path):
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        for path in package.iterdir():
            archive.write(path, path.name)
    status, out, _ = call("--check", tmp_path / "flat.zip")
    assert status == 1
    assert "flat.zip: the folder's name '' is no label" in out


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
    assert f"{META_FILE}: it is no YAML that can be read" in out


def test_without_list_and_clips_the_catalogues_number_of_clips_counts(package, call, tmp_path):
    (tmp_path / "dataset" / "eval_data_list_2023.csv").unlink()
    status, out, _ = call("--check", package)
    assert status == 1
    assert f"{LABEL}/{SCORE_FILE}: it has 4 clips; the challenge has 200" in out
    assert "compared for 0 of 7 sections" in out
    rows = [f"section_00_{i:04d}.wav" for i in range(200)]
    for machine_type in MACHINE_TYPES:
        for name in challenge_names_of(machine_type, 0):
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
        ("../evil.csv", 0o100644, "x", "../evil.csv: it is no plain relative path"),
        ("/tmp/evil.csv", 0o100644, "x", "/tmp/evil.csv: it is no plain relative path"),
        (f"{LABEL}/..\\evil.csv", 0o100644, "x", "it is no plain relative path"),
        (f"{LABEL}/link", stat.S_IFLNK | 0o777, "/etc/passwd", f"{LABEL}/link: it is a link"),
        (f"{LABEL}/bomb.csv", 0o100644, "0" * 10_000_000, f"{LABEL}/bomb.csv: it is larger than"),
        (f"{LABEL}/{SCORE_FILE}", 0o100644, "x", f"{LABEL}/{SCORE_FILE}: it is there twice"),
        ("loose.txt", 0o100644, "x", "loose.txt: it is in no system's folder"),
        ("a\nb.txt", 0o100644, "x", "a\\nb.txt: it is in no system's folder"),
        (f"__MACOSX/{LABEL}/._{META_FILE}", 0o100644, "x", "it is in no system's folder"),
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
    assert "the folder's name 'Lastname_INST_task2_5' is no label" in out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "there is no"), (b"no zip", "no zip"), (b"PK\x05\x06" + b"\0" * 18, "holds no system")],
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
