import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from hsiutils.data.cube import clr_pixels, make_cube, pn, to_unit_range, without_directions
from hsiutils.data.inputs import NORMALISATIONS, FittedVariant, Normalisation, Variant, fit_inputs, fit_variant, variant
from hsiutils.data.sensor import HSI_DRIVE, NOT_MEASURED, Band, Sensor


def random_cube(seed: int = 0, sensor: Sensor = HSI_DRIVE, size: tuple[int, int] = (12, 15)) -> xr.DataArray:
    """Spectra that vary mostly in brightness, then in slope, then by noise: their principal components are known."""
    rng = np.random.default_rng(seed)
    bands = len(sensor.bands)
    brightness = rng.uniform(0.1, 0.9, size)
    slope = rng.normal(0, 0.02, size)
    shape = np.linspace(-1, 1, bands)[:, None, None]
    return make_cube(brightness + slope * shape + rng.normal(0, 0.001, (bands, *size)), sensor)


@pytest.fixture(scope="module")
def cubes() -> list[xr.DataArray]:
    return [random_cube(seed) for seed in range(3)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("1", Variant("1", (12,))),
        ("3", Variant("3", (12, 23, 15))),
        ("25", Variant("25", tuple(range(25)))),
        ("all", Variant("all")),
        ("25-PN", Variant("25-PN", tuple(range(25)), normalisation="PN")),
        ("25-PN@0.5", Variant("25-PN@0.5", tuple(range(25)), normalisation="PN", strength=0.5)),
        ("25-PN+I", Variant("25-PN+I", tuple(range(25)), normalisation="PN", extra="I")),
        ("25-DF+C", Variant("25-DF+C", tuple(range(25)), normalisation="DF", extra="C")),
        ("all-clr@0.5+F", Variant("all-clr@0.5+F", normalisation="clr", strength=0.5, extra="F")),
        ("1-PN", Variant("1-PN", (12,), normalisation="PN")),
        ("PCA-1", Variant("PCA-1", pca=1)),
        ("PCA-3-PN", Variant("PCA-3-PN", normalisation="PN", pca=3)),
        ("bands:5,12,21", Variant("bands:5,12,21", (5, 12, 21))),
        ("bands:5,12,21-PN", Variant("bands:5,12,21-PN", (5, 12, 21), normalisation="PN")),
    ],
)
def test_names(spec: str, expected: Variant) -> None:
    assert variant(spec) == expected


