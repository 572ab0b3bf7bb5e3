"""An audit for people who bring a network of their own: what is checked before it, and what may be published after it.

`case` opens a network and an image and tries them on each other, so that a mistake shows before the long work.
`answer` audits it, `verdicts` puts that into a table and `sentences` into words for a paper, and `feeds` says which
parts of the image make the logits.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from hsiutils.attribution.audit import audit
from hsiutils.attribution.decompose import decompose
from hsiutils.attribution.hooks import INPUT, Picker, ask, layer_of, layer_sizes, picked
from hsiutils.attribution.result import TOLERANCE
from hsiutils.attribution.tape import NotPiecewiseLinear
from hsiutils.models.strangers import open_image, open_network


class Case(NamedTuple):
    """A network and an image in double precision, where rounding cannot be taken for a residual."""

    model: nn.Module
    x: Tensor
    """(channels, h, w)."""
    layers: list[str] | None
    """To audit; None for the usual ones."""
    output: Picker | None = None
    """Picks the logits out of what the network returns."""


def case(
    model: str | Path | nn.Module,
    image: str | Path | ArrayLike,
    layers: Sequence[str] = (),
    *,
    output: Picker | None = None,
) -> Case:
    """Open what is to be audited, and try it: one forward pass.

    Parameters
    ----------
    model : a network, or what `hsiutils.models.strangers.open_network` opens.
    image : (channels, h, w), or what `hsiutils.models.strangers.open_image` opens.
    layers : torch names, of a `UNet` Keras names; none for the usual ones.
    output : picks the logits out of what the network returns, where it returns something else.

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError
        If there is no such file or module.
    KeyError
        If the network has no such layer.
    ValueError
        If the network or image cannot be opened, the network does not take the image, what it returns is no map of
        logits, or a layer has no one map at it.
    """
    network = open_network(model) if isinstance(model, str | Path) else model
    x = open_image(image) if isinstance(image, str | Path) else torch.as_tensor(np.array(image))
    if x.ndim != 3:
        raise ValueError(f"the image must be (channels, h, w), got {tuple(x.shape)}")
    network, x = copy.deepcopy(network).double(), x.double()
    wanted = getattr(network, "input_shape", (None, None, None))
    if len(wanted) == x.ndim and any(size not in (None, own) for size, own in zip(wanted, x.shape, strict=True)):
        sizes = ", ".join("any" if size is None else str(size) for size in wanted)
        raise ValueError(f"the network takes images ({sizes}), got {tuple(x.shape)}: crop or resize the image")
    with picked(network, output):
        try:
            logits = ask(network, x[None])
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ValueError(f"the network does not take an image {tuple(x.shape)}: {error}") from error
        if not isinstance(logits, Tensor) or logits.ndim != 4:
            what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"the network must return logits (n, classes, h, w), got {what}: pick them by output=")
        if not torch.isfinite(logits).all():
            raise ValueError("the network's logits at this image are not all finite: are its units those of training?")
        named = [name for name in layers if name != INPUT]
        found = layer_sizes(network, x) if named else {}
        for name in named:
            module = layer_of(network, name)
            if not any(each is module and own in found for own, each in network.named_modules()):
                raise ValueError(
                    f"no map at layer {name!r}: it must be called once and return one tensor, as {', '.join(found)}"
                )
    return Case(network, x, list(layers) or None, output)


def answer(asked: Case, methods: Sequence[str] | None = None, patch: int = 8) -> tuple[xr.Dataset, str]:
    """The audit of a case, and why it is not exact; "" if it is.

    With smooth gates the network has no exact affine map. They are then held at the image's values, and the methods
    that need its derivative left out; the text names the gates.

    Raises
    ------
    NotPiecewiseLinear
        If an operation has no rule, so that nothing can be held.
    """
    try:
        return audit(asked.model, asked.x, methods, asked.layers, patch=patch, output=asked.output), ""
    except NotPiecewiseLinear as error:
        # methods that need the derivative are left out of the usual ones; named ones would be refused
        held = audit(asked.model, asked.x, None, asked.layers, patch=patch, output=asked.output, freeze=True)
        return held, str(error)


def feeds(asked: Case, by: Literal["bands", "regions"]) -> pd.DataFrame:
    """What the bands or the regions of an image add to a class's mean logit where the network sees that class.

    Of one class alone, where its logit is above zero and where it is not. Smooth gates are held.

    Returns
    -------
    DataFrame
        One row a class that the network sees; a column a band or region, then the biases, and `logit`, their sum.
    """
    with picked(asked.model, asked.output):
        logits = ask(asked.model, asked.x[None])
    seen = logits[0].argmax(0) if logits.shape[1] > 1 else (logits[0, 0] > 0).long()
    # (h', w') -> (h, w), where the image has another grid than the logits
    regions = functional.interpolate(seen[None, None].double(), asked.x.shape[1:], mode="nearest")[0, 0].long()
    parts_of = "bands" if by == "bands" else regions
    found = decompose(asked.model, asked.x, parts_of, over=seen, output=asked.output, freeze=True)
    several, rows = logits.shape[1] > 1, {}
    names = list(map(str, found.logit["class"].values)) if several else ["below 0", "above 0"]
    for target in found.logit["target"].values:
        name, number, own = names[target], int(target) if several else 0, {"target": target}
        parts = found.contribution.sel(own).isel({"class": number})
        codes = parts[parts.dims[0]].values
        labels = [f"band {code}" if by == "bands" else f"region of {names[code]}" for code in codes]
        rows[name] = dict(zip(labels, map(float, parts), strict=True))
        rows[name]["biases"] = float(found.bias.sel(own).isel({"class": number}).sum())
        rows[name]["logit"] = float(found.logit.sel(own).isel({"class": number}))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("where the network sees")


def verdicts(found: xr.Dataset) -> pd.DataFrame:
    """An audit (`hsiutils.attribution.audit.audit`) as a table, one row a method and layer.

    Columns: method, layer, `mean` and `largest` of |sum - logit| over images, classes and pixels, the mean in units of
    the mean of |logit| as `relative`, the largest in units of the largest |logit| as `of_largest`, and `adds_up`:
    whether that is rounding in the dtype of the logits. A sum that is not a number does not add up.
    """
    missed, logit = (abs(found[name].astype(np.float64)) for name in ("residual", "logit"))
    axes = ("image", "class", "y", "x")
    size, most = float(logit.mean()), float(logit.max())
    rows = pd.DataFrame({"method": found["name"].values, "layer": found["layer"].values})
    rows["mean"], rows["largest"] = (getattr(missed, how)(axes, skipna=False).values for how in ("mean", "max"))
    rows["relative"] = rows["mean"] / size if size else np.nan
    rows["of_largest"] = rows["largest"] / most if most else np.nan
    rows["adds_up"] = rows["largest"] <= TOLERANCE[found["logit"].dtype] * most
    return rows


def sentences(found: xr.Dataset) -> list[str]:
    """One sentence a method and layer of an audit, with its numbers, for a paper."""
    logit, rows = found["logit"], verdicts(found)
    images, classes, height, width = logit.shape
    where = f"{height * width:,} pixels and {classes} class{'es' * (classes > 1)}"
    where += f" of {images} images" if images > 1 else " of one image"
    size, tool = float(abs(logit.astype(np.float64)).mean()), f"{logit.dtype}, measured with hsiutils"
    held = found.attrs.get("frozen", "")
    caveat = f" They are no derivatives: {held} was held at its value for this image." if held else ""
    said = []
    for row in rows.itertuples():
        method = f"the {row.method}" if row.method.startswith(("gradient", "linear")) else row.method
        at = "" if row.layer == INPUT else f" at layer {row.layer}"
        if row.adds_up:
            said.append(
                f"The contributions of {method}{at} sum to every logit ({where}; largest residual "
                f"{row.largest:.1e}, mean |logit| {size:.2g}; {tool}).{'' if at else caveat}"
            )
        else:
            said.append(
                f"The contributions of {method}{at} do not sum to the logit they explain: over {where} the sum "
                f"misses it by {row.mean:.2g} on average and {row.largest:.2g} at most, where |logit| is {size:.2g} on "
                f"average ({tool})."
            )
    return said
