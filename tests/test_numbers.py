"""Numbers hold: what is broken stays where it is; threads, batches and precision change nothing but the last digits.

Tolerances are stated beside each comparison, and are of the largest value that is compared.
"""

from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import image, shaken
from scipy import ndimage
from toyscenes import toy_scenes

from hsiutils.analysis.pixels import scene_spectra
from hsiutils.attribution.audit import audit
from hsiutils.attribution.decompose import decompose
from hsiutils.data.classes import CLASSES, HSI_DRIVE_CLASSES, VOID
from hsiutils.data.cube import clr_pixels, fill_values, make_cube, mapped, pn, pn_pixels, surroundings
from hsiutils.data.inputs import fit_variant, variant
from hsiutils.data.raw import median_filter, translate_to_centre
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.data.statistics import statistics
from hsiutils.models.metrics import evaluate, scene_counts, scores
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper.sensor import measured

SHAPE = (8, 12)
SENSOR = HSI_DRIVE.resized(SHAPE)
INPUTS = ("1", "25", "25-PN", "25-PN@0.5+I", "PCA-3", "PCA-2-PN", "25-clr", "25-DF", "25-clr+F", "25-DF+C")
CODES = np.where(np.arange(SHAPE[0])[:, None] < 6, 1, np.arange(SHAPE[1]) % 6 + 1).astype(np.uint8)
"""Mostly road, and all classes in the last two rows."""


def street(seed: int) -> xr.DataArray:
    """Reflectances of (25, *SHAPE), no two the same."""
    return make_cube(np.random.default_rng(seed).uniform(0.05, 0.9, (25, *SHAPE)), SENSOR)


class Broken:
    """A cube, the same with some pixels broken, and which."""

    def __init__(self, seed: int, places: set[int], value: float, bands: int) -> None:
        self.sound = street(seed)
        self.where = np.isin(np.arange(np.prod(SHAPE)), list(places)).reshape(SHAPE)
        self.cube = self.sound.copy(deep=True)
        self.cube.values[:bands, self.where] = value

    def __repr__(self) -> str:
        return f"{np.argwhere(self.where).tolist()}: {self.cube.values[:, self.where][:3]}"


def broken(values: list[float]) -> st.SearchStrategy[Broken]:
    places = st.sets(st.integers(0, int(np.prod(SHAPE)) - 1), min_size=1, max_size=5)
    one_band = st.sampled_from([1, 25]) if 0.0 not in values else st.just(25)
    return st.builds(Broken, st.integers(0, 5), places, st.sampled_from(values), one_band)


ANYTHING = st.one_of(broken([np.nan, np.inf, -np.inf]), broken([0.0]))
FITTED = {spec: fit_variant(variant(spec), [street(seed) for seed in (6, 7)], SENSOR) for spec in INPUTS}
OF_PIXELS = {
    "PN": lambda cube: pn_pixels(cube.values),
    "PN at half strength": lambda cube: pn_pixels(cube.values, 0.5),
    "log-ratio": lambda cube: clr_pixels(cube.values),
    "another camera": lambda cube: mapped(cube, np.eye(25)[::-1] / 2, SENSOR).values,
    **{f"input {spec}": lambda cube, fitted=fitted: fitted.apply(cube).values for spec, fitted in FITTED.items()},
}


@settings(max_examples=15)
@given(case=ANYTHING)
def test_a_broken_pixel_changes_no_other(case: Broken) -> None:
    """To the last bit; what looks around counts by what is left there, and only that may change."""
    for what, of in OF_PIXELS.items():
        found, whole = (of(cube) for cube in (case.cube, case.sound))
        if what.endswith(("+F", "+C")):
            found, whole = found[:-1], whole[:-1]
        assert np.array_equal(found[:, ~case.where], whole[:, ~case.where]), what


@settings(max_examples=10)
@given(case=broken([np.nan]))
def test_filters_of_raw_frames_reach_no_further_than_they_look(case: Broken) -> None:
    """One pixel; and the median asks those that are left."""
    reached, lonely = ndimage.maximum_filter(case.where, 3), ndimage.minimum_filter(case.where, 3, mode="nearest")
    for step in (lambda cube: translate_to_centre(cube, SENSOR), median_filter):
        found, whole = step(case.cube).values, step(case.sound).values
        assert np.array_equal(found[:, ~reached], whole[:, ~reached])
    assert np.isfinite(median_filter(case.cube).values[:, ~lonely]).all()


