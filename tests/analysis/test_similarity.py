import numpy as np
import pandas as pd
import planted
import pytest
import xarray as xr

from hsiutils.analysis import similarity
from hsiutils.analysis.correlation import Features, moments
from hsiutils.analysis.similarity import source_name

SCENES = planted.scenes(4)


@pytest.fixture(scope="module")
def sums():
    """Two inputs with two seeds each; a's seeds are one network with its channels in another order, b's are not."""
    one, strange, stranger = (planted.trained_like(seed) for seed in (0, 1, 2))
    models = {source_name("a", 0): one, source_name("a", 1): permuted(planted.trained_like(0))}
    models |= {source_name("b", 0): strange, source_name("b", 1): stranger}
    sources = {name: Features(model, SCENES) for name, model in models.items()}
    sources |= {
        source_name(name, 0, kind): Features(models[source_name(name, 0)], SCENES, kind)
        for name in "ab"
        for kind in ("moved", "other scene")
    }
    return moments(sources)


def permuted(model):
    """The same network with the channels before the head reversed."""
    last = model.decoder[-1].block
    for holder in (last.conv2, last.norm2):
        for value in holder.state_dict().values():
            if value.ndim and len(value) == 4:
                value.copy_(value.flip(0).clone())
    return model


def test_a_permuted_copy_matches_wholly_and_nulls_stand_beside(sums):
    pairs = similarity.likeness(sums, ["a", "b"], [0, 1])
    assert set(pairs["kind"]) == {"another seed", "another input", "another scene", "moved"}
    assert (pairs["seed"] < pairs["other_seed"]).all()
    of = pairs.set_index(["pair", "kind"]).sort_index()
    assert of.loc[("a and a", "another seed"), ["matched", "cka"]].to_numpy() == pytest.approx(1)
    moved = of.loc[("a and a", "moved"), "matched"].item()
    assert max(moved, of.loc[("b and b", "another seed"), "matched"].item()) < 0.9
    table = similarity.likeness_table(pairs, sums, [0, 1])
    assert table.loc["a and a", "trained"] == pytest.approx(1)
    assert table.loc["a and a", "moved"] == pytest.approx(moved)
    assert table.loc["a and a", "cka_elsewhere"] < 0.9 < table.loc["a and a", "cka"]
    assert (table["least"] <= table["most"]).all()


def pairs_of(same, other, seeds=3):
    rows = [
        {"pair": "x", "kind": kind, "alone": kind == "another seed", "seed": a, "other_seed": b, "cka": value}
        for a in range(seeds)
        for b in range(a + 1, seeds)
        for kind, value in (("another seed", same), ("another input", other))
    ]
    return pd.DataFrame([*rows, {"pair": "x", "kind": "moved", "alone": True, "seed": 0, "other_seed": 1, "cka": 9.0}])


def test_what_an_input_does_beyond_seeds():
    found = similarity.beyond_seeds(pairs_of(0.9, 0.5))
    assert found.mean == pytest.approx(0.4)
    assert found.sign == 1
    assert similarity.beyond_seeds(pairs_of(0.5, 0.9)).sign == -1
    alone = similarity.beyond_seeds(pairs_of(0.9, 0.5, seeds=2))
    assert (alone.mean, alone.count) == (pytest.approx(0.4), 1)
    assert np.isnan(alone.low)
    with pytest.raises(ValueError, match="two seeds"):
        similarity.beyond_seeds(pairs_of(0.9, 0.5)[lambda rows: rows["kind"] == "another seed"])
    pairs = pairs_of(0.5, 0.5)  # the interval is wide where one seed decides
    pairs.loc[(pairs["kind"] == "another seed") & (pairs["seed"] == 0), "cka"] += 0.6
    found = similarity.beyond_seeds(pairs)
    assert found.mean == pytest.approx(0.4)
    assert found.sign == 0


def planted_moments(scenes=6, pixels=400):
    """Maps made by hand: every network sees a common feature; "rich" ones also a second; each has noise of its own."""
    rng = np.random.default_rng(0)
    common, second = rng.normal(size=(2, scenes, pixels))
    units, values = [], []
    for name in ("poor", "rich"):
        for seed in (0, 1, 2):
            channels = [common, *([second] if name == "rich" else []), rng.normal(size=(scenes, pixels))]
            channels = [channel + 0.3 * rng.normal(size=(scenes, pixels)) for channel in channels]
            channels.append(np.zeros((scenes, pixels)))  # a dead one
            kinds = [("none", channels)] + ([("other scene", [c[::-1] for c in channels])] if seed == 0 else [])
            for shuffle, maps in kinds:
                units += [(source_name(name, seed, shuffle), number) for number in range(len(maps))]
                values += maps
    stack = np.stack(values, axis=1)
    return xr.Dataset(
        {
            "pixels": ("scene", np.full(scenes, float(pixels))),
            "total": (("scene", "unit"), stack.sum(axis=2)),
            "product": (("scene", "unit", "unit_other"), stack @ stack.transpose(0, 2, 1)),
        },
        coords={"source": ("unit", [u[0] for u in units]), "channel": ("unit", [u[1] for u in units])},
    )


def test_planted_features_part_inputs_and_permuted_labels_do_not():
    sums, inputs = planted_moments(), ["poor", "rich"]
    gap = similarity.beyond_seeds(similarity.likeness(sums, inputs, [0, 1, 2]))
    assert gap.low > 0.05
    both = similarity.beyond_scenes(sums, inputs, [0, 1, 2], seed=0)
    assert both["value"]["trained"] == pytest.approx(gap.mean)
    assert both["low"]["trained"] > 0.05
    assert abs(both["value"]["another scene"]) < 0.05  # maps of another scene have no input in common
    # Each input given a network of either kind: nothing is left of what parts the inputs.
    other = {"poor, seed 1": "rich, seed 1", "rich, seed 1": "poor, seed 1"}
    mixed = sums.assign_coords(source=("unit", [other.get(str(name), name) for name in sums["source"].values]))
    assert similarity.beyond_seeds(similarity.likeness(mixed, inputs, [0, 1, 2])).low < 0


def test_intervals_over_scenes_hold_the_value_and_are_seeded(sums):
    pairs = similarity.likeness(sums, ["a", "b"], [0, 1])
    table = similarity.likeness_table(pairs, sums, [0, 1], seed=0)
    assert (table["low"] <= table["trained"] + 0.02).all()
    assert (table["trained"] <= table["high"] + 0.02).all()
    assert table.loc["a and a", "low"] == pytest.approx(1)
    assert table.equals(similarity.likeness_table(pairs, sums, [0, 1], seed=0))
    single = sums.isel(scene=[0])  # has no interval
    table = similarity.likeness_table(similarity.likeness(single, ["a", "b"], [0, 1]), single, [0, 1])
    assert table["trained"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)


def test_one_network_is_like_no_other(sums):
    pairs = similarity.likeness(sums, ["a"], [0])
    assert pairs.empty
    assert similarity.likeness_table(pairs, sums, [0]).empty
    with pytest.raises(ValueError, match="two seeds and of two inputs"):
        similarity.beyond_seeds(pairs)
