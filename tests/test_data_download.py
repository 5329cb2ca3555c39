"""From archives to tables: the download scripts, labels, merged domains, and a challenge added to the catalogue."""

import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from servers import tree
from synthetic import directories, machine_folder, script, write_clip, write_machine

from datasets import catalogue
from datasets.catalogue import list_archives
from tools import check_dataset, data_download
from tools.jobs import __main__ as jobs
from tools.results import __main__ as summarize_results

CHALLENGE = """
DCASE2099T2:
  channels: 2
  label_list: https://labels.invalid/lists/eval_data_list_2099.csv
  dev:
    machine_types: [ToyRocket, anvil]
    sections: [0]
    sections_of: {anvil: [1]}
    archives:
      dev: {record: 1, file: "dev_{m}.zip", files: {anvil: dev_anvil_r2.zip}}
  eval:
    machine_types: [drill]
    sections: [0]
    archives:
      add: {record: 2, file: "eval_data_{m}_train.zip"}
      eval: {record: 3, file: "eval_data_{m}_test.zip"}
"""

ONE_LABEL = "drill\nsection_00_0000.wav,section_00_normal_0000.wav\n"  # a list that ends early
LABELS = "/lists/eval_data_list_2099.csv"
NOWHERE = "http://127.0.0.1:1"  # no server listens there


def pack(folder: Path, archive: Path, *splits: str) -> None:
    """Pack a machine type's splits as the organisers do: <machine type>/<split>/<clip>."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for split in splits:
            for path in sorted((folder / split).iterdir()):
                file.write(path, f"{folder.name}/{split}/{path.name}")


def add_channel(folder: Path) -> None:
    """Give every clip below a folder a second channel, with other content."""
    for path in folder.rglob("*.wav"):
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path, np.stack([samples, samples[::-1]], axis=1), rate, subtype="PCM_16")


def add_to_catalogue(text: str, monkeypatch, folder: Path) -> None:
    """Let this test's catalogue be a text."""
    monkeypatch.setattr(catalogue, "CATALOGUE", folder / "catalogue.yaml")
    catalogue.CATALOGUE.write_text(text)
    catalogue._read.cache_clear()


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Add a challenge to the catalogue."""
    add_to_catalogue(catalogue.CATALOGUE.read_text() + CHALLENGE, monkeypatch, tmp_path)
    yield
    catalogue._read.cache_clear()


@pytest.fixture
def served(server, added, tmp_path):
    """Put the made-up challenge's archives and labels on the server: two channels, labels in a list."""
    made, packed = tmp_path / "made", tmp_path / "served"
    write_machine(made / "ToyRocket")
    write_machine(made / "anvil", section=1)
    write_machine(made / "drill")
    add_channel(made)
    lines = ["drill"]
    for i, path in enumerate(sorted((made / "drill" / "test").iterdir())):
        lines.append(f"section_00_{i:04d}.wav,{path.name}")
        path.rename(path.with_name(f"section_00_{i:04d}.wav"))
    pack(made / "ToyRocket", packed / "records/1/files/dev_ToyRocket.zip", "train", "test")
    pack(made / "anvil", packed / "records/1/files/dev_anvil_r2.zip", "train", "test")
    pack(made / "drill", packed / "records/2/files/eval_data_drill_train.zip", "train")
    pack(made / "drill", packed / "records/3/files/eval_data_drill_test.zip", "test")
    server.files = {f"/{name}": content for name, content in tree(packed).items()}
    server.files[LABELS] = ("\n".join(lines) + "\n").encode()


@pytest.fixture
def download(served, server, call_command):
    """Return a function that calls the download command for the made-up challenge."""

    def call(*words: object):
        return call_command(data_download.main, "DCASE2099T2", *words, "--mirror", server.address)

    return call


@pytest.fixture
def run_jobs(call_command, call_train, no_pictures):
    """Return a function that runs, in this process, the commands that 01 or 02 would run."""

    def run(*words: object) -> int:
        argv = [*map(str, words), "--dry_run"]
        commands = succeed(call_command(lambda: jobs.main(argv))).splitlines()
        for command in commands:
            succeed(call_train(*shlex.split(command)[2:]))
        return len(commands)

    return run


def succeed(outcome):
    assert outcome.status == 0, outcome.out + outcome.err
    return outcome.out


def test_a_challenge_added_to_the_catalogue_works_from_download_to_tables(download, run_jobs, call_command, tmp_path):
    place = directories(tmp_path)
    out = succeed(download("all", *place[:2]))
    assert "anvil: dev_anvil_r2.zip fetched" in out
    assert "drill: 12 clips labelled" in out
    assert succeed(download("all", *place[:2])).count("is in place") == 4
    succeed(call_command(check_dataset.main, "DCASE2099T2", "eval", *place[:2]))

    options = ["-d", "--challenge", "DCASE2099T2", "--epochs", 1, "--batch_size", 16, *place]
    for words in (["train"], ["test", "--score", "MSE"]):
        assert run_jobs("01_train.sh", *words, *options) == 2
    table = succeed(call_command(summarize_results.main, "DCASE2099T2", "-d", *place[2:4]))
    assert "ToyRocket" in table
    assert re.search(r"baseline_MSE +\d+\.\d\d ", table)  # the official score, which is the TOTAL score
    assert (tmp_path / "models/saved_model/baseline/DCASE2023T2-AE_DCASE2099T2anvil_id(1_)_seed13711.pth").is_file()


