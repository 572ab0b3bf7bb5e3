from collections import Counter
from importlib import resources

import numpy as np
import pytest

from hsiutils.data.classes import FREQUENCIES, HSI_DRIVE_CLASSES, VOID
from hsiutils.data.names import Conditions
from hsiutils.simulate.surfaces import Surfaces
from hsiutils.simulate.trace import build_surfaces

SHAPE = (60, 120)
SUN = np.array([0.5, 0.5, np.sqrt(0.5)])


def build(name: str, seed: int = 0, shape: tuple[int, int] = SHAPE, direct_light: bool = True) -> Surfaces:
    return build_surfaces(Conditions.parse(name), seed, shape, SUN, direct_light)


def names() -> list[str]:
    with resources.files("hsiutils").joinpath("data/names.csv").open() as file:
        return sorted(line.split(",")[0] for line in list(file)[1:])


def arrays(surfaces: Surfaces) -> dict[str, np.ndarray]:
    return {key: value for key, value in vars(surfaces).items() if isinstance(value, np.ndarray)}


def test_shapes_and_types_are_as_promised() -> None:
    surfaces = build("nf4321_001")
    types = {"slot": np.int32, "label": np.uint8, "object_id": np.int32}
    for key, value in arrays(surfaces).items():
        assert value.dtype == types.get(key, np.float32), key
        assert value.shape == ((3, *SHAPE) if key in ("direction", "normal") else SHAPE), key
        assert np.all(np.isfinite(value)) or key == "depth_m", key


@pytest.mark.parametrize("name", ["nf4121_001", "nf3122_002", "nf2333_003", "nf1412_004"])
def test_every_quantity_is_in_its_range(name: str) -> None:
    surfaces = build(name)
    for values in (surfaces.sun_visible, surfaces.sky_view, surfaces.mix, surfaces.water):
        assert values.min() >= 0
        assert values.max() <= 1 + 1e-5
    assert surfaces.brightness.min() > 0.1
    assert surfaces.brightness.mean() == pytest.approx(1, abs=0.1)
    assert surfaces.slot.max() < len(surfaces.slots)
    np.testing.assert_array_equal(surfaces.slot < 0, np.isinf(surfaces.depth_m))


def test_same_seed_same_bytes_whatever_came_before() -> None:
    first = build("nf4321_001")
    build("nf3122_002", seed=9)
    again = build("nf4321_001")
    assert first.slots == again.slots
    for key, value in arrays(first).items():
        assert value.tobytes() == getattr(again, key).tobytes(), key


def test_seeds_and_names_give_different_scenes() -> None:
    labels = [build(name, seed).label for name, seed in (("nf4321_001", 0), ("nf4321_001", 1), ("nf4321_002", 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (labels[one] != labels[other]).mean() > 0.1


def test_no_two_scenes_are_alike() -> None:
    seen = [build(name, shape=(24, 48), direct_light=False).label for name in names()[::60]]
    alike = [(a == b).mean() for i, a in enumerate(seen) for b in seen[:i]]
    assert max(alike) < 0.97
    assert np.mean(alike) < 0.85


def test_light_does_not_change_what_is_there() -> None:
    lit, dim = build("nf4121_001"), build("nf4121_001", direct_light=False)
    assert not dim.sun_visible.any()
    for key, value in arrays(lit).items():
        if key != "sun_visible":
            np.testing.assert_array_equal(value, getattr(dim, key), key)


def test_more_rays_show_the_same_picture() -> None:
    coarse, fine = build("nf3122_002"), build("nf3122_002", shape=(180, 360))
    # The middle ray of every 3 x 3 block is the coarse ray.
    assert (fine.label[1::3, 1::3] == coarse.label).mean() > 0.98


@pytest.mark.parametrize("shape", [(0, 10), (10, 0), (10,)])
def test_an_empty_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        build_surfaces(Conditions.parse("nf4121_001"), 0, shape, SUN, True)  # type: ignore[arg-type]


@pytest.mark.parametrize("sun", [(0.0, 0, 2), (0.0, 1), (np.nan, 0, 1)])
def test_a_sun_without_direction_is_refused(sun: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="sun"):
        build_surfaces(Conditions.parse("nf4121_001"), 0, SHAPE, np.array(sun), True)


def test_class_shares_are_those_of_hsi_drive() -> None:
    """Over a stratified sample of the real names, each within a factor of two."""
    counts: Counter[int] = Counter()
    for name in names()[::20]:
        classes = HSI_DRIVE_CLASSES.merge(build(name, direct_light=False).label)
        counts.update(dict(zip(*np.unique(classes[classes != VOID], return_counts=True), strict=True)))
    share = np.array([counts[index] for index in range(5)]) / counts.total()
    ratio = share / np.array(FREQUENCIES)
    assert np.all((ratio > 0.5) & (ratio < 2)), dict(
        zip(("road", "marks", "vegetation", "sky", "other"), ratio, strict=True)
    )
