"""The challenge's package: made from results, and checked."""

import zipfile

import pytest
from submissions import (
    DECISIONS,
    LABEL,
    LABELLED,
    MACHINE_TYPES,
    META_FILE,
    PUBLISHED,
    SCORE_FILE,
    SCORES,
    SECOND,
    names_of,
    read_meta,
    run_of,
    write_list,
    write_results,
    write_values,
)
from synthetic import machine_folder, write_clip, write_network_record

from datasets.catalogue import load_challenge
from tools.results.files import challenge_files


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
    (results / "data" / "eval_data_list_2023.csv").unlink()
    write_results(tmp_path, PUBLISHED)
    for machine_type in MACHINE_TYPES:
        for name in PUBLISHED:
            write_clip(machine_folder(results / "data", machine_type, split="eval_data") / "test" / name, 1, 0.01)
    fixed = (tmp_path / "out" / META_FILE).read_bytes()
    assert make()[0] == 0
    assert (tmp_path / "out" / META_FILE).read_bytes() == fixed
    assert (tmp_path / "out" / f"{LABEL}.zip").read_bytes() == labelled


def test_several_systems_make_one_package_if_their_labels_fit(results, make, call, tmp_path):
    write_results(tmp_path, LABELLED, score="MAHALA")
    both = ["--score", "MSE", "MAHALA"]
    status, out, err = make_labels(call, tmp_path, [LABEL, SECOND], *both)
    assert (status, err) == (0, "")
    assert "warning" not in out
    assert "Lastname_INST_task2.zip: 28 files of 56 clips" in out
    with zipfile.ZipFile(tmp_path / "out" / "Lastname_INST_task2.zip") as archive:
        assert len(archive.namelist()) == 30
        assert archive.read(f"{SECOND}/{SECOND}.meta.yaml") == (tmp_path / "out" / f"{SECOND}.meta.yaml").read_bytes()
    assert "Mahalanobis" in read_meta(tmp_path, SECOND)["system"]["description"]["aggregation_method"]
    assert "warning: Lastname_INST_task2.zip beside it is from an earlier package" in make()[1]
    _, out, _ = make_labels(call, tmp_path, [LABEL, SECOND], *both)
    assert f"warning: {LABEL}.zip beside it is from an earlier package" in out
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
    assert make("--from", tmp_path / "results" / "eval_data" / "baseline_MSE")[0] == 0
    with zipfile.ZipFile(tmp_path / "out" / f"{LABEL}.zip") as archive:
        assert f"{LABEL}/{SCORE_FILE}" in archive.namelist()


def test_a_missing_or_incomplete_folder_is_refused(results, make, tmp_path):
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


@pytest.mark.parametrize("year", [2024, 2025, 2026])
def test_a_package_of_too_few_clips_is_refused_or_noted(call, tmp_path, year):
    """One clip a section was packed without a word, since the catalogue had no numbers of these years."""
    challenge = load_challenge(f"DCASE{year}T2", is_eval=True)
    clip = "section_00_0000.wav"
    for machine_type in challenge.machine_types:
        for name, value in zip(names_of(machine_type, challenge=challenge), (0.5, 1), strict=True):
            write_values(tmp_path / "theirs" / name, [clip], [value])
    words = ["--label", LABEL, "--challenge", challenge.name, "--output", tmp_path / "out"]
    words += ["--from", tmp_path / "theirs"]
    status, _, err = call(*words)
    assert status == 1
    assert "_section_00_test.csv: 1 clip; the challenge has 200" in err
    assert not (tmp_path / "out").exists()
    for machine_type in challenge.machine_types:
        folder = machine_folder(tmp_path / "data", machine_type, challenge.name.lower(), "eval_data") / "test"
        write_clip(folder / clip, 1, 0.01)
    n = len(challenge.machine_types)
    note = f"note: the label list or --dataset_directory has {n} test clips of these sections, where the challenge has"
    status, out, _ = call(*words)
    assert status == 0
    assert f"{note} {200 * n}; a package of them is not complete\n" in out
    assert f"{note} {200 * n};" in call("--challenge", challenge.name, "--check", tmp_path / "out" / f"{LABEL}.zip")[1]


def test_semicolons_in_a_package_are_called_so(results, make, tmp_path):
    folder = other_system(tmp_path / "theirs")
    (folder / SCORE_FILE).write_text("".join(f"{name};0,5\n" for name in PUBLISHED))
    status, _, err = make("--from", folder)
    assert status == 1
    assert "its columns are separated by semicolons: convert them to commas, and decimal commas to points" in err


def break_results(root, case):
    bandsaw, shaker = run_of(root, "bandsaw"), run_of(root, "shaker")
    if case == "missing":
        for run in (bandsaw, shaker):
            run.anomaly_scores("MSE", 0).unlink()
    elif case == "undecided":
        shaker.decisions("MSE", 0).write_text("".join(f"{name},\n" for name in sorted(LABELLED)))
    elif case == "no list":
        (root / "data" / "eval_data_list_2023.csv").unlink()
    elif case == "other list":
        write_list(root / "data" / "eval_data_list_2023.csv", MACHINE_TYPES[1:])
    elif case == "clip missing":
        for path in (shaker.anomaly_scores("MSE", 0), shaker.decisions("MSE", 0)):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    elif case == "record":
        shaker.record.parent.mkdir(parents=True)
        write_network_record(shaker.record, n_mels=[])


@pytest.mark.parametrize(
    ("case", "sentences"),
    [
        ("missing", ["baseline_MSE has no scores of bandsaw section 00, shaker section 00", "with -e first"]),
        ("undecided", ["baseline_MSE has no decisions of shaker section 00"]),
        ("no list", ["4 clips of ToyDrone section 00", "is missing: give --eval_data_list"]),
        ("other list", ["4 clips of ToyDrone section 00", "does not list"]),
        ("clip missing", ["shaker_section_00_test.csv: section_00_0002.wav: missing", "nothing was written"]),
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
