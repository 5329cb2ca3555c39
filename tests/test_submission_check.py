"""The check of a package for the challenge: each fault is reported, and nothing of a harmful zip is unpacked."""

import contextlib
import stat
import zipfile

import pytest
import yaml
from submissions import DECISION_FILE, LABEL, LABELLED, MACHINE_TYPES, META_FILE, PUBLISHED, SCORE_FILE, edit, names_of


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


def test_a_filled_in_package_passes_as_folder_and_as_zip(package, call, tmp_path):
    for path in (package, tmp_path / "out" / f"{LABEL}.zip"):
        status, out, err = call("--check", path)
        assert (status, err) == (0, ""), out
        assert f"fine ({LABEL}; DCASE2023T2; clip names compared for 7 of 7 sections)" in out


def test_a_new_package_lacks_only_the_entrants_own_entries(results, make, call, tmp_path):
    assert make()[0] == 0
    status, out, _ = call("--check", tmp_path / "out" / f"{LABEL}.zip")
    *problems, note, verdict = out.splitlines()
    assert status == 1
    assert problems
    assert note.startswith("note: the label list or --dataset_directory has 28 test clips of these sections, where the")
    assert all("still to be written (TODO" in line for line in problems)
    assert f"{len(problems)} problems" in verdict


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
    "semicolons": (
        lambda f: edit(f, SCORE_FILE, ",", ";"),
        f"{SCORE_FILE}: its columns are separated by semicolons: convert them to commas, and decimal commas to points",
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
def test_a_fault_in_a_package_is_reported(package, call, case):
    harm, line = BROKEN[case]
    harm(package)
    status, out, err = call("--check", package)
    assert (status, err) == (1, "")
    assert any(line in problem and problem.startswith(f"{LABEL}/") for problem in out.splitlines()[:-1]), out


def test_a_package_in_the_form_of_2026_passes_with_notes(package, call):
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
    *notes, of_clips, verdict = out.splitlines()
    assert "where the challenge has 1400; a package of them is not complete" in of_clips
    assert f"fine ({LABEL}" in verdict
    assert [line.partition(": system")[0] for line in notes if "MACS is missing" in line] == [
        f"note: {LABEL}/{META_FILE}"
    ]
    assert any("affiliation.department of author 2 is missing" in line for line in notes)
    assert len(notes) == 2


def test_a_folder_whose_name_is_not_a_label_is_reported(package, call):
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


def test_aliases_that_expand_without_end_are_read_at_once(package, call):
    lines = ["a0: &a0 [TODO]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40))]
    lines += ["self: &self [*self]", f"? 0x{'f' * 9000}\n: TODO"]
    (package / META_FILE).write_text("\n".join(lines))
    status, out, _ = call("--check", package)
    assert status == 1
    assert out.count("still to be written") == 2


def test_merges_that_expand_without_end_are_refused_at_once(package, call):
    lines = [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 40)]
    (package / META_FILE).write_text("\n".join(["a0: &a0 {b: 1}", *lines]))
    status, out, _ = call("--check", package)
    assert status == 1
    assert f"{META_FILE}: not readable as YAML" in out


def test_without_list_and_clips_the_number_of_clips_is_compared_with_the_catalogue(package, call, tmp_path):
    (tmp_path / "data" / "eval_data_list_2023.csv").unlink()
    status, out, _ = call("--check", package)
    assert status == 1
    assert f"{LABEL}/{SCORE_FILE}: 4 clips; the challenge has 200" in out
    assert "compared for 0 of 7 sections; to compare all, give --dataset_directory with the test clips, or" in out
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
def test_a_harmful_zip_is_reported_and_not_unpacked(package, call, tmp_path, name, mode, content, line):
    with pytest.warns(UserWarning, match="Duplicate") if SCORE_FILE in name else contextlib.nullcontext():
        path = pack(package, tmp_path / "package.zip", [(name, mode, content)])
    before = sorted(tmp_path.rglob("*"))
    status, out, err = call("--check", path)
    assert (status, err) == (1, "")
    assert line in out
    assert len(out.splitlines()) == 3  # with the note about four clips a section, and the verdict
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_holds_at_most_four_systems_and_their_reports(package, call, tmp_path):
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
def test_a_file_that_is_not_a_package_is_reported(call, tmp_path, content, sentence):
    path = tmp_path / "package.zip"
    if content is not None:
        path.write_bytes(content)
    status, out, err = call("--check", path)
    assert status == 1
    assert sentence in out + err


def test_a_damaged_zip_is_reported(package, call, tmp_path):
    path = pack(package, tmp_path / "package.zip")
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    status, out, err = call("--check", path)
    assert status == 1
    assert "truncated, damaged" in err or "problem" in out


def test_a_folder_of_very_many_files_is_refused(call, tmp_path):
    for i in range(501):
        (tmp_path / f"{i}.csv").touch()
    status, _, err = call("--check", tmp_path)
    assert status == 1
    assert "more than 500 files" in err
