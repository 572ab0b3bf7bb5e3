import dataclasses

import numpy as np
import pandas as pd
import planted as planted_network
import pytest
import xarray as xr

from hsiutils.analysis.estimates import Estimate
from hsiutils.data.classes import CLASSES
from hsiutils.paper import merits
from hsiutils.paper.claims import NOT_REPRODUCED, OF_METHOD, PROVED, REPRODUCED, UNDECIDED, judge, read_claims
from hsiutils.paper.evidence import Evidence, NotTestable
from hsiutils.paper.measures import MEASURES
from hsiutils.paper.studies.conditions import NET, UNSEEN

VARIANTS = ("1", "3", "25", "25-PN")
NETWORK = ("variant", "seed")


def planted(variants=VARIANTS, seeds=(0, 1), origin="simulated", **kinds):
    """Evidence made by hand, of these kinds."""
    return Evidence(origin, variants, seeds, kinds.__getitem__, dict(kinds))


def counted(shares, variants=VARIANTS, wrong=0):
    """Counts of networks that find these shares of each class, (variant, seed, class), and call the rest `wrong`."""
    matrix = np.zeros((*np.shape(shares)[:2], 1, 1, 5, 5))  # (variant, seed, region, scene, truth, predicted)
    for index in range(5):
        found = 1000 * np.asarray(shares, dtype=float)[:, :, index]
        matrix[:, :, 0, 0, index, wrong] += 1000 - found
        matrix[:, :, 0, 0, index, index] += found
    coords = {"variant": list(variants), "region": ["all"], "truth": list(CLASSES), "predicted": list(CLASSES)}
    counts = xr.Dataset({"confusion": ((*NETWORK, "region", "scene", "truth", "predicted"), matrix)}, coords)
    edges = counts["confusion"].sum("predicted").rename(truth="class")
    return counts.assign(boundary_union=edges, boundary_intersection=edges)


SEEING = counted(np.tile([[0.9], [0.91]], (4, 1, 5)))


def judged(measure, evidence):
    """The verdict that claims.yaml has for what a measure finds."""
    rule = next(claim for claim in read_claims() if claim.measure == measure)
    return judge(MEASURES[measure](evidence), rule)


def test_claims_on_scores_have_the_papers_sign():
    found = np.full((4, 2, 5), 0.9)
    found[1, :, 1], found[3, :, 1] = [0.93, 0.94], [0.89, 0.90]  # marks: what is found less is not called anything else
    found[1, :, 2], found[3, :, 2] = 0.91, 0.94
    evidence = planted(counts=counted(found))
    assert MEASURES["marks_fall"](evidence).mean == pytest.approx(4)
    assert MEASURES["vegetation_rise"](evidence).mean == pytest.approx(3)


def places(recall):
    """Confusion of road and marks of networks, by recall at the edge (variant, seed); all is found elsewhere."""
    matrix = np.zeros((len(recall), 2, 1, 2, 5, 5))  # (variant, seed, scene, place, truth, predicted)
    for index in (0, 1):
        matrix[..., index, index] = 100
        matrix[:, :, 0, 0, index, index] = recall
        matrix[:, :, 0, 0, index, 4] = 100 - np.asarray(recall)
    names = {"truth": list(CLASSES), "predicted": list(CLASSES)}
    coords = {"variant": ["25", "25-PN"], "place": ["edge", "elsewhere"], **names}
    return xr.Dataset({"confusion": ((*NETWORK, "scene", "place", "truth", "predicted"), matrix)}, coords)


def test_pn_costs_edges_where_it_loses_more_there():
    edges = places([[93.0, 92.5], [88.0, 86.0]])
    assert MEASURES["pn_edge_cost"](planted(counts=SEEING, edges=edges)).mean == pytest.approx(5.75)
    nowhere = edges.where(edges["place"] == "edge", 0)
    with pytest.raises(NotTestable, match="no marks away from their edge"):
        MEASURES["pn_edge_cost"](planted(counts=SEEING, edges=nowhere))


def false_marks(at_edge, elsewhere):
    """Confusion of networks that find all marks, and call these shares (variant, seed) of the road marks."""
    edges = places([[100.0, 100.0]] * 2)
    road = {"truth": "Road"}
    for place, shares in (("edge", at_edge), ("elsewhere", elsewhere)):
        edges["confusion"].loc[road | {"place": place, "predicted": "Road"}] = 100 - np.asarray(shares)[..., None]
        edges["confusion"].loc[road | {"place": place, "predicted": "Road Marks"}] = np.asarray(shares)[..., None]
    return xr.concat([edges] * 3, "scene")


