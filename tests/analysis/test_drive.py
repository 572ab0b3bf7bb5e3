import numpy as np
import pytest
import torch
import xarray as xr
from planted import (
    DEAD,
    EDGES,
    NOISE,
    RED_EDGE,
    ROAD,
    VEGETATION,
    planted,
    scenes,
    trained_like,
    vegetation_head,
)

from hsiutils.analysis import class_means, contributions, drive, evidence, head_table, homogeneity, region_statistics
from hsiutils.analysis.activations import margin_weights


def driven(model, pairs, **settings):
    return drive(evidence(head_table(model), region_statistics(model, pairs), **settings))


def test_evidence_is_the_positive_part_of_each_channels_contribution_pixel_by_pixel():
    model, (image, truth) = trained_like(), scenes(1)[0]
    found = evidence(head_table(model), region_statistics(model, [(image, truth)]), margin=False)
    parts = contributions(model, image)["contribution"].values.astype(float)
    for region in range(5):
        inside = parts[:, :, truth.numpy() == region]
        np.testing.assert_allclose(found["positive"][0, region], inside.clip(min=0).sum((1, 2)), rtol=1e-5)
        np.testing.assert_allclose(found["negative"][0, region], inside.clip(max=0).sum((1, 2)), rtol=1e-5)


def road_head(vegetation):
    """Road is driven by the noise input, which is 1 everywhere on average, and so much by vegetation's red edge."""
    head = np.zeros((5, 4))
    head[ROAD, NOISE] = 1
    head[ROAD, RED_EDGE] = vegetation
    return head


def test_planted_drive_is_found():
    """The red edge of vegetation is 0.55: 1 + 2 x 0.55 on vegetation, against 1 on road."""
    found = driven(planted(road_head(2.0)), scenes(20, noise=0.01))
    assert found["ratio"] == pytest.approx(1 + 2 * 0.55, rel=1e-3)
    assert found["balance"] == pytest.approx(1)


def test_a_blind_network_has_ratio_one_and_the_share_of_the_area():
    found = driven(planted(road_head(0.0)), scenes(20, noise=0.01))
    assert found["ratio"] == pytest.approx(1, rel=1e-3)
    assert found["share"] == pytest.approx(found["area"].item(), rel=1e-3)


def test_a_network_that_holds_vegetation_against_road_is_balanced_so():
    """Per vegetation pixel 1 for Road, and 4 x 0.55 against it."""
    found = driven(planted(road_head(-4.0)), scenes(20, noise=0.01))
    assert found["ratio"] == pytest.approx(1, rel=1e-3)
    assert found["balance"] == pytest.approx((1 - 2.2) / (1 + 2.2), rel=1e-2)


def test_where_road_does_not_speak_for_itself_there_is_nothing_to_compare_with():
    found = driven(planted(-road_head(2.0)), scenes(2))
    assert np.isnan(found["ratio"])
    assert np.isnan(driven(planted(road_head(2.0)), scenes(20, noise=0.01))["placement"])


def test_placement_is_that_of_the_networks_own_margins():
    pairs = scenes(4)
    model = seeing_road(pairs)
    truth = np.concatenate([truth.numpy().ravel() for _, truth in pairs])
    with torch.no_grad():
        logits = np.concatenate([model(image[None])[0].flatten(1).double().numpy() for image, _ in pairs], axis=1)
    margin = logits[ROAD] - np.delete(logits, ROAD, axis=0).mean(axis=0)
    road, marks, vegetation, sky, other = (margin[truth == region].mean() for region in range(5))
    rest = np.mean([marks, sky, other])
    assert road > rest
    assert driven(model, pairs)["placement"] == pytest.approx((vegetation - rest) / (road - rest), rel=1e-4)


