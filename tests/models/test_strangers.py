"""What strangers bring: networks by file or by function, images by file."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hsiutils.models.examples import write_chain
from hsiutils.models.keras import write_keras
from hsiutils.models.strangers import open_image, open_network
from hsiutils.models.unet import UNet, UNetConfig

OBJECTS = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
"""Of the header of a .npy file that says that a pickle follows."""


def test_a_network_is_opened_by_what_it_is(tmp_path):
    write_keras(UNet(UNetConfig(channels=3, classes=2, depth=1, filters=2)), tmp_path / "authors.h5")
    assert isinstance(open_network(tmp_path / "authors.h5"), UNet)
    chain = open_network(write_chain(tmp_path / "chain.h5", size=(8, 12)))
    assert chain(torch.rand(1, 3, 8, 12)).shape == (1, 1, 8, 12)
    assert not open_network("hsiutils.models.examples:squeeze").training


def not_a_network():
    return nn.ReLU


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("net.pt2", FileNotFoundError, "no program at net.pt2"),
        ("net.h5", FileNotFoundError, "net.h5"),
        ("weights.pth", ValueError, r"weights\.pth: pickles run code .* package.module:function"),
        ("net.onnx", ValueError, r"a network is a program of torch.export .* got 'net.onnx'"),
        ("os; import sys:path", ValueError, "a network is"),
        ("no_such_package_here:make", ModuleNotFoundError, "no_such_package_here"),
        ("hsiutils.models.examples:nothing", ValueError, "examples has no function 'nothing'"),
        ("os:getcwd", ValueError, "os:getcwd returned a str, expected a torch.nn.Module"),
    ],
)
def test_what_is_no_network_is_said(where, error, message):
    with pytest.raises(error, match=message):
        open_network(where)


def test_a_keras_file_of_neither_kind_says_why_of_both(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"neither the authors' network \(.*\) nor a chain of layers \(.*\)"):
        open_network(tmp_path / "x.h5")


def test_an_image_is_numbers_as_they_are_or_a_picture_from_0_to_1(tmp_path):
    numbers = np.random.default_rng(0).normal(size=(5, 3, 4))
    np.save(tmp_path / "image.npy", numbers)
    np.testing.assert_array_equal(open_image(tmp_path / "image.npy"), numbers.astype(np.float32))
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    found = open_image(tmp_path / "picture.png")
    np.testing.assert_allclose(found, picture.transpose(2, 0, 1) / 255, rtol=1e-6)
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", np.array([[1.0]]), r"expected numbers \(channels, h, w\), got float64 \(1, 1\)"),
        ("x.npy", np.full((1, 2, 2), np.inf), "some values are not finite"),
        ("x.npy", b"\x93NUMPY\x01\x00" + len(OBJECTS).to_bytes(2, "little") + OBJECTS, "Python objects"),
        ("x.png", b"no picture", "x.png: cannot identify"),
        ("x.mat", b"", r"an image is \.npy or one of \.png"),
    ],
)
def test_what_is_no_image_is_said(tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(ValueError, match=message):
        open_image(path)
    with pytest.raises(FileNotFoundError, match="no image at"):
        open_image(tmp_path / "none.npy")
