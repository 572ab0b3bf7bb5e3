"""Other people's tools take our network and our files as they are."""

from pathlib import Path

import captum.attr
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat
from torch import Tensor

from hsiutils.data.classes import HSI_DRIVE_CLASSES
from hsiutils.data.source import open_dataset
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.simulate import Simulation, write_dataset

CLASS, ROW, COLUMN = 2, 5, 3
LAST = "conv2d_9"
"""The last 3x3 convolution of a network of depth 2: what the head sees is its output after BN and ReLU."""


@pytest.fixture
def model() -> UNet:
    return UNet(UNetConfig(channels=4, depth=2, filters=4), torch.Generator().manual_seed(2)).eval()


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(1))


def seen_by_the_head(model: UNet, image: Tensor) -> Tensor:
    seen = {}
    handle = model.layer(LAST, after=True).register_forward_hook(lambda _m, _i, out: seen.update(out=out.detach()))
    model(image)
    handle.remove()
    return seen["out"]


def gradcam(model: UNet, image: Tensor, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """SegGradCAM at the last layer in closed form: alpha_k = w_ck |M| / Z (Selvaraju 2017, Vinogradova 2020)."""
    activations = seen_by_the_head(model, image)
    alpha = model.head.weight[CLASS, :, 0, 0].detach() * int(mask.sum()) / mask.size
    return torch.einsum("k,nkyx->nyx", alpha, activations)[0].numpy()


class TestCaptum:
    def test_gradients_of_one_pixel_in_one_line(self, model: UNet, image: Tensor) -> None:
        found = captum.attr.Saliency(model).attribute(image, target=(CLASS, ROW, COLUMN), abs=False)
        tracked = image.clone().requires_grad_()
        (expected,) = torch.autograd.grad(model(tracked)[0, CLASS, ROW, COLUMN], tracked)
        torch.testing.assert_close(found, expected)
        assert found.any()

    def test_layers_go_by_their_keras_names(self, model: UNet, image: Tensor) -> None:
        cam = captum.attr.LayerGradCam(model, model.layer(LAST, after=True))
        found = cam.attribute(image, target=(CLASS, ROW, COLUMN))[0, 0].detach().numpy()
        pixel = np.zeros(image.shape[2:], dtype=bool)
        pixel[ROW, COLUMN] = True
        np.testing.assert_allclose(found, gradcam(model, image, pixel), rtol=1e-4, atol=1e-7)
        assert np.ptp(found) > 0


class TestPytorchGradCam:
    def test_gradcam_of_a_region_in_one_line(self, model: UNet, image: Tensor) -> None:
        peer = pytest.importorskip(
            "pytorch_grad_cam", reason="grad-cam is not installed: it brings a torch of its own", exc_type=ImportError
        )
        from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget

        mask = np.zeros(image.shape[2:], dtype=bool)
        mask[2:5, 1:9] = True
        with peer.GradCAM(model=model, target_layers=[model.layer(LAST, after=True)]) as cam:
            found = cam(input_tensor=image, targets=[SemanticSegmentationTarget(CLASS, mask.astype(np.float32))])[0]
        expected = np.maximum(gradcam(model, image, mask), 0)
        assert expected.max() > 0
        # It stretches every map to 0..1, so what is left to compare is the form.
        expected = (expected - expected.min()) / np.ptp(expected)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_hyperseg_finds_every_file_of_a_simulated_set(tmp_path: Path) -> None:
    """It takes NAME from labels/NAME.png and loads `cube`, bands first, from cubes_fl32/NAME_TC.mat."""
    write_dataset(tmp_path, ["nf3122_147"], Simulation(tiles=(18, 34)), workers=1, progress=False)
    base, drive = tmp_path / "Image_dataset", open_dataset(tmp_path)
    names = [path.stem for path in (base / "labels").glob("*.png")]
    assert names == drive.names()
    for name in names:
        cube = loadmat(base / "cubes_fl32" / f"{name}_TC.mat")["cube"]
        np.testing.assert_array_equal(cube, drive.cube(name))
        with Image.open(base / "labels" / f"{name}.png") as image:
            np.testing.assert_array_equal(
                HSI_DRIVE_CLASSES.merge(np.asarray(image)), HSI_DRIVE_CLASSES.merge(drive.labels(name))
            )
