import numpy as np
import pytest

from hsiutils.data.classes import (
    CLASSES,
    FREQUENCIES,
    HSI_DRIVE_CLASSES,
    LABELS,
    VOID,
    Classes,
    Label,
    inverse_frequency_weights,
)


def test_codes_merge_as_the_paper_does():
    names = {label.code: label.name for label in LABELS}
    merged = {names[code]: int(index) for code, index in enumerate(HSI_DRIVE_CLASSES.merge(np.arange(11)))}
    for name in ("Road", "Road Marks", "Vegetation", "Sky"):
        assert CLASSES[merged[name]] == name
    assert {label.code for label in LABELS if merged[label.name] == CLASSES.index("Other")} == {4, 6, 7, 8, 9, 10}
    assert merged["Unlabelled"] == VOID
    colours = {label.name: label.rgb for label in LABELS}  # the official palette
    assert (colours["Road"], colours["Water"]) == ((77, 77, 77), (0, 207, 250))
    assert len(set(colours.values())) == 11


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HSI_DRIVE_CLASSES.merge([11]), "11"),
        (lambda: HSI_DRIVE_CLASSES.merge([-1]), "-1"),
        (lambda: HSI_DRIVE_CLASSES.merge([0, 200]), "200"),
        (lambda: HSI_DRIVE_CLASSES.merge([0.5]), "integers"),
        (lambda: HSI_DRIVE_CLASSES.index("Kerb"), "no class 'Kerb'; the classes are Road, Road Marks"),
    ],
)
def test_unknown_codes_and_classes_are_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_weights_are_the_authors_and_a_class_that_never_occurs_weighs_nothing():
    assert sum(FREQUENCIES) == pytest.approx(1, abs=2e-4)
    assert np.allclose(inverse_frequency_weights(), [0.0245, 0.5073, 0.0747, 0.2094, 0.1841], atol=2e-4)
    assert inverse_frequency_weights([0.5, 0.0, 0.5]).tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("bad", [[], [0, 0], [-1, 2], [np.nan, 1], [[1, 2]]])
def test_frequencies_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="frequencies must be"):
        inverse_frequency_weights(bad)


@pytest.mark.parametrize(
    ("names", "codes", "of_label", "frequencies", "message"),
    [
        (("a",), (0, 1), (0,), None, "each of 2 label codes needs one class index"),
        (("a",), (0, 0), (0, 0), None, "each of 2 label codes"),
        (("a", "b"), (0, 1), (0, VOID), None, r"must cover 0\.\.1"),
        (("a",), (300,), (0,), None, r"lie in 0\.\.255"),
        (("a",), (0,), (0,), (0.5, 0.5), "expected 1 frequencies"),
    ],
)
def test_classes_that_do_not_fit_together(names, codes, of_label, frequencies, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classes(names, tuple(Label(code, str(code), (0, 0, 0)) for code in codes), of_label, frequencies)
