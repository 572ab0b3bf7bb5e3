import pytest

from hsiutils.data.inputs import variant
from hsiutils.models.segmenter import AUTHORS
from hsiutils.paper.run import PROFILES, profile


def test_paper_profile_is_the_papers():
    paper = profile("paper")
    assert (paper.scenes, paper.tiles, paper.depth, paper.filters) == (752, (216, 409), 5, 32)
    assert paper.recipe == AUTHORS
    assert {"1", "3", "25", "25-PN"} < set(paper.variants)


@pytest.mark.parametrize("own", PROFILES, ids=lambda own: own.name)
def test_every_profile_can_show_a_spread_and_names_real_variants(own):
    assert own.models >= 3
    assert own.depth == 5  # so that conv2d_21 is the last 3x3 convolution everywhere
    assert [variant(name).name for name in own.variants] == list(own.variants)


def test_unknown_profile_is_an_error_that_lists_them():
    with pytest.raises(ValueError, match="unknown profile 'fast': expected one of smoke, quick, paper"):
        profile("fast")
