"""The catalogue: the challenges' machine types, sections and data set names."""

from pathlib import Path

import pytest
import yaml
from synthetic import REPOSITORY, machine_folder, write_clip

from common import InputError
from datasets import catalogue
from datasets.catalogue import challenge_names, list_archives, load_challenge, split_dataset_name
from tools.results.files import challenge_files


def test_2023_has_the_published_machine_types_in_the_tables_order():
    dev = "ToyCar ToyTrain fan gearbox bearing slider valve".split()
    evaluation = "ToyDrone ToyNscale ToyTank Vacuum bandsaw grinder shaker".split()
    assert load_challenge("DCASE2023T2", False).sections == dict.fromkeys(dev, (0,))
    assert load_challenge("DCASE2023T2", True).sections == dict.fromkeys(evaluation, (0,))
    assert load_challenge("DCASE2023T2", True).machine_types == tuple(evaluation)


def test_2020_has_other_sections_for_the_toys():
    sections = load_challenge("DCASE2020T2", False).sections
    assert sections["fan"] == (0, 2, 4, 6)
    assert sections["ToyCar"] == (1, 2, 3, 4)
    assert load_challenge("DCASE2020T2", True).sections["ToyConveyor"] == (4, 5, 6)


@pytest.mark.parametrize("challenge", challenge_names())
def test_every_data_set_name_is_split_into_challenge_and_machine_type(challenge):
    for is_eval in (False, True):
        for machine_type in load_challenge(challenge, is_eval).machine_types:
            assert split_dataset_name(challenge + machine_type) == (challenge, machine_type)


@pytest.mark.parametrize("name", ["", "fan", "DCASE2023T2", "DCASE2019T2fan"])
def test_other_data_set_names_are_refused(name):
    with pytest.raises(InputError, match="followed by a machine type"):
        split_dataset_name(name)


def test_each_year_has_its_official_score_and_2021_a_file_per_domain():
    years = {name: load_challenge(name, True).official_score for name in challenge_names()}
    expected = {"DCASE2020T2": "2020", "DCASE2021T2": "2021"}
    assert years == {name: expected.get(name, "2022") for name in challenge_names()}
    names = {name: challenge_files(load_challenge(name, True), "fan", 0) for name in challenge_names()}
    assert [name for name, files in names.items() if len(files) == 2] == ["DCASE2021T2"]
    assert names["DCASE2021T2"]["target"][0] == "anomaly_score_fan_section_00_target_test.csv"


def test_every_archive_and_checksum_of_the_catalogue_is_used():
    written = yaml.safe_load((REPOSITORY / "datasets" / "catalogue.yaml").read_text())
    for name in challenge_names():
        archives = [archive for part in ("dev", "add", "eval") for archive in list_archives(name, part)]
        assert len({archive.file for archive in archives}) == len(archives) > 10
        known = {archive.file: archive.md5 for archive in archives if archive.md5}
        assert known == written[name].get("md5", {})
    files = {archive.file for archive in list_archives("DCASE2024T2", "add")}
    assert {"eval_data_3DPrinter_train_r2.zip", "eval_data_Scanner_train.zip"} <= files


def test_every_year_has_a_list_of_labels():
    lists = {name: load_challenge(name, True).label_list for name in challenge_names()}
    for name, address in lists.items():
        assert address.endswith(f"/datasets/eval_data_list_{name[5:9]}.csv")
    assert "/v5.3.0/" in lists["DCASE2026T2"]


def test_the_evaluation_sets_since_2023_have_200_test_clips_a_section():
    for year in range(2023, 2027):
        challenge = load_challenge(f"DCASE{year}T2", True)
        assert {sum(challenge.clips[m]["test"].values()) for m in challenge.machine_types} == {200}