def test_errors_that_are_doubled_everywhere_cost_points_at_the_edge_and_no_odds():
    """Of PN's errors there are twice as many in every place: more of them at the edge, and no harder place."""
    edges = xr.concat([places([[80.0, 80.4], [60.0, 60.8]])] * 3, "scene") * 100
    elsewhere = {"place": "elsewhere", "predicted": ["Road", "Road Marks"]}
    for row, recall in enumerate((0.95, 0.9)):
        for name in ("Road", "Road Marks"):
            right, wrong = ({**elsewhere, "truth": name, "predicted": called} for called in (name, "Other"))
            found = edges["confusion"].isel(variant=row)
            found.loc[right], found.loc[wrong] = recall * 1e4, (1 - recall) * 1e4
    evidence = planted(counts=SEEING, edges=edges)
    assert MEASURES["pn_edge_cost"](evidence).low > 10
    doubled = MEASURES["pn_edge_odds"](evidence)
    assert abs(doubled.mean) < 0.3  # the odds of 4 to 1 and 19 to 1 both fall by about as much
    worse = edges.copy(deep=True)
    worse["confusion"].loc[{"place": "elsewhere", "variant": "25-PN"}] = (
        edges["confusion"].sel(place="elsewhere", variant="25").values
    )
    assert MEASURES["pn_edge_odds"](planted(counts=SEEING, edges=worse)).low > 0.5


def test_false_marks_cost_precision_where_they_lie():
    few = [10.0, 11.0]
    at_edge, on_road, anywhere = (
        MEASURES["pn_edge_precision_cost"](planted(counts=SEEING, edges=false_marks(*shares)))
        for shares in (([few, [30.0, 32.0]], [few] * 2), ([few] * 2, [few, [30.0, 32.0]]), ([few, [30.0, 32.0]],) * 2)
    )
    assert at_edge.low > 10
    assert on_road.high < -10
    assert anywhere.mean == pytest.approx(0)
    nothing = false_marks([few] * 2, [few] * 2).where(lambda edges: edges["predicted"] != "Road Marks", 0)
    with pytest.raises(NotTestable, match="no marks are called so"):
        MEASURES["pn_edge_precision_cost"](planted(counts=SEEING, edges=nothing))


def test_pn_is_robust_where_fewer_pixels_change_under_another_sun():
    changed = np.array([[[[20, 0]], [[22, 0]]], [[[4, 16]], [[5, 17]]]])  # (variant, seed, scene, class)
    dims = (*NETWORK, "scene", "class")
    pixels = xr.Dataset(
        {"changed": (dims, changed), "pixels": (dims, np.full(changed.shape, 100))},
        {"variant": ["25", "25-PN"], "class": ["Vegetation", "Road"]},
    )
    evidence = planted(counts=SEEING, relit=pixels)
    assert MEASURES["pn_relit_vegetation"](evidence).mean == pytest.approx(16.5)
    assert MEASURES["pn_relit_road"](evidence).mean == pytest.approx(-16.5)
    with pytest.raises(NotTestable, match="no pixel of Road passes"):
        MEASURES["pn_relit_road"](planted(counts=SEEING, relit=pixels * 0))