UNKNOWN = (
    "",
    "2",
    "25PN",
    "25-pn",
    "PCA-",
    "bands:",
    "bands:1,,2",
    "25-PN@",
    "25-PN@1.2.3",
    "25-PN ",
    "25+I+C",
    "25+X",
)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        *((spec, "the forms are 1, 3, 25, all, PCA-N, bands:") for spec in UNKNOWN),
        ("bands:3,3", "distinct"),
        ("PCA-0", "one component or more"),
        ("25-PN@1.5", r"0\.\.1"),
    ],
)
def test_an_unknown_name_lists_the_forms_and_an_impossible_one_says_why(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variant(spec)


def test_pn_uses_the_published_limits_and_reads_no_cube(cubes: list[xr.DataArray]) -> None:
    fitted = fit_variant(variant("25-PN"), iter([]))
    np.testing.assert_array_equal(fitted.high, HSI_DRIVE.clip_max)
    found = fitted.apply(cubes[0])
    np.testing.assert_allclose(found, to_unit_range(pn(cubes[0]), 0.0, HSI_DRIVE.clip_max), atol=1e-6)
    assert (found.dims, found.dtype) == (("channel", "y", "x"), np.float32)
    assert found["channel"].values.tolist() == [f"{wave:.2f} nm" for wave in HSI_DRIVE.wavelengths_nm]
    assert (found.name, found.attrs["units"], found.attrs["variant"]) == ("input", "1", "25-PN")
    assert found.attrs["source"] == cubes[0].attrs["source"]
    picked = fit_variant(variant("bands:21,5-PN"), [])  # PN runs over all bands before any is picked
    np.testing.assert_array_equal(picked.apply(cubes[0]), found.values[[21, 5]])
    assert fit_variant(variant("3-PN"), []).channel_names == ("731.88 nm", "826.77 nm", "928.81 nm")
    assert fit_variant(variant("1-PN"), []).channel_names == ("731.88 nm",)


def test_learned_limits_are_the_percentile_of_all_training_cubes(cubes: list[xr.DataArray]) -> None:
    fitted = fit_variant(variant("3"), cubes, percentile=90.0)
    pixels = np.concatenate([c.values[[12, 23, 15]].reshape(3, -1) for c in cubes], axis=1)
    np.testing.assert_allclose(fitted.high, np.percentile(pixels, 90, axis=1), rtol=1e-6)
    assert fitted.low == (0.0, 0.0, 0.0)
    np.testing.assert_allclose(
        fitted.apply(cubes[1]), to_unit_range(cubes[1].sel(band=[12, 23, 15]), 0.0, fitted.high), atol=1e-6
    )


def test_part_strength_learns_limits_of_the_normalised_bands(cubes: list[xr.DataArray]) -> None:
    fitted = fit_variant(variant("25-PN@0.5"), cubes, percentile=100.0)
    highest = max(float(pn(c, 0.5).sel(band=7).max()) for c in cubes)
    assert fitted.high[7] == pytest.approx(highest)
    fitted = fit_variant(variant("25-PN"), cubes, percentile=99, learn=True)
    shares = np.concatenate([pn(cube).values.reshape(25, -1) for cube in cubes], axis=1)
    np.testing.assert_allclose(fitted.high, np.percentile(shares, 99, axis=1), rtol=1e-5)
    swept, plain = (fit_variant(variant(spec), cubes).apply(cubes[2]) for spec in ("25-PN@0", "25"))
    np.testing.assert_array_equal(swept, plain)


def test_the_sample_is_seeded(cubes: list[xr.DataArray]) -> None:
    fits = [fit_variant(variant("25"), cubes, pixels_per_cube=20, seed=seed) for seed in (1, 1, 2)]
    assert fits[0] == fits[1]
    assert fits[0] != fits[2]


def test_intensity_is_the_mean_reflectance_beside_pn(cubes: list[xr.DataArray]) -> None:
    fitted = fit_variant(variant("25-PN+I"), cubes, percentile=100.0)
    assert (fitted.channels, fitted.channel_names[-1]) == (26, "intensity")
    np.testing.assert_array_equal(fitted.high[:25], HSI_DRIVE.clip_max)
    found = fitted.apply(cubes[0])
    np.testing.assert_array_equal(found[:25], fit_variant(variant("25-PN"), []).apply(cubes[0]))
    mean = cubes[0].values.mean(axis=0)
    np.testing.assert_allclose(found[25], 2 * 0.9921875 * mean / fitted.high[25] - 1, atol=1e-5)
    half = fitted.apply(cubes[0] * 0.5)
    np.testing.assert_allclose(half[:25], found[:25], atol=1e-4)
    assert float((found[25] - half[25]).min()) > 0


class TestPCA:
    def test_finds_brightness_first_then_slope(self, cubes: list[xr.DataArray]) -> None:
        fitted = fit_variant(variant("PCA-2"), cubes)
        first, second = np.abs(np.asarray(fitted.components))
        np.testing.assert_allclose(first, np.full(25, 0.2), atol=0.01)
        slope = np.abs(np.linspace(-1, 1, 25))
        np.testing.assert_allclose(second, slope / np.linalg.norm(slope), atol=0.02)
        assert fitted.channel_names == ("PC1", "PC2")

    def test_scores_are_scaled_between_both_percentiles(self, cubes: list[xr.DataArray]) -> None:
        fitted = fit_variant(variant("PCA-1"), cubes, percentile=100.0)
        inputs = np.stack([fitted.apply(c).values for c in cubes])
        assert (inputs.min(), inputs.max()) == pytest.approx((-1, 0.984375), abs=1e-5)
        brightness = cubes[0].values.mean(axis=0).ravel()
        assert abs(np.corrcoef(inputs[0].ravel(), brightness)[0, 1]) > 0.999
        fitted = fit_variant(variant("PCA-1"), cubes, percentile=90.0)
        pixels = np.concatenate([c.values.reshape(25, -1) for c in cubes], axis=1)
        scores = np.asarray(fitted.components)[0] @ (pixels - np.asarray(fitted.mean)[:, None])
        np.testing.assert_allclose([fitted.low[0], fitted.high[0]], np.percentile(scores, (10, 90)), atol=1e-4)

    def test_the_projection_is_centred_on_the_training_mean(self, cubes: list[xr.DataArray]) -> None:
        fitted = fit_variant(variant("PCA-2-PN+I"), cubes)
        assert fitted.channels == 3
        pixels = np.concatenate([pn(c).values.reshape(25, -1) for c in cubes], axis=1)
        np.testing.assert_allclose(fitted.mean, pixels.mean(axis=1), rtol=1e-4)
        spectrum = pn(cubes[0]).values[:, 2, 3]
        score = np.asarray(fitted.components)[1] @ (spectrum - np.asarray(fitted.mean))
        share = (np.clip(score, fitted.low[1], fitted.high[1]) - fitted.low[1]) / (fitted.high[1] - fitted.low[1])
        assert float(fitted.apply(cubes[0])[1, 2, 3]) == pytest.approx(2 * 0.9921875 * share - 1, abs=1e-4)


@pytest.mark.parametrize("spec", ["1", "25-PN", "25-PN@0.3", "PCA-3", "bands:5,12-PN+I", "25-DF+C", "PCA-2-clr+F"])
def test_goes_through_json_and_back(spec: str, cubes: list[xr.DataArray]) -> None:
    fitted = fit_variant(variant(spec), cubes)
    back = FittedVariant.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert back == fitted
    np.testing.assert_array_equal(back.apply(cubes[0]), fitted.apply(cubes[0]))


def test_dead_pixels_neither_teach_nor_spoil(cubes: list[xr.DataArray]) -> None:
    broken = cubes[0].copy(deep=True)
    broken[3, 0, 0] = np.nan
    broken[3, 0, 1] = np.inf
    for spec in ("25", "25-PN", "PCA-2", "25-PN+I", "25-clr+F", "25-DF+C"):
        fitted = fit_variant(variant(spec), [broken, *cubes[1:]])
        assert np.isfinite(fitted.high).all()
        found = fitted.apply(broken)
        assert np.isfinite(found).all()
        assert float(found.max()) < 1


def test_a_band_without_signal_does_not_matter_where_limits_are_published(cubes: list[xr.DataArray]) -> None:
    silent = [c.copy(data=np.where(c.band.values[:, None, None] == 22, 0, c.values)) for c in cubes]
    fitted = fit_variant(variant("25-PN+I"), silent)
    assert fitted.high[22] == HSI_DRIVE.clip_max[22]
    assert fitted.high[25] > 0.5
    with pytest.raises(ValueError, match="1 of 25 channels"):
        fit_variant(variant("25"), silent)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_variant(variant("3"), []), "no finite pixel"),
        (lambda: fit_variant(variant("3"), [random_cube() * np.nan]), "no finite pixel"),
        (lambda: fit_variant(variant("3"), [random_cube() * 0]), "3 of 3 channels to learn are constant"),
        (lambda: fit_variant(variant("3"), [random_cube(size=(1, 1))]), "no finite pixel"),
        (lambda: fit_variant(variant("bands:3,25"), [random_cube()]), "more than the 25 bands"),
        (lambda: fit_variant(variant("PCA-26"), [random_cube()]), "more than the 25 bands"),
        (lambda: fit_variant(variant("25"), [random_cube()[::-1]]), "native order"),
        (lambda: Variant("mine", extra="X"), "no extra channel 'X'; there are I, F, C"),
        (lambda: fit_variant(variant("25-PN"), []).apply(random_cube()[:24]), "all 25 bands"),
        (lambda: FittedVariant.from_dict({}), "not a stored variant"),
        (lambda: FittedVariant.from_dict({"variant": 3}), "not a stored variant"),
        (lambda: FittedVariant.from_dict({"variant": {"name": "25", "colour": 1}}), "not a stored variant"),
        (lambda: FittedVariant.from_dict({"low": [1]}), "not a stored variant"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_another_camera() -> None:
    bands = tuple(Band(i, 470.0 + 10 * i, 0.2, ()) for i in range(16))
    camera = Sensor("4x4", (4, 4), (40, 40), (0, 0), (10, 10), bands)
    fitted = fit_variant(variant("all-PN"), [], camera)
    assert fitted.channels == 16
    assert fitted.apply(random_cube(sensor=camera)).sizes["channel"] == 16
    with pytest.raises(ValueError, match="16 bands"):
        fit_variant(variant("25"), [], camera)
    unknown = replace(camera, bands=tuple(replace(band, clip_max=NOT_MEASURED) for band in bands))
    with pytest.raises(ValueError, match="must be fitted on training cubes"):
        fit_variant(variant("all-PN"), [], unknown)
    with pytest.raises(ValueError, match=r"'all-DF': nobody knows how daylight moves the bands of 4x4.*or take clr"):
        fit_variant(variant("all-DF"), [], camera)
    cube = random_cube(sensor=unknown)
    assert float(fit_variant(variant("all-PN"), [cube], unknown).apply(cube).max()) > 0.9


def test_two_pixels_and_as_many_components_as_bands_are_enough() -> None:
    assert fit_variant(variant("25"), [random_cube(size=(1, 2))]).channels == 25
    assert fit_variant(variant("PCA-25"), [random_cube()]).channels == 25


class Planted:
    """A data set of one scene to train on and another, ten times as bright, to test."""

    def __init__(self, sensor: Sensor = HSI_DRIVE, units: str = "reflectance") -> None:
        self.sensor, self.units = sensor, units
        self.cubes = {"a": random_cube(0, sensor, (80, 60)), "b": 10 * random_cube(1, sensor)}

    def names(self, split: str) -> list[str]:
        return {"train": ["a"], "test": ["b"]}[split]

    def cube(self, name: str) -> xr.DataArray:
        return self.cubes[name]


def test_inputs_of_a_data_set_are_learned_from_its_training_scenes() -> None:
    data = Planted()
    for options in ({}, {"percentile": 80.0}, {"seed": 3}):
        assert fit_inputs("25", data, **options) == fit_variant(variant("25"), [data.cube("a")], **options)
    assert fit_inputs("25", data).percentile == 99.9
    bands = tuple(Band(place, 470.0 + 10 * place, 0.2, ()) for place in range(16))
    four = Planted(Sensor("4x4", (4, 4), (48, 60), (0, 0), (12, 15), bands))
    assert fit_inputs("all", four).channels == 16


def test_units_that_cannot_be_normalised_so_are_refused() -> None:
    for units in ("reflectance", "DN above dark", "sRGB"):
        fit_inputs("all-PN", Planted(units=units))
    fit_inputs("all-clr", Planted(units="1"))
    with pytest.raises(
        ValueError, match=r"holds 1 values; PN \(variant '25-PN'\) needs reflectance or intensity or DN or "
    ):
        fit_inputs("25-PN", Planted(units="1"))


def test_features_are_in_single_precision_whatever_is_done(cubes: list[xr.DataArray]) -> None:
    for spec in ("25", "25-PN+I", "25-clr+F", "25-DF+C"):
        assert variant(spec).features(cubes[0].values, HSI_DRIVE.daylight).dtype == np.float32


def test_a_new_normalisation_is_one_entry(cubes: list[xr.DataArray], monkeypatch: pytest.MonkeyPatch) -> None:
    halved = Normalisation(lambda pixels, strength: np.asarray(pixels * (1 - strength / 2), dtype=np.float32))
    monkeypatch.setitem(NORMALISATIONS, "HALF", halved)
    inputs, plain = (fit_variant(variant(spec), cubes) for spec in ("25-HALF", "25"))
    np.testing.assert_allclose(inputs.high, np.array(plain.high) / 2, rtol=1e-6)
    assert FittedVariant.from_dict(json.loads(json.dumps(inputs.to_dict()))) == inputs
    with pytest.raises(ValueError, match=r"each may end in -PN\|clr\|DF\|HALF or -PN\|clr\|DF\|HALF@STRENGTH"):
        variant("25-SNV")
    with pytest.raises(ValueError, match="no normalisation 'SNV'; there are none, PN, clr, DF, HALF"):
        Variant("mine", normalisation="SNV")


def test_a_signed_normalisation_keeps_what_is_below_zero(cubes: list[xr.DataArray], monkeypatch) -> None:
    centred = Normalisation(lambda pixels, strength: np.float32(pixels - pixels.mean(axis=0)), signed=True)
    monkeypatch.setitem(NORMALISATIONS, "SNV", centred)
    inputs = fit_variant(variant("25-SNV+I"), cubes)
    pixels = np.concatenate([centred.apply(cube.values.reshape(25, -1), 1.0) for cube in cubes], axis=1)
    np.testing.assert_allclose(inputs.low[:25], np.percentile(pixels, 0.1, axis=1), atol=1e-6)
    assert max(inputs.low[:25]) < 0 == inputs.low[25]  # the intensity is not centred


def test_what_version_0_1_0_stored_is_read(cubes: list[xr.DataArray]) -> None:
    for spec, strength in (("25", 0.0), ("25-PN", 1.0), ("25-PN@0.5", 0.5)):
        fitted = fit_variant(variant(spec), cubes)
        stored = fitted.to_dict()
        for name in ("normalisation", "strength"):
            del stored["variant"][name]
        stored["variant"]["pn"] = strength
        assert FittedVariant.from_dict(stored) == fitted


def test_an_intensity_of_before_there_were_other_extra_channels_is_read(cubes: list[xr.DataArray]) -> None:
    for spec in ("25-PN", "25-PN+I"):
        fitted = fit_variant(variant(spec), cubes)
        stored = fitted.to_dict()
        del stored["daylight"]
        stored["variant"]["intensity"] = stored["variant"].pop("extra") == "I"
        assert FittedVariant.from_dict(stored) == fitted


@pytest.mark.parametrize("spec", ["25", "3", "25-PN@0.5", "PCA-2-PN", "25+I"])
def test_what_knows_no_neighbours_is_the_same_before_pixels_are_drawn_and_after(
    spec: str, cubes: list[xr.DataArray]
) -> None:
    fitted = fit_variant(variant(spec), cubes, pixels_per_cube=50, seed=4)
    rng = np.random.default_rng(4)
    drawn = np.concatenate([cube.values.reshape(25, -1)[:, rng.choice(180, 50, replace=False)] for cube in cubes], 1)
    alone = make_cube(drawn[:, None], HSI_DRIVE)  # (band, pixel) -> (band, 1, pixel)
    again = fit_variant(variant(spec), [alone], seed=5)
    np.testing.assert_allclose(fitted.high, again.high, rtol=1e-6)
    np.testing.assert_allclose(fitted.apply(cubes[0]), again.apply(cubes[0]), atol=1e-5)


def lit(cube: xr.DataArray, sky: float, low: float) -> xr.DataArray:
    """The cube in another daylight."""
    factors = np.exp(np.array([sky, low]) @ np.array(HSI_DRIVE.daylight))
    return cube * factors[:, None, None]


class TestLogRatios:
    def test_they_are_free_of_brightness_and_daylight_moves_clr_alone(self, cubes: list[xr.DataArray]) -> None:
        for spec, free in (("25-clr", False), ("25-DF", True)):
            fitted = fit_variant(variant(spec), cubes)
            assert max(fitted.low) < 0
            assert (fitted.daylight is not None) == free
            before = fitted.apply(cubes[0])
            np.testing.assert_allclose(fitted.apply(3 * cubes[0]), before, atol=1e-4)
            moved = np.abs(fitted.apply(lit(cubes[0], 0.5, 0.3)) - before).max()
            assert (float(moved) < 1e-3) == free

    def test_limits_are_learned_where_daylight_was_taken_out(self, cubes: list[xr.DataArray]) -> None:
        fitted = fit_variant(variant("25-DF"), [lit(cubes[0], 2.0, -1.0)], percentile=100.0)
        assert fitted.percentile == 100.0
        left = without_directions(clr_pixels(cubes[0].values), HSI_DRIVE.daylight)
        np.testing.assert_allclose(fitted.high, left.max(axis=(1, 2)), atol=1e-5)
        np.testing.assert_allclose(fitted.low, left.min(axis=(1, 2)), atol=1e-5)

    def test_clr_is_the_logarithm_less_its_mean(self, cubes: list[xr.DataArray]) -> None:
        for strength in (0.0, 0.5, 1.0):
            fitted = fit_variant(variant(f"25-clr@{strength}"), cubes, percentile=100.0)
            logs = np.log(np.stack([cube.values for cube in cubes]).astype(float))  # (cube, band, y, x)
            expected = logs - strength * logs.mean(axis=1, keepdims=True)
            np.testing.assert_allclose(fitted.low, expected.min(axis=(0, 2, 3)), rtol=1e-5)
            np.testing.assert_allclose(fitted.high, expected.max(axis=(0, 2, 3)), rtol=1e-5)


class TestExtraChannels:
    def test_only_the_intensity_sees_how_bright_an_image_is(self, cubes: list[xr.DataArray]) -> None:
        for spec, relative in (("25-PN+I", False), ("25-PN+F", True), ("25-DF+C", True)):
            fitted = fit_variant(variant(spec), cubes)
            assert (fitted.low[25] < 0) == relative
            gap = np.abs(fitted.apply(2 * cubes[0]) - fitted.apply(cubes[0]))[25].max()
            assert (float(gap) < 1e-4) == relative, spec

    def test_contrast_is_against_what_is_around_and_the_frame_is_one(self) -> None:
        """Two halves of one spectrum, one twice as bright: far from the border they differ in the frame alone."""
        values = np.full((25, 40, 120), 0.3)
        values[:, :, 60:] = 0.6
        cube = make_cube(values, HSI_DRIVE)
        for letter, halves in (("F", np.log([0.3 / 0.45, 0.6 / 0.45])), ("C", [0.0, 0.0])):
            fitted = fit_variant(variant(f"25-PN+{letter}"), [cube], percentile=100.0)
            low, high = fitted.low[25], fitted.high[25]
            found = low + (fitted.apply(cube)[25].values + 1) / (2 * 0.9921875) * (high - low)
            np.testing.assert_allclose(found[20, [10, 110]], halves, atol=1e-5)
            assert low < -0.2 < 0.2 < high
            assert fitted.channel_names[25] == {"F": "over frame", "C": "contrast"}[letter]
