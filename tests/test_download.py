"""Downloads from a local server that cuts, refuses, delays and lies: one sentence, or the right clips, up to tables."""

import itertools
import json
import os
import re
import resource
import shutil
import signal
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import yaml
from servers import CLIPS, FILE, make_zip, md5, noise, tree
from synthetic import directories, exit_statuses, machine_folder, rows, script, succeed, write_machine

from datasets import catalogue
from runtime import progress
from tools import check_dataset, data_download
from tools.results import __main__ as summarize_results

CHALLENGE = """
channels: 1
label_list: https://labels.invalid/list.csv
dev:
  machine_types: [ToyCar, anvil]
  sections: [0]
  sections_of: {anvil: [1]}
  clips: {train: {source normal: 4, target normal: 1}, test: {}}
  archives:
    dev: {record: 1, file: "dev_{m}.zip", files: {anvil: dev_anvil_r2.zip}}
eval:
  machine_types: [ToyCar]
  sections: [0]
  archives:
    add: {record: 2, file: "add_{m}.zip"}
    eval: {record: 3, file: "eval_{m}.zip"}
"""
ADDRESS, API = f"/records/1/files/{FILE}", "/api/records/1"
ADD, EVAL, LIST = "/records/2/files/add_ToyCar.zip", "/records/3/files/eval_ToyCar.zip", "/list.csv"
LABELS = b"ToyCar\nsection_00_0000.wav,section_00_source_test_normal_0000.wav\n"
TEST = {"test/section_00_0000.wav": noise(30)}
LABELLED = TEST | {"test_rename/section_00_source_test_normal_0000.wav": noise(30)}
NEXT = {  # the archive's next version: a clip replaced, others gone, a folder new
    "train/section_00_source_train_normal_0000.wav": noise(20),
    "supplemental/section_00_supplemental_0000.wav": noise(21),
    "test/section_00_source_test_normal_0000.wav": b"RIFF",
}
NOWHERE = "http://127.0.0.1:1"  # no server listens there
RENAMES = {"os.rename", "os.link", "os.remove"}  # Python's audit events of changed files
FILE_EVENTS = RENAMES | {"open", "os.mkdir", "os.rmdir"}
pytestmark = pytest.mark.usefixtures("slept")


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def raw(data):
    """Return the folder of the clips."""
    return data / "dcase2099t2/dev_data/raw/ToyCar"


@pytest.fixture
def received(raw):
    """Return the path of the archive while it is received."""
    return raw.parents[1] / "downloads" / FILE


@pytest.fixture
def offer(server, monkeypatch):
    """Return a function that puts a zip of files on the server, and its md5, if wanted, into the catalogue."""
    sums, entry = {}, yaml.safe_load(CHALLENGE)
    monkeypatch.setitem(catalogue._read(), "DCASE2099T2", entry)

    def put(files: dict, address: str = ADDRESS, has_md5: bool = True) -> bytes:
        content = server.files[address] = make_zip(files)
        sums[address.rpartition("/")[2]] = md5(content)
        entry["md5"] = sums if has_md5 else {}
        return content

    put(CLIPS)
    return put


@pytest.fixture
def fetch(server, data, offer, call_command):
    """Return a function that calls the command for a part of the made-up challenge; it fails in one sentence."""

    def fetch(part: str = "dev", *words: object, status: int = 0) -> str:
        words = ("--dataset_directory", data, "--mirror", server.address, *words)
        outcome = call_command(data_download.main, "DCASE2099T2", part, "ToyCar", *words)
        assert (outcome.status, outcome.err.count("\n")) == (status, status), outcome
        return outcome.err if status else outcome.out

    return fetch


def assert_complete(raw, files=CLIPS):
    """Check that the files are in place, and no temporary ones left."""
    assert tree(raw) == files
    assert [path for path in raw.parents[3].rglob("*") if path.suffix in (".zip", ".unpacking", ".partial")] == []


# --- what is installed ------------------------------------------------------------------------------------------------


