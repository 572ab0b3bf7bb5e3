from collections import Counter

import numpy as np
import pytest

from hsiutils.data.names import name_table, split_of
from hsiutils.simulate.draws import draw_names, generator


@pytest.mark.parametrize("count", [24, 60, 120])
def test_subset_keeps_the_real_frequencies(count: int) -> None:
    names, every = draw_names(count), list(name_table().index)
    for place in (2, 3, 4, 5):
        own, whole = Counter(name[place] for name in names), Counter(name[place] for name in every)
        for code, number in whole.items():
            assert abs(own[code] - number * count / 752) <= 1.5
    splits = Counter(map(split_of, names))
    assert splits["train"] == pytest.approx(0.6 * count, abs=1.5)
    assert splits["val"] == pytest.approx(0.2 * count, abs=1.5)


def test_draws_are_nested_distinct_and_seeded() -> None:
    large = draw_names(200, seed=1)
    assert draw_names(40, seed=1) == large[:40]
    assert set(draw_names(40, seed=2)) != set(large[:40])
    assert sorted(draw_names(752)) == sorted(name_table().index)


def test_impossible_counts_are_refused() -> None:
    for count in (0, 753):
        with pytest.raises(ValueError, match=rf"1\.\.752.*got {count}"):
            draw_names(count)


def test_streams_are_reproducible_and_apart() -> None:
    one, same, *others = (
        generator(*key).random(1000)
        for key in ((0, "a", "noise"), (0, "a", "noise"), (1, "a", "noise"), (0, "b", "noise"), (0, "a", "clouds"))
    )
    np.testing.assert_array_equal(one, same)
    for other in others:
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.1
    # Data sets on disk depend on it: a change here needs a new `frame.VERSION`.
    np.testing.assert_array_equal(generator(7, "nf3122_147", "noise").integers(1000, size=3), [156, 770, 781])
