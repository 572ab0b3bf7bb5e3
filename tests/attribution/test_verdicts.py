"""What strangers are told: mistakes before the work, a table and sentences after it."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from hsiutils.attribution.hooks import ask
from hsiutils.attribution.verdicts import Case, answer, case, feeds, sentences, verdicts
from hsiutils.models.examples import fcn, squeeze, write_chain

X = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0)).numpy()


def test_a_case_is_in_double_precision_and_was_tried(tmp_path):
    np.save(tmp_path / "image.npy", X)
    found = case("hsiutils.models.examples:fcn", tmp_path / "image.npy", ["backbone.5", "input"])
    assert (found.x.dtype, found.layers) == (torch.float64, ["backbone.5", "input"])
    assert ask(found.model, found.x[None]).dtype == torch.float64
    assert case(fcn(), X).layers is None


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"image": X[0]}, ValueError, r"the image must be \(channels, h, w\), got \(24, 32\)"),
        ({"image": X[:2]}, ValueError, r"does not take an image \(2, 24, 32\): .*expected input"),
        ({"image": X * np.nan}, ValueError, "logits at this image are not all finite"),
        ({"layers": ["nowhere"]}, KeyError, "no layer 'nowhere' in the network; it has backbone"),
        (
            {"layers": ["backbone.4.relu"]},
            ValueError,
            r"no map at layer 'backbone.4.relu': .* called once .* backbone.0",
        ),
        ({"model": nn.Flatten()}, ValueError, r"must return logits \(n, classes, h, w\), got \(1, 2304\)"),
        ({"model": "nothing"}, ValueError, "a network is"),
    ],
)
def test_a_mistake_is_said_before_the_work(given, error, message):
    with pytest.raises(error, match=message):
        case(**{"model": fcn(), "image": X, **given})


def test_the_size_that_a_file_asks_for_is_said(tmp_path):
    path = write_chain(tmp_path / "chain.h5", size=(16, 32))
    with pytest.raises(ValueError, match=r"takes images \(3, 16, 32\), got \(3, 24, 32\): crop or resize"):
        case(path, X)


def planted(residual, logit, frozen="", dtype=float):
    """An audit of two methods, one image, one class and 1 x 2 pixels."""
    coords = {"method": ["a", "b"], "name": ("method", ["GradCAM", "sums"]), "layer": ("method", ["head", "input"])}
    values = {
        "residual": (("image", "method", "class", "y", "x"), np.array(residual, dtype)[None, :, None, None]),
        "logit": (("image", "class", "y", "x"), np.array(logit, dtype)[None, None, None]),
    }
    return xr.Dataset(values, coords, {"exact": int(not frozen), "frozen": frozen})


def test_a_verdict_is_rounding_or_not_and_its_numbers_are_those_of_the_residual():
    found = verdicts(planted([[3.0, -1.0], [1e-12, 0.0]], [4.0, -2.0]))
    assert found["method"].tolist() == ["GradCAM", "sums"]
    np.testing.assert_allclose(found["mean"], [2, 5e-13])
    np.testing.assert_allclose(found["largest"], [3, 1e-12])
    np.testing.assert_allclose(found["relative"], [2 / 3, 5e-13 / 3])
    np.testing.assert_allclose(found["of_largest"], [0.75, 2.5e-13])
    assert found["adds_up"].tolist() == [False, True]
    assert verdicts(planted([[1e-5, 0], [1e-3, 0]], [1, 1], dtype=np.float32))["adds_up"].tolist() == [True, False]
    assert verdicts(planted([[np.nan, 0], [0, 0]], [1, 1]))["adds_up"].tolist() == [False, True]


def test_a_sentence_has_its_numbers_and_its_caveat():
    no, yes = sentences(planted([[3.0, -1.0], [1e-12, 0.0]], [4.0, -2.0], "sigmoid in gate"))
    assert no.startswith(
        "The contributions of GradCAM at layer head do not sum to the logit they explain: over 2 pixels"
    )
    assert "misses it by 2 on average and 3 at most, where |logit| is 3 on average (float64, measured" in no
    assert "sums sum to every logit (2 pixels and 1 class of one image; largest residual 1.0e-12" in yes
    assert yes.endswith("They are no derivatives: sigmoid in gate was held at its value for this image.")
    assert "derivatives" not in no


def test_an_answer_is_exact_or_says_what_is_in_the_way():
    found, why = answer(case(fcn(), X), ["linear decomposition", "GradCAM"])
    assert why == ""
    table = verdicts(found).groupby("method")["adds_up"].all()
    assert table.to_dict() == {"linear decomposition": True, "GradCAM": False}
    found, why = answer(case(squeeze(), X), ["GradCAM"], patch=24)
    assert "because of sigmoid in backbone.5.gate.fc.3" in why
    assert found.attrs["exact"] == 0
    assert "GradCAM" not in found["name"]


class _Two(nn.Module):
    """Returns logits and something else, as networks with an auxiliary head do."""

    def __init__(self) -> None:
        super().__init__()
        self.network = fcn()

    def forward(self, x):
        return x, self.network(x)


def test_logits_are_picked_in_every_step_and_the_network_stays_as_it_is():
    model = _Two().eval()
    asked = case(model, X, output=lambda returned: returned[1])
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    found, why = answer(asked, ["linear decomposition"])
    assert why == ""
    assert verdicts(found)["adds_up"].all()
    assert feeds(asked, "bands").equals(feeds(case(fcn(), X), "bands"))


@pytest.mark.parametrize("by", ["bands", "regions"])
def test_what_feeds_a_class_sums_to_its_mean_logit_where_the_network_sees_it(by):
    asked = case(fcn(), X)
    logits = ask(asked.model, asked.x[None])[0]
    table = feeds(asked, by)
    for number in logits.argmax(0).unique().tolist():
        row = table.loc[f"class {number}"]
        assert row["logit"] == pytest.approx(float(logits[number][logits.argmax(0) == number].mean()))
        assert row.drop("logit").sum() == pytest.approx(row["logit"])
    assert len(table.columns) == (3 if by == "bands" else len(table)) + 2


def test_one_class_is_split_at_zero_and_coarse_logits_have_their_regions():
    model = nn.Sequential(nn.Conv2d(3, 1, 4, 4), nn.BatchNorm2d(1))
    table = feeds(Case(model.double().eval(), torch.as_tensor(X).double() - 0.5, None), "regions")
    assert table.index.tolist() == ["below 0", "above 0"]
    assert (np.sign(table["logit"]) == [-1, 1]).all()