def test_single_pixels_are_asked_under_another_sun_too():
    changed = np.array([30, 10])[:, None, None] + np.arange(6)[:, None]  # (input, scene, class)
    sizes = {"input": ["all", "PN"], "scene": list("abcdef"), "class": ["Vegetation"]}
    dims = tuple(sizes)
    counts = {"changed": changed, "correct": 90 - changed, "pixels": np.full(changed.shape, 100)}
    pixels = xr.Dataset({name: (dims, values) for name, values in counts.items()}, sizes)
    found = MEASURES["pn_relit_pixels"](planted(relit_pixels=pixels))
    assert (found.mean, found.low, found.high, found.count) == pytest.approx((20, 20, 20, 6))
    exchanged = pixels.assign(correct=pixels["correct"] // [[[9]], [[1]]])  # labels: hardly ever right, and changing
    with pytest.raises(NotTestable, match="with all bands 6 % of Vegetation are right under both suns"):
        MEASURES["pn_relit_pixels"](planted(relit_pixels=exchanged))


def test_light_cannot_be_asked_of_real_scenes(tiny_run):
    real = Evidence.of(dataclasses.replace(tiny_run, data_root=tiny_run.data.root))
    for _ in range(2):  # and it is not asked twice
        with pytest.raises(NotTestable, match="only simulated scenes can be rendered again"):
            MEASURES["pn_relit_pixels"](real)
    assert "rendered again" in real.known["relit_pixels"]


def test_the_papers_values_are_compared_with_real_scenes_alone():
    with pytest.raises(NotTestable, match="simulated"):
        MEASURES["marks_3"](planted(counts=SEEING))
    blind = counted(np.tile([1, 0, 0, 0, 0], (4, 2, 1)))
    with pytest.raises(NotTestable, match="variant 3 calls hardly more of Road Marks"):
        MEASURES["marks_3"](planted(origin="real", counts=blind))
    found = np.full((4, 2, 5), 0.9)
    found[1, :, 1] = [0.93, 0.94]
    assert MEASURES["marks_3"](planted(origin="real", counts=counted(found))).mean == pytest.approx(93.5)
    found[1, :, 1] = 0.93
    alike = xr.concat([counted(found)] * 6, "scene")
    apart = xr.concat([counted(found + shift) for shift in (-0.06, 0.06) * 3], "scene")
    assert judged("marks_3", planted(origin="real", counts=alike)) == REPRODUCED
    assert judged("marks_3", planted(origin="real", counts=apart)) == UNDECIDED  # other streets may give another value


def test_scores_are_given_or_a_reason(tiny_run):
    evidence = Evidence.of(tiny_run)
    assert evidence["counts"].sizes["seed"] == 2
    with pytest.raises(NotTestable, match="needs variant '1'; this run has 3, 25-PN"):
        MEASURES["variability_gain"](evidence)
    with pytest.raises(NotTestable, match="does not occur"):
        MEASURES["marks_fall"](planted(counts=SEEING.where(SEEING["truth"] != "Road Marks", 0)))


def explained(before, deeper, hirescam=0.5):
    """Verdicts on GradCAM with these R2, by seed, at the layer before the head and at its best deeper one.

    Of what conv2d_7 holds nothing reaches the logits: HiResCAM, which reads `hirescam` elsewhere, finds nothing there.
    """
    rows = [
        {
            **{
                "GradCAM conv2d_9": one,
                "GradCAM conv2d_1": other,
                "GradCAM signed conv2d_5": -7.0,
                "CAM conv2d_9": 1.0,
            },
            **{"HiResCAM conv2d_1": hirescam, "HiResCAM conv2d_5": hirescam},
            **{"GradCAM conv2d_7": 2.0, "HiResCAM conv2d_7": 0.0},
        }
        for one, other in zip(before, deeper, strict=True)
    ]
    values = [[[[value] * 3 for value in row.values()]] for row in rows]
    coords = {"scene": ["a"], "method": list(rows[0])}
    found = xr.Dataset({"explained": (("seed", "scene", "method", "class"), values)}, coords, {"last": "conv2d_9"})
    return [judged(name, planted(explained=found)) for name in ("gradcam_explained", "gradcam_explained_deeper")]


def test_a_conservative_gradcam_would_be_found_out():
    assert explained([1e-7, -1e-6, 0], [-0.1, 0.0, 0.1]) == [PROVED, OF_METHOD]
    assert explained([1, 1, 0.999], [0.98, 0.99, 1]) == [NOT_REPRODUCED, NOT_REPRODUCED]
    with pytest.raises(NotTestable, match="the same everywhere"):
        explained([np.nan] * 3, [0] * 3)
    with pytest.raises(NotTestable, match="the same everywhere"):
        explained([0] * 3, [0] * 3, hirescam=0.0)


@pytest.mark.parametrize(("largest", "verdict"), [(0.1, OF_METHOD), (0.98, NOT_REPRODUCED)])
def test_what_breaks_without_spectra_is_told_by_the_record_of_colour_images(largest, verdict):
    """GradCAM at the deeper layer has this R2 on colour images, and another on HSI-Drive's, which are not asked."""
    names = ["CAM conv2d_9", "GradCAM conv2d_9", "GradCAM conv2d_1", "GradCAM signed conv2d_1", "HiResCAM conv2d_1"]
    real, hsi = [1, 0, -0.2, largest, 0.4], [1, 0, 0.5, 0.5, 0.4]
    values = np.array([hsi, real])[:, None, None] + [[[0]], [[0.01]], [[0.02]]]  # (data, seed, state, method)
    values[1, 0, 0, 3] -= 9 * (
        largest < 0.5
    )  # far below nothing, in one network: that is not far from another's nothing
    coords = {"data": ["HSI-Drive", "real colour: x"], "state": ["trained"], "method": names}
    found = xr.Dataset({"explained": (("data", "seed", "state", "method"), values)}, coords)
    assert judged("gradcam_explained_without_spectra", planted(second=found)) == verdict
    with pytest.raises(NotTestable, match="no real colour images"):
        judged("gradcam_explained_without_spectra", planted(second=found.isel(data=[0])))


def test_a_study_without_a_record_is_no_evidence_and_a_damaged_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("hsiutils.paper.evidence.RESULTS", tmp_path)
    with pytest.raises(NotTestable, match="no record of this study yet: `hsiutils study second` makes it"):
        planted()["second"]
    (tmp_path / "second.nc").touch()
    with pytest.raises(ValueError, match=r"second\.nc: no record"):
        planted()["second"]


def seen(found=0.9, **dims):
    """Counts of a study, along these, whose networks find this share of each class and call the rest Road."""
    counts = counted(np.full((1, 2, 5), found), variants=["all"]).isel(variant=0, drop=True)
    return counts.expand_dims(dims)


@pytest.mark.parametrize(
    ("light", "marks", "edges", "verdict"),
    [
        (-3, 1, 1, REPRODUCED),  # less vegetation changes class
        (3, 1, 1, UNDECIDED),  # more does: -3, and the interval holds -2
        (9, 1, 1, NOT_REPRODUCED),
        (-3, -9, 1, NOT_REPRODUCED),
        (-3, 1, -9, NOT_REPRODUCED),
    ],
)
def test_a_design_must_keep_light_and_marks_and_edges_alike(light, marks, edges, verdict, monkeypatch):
    """The second design is hopeless, and only widens the interval."""

    def gains(freedom):
        every = {"PN + I": (-light, marks, edges), "other": (-30, -30, -30)}
        return {
            name: [Estimate(value, value - 1.5, value + 1.5, 3, freedom) for value in own]
            for name, own in every.items()
        }

    evidence = planted(designs=seen(design=["raw", "PN", "PN + I"]))
    for freedom, quantiles in ((np.inf, 2.2414 / 1.96), (4.0, 3.4954 / 2.7764)):  # of two tests, and of one
        monkeypatch.setattr("hsiutils.paper.measures.tradeoff.gains", lambda *_, freedom=freedom: gains(freedom))
        found = MEASURES["design_keeps_both"](evidence)
        assert (found.mean, found.freedom) == (min(-light, marks, edges), freedom)
        assert found.high - found.low == pytest.approx(3 * quantiles, rel=1e-3)
        assert judged("design_keeps_both", evidence) == verdict
    with pytest.raises(NotTestable, match="design raw calls hardly more of Vegetation"):
        MEASURES["design_keeps_both"](planted(designs=seen(0.01, design=["raw"])))


@pytest.mark.parametrize(
    ("value", "verdict"), [(3.0, REPRODUCED), (0.5, UNDECIDED), (-3.0, NOT_REPRODUCED), (np.nan, None)]
)
def test_rich_spectra_are_judged_where_nothing_was_seen_and_through_other_cameras(value, verdict, monkeypatch):
    row = {"class": "mean", "value": value, "low": value - 1, "high": value + 1}
    seen_worse = {**row, "value": -9.0, "low": -10.0, "high": -8.0}  # on all scenes, which is no matter of conditions
    lost = pd.DataFrame(
        [
            {"condition": "mean", "input": "25 less 3", "where": where, **own}
            for where, own in ((UNSEEN, seen_worse), (NET, row))
        ]
    )
    monkeypatch.setattr("hsiutils.paper.measures.conditions.compared", lambda found, seed: lost)
    sisters = {"sister a": 20.0, "sister b": value}
    through = pd.DataFrame(
        [
            {
                "camera": name,
                "mapping": "resampled",
                "input": "25",
                **row,
                "value": own,
                "low": own - 1,
                "high": own + 1,
            }
            for name, own in sisters.items()
        ]
    )
    monkeypatch.setattr("hsiutils.paper.measures.cameras.losses", lambda found, seed: through)
    counts = seen(input=["3", "25"])[["confusion"]].isel(region=0, drop=True)
    taken = counts.expand_dims(camera=["its own", *sisters], mapping=["native", "resampled"])
    evidence = planted(conditions=counts.expand_dims(trained=["control"]), cameras=taken)
    for name in ("rich_spectra_unseen", "rich_spectra_other_camera"):
        if verdict is not None:
            assert judged(name, evidence) == verdict
            found = MEASURES[name](evidence)
            assert (found.count, found.freedom) == (2, 1)
            if verdict != UNDECIDED:  # few trainings, heavy tails
                assert found.p_value() > 4 * Estimate(found.mean, found.low, found.high, 2).p_value()
        else:
            with pytest.raises(NotTestable, match="the record of the study has no"):
                judged(name, evidence)


def test_randomisation_tells_maps_that_are_kept_from_those_that_are_not():
    seeds, off = [0, 1, 2], ~np.eye(3, dtype=bool)

    def verdicts(own, other):
        """GradCAM's and Guided BackProp's, if the maps of both were kept so."""
        pairs = np.where(off, other, own) + np.array([[0, 0.02, -0.01], [0.02, 0.01, 0.03], [-0.01, 0.03, 0]])
        one = xr.DataArray(pairs, {"seed": seeds, "partner": seeds}, ("seed", "partner")).expand_dims("scene")
        found = xr.Dataset({"redrawn": one, "trained": one}).expand_dims(method=["GradCAM", "CAM", "Guided BackProp"])
        return [judged(name, planted(survival=found)) for name in ("gradcam_kept", "cam_kept", "guided_backprop_kept")]

    assert verdicts(own=0.05, other=0.6) == [REPRODUCED, REPRODUCED, NOT_REPRODUCED]
    assert verdicts(own=0.8, other=0.3) == [NOT_REPRODUCED, NOT_REPRODUCED, OF_METHOD]
    assert verdicts(own=0.3, other=0.3) == [UNDECIDED] * 3  # as where no weights are read, or none were learned
    with pytest.raises(NotTestable, match="no finite value"):
        verdicts(own=np.nan, other=np.nan)


def test_a_reliable_explanation_is_told_from_exchanged_channels():
    """Networks of channels whose contributions are known; the losses of others are those of channels in any order."""
    rng = np.random.default_rng(0)
    contribution = xr.DataArray(rng.normal(size=(2, 3, 5, 8)), dims=(*NETWORK, "class", "channel"))
    for noise, verdict in ((0.3, REPRODUCED), (100, NOT_REPRODUCED)):
        lost = contribution + noise * rng.normal(size=contribution.shape)
        one = merits.rank_correlation(contribution, lost, "channel")
        one = one.assign_coords({"variant": ["3", "25"], "class": list(CLASSES)})
        for readings in ({"contribution": one, "score": 0 * one}, {"contribution": 0 * one, "score": one}):
            evidence = planted(readings=xr.Dataset(readings), counts=SEEING)
            assert judged("reliability", evidence) == verdict
        estimate = MEASURES["reliability"](evidence)
        assert -1 < estimate.low < estimate.high < 1


def test_inhomogeneity_has_the_papers_sign():
    values = xr.DataArray([[0.1, 0.2], [0.1, 0.2], [0.8, 0.9]], {"variant": ["1", "3", "25-PN"]}, NETWORK)
    found = values.to_dataset(name="explained")
    assert MEASURES["inhomogeneity"](planted(counts=SEEING, materials=found)).mean == pytest.approx(0.7)
    assert (
        judged("inhomogeneity", planted(counts=SEEING, materials=found * [[1], [8], [1]])) == UNDECIDED
    )  # above one of the two alone
    values[:] = [
        [0.5, 0.502],
        [0.0, 0.6],
        [0.8, 0.802],
    ]  # little and surely above the one, more and not surely the other
    assert judged("inhomogeneity", planted(counts=SEEING, materials=values.to_dataset(name="explained"))) == UNDECIDED
    with pytest.raises(NotTestable, match="no finite value"):
        MEASURES["inhomogeneity"](planted(counts=SEEING, materials=found * np.nan))


@pytest.mark.parametrize(
    "measure",
    [
        *("marks_fall", "vegetation_rise", "variability_gain", "pn_relit_vegetation", "pn_relit_road"),
        *("pn_edge_cost", "pn_edge_precision_cost", "pn_edge_odds", "vegetation_on_road"),
    ],
)
def test_networks_that_say_one_class_everywhere_are_not_asked(measure):
    with pytest.raises(NotTestable, match=r"calls hardly more of .* by that name than of everything"):
        MEASURES[measure](planted(counts=counted(np.tile([1, 0, 0, 0, 0], (4, 1, 1)))))


def test_networks_that_call_everything_road_are_not_asked_about_vegetation():
    """Trained for a moment or not at all, few channels may call it all Road: that is no sentence on vegetation."""
    shares = np.ones((4, 2, 5))
    shares[:2, :, 1:] = 0
    with pytest.raises(NotTestable, match="variant 1 calls hardly more of Vegetation"):
        MEASURES["vegetation_on_road"](planted(counts=counted(shares)))
    shares[:2] = 1  # these see road, and take some vegetation for it
    shares[:2, :, 2] = [[0.9, 0.88]]
    assert MEASURES["vegetation_on_road"](planted(counts=counted(shares))).mean == pytest.approx((10 + 12) / 2)
    bare = SEEING.where(SEEING["truth"] != "Vegetation", 0)
    with pytest.raises(NotTestable, match="does not occur"):
        MEASURES["vegetation_on_road"](planted(counts=bare))


@pytest.mark.parametrize("name", ["Vegetation", "Road"])
def test_networks_that_hardly_see_a_class_are_not_asked_whether_they_change(name):
    """What calls 99 of 100 pixels by one name never changes its mind."""
    index = list(CLASSES).index(name)
    counts = counted(np.full((4, 2, 5), 0.01), wrong=index)
    with pytest.raises(NotTestable, match=f"calls hardly more of {name}"):
        MEASURES[f"pn_relit_{name.lower()}"](planted(counts=counts, relit=None))


def test_vegetation_that_is_called_sky_is_no_vegetation_that_is_told_from_road():
    shares = np.ones((4, 2, 5))
    shares[:3, :, 2], shares[3, :, 2] = 0.9, 0
    with pytest.raises(NotTestable, match="variant 25-PN calls hardly more of Vegetation"):
        MEASURES["vegetation_on_road"](planted(counts=counted(shares)))


def test_scenes_that_disagree_widen_what_networks_agree_on():
    """Eight networks an input that agree in each scene, and scenes that do not: other scenes could say the opposite."""
    found = np.full((4, 8, 5), 0.9) + np.linspace(0, 0.004, 8)[:, None]
    scenes = []
    for gain in (0.09, -0.02, 0.08, -0.03, 0.06, 0.0):
        own = found.copy()
        own[3, :, 2] += gain
        scenes.append(counted(own))
    both = planted(counts=xr.concat(scenes, "scene"), seeds=tuple(range(8)))
    better = found.copy()
    better[3] += 0.03
    alike = planted(counts=xr.concat([counted(better)] * 6, "scene"))
    assert judged("vegetation_rise", alike) == REPRODUCED
    assert judged("vegetation_rise", both) == UNDECIDED
    alone = MEASURES["vegetation_rise"](planted(counts=counted(found)))  # one scene tells nothing of others
    assert np.isnan(alone.low)


def test_noise_is_measured_at_the_input_over_scenes():
    """The planted noise is the third input, so the input with the most of it has the noisiest edges."""
    pairs = planted_network.scenes(6)
    sums = [
        planted_network.input_edges([(image[bands], truth) for image, truth in pairs])
        for bands in ([0, 1], [0, 1], [0, 2])
    ]
    edges = xr.concat(sums, xr.Variable("variant", ["1", "3", "25-PN"])).expand_dims(seed=1)
    found = MEASURES["edge_noise"](planted(input_edges=edges))
    assert found.low > 0.3
    assert (found.count, found.freedom) == (6, 5)
    edges = edges.assign_coords(variant=["25-PN", "1", "3"])  # the noise given to another input
    assert MEASURES["edge_noise"](planted(input_edges=edges)).high < 0


def test_claims_on_activations_need_the_papers_inputs(tiny_run):
    evidence = Evidence.of(tiny_run)
    with pytest.raises(NotTestable, match="needs variant '1';"):
        MEASURES["edge_noise"](evidence)
    assert 0 < MEASURES["head_gap"](evidence).high < 1e-4
    with pytest.raises(NotTestable, match="calls hardly more of"):  # two networks of two epochs
        MEASURES["reliability"](evidence)
    found = MEASURES["likeness_of_inputs"](evidence)
    assert found.count == 1  # two seeds make one pair, without spread
    assert abs(found.mean) <= 2
