"""What a scene's name says about it: season, weather, time of day, kind of road.

Naming of HSI-Drive: nfSWDS_NNN (data description of v2.0, doi 10.1109/SSCI52147.2023.10371793).
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import pandas as pd

SEASONS: Final = ("winter", "fall", "spring", "summer")
WEATHERS: Final = ("sunny", "cloudy", "wet", "foggy")
DAYTIMES: Final = ("dawn", "midday", "sunset")
SCENES: Final = ("urban", "road", "highway")
TRAITS: Final = {"season": SEASONS, "weather": WEATHERS, "daytime": DAYTIMES, "scene": SCENES}
"""What a name says, in the order of its digits, and the words that the digits stand for."""
NAME: Final = r"(?P<name>nf\d{4}_(\d{3}|[1-9]\d{3,}))"
"""Regular expression of a scene's name in a file's name or a list, also of one whose digits mean nothing."""


@dataclass(frozen=True)
class Conditions:
    """The circumstances under which one image was taken: words of `TRAITS`, and the running number, from 1.

    HSI-Drive v2.0 ends at number 752.

    Raises
    ------
    ValueError
        If a word is not one of those, or the number is not positive.
    """

    season: str
    weather: str
    daytime: str
    scene: str
    number: int

    def __post_init__(self) -> None:
        for what, known in TRAITS.items():
            if getattr(self, what) not in known:
                raise ValueError(f"{what} must be one of {', '.join(known)}, got {getattr(self, what)!r}")
        if self.number < 1:
            raise ValueError(f"number must be 1 or more, got {self.number!r}")

    @classmethod
    def parse(cls, name: str) -> "Conditions":
        """Read a name such as ``nf3122_147``: spring, sunny, midday, road, number 147.

        Raises
        ------
        ValueError
            If the name does not follow nfSWDS_NNN.
        """
        match = re.fullmatch(r"nf([1-4])([1-4])([1-3])([1-3])_(\d{3}|[1-9]\d{3,})", name)
        if match is None:
            raise ValueError(
                f"image name {name!r} does not follow nfSWDS_NNN: season 1..4, weather 1..4, daytime 1..3, scene 1..3, "
                "number of three digits or more, without suffix or extension (nf3122_147)"
            )
        words = [known[int(match[place]) - 1] for place, known in enumerate(TRAITS.values(), start=1)]
        return cls(words[0], words[1], words[2], words[3], int(match[5]))

    @property
    def name(self) -> str:
        """The image's name, nfSWDS_NNN."""
        digits = (known.index(getattr(self, what)) + 1 for what, known in TRAITS.items())
        return f"nf{''.join(map(str, digits))}_{self.number:03d}"


@cache
def name_table() -> pd.DataFrame:
    """All 752 images of HSI-Drive v2.0 by name: `split` (train, val or test, as HS3-Bench cuts them). Do not modify."""
    with resources.files("hsiutils.data").joinpath("names.csv").open() as file:
        return pd.read_csv(file, index_col="name").rename(columns={"hs3bench_split": "split"}).sort_index()


def split_of(name: str) -> str:
    """Split of an image of HSI-Drive v2.0 (else ValueError): "train", "val" or "test".

    A split has materials of its own, so rendering depends on it.
    """
    if name not in name_table().index:
        Conditions.parse(name)
        raise ValueError(f"HSI-Drive v2.0 has no image {name!r}: see hsiutils/data/names.csv")
    return str(name_table().at[name, "split"])