def test_a_dry_run_prints_addresses_sizes_and_targets_and_writes_nothing(download, server, tmp_path):
    data = tmp_path / "data"
    words = ["--dry_run", "--dataset_directory", data]
    out = succeed(download("all", *words))
    del server.files["/records/3/files/eval_data_drill_test.zip"]
    again = succeed(download("eval", *words))
    lines = out.splitlines()
    assert len(lines) == 5
    assert re.fullmatch(
        rf"{server.address}/records/1/files/dev_anvil_r2.zip \([\d.]+ MB\) -> {data}/dcase2099t2/.*/raw/anvil", lines[1]
    )
    assert lines[4].startswith(f"{server.address}/lists/eval_data_list_2099.csv (")
    assert f"{server.address}/records/3/files/eval_data_drill_test.zip (size unknown)" in again
    assert not data.exists()


def test_auto_download_fetches_only_the_archives_that_a_run_needs(served, server, call_train, no_pictures, tmp_path):
    words = ["--dataset", "DCASE2099T2drill", "-e", "--epochs", 1, "--batch_size", 16, "--is_auto_download", "yes"]
    words += ["--mirror", server.address, *directories(tmp_path)]
    succeed(call_train(*words, "--train_only"))
    folder = machine_folder(tmp_path / "data", "drill", "dcase2099t2", "eval_data")
    assert (folder / "train").is_dir()
    assert not (folder / "test").exists()
    succeed(call_train(*words, "--test_only"))
    assert len(list((folder / "test_rename").iterdir())) == 12
    n_requests = len(server.requests)
    succeed(call_train(*words, "--test_only"))
    assert len(server.requests) == n_requests
    assert not (tmp_path / "data" / "dcase2099t2" / "dev_data").exists()


def test_the_first_of_the_two_channels_of_2026_decides_the_scores(call_train, tmp_path):
    """The same clips with one channel, as a challenge of one channel, give the same scores."""
    scores = []
    for challenge in ("DCASE2026T2", "DCASE2023T2"):
        folder = write_machine(machine_folder(tmp_path / "data", "fan", challenge.lower()))
        if challenge == "DCASE2026T2":
            add_channel(folder)
        words = ["--dataset", f"{challenge}fan", "-d", "--epochs", 1, "--batch_size", 16, *directories(tmp_path)]
        assert call_train(*words).status == 0
        name = f"anomaly_score_{challenge}fan_section_00_test_seed13711.csv"
        scores.append((tmp_path / "results/dev_data/baseline_MSE" / name).read_bytes())
    assert scores[0] == scores[1]


