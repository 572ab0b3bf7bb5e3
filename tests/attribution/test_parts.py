import numpy as np
import pytest
import torch
from networks import image, shaken

from hsiutils.attribution.linearise import Output, Parts, linearise

X = image(height=4, width=6)
PARTITION = np.arange(24).reshape(4, 6) % 3 * 10 - 5


@pytest.mark.parametrize(("partition", "bands"), [(None, True), (PARTITION, False), (PARTITION, True)])
def test_parts_add_up_to_the_image(partition, bands):
    parts = Parts.of(X, partition, bands)
    pieces = parts.cut(X, range(int(np.prod(parts.shape))))
    assert torch.equal(pieces.sum(0), X)
    assert ((pieces != 0).sum(0) == 1).all()


def test_joint_parts_count_regions_fastest_and_keep_their_labels():
    parts = Parts.of(X, PARTITION, bands=True)
    assert {axis: list(labels) for axis, labels in parts.coords.items()} == {
        "band": [0, 1, 2, 3],
        "region": [-5, 5, 15],
    }
    (piece,) = parts.cut(X, range(3 * 2 + 1, 3 * 2 + 2))
    assert torch.equal(piece[2], X[2] * torch.as_tensor(PARTITION == 5))
    assert not piece[[0, 1, 3]].any()


@pytest.mark.parametrize(
    ("partition", "bands", "message"),
    [
        (None, False, "neither was asked for"),
        (PARTITION[:3], True, r"partition must have the image's size \(4, 6\), got \(3, 6\)"),
        (PARTITION + 0.5, True, "partition must hold integers"),
    ],
)
def test_bad_partitions_are_named(partition, bands, message):
    with pytest.raises(ValueError, match=message):
        Parts.of(X, partition, bands)


def test_output_averages_over_target_regions():
    at = linearise(shaken(), X)
    output = Output.of(at, [3, 0], PARTITION)
    values = torch.randn(2, 2, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    named = output.named(output.keep(values), {"part": ["a", "b"]})
    assert named.dims == ("part", "class", "target")
    assert named["class"].values.tolist() == ["Sky", "Road"]
    expected = values[1, 0][torch.as_tensor(PARTITION == 15)].mean()
    assert named.sel({"part": "b", "class": "Sky", "target": 15}).item() == pytest.approx(expected.item(), rel=1e-12)


def test_output_names_an_unknown_class():
    with pytest.raises(ValueError, match="no class 5"):
        Output.of(linearise(shaken(), X), [5], None)
