"""Streets that are rendered again with something changed, and the leaderboard that is made of them."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

from hsiutils.attribution.effects import NULLS
from hsiutils.attribution.leaderboard import FLIPPED
from hsiutils.attribution.methods import METHODS
from hsiutils.paper import physics
from hsiutils.paper.physics import LIGHT, MATERIAL, SWAPS, Street, Swap, answers, changes, disturbed
from hsiutils.paper.quadrature import path_errors
from hsiutils.paper.studies import leaderboard
from hsiutils.simulate.camera import tile_mean

ROAD = SWAPS[0]


@pytest.fixture(scope="module")
def street(tiny_run):
    return Street.of(tiny_run.data.names("test")[0], tiny_run.simulation)


def test_an_unchanged_street_is_that_of_the_data_set_without_its_noise(street, tiny_run):
    mine, theirs = street.cube(), tiny_run.data.cube(street.name)
    assert float(abs(mine - theirs).mean() / theirs.mean()) < 0.05
    assert np.corrcoef(mine.values.ravel(), theirs.values.ravel())[0, 1] > 0.98
    assert np.array_equal(mine, street.cube())


def test_a_swap_that_changes_nothing_changes_no_bit(street):
    same = Swap("road to itself", ("asphalt",), "asphalt", shift=0)
    absent = Swap("no such thing", ("nothing",), "gravel")
    assert street.covered(absent) == 0
    for swap in (same, absent):
        assert np.array_equal(street.repainted(swap), street.rate)


def test_a_road_of_concrete_is_brighter_where_the_road_is(street):
    assert 0.05 < street.covered(ROAD) < 1
    own = np.array([slot.material in ROAD.of for slot in street.surfaces.slots] + [False])[street.surfaces.slot]
    inside = tile_mean(own, street.simulation.rays)
    ratio = (street.cube(street.repainted(ROAD)) / street.cube()).mean("band").values
    assert ratio[inside == 1].mean() > 1.3
    assert abs(ratio[inside == 0] - 1).mean() < 0.1


def test_a_band_loses_its_share_of_light_and_no_other_does(street):
    before, after = street.cube(), street.cube(street.dimmed(7, 0.25))
    ratio = (after / before).values
    assert np.median(ratio[7]) == pytest.approx(0.75, rel=1e-4)
    assert ((ratio[7] > 0.749) & (ratio[7] <= 1)).all()  # a full well loses less
    assert np.array_equal(np.delete(after.values, 7, 0), np.delete(before.values, 7, 0))


def test_changes_have_names_and_kinds_and_leave_out_what_is_not_there(street, monkeypatch):
    monkeypatch.setattr(physics, "SWAPS", (ROAD, Swap("no such thing", ("nothing",), "gravel")))
    names, kinds, cubes = changes(street)
    assert names[:3] == ["road to concrete", "no such thing", "band 0"]
    assert kinds == [MATERIAL] * 2 + [LIGHT] * 25
    assert [cube is None for cube in cubes[:3]] == [False, True, False]


def test_disturbances_are_as_they_say(street):
    cube = street.cube()
    found = disturbed(cube, 0)
    assert np.array_equal(found[FLIPPED].values[..., ::-1], cube)
    assert float((found["brightness"] / cube).mean()) == pytest.approx(1.2)
    spread = (found["noise"] - cube).std(["y", "x"]) / cube.mean(["y", "x"])
    assert float(spread.mean()) == pytest.approx(0.02, rel=0.1)
    assert float(found["blur"].std()) < float(cube.std())


def test_every_method_answers_for_every_street(tiny_run, monkeypatch):
    few = {name: METHODS[name] for name in ("gradient x input", "GradCAM", "band occlusion")}
    monkeypatch.setattr(physics, "METHODS", few)
    monkeypatch.setattr(physics, "SWAPS", (ROAD, *SWAPS[4:8]))
    monkeypatch.setattr(physics, "SCENES", 1)
    found = answers(tiny_run, "25-PN", 0)
    assert found["method"].values.tolist() == [*few, *NULLS]
    assert dict(found.sizes) | {"scene": 1, "kind": 2, "disturbance": 4, "change": 30} == dict(found.sizes)
    assert float(abs(found["rank"]).max()) <= 1
    assert (found["effect"] > 0).all()
    assert found["robustness"].sel({"method": "size of the change"}).isnull().all()  # the same everywhere
    assert float(found["forwards"].sel({"method": "band occlusion"})) == pytest.approx(26, abs=2)
    assert np.isnan(found["error"].sel({"method": "GradCAM"})).all()
    with pytest.raises(ValueError, match="only simulated scenes"):
        answers(dataclasses.replace(tiny_run, data_root=tiny_run.data.root), "25-PN", 0)


class TestLeaderboard:
    METHODS = ("sees", "guesses", "tells sizes", *(f"other {number}" for number in range(5)), *NULLS)

    @pytest.fixture
    def record(self):
        draw, scenes, count = np.random.default_rng(0), 24, len(self.METHODS)
        rank, size = draw.normal(0, 0.2, (2, scenes, count, 2))
        rank[:, 0], size[:, 0], size[:, 2] = 0.9, 0.9, 0.8
        error, other = draw.uniform(1, 2, (scenes, count, 2)), draw.random((scenes, count))
        error[:, 0] = 0.25
        dims = ("scene", "method", "kind")
        variables = {
            "rank": (dims, rank),
            "size": (dims, size),
            "error": (dims, error),
            "effect": (("scene", "kind"), np.ones((scenes, 2))),
            "leakage": (dims[:2], other),
            "robustness": ((*dims[:2], "disturbance"), draw.random((scenes, count, 4))),
            "forwards": ("method", np.arange(count) + 1.0),
            "memory": ("method", -np.arange(count) - 1.0),
            "logit_error": (("scene", "change"), np.full((scenes, 2), [0.25, 0.01])),
            "logit_effect": (("scene", "change"), np.ones((scenes, 2))),
        }
        coords = {
            "scene": np.arange(scenes),
            "method": list(self.METHODS),
            "kind": [MATERIAL, LIGHT],
            "disturbance": ["noise", "brightness", "blur", FLIPPED],
            "change": ["road to gravel", "band 0"],
            "of": ("change", [MATERIAL, LIGHT]),
        }
        return xr.Dataset(variables, coords).expand_dims(input=["25"], seed=[0])

    def test_who_knows_stands_above_the_nulls_and_who_guesses_does_not(self, record):
        table = leaderboard.board(record, "25", 0)
        assert table.index[0] == "sees"
        assert table.loc["sees", "error"] == pytest.approx(0.5)
        assert table["swaps above"]["sees"].sign == 1 != table["swaps above"]["guesses"].sign
        assert table["unsigned above"]["tells sizes"].sign == 1 != table["swaps above"]["tells sizes"].sign
        row = table.loc["guesses"]
        assert row["low"] < row["swaps"] < row["high"]
        assert abs(row["swaps"]) < 0.2
        assert list(leaderboard.METRICS) == [name for name in table if name in leaderboard.METRICS]

    def test_intervals_of_several_networks_are_over_networks_too(self, record):
        several = xr.concat([record.assign_coords(seed=[seed]) for seed in range(3)], "seed")
        one, same = (leaderboard.bounds(found, "25", 0) for found in (record, several))
        other = several.assign(rank=several["rank"] + xr.DataArray([-0.3, 0, 0.3], dims="seed"))
        wider = leaderboard.bounds(other, "25", 0)
        for found in (same, wider):
            xr.testing.assert_allclose(found["value"], one["value"])
        width = [(found["high"] - found["low"]).sel(measure="swaps").mean() for found in (same, wider)]
        assert width[1] > 2 * width[0]
        table = leaderboard.board(other, "25", 0)
        assert table.index[0] == "sees"
        assert table["swaps above"]["sees"].sign == 1  # all methods of a network are better or worse together
        assert leaderboard.asked_of(record).endswith(
            "24 simulated streets, 1 recorded network for each input; 95 % intervals over streets"
        )
        assert "3 recorded networks for each input; 95 % intervals over streets and networks" in leaderboard.asked_of(
            other
        )

    def test_metrics_agree_where_they_order_methods_alike(self, record):
        table = leaderboard.board(record, "25", 0)
        found = leaderboard.taus(table)
        assert np.diag(found) == pytest.approx(1)
        assert found.loc["forwards", "memory"] == pytest.approx(-1)
        few = leaderboard.taus(table.assign(error=np.nan))
        assert few["error"].isna().all()

    def test_findings_name_who_beats_the_nulls(self, record):
        said = leaderboard.findings(record, 0)
        assert "one network for each input" in said[0]
        assert "this network, effects" in said[1]
        assert "Better than it: sees. Worse:" in said[1]
        assert "sees" in said[2]
        assert "tells sizes" in said[2]
        assert "The least error has sees, 0.50." in said[3]
        assert "has 0.50 for materials, and 0.10 for" in said[3]
        several = leaderboard.findings(xr.concat([record, record], "seed").assign_coords(seed=[0, 1]), 0)
        assert len(several) == len(said) - 1
        assert not any("this network" in sentence for sentence in several)

    def test_the_grid_is_of_finished_networks(self, tiny_run):
        points = leaderboard.STUDY.grid(tiny_run)
        assert [(point.variant, point.seed) for point in points] == [("25-PN", 0), ("25-PN", 1)]
        reduced = leaderboard._reduce({"answers": xr.Dataset({"rank": ("seed", [0.5])})})
        assert reduced["rank"].dtype == np.float32


def test_the_quadrature_of_a_small_network_is_measured(tiny_run):
    table = path_errors(tiny_run, "3", (2, 64))
    assert table["nodes"].tolist() == [2, 64]
    assert 0 < table["parts"][1] < table["parts"][0]
    assert table.attrs["pieces"] > 10
