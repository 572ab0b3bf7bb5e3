from collections import Counter
from dataclasses import replace
from importlib import resources

import pytest

from hsiutils.data.names import Conditions, name_table, split_of


def test_a_name_is_read_digit_by_digit() -> None:
    assert Conditions.parse("nf3122_147") == Conditions("spring", "sunny", "midday", "road", 147)
    assert Conditions.parse("nf1431_003") == Conditions("winter", "foggy", "sunset", "urban", 3)
    assert Conditions.parse("nf4213_752") == Conditions("summer", "cloudy", "dawn", "highway", 752)
    assert Conditions.parse("nf2313_010").season == "fall"


def test_every_published_name_survives_the_round_trip() -> None:
    with resources.files("hsiutils").joinpath("data/names.csv").open() as file:
        names = [line.split(",")[0] for line in file][1:]
    assert len(names) == 752
    assert Counter(name_table()["split"]) == {"train": 451, "val": 150, "test": 151}
    assert split_of("nf3122_147") == "train"
    assert [Conditions.parse(name).name for name in names] == names


DIGITS = ["nf5122_147", "nf3522_147", "nf3142_147", "nf3124_147"]


@pytest.mark.parametrize("name", [*DIGITS, "nf3122_14", "nf3122_0147", "nf3122_147_TC", "nf3122_147.png", "nf9_1", ""])
def test_other_names_are_refused_with_the_pattern(name: str) -> None:
    for read in (Conditions.parse, split_of):
        with pytest.raises(ValueError, match="nfSWDS_NNN"):
            read(name)


def test_additions_to_the_set_have_higher_numbers_and_no_split() -> None:
    assert Conditions.parse("nf3122_800").name == "nf3122_800"
    assert Conditions.parse("nf3122_1024").number == 1024
    with pytest.raises(ValueError, match="number must be 1 or more"):
        Conditions.parse("nf3122_000")
    with pytest.raises(ValueError, match="no image 'nf1111_001'"):
        split_of("nf1111_001")
    for field in ("season", "weather", "daytime", "scene"):
        with pytest.raises(ValueError, match=field):
            replace(Conditions.parse("nf3122_147"), **{field: "tropical"})
