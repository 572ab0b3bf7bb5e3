from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from hsiutils.data.classes import HSI_DRIVE_CLASSES
from hsiutils.data.cube import make_cube
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.paper.sensor import (
    band_reflectance,
    daylight,
    find_metamers,
    known_statistics,
    likeness,
    long_pass_evidence,
    measured,
    metamers,
    spectral_angle_deg,
    without_oxygen,
)
from hsiutils.simulate import draw_names, simulate_dataset
from hsiutils.simulate.materials import distinct_samples

FEW = [12, 23, 15]


def bumped(base: np.ndarray, band: int, factor: float) -> np.ndarray:
    changed = base.copy()
    changed[band] *= factor
    return changed


def test_the_camera_knows_how_the_simulators_daylight_moves_its_bands() -> None:
    np.testing.assert_allclose(HSI_DRIVE.daylight, daylight(), atol=1e-5)
    np.testing.assert_allclose(np.sum(HSI_DRIVE.daylight, axis=1), 0, atol=1e-4)


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


def test_the_filter_brings_the_mean_spectrum_nearer_to_the_released_one(tiny_run):
    evidence = long_pass_evidence(tiny_run, scenes=6).set_index("filter")["correlation"]
    assert evidence["long-pass at 600 nm"] > evidence["none"]
    assert evidence.between(-1, 1).all()


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


@pytest.fixture(scope="module")
def likenesses(tmp_path_factory):
    """The table of the simulator as it is, behind too sharp a lens, and under light that hardly varies."""
    names, wrong = draw_names(8), {"own": {}, "lens": {"blur_px": 0.3}, "light": {"light_spread": 1.0}}
    tables = {}
    for key, settings in wrong.items():
        data = simulate_dataset(tmp_path_factory.mktemp(key), 8, tiles=(48, 96), workers=1, progress=False, **settings)
        tables[key] = likeness(data, names).set_index("figure")
    return tables


def test_no_row_that_was_fitted_counts_as_agreement(likenesses):
    table = likenesses["own"]
    fitted = table["row"] == "fitted"
    assert (table.loc[fitted, "agrees"] == "").all()
    assert (fitted == (table["chosen by it"] != "")).all()
    assert set(table.loc[fitted & (table["real"] > 0), "chosen by it"]) >= {"metering", "spread of light"}
    assert (table.loc[~fitted, "agrees"] != "").equals(table.loc[~fitted, "real"].notna())
    assert (table["source"] != "").all()
    assert (table["low"] <= table["here"] + 1e-9).all()
    assert (table["here"] <= table["high"] + 1e-9).all()


@pytest.mark.parametrize(
    ("wrong", "figure"),
    [
        ("lens", "roughness of PN over that of intensity, vegetation"),
        ("light", "PN of vegetation between images, by quartiles"),
    ],
)
def test_a_wrong_simulator_fails_rows_that_were_not_fitted(likenesses, wrong, figure):
    agrees = {key: table.loc[figure, "agrees"] for key, table in likenesses.items()}
    assert (agrees["own"], agrees[wrong]) == ("yes", "no")


def test_statistics_of_planted_scenes():
    """Two scenes of one flat class each, one of them twice as bright and tilted."""
    flat = np.broadcast_to(np.full(25, 0.4)[:, None, None], (25, 10, 10))
    tilted = flat * (2 * (1 + 0.1 * np.where(np.arange(25) % 2, 1, -1)))[:, None, None]
    source = SimpleNamespace(
        cube=lambda name: make_cube(flat if name == "flat" else tilted, HSI_DRIVE),
        labels=lambda name: np.full((10, 10), 1, np.uint8),
        classes=HSI_DRIVE_CLASSES,
    )
    found = measured(source, ["flat", "tilted"])
    of = {one.name: float(one.of(found[one.needs.split()])) for one in known_statistics()}
    assert of["share of Road"] == 1
    assert of["mean reflectance"] == pytest.approx(0.4 * (1 + 2 * 0.996) / 2)
    assert of["reflectance of road between images"] == pytest.approx((0.72 - 0.4) / (0.72 + 0.4))  # in most bands
    assert of["PN of road between images"] == pytest.approx(0.05, abs=0.005)
    assert of["roughness of PN, road"] == pytest.approx(0, abs=1e-3)
    assert np.isnan(of["roughness of PN, vegetation"])
