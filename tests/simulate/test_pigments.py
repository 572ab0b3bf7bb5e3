import numpy as np
import pytest

from hsiutils.simulate import pigments
from hsiutils.simulate.pigments import WAVELENGTHS_NM


def test_kubelka_munk_inverts_itself() -> None:
    reflectance = np.linspace(0.01, 1, 50)
    np.testing.assert_allclose(pigments.opaque_reflectance(pigments.absorption_ratio(reflectance)), reflectance)


def test_kubelka_munk_of_a_known_layer() -> None:
    assert pigments.absorption_ratio(0.5) == pytest.approx(0.25)
    assert pigments.opaque_reflectance(0.25) == pytest.approx(0.5)


def test_carbon_black_greys_a_white_coat_evenly() -> None:
    white = np.full((1, 61), 0.5)
    coats = pigments.achromatic_coats(white, 40, np.random.default_rng(0))
    np.testing.assert_allclose(coats, coats[:, :1] * np.ones(61))
    assert coats.min() < 0.06
    assert coats.max() > 0.6


def test_coloured_coat_has_its_pigments_hue() -> None:
    red = np.where(WAVELENGTHS_NM > 600, 0.5, 0.08)[None]
    coats = pigments.coloured_coats(red, 20, np.random.default_rng(0))
    assert np.all(coats[:, -1] > 1.5 * coats[:, 0])


@pytest.mark.parametrize("draw", [pigments.cloths, pigments.skins, pigments.tyres, pigments.glazings, pigments.waters])
def test_models_are_seeded(draw: object) -> None:
    one, same, other = (draw(5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_glass_is_green_and_water_is_dark_in_the_infrared() -> None:
    rng = np.random.default_rng(0)
    green, red = (int((nm - 400) // 10) for nm in (540, 1000))
    glass = pigments.glazings(200, rng)
    assert glass[:, red].mean() < glass[:, green].mean()
    water = pigments.waters(50, rng)
    assert np.all(water[:, red] < 0.1 * water[:, green])
