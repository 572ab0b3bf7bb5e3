from pathlib import Path

import numpy as np
import pytest
from tiny_hsi_drive import NAMES, codes_of, write_matlab_release

from hsiutils.classes import CLASSES, FREQUENCIES
from hsiutils.datainfo import class_table, condition_table, data_info
from hsiutils.dataset import HSIDrive, open_hsi_drive


@pytest.fixture
def drive(tmp_path: Path) -> HSIDrive:
    return open_hsi_drive(write_matlab_release(tmp_path))


def test_info_says_what_is_there(drive: HSIDrive) -> None:
    facts = data_info(drive)["value"]
    assert facts["origin"] == "real"
    assert facts["layout"] == "v2.0 MATLAB"
    assert facts["scenes"] == "5 (1 train, 1 val, 3 test)"
    assert facts["cubes"] == "25 bands, 564.4-956.1 nm, 4 x 6 pixels, reflectance"
    assert facts["raw frames"] == "0"
    assert facts["splits by"].startswith("HS3-Bench")


def test_own_lists_are_named_as_the_source_of_the_split(drive: HSIDrive) -> None:
    (drive.root / "Image_dataset" / "test_filenames.txt").write_text("\n".join(NAMES))
    assert data_info(open_hsi_drive(drive.root))["value"]["splits by"] == "the release's own lists"


def test_conditions_count_every_scene_once(drive: HSIDrive) -> None:
    table = condition_table(drive)
    assert table.loc[("season", "winter")].to_dict() == {"train": 0, "val": 0, "test": 3, "all": 3}
    assert table.loc[("scene", "road"), "all"] == 2
    assert (table["all"].groupby(level="condition").sum() == 5).all()


def test_class_shares_are_of_the_labelled_pixels(drive: HSIDrive) -> None:
    table = class_table(drive)
    codes = np.concatenate([codes_of(name).ravel() for name in NAMES])
    assert table.loc["Road", "all"] == pytest.approx((codes == 1).sum() / (codes > 0).sum())
    assert table.loc["Other", "all"] == pytest.approx(np.isin(codes, [4, 6, 7, 8, 9, 10]).sum() / (codes > 0).sum())
    assert table.loc["unlabelled, of all pixels", "all"] == pytest.approx((codes == 0).mean())
    assert table.loc[list(CLASSES), "train"].sum() == pytest.approx(1)
    assert table.loc[list(CLASSES), "published"].tolist() == list(FREQUENCIES)
