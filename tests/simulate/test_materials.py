import earthlib
import numpy as np
import pytest

from hsiutils.simulate import materials
from hsiutils.simulate.pigments import WAVELENGTHS_NM

EXPECTED = (
    *("asphalt", "asphalt_patch", "parking", "sidewalk", "street_paint", "car_paint", "bare_metal", "glass", "tyre"),
    *("brick", "concrete", "plaster", "shingle", "tile", "wood", "bark", "leaves", "conifer", "grass", "dry_grass"),
    *("litter", "soil", "gravel", "cloth", "skin", "sign_paint", "water"),
)


def at(spectra: np.ndarray, wavelength: float) -> np.ndarray:
    return spectra[..., np.searchsorted(WAVELENGTHS_NM, wavelength)]


def test_exactly_the_agreed_families() -> None:
    assert sorted(materials.NAMES) == sorted(EXPECTED)
    assert list(materials.families().index) == list(materials.NAMES)


@pytest.mark.parametrize("family", EXPECTED)
def test_splits_are_disjoint_cover_everything_and_hold_two_samples_each(family: str) -> None:
    ids, spectra = materials.samples(family)
    parts = [materials.samples(family, split)[0] for split in materials.SPLITS]
    assert sorted(sum(parts, ())) == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert min(map(len, parts)) >= 2
    assert spectra.shape == (len(ids), 61)


@pytest.mark.parametrize("family", EXPECTED)
def test_reflectances_are_physical(family: str) -> None:
    spectra = materials.samples(family)[1]
    assert np.isfinite(spectra).all()
    assert spectra.min() >= 0
    assert spectra.max() < 0.98


def test_no_measured_spectrum_serves_two_splits_through_two_families() -> None:
    seen: dict[str, str] = {}
    for family in EXPECTED:
        for split in materials.SPLITS:
            for name in materials.samples(family, split)[0]:
                assert seen.setdefault(name, split) == split


def test_spectra_are_joined_by_name() -> None:
    library = earthlib.full_library
    for family in ("asphalt", "street_paint", "leaves", "soil", "bark"):
        ids, spectra = materials.samples(family)
        own = np.asarray(library.data)[library.names.index(ids[-1]), :61]
        np.testing.assert_allclose(spectra[-1], own, rtol=1e-6)


def test_repeated_measurements_of_a_target_stay_together() -> None:
    numbers = {
        split: sorted(name for name in materials.samples("asphalt", split)[0] if name.startswith("rpae"))
        for split in materials.SPLITS
    }
    assert numbers["train"][-1] < numbers["val"][0] < numbers["val"][-1] < numbers["test"][0]


def test_families_look_like_what_they_are() -> None:
    def mean(family: str, wavelength: float) -> float:
        return float(at(materials.samples(family)[1], wavelength).mean())

    assert mean("leaves", 800) > 8 * mean("leaves", 670)
    assert mean("leaves", 550) > mean("leaves", 450)
    assert mean("street_paint", 700) > 3 * mean("asphalt", 700)
    assert mean("asphalt", 700) > mean("asphalt_patch", 700)
    assert mean("brick", 700) > 2 * mean("brick", 500)
    assert mean("cloth", 850) > 2 * mean("cloth", 600)
    assert mean("water", 950) < 0.2 * mean("water", 570)
    assert mean("skin", 690) > 1.4 * mean("skin", 540)
    assert mean("tyre", 700) < 0.07


def test_mixed_paint_keeps_to_its_split() -> None:
    table = materials.families()
    assert table.loc["car_paint", "kind"] == "measured pigments, mixed"
    spectra = {split: materials.samples("car_paint", split)[1] for split in materials.SPLITS}
    closest = np.abs(spectra["train"][:, None] - spectra["test"][None]).max(axis=2)
    assert closest.min() > 1e-6


def test_reflectance_takes_any_number_and_repeats() -> None:
    count = len(materials.samples("wood", "val")[0])
    first = materials.reflectance("wood", 1, "val")
    np.testing.assert_array_equal(first, materials.reflectance("wood", 1 + 7 * count, "val"))
    np.testing.assert_array_equal(first, materials.samples("wood", "val")[1][1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("marble", 0, "train"), "unknown material family 'marble'"), (("wood", 0, "valid"), "split must be one of train"),
     (("wood", -1, "train"), "0 or more, got -1")],
)  # fmt: skip
def test_unknown_requests_are_refused(arguments: tuple[str, int, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        materials.reflectance(*arguments)