def test_an_archive_is_fetched_verified_and_unpacked_and_a_second_run_sends_no_request(
    server, offer, fetch, raw, monkeypatch
):
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0)
    skipped = ("__MACOSX/ToyCar/._a", ".DS_Store", "ToyCar/train/._a.wav", "elsewhere/train/a.wav")
    offer(CLIPS | {zipfile.ZipInfo(name): b"x" for name in skipped})
    out = fetch()
    assert "ToyCar: dev_ToyCar.zip fetched (0.1 MB, md5 of the catalogue), 7 files unpacked\n" in out
    assert re.search(r"^dev_ToyCar.zip: \d\d ?% of [\d.,]+ M?B", out, re.MULTILINE)
    assert_complete(raw)
    assert list(raw.parent.iterdir()) == [raw]
    server.requests.clear()
    assert fetch() == "ToyCar: dev_ToyCar.zip is in place\n"
    assert server.requests == []


def test_two_archives_of_a_machine_type_are_installed_side_by_side(server, offer, fetch, data):
    train = {name: content for name, content in CLIPS.items() if not name.startswith("test")}
    offer(train, ADD)
    offer(TEST | {"supplemental/a.wav": noise(31)}, EVAL)
    server.files[LIST] = LABELS
    for part in ("add", "eval", "add"):
        fetch(part)
    assert_complete(data / "dcase2099t2/eval_data/raw/ToyCar", train | LABELLED | {"supplemental/a.wav": noise(31)})
    assert len(server.requests) == 3


def test_missing_clips_are_reported_or_fetched_again_and_others_kept(fetch, raw):
    mine = "train/section_00_normal_0099.wav"
    (raw / "train").mkdir(parents=True)
    (raw / mine).write_bytes(b"mine")
    fetch()
    assert_complete(raw, CLIPS | {mine: b"mine"})
    shutil.rmtree(raw / "test")
    assert "in place" not in fetch()
    assert_complete(raw, CLIPS | {mine: b"mine"})
    for path in sorted((raw / "train").iterdir())[:2]:
        path.unlink()
    assert f"warning: {raw} has 4 of 5 train clips; remove it to fetch it again\n" in fetch()


# --- the network ------------------------------------------------------------------------------------------------------


def test_a_download_that_is_cut_is_resumed(server, fetch, raw, slept):
    """Only tries without new bytes are limited."""
    server.faults = [{"break_after": 9_000}] * 10
    fetch()
    assert slept == [1] * 10
    assert server.requests == sorted(server.requests) and server.requests[-1] > 70_000
    assert_complete(raw)


def test_a_server_without_ranges_is_asked_for_the_whole_again(server, fetch, raw):
    server.has_ranges, server.faults = False, [{"break_after": 50_000}]
    fetch()
    assert_complete(raw)


def test_retry_after_is_obeyed_and_a_redirect_followed(server, fetch, raw, slept):
    server.faults = [{"status": 429, "headers": {"Retry-After": "7"}}]
    server.faults += [{"status": 503, "headers": {"Retry-After": "nonsense"}}]
    server.faults += [{"status": 302, "headers": {"Location": ADDRESS}}]
    out = fetch()
    assert slept == [7, 2]  # 2: the second failure's own wait
    assert re.search("the server answers 429.*; next try in 7 s\n.*the server answers 503.*; next try in 2 s\n", out)
    assert_complete(raw)


def test_a_server_that_stays_broken_ends_in_one_sentence_and_the_next_run_resumes(server, fetch, raw, slept):
    """A refusal is not retried."""
    server.faults = [{"status": 403}]
    assert f"{FILE} cannot be fetched: the server answers 403" in fetch(status=1)
    assert slept == []
    assert f"{FILE} cannot be fetched: Connection refused" in fetch("dev", "--mirror", NOWHERE, status=1)
    server.faults = [{"break_after": 49_152}, *[{"status": 502}] * 5]
    sentence = fetch(status=1)
    assert f"{FILE} cannot be fetched: the server answers 502" in sentence and "run again later" in sentence
    assert slept == [1, 2, 4, 8, 16] * 2
    server.requests.clear()
    fetch()
    assert server.requests == [49_152]
    assert_complete(raw)


