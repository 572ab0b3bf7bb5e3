from pathlib import Path

import numpy as np
import pytest
from other_kinds import HYKO2, SIZE, codes_of, cube_of, hyko2_set, write_hyko2

from hsiutils.data.check import check_dataset
from hsiutils.data.classes import VOID
from hsiutils.data.hyko2 import DATA, LABELS, WAVELENGTHS, HyKo2
from hsiutils.data.layouts import DatasetError
from hsiutils.data.source import open_dataset
from hsiutils.data.statistics import class_table, data_info


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return hyko2_set(tmp_path / "vis_annotated")


def test_scenes_are_those_written(root: Path) -> None:
    data = open_dataset(root)
    assert isinstance(data, HyKo2)
    assert (data.origin, data.layout, data.sensor.tiles) == ("real", "HyKo2 VIS", SIZE)
    assert [data.names(split) for split in ("train", "val", "test")] == [list(HYKO2[:3]), [HYKO2[3]], [HYKO2[4]]]
    for name in HYKO2:
        np.testing.assert_array_equal(data.cube(name), np.moveaxis(cube_of(name, 15), -1, 0))
        np.testing.assert_array_equal(data.labels(name), codes_of(name))
    assert data.classes.names[:2] == ("Road", "Sidewalk")
    assert data.classes.colours[9] == (70, 130, 180)
    np.testing.assert_array_equal(data.classes.merge(data.labels(HYKO2[0])) == VOID, codes_of(HYKO2[0]) == 0)
    with pytest.raises(DatasetError, match="no scene 'a' among the 5"):
        data.cube("a")


def test_near_infrared_and_the_folder_above(tmp_path: Path) -> None:
    """Band centres are those in the files where they have them; scenes are named by their folder, too."""
    centres = np.linspace(610, 960, 25)
    for unit in (1000, 1):  # micrometres, nanometres
        write_hyko2(tmp_path / "nir", HYKO2[0], 25, **{WAVELENGTHS: centres / unit})
        np.testing.assert_allclose(open_dataset(tmp_path).sensor.wavelengths_nm, centres)
    data = open_dataset(tmp_path)
    assert (data.layout, data.names()) == ("HyKo2 NIR", [f"nir/{HYKO2[0]}"])
    assert data.cube(f"nir/{HYKO2[0]}").shape == (25, *SIZE)


def test_files_without_labels_are_left_out_and_counted(root: Path) -> None:
    write_hyko2(root, "scene09", **{LABELS: None})
    data = open_dataset(root)
    assert data.names() == list(HYKO2)
    assert data_info(data).at["left out, for labels or image are missing", "value"] == "1 (scene09)"
    assert check_dataset(root)["severity"].tolist() == ["note"]
    assert class_table(data)["all"].iloc[:-1].sum() == pytest.approx(1)


def test_every_fault_is_found(root: Path) -> None:
    assert check_dataset(root).empty
    content = write_hyko2(root, HYKO2[0]).read_bytes()
    (root / f"{HYKO2[0]}.mat").write_bytes(content[: len(content) // 2])
    write_hyko2(root, HYKO2[1], bands=14)
    write_hyko2(root, HYKO2[2], **{LABELS: codes_of(HYKO2[2]) + np.uint8(9)})
    write_hyko2(root, HYKO2[3], **{LABELS: np.where(codes_of(HYKO2[3]) == 3, 2.5, 1)})
    write_hyko2(root, HYKO2[4], **{DATA: np.full((*SIZE, 15), np.nan, np.float32), LABELS: np.zeros(SIZE, np.uint8)})
    found = check_dataset(root).set_index("scene")["found"]
    assert found[HYKO2[0]].str.contains("damaged or cut short").all()
    assert "(6, 8, 14)" in found[HYKO2[1]]
    assert "unknown label codes [11, 12, 13, 14, 15]" in found[HYKO2[2]]
    assert "unknown label codes [2.5]" in found[HYKO2[3]]
    assert [words in " ".join(found[HYKO2[4]]) for words in ("not finite", "one value", "no pixel")] == [True] * 3
