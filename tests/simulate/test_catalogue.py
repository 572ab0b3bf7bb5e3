import numpy as np

from hsiutils.simulate.materials import distinct_samples, families, samples


def test_measured_samples_are_distinct_and_none_is_modelled():
    names, wavelength, spectra = distinct_samples()
    kind = families()["kind"]
    assert set(kind[list(set(names))]) == {"measured"}
    assert spectra.shape == (len(names), 601)
    assert (wavelength[0], wavelength[-1]) == (400, 1000)
    distinct = {name for family in kind.index[kind == "measured"] for name in samples(family)[0]}
    assert len(names) == len(distinct)


def test_interpolation_keeps_the_measured_points():
    names, wavelength, spectra = distinct_samples(step_nm=2.0)
    first = samples("asphalt")[1][0]
    at = np.isin(wavelength, np.arange(400, 1001, 10))
    assert np.allclose(spectra[names.index("asphalt")][at], first)


def test_other_kinds_join_on_request():
    assert "leaves" in distinct_samples(("measured", "canopy model"), 10.0)[0]
