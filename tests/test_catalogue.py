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

KEYS = {"channels", "official_score", "label_list", "dev", "eval", "md5"}
SUBSET_KEYS = {"machine_types", "sections", "sections_of", "archives", "clips", "clips_of"}
GROUPS = {f"{domain} {label}" for domain in ("source", "target") for label in ("normal", "anomaly")}


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
    assert blocks.pop("zenodo").keys() == {"file", "record"}
    for name, entry in blocks.items():
        assert re.fullmatch(r"DCASE\d{4}T2", name) and {"channels", "dev", "label_list"} <= entry.keys() <= KEYS, name
        assert entry["channels"] in (1, 2) and entry.get("official_score", 2022) in (2020, 2021, 2022), name
        assert re.fullmatch(r"https://\S+/[\w.-]+\.csv", entry["label_list"]), name
        assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in entry.get("md5", {}).values()), name
        check_subset(entry["dev"], {"dev"})
        if "eval" in entry:
            check_subset(entry["eval"], {"add", "eval"})


def check_subset(subset: dict, parts: set[str]) -> None:
    """Check a development or evaluation subset, which has archives for these parts."""
    machine_types, archives = subset["machine_types"], subset["archives"]
    sections_of, clips_of = subset.get("sections_of", {}), subset.get("clips_of", {})
    assert subset.keys() <= SUBSET_KEYS and archives.keys() <= parts
    assert all(re.fullmatch(r"\w[\w.-]*", name) for name in machine_types)
    for sections in (subset["sections"], *sections_of.values()):
        assert set(sections) <= set(range(100))
    for names in (machine_types, subset["sections"], *sections_of.values()):
        assert len(set(names)) == len(names)
    for source in archives.values():
        assert isinstance(source["record"], int) and re.fullmatch(r"[\w-]*\{m\}[\w.-]*\.zip", source["file"])
    for of_some in (sections_of, clips_of, *(source.get("files", {}) for source in archives.values())):
        assert of_some.keys() <= set(machine_types)
    for clips in (subset.get("clips", {}), *clips_of.values()):
        assert clips.keys() <= {"train", "test"}
        for counts in clips.values():
            assert counts.keys() <= GROUPS or counts.keys() == {"all"}
            assert all(isinstance(count, int) for count in counts.values())


def test_the_catalogues_keys_and_values_are_allowed():
    check(catalogue.CATALOGUE.read_text())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  channels: 1", "  chanels: 1"),
        ("official_score: 2020", "official_score: 2023"),
        ("label_list: https", "label_list: ftp"),
        ("machine_types: [fan, pump,", "machine_types: [fan, fan,"),
        ("sections: [0, 2, 4, 6]", "sections: [00, 08, 100]"),
        ("sections_of: {ToyCar:", "sections_of: {Toycar:"),
        ('file: "dev_data_{m}.zip"', 'file: "dev_data.zip"'),
        ("files: {3DPrinter:", "files: {Printer:"),
        ("{source normal: 990,", "{source: 990,"),
        ("649bdfc06263ae7a838963f43b6641e6", "649bdfc0"),
        ("DCASE2021T2:", "DCASE2020T2:"),
    ],
)
def test_a_mistake_in_the_catalogue_is_noticed(old, new):
    content = catalogue.CATALOGUE.read_text()
    assert old in content
    with pytest.raises(AssertionError):
        check(content.replace(old, new, 1))


def test_a_challenge_without_evaluation_set_is_an_error_only_if_that_is_requested(tmp_path, monkeypatch):
    text = catalogue.CATALOGUE.read_text()
    start = text.index("  eval:\n", text.index("DCASE2026T2:"))
    monkeypatch.setattr(catalogue, "CATALOGUE", tmp_path / "catalogue.yaml")
    catalogue.CATALOGUE.write_text(text[:start] + text[text.index("  md5:\n", start) :])
    catalogue._read.cache_clear()
    try:
        assert load_challenge("DCASE2026T2", is_eval=False).machine_types[0] == "ToyCarEmu"
        assert list_archives("DCASE2026T2", "eval") == []
        with pytest.raises(InputError, match="DCASE2026T2 has no evaluation data set yet; add the block `eval`"):
            load_challenge("DCASE2026T2", is_eval=True)
    finally:
        catalogue._read.cache_clear()


def test_a_machine_type_of_the_other_subset_is_reported():
    with pytest.raises(InputError, match=r"no evaluation machine type 'fan'; it has ToyDrone, .*shaker"):
        YEARS["DCASE2023T2"].choose(["fan"])


# --- a user's own machines --------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    """Return a function that makes the folder of an own machine with a clip in it, and reads the challenge MINE."""

    def make(name):
        write_clip(machine_folder(tmp_path, name, "mine") / "train" / "section_00_normal_0001.wav", 0)
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
        (machine_folder(tmp_path, name, "mine")).mkdir(parents=True)
    for name in ("pump 7", "a$b", "Mühle"):
        challenge = own(name)
    assert set(challenge.machine_types) == {"pump 7", "a$b", "Mühle"}
    assert challenge.choose([]) == list(challenge.machine_types)
