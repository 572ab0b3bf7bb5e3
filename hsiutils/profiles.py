"""How much of everything: the same code path from a smoke test to the paper's full size."""

from dataclasses import dataclass

from hsiutils.segmenter import AUTHORS, Recipe


@dataclass(frozen=True)
class Profile:
    """Sizes of a run.

    Attributes
    ----------
    scenes : simulated images in all, cut into train, val and test as HS3-Bench cuts the real ones (.6, .2, .2).
    tiles : (rows, columns) of a simulated cube; the lens and its field of view stay the same.
    variants : network inputs that are compared.
    models : networks trained of each variant, from different seeds; the spread over them is shown with every score.
    depth, filters : of the U-Net.
    norm_momentum : weight of the newest batch in the statistics of batch normalisation. Keras' 0.01 needs hundreds of
        steps to forget where it started; short trainings take 0.1.
    recipe : of its training.
    """

    name: str
    scenes: int
    tiles: tuple[int, int]
    variants: tuple[str, ...]
    models: int
    depth: int
    filters: int
    norm_momentum: float
    recipe: Recipe


VARIANTS = ("1", "3", "25", "25-PN", "PCA-1")
"""The paper's four inputs and the one principal component that HS3-Bench found best (arXiv 2409.11205)."""

PROFILES: tuple[Profile, ...] = (
    Profile(
        name="smoke",
        scenes=20,
        tiles=(32, 64),
        variants=("1", "3", "25", "25-PN"),
        models=3,
        depth=5,
        filters=2,
        norm_momentum=0.1,
        recipe=Recipe(epochs=2, batch=2, learning_rate=3e-3, schedule="one-cycle"),
    ),
    Profile(
        name="quick",
        scenes=130,
        tiles=(96, 192),
        variants=VARIANTS,
        models=3,
        depth=5,
        filters=8,
        norm_momentum=0.1,
        recipe=Recipe(epochs=10, batch=2, learning_rate=3e-3, schedule="one-cycle", validate_every=2),
    ),
    Profile(
        name="paper",
        scenes=752,
        tiles=(216, 409),
        variants=VARIANTS,
        models=3,
        depth=5,
        filters=32,
        norm_momentum=0.01,
        recipe=AUTHORS,
    ),
)


def profile(name: str) -> Profile:
    """Return a profile by its name.

    Raises
    ------
    ValueError
        If there is no such profile.
    """
    for candidate in PROFILES:
        if candidate.name == name:
            return candidate
    raise ValueError(f"unknown profile {name!r}: expected one of {', '.join(known.name for known in PROFILES)}")
