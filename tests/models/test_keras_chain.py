"""Chains of Keras layers: written as Keras writes them, and one of a stranger where it is at hand."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from hsiutils.attribution.decompose import decompose
from hsiutils.models.keras_chain import read_keras_chain

LANE = Path(__file__).parents[3] / "shared" / "data" / "lane_network" / "full_CNN_model.h5"
RNG = np.random.default_rng(0)
ARRAYS = {
    "norm": {"gamma": RNG.uniform(1, 2, 3), "beta": RNG.normal(size=3), "moving_mean": RNG.normal(size=3)}
    | {"moving_variance": RNG.uniform(1, 2, 3)},
    "conv": {"kernel": RNG.normal(size=(3, 3, 3, 4)), "bias": RNG.normal(size=4)},
    "up": {"kernel": RNG.normal(size=(3, 3, 2, 4)), "bias": RNG.normal(size=2)},
}
LAYERS = [
    ("BatchNormalization", {"name": "norm", "epsilon": 1e-3, "batch_input_shape": [None, 8, 12, 3]}),
    ("Conv2D", {"name": "conv", "activation": "relu", "padding": "same", "strides": [1, 1]}),
    ("MaxPooling2D", {"name": "pool", "pool_size": [2, 2], "strides": [2, 2]}),
    ("Dropout", {"name": "drop", "rate": 0.2}),
    ("UpSampling2D", {"name": "larger", "size": [2, 2]}),
    ("Conv2DTranspose", {"name": "up", "padding": "valid", "activation": "sigmoid"}),
]


def written(path, layers=LAYERS, arrays=ARRAYS, model="Sequential"):
    described = [{"class_name": kind, "config": settings} for kind, settings in layers]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": model, "config": described})
        for layer, roles in arrays.items():
            for role, values in roles.items():
                file[f"model_weights/{layer}/{layer}/{role}:0"] = values
    return path


def convolved(x, kernel, bias):
    """A full correlation by its definition, images channels last, the borders padded with zeros."""
    rows, columns = x.shape[0] - 2, x.shape[1] - 2
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (0, 1))  # (h', w', in, 3, 3)
    return np.einsum("yxiab,abio->yxo", windows, kernel).reshape(rows, columns, -1) + bias


def test_a_chain_is_computed_as_keras_defines_it(tmp_path):
    model = read_keras_chain(written(tmp_path / "chain.h5")).double()
    assert model.input_shape == (3, 8, 12)
    x = RNG.normal(size=(8, 12, 3))
    norm, conv, up = ARRAYS.values()
    y = (x - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-3) * norm["gamma"] + norm["beta"]
    y = np.maximum(convolved(np.pad(y, ((1, 1), (1, 1), (0, 0))), **conv), 0)
    y = y.reshape(4, 2, 6, 2, 4).max((1, 3)).repeat(2, 0).repeat(2, 1)
    flipped = up["kernel"][::-1, ::-1].transpose(0, 1, 3, 2)  # a transposed convolution is a full one, turned round
    y = convolved(np.pad(y, ((2, 2), (2, 2), (0, 0))), flipped, up["bias"])
    found = model(torch.as_tensor(x).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(found.detach(), y, rtol=1e-5, atol=1e-5)  # weights are kept in float32
    assert [name for name, _ in model.named_children()] == ["norm", "conv", "conv_relu", "pool", "larger", "up"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({5: ("Conv2DTranspose", {"name": "up", "padding": "same", "strides": [2, 2]})}, "layer up .* padding 'same'"),
        ({1: ("Conv2D", {"name": "conv", "activation": "sigmoid"})}, "layer conv has the activation sigmoid"),
        ({3: ("LSTM", {"name": "memory"})}, "layer memory is LSTM, which this reader does not know"),
        ({2: ("MaxPooling2D", {"name": "pool", "pool_size": [2, 2], "padding": "same"})}, "pool .* has padding 'same'"),
        ({1: ("Conv2D", {"name": "other"})}, "layer other .* no kernel"),
    ],
)
def test_what_is_not_known_is_refused_by_name(tmp_path, changed, message):
    layers = [changed.get(number, layer) for number, layer in enumerate(LAYERS)]
    with pytest.raises(ValueError, match=message):
        read_keras_chain(written(tmp_path / "chain.h5", layers))


def test_branches_weights_alone_and_other_files_are_refused(tmp_path):
    path = written(tmp_path / "chain.h5")
    with h5py.File(path, "a") as file:
        described = json.loads(file.attrs["model_config"])
        for layer, before in zip(described["config"], ["", "norm", "norm", "pool", "drop", "larger"], strict=True):
            layer["inbound_nodes"] = [[[before, 0, 0, {}]]] if before else []
        file.attrs["model_config"] = json.dumps({"config": {"layers": described["config"]}})
    with pytest.raises(ValueError, match="layer pool reads norm, not conv: only chains"):
        read_keras_chain(path)
    with h5py.File(path, "a") as file:
        del file.attrs["model_config"]
    with pytest.raises(ValueError, match="these are weights alone"):
        read_keras_chain(path)
    path.write_bytes(b"no file of HDF5")
    with pytest.raises(ValueError, match="cannot be read as a Keras file"):
        read_keras_chain(path)
    with pytest.raises(FileNotFoundError):
        read_keras_chain(tmp_path / "none.h5")


@pytest.mark.skipif(not LANE.is_file(), reason="the lane network of a stranger is not beside this checkout")
def test_the_lane_network_of_a_stranger_closes():
    """A network for 80 x 160 pixels of a road, by mvirgo (MLND-Capstone); a smaller image will do."""
    model = read_keras_chain(LANE)
    assert model.input_shape == (3, 80, 160)
    image = torch.rand(3, 80, 160, generator=torch.Generator().manual_seed(0)) * 255
    assert model(image[None]).shape == (1, 1, 80, 160)
    for dtype in (torch.float32, torch.float64):
        found = decompose(model.to(dtype), image.to(dtype), biases="layers")
        assert found.closes
        assert found.exact
        assert found.computed == str(dtype).removeprefix("torch.")
