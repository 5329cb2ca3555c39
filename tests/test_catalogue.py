"""The catalogue: the challenges' machine types, sections, archives and data set names."""

import re

from common import InputError

import pytest
import yaml
from synthetic import machine_folder, write_clip

from datasets import catalogue
from datasets.catalogue import challenge_names, list_archives, load_challenge, split_dataset_name
from tools.results.files import challenge_files

YEARS = {name: load_challenge(name, is_eval=True) for name in challenge_names()}


def test_2023_has_the_published_machine_types_in_the_tables_order_and_2020_other_sections_for_the_toys():
    dev = "ToyCar ToyTrain fan gearbox bearing slider valve".split()
    evaluation = "ToyDrone ToyNscale ToyTank Vacuum bandsaw grinder shaker".split()
    assert load_challenge("DCASE2023T2", False).sections == dict.fromkeys(dev, (0,))
    assert load_challenge("DCASE2023T2", True).machine_types == tuple(evaluation)
    sections = load_challenge("DCASE2020T2", False).sections
    assert (sections["fan"], sections["ToyCar"]) == ((0, 2, 4, 6), (1, 2, 3, 4))
    assert YEARS["DCASE2020T2"].sections["ToyConveyor"] == (4, 5, 6)


def test_every_data_set_name_is_split_into_challenge_and_machine_type():
    for name in challenge_names():
        for machine_type in (*load_challenge(name, False).machine_types, *YEARS[name].machine_types):
            assert split_dataset_name(name + machine_type) == (name, machine_type)
    for name in ("", "fan", "DCASE2023T2", "DCASE2019T2fan"):
        with pytest.raises(InputError, match="followed by a machine type"):
            split_dataset_name(name)


def test_each_year_has_its_official_score_and_2021_a_file_per_domain():
    assert list(YEARS) == [f"DCASE{year}T2" for year in range(2020, 2027)]
    rules = [challenge.official_score for challenge in YEARS.values()]
    assert rules == ["2020", "2021", *["2022"] * 5]
    files = {name: challenge_files(challenge, "fan", 0) for name, challenge in YEARS.items()}
    assert [name for name in files if len(files[name]) == 2] == ["DCASE2021T2"]
    assert files["DCASE2021T2"]["target"][0] == "anomaly_score_fan_section_00_target_test.csv"


def test_every_archive_and_checksum_of_the_catalogue_is_used_and_every_year_has_a_list_of_labels():
    written = yaml.safe_load(catalogue.CATALOGUE.read_text())
    for name, challenge in YEARS.items():
        archives = [archive for part in ("dev", "add", "eval") for archive in list_archives(name, part)]
        assert len({archive.file for archive in archives}) == len(archives) > 10
        assert {archive.file: archive.md5 for archive in archives if archive.md5} == written[name].get("md5", {})
        assert challenge.label_list.endswith(f"/datasets/eval_data_list_{name[5:9]}.csv")
        if int(name[5:9]) >= 2023:
            assert {sum(challenge.clips[m]["test"].values()) for m in challenge.machine_types} == {200}
    assert "/v5.3.0/" in YEARS["DCASE2026T2"].label_list
    files = {archive.file for archive in list_archives("DCASE2024T2", "add")}
    assert {"eval_data_3DPrinter_train_r2.zip", "eval_data_Scanner_train.zip"} <= files


# --- the file's keys and values ---------------------------------------------------------------------------------------

FORM = r"""
zenodo: {file|record: .+}
DCASE\d{4}T2:
  channels: 1|2
  official_score: 202[012]
  label_list: https://\S+/[\w.-]+\.csv
  dev: &subset
    machine_types: ['\w[\w.-]*']
    sections: &sections ['\d|[1-9]\d']
    sections_of: {MACHINE_TYPE: *sections}
    archives:
      dev: &archive {record: \d+, file: '[\w-]*\{m\}[\w.-]*\.zip', files: {MACHINE_TYPE: '[\w.-]+\.zip'}}
    clips: &clips {train|test: {(source|target) (normal|anomaly)|all: \d+}}
    clips_of: {MACHINE_TYPE: *clips}
  eval: {<<: *subset, archives: {add|eval: *archive}}
  md5: {'[\w.-]+\.zip': '[0-9a-f]{32}'}
"""  # patterns of keys and values; MACHINE_TYPE is one of the subset's