# --- wrong content ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [0, 16_384, 49_152])
def test_wrong_bytes_are_refused_and_removed_and_the_next_run_is_right(server, offer, fetch, raw, held):
    """Also where the file was replaced on the server after some of it, or more than its new length, was received."""
    if held:
        server.faults = [{"break_after": held}, {"status": 403}]
        fetch(status=1)
    right = offer(NEXT)
    server.files[ADDRESS] = right if held else make_zip(CLIPS)
    assert re.search(rf"its md5 is \w+, but the catalogue has {md5(right)}; it was removed", fetch(status=1))
    assert_complete(raw, {})
    server.files[ADDRESS] = right
    fetch()
    assert_complete(raw, NEXT)


def test_an_unknown_md5_is_requested_from_zenodo(server, offer, fetch, raw):
    right, wrong = md5(offer(CLIPS, has_md5=False)), "0" * 32
    for checksum in (wrong, right):
        record = {"files": [{"key": "other.zip"}, {"key": FILE, "checksum": f"md5:{checksum}"}]}
        server.files[API] = json.dumps(record).encode()
        if checksum == wrong:
            assert "but Zenodo's API has 0000" in fetch(status=1)
    assert "(0.1 MB, md5 of Zenodo's API)" in fetch()
    assert_complete(raw)


@pytest.mark.parametrize("answer", [None, b"<html>", b'{"files": [{"key": "dev_ToyCar.zip"}]}'])
def test_without_any_md5_the_zips_crc_is_verified(server, offer, fetch, raw, answer):
    whole = offer(CLIPS, has_md5=False)
    if answer is not None:
        server.files[API] = answer
    flipped = bytearray(whole)
    flipped[30_000] ^= 1
    for broken in (whole[:-100], bytes(flipped), b"", make_zip(CLIPS, "fan")):
        server.files[ADDRESS] = broken
        assert f"{FILE} cannot be used: " in fetch(status=1)
        assert_complete(raw, {})
    server.files[ADDRESS] = whole
    assert "no md5 known: zip CRC" in fetch()
    assert_complete(raw)


@pytest.mark.parametrize(
    ("name", "is_link"),
    [("../evil", False), ("ToyCar/../../evil", False), ("ToyCar/evil", True), ("ToyCar/train", True)],
)
def test_an_archive_with_a_member_outside_its_folder_or_a_link_is_refused(offer, fetch, tmp_path, raw, name, is_link):
    member = zipfile.ZipInfo(name)
    if is_link:
        member.create_system, member.external_attr = 3, 0o120777 << 16
    offer(CLIPS | {member: b"/tmp"})
    assert f"its member {name!r} is a link, or has '..'" in fetch(status=1)
    assert not [path for path in tmp_path.rglob("*") if path.name == "evil"]
    assert_complete(raw, {})


