import copy
import json
from pathlib import Path

import pytest
import torch
from networks import shaken
from onnxruntime import InferenceSession
from safetensors.torch import load_file, save_file
from torch import nn

from hsiutils.models.files import load_model, save, save_onnx, save_program
from hsiutils.models.keras import write_keras
from hsiutils.models.unet import UNet, UNetConfig

SHAPE = (15, 22)  # no multiple of 4: padding and cropping are part of what is exported


@pytest.fixture(scope="module")
def model() -> UNet:
    return shaken(UNetConfig(channels=3, depth=2, filters=4), torch.float32)


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, *SHAPE, generator=torch.Generator().manual_seed(count))


def test_a_program_gives_the_same_logits_for_any_number_of_images(model: UNet, tmp_path: Path) -> None:
    """Torch alone reads it. A network in training is exported as it is used, and goes on training."""
    twin = copy.deepcopy(model).train()
    save_program(twin, tmp_path / "unet.pt2", SHAPE)
    assert [path.name for path in tmp_path.iterdir()] == ["unet.pt2"]
    assert twin.training
    assert isinstance(twin.base.norm1, nn.BatchNorm2d)
    program = torch.export.load(tmp_path / "unet.pt2").module()
    for count in (1, 2, 5):
        logits = program(images(count))
        assert logits.shape == (count, 5, *SHAPE)
        torch.testing.assert_close(logits, model(images(count)), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"unet\.pt: expected a name ending in \.pt2"):
        save_program(model, tmp_path / "unet.pt", SHAPE)


def test_onnx_runtime_gives_the_same_logits(model: UNet, tmp_path: Path) -> None:
    save_onnx(model, tmp_path / "unet.onnx", SHAPE)
    assert [path.name for path in tmp_path.iterdir()] == ["unet.onnx"]
    session = InferenceSession(str(tmp_path / "unet.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        (logits,) = session.run(["logits"], {"image": images(count).numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), model(images(count)), rtol=1e-5, atol=1e-5)


def test_saved_bytes_are_the_same_for_the_same_network(model, tmp_path):
    for name, layout in (("a", torch.contiguous_format), ("b", torch.channels_last)):
        save(copy.deepcopy(model).to(memory_format=layout), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_loading_damaged_files_is_a_clear_error(tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors: train"):
        load_model(path)
    save(UNet(UNetConfig(channels=3, depth=2, filters=4)), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        load_model(path)
    path.write_bytes(whole)
    state = load_file(path)
    save_file(state, path)
    with pytest.raises(ValueError, match="damaged or not a U-Net"):
        load_model(path)
    save_file(state, path, metadata={"unet": json.dumps({"channels": 4, "depth": 2, "filters": 4})})
    with pytest.raises(ValueError, match="arrays that are not those of its configuration, such as"):
        load_model(path)


def test_a_network_is_loaded_from_whatever_holds_it(model, tmp_path):
    save(model, tmp_path / "weights.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]
    write_keras(model, tmp_path / "authors.h5")
    for path in (tmp_path, tmp_path / "weights.safetensors", str(tmp_path / "authors.h5")):
        twin = load_model(path)
        assert twin.config == model.config
        assert not twin.training
        assert torch.equal(twin(images(2)), model(images(2)))
    assert load_model(tmp_path, class_names="abcde").config.names == tuple("abcde")
    with pytest.raises(ValueError, match="must be 5 names"):
        load_model(tmp_path, class_names=("a", "b"))
    with pytest.raises(ValueError, match="void_output is for Keras files"):
        load_model(tmp_path, void_output=0)
    with pytest.raises(FileNotFoundError, match=r"none\.keras"):
        load_model(tmp_path / "none.keras")