@settings(max_examples=10)
@given(case=ANYTHING)
def test_what_is_broken_is_neither_bright_nor_dark_to_its_neighbours(case: Broken) -> None:
    """Where all other pixels are as bright, each is as bright as what is around it, and as the image."""
    flat = 0.4 * case.cube / case.sound.mean("band")
    image, around = surroundings(flat.values)
    assert abs(image - 0.4) < 1e-6
    assert np.abs(around[~case.where] - 0.4).max() < 1e-6


@settings(max_examples=10)
@given(case=broken([np.nan, np.inf, -np.inf]), size=st.sampled_from([20, 60]))
def test_a_broken_pixel_changes_no_other_pixel_s_drawing(case: Broken, size: int) -> None:
    """The largest values of a sample without some of its pixels are no larger, in the cubes that follow, too."""
    one, other = (
        fit_variant(variant("25"), [cube, street(9)], SENSOR, percentile=100, pixels_per_cube=size)
        for cube in (case.cube, case.sound)
    )
    assert (np.array(one.high) <= other.high).all()


@settings(max_examples=5)
@given(case=broken([np.nan, np.inf, -np.inf]))
def test_what_is_learned_is_learned_from_the_other_pixels(case: Broken) -> None:
    left = case.sound.values[:, ~case.where]  # (band, pixel)
    alone = make_cube(left[:, None], HSI_DRIVE.resized((1, left.shape[1])))
    for spec in ("25", "PCA-3", "25-PN@0.5+I", "25-DF"):
        found, wanted = (fit_variant(variant(spec), [cube], SENSOR) for cube in (case.cube, alone))
        for name in ("low", "high", "mean", "components"):
            one, other = getattr(found, name), getattr(wanted, name)
            assert (one is None and other is None) or np.allclose(np.abs(one), np.abs(other), rtol=1e-4, atol=1e-6)


