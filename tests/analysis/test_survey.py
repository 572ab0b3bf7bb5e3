import numpy as np
import pytest
import torch
import xarray as xr
from networks import untouched
from planted import DEAD, NOISE, SKY, VEGETATION, Counted, planted, scene, scenes, sums, trained_like

from hsiutils.analysis.activations import activation_maps, head_table, observe, region_sums
from hsiutils.analysis.activations import contributions as head_contributions
from hsiutils.analysis.edges import border_probes, border_sums, edge_measures, edge_profiles
from hsiutils.analysis.receptive import effective_fields
from hsiutils.analysis.survey import PARTS, LastBlock, head_gap, skip_share, survey, to_margins
from hsiutils.attribution.hooks import activations
from hsiutils.data.classes import CLASSES
from hsiutils.models.unet import UNet, UNetConfig


@pytest.fixture(scope="module")
def pairs():
    return scenes(3)


@pytest.fixture(scope="module")
def subjects(pairs):
    """Two networks of one input, and one of an input with a channel less."""
    fewer = [(image[:2], truth) for image, truth in pairs]
    return [(planted(), pairs), (trained_like(1), pairs), (trained_like(2, channels=2), fewer)]


@pytest.fixture(scope="module")
def found(subjects):
    return survey(subjects, ["a", "b", "c"])


@pytest.mark.parametrize("number", range(3))
def test_what_is_kept_of_a_network_does_not_depend_on_the_company(number, subjects, found):
    (alone,) = survey([subjects[number]], ["a", "b", "c"])
    for kind, expected in alone.items():
        xr.testing.assert_identical(found[number][kind], expected)


def test_one_pass_gives_what_each_measure_gives_alone(subjects, found, pairs):
    model = subjects[1][0]
    for index, (image, truth) in enumerate(pairs):
        maps, _ = observe(model, image, ["conv2d_1", "conv2d_9"])
        head = found[1]["head"].isel(scene=index, drop=True)
        xr.testing.assert_allclose(
            head[["pixels", "total", "square"]], region_sums(maps["conv2d_9"], truth.numpy(), CLASSES)
        )
        edges = border_sums(maps["conv2d_1"], border_probes(truth.numpy(), CLASSES))
        xr.testing.assert_allclose(found[1]["edges"].isel(scene=index, drop=True), edges)
    xr.testing.assert_identical(found[1]["head"][["weight", "bias"]].drop_attrs(), head_table(model))
    assert found[1]["head"].attrs == {"layer": "conv2d_9", "after": True}
    assert found[1]["edges"].attrs == {"layer": "conv2d_1", "after": True}
    assert found[1]["head"]["scene"].values.tolist() == ["a", "b", "c"]
    for kept in found:
        assert (kept["head"]["gap"] < 1e-5).all()
        assert (kept["skip"]["gap"] < 1e-5).all()
        assert kept["head"]["gap"].dims == ("scene",)


def test_a_head_that_does_not_add_up_is_seen():
    model, image = trained_like(), scenes(1)[0][0]
    seen, head = head_contributions(model, image), head_table(model)
    maps, logits = seen["activation"].values, seen["logit"].values
    assert head_gap(head, maps, logits) < 1e-6
    assert head_gap(head.assign(weight=1.01 * head["weight"]), maps, logits) > 1e-3
    shifted = head.assign(bias=head["bias"] + np.abs(logits).max())
    assert head_gap(shifted, maps, logits) == pytest.approx(1, abs=1e-6)


def test_each_scene_is_read_once_for_each_input():
    pairs = Counted(scenes(2))
    survey([(planted(), pairs), (trained_like(), pairs)])
    assert pairs.reads == 2


@pytest.mark.parametrize(
    "look",
    [
        lambda model, pairs: survey([(model, pairs)]),
        lambda model, pairs: activation_maps(model, pairs[0][0][None]),
        lambda model, pairs: effective_fields(model, pairs, seed=0),
    ],
)
def test_looking_leaves_no_trace(look, pairs):
    model = trained_like().train()
    with untouched(model):
        look(model, pairs)
    assert not pairs[0][0].requires_grad


def test_subjects_must_see_the_same_scenes(pairs):
    with pytest.raises(ValueError, match=r"got \[2, 3\] scenes"):
        survey([(planted(), pairs), (planted(), pairs[:2])])
    with pytest.raises(ValueError, match=r"at least one; got \[\]"):
        survey([])
    other = [(image, torch.full_like(truth, VEGETATION)) for image, truth in pairs]
    with pytest.raises(ValueError, match="scene 0: networks are given different labels"):
        survey([(planted(), pairs), (planted(), other)])
    with pytest.raises(ValueError, match="networks must have the same classes"):
        survey([(planted(), pairs), (UNet(UNetConfig(channels=3, classes=6, depth=1, filters=4)), pairs)])
    with pytest.raises(ValueError, match="got one of depth 0"):
        survey([(UNet(UNetConfig(channels=3, depth=0, filters=4, class_names=CLASSES)), pairs)])


def margins(model, image):
    with torch.no_grad():
        logits = model(image[None])[0].double().numpy()
    return np.stack([own - np.delete(logits, index, axis=0).mean(axis=0) for index, own in enumerate(logits)])


