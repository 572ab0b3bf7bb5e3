from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from hsiutils.data.classes import CLASSES
from hsiutils.data.inputs import FittedVariant, fit_variant, variant
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.models.files import load_trained
from hsiutils.models.keras import read_keras, write_keras
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper import published
from hsiutils.paper.published import input_variant, keep, read_published, remarks

PN = fit_variant(variant("25-PN"), [])


class Unread:
    """A data set of which nothing needs to be read: limits under PN are published."""

    sensor, units = HSI_DRIVE, "reflectance"

    def names(self, split: str) -> list[str]:
        return []


def written(path: Path, channels: int = 25, classes: int = 6, depth: int = 2) -> Path:
    config = UNetConfig(channels=channels, classes=classes, depth=depth, filters=2)
    write_keras(UNet(config, torch.Generator().manual_seed(classes)), path)
    return path


class TestHead:
    @pytest.mark.parametrize("depth", [2, 4])
    @pytest.mark.parametrize("name", ["model.h5", "model.weights.h5"])
    def test_void_goes_and_five_classes_stay(self, tmp_path: Path, name: str, depth: int) -> None:
        six, five = (written(tmp_path / f"{n}{name}", classes=n, depth=depth) for n in (6, 5))
        x = torch.randn(1, 25, 16, 32, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(read_published(six)(x), read_keras(six)(x)[:, 1:])
        torch.testing.assert_close(read_published(five)(x), read_keras(five)(x))
        assert read_published(six).config == UNetConfig(depth=depth, filters=2, class_names=CLASSES)

    @pytest.mark.parametrize("classes", [1, 4, 7, 11])
    def test_other_classes_are_refused(self, tmp_path: Path, classes: int) -> None:
        path = written(tmp_path / "model.h5", classes=classes)
        for ask in (read_published, lambda file: input_variant(file, ["25-PN"])):
            with pytest.raises(ValueError, match=rf"model\.h5: the head has {classes} outputs; expected 5 \(Road, "):
                ask(path)


class TestInput:
    @pytest.mark.parametrize(
        ("channels", "names", "taken"),
        [
            *((25, [name], name) for name in ("25", "25-PN", "25-PN@0.5", "all")),
            (3, ["1", "bands:3,4,5", "25-PN"], "bands:3,4,5"),
            (3, ["PCA-3", "3", "3-PN"], "3"),
            (26, ["25-PN+I", "25"], "25-PN+I"),
            *((size, [], name) for size, name in published.PAPERS.items()),
        ],
    )
    def test_of_those_named_the_one_that_fits_and_else_the_papers(
        self, tmp_path: Path, channels: int, names: list[str], taken: str
    ) -> None:
        assert input_variant(written(tmp_path / "model.h5", channels), names) == taken

    @pytest.mark.parametrize(
        ("channels", "names", "message"),
        [
            (25, ["3"], r"takes 25 channels. The variants named are: 3 of 3; none fits. .* such as 25-PN"),
            (4, ["1", "PCA-3"], r"takes 4 channels. .* 1 of 1, PCA-3 of 3; none fits. .* bands:0,1,... with 4 bands"),
            (4, [], r"takes 4 channels. The variants named are: none; none fits"),
            (3, ["PCA-3", "3-PN"], r"takes 3 channels. .* PCA-3 of 3, 3-PN of 3; several fit. "),
        ],
    )
    def test_what_does_not_fit_is_told_with_a_way_out(
        self, tmp_path: Path, channels: int, names: list[str], message: str
    ) -> None:
        with pytest.raises(ValueError, match=rf"model\.h5 {message}"):
            input_variant(written(tmp_path / "model.h5", channels), names)

    def test_the_papers_inputs_have_the_channels_that_they_stand_for(self) -> None:
        assert published.PAPERS == {1: "1", 3: "3", 25: "25-PN"}
        assert {published._channels(variant(name)): name for name in published.PAPERS.values()} == published.PAPERS


class TestKept:
    def test_it_loads_as_a_trained_network(self, tmp_path: Path) -> None:
        path, folder = written(tmp_path / "model.h5", depth=4), tmp_path / "kept"
        folder.mkdir()
        keep(folder, path, "25-PN", Unread())
        found = load_trained(folder)
        assert found.variant == PN  # clipped to the published limits and mapped to [-1, 1)
        assert (PN.low, PN.high) == ((0,) * 25, tuple(HSI_DRIVE.clip_max))
        assert found.model.config == UNetConfig(depth=4, filters=2, class_names=CLASSES)
        assert found.history["epoch"].tolist() == [0]
        x = torch.randn(1, 25, 16, 16, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(found.model(x), read_published(path)(x), rtol=0, atol=0)

    def test_another_number_of_channels_is_refused(self, tmp_path: Path) -> None:
        path = written(tmp_path / "model.h5", channels=3)
        with pytest.raises(ValueError, match=r"model\.h5 takes 3 channels, variant 25-PN has 25: name the input"):
            keep(tmp_path, path, "25-PN", Unread())
        assert [file.name for file in tmp_path.iterdir()] == ["model.h5"]

    def test_bad_files_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"none\.h5"):
            keep(tmp_path, tmp_path / "none.h5", "25-PN", Unread())
        (tmp_path / "text.h5").write_text("no HDF5")
        with pytest.raises(ValueError, match=r"text\.h5: cannot be read as a Keras file"):
            keep(tmp_path, tmp_path / "text.h5", "25-PN", Unread())
        with h5py.File(tmp_path / "dense.h5", "w") as file:
            file["dense/dense/kernel:0"], file["dense/dense/bias:0"] = np.zeros((3, 3)), np.zeros(3)
        with pytest.raises(ValueError, match=r"dense\.h5: layer dense has a kernel \(3, 3\): no U-Net"):
            input_variant(tmp_path / "dense.h5", [])


class TestRemarks:
    def test_size_input_and_limits_are_told(self, tmp_path: Path) -> None:
        said = "\n".join(remarks(written(tmp_path / "model.h5", depth=4), PN, "real"))
        assert "model.h5, not trained here; depth 4, 2 filters, 25 channels, 6 outputs, void left out" in said
        assert "input: 25-PN" in said
        assert "limits that the authors published" in said
        assert "simulated" not in said

    def test_unknown_limits_and_simulated_scenes_are_told(self, tmp_path: Path) -> None:
        learned = FittedVariant(variant("25"), PN.wavelengths_nm, (0.0,) * 25, (1.0,) * 25, 99.9)
        said = "\n".join(remarks(written(tmp_path / "model.h5", classes=5), learned, "simulated"))
        assert "5 outputs\n" in said
        assert "99.9 % point of this run's training scenes" in said
        assert "if it learned from real scenes, simulated ones" in said
