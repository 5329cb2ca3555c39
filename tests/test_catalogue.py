"""The catalogue: the challenges' machine types, sections and data set names."""

import re
from pathlib import Path

from common import InputError

import pytest
import yaml
from synthetic import REPOSITORY, machine_folder, write_clip

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


# --- the file's keys and values ---------------------------------------------------------------------------------------


def whole(minimum: int, maximum: int = 10**9):
    return lambda value: type(value) is int and minimum <= value <= maximum


def text(pattern: str):
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def several(is_value):
    return lambda value: isinstance(value, list) and value and all(map(is_value, value)) and len({*value}) == len(value)


def mapping(is_value, pattern: str = ".*"):
    return lambda value: isinstance(value, dict) and all(text(pattern)(k) and is_value(v) for k, v in value.items())


def block(**rules):
    """Return a test of a block's keys, with _ in the end if they are optional, and of their values."""
    required, rules = {key for key in rules if key[-1] != "_"}, {key.rstrip("_"): rules[key] for key in rules}
    return lambda value: (
        isinstance(value, dict)
        and required <= value.keys()
        and all(k in rules and rules[k](v) for k, v in value.items())
    )


ZIP, SECTIONS = text(r"[\w-][\w.-]*\.zip"), several(whole(0, 99))
BY_GROUP, IN_ALL = mapping(whole(0), "(source|target) (normal|anomaly)"), block(all=whole(0))
CLIPS = mapping(lambda value: BY_GROUP(value) or IN_ALL(value), "train|test")
ARCHIVE = block(record=whole(1), file=text(r"([\w-][\w.-]*)?\{m\}[\w.-]*\.zip"), files_=mapping(ZIP))
SUBSET = {
    "machine_types": several(text(r"\w[\w.-]*")),
    "sections": SECTIONS,
    "sections_of_": mapping(SECTIONS),
    "clips_": CLIPS,
    "clips_of_": mapping(CLIPS),
}
CHALLENGE = block(
    channels=whole(1),
    official_score_=whole(2020, 2022),
    label_list_=text(r"https?://\S+/[\w.-]+\.csv"),
    md5_=mapping(text("[0-9a-fA-F]{32}")),
    dev=block(**SUBSET, archives=block(dev_=ARCHIVE)),
    eval_=block(**SUBSET, archives=block(add_=ARCHIVE, eval_=ARCHIVE)),
)
ZENODO = block(file=text(r"https?://\S+\{record\}\S*\{file\}"), record=text(r"https?://\S+\{record\}"))


class Loader(yaml.SafeLoader):
    """YAML's safe loader, except that a repeated key is an error."""

    def construct_mapping(self, node, deep=False):
        """Build a mapping whose keys all differ."""
        keys = [key.value for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"a key occurs twice in the block of line {node.start_mark.line + 1}"
        return super().construct_mapping(node, deep)


def check(content: str) -> None:
    """Check the catalogue's keys and values, and that keys that single out machine types name those of the subset."""
    blocks = yaml.load(content, Loader)
    assert ZENODO(blocks.pop("zenodo"))
    for name, challenge in blocks.items():
        assert re.fullmatch(r"DCASE\d{4}T\d+", name)
        assert CHALLENGE(challenge), name
        for subset in filter(None, map(challenge.get, ("dev", "eval"))):
            singled = [subset.get(key, {}) for key in ("sections_of", "clips_of")]
            singled += [archives.get("files", {}) for archives in subset["archives"].values()]
            assert {machine_type for of in singled for machine_type in of} <= {*subset["machine_types"]}, name


def test_the_catalogues_keys_and_values_are_allowed():
    check(catalogue.CATALOGUE.read_text())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  channels: 1", "  chanels: 1"),
        ("  channels: 1\n", ""),
        ("  channels: 1", "  channels: one"),
        ("official_score: 2020", "official_score: 2023"),
        ("official_score: 2020", "official_score: yes"),
        ("label_list: https", "label_list: ftp"),
        ("machine_types: [fan, pump,", "machine_types: [fan, fan,"),
        ("machine_types: [fan, pump,", "machine_types: [../fan, pump,"),
        ("machine_types: [fan, pump,", "machine_types: [yes, pump,"),
        ("sections: [0, 2, 4, 6]", "sections: [00, 08, 100]"),
        ("sections_of: {ToyCar:", "sections_of: {Toycar:"),
        ("record: 3678171", "record: none"),
        ('file: "dev_data_{m}.zip"', 'file: "dev_data.zip"'),
        ('file: "dev_data_{m}.zip"', 'file: "../{m}.zip"'),
        ("      add: {record: 3727685", "      train: {record: 3727685"),
        ("files: {3DPrinter:", "files: {Printer:"),
        ("{source normal: 990,", "{source: 990,"),
        ("{source normal: 990,", "{source normal: many,"),
        ("{source normal: 990,", "{all: 1000,"),
        ("649bdfc06263ae7a838963f43b6641e6", "649bdfc0"),
        ("DCASE2021T2:", "DCASE2020T2:"),
        ("DCASE2021T2:", "DCASE21:"),
        ("  dev:\n    machine_types: [fan", "  dev: none\n  x:\n    machine_types: [fan"),
        ("zenodo:", "zenod:"),
        ("{record}/files/{file}", "{record}/files"),
    ],
)
def test_a_mistake_in_the_catalogue_is_noticed(old, new):
    content = catalogue.CATALOGUE.read_text()
    assert old in content
    with pytest.raises((AssertionError, KeyError)):
        check(content.replace(old, new, 1))


@pytest.fixture
def read_changed(tmp_path, monkeypatch):
    """Return a function that lets the catalogue be one with a text replaced by another."""
    content = catalogue.CATALOGUE.read_text()
    monkeypatch.setattr(catalogue, "CATALOGUE", tmp_path / "catalogue.yaml")

    def change(old: str, new: str) -> None:
        assert old in content
        catalogue.CATALOGUE.write_text(content.replace(old, new, 1))
        catalogue._read.cache_clear()

    yield change
    catalogue._read.cache_clear()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  channels: 1\n", "", "a mistake in DCASE2020T2 (KeyError('channels')); python -m pytest tests/test_catalog"),
        ("zenodo:", "zenodo: [", "cannot read "),
    ],
)
def test_a_mistake_ends_a_command_in_one_sentence(read_changed, old, new, sentence):
    read_changed(old, new)
    with pytest.raises(InputError) as error:
        load_challenge("DCASE2020T2", is_eval=False)
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