def contributions(model, image):
    """Contributions of the halves and the biases to every margin: (part, class, y, x)."""
    block = LastBlock(model)
    with torch.no_grad(), activations(model, block.needs) as seen:
        model(image[None])
    return to_margins(block.split(seen)[..., : image.shape[1], : image.shape[2]])


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_halves_and_bias_are_the_margin_and_the_derivatives_along_each_half(depth):
    """The last block and the head as a function of both halves: a forward derivative along each of them."""
    model, (image, _) = trained_like(depth=depth), scene(0)
    found, whole = contributions(model, image), margins(model, image)
    assert len(found) == len(PARTS)
    assert abs(found.sum(axis=0) - whole).max() < 1e-5 * abs(whole).max()
    up, skip = LastBlock(model).needs[:2]
    with torch.no_grad(), activations(model, [up, skip]) as seen:
        model(image[None])
    halves, nothing = (seen[up], seen[skip]), torch.zeros_like(seen[up])

    def above(upsampled, carried):
        return model.head(model.decoder[-1].block(torch.cat([upsampled, carried], dim=1)))

    tangents = [(seen[up], nothing), (nothing, seen[skip])]
    logits = torch.cat([torch.func.jvp(above, halves, tangent)[1] for tangent in tangents])
    expected = to_margins(logits.detach().numpy()[..., :26, :39])
    np.testing.assert_allclose(found[:2], expected, atol=1e-5 * abs(expected).max())
    assert abs(expected).max(axis=(1, 2, 3)).min() > 0.01


def test_shares_and_means_are_those_of_a_loop_over_pixels():
    model, pairs = trained_like(), scenes(2)
    found = skip_share(sums(model, pairs, "skip"))
    parts, truth = [], []
    for image, labels in pairs:
        parts.append(contributions(model, image).reshape(3, 5, -1))
        truth.append(labels.numpy().ravel())
    values, labels = np.concatenate(parts, axis=2).astype(float), np.concatenate(truth)
    for region in range(5):
        inside = values[:, :, labels == region]
        size = np.abs(inside).sum(axis=2)
        np.testing.assert_allclose(found["share"][region], size[1] / (size[0] + size[1]), rtol=1e-5)
        np.testing.assert_allclose(found["mean"][region].T, inside.mean(axis=2), rtol=1e-4, atol=1e-6)


def test_edges_are_those_of_each_class_own_margin():
    found = sums(planted(), scenes(6), "skip_edges")
    assert list(found["class"].values) == list(CLASSES)
    assert list(found["channel"].values) == ["upsampled", "skip", "margin"]
    profiles = edge_profiles(found).sel({"class": "Vegetation"})
    slope = profiles["slope"].sel(channel="skip")
    assert abs(float(slope["distance"][slope.argmax("distance")])) < 2
    # With nothing from below, the skip half and the whole margin differ by the bias alone, which has no slope.
    np.testing.assert_allclose(slope, profiles["slope"].sel(channel="margin"), rtol=1e-4)
    assert profiles["slope"].sel(channel="upsampled").isnull().all()


def test_each_class_is_measured_on_its_own_margin():
    model, pairs = trained_like(), scenes(4)
    found = sums(model, pairs, "skip_edges").sel(channel=["margin"])
    expected = margins(model, pairs[0][0]).sum(axis=(1, 2))
    np.testing.assert_allclose(found["total"].isel(scene=0, channel=0), expected, rtol=1e-4, atol=1e-2)
    assert np.ptp(expected) > 1
    measures = edge_measures(found)
    assert measures.sizes == {"class": 5}
    assert (measures["noise"].dropna("class") > 0).all()


def from_below():
    """The planted network; the noise input is also pooled, brought up again, and speaks for Sky from there."""
    model = planted()
    with torch.no_grad():
        model.base.conv1.weight[0, NOISE, 1, 1] = model.base.conv2.weight[0, 0, 1, 1] = 1
        model.decoder[0].transpose.weight[0, 0] = 1
        model.decoder[0].block.conv1.weight[DEAD, 0, 1, 1] = 1  # the free channel
        model.head.weight[SKY, DEAD] = 2
    return model


def test_planted_halves_are_found():
    """Sky gets 2 from below, where the noise input is 1 on average, and nothing by the skip; Vegetation the reverse."""
    share = skip_share(sums(planted(), scenes(3), "skip"))["share"]  # where nothing comes up the skip is all
    assert share.sel({"class": "Vegetation", "region": "Vegetation"}) == 1
    assert set(share.values[np.isfinite(share.values)]) == {1.0}
    share = skip_share(sums(from_below(), scenes(4, noise=0.01), "skip"))
    mean = share["mean"].sel({"class": "Sky", "region": "Sky"})
    assert mean.sel(part="upsampled") == pytest.approx(2, rel=0.05)
    assert mean.sel(part="skip") == pytest.approx(0, abs=0.05)
    assert share["share"].sel({"class": "Sky", "region": "Sky"}) < 0.05
    assert share["share"].sel({"class": "Vegetation", "region": "Vegetation"}) > 0.7
