import copy

import numpy as np
import pytest
import torch
from planted import DEAD, NOISE, RED_EDGE, Counted, planted, scenes, trained_like

from hsiutils.analysis.activations import activation_maps
from hsiutils.analysis.correlation import Correlated, Features, assign, counterparts, matched_matrix, moments

ORDER = [2, 0, 3, 1]


def lively(seed=0, **size):
    """Channels that all vary."""
    model = trained_like(seed, **size)
    with torch.no_grad():
        model.decoder[-1].block.norm2.bias.fill_(1.0)
    return model


def permuted(model, scale=1.0):
    """The same function with the channels before the head in another order, and larger."""
    twin = copy.deepcopy(model)
    block = twin.decoder[-1].block
    with torch.no_grad():
        for tensor in (block.conv2.weight, block.conv2.bias):
            tensor.copy_(tensor[ORDER])
        for name, tensor in block.norm2.state_dict().items():
            if tensor.ndim:
                tensor.copy_(tensor[ORDER] * (scale if name in ("weight", "bias") else 1))
    return twin


def columns(model, pairs, layer=None):
    """All activations in memory: (channels, pixels of all scenes), float64."""
    maps = activation_maps(model, torch.stack([image for image, _ in pairs]), layer).values
    return np.moveaxis(maps, 1, 0).reshape(maps.shape[1], -1).astype(float)


def sums_of(pairs=None, **models):
    pairs = scenes(4) if pairs is None else pairs
    return moments({name: Features(model, pairs) for name, model in models.items()})


def test_streamed_correlation_is_that_of_all_pixels_in_memory():
    pairs, a, b = scenes(3), lively(0), lively(1)
    found = Correlated.of(sums_of(pairs, a=a, b=b)).matrix("a", "b")
    expected = np.corrcoef(columns(a, pairs), columns(b, pairs))[:4, 4:]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dims == ("channel_a", "channel_b")


def test_a_channel_permuted_copy_matches_wholly():
    model = lively()
    sums = sums_of(a=model, b=permuted(model, scale=3.0))
    matrix = matched_matrix(sums, "a", "b")
    assert dict(zip(matrix["channel_b"].values, matrix["channel_a"].values, strict=True)) == dict(enumerate(ORDER))
    assert np.diag(matrix) == pytest.approx(np.ones(4))
    figures = Correlated.of(sums).alike("a", "b")
    assert figures["matched"] == pytest.approx(1)
    assert figures["cka"] == pytest.approx(1)
    assert figures["random_pairing"] < 0.9


def test_cka_is_the_definition_by_gram_matrices():
    """HSIC of centred linear kernels over pixels (Kornblith 2019); few enough to write the Gram matrices down."""
    pairs = [(image[:, :8, :10], truth[:8, :10]) for image, truth in scenes(2)]
    a, b = lively(0), lively(1)
    found = Correlated.of(sums_of(pairs, a=a, b=b)).alike("a", "b")["cka"]
    grams = []
    for model in (a, b):
        values = columns(model, pairs)
        centred = values - values.mean(axis=1, keepdims=True)
        grams.append(centred.T @ centred)
    expected = np.sum(grams[0] * grams[1]) / np.sqrt(np.sum(grams[0] ** 2) * np.sum(grams[1] ** 2))
    assert found == pytest.approx(expected, rel=1e-5)


