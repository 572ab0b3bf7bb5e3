import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from other_kinds import cityscapes_set, hsicity_set, hyko2_set, rgb_set
from tiny_hsi_drive import NAMES, TILES, write_matlab_release

import hsiutils as hu
from hsiutils.data.classes import VOID
from hsiutils.data.layouts import DatasetError
from hsiutils.data.source import fingerprint, open_dataset
from hsiutils.models.recipe import Recipe


class TestFingerprint:
    def test_sees_names_sizes_times_and_first_bytes(self, tmp_path: Path) -> None:
        found = []
        for texts, time in (("12", 2), ("12", 1), ("21", 1)):  # other times; swapped, as a rename would
            for name, text in zip("ab", texts, strict=True):
                (tmp_path / name).write_text(text)
                os.utime(tmp_path / name, ns=(time, time))
            found.append(fingerprint(tmp_path))
            assert fingerprint(tmp_path) == found[-1]
        (tmp_path / "c").write_text("")
        found.append(fingerprint(tmp_path))
        assert len(set(found)) == 4
        with pytest.raises(FileNotFoundError, match="is not a folder"):
            fingerprint(tmp_path / "nowhere")

    def test_follows_links_also_in_a_circle(self, tmp_path: Path) -> None:
        for folder in (root := tmp_path / "set", far := tmp_path / "far"):
            folder.mkdir()
        (far / "labels.png").write_text("1")
        (root / "labels").symlink_to(far)
        (far / "again").symlink_to(root)
        (root / "nowhere").symlink_to(tmp_path / "absent")
        before = fingerprint(root)
        assert fingerprint(root) == before
        (far / "labels.png").write_text("2!")
        assert fingerprint(root) != before


def test_a_data_set_opens_without_torch(tmp_path: Path) -> None:
    write_matlab_release(tmp_path)
    code = f"""
import sys
import hsiutils.data
from hsiutils.data.inputs import fit_inputs
from hsiutils.data.source import open_dataset
data = open_dataset({str(tmp_path)!r})
assert data.cube({NAMES[0]!r}).shape == (25, *{TILES})
scenes = data.scenes("test", fit_inputs("25-PN", data))
found = {{"torch", "captum", "holoviews", "bokeh", "hsiutils.simulate"}} & set(sys.modules)
assert not found, found
assert scenes[0][0].shape == (25, *{TILES})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("make", "spec"),
    [
        *((hyko2_set, spec) for spec in ("all", "bands:1,2-PN+I")),
        *((rgb_set, spec) for spec in ("all-PN", "PCA-3")),
        *zip([cityscapes_set, hsicity_set], ["all-PN", "PCA-3"], strict=True),
    ],
)
def test_other_kinds_are_trained_scored_and_audited_on(make, spec: str, tmp_path: Path) -> None:
    """The whole front door: the classes that the data set brings are those of network, scores and residuals."""
    data = hu.open_dataset(make(tmp_path / "set"))
    inputs = hu.fit_inputs(spec, data)
    small, short = hu.UNetConfig(depth=1, filters=2), Recipe(epochs=1, batch=1)
    model = hu.train(data, inputs, tmp_path / "network", config=small, recipe=short, progress=False)
    assert model.config.class_names == data.classes.names
    scenes = data.scenes("test", inputs)
    x, y = scenes[0]
    assert (x.shape, x.dtype, y.dtype) == ((inputs.channels, *y.shape), torch.float32, torch.int64)
    assert -1 <= float(x.min()) < float(x.max()) < 1
    counted = hu.evaluate(model, scenes)["confusion"]
    assert counted["truth"].values.tolist() == list(data.classes.names)
    assert int(counted.sum()) == int((y != VOID).sum())
    found = hu.audit(model, x, methods=["linear decomposition", "GradCAM"])
    assert found["class"].values.tolist() == list(data.classes.names)
    assert (found.sizes["y"], found.sizes["x"]) == y.shape


def test_nothing_known_says_what_is_expected_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(DatasetError, match=r"(?s)HSIDrive: .*cubes_fl32.*HyKo2: .*RGBFolder: .*found in it: notes/"):
        open_dataset(tmp_path)


def test_an_option_that_a_kind_does_not_take_is_named(tmp_path: Path) -> None:
    write_matlab_release(tmp_path)
    with pytest.raises(DatasetError, match=r"HSIDrive, which takes \['layout', 'sensor'\], got \['classes'\]"):
        open_dataset(tmp_path, classes="mine.yaml")
