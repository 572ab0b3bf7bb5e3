import numpy as np
import pytest

from hsiutils.simulate import radiance as optics


def test_fresnel_at_normal_and_grazing_incidence() -> None:
    assert optics.fresnel(1.0, 1.5) == pytest.approx(0.04)
    assert optics.fresnel(1.0, 1.33) == pytest.approx((0.33 / 2.33) ** 2)
    assert optics.fresnel(0.0, 1.33) == pytest.approx(1.0)


def test_fresnel_at_brewsters_angle_is_half_of_the_crossed_part() -> None:
    index = 1.5
    cosine = np.cos(np.arctan(index))
    crossed = ((1 - index**2) / (1 + index**2)) ** 2
    assert optics.fresnel(cosine, index) == pytest.approx(crossed / 2)


def test_pane_reflects_nearly_twice_one_face() -> None:
    assert optics.pane(1.0, 1.5) == pytest.approx(0.08 / 1.04)
    assert optics.pane(0.0) == pytest.approx(1.0)


def test_mirror_obeys_the_law_of_reflection() -> None:
    rng = np.random.default_rng(0)
    direction, normal = (v / np.linalg.norm(v, axis=0) for v in rng.standard_normal((2, 3, 50)))
    reflected = optics.mirror(direction, normal)
    np.testing.assert_allclose(np.sum(reflected * normal, axis=0), -np.sum(direction * normal, axis=0))
    np.testing.assert_allclose(np.linalg.norm(reflected, axis=0), 1)
    np.testing.assert_allclose(optics.mirror(np.array([0, 0.6, -0.8]), np.array([0, 0, 1.0])), [0, 0.6, 0.8])


def test_wet_surfaces_are_darker_never_brighter_and_ends_stay() -> None:
    dry = np.linspace(0, 1, 101)
    darker = optics.wet(dry)
    assert darker[0] == 0
    assert np.all(darker[1:] < dry[1:])
    assert np.all(np.diff(darker) > 0)
    # A lossless scatterer sends back all that got into the film.
    assert darker[-1] == pytest.approx(1 - optics._diffuse_fresnel(optics.WATER_INDEX))
    assert optics.wet(0.1) == pytest.approx(0.052, abs=0.002)  # Angstrom: about half for dark ground


def test_diffuse_reflection_of_water() -> None:
    assert optics._diffuse_fresnel(1.33) == pytest.approx(0.066, abs=0.002)
