from pathlib import Path

import pytest
import torch
from onnxruntime import InferenceSession
from torch import nn
from torch.export import ExportedProgram

from hsiutils.models.files import export_program, save_onnx, save_program
from hsiutils.models.unet import UNet, UNetConfig

SHAPE = (15, 22)  # no multiple of 4: padding and cropping are part of what is exported


@pytest.fixture(scope="module")
def model() -> UNet:
    model = UNet(UNetConfig(channels=3, depth=2, filters=4))
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.bias.data.uniform_(0.2, 1.0, generator=generator)
    return model.eval()


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
