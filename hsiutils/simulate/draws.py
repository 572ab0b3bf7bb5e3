"""Which of HSI-Drive's images to simulate, and a random stream for every purpose."""

import hashlib

import numpy as np

from hsiutils.data.names import DAYTIMES, SCENES, SEASONS, WEATHERS, Conditions, name_table, split_of


def draw_names(count: int, seed: int = 0) -> list[str]:
    """A subset of the real names that keeps the frequencies of split, season, weather, daytime and scene.

    Names join one by one: always one whose circumstances are the furthest behind their share of the whole list.
    So the first names of a larger draw with the same seed are the smaller draw.

    Parameters
    ----------
    count : 1..752
    seed : decides between names that would serve equally well.

    Raises
    ------
    ValueError
        If `count` is out of range.
    """
    names = list(name_table().index)
    if not 1 <= count <= len(names):
        raise ValueError(f"count must be 1..{len(names)}, the images of HSI-Drive v2.0, got {count}")
    words = [*SEASONS, *WEATHERS, *DAYTIMES, *SCENES, "train", "val", "test"]
    known = [(own.season, own.weather, own.daytime, own.scene) for own in map(Conditions.parse, names)]
    own_words = [{*own, split_of(name)} for own, name in zip(known, names, strict=True)]
    # (names, words) 1 where the name has it
    traits = np.array([[float(word in own) for word in words] for own in own_words])
    share = traits.mean(axis=0)
    tie_break = generator(seed, "names").random(len(names)) * 1e-3
    taken, drawn, free = np.zeros_like(share), [], np.ones(len(names), dtype=bool)
    for number in range(1, count + 1):
        behind = (share * number - taken) / np.sqrt(share)
        score = np.where(free, traits @ behind + tie_break, -np.inf)
        best = int(np.argmax(score))
        free[best] = False
        taken += traits[best]
        drawn.append(names[best])
    return drawn


def generator(seed: int, *purpose: str) -> np.random.Generator:
    """A random stream of its own for every seed and purpose, such as (0, "nf3122_147", "noise").

    Streams do not depend on each other, on the order of use, or on the process.
    """
    digest = hashlib.sha256("/".join((str(int(seed)), *purpose)).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype="<u4"))