# --- the disk, kills and other processes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("further", "limit", "starts"),
    [({}, 50_000, [50_000]), ({"train/section_00_long.wav": noise(1, 10_000) * 16}, 150_000, [])],
    ids=["while fetching", "while unpacking"],
)
def test_a_disk_that_takes_no_more_ends_in_one_sentence_and_the_next_run_is_right(
    server, offer, fetch, raw, further, limit, starts
):
    offer(CLIPS | further)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        sentence = fetch(status=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large; choose another --dataset_directory" in sentence
    assert tree(raw) == {}
    server.requests.clear()
    fetch()
    assert server.requests == starts
    assert_complete(raw, CLIPS | further)


def kill_at(n: int, data: Path, events: set[str]) -> None:
    """Kill this process at the n-th of these events below the data folder."""
    left = itertools.count(1)

    def look(event: str, arguments: tuple) -> None:
        if event in events and str(data) in str(arguments) and next(left) == n:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


@pytest.mark.parametrize(("part", "files", "events"), [("dev", NEXT, FILE_EVENTS), ("eval", LABELLED, RENAMES)])
def test_a_run_killed_at_any_call_leaves_whole_clips_and_the_next_completes_them(
    server, offer, fetch, data, part, files, events
):
    """Between two renames too: train there, test not; and when some of the archive is received. It is deleted last."""
    offer(NEXT)
    offer(TEST, EVAL)
    server.files[LIST] = LABELS
    raw, resumed = data / f"dcase2099t2/{part}_data/raw/ToyCar", set()

    def killed() -> int:
        kill_at(n, data, events)
        fetch(part)
        return 0

    for n in itertools.count(1):
        server.faults = [{"break_after": 16_384}] * (part == "dev")
        (status,) = exit_statuses(killed)
        left = tree(raw)
        assert left.items() <= files.items(), n
        assert left in ({}, files) or part == "eval" or (raw.parents[1] / "downloads" / FILE).exists(), n
        server.requests.clear()
        fetch(part)
        resumed.update(server.requests)
        assert_complete(raw, files)
        shutil.rmtree(data)
        if status == 0:
            break
    assert n > 4
    assert 16_384 in resumed or part == "eval"


def test_two_processes_at_once_fetch_once(server, fetch, raw):
    server.may_answer.clear()
    threading.Timer(0.5, server.may_answer.set).start()
    assert sorted(exit_statuses(*[lambda: 10 + fetch().count("in place")] * 2)) == [10, 11]
    assert len(server.requests) == 1
    assert_complete(raw)


# --- the user's own archives ------------------------------------------------------------------------------------------


def test_archives_are_taken_from_a_directory_and_left_there(server, offer, fetch, raw, data, received, tmp_path):
    content, mine = offer(CLIPS), tmp_path / FILE
    words = ("dev", "--from_directory", tmp_path)
    assert f"{tmp_path} has no {FILE}; put it there" in fetch(*words, status=1)
    assert not data.exists()
    mine.write_bytes(make_zip(NEXT))
    assert f"{mine} cannot be used: its md5 is" in fetch(*words, status=1)
    mine.write_bytes(content)
    received.write_bytes(b"PK")  # of a download that was stopped
    line = f"ToyCar: {FILE} taken from {tmp_path} (0.1 MB, md5 of the catalogue), 7 files unpacked\n"
    assert fetch(*words) == line
    assert "in place" in fetch("dev", "--from_directory", tmp_path / "nowhere")
    assert_complete(raw)
    shutil.rmtree(data)
    offer(CLIPS, has_md5=False)
    assert "(0.1 MB, no md5 known: zip CRC)" in fetch(*words)
    assert_complete(raw)
    assert mine.read_bytes() == content
    shutil.rmtree(raw)
    received.write_bytes(content)  # as by another program
    for _ in range(2):
        fetch("dev", "--from_directory", received.parent)
        assert received.exists()
    assert server.requests == []


# --- labels -----------------------------------------------------------------------------------------------------------


def test_an_html_page_or_half_a_label_list_is_no_label_list(server, offer, fetch, data):
    offer(TEST, EVAL)
    path, raw = data / "eval_data_list_2099.csv", data / "dcase2099t2/eval_data/raw/ToyCar"
    for content in (b"<!DOCTYPE html>\n<html>404</html>\n", b"", LABELS[:-20]):
        server.files[LIST] = content
        assert f"{server.address}/list.csv" in fetch("eval", status=1)
        assert not path.exists()
    server.files[LIST] = LABELS.replace(b"_0000", b"_0001")
    assert f"{path} has no label for 1 clip of " in fetch("eval", status=1)
    assert not (raw / "test_rename").exists()
    path.unlink()
    server.files[LIST] = LABELS
    assert "ToyCar: 1 clips labelled" in fetch("eval")
    assert_complete(raw, LABELLED)


def test_labels_come_from_the_users_folder_and_clips_stay_unlabelled_without_it(server, offer, fetch, data, tmp_path):
    (tmp_path / "eval_ToyCar.zip").write_bytes(offer(TEST, EVAL))
    words = ("eval", "--from_directory", tmp_path)
    assert "the clips stay unlabelled" in fetch(*words)
    (tmp_path / "eval_data_list_2099.csv").write_bytes(LABELS)
    assert "ToyCar: 1 clips labelled" in fetch(*words)
    assert_complete(data / "dcase2099t2/eval_data/raw/ToyCar", LABELLED)
    assert server.requests == []


# --- from archives to tables ------------------------------------------------------------------------------------------


def pack(folder: Path, *splits: str) -> bytes:
    """Pack a machine type's splits as the organisers do: <machine type>/<split>/<clip>."""
    files = {name: content for name, content in tree(folder).items() if name.partition("/")[0] in splits}
    return make_zip(files, folder.name)


@pytest.fixture
def served(server, offer, tmp_path):
    """Put archives of clips on the server, and the labels of the evaluation clips."""
    offer({}, has_md5=False)
    folders = [write_machine(tmp_path / name, section=section) for section, name in enumerate(("ToyCar", "anvil"))]
    for folder, file in zip(folders, (FILE, "dev_anvil_r2.zip"), strict=True):
        server.files[f"/records/1/files/{file}"] = pack(folder, "train", "test")
    lines = ["ToyCar"]
    for i, path in enumerate(sorted((tmp_path / "ToyCar/test").iterdir())):
        lines.append(f"section_00_{i:04d}.wav,{path.name}")
        path.rename(path.with_name(f"section_00_{i:04d}.wav"))
    server.files[ADD], server.files[EVAL] = (pack(tmp_path / "ToyCar", split) for split in ("train", "test"))
    server.files[LIST] = "\n".join(lines).encode()


def test_a_challenge_added_to_the_catalogue_works_from_download_to_tables(
    served, server, run_jobs, call_command, tmp_path
):
    place = directories(tmp_path)
    words = (data_download.main, "DCASE2099T2", "--mirror", server.address, *place[:2])
    dry = succeed(call_command(*words, "--dry_run")).splitlines()
    assert len(dry) == 5
    target = tmp_path / "data/dcase2099t2/dev_data/raw/anvil"
    assert re.fullmatch(rf"{server.address}/records/1/files/dev_anvil_r2.zip \([\d.]+ MB\) -> {target}", dry[1])
    assert dry[4].startswith(f"{server.address}/list.csv (0.0 MB) -> ")
    assert not (tmp_path / "data").exists()
    out = succeed(call_command(*words))
    assert "anvil: dev_anvil_r2.zip fetched" in out
    assert "ToyCar: 12 clips labelled" in out
    assert succeed(call_command(*words)).count("is in place") == 4
    succeed(call_command(check_dataset.main, "DCASE2099T2", "eval", *place[:2]))

    options = ["-d", "--challenge", "DCASE2099T2", "--epochs", 1, "--batch_size", 16, *place]
    for words in (["train"], ["test", "--score", "MSE"]):
        assert run_jobs("01_train.sh", *words, *options) == 2
    table = succeed(call_command(summarize_results.main, "DCASE2099T2", "-d", *place[2:4]))
    assert "ToyCar" in table
    assert re.search(r"baseline_MSE +\d+\.\d\d ", table)  # the official score, which is the TOTAL score
    assert (tmp_path / "models/saved_model/baseline/DCASE2023T2-AE_DCASE2099T2anvil_id(1_)_seed13711.pth").is_file()


def test_auto_download_fetches_only_the_archives_that_a_run_needs(served, server, call_train, tmp_path):
    words = ["--dataset", "DCASE2099T2ToyCar", "-e", "--epochs", 1, "--batch_size", 16, "--is_auto_download", "yes"]
    words += ["--mirror", server.address, *directories(tmp_path)]
    folder = machine_folder(tmp_path / "data", "ToyCar", "dcase2099t2", "eval_data")
    succeed(call_train(*words, "--train_only"))
    assert list(folder.iterdir()) == [folder / "train"]
    succeed(call_train(*words, "--test_only"))
    assert len(list((folder / "test_rename").iterdir())) == 12
    server.requests.clear()
    succeed(call_train(*words, "--test_only"))
    assert server.requests == []
    assert not (tmp_path / "data/dcase2099t2/dev_data").exists()


def test_the_domains_of_2021_are_merged_and_run_through_the_legacy_scripts(run_jobs, call_command, tmp_path):
    made = tmp_path / "fan"
    for section in (0, 1, 2):
        write_machine(made, section=section)
    for path in (made / "test").iterdir():
        folder = made / f"{path.name.split('_')[2]}_test"
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    (tmp_path / "dev_data_fan.zip").write_bytes(pack(made, "train", "source_test", "target_test"))
    place = directories(tmp_path)
    words = ["dev", "fan", "--from_directory", tmp_path, *place[:2], "--mirror", NOWHERE]
    out = succeed(call_command(data_download.main, "DCASE2021T2", *words))
    assert "54 files unpacked, 36 clips of source_test and target_test merged into test" in out
    assert "in place" in succeed(call_command(data_download.main, "DCASE2021T2", *words))
    options = ["DCASE2021T2", "-d", "fan", "--epochs", 1, "--batch_size", 16, *place]
    assert run_jobs("01_train_legacy.sh", "train", "--challenge", *options) == 3
    assert run_jobs("02b_test_legacy.sh", "MAHALA", "--challenge", *options) == 3
    assert "official score" in succeed(call_command(summarize_results.main, "DCASE2021T2", "-d", *place[2:4]))
    table = tmp_path / "results/dev_data/baseline/summarize/DCASE2021T2/baseline_MAHALA"
    first, *_ = zip(*rows(table / "result_DCASE2021T2fan_test_seed13711_roc.csv"), strict=True)
    assert first == ("id", "00", "01", "02", "arithmetic mean", "harmonic mean")
    assert "baseline_MAHALA,AUC (source)," in (table.parent / "DCASE2021T2_auc_pauc_extract.csv").read_text()


# --- the scripts and the command line ---------------------------------------------------------------------------------


SCRIPTS = """
data_download_2023dev.sh      fan     dev_fan.zip                 1
data_download_2023add.sh      shaker  eval_data_shaker_train.zip  1
data_download_2023eval.sh     shaker  eval_data_shaker_test.zip   2
tools/data_download_2020.sh   fan     dev_data_fan.zip            4
tools/data_download_2021.sh   fan     dev_data_fan.zip            4
tools/data_download_2022.sh   fan     dev_fan.zip                 4
"""


@pytest.mark.parametrize("row", SCRIPTS.split("\n")[1:-1])
def test_each_script_fetches_its_part_and_those_of_earlier_years_all(tmp_path, row):
    """With the evaluation set's labels."""
    name, machine_type, file, n_files = row.split()
    process = script(name, machine_type, "--dry_run", "--dataset_directory", tmp_path / "data", "--mirror", NOWHERE)
    assert process.returncode == 0, process.stderr
    first, *others = process.stdout.splitlines()
    assert f"/{file} (size unknown) -> {tmp_path}/data" in first
    assert len(others) == int(n_files) - 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("words", ["fann", "all fann", "devv fan", "dev fann"])
def test_a_word_that_is_neither_a_part_nor_a_machine_type_is_a_usage_error(call_command, words):
    outcome = call_command(data_download.main, "DCASE2021T2", *words.split(), "--dry_run", "--mirror", NOWHERE)
    assert outcome.status == 2
    assert "is neither a part (dev, add, eval, all) nor a machine type of DCASE2021T2 (ToyCar, " in outcome.err