class Loader(yaml.SafeLoader):
    """YAML's safe loader, except that a repeated key is an error."""

    def construct_mapping(self, node, deep=False):
        """Build a mapping whose keys all differ."""
        assert len({key.value for key, _ in node.value}) == len(node.value), node.start_mark
        return super().construct_mapping(node, deep)


def check(value, form, machine_types=()) -> None:
    """Compare keys and values with their patterns; the values of a list must differ."""
    if isinstance(form, dict):
        machine_types = value.get("machine_types", machine_types)
        patterns = {pattern.replace("MACHINE_TYPE", "|".join(machine_types)): form[pattern] for pattern in form}
        for key, entry in value.items():
            (match,) = (pattern for pattern in patterns if re.fullmatch(pattern, str(key)))
            check(entry, patterns[match], machine_types)
    elif isinstance(form, list):
        assert len(set(value)) == len(value), value
        for entry in value:
            check(entry, *form)
    else:
        assert re.fullmatch(str(form), str(value)), value


def check_catalogue(content: str) -> None:
    check(yaml.load(content, Loader), yaml.safe_load(FORM))


def test_the_catalogues_keys_and_values_are_allowed():
    check_catalogue(catalogue.CATALOGUE.read_text())


MISTAKES = """\
channels: 1 -> chanels: 1
official_score: 2020 -> official_score: 2023
label_list: https -> label_list: ftp
machine_types: [fan, pump, -> machine_types: [fan, fan,
sections: [0, 2, 4, 6] -> sections: [00, 08, 100]
sections_of: {ToyCar: -> sections_of: {Toycar:
file: "dev_data_{m}.zip" -> file: "dev_data.zip"
files: {3DPrinter: -> files: {Printer:
{source normal: 990, -> {source: 990,
649bdfc06263ae7a838963f43b6641e6 -> 649bdfc0
DCASE2021T2: -> DCASE2020T2:"""


@pytest.mark.parametrize("mistake", MISTAKES.splitlines())
def test_a_mistake_in_the_catalogue_is_noticed(mistake):
    old, new = mistake.split(" -> ")
    content = catalogue.CATALOGUE.read_text()
    assert old in content
    with pytest.raises((AssertionError, ValueError)):
        check_catalogue(content.replace(old, new, 1))


def test_a_challenge_without_evaluation_set_is_an_error_only_if_that_is_requested(monkeypatch):
    monkeypatch.delitem(catalogue._read()["DCASE2026T2"], "eval")
    assert load_challenge("DCASE2026T2", is_eval=False).machine_types[0] == "ToyCarEmu"
    assert list_archives("DCASE2026T2", "eval") == []
    with pytest.raises(InputError, match="DCASE2026T2 has no evaluation data set yet; add the block `eval`"):
        load_challenge("DCASE2026T2", is_eval=True)


# --- a user's own machines --------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    """Return a function that makes the folder of an own machine with a clip in it, and reads the challenge MINE."""

    def make(name):
        write_clip(machine_folder(tmp_path, name, "mine") / "train/section_00_normal_0001.wav", 0)
        return load_challenge("MINE", False, tmp_path)

    return make


@pytest.mark.parametrize("name", ["My\nPump", "a\x1b[2J", "\u202epmup", "=pump", "-pump", "@pump", "x" * 101])
def test_an_own_machines_folder_with_a_dangerous_name_is_refused(own, name):
    """Machine types become part of commands (--dry_run | xargs, Slurm scripts) and of tables."""
    with pytest.raises(InputError, match=r"rename the folder .*, which becomes a machine type: ") as error:
        own(name)
    assert str(error.value).isprintable()


def test_an_own_machine_may_have_any_printable_name_and_folders_of_systems_are_none(own, tmp_path):
    for name in ("__MACOSX", ".ipynb_checkpoints", "@eaDir"):
        machine_folder(tmp_path, name, "mine").mkdir(parents=True)
    for name in ("pump 7", "a$b", "Mühle"):
        challenge = own(name)
    assert sorted(challenge.choose([])) == ["Mühle", "a$b", "pump 7"]
