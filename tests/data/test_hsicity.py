from pathlib import Path

import numpy as np
import pytest
from other_kinds import HSICITY, SIZE, codes_of, hsd, hsd_parts, hsicity_set, write_hsicity

from hsiutils.data.check import check_dataset
from hsiutils.data.classes import VOID
from hsiutils.data.hsicity import HSICity
from hsiutils.data.layouts import DatasetError
from hsiutils.data.source import open_dataset

NAMES = list(HSICITY)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return hsicity_set(tmp_path)


def test_scenes_are_those_written(root: Path) -> None:
    data = open_dataset(root)
    assert isinstance(data, HSICity)
    assert [data.names(split) for split in ("train", "val", "test")] == [NAMES[:4], [NAMES[4]], [NAMES[5]]]
    for name in NAMES:
        mean, components, scores = hsd_parts(name)
        np.testing.assert_allclose(data.cube(name), np.moveaxis(scores @ components + mean, -1, 0), rtol=1e-5)
        np.testing.assert_array_equal(data.classes.merge(data.labels(name)) == VOID, codes_of(name, 20) == 19)
    assert (data.sensor.tiles, data.units, data.classes.names[8]) == (SIZE, "intensity", "Vegetation")
    np.testing.assert_array_equal(data.sensor.wavelengths_nm, 450 + 4 * np.arange(6))
    assert check_dataset(root).empty


def test_folders_for_images_and_labels(root: Path) -> None:
    for split in ("train", "test"):
        for folder, pattern in (("images", "*.hsd"), ("labels", "*.png")):
            (root / split / folder).mkdir()
            for path in (root / split).glob(pattern):
                path.rename(root / split / folder / path.name)
    assert open_dataset(root).names() == NAMES
    (root / "train" / "labels" / f"rgb{NAMES[0]}_gray.png").unlink()
    data = open_dataset(root)
    assert (data.names(), data.left_out) == (NAMES[1:], (NAMES[0],))
    (root / "test" / f"{NAMES[1]}.hsd").write_bytes(b"")
    with pytest.raises(DatasetError, match=rf"\['{NAMES[1]}'\] in train and test"):
        open_dataset(root)


def test_wavelengths_that_do_not_fit_are_the_published_range(root: Path) -> None:
    for name in NAMES:
        path = write_hsicity(root, name)
        values = np.frombuffer(path.read_bytes()[28:], "<f4")
        path.write_bytes(hsd(*SIZE, 6, 2, values, first=0))
    np.testing.assert_array_equal(open_dataset(root).sensor.wavelengths_nm, np.linspace(450, 950, 6))


def test_every_fault_is_found(root: Path) -> None:
    paths = [root / split / f"{name}.hsd" for name, split in HSICITY.items()]
    paths[0].write_bytes(paths[0].read_bytes()[:-4])
    paths[1].write_bytes(paths[1].read_bytes()[:20])
    values = np.ones(10_000)
    paths[2].write_bytes(hsd(9_999, 9_999, 999, 999, values))  # 400 GB, in a file of 40 kB
    paths[3].write_bytes(hsd(4, 12, 6, 2, values))
    write_hsicity(root, NAMES[4], codes=np.full(SIZE, 19, np.uint8))
    found = check_dataset(root).set_index("scene")["found"]
    assert "expected 484 bytes for (6, 8, 6, 2), found 480; cut short" in found[NAMES[0]]
    assert "ends within its header of 28 bytes" in found[NAMES[1]]
    assert "expected 399" in found[NAMES[2]]
    assert "expected (rows, columns, bands) = (6, 8, 6), found (4, 12, 6)" in found[NAMES[3]]
    assert "unknown label codes [19]" in found[NAMES[4]]


@pytest.mark.parametrize("sizes", [(-1, 8, 6, 2), (6, 8, 2**31 - 1, 0), (2**31 - 1,) * 4])
def test_a_header_that_cannot_be_is_refused_before_memory_is_asked_for(sizes, root: Path) -> None:
    path = root / HSICITY[NAMES[0]] / f"{NAMES[0]}.hsd"
    data = open_dataset(root)
    path.write_bytes(np.array([*sizes, 450, 0, 950], "<i4").tobytes())
    with pytest.raises(DatasetError, match=rf"{path.name}: expected rows, columns, bands, components"):
        data.cube(NAMES[0])
    for name, split in HSICITY.items():
        (root / split / f"{name}.hsd").write_bytes(path.read_bytes())
    with pytest.raises(DatasetError, match="none of 6 cubes with labels can be read"):
        open_dataset(root)
    with pytest.raises(DatasetError, match="no scene 'a' among the 6"):
        data.cube("a")
