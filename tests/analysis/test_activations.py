import numpy as np
import pytest
import torch
from planted import DEAD, EDGES, NOISE, RED_EDGE, SPECTRA, planted, scene, scenes, trained_like

from hsiutils.analysis import activation_maps, last_layer, region_statistics
from hsiutils.data.classes import VOID
from hsiutils.models.unet import UNetConfig


def test_last_layer_is_the_papers():
    assert last_layer(UNetConfig()) == "conv2d_21"


@pytest.mark.parametrize("layer", ["conv2d_1", "conv2d_5"])
def test_planted_channels_show_what_was_planted(layer):
    image = scene(1)[0].numpy()
    maps = activation_maps(planted(), torch.from_numpy(image)[None], layer).isel(scene=0).values
    inside = (slice(1, -1), slice(1, -1))
    edge = np.clip(image[1] - image[0], 0, None)
    across = np.abs(np.gradient(image[:2].sum(0), axis=1)) * 2
    np.testing.assert_allclose(maps[RED_EDGE], edge, atol=1e-6)
    np.testing.assert_allclose(maps[EDGES][inside], across[inside], atol=1e-5)
    np.testing.assert_allclose(maps[NOISE], image[2].clip(min=0), atol=1e-6)
    assert not maps[DEAD].any()


def test_before_and_after_differ_by_normalisation_and_relu():
    model, image = trained_like(), scene(0)[0]
    before, after = (activation_maps(model, image[None], "conv2d_9", after).values for after in (False, True))
    norm = model.decoder[-1].block.norm2
    scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach().numpy()[:, None, None]
    shift, mean = (value.detach().numpy()[:, None, None] for value in (norm.bias, norm.running_mean))
    np.testing.assert_allclose(after[0], np.maximum((before[0] - mean) * scale + shift, 0), atol=1e-5)
    assert before.min() < 0 == after.min()


def test_coarse_layers_are_cropped_to_the_image_and_know_where_they_are():
    maps = activation_maps(trained_like(), scene(0)[0][None], "conv2d_5")
    assert maps.sizes == {"scene": 1, "channel": 16, "y": 7, "x": 10}
    assert list(maps["y"].values[:2]) == [1.5, 5.5]
    assert maps.attrs == {"layer": "conv2d_5", "after": True}


def test_looking_leaves_no_trace():
    model = trained_like().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    activation_maps(model, scene(0)[0][None])
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_region_sums_are_those_of_a_loop_over_pixels():
    model, pairs = trained_like(), scenes(2)
    found = region_statistics(model, pairs, "conv2d_1", names=["a", "b"])
    maps = activation_maps(model, torch.stack([image for image, _ in pairs]), "conv2d_1").values.astype(float)
    for number, (_, truth) in enumerate(pairs):
        for region in range(5):
            inside = maps[number][:, truth.numpy() == region]
            one = found.isel(scene=number, region=region)
            assert one["pixels"] == inside.shape[1]
            np.testing.assert_allclose(one["total"], inside.sum(1))
            np.testing.assert_allclose(one["square"], (inside**2).sum(1))


def test_unlabelled_pixels_are_in_no_region():
    pairs = scenes(1)
    assert region_statistics(planted(), pairs)["pixels"].sum() == (pairs[0][1] != VOID).sum()


def test_any_partition_will_do():
    image, _ = scene(0)
    halves = torch.zeros(image.shape[1:], dtype=torch.int64)
    halves[13:] = 1
    found = region_statistics(planted(), [(image, halves)], regions=["upper", "lower"])
    assert found["pixels"].values.tolist() == [[13 * 39, 13 * 39]]


def test_red_edge_of_the_regions_is_that_of_the_spectra():
    found = region_statistics(planted(), scenes(3)).sum("scene")
    mean = found["total"].sel(channel=RED_EDGE) / found["pixels"]
    np.testing.assert_allclose(mean, np.clip(SPECTRA[:, 1] - SPECTRA[:, 0], 0, None), atol=1e-6)


def test_coarse_layers_have_no_labels():
    with pytest.raises(ValueError, match="conv2d_3 is 2 times coarser"):
        region_statistics(trained_like(), scenes(1), "conv2d_3")


def test_unknown_layers_are_errors_that_list_the_known():
    with pytest.raises(KeyError, match=r"conv2d_99.*conv2d_10"):
        activation_maps(trained_like(), scene(0)[0][None], "conv2d_99")


def test_one_image_is_no_batch():
    with pytest.raises(ValueError, match="images must be"):
        activation_maps(planted(), scene(0)[0])


def test_images_need_a_name_each():
    with pytest.raises(ValueError, match="got 2 names for 1 images"):
        activation_maps(planted(), scene(0)[0][None], names=["a", "b"])