def source(cube: xr.DataArray) -> SimpleNamespace:
    """One scene, its left half in the shadow."""
    lit = np.where(np.arange(SHAPE[1]) < SHAPE[1] // 2, 0.0, 1.0) * np.ones(SHAPE)
    return SimpleNamespace(
        cube=lambda name: cube,
        labels=lambda name: CODES,
        truth=lambda name: xr.Dataset({"sunlit": (("y", "x"), lit)}),
        classes=HSI_DRIVE_CLASSES,
        sensor=SENSOR,
        root="here",
    )


@settings(max_examples=5)
@given(case=broken([np.nan, np.inf, -np.inf]))
def test_statistics_are_those_of_the_other_pixels(case: Broken) -> None:
    found, left = statistics(source(case.cube), ["a"]), case.sound.values[:, ~case.where].astype(float)
    np.testing.assert_allclose(found["mean"], left.mean(1), rtol=1e-6)
    np.testing.assert_allclose(found["std"], left.std(1), rtol=1e-5)
    assert np.isfinite(found["shade"]).all()
    sums = measured(source(case.cube), ["a"]).isel(scene=0)
    np.testing.assert_allclose(sums["first"] / sums["pixels"], left.mean(1), rtol=1e-6)
    road = case.sound.values[:, (CODES == 1) & ~case.where]
    np.testing.assert_allclose(sums["spectrum"].sel({"class": "Road"}), road.mean(1), rtol=1e-5)
    assert float(sums["tail"].isel(band=0).sum()) == left.shape[1]


@settings(max_examples=10)
@given(case=broken([np.nan, np.inf]), per_class=st.sampled_from([3, 200]))
def test_a_classifier_is_given_the_spectra_of_the_other_pixels(case: Broken, per_class: int) -> None:
    """As many, where there are more than are drawn: those that were drawn before, and the next ones."""
    found, clean = (scene_spectra(source(cube), ["a"], per_class) for cube in (case.cube, case.sound))
    dead = {spectrum.tobytes() for spectrum in case.sound.values[:, case.where].T.copy()}
    for index in range(len(CLASSES)):
        kept = [one.tobytes() for one in clean.values[clean.truth == index] if one.tobytes() not in dead]
        own = [one.tobytes() for one in found.values[found.truth == index]]
        assert own[: len(kept)] == kept
        assert not dead & set(own)


@settings(max_examples=10)
@given(seed=st.integers(0, 99), place=st.tuples(st.integers(0, 7), st.integers(0, 11)))
def test_a_pixel_of_no_class_takes_one_count_away(seed: int, place: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 5, SHAPE), rng.integers(0, 5, SHAPE)
    void = truth.copy()
    void[place] = VOID
    gone = scene_counts(predicted, truth, CLASSES)["confusion"] - scene_counts(predicted, void, CLASSES)["confusion"]
    assert int(gone.sum()) == 1
    assert int(gone.sel(region="all").values[truth[place], predicted[place]]) == 1


def test_fill_values_are_found_beside_what_is_not_finite() -> None:
    values = street(0).values.copy()
    values[:, 0, :4], values[3, 1, 1] = 65535, np.nan
    assert fill_values(values) == [65535]


X = image(height=16, width=24, dtype=torch.float32)
BLOCKS = np.arange(24) // 8 * np.ones((16, 1), int)


@contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def printed(dtype: torch.dtype) -> dict[str, np.ndarray]:
    """What chapters print of a network and an image: logits, parts, what maps sum to."""
    model, x = shaken(dtype=dtype), X.to(dtype)
    audited, parts = audit(model, x), decompose(model, x, biases="layers")
    found = {
        "logits": audited["logit"],
        "contributions": parts.contribution,
        "biases": parts.bias,
        "sums": parts.contribution.sum("band") + parts.bias.sum("layer"),
        "means over regions": decompose(model, x, over=BLOCKS).contribution,
    }
    for name in audited["method"].values:
        found[str(name)] = (audited["residual"] + audited["logit"]).sel({"method": name})
    return {name: np.asarray(values, dtype=float) for name, values in found.items()}


def apart(one, other) -> float:
    """Largest difference, over the largest value."""
    return float(np.abs(one - other).max() / np.abs(other).max())


def test_single_precision_is_double_precision_rounded() -> None:
    single, double = printed(torch.float32), printed(torch.float64)
    found = {name: apart(single[name], double[name]) for name in double}
    assert max(found.values()) < 2e-5, found
    for name in ("logits", "contributions", "biases", "sums", "means over regions"):
        assert found[name] < 2e-6, name


def test_threads_change_the_last_digits_at_most() -> None:
    known = printed(torch.float32)
    with threads(2):
        parts = decompose(shaken(dtype=torch.float32), X)
    assert apart(parts.logit.values, known["logits"][0]) < 2e-6
    assert apart(parts.contribution.values, known["contributions"]) < 2e-6


def test_what_closes_closes_in_both_precisions() -> None:
    for dtype, bound in ((torch.float32, 2e-6), (torch.float64, 1e-14)):
        own = printed(dtype)
        closing = [name for name in own if name.startswith(("sums", "CAM ", "linear decomposition"))]
        assert len(closing) == 3
        for name in closing:
            assert np.abs(own[name] - own["logits"]).max() < bound * np.abs(own["logits"]).max(), name


def test_scores_are_the_same_in_every_batch_precision_and_number_of_threads() -> None:
    scenes = toy_scenes(5, 0, noise=0.5)
    model = UNet(UNetConfig(channels=3, depth=2, filters=4, class_names=CLASSES), torch.Generator().manual_seed(1))
    wanted = evaluate(model, scenes, batch=5)
    assert 0 < float(scores(wanted)["accuracy"].sel(region="all")) < 1
    for batch, count, dtype in ((1, 1, torch.float32), (2, 2, torch.float32), (3, 1, torch.float64)):
        with threads(count):
            xr.testing.assert_equal(evaluate(model.to(dtype), scenes, batch=batch), wanted)


def test_pn_is_rounded_once() -> None:
    """Each value is the float32 nearest to the quotient of float64."""
    cube = street(3)
    exact = cube.values.astype(np.float64) / cube.values.sum(0, dtype=np.float64)
    assert np.array_equal(pn(cube).values, exact.astype(np.float32))
