"""The catalogue: the challenges' machine types, sections and data set names."""

import pytest

from common import InputError
from datasets.catalogue import challenge_names, load_challenge, split_dataset_name


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
def test_every_data_set_name_leads_back_to_challenge_and_machine_type(challenge):
    for is_eval in (False, True):
        for machine_type in load_challenge(challenge, is_eval).machine_types:
            assert split_dataset_name(challenge + machine_type) == (challenge, machine_type)


@pytest.mark.parametrize("name", ["", "fan", "DCASE2023T2", "DCASE2019T2fan"])
def test_other_data_set_names_are_refused(name):
    with pytest.raises(InputError, match="followed by a machine type"):
        split_dataset_name(name)
