import earthlib
import numpy as np
import pytest

from hsiutils.simulate import materials
from hsiutils.simulate.materials import SPLITS, WAVELENGTHS_NM, distinct_samples, families, reflectance, samples

EXPECTED = (
    *("asphalt", "asphalt_patch", "parking", "sidewalk", "street_paint", "car_paint", "bare_metal", "glass", "tyre"),
    *("brick", "concrete", "plaster", "shingle", "tile", "wood", "bark", "leaves", "conifer", "grass", "dry_grass"),
    *("litter", "soil", "gravel", "cloth", "skin", "sign_paint", "water"),
    *("led_red", "led_white", "bulb_red", "bulb_white"),
)


def test_exactly_the_agreed_families() -> None:
    assert sorted(materials.NAMES) == sorted(EXPECTED)
    assert list(families().index) == list(materials.NAMES)


@pytest.mark.parametrize("family", EXPECTED)
def test_samples_are_physical_and_splits_disjoint_complete_and_of_two_samples_each(family: str) -> None:
    ids, spectra = samples(family)
    parts = [samples(family, split)[0] for split in SPLITS]
    assert sorted(sum(parts, ())) == sorted(set(ids)) == sorted(ids)
    assert min(map(len, parts)) >= 2
    assert spectra.shape == (len(ids), 61)
    assert np.isfinite(spectra).all()
    assert 0 <= spectra.min() <= spectra.max() < 0.98


def test_no_measured_spectrum_serves_two_splits_through_two_families() -> None:
    seen: dict[str, str] = {}
    for family in EXPECTED:
        for split in SPLITS:
            for name in samples(family, split)[0]:
                assert seen.setdefault(name, split) == split


def test_spectra_are_joined_by_name() -> None:
    library = earthlib.full_library
    for family in ("asphalt", "leaves", "soil", "bark"):
        ids, spectra = samples(family)
        own = np.asarray(library.data)[library.names.index(ids[-1]), :61]
        np.testing.assert_allclose(spectra[-1], own, rtol=1e-6)


def test_repeated_measurements_of_a_target_stay_together() -> None:
    numbers = {split: sorted(n for n in samples("asphalt", split)[0] if n.startswith("rpae")) for split in SPLITS}
    assert numbers["train"][-1] < numbers["val"][0] < numbers["val"][-1] < numbers["test"][0]


def test_families_look_like_what_they_are() -> None:
    def mean(family: str, wavelength: float) -> float:
        return float(samples(family)[1][:, np.searchsorted(WAVELENGTHS_NM, wavelength)].mean())

    assert mean("leaves", 800) > 8 * mean("leaves", 670)
    assert mean("leaves", 550) > mean("leaves", 450)
    assert mean("street_paint", 700) > 3 * mean("asphalt", 700)
    assert mean("asphalt", 700) > mean("asphalt_patch", 700)
    assert mean("brick", 700) > 2 * mean("brick", 500)
    assert mean("cloth", 850) > 2 * mean("cloth", 600)
    assert mean("water", 950) < 0.2 * mean("water", 570)
    assert mean("skin", 690) > 1.4 * mean("skin", 540)
    assert mean("tyre", 700) < 0.07
    assert mean("glass", 1000) < mean("glass", 540), "green"


@pytest.mark.parametrize("family", ["leaves", "conifer", "grass", "soil"])
def test_nothing_of_another_split_is_near_a_held_out_canopy_or_soil(family: str) -> None:
    """Test samples are no nearer to training samples than twice the library's own spacing."""

    def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        parts = [np.log(np.maximum(spectra[:, WAVELENGTHS_NM >= 600], 1e-3)) for spectra in (one, other)]
        one, other = (part - part.mean(axis=1, keepdims=True) for part in parts)
        return np.sort(np.linalg.norm(one[:, None] - other[None], axis=2), axis=1)

    train, val, test = (samples(family, split)[1] for split in SPLITS)
    assert min(len(val), len(test)) >= 10
    own = np.median(distances(train, train)[:, 1])
    for held, others in ((test, train), (val, train), (test, val)):
        assert distances(held, others)[:, 0].min() > 1.2 * own


def test_marks_are_many_and_of_other_paints_in_every_split_but_equally_bright() -> None:
    paints = {split: samples("street_paint", split)[1] for split in SPLITS}
    assert sum(map(len, paints.values())) >= 60
    level = {split: spectra[:, WAVELENGTHS_NM >= 600].mean() for split, spectra in paints.items()}
    assert max(level.values()) < 1.2 * min(level.values())
    assert all(spectra[:, -1].min() > 0.15 for spectra in paints.values())
    measured = [sum(len(materials._paint(colour, split)) for colour in ("white", "yellow")) for split in SPLITS]
    assert measured == [14, 7, 9], "no measured paint serves two splits"
    yellow = paints["train"][:, 45 - 40] / paints["train"][:, 60 - 40]
    assert 0.05 < np.mean(yellow < 0.5) < 0.2


def test_mixed_paint_keeps_to_its_split() -> None:
    assert families().loc["car_paint", "kind"] == "measured pigments, mixed"
    spectra = {split: samples("car_paint", split)[1] for split in SPLITS}
    assert np.abs(spectra["train"][:, None] - spectra["test"][None]).max(axis=2).min() > 1e-6


def test_reflectance_takes_any_number_and_repeats() -> None:
    ids, spectra = samples("wood", "val")
    for number in (1, 1 + 7 * len(ids)):
        np.testing.assert_array_equal(reflectance("wood", number, "val"), spectra[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("marble", 0, "train"), "unknown material family 'marble'"), (("wood", 0, "valid"), "split must be one of train"),
     (("wood", -1, "train"), "0 or more, got -1")],
)  # fmt: skip
def test_unknown_requests_are_refused(arguments: tuple[str, int, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reflectance(*arguments)


def test_measured_samples_are_distinct_and_none_is_modelled() -> None:
    names, wavelength, spectra = distinct_samples(step_nm=2.0)
    kind = families()["kind"]
    assert set(kind[list(set(names))]) == {"measured"}
    assert spectra.shape == (len(names), 301)
    used = {name for family in kind.index[kind == "measured"] for name in samples(family)[0] if family != "soil"}
    assert len(names) - names.count("soil") == len(used)
    assert names.count("soil") > 2 * len(samples("soil")[0]), "those that no split uses are among them"
    at = np.isin(wavelength, WAVELENGTHS_NM)
    np.testing.assert_allclose(spectra[names.index("asphalt")][at], samples("asphalt")[1][0])
    assert "leaves" in distinct_samples(("measured", "canopy model"), 10.0)[0]


def test_kubelka_munk_inverts_itself_and_knows_a_layer() -> None:
    values = np.linspace(0.01, 1, 50)
    np.testing.assert_allclose(materials.opaque_reflectance(materials.absorption_ratio(values)), values)
    assert materials.absorption_ratio(0.5) == pytest.approx(0.25)


def test_carbon_black_greys_a_white_coat_evenly_and_a_coloured_one_keeps_its_hue() -> None:
    coats = materials.achromatic_coats(np.full((1, 61), 0.5), 40, np.random.default_rng(0))
    np.testing.assert_allclose(coats, coats[:, :1] * np.ones(61))
    assert coats.min() < 0.06
    assert coats.max() > 0.6
    red = np.where(WAVELENGTHS_NM > 600, 0.5, 0.08)[None]
    coats = materials.coloured_coats(red, 20, np.random.default_rng(0))
    assert np.all(coats[:, -1] > 1.5 * coats[:, 0])
