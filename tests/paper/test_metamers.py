from itertools import combinations

import numpy as np
import pytest

from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.paper.metamers import band_reflectance, find_metamers, metamers, spectral_angle_deg, without_oxygen
from hsiutils.simulate.materials import distinct_samples

FEW = [12, 23, 15]


def bumped(base: np.ndarray, band: int, factor: float) -> np.ndarray:
    changed = base.copy()
    changed[band] *= factor
    return changed


def test_finds_exactly_the_planted_pair() -> None:
    base = np.linspace(0.2, 0.6, 25)
    spectra = np.stack(
        [
            base,
            bumped(base, 4, 3.0),  # other family, equal in the few bands, far apart at band 4: the metamer
            bumped(base, 12, 3.0),  # other family, but seen by band 12
            bumped(base, 9, 3.0),  # equal in the few bands, but of the first one's family
            base * 1.01,  # other family, close everywhere
        ]
    )
    families = ["asphalt", "paint", "paint", "asphalt", "brick"]
    found = find_metamers(spectra, families, HSI_DRIVE)
    pairs = {frozenset(pair) for pair in found[["first", "second"]].to_numpy().tolist()}
    assert pairs == {frozenset(pair) for pair in [(0, 1), (1, 3), (1, 4), (3, 4)]}
    row = found[(found["first"] == 0) & (found["second"] == 1)].iloc[0]
    assert (row.first_family, row.second_family) == ("asphalt", "paint")
    assert row.rms_few == pytest.approx(0, abs=1e-9)
    assert row.rms_all == pytest.approx(np.log(3) / 5)  # one band of 25 differs by a factor of 3
    assert row.worst_nm == HSI_DRIVE.wavelengths_nm[4]
    assert row.angle_few_deg == pytest.approx(0, abs=1e-6)
    cosine = spectra[0] @ spectra[1] / np.linalg.norm(spectra[0]) / np.linalg.norm(spectra[1])
    assert row.angle_all_deg == pytest.approx(np.degrees(np.arccos(cosine)))
    assert found["rms_all"].is_monotonic_decreasing


def test_agrees_with_the_definition_for_every_pair() -> None:
    rng = np.random.default_rng(0)
    spectra = np.exp(rng.normal(-1, 0.2, (60, 25)))
    spectra[:, FEW] = np.exp(rng.normal(-1, 0.02, (60, 3)))
    families = [f"f{i % 4}" for i in range(60)]
    found = find_metamers(spectra, families, HSI_DRIVE, near=0.02, apart=0.2)
    expected = set()
    for i, j in combinations(range(60), 2):
        ratio = np.log(spectra[i] / spectra[j])
        few, all_bands = (np.sqrt(np.mean(r**2)) for r in (ratio[FEW], ratio))
        if families[i] != families[j] and few <= 0.02 and all_bands >= 0.2:
            expected.add((i, j))
    assert len(expected) > 20
    assert {(min(p), max(p)) for p in found[["first", "second"]].to_numpy().tolist()} == expected


def test_a_hole_where_oxygen_absorbs_makes_no_metamer() -> None:
    wavelength = np.arange(400.0, 1001.0)
    flat = np.tile(np.linspace(0.1, 0.4, len(wavelength)), (2, 1))
    holed = flat.copy()
    holed[0, (wavelength > 751) & (wavelength < 779)] = 0.01  # as in one measured spectrum of litter
    np.testing.assert_allclose(without_oxygen(holed, wavelength), flat)
    holed[1, wavelength < 750] = 0.9
    np.testing.assert_allclose(without_oxygen(holed, wavelength)[1], holed[1])


def test_the_few_bands_are_a_choice_and_no_pair_gives_an_empty_table_with_its_columns() -> None:
    base = np.full(25, 0.3)
    spectra = np.stack([base, bumped(base, 12, 4.0)])
    found = find_metamers(spectra, ["a", "b"], HSI_DRIVE)
    assert found.empty
    assert "angle_all_deg" in found.columns
    assert len(find_metamers(spectra, ["a", "b"], HSI_DRIVE, bands=(0, 1))) == 1


@pytest.mark.parametrize(
    ("spectra", "families", "message"),
    [
        (np.ones((3, 24)), ["a"] * 3, r"\(3, 25\)"),
        (np.ones((3, 25)), ["a"] * 2, r"\(2, 25\)"),
        (np.zeros((2, 25)), ["a"] * 2, "positive"),
        (np.full((2, 25), np.nan), ["a"] * 2, "positive"),
    ],
)
def test_bad_input(spectra: np.ndarray, families: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_metamers(spectra, families, HSI_DRIVE)


def test_spectral_angle_ignores_brightness_and_keeps_small_angles() -> None:
    one = np.array([1.0, 0.0])
    assert spectral_angle_deg(one, [0.0, 7.0]) == pytest.approx(90)
    assert spectral_angle_deg(one, one * 5) == 0
    assert spectral_angle_deg(one, [1.0, 1e-9]) == pytest.approx(np.degrees(1e-9))


class TestBandReflectance:
    wavelength = np.arange(400.0, 1001.0, 1.0)

    @pytest.mark.parametrize("edge", [None, 600.0])
    def test_is_the_ratio_of_signals_and_grey_where_the_target_is(self, edge: float | None) -> None:
        spectrum, response = np.random.default_rng(0).random(601), HSI_DRIVE.responses(self.wavelength, edge)
        found = band_reflectance([spectrum, np.full(601, 0.37)], self.wavelength, HSI_DRIVE, edge)
        np.testing.assert_allclose(found[0], [np.sum(r * spectrum) / np.sum(r) for r in response])
        np.testing.assert_allclose(found[1], np.full(25, 0.37))

    @pytest.mark.parametrize(
        ("spectra", "wavelength", "message"),
        [
            (np.ones(601), np.arange(400.0, 1001.0), "must share n"),
            (np.ones((2, 600)), np.arange(400.0, 1001.0), "must share n"),
            (np.ones((2, 3)), [400.0, 500.0, 550.0], "even steps"),
            (np.ones((2, 3)), [600.0, 500.0, 400.0], "even steps"),
        ],
    )
    def test_bad_input(self, spectra: np.ndarray, wavelength: list[float], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            band_reflectance(spectra, wavelength, HSI_DRIVE, None)


def test_measured_materials_have_metamers_and_modelled_canopies_wider_ones():
    pairs, seen = metamers()
    _, wavelength, spectra = distinct_samples()
    clean = without_oxygen(spectra, wavelength)
    np.testing.assert_array_equal(seen, band_reflectance(clean, wavelength, HSI_DRIVE, 600.0))
    assert len(metamers(("measured", "canopy model"), apart=0.1)[0]) > len(metamers(apart=0.1)[0])
    one = pairs.iloc[0]
    first, second = np.log(seen[int(one["first"])]), np.log(seen[int(one["second"])])
    assert one["first_family"] != one["second_family"]
    assert np.sqrt(np.mean((first - second)[FEW] ** 2)) <= 0.02
    assert np.sqrt(np.mean((first - second) ** 2)) == pytest.approx(one["rms_all"])
