"""A few damaged files for every reader, the same each time; tests/slow has thousands, others each."""

from collections import Counter
from pathlib import Path

import fuzz
import pytest
from readers import READERS, subjects

UNFIT = {"results json", "rgb classes"}
"""Seeds that fit none of the files that they lie among."""


@pytest.mark.parametrize("name", READERS)
def test_whatever_is_in_a_file_the_reader_says_so(name: str, tmp_path: Path) -> None:
    subject = subjects()[name]
    if name not in UNFIT:
        readable = subject._replace(raises=())
        assert not fuzz.faults(readable, list(subject.seeds), tmp_path)
    found = fuzz.faults(subject, list(fuzz.inputs(subject, 15, 1)), tmp_path)
    assert not found, Counter(one.what for one in found)


def test_every_reader_is_tried() -> None:
    assert list(subjects()) == READERS