def test_the_domains_of_2021_are_merged_and_run_through_the_legacy_scripts(run_jobs, call_command, tmp_path):
    made = tmp_path / "made" / "fan"
    for section in (0, 1, 2):
        write_machine(made, section=section)
    for domain in ("source", "target"):
        (made / f"{domain}_test").mkdir()
        for path in (made / "test").glob(f"*_{domain}_*"):
            path.rename(made / f"{domain}_test" / path.name)
    pack(made, tmp_path / "archives" / "dev_data_fan.zip", "train", "source_test", "target_test")
    place = directories(tmp_path)
    words = ["dev", "fan", "--from_directory", tmp_path / "archives", *place[:2], "--mirror", NOWHERE]
    out = succeed(call_command(data_download.main, "DCASE2021T2", *words))
    assert "fan: 36 clips of source_test and target_test merged into test" in out
    options = ["DCASE2021T2", "-d", "fan", "--epochs", 1, "--batch_size", 16, *place]
    assert run_jobs("01_train_legacy.sh", "train", "--legacy", *options) == 3
    assert run_jobs("02b_test_legacy.sh", "test", "--legacy", "--score", "MAHALA", *options) == 3
    out = succeed(call_command(summarize_results.main, "DCASE2021T2", "-d", *place[2:4]))
    table = tmp_path / "results/dev_data/baseline/summarize/DCASE2021T2/baseline_MAHALA"
    rows = (table / "result_DCASE2021T2fan_test_seed13711_roc.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["id", "00", "01", "02", "arithmetic mean", "harmonic mean"]
    assert "baseline_MAHALA,AUC (source)," in (table.parent / "DCASE2021T2_auc_pauc_extract.csv").read_text()
    assert "official score" in out


def test_each_script_of_2023_fetches_its_part(tmp_path):
    (tmp_path / "empty").mkdir()
    expected = {
        "data_download_2023dev.sh": "dev_fan.zip",
        "data_download_2023add.sh": "eval_data_shaker_train.zip",
        "data_download_2023eval.sh": "eval_data_shaker_test.zip",
    }
    for name, file in expected.items():
        machine_type = "fan" if "dev" in name else "shaker"
        process = script(name, machine_type, "--from_directory", tmp_path / "empty", "--dataset_directory", tmp_path)
        assert process.returncode == 1
        assert f"has no {file}; put it there" in process.stderr
        assert list(tmp_path.iterdir()) == [tmp_path / "empty"]


def test_labels_come_from_the_users_folder_and_clips_stay_unlabelled_without_it(call_command, monkeypatch, tmp_path):
    made = tmp_path / "made" / "shaker"
    write_clip(made / "test" / "section_00_0000.wav", 1)
    pack(made, tmp_path / "archives" / "eval_data_shaker_test.zip", "test")
    entry, text = "    eval_data_shaker_test.zip: ba98c98caa96051ec80e24e44b8fca56\n", catalogue.CATALOGUE.read_text()
    assert entry in text
    add_to_catalogue(text.replace(entry, ""), monkeypatch, tmp_path)
    place = ["--from_directory", tmp_path / "archives", "--dataset_directory", tmp_path / "data"]
    words = ["DCASE2023T2", "eval", "shaker", *place, "--mirror", NOWHERE]
    assert "the clips stay unlabelled" in succeed(call_command(data_download.main, *words))
    list_text = "shaker\nsection_00_0000.wav,section_00_source_test_normal_0000_spd_1.wav\n"
    (tmp_path / "archives" / "eval_data_list_2023.csv").write_text(list_text)
    assert "shaker: 1 clips labelled" in succeed(call_command(data_download.main, *words))
    renamed = machine_folder(tmp_path / "data", "shaker", split="eval_data") / "test_rename"
    assert [path.name for path in renamed.iterdir()] == ["section_00_source_test_normal_0000_spd_1.wav"]
    catalogue._read.cache_clear()


@pytest.fixture
def label(download, tmp_path):
    """Return a function that downloads the test clips and their labels, and the path of the list."""
    data = tmp_path / "data"
    return lambda: download("eval", "--dataset_directory", data), data / "eval_data_list_2099.csv"


@pytest.mark.parametrize(
    "content", ["<!DOCTYPE html>\n<html>404</html>\n", "", "drill\nsection_00_0000.wav,section_00_sou", ONE_LABEL]
)
def test_an_html_page_or_half_a_label_list_is_not_kept(label, server, content):
    call, path = label
    right = server.files[LABELS]
    server.files[LABELS] = content.encode()
    outcome = call()
    assert outcome.status == 1
    assert "eval_data_list_2099.csv" in outcome.err
    assert not path.exists()
    server.files[LABELS] = right
    assert "drill: 12 clips labelled" in succeed(call())


@pytest.mark.parametrize("content", ["<html>", ONE_LABEL])
def test_a_stored_list_that_is_incomplete_is_fetched_again(label, server, content):
    """As an earlier version may have left it."""
    call, path = label
    path.parent.mkdir()
    path.write_text(content)
    out = succeed(call())
    assert "eval_data_list_2099.csv is incomplete and is fetched again: " in out
    assert "drill: 12 clips labelled" in out
    assert path.read_bytes() == server.files[LABELS]
    assert "fetched again" not in succeed(call())


@pytest.mark.parametrize("year", ["2020", "2021", "2022"])
def test_the_scripts_of_earlier_years_fetch_all_parts_if_none_is_given(tmp_path, call_command, year):
    """As the reference's, which take no argument."""
    words = ["--dry_run", "--dataset_directory", tmp_path / "data", "--mirror", NOWHERE]
    process, challenge = script(f"tools/data_download_{year}.sh", *words), f"DCASE{year}T2"
    assert process.returncode == 0, process.stderr
    assert process.stdout == succeed(call_command(data_download.main, challenge, "all", *words))
    n_archives = sum(len(list_archives(challenge, part)) for part in ("dev", "add", "eval"))
    assert len(process.stdout.splitlines()) == n_archives + 1  # and the list of labels
    of_fan = succeed(call_command(data_download.main, challenge, "fan", *words))
    assert len(of_fan.splitlines()) == 4
    assert not (tmp_path / "data").exists()


def test_only_the_challenge_is_required(call_command):
    for main in (data_download.main, check_dataset.main):
        outcome = call_command(main)
        assert outcome.status == 2
        assert "MACHINE_TYPE" not in outcome.err.splitlines()[-1]


def test_a_word_that_is_neither_a_part_nor_a_machine_type_is_a_usage_error(call_command):
    for words in (["fann"], ["all", "fann"], ["devv", "fan"]):
        outcome = call_command(data_download.main, "DCASE2021T2", *words, "--dry_run", "--mirror", NOWHERE)
        assert outcome.status == 2
        assert "is neither a part (dev, add, eval, all) nor a machine type of DCASE2021T2 (ToyCar, " in outcome.err
