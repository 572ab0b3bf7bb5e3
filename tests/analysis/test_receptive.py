import numpy as np
import pandas as pd
import pytest
import torch
from planted import planted, scenes, trained_like

from hsiutils.analysis.receptive import effective_fields, field_layers, theoretical_fields
from hsiutils.data.classes import CLASSES, VOID
from hsiutils.models.unet import UNet, UNetConfig


def boxes():
    """Every 3x3 kernel of the first block all ones: conv2d_1 sees a pyramid of 5x5 pixels."""
    model = UNet(UNetConfig(channels=3, depth=1, filters=4)).eval()
    with torch.no_grad():
        model.encoder[0].conv1.weight.fill_(1.0)
        model.encoder[0].conv2.weight.fill_(1.0)
        model.encoder[0].norm1.bias.fill_(100.0)
    return model


def away_from_the_rim(pairs, margin=3):
    """The same scenes with labels only where no field of conv2d_1 is cut off."""
    inner = (slice(margin, -margin), slice(margin, -margin))
    found = [(image, torch.full_like(truth, VOID)) for image, truth in pairs]
    for (_, truth), (_, whole) in zip(found, pairs, strict=True):
        truth[inner] = whole[inner]
    return found


def test_layers_are_the_authors_and_the_theoretical_table_is_the_papers():
    assert field_layers(UNetConfig()) == [f"conv2d_{n}" for n in (1, 3, 5, 7, 15, 17, 19, 21)]
    table = theoretical_fields(UNetConfig())
    assert table["side"].to_dict() | {"conv2d_1": 5, "conv2d_3": 14, "conv2d_21": 408} == table["side"].to_dict()
    assert table.loc["conv2d_11", "level"] == 5
    assert len(table) == 11


def test_two_box_kernels_make_a_pyramid():
    """Weights (1 2 3 2 1) x (1 2 3 2 1): above a quarter of 9 lie 13 pixels, the farthest 2 away."""
    pairs = away_from_the_rim(scenes(2))
    table, wide, narrow = (
        effective_fields(boxes(), pairs, seed=0, layers=["conv2d_1"], threshold=share) for share in (0.25, 0.1, 0.9)
    )
    np.testing.assert_allclose(table["diameter"], 5)
    np.testing.assert_allclose(table["area_diameter"], 2 * np.sqrt(13 / np.pi))
    assert (table["theoretical"] == 5).all()
    assert (narrow["diameter"] == 1).all()
    assert (wide["diameter"] > 5).all()


def test_no_field_is_wider_than_the_theoretical_square_and_there_is_none_where_nothing_reaches():
    model = trained_like(depth=2)
    table = effective_fields(model, scenes(2), seed=0, pixels=3, layers=["conv2d_1", "conv2d_3", "conv2d_9"])
    assert (table["diameter"] <= np.sqrt(2) * table["theoretical"] + 1).all()
    # From half the resolution a cell's four pixels all count as its centre.
    assert table.groupby("layer")["diameter"].mean()["conv2d_3"] > table.groupby("layer")["diameter"].mean()["conv2d_1"]
    unreached = effective_fields(planted(), scenes(1), seed=0, layers=["conv2d_3"])
    assert unreached[["diameter", "area_diameter"]].isna().all().all()


def test_rows_say_where_they_were_taken_and_the_draw_is_seeded():
    pairs = scenes(3)
    draw = {"pixels": 2, "names": ["a", "b", "c"]}
    table, again, other = (effective_fields(trained_like(), pairs, seed=seed, **draw) for seed in (1, 1, 2))
    assert len(table) == 3 * 2 * 2
    for row in table.itertuples():
        truth = pairs["abc".index(row.scene)][1]
        assert CLASSES[truth[row.row, row.column]] == table.loc[row.Index, "class"]
    pd.testing.assert_frame_equal(table, again)
    assert not table["row"].equals(other["row"])


def test_wrong_requests_are_clear_errors():
    image, truth = scenes(1)[0]
    with pytest.raises(ValueError, match="scene 0 has 0 labelled pixels, 4 are to be drawn"):
        effective_fields(trained_like(), [(image, torch.full_like(truth, VOID))], seed=0)
    with pytest.raises(ValueError, match="threshold must lie"):
        effective_fields(trained_like(), scenes(1), seed=0, threshold=1.5)
    with pytest.raises(KeyError, match="no layer 'conv2d_77'"):
        effective_fields(trained_like(), scenes(1), seed=0, layers=["conv2d_77"])


def test_a_gradients_size_is_its_length_over_the_inputs_channels():
    """3 and 4 in two channels make 5, of which 1.3 in one channel next door is more than a quarter; of 7 it is not."""
    model = boxes()
    with torch.no_grad():
        model.encoder[0].conv1.weight.zero_()
        model.encoder[0].conv1.weight[0, 0, 1, 1:] = torch.tensor([3.0, 1.3])
        model.encoder[0].conv1.weight[0, 1, 1, 1] = 4
    table = effective_fields(model, away_from_the_rim(scenes(1)), seed=0, layers=["conv2d"])
    assert (table["diameter"] == 3).all()


def test_planted_fields_are_a_pixel_wide_and_three_at_an_edge():
    """Noise and the red edge are read at the pixel itself; a vertical edge at both its neighbours."""
    pairs = away_from_the_rim(scenes(6))
    table = effective_fields(planted(), pairs, seed=0, pixels=40, layers=["conv2d_1"], after=True)
    at_edge = []
    for row in table.itertuples():
        brightness = pairs[int(row.scene)][0][:2].sum(0)[row.row]
        at_edge.append(bool(brightness[row.column - 1] != brightness[row.column + 1]))
    assert 10 < sum(at_edge) < len(table) - 10
    assert set(table["diameter"][at_edge]) == {3.0}
    assert set(table["diameter"][~np.array(at_edge)]) == {1.0}