def test_matching_is_optimal_not_greedy():
    matrix = np.array([[0.9, 0.8, 0, 0], [0.8, 0.1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert matrix[assign(matrix)].tolist() == [0.8, 0.8, 1, 1]


def test_channels_that_never_vary_are_nan_in_spite_of_rounding_and_left_out():
    sums = sums_of(a=planted(), b=planted())
    correlated = Correlated.of(sums)
    matrix = correlated.matrix("a", "b")
    assert matrix.sel(channel_a=DEAD).isnull().all()
    assert matrix.sel(channel_b=DEAD).isnull().all()
    assert matrix.isnull().sum() == 7
    assert matched_matrix(sums, "a", "b").shape == (3, 3)
    assert correlated.alike("a", "b")["matched"] == pytest.approx(1)
    constant, dead = lively(), planted()
    with torch.no_grad():
        constant.decoder[-1].block.norm2.weight[1] = 0
        dead.decoder[0].block.conv2.weight.zero_()
    matrix = Correlated.of(sums_of(a=constant, b=lively(1))).matrix("a", "b")
    assert matrix.isnull().all("channel_b").values.tolist() == [False, True, False, False]
    figures = Correlated.of(sums_of(a=dead, b=dead)).alike("a", "b")
    assert all(np.isnan(figures[name]) for name in ("matched", "random_pairing", "cka"))


def test_shared_features_are_found_and_independent_noise_is_not():
    """Two sources of the planted network on the same scenes with noise of their own."""
    clean, noisy = scenes(6), scenes(6)
    generator = torch.Generator().manual_seed(9)
    for image, _ in noisy:
        image[2] = 1 + 0.2 * torch.randn(image[2].shape, generator=generator)
    sums = moments({"a": Features(planted(), clean), "b": Features(planted(), noisy)})
    found = counterparts(sums, "a", ["b", "a"])
    assert found.sel(other="b", channel=RED_EDGE) == pytest.approx(1)
    assert abs(found.sel(other="b", channel=NOISE)) < 0.05
    assert found.sel(other="a", channel=NOISE) == pytest.approx(1)
    assert found.sel(channel=DEAD).isnull().all()


@pytest.mark.parametrize("shuffle", ["moved", "other scene"])
def test_shuffled_scenes_are_a_null(shuffle):
    pairs = scenes(12)
    sources = {"a": Features(planted(), pairs), "b": Features(planted(), pairs, shuffle)}
    null, same = (Correlated.of(moments(sources, seed=3)).alike("a", b) for b in ("b", "a"))
    assert same["matched"] == pytest.approx(1)
    assert null["matched"] < 0.3
    assert null["cka"] < 0.4


def test_moving_keeps_every_value_and_is_seeded():
    pairs = scenes(3)
    sources = {"a": Features(lively(), pairs), "b": Features(lively(), pairs, "moved")}
    first, second, other = (moments(sources, seed=seed) for seed in (1, 1, 2))
    total = first["total"].values.reshape(3, 2, 4)
    np.testing.assert_allclose(total[:, 0], total[:, 1])
    assert first.identical(second)
    assert not first.equals(other)


def test_networks_of_different_width_pair_what_they_can():
    sums = sums_of(a=lively(), b=lively(1, filters=6))
    correlated = Correlated.of(sums)
    assert matched_matrix(sums, "a", "b").shape == correlated.matrix("a", "b").shape == (4, 6)
    assert np.isfinite(correlated.matches("b", "a")).sum() == 4
    assert correlated.alike("a", "b") == pytest.approx(correlated.alike("b", "a"))


def test_wrong_requests_are_clear_errors():
    small = [(image[:, :8, :8], truth[:8, :8]) for image, truth in scenes(2)]
    with pytest.raises(ValueError, match=r"'a': 2, 'b': 3"):
        moments({"a": Features(lively(), scenes(2)), "b": Features(lively(), scenes(3))})
    with pytest.raises(ValueError, match="differ in size"):
        moments({"a": Features(lively(), scenes(2)), "b": Features(lively(), small)})
    with pytest.raises(ValueError, match="shuffle must be"):
        Features(lively(), small, "turned")
    with pytest.raises(ValueError, match="at least two scenes"):
        Features(lively(), scenes(1), "other scene")
    with pytest.raises(ValueError, match="got 1 names for 2"):
        moments({"a": Features(lively(), small)}, names=["x"])
    with pytest.raises(KeyError, match="no source 'c'; there are a, b"):
        Correlated.of(sums_of(small, a=lively(), b=lively(1))).matrix("a", "c")


def test_networks_and_nulls_share_images_and_forward_passes():
    pairs, passes = Counted(scenes(3)), []
    one, other = lively(0), lively(1)
    one.register_forward_hook(lambda *_: passes.append(1))
    moments({"a": Features(one, pairs), "moved": Features(one, pairs, "moved"), "b": Features(other, pairs)})
    assert pairs.reads == 3
    assert len(passes) == 3
