"""What chapters say of settings is what the settings are."""

import inspect

import nbformat
import pytest

from hsiutils.attribution import checks, leaderboard
from hsiutils.book.chapters import find_chapter
from hsiutils.paper import foretold, physics

_LEAKED = inspect.signature(leaderboard.leakage).parameters["share"].default
SAID = {
    "with a fifth of one band's light gone": physics.DIMMED == 1 / 5,
    "on every fifth street": physics.DISTURBED == 5,
    "the mean logit of the class with the most pixels, the second, or the third": physics.ASKED == 3,
    "the tenth of the pixels that a map ranks highest": _LEAKED == 1 / 10,
    f"Integrated Gradients have {physics.NODES} nodes here": True,
    f"SmoothGrad {physics.SAMPLES} copies": True,
    f"occlusion patches of {physics.PATCH} pixels": True,
    f"about {checks.RANKED:,} values are ranked": True,
    "*Fewer questions*: five neighbouring bands, or four patches": (foretold.COARSER, foretold.ROWS) == (5, 2),
    f"For 25 bands that is {25 // foretold.COARSER} forward passes": True,
}


@pytest.fixture(scope="module")
def prose() -> str:
    """Chapters 4 and 7, in one line."""
    cells = [cell for name in ("4", "7") for cell in nbformat.read(find_chapter(name), 4).cells]
    return " ".join(" ".join(cell.source for cell in cells if cell.cell_type == "markdown").split())


@pytest.mark.parametrize("sentence", SAID)
def test_a_setting_in_prose_is_the_one_in_the_code(prose, sentence):
    assert sentence in prose
    assert SAID[sentence]