def seeing_road(pairs):
    """A random network whose Road weights point from the mean of the classes to road."""
    model = trained_like()
    means = class_means(region_statistics(model, pairs)).values
    with torch.no_grad():
        model.head.weight[ROAD, :, 0, 0] = torch.from_numpy(means[ROAD] - means.mean(axis=0)) * 100
    return model


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_figures_do_not_know_the_scale_of_the_logits(factor):
    pairs = scenes(3)
    plain, scaled = (driven(planted(road_head(2.0) * size), pairs) for size in (1.0, factor))
    xr.testing.assert_allclose(plain, scaled, rtol=1e-5)


def test_margins_do_not_know_what_all_logits_share_and_plain_weights_do():
    pairs, shared = scenes(3), np.array([3.0, 0.0, 1.0, 0.0])
    heads = road_head(2.0), road_head(2.0) + shared
    first, second = (driven(planted(head), pairs) for head in heads)
    xr.testing.assert_allclose(first, second, rtol=1e-5)
    plain, moved = (driven(planted(head), pairs, margin=False)["ratio"] for head in heads)
    assert plain != pytest.approx(moved.item(), rel=0.1)
    assert margin_weights(head_table(planted(heads[0]))).sel({"class": "Road", "channel": NOISE}) == 1


def test_models_side_by_side_keep_their_own_figures():
    pairs = scenes(4)
    found = [evidence(head_table(m), region_statistics(m, pairs)) for m in map(planted, (road_head(0), road_head(2.0)))]
    both = drive(xr.concat(found, dim="model"))["ratio"]
    assert both[0] < 1.2
    assert both[1] > 1.8


def test_source_and_target_are_not_exchanged():
    """Vegetation speaks twice as loud for Road as road does; road says nothing for Vegetation."""
    head = road_head(2.0)
    head[VEGETATION, RED_EDGE] = 9
    found = evidence(head_table(planted(head)), region_statistics(planted(head), scenes(8)), margin=False)
    assert drive(found, source="Vegetation", target="Road")["ratio"] == pytest.approx(2.1, rel=0.05)
    assert drive(found, source="Road", target="Vegetation")["ratio"] == pytest.approx(0, abs=1e-6)


def test_what_is_constant_on_every_region_is_wholly_between_them():
    found = homogeneity(region_statistics(planted(), scenes()))
    assert found["between"].sel(channel=RED_EDGE) == pytest.approx(1)
    assert found["variation"].sel(channel=RED_EDGE, region="Vegetation") == pytest.approx(0, abs=1e-3)


def test_noise_has_its_own_coefficient_of_variation_and_lies_inside_regions():
    found = homogeneity(region_statistics(planted(), scenes(8, noise=0.2)))
    np.testing.assert_allclose(found["variation"].sel(channel=NOISE), 0.2, rtol=0.05)
    assert found["between"].sel(channel=NOISE) < 0.01
    assert found["between"].sel(channel=EDGES) < 0.2


def test_a_dead_channel_is_neither():
    found = homogeneity(region_statistics(planted(), scenes(2))).sel(channel=DEAD)
    assert np.isnan(found["between"])
    assert found["variation"].isnull().all()


def test_homogeneity_is_that_of_the_pixels_within_scenes():
    """Two scenes of different level: their difference is not variation inside a region."""
    model, pairs = planted(), scenes(2, noise=0.2)
    lifted = [(pairs[0][0], pairs[0][1]), (pairs[1][0] + torch.tensor([0, 0, 5.0])[:, None, None], pairs[1][1])]
    found = homogeneity(region_statistics(model, lifted)).sel(channel=NOISE)
    inside, pixels = 0.0, 0
    for image, truth in lifted:
        for region in range(5):
            values = image[2][truth == region].double()
            inside += float(((values - values.mean()) ** 2).sum())
        known = image[2][truth != 255].double()
        pixels += float(((known - known.mean()) ** 2).sum())
    assert found["between"] == pytest.approx(1 - inside / pixels, abs=1e-4)
    assert (found["variation"] < 0.1).all()


def test_vegetation_head_is_clean():
    assert vegetation_head()[ROAD, RED_EDGE] < 0
    assert driven(planted(), scenes())["balance"] == pytest.approx(-1)
