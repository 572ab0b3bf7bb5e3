"""Networks that cannot see a part of the image, and what maps say of it.

A wall stands in front of the network: the input is multiplied by zero behind it, so nothing there can reach a logit.
Class activation maps put weight there nevertheless (Taimeskhanov, Sicre, Garreau 2024, arXiv 2404.01964): they are
drawn where a deep layer is active, and biases and padding make it active behind a wall, too. The network is as it was
trained, without a wall.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from hsiutils.attribution.checks import pixel_map
from hsiutils.attribution.hooks import INPUT, ask
from hsiutils.attribution.linearise import usual_layers
from hsiutils.attribution.methods import Method
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.targets import Target, region


class Walled(nn.Module):
    """A network behind a wall: `seen` (h, w) is true where the input reaches it, and elsewhere it reads zero.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> network = hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2)).eval()
    >>> walled = Walled(network, torch.arange(8) < 5)
    >>> x = torch.rand(1, 3, 6, 8)
    >>> torch.equal(walled(x), walled(torch.where(torch.arange(8) < 5, x, 9.0)))
    True
    """

    def __init__(self, network: nn.Module, seen: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, x: Tensor) -> Any:
        """What the network returns of images (n, channels, h, w)."""
        return self.network(x * self.get_buffer("seen"))


def asked_before(model: nn.Module, x: Tensor, seen: Tensor) -> Target:
    """The mean logit of the class that a walled network gives most of the seen pixels to, over these."""
    logits = ask(Walled(model, seen), x[None])[0]
    chosen = logits.argmax(0)
    there = functional.interpolate(seen[None, None].float(), chosen.shape, mode="nearest")[0, 0] > 0
    most = int(chosen[there].bincount(minlength=len(logits)).argmax())
    return region(model, x, most, there & (chosen == most), mean=True)


def behind(
    model: nn.Module,
    x: Tensor,
    seen: ArrayLike | Tensor,
    methods: Mapping[str, Method],
    layers: Sequence[str] | None = None,
) -> xr.Dataset:
    """Share of each method's mass, sum of |map|, that lies where the network cannot see.

    Parameters
    ----------
    x : (channels, h, w).
    seen : booleans (h, w), both kinds among them.
    methods : by name. Methods of the input are asked about the network with its wall; of those that take a layer the
        same maps come of the network without it and an image that is zero behind the wall, which is so computed.
    layers : for methods that take one, names as of `hsiutils.attribution.methods.attribute`; None for the last on the
        smallest grid and the last before the logits. CAM, and what takes a pass a channel, is asked at the latter only.

    Returns
    -------
    Dataset of `share` (map), with coordinates `method` and `layer`; NaN for a map of zeros. `area` is the share of the
    image that is not seen: that of a map that is the same everywhere.

    Raises
    ------
    ValueError
        If `seen` has another size than the image, or the network sees all, or nothing; or a method is not for this
        network, as CAM where there is no head.
    """
    mask = torch.as_tensor(seen, dtype=torch.bool, device=x.device)
    if mask.shape != x.shape[1:] or mask.all() or not mask.any():
        raise ValueError(f"seen: expected booleans {tuple(x.shape[1:])}, some true and some false, got {seen!r}")
    walled, shown, target = Walled(model, mask), x * mask, asked_before(model, x, mask)
    usual = usual_layers(model, x)[-2:]
    rows: list[tuple[str, str, float]] = []
    for name, method in methods.items():
        if not method.layered:
            rows.append((name, INPUT, _share(model, method(walled, x, target), x, mask)))
            continue
        few = name == "CAM" or method.passes == "layer"
        for layer in usual[-1:] if few else usual if layers is None else layers:
            rows.append((name, layer, _share(model, method(model, shown, target, layer), x, mask)))
    names, places, shares = (list(column) for column in zip(*rows, strict=True))
    coords = {"method": ("map", names), "layer": ("map", places)}
    return xr.Dataset({"share": ("map", shares), "area": float((~mask).float().mean())}, coords)


def _share(model: nn.Module, found: Attribution, x: Tensor, seen: Tensor) -> float:
    values = torch.as_tensor(pixel_map(model, replace(found, map=abs(found.map)), x))
    total = float(values.sum())
    return float(values[~seen.cpu()].sum()) / total if total else float("nan")
