"""Thousands of damaged files for every reader: the documented error or none, in little time and memory."""

from collections import Counter
from pathlib import Path

import fuzz
import pytest
from readers import READERS, subjects

COUNT = 800

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", READERS)
def test_whatever_is_in_a_file_the_reader_says_so(name: str, tried, tmp_path: Path) -> None:
    subject = subjects()[name]
    others = [other.seeds[0] for other in subjects().values()]
    contents = [*subject.seeds, *fuzz.inputs(subject, COUNT, 16, others)]
    found = fuzz.faults(subject, contents, tmp_path)
    tried["inputs"][name] = len(contents)
    tried["failures"][name] = len(found)
    assert not found, Counter(one.what for one in found).most_common(5)
