"""Networks that were never trained: what claims.yaml says of them in its controls is so."""

from itertools import product

import numpy as np
import planted
import pytest
import torch
import xarray as xr

from hsiutils.analysis.activations import observe, region_sums
from hsiutils.analysis.channels import knock_out
from hsiutils.analysis.correlation import Features, moments
from hsiutils.analysis.similarity import likeness, source_name
from hsiutils.attribution.checks import randomised_networks
from hsiutils.attribution.leaderboard import upper_layers
from hsiutils.attribution.methods import METHODS
from hsiutils.attribution.targets import region
from hsiutils.data.classes import CLASSES
from hsiutils.models.metrics import evaluate
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper import conservativeness, merits, robustness
from hsiutils.paper.claims import NOT_REPRODUCED, OF_METHOD, REPRODUCED, judge, read_claims
from hsiutils.paper.evidence import Evidence, NotTestable
from hsiutils.paper.measures import MEASURES

BANDS = {"1": [0], "3": [0, 1], "25": [0, 1, 2], "25-PN": [1, 2]}
SEEDS = tuple(range(5))
PAIRS = planted.scenes(5)
TRUTHS = [truth.numpy() for _, truth in PAIRS]
RULES = {claim.measure: claim for claim in read_claims()}


def untrained(variant, seed):
    config = UNetConfig(channels=len(BANDS[variant]), depth=2, filters=4, class_names=CLASSES)
    return UNet(config, torch.Generator().manual_seed(seed)).eval()


def seen(variant):
    return [(image[BANDS[variant]], truth) for image, truth in PAIRS]


def over_networks(measure, variants=tuple(BANDS)):
    """A measure of (network, scenes) for all of them, along variant and seed."""
    rows = [xr.concat([measure(untrained(name, seed), seen(name)) for seed in SEEDS], "seed") for name in variants]
    return xr.concat(rows, xr.Variable("variant", list(variants)), join="outer").assign_coords(seed=list(SEEDS))


def verdict(measure, **kinds):
    """The outcome of a claim by evidence of these kinds; None where it is not tested."""
    evidence = Evidence("simulated", tuple(BANDS), SEEDS, kinds.__getitem__)
    try:
        return judge(MEASURES[measure](evidence), RULES[measure])
    except NotTestable:
        return None


TOLD = (REPRODUCED, NOT_REPRODUCED)
"""What nothing untrained may get: neither says that it is not of learning."""


@pytest.fixture(scope="module")
def counts():
    return over_networks(evaluate)


@pytest.mark.parametrize(
    "measure",
    [
        *("vegetation_on_road", "marks_fall", "vegetation_rise", "variability_gain", "pn_edge_cost", "pn_edge_odds"),
        *("pn_edge_precision_cost", "pn_relit_vegetation", "pn_relit_road"),
    ],
)
def test_scores_of_untrained_networks_tell_nothing(counts, measure):
    def edges(model, pairs):
        parts = []
        for image, truth in pairs:
            predicted = model(image[None]).argmax(1)[0].numpy()
            parts.append(robustness.mark_edges(predicted, truth.numpy(), CLASSES))
        return xr.concat(parts, "scene")

    assert verdict(measure, counts=counts, edges=over_networks(edges, ("25", "25-PN"))) not in TOLD


def test_contributions_of_untrained_networks_do_not_tell_what_they_lose_without_a_channel(counts):
    def readings(model, pairs):
        sums = planted.sums(model, pairs)
        means = sums["total"].sum(["scene", "region"]) / sums["pixels"].sum()
        return merits.readings(sums, knock_out(model, pairs, "mean", means))

    found = over_networks(readings, ("3", "25"))
    assert np.isfinite(found["contribution"]).any()
    assert verdict("reliability", readings=found, counts=counts) not in TOLD


def explained(model, pairs, draw=None):
    """Variance of the layer before the head that stripes explain, or the stripes of another scene."""
    parts = []
    for image, truth in pairs:
        inside = truth.numpy() if draw is None else draw.permutation(truth.numpy().ravel()).reshape(truth.shape)
        maps = observe(model, image, [model.config.last])[0][model.config.last]
        parts.append(region_sums(maps, inside, CLASSES))
    return merits.explained(xr.concat(parts, "scene")).to_dataset(name="explained")


def test_what_materials_explain_does_not_tell_the_inputs_of_untrained_networks_apart(counts):
    compared = ("1", "3", "25-PN")
    assert verdict("inhomogeneity", materials=over_networks(explained, compared), counts=counts) not in TOLD
    draw = np.random.default_rng(0)
    permuted = over_networks(lambda *network: explained(*network, draw), compared)
    assert float(permuted["explained"].max()) < 3  # percent


def test_guided_backprop_keeps_what_was_never_learned():
    models, scenes = [untrained("25", seed) for seed in SEEDS], []
    for number, (image, truth) in enumerate(PAIRS):
        target = region(models[0], image, planted.VEGETATION, truth == planted.VEGETATION, mean=True)
        last = upper_layers(models[0], image)[-1:]
        twins = [next(randomised_networks(m, image, seed=9 * number + i, layers=last))[1] for i, m in enumerate(models)]
        asked = {name: METHODS[name] for name in ("GradCAM", "CAM", "Guided BackProp", "Guided GradCAM")}
        scenes.append(conservativeness.pairs_of_maps(models, twins, image, target, asked))
    found = xr.concat(scenes, "scene").assign_coords(seed=range(5), partner=range(5))
    assert verdict("guided_backprop_kept", survival=found) == OF_METHOD
    assert verdict("guided_gradcam_kept", survival=found) == OF_METHOD
    assert verdict("gradcam_kept", survival=found) not in TOLD
    assert verdict("cam_kept", survival=found) not in TOLD


def test_untrained_networks_of_one_input_are_more_alike_than_of_two():
    """So the row on Fig. 4 is one about inputs."""
    sources = {
        source_name(name, seed): Features(untrained(name, seed), seen(name)) for name, seed in product(BANDS, SEEDS)
    }
    pairs = likeness(moments(sources, seed=0), list(BANDS), list(SEEDS))
    found = MEASURES["likeness_of_inputs"](Evidence("simulated", (), (), lambda _: xr.Dataset.from_dataframe(pairs)))
    assert found.mean > 0
    assert RULES["likeness_of_inputs"].about == "input"
