import copy
import json
from pathlib import Path

import pytest
import torch
from networks import shaken
from onnxruntime import InferenceSession
from safetensors.torch import load_file, save_file
from torch import nn
from torch.export import ExportedProgram

from hsiutils.models.files import export_program, load_model, save, save_onnx, save_program
from hsiutils.models.keras import write_keras
from hsiutils.models.unet import UNet, UNetConfig

SHAPE = (15, 22)  # no multiple of 4: padding and cropping are part of what is exported


@pytest.fixture(scope="module")
def model() -> UNet:
    return shaken(UNetConfig(channels=3, depth=2, filters=4), torch.float32)


@pytest.fixture(scope="module")
def program(model: UNet) -> ExportedProgram:
    return export_program(model, SHAPE)


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, *SHAPE, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_program_gives_the_same_logits_for_any_number_of_images(
    model: UNet, program: ExportedProgram, count: int
) -> None:
    logits = program.module()(images(count))
    assert logits.shape == (count, 5, *SHAPE)
    torch.testing.assert_close(logits, model(images(count)), rtol=1e-5, atol=1e-5)


def test_a_network_in_training_is_exported_as_it_is_used(model: UNet) -> None:
    """Without dropout, with the stored statistics; and it goes on training."""
    model.train()
    try:
        program = export_program(model, SHAPE).module()
        assert model.training
        assert isinstance(model.base.norm1, nn.BatchNorm2d)
    finally:
        model.eval()
    torch.testing.assert_close(program(images(2)), model(images(2)), rtol=1e-5, atol=1e-5)


def test_saved_program_is_read_by_torch_alone(model: UNet, tmp_path: Path) -> None:
    save_program(model, tmp_path / "unet.pt2", SHAPE)
    program = torch.export.load(tmp_path / "unet.pt2")
    torch.testing.assert_close(program.module()(images(3)), model(images(3)), rtol=1e-5, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["unet.pt2"]


def test_onnx_runtime_gives_the_same_logits(model: UNet, tmp_path: Path) -> None:
    save_onnx(model, tmp_path / "unet.onnx", SHAPE)
    assert [path.name for path in tmp_path.iterdir()] == ["unet.onnx"]
    session = InferenceSession(str(tmp_path / "unet.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        (logits,) = session.run(["logits"], {"image": images(count).numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), model(images(count)), rtol=1e-5, atol=1e-5)


def test_names_must_say_what_is_written(model: UNet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unet\.pt: expected a name ending in \.pt2"):
        save_program(model, tmp_path / "unet.pt", SHAPE)


def test_save_and_load(model, tmp_path):
    save(model, tmp_path / "weights.safetensors")
    twin = load_model(tmp_path / "weights.safetensors")
    assert twin.config == model.config
    assert not twin.training
    assert torch.equal(twin(images(2)), model(images(2)))
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


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
    with pytest.raises(ValueError, match="size mismatch"):
        load_model(path)


def test_a_network_is_loaded_from_whatever_holds_it(model, tmp_path):
    save(model, tmp_path / "weights.safetensors")
    write_keras(model, tmp_path / "authors.h5")
    for path in (tmp_path, tmp_path / "weights.safetensors", str(tmp_path / "authors.h5")):
        assert torch.equal(load_model(path)(images(1)), model(images(1)))
    assert load_model(tmp_path, class_names="abcde").config.names == tuple("abcde")
    with pytest.raises(ValueError, match="expected 5 names"):
        load_model(tmp_path, class_names=("a", "b"))
    with pytest.raises(ValueError, match="void_output is for Keras files"):
        load_model(tmp_path, void_output=0)
    with pytest.raises(FileNotFoundError, match=r"none\.keras"):
        load_model(tmp_path / "none.keras")