@pytest.fixture
def read_changed(tmp_path, monkeypatch):
    """Return a function that reads the catalogue with a text replaced by another."""
    text = catalogue.CATALOGUE.read_text()
    monkeypatch.setattr(catalogue, "CATALOGUE", tmp_path / "catalogue.yaml")

    def read(old: str, new: str) -> None:
        assert old in text
        catalogue.CATALOGUE.write_text(text.replace(old, new, 1))
        catalogue._read.cache_clear()
        catalogue._read()

    yield read
    catalogue._read.cache_clear()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  channels: 1", "  chanels: 1", "DCASE2020T2: unknown key 'chanels'; the keys are channels, dev, "),
        ("  channels: 1\n", "", "DCASE2020T2: the key 'channels' is missing; give a whole number from 1"),
        ("  channels: 1", "  channels: one", "DCASE2020T2: channels: 'one' is not allowed; give a whole number from 1"),
        (
            "official_score: 2020",
            "official_score: 2023",
            "official_score: '2023' is not allowed; give 2020, 2021 or 2022",
        ),
        ("official_score: 2020", "official_score: yes", "give 2020, 2021 or 2022"),
        ("label_list: https", "label_list: ftp", "DCASE2020T2: label_list: 'ftp://"),
        ("machine_types: [fan, pump,", "machine_types: [fan, fan,", "dev: machine_types: "),
        ("machine_types: [fan, pump,", "machine_types: [../fan, pump,", "give a list of different names"),
        ("machine_types: [fan, pump,", "machine_types: [yes, pump,", "give a list of different names"),
        ("sections: [0, 2, 4, 6]", "sections: [00, 08, 100]", "a list of different whole numbers from 0 to 99"),
        ("sections_of: {ToyCar:", "sections_of: {Toycar:", "sections_of: Toycar is not one of its machine types"),
        ("record: 3678171", "record: none", "dev: archives: dev: record: 'none' is not allowed"),
        ('file: "dev_data_{m}.zip"', 'file: "dev_data.zip"', "with {m} for the machine type"),
        ('file: "dev_data_{m}.zip"', 'file: "../{m}.zip"', "with {m} for the machine type"),
        ("      add: {record: 3727685", "      train: {record: 3727685", "eval: archives: unknown key 'train'"),
        ("files: {3DPrinter:", "files: {Printer:", "archives: add: files: Printer is not one of its machine types"),
        ("{source normal: 990,", "{source: 990,", "DCASE2023T2: dev: clips: "),
        ("{source normal: 990,", "{source normal: many,", "DCASE2023T2: dev: clips: "),
        ("{source normal: 990,", "{all: 1000,", "DCASE2023T2: dev: clips: "),
        ("649bdfc06263ae7a838963f43b6641e6", "649bdfc0", "32 hexadecimal digits"),
        ("DCASE2021T2:", "DCASE2020T2:", "the key DCASE2020T2 occurs twice in one block"),
        ("DCASE2021T2:", "DCASE21:", "a challenge has a name such as DCASE2023T2"),
        ("  dev:\n    machine_types: [fan", "  dev: none\n  x:\n    machine_types: [fan", "DCASE2020T2: "),
        ("zenodo:", "zenod:", "has no block `zenodo`"),
        ("{record}/files/{file}", "{record}/files", "an address with {record} and {file} in it"),
        ("zenodo:", "zenodo: [", "cannot read "),
    ],
)
def test_a_mistake_in_the_catalogue_is_reported_with_file_challenge_key_and_allowed_values(
    read_changed, old, new, sentence
):
    with pytest.raises(InputError) as error:
        read_changed(old, new)
    assert str(catalogue.CATALOGUE) in str(error.value)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_challenge_without_evaluation_set_is_an_error_only_if_that_is_requested(read_changed):
    text = Path(catalogue.__file__).with_name("catalogue.yaml").read_text()
    last = text[text.index("DCASE2026T2:") :]
    start, end = last.index("  eval:\n"), last.index("  md5:\n")
    read_changed(last[start:end], "")
    assert load_challenge("DCASE2026T2", is_eval=False).machine_types[0] == "ToyCarEmu"
    assert load_challenge("DCASE2025T2", is_eval=True).machine_types
    assert catalogue.list_archives("DCASE2026T2", "eval") == []
    with pytest.raises(InputError, match="DCASE2026T2 has no evaluation data set yet; add the block `eval`"):
        load_challenge("DCASE2026T2", is_eval=True)


@pytest.mark.parametrize(
    "name", ["My\nPump", "a\x1b[2J", "x\u2028y", "\u202epmup", "=pump", "-pump", "@pump", "x" * 101]
)
def test_an_own_machines_folder_with_a_dangerous_name_is_refused(tmp_path, name):
    """Machine types become part of commands (--dry_run | xargs, Slurm scripts) and of tables."""
    write_clip(machine_folder(tmp_path, name, "mine") / "train" / "section_00_normal_0001.wav", 0)
    with pytest.raises(
        InputError, match=r"rename the folder .*, which becomes a machine type: .* it takes a name without /"
    ) as error:
        load_challenge("MINE", False, tmp_path)
    assert str(error.value).isprintable()


def test_an_own_machine_may_have_any_printable_name(tmp_path):
    for name in ("pump 7", "Überdruck", "a$b"):
        write_clip(machine_folder(tmp_path, name, "mine") / "train" / "section_00_normal_0001.wav", 0)
    challenge = load_challenge("MINE", False, tmp_path)
    assert set(challenge.machine_types) == {"pump 7", "Überdruck", "a$b"}
    assert challenge.choose([]) == list(challenge.machine_types)


def test_folders_of_the_operating_system_are_no_machines(tmp_path):
    folder = machine_folder(tmp_path, "", "mine")
    write_clip(folder / "pump" / "train" / "section_00_normal_0001.wav", 0)
    for name in ("__MACOSX", ".ipynb_checkpoints", "@eaDir", "lost+found"):
        (folder / name).mkdir()
    (folder / "__MACOSX" / "._section_00_normal_0001.wav").touch()
    assert load_challenge("MINE", False, tmp_path).machine_types == ("pump",)


def test_a_machine_is_found_however_its_folder_spells_accents(tmp_path):
    """A Mac decomposes them: u and a diaeresis instead of ü."""
    decomposed, composed = "Mu\u0308hle", "M\u00fchle"
    write_clip(machine_folder(tmp_path, decomposed, "mine") / "train" / "section_00_normal_0001.wav", 0)
    challenge = load_challenge("MINE", False, tmp_path)
    assert challenge.choose([composed]) == challenge.choose([decomposed]) == challenge.choose([]) == [decomposed]


def test_a_machine_type_of_the_other_subset_is_reported_as_such():
    with pytest.raises(InputError, match=r"no evaluation machine type 'fan'; it has .*; fan is in the development set"):
        load_challenge("DCASE2023T2", True).choose(["fan"])
