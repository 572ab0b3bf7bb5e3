"""The network as the exact affine map that it is at one input, and forward mode through it.

With batch normalisation folded in, every layer is linear but for ReLU and max-pooling, and those act at a given input
like a fixed gate and a fixed choice. So y = J x + sum over layers of J_l b_l holds exactly, not to first order (the
closure behind FullGrad, Srinivas & Fleuret 2019). `Linearisation.push` applies J to tangents, a Jacobian-vector product
without autograd, `pull` its adjoint; `Parts` cuts an input into what is pushed, `Output` says which logits are kept.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from hsiutils.attribution.hooks import INPUT, activations, ask, full_precision
from hsiutils.attribution.targets import class_number, one_image
from hsiutils.models.unet import Conv, Entrance, UNet

MEMORY = 1 << 30
"""Default limit on the working memory of a computation, bytes: room for tangents of the full-size network in double
precision (0.3 GB each). Results come on top."""


class Site(NamedTuple):
    """A tensor of the network where a tangent may enter."""

    layer: str
    """Keras name, or "input"."""
    after: bool = True
    """After the ReLU; else before it (and after the folded batch normalisation), where the bias enters."""


@dataclass(frozen=True, eq=False)
class Linearisation:
    """The affine map at one image; make it with `linearise`.

    At a ReLU input of exactly zero the gate is shut, and of equal numbers in a pooling window torch's pick passes, both
    as in torch's gradients. Either choice would close: the value is the same. `network` is a folded copy of the model,
    `image` is (channels, h, w), and `logits` are (classes, h, w).
    """

    network: UNet
    image: Tensor
    logits: Tensor
    gates: Mapping[str, Tensor]
    """Layer -> (channels, h', w'), 1 where its ReLU lets through, else 0."""
    picks: Mapping[str, Tensor]
    """Layer that is pooled -> (channels, h'/2, w'/2) flat index of each window's largest value."""
    gated: torch.dtype
    """Of the pass that gates and picks were taken in."""

    def push(self, tangents: Mapping[Site, Tensor], classes: Sequence[int] | None = None) -> Tensor:
        """What tangents do to every logit, or to those in the channels `classes`: (n, classes, h, w).

        `tangents` are at each site (n, channels, h', w') of the site's (padded) size, or (n, channels, 1, 1) for the
        same value everywhere. The i-th tangents of all sites act together. A KeyError if a site does not exist.
        """
        with torch.no_grad(), full_precision():
            return _Walk(self, tangents).run(classes)

    def pull(self, weights: Tensor) -> dict[Site, Tensor]:
        """The adjoint of `push`: derivative of weighted logits by the input and by every bias, in one reverse pass.

        `weights` (classes, h, w) give site of the input -> (channels, h, w), site of each layer's bias -> (channels,).
        """
        tangents = {Site(INPUT): self.image[None], **self.biases()}
        with torch.enable_grad(), full_precision():
            leaves = {site: torch.zeros_like(tangent).requires_grad_() for site, tangent in tangents.items()}
            value = (_Walk(self, leaves).run(None)[0] * weights.to(self.image)).sum()
            slopes = torch.autograd.grad(value, list(leaves.values()))
        found = dict(zip(leaves, slopes, strict=True))  # (1, channels, h, w), and (1, channels, 1, 1) of biases
        return {site: slope[0] if site == Site(INPUT) else slope.flatten() for site, slope in found.items()}

    @property
    def closes(self) -> bool:
        """Whether the affine map gives the network's logits at its own image, but for rounding.

        It does for ReLU and max-pooling, and for no other activation or pooling.
        """
        total = self.push({Site(INPUT): self.image[None], **self.biases()})[0]
        return bool((total - self.logits).abs().max() <= 1e-3 * self.logits.abs().max())

    def biases(self) -> dict[Site, Tensor]:
        """The biases of all layers as tangents of a batch of one."""
        biases = {name: cast(Tensor, layer.bias).detach() for name, layer in self.network.keras_layers().items()}
        if isinstance(self.network.entrance, Entrance):
            biases[INPUT] = self.network.entrance.shift
        return {Site(name, after=False): bias[None, :, None, None] for name, bias in biases.items()}  # (1, k, 1, 1)

    def activations(self, names: Iterable[str], after: bool = True) -> dict[str, Tensor]:
        """Outputs of layers at the image, (1, channels, h', w'), by one more forward pass."""
        with activations(self.network, names, after) as seen:
            ask(self.network, self.image[None])
        return seen

    def tangents_within(self, memory: int) -> int:
        """How many tangents one pass may carry, so that it works within `memory` bytes: at least one, or ValueError."""
        config, (height, width) = self.network.config, self.padded
        # At its widest a tangent is the padded input and its source, or a decoder's concat with what it is made of.
        channels = 2 * config.channels + 10 * config.filters + 2 * config.classes
        need = channels * height * width * self.image.element_size()
        if memory < need:
            raise ValueError(
                f"one tangent of this network needs {need} bytes, {memory} are left for it: raise the memory limit"
            )
        return memory // need

    @property
    def padded(self) -> tuple[int, int]:
        """(rows, columns) after padding."""
        _, height, width = self.image.shape
        return self.network.config.padded((height, width))


def linearise(model: UNet, x: Tensor, exact: bool = False) -> Linearisation:
    """The affine map that a network, in evaluation, is at one image, (channels, h, w) or (1, channels, h, w).

    `exact` takes gates and choices in float64 whatever the network's dtype: single precision opens one gate in millions
    that double precision shuts, and a part that is small by itself can change by a third of its size.
    """
    image = input_image(model, x)
    network = model.folded().requires_grad_(False)
    precise = network if exact is False or image.dtype == torch.float64 else model.unhooked().double().folded()
    names = [name for name, unit in network.units().items() if unit.relu is not None]
    with torch.no_grad(), full_precision():
        with activations(precise, names) as seen:
            logits = precise(image[None].to(precise.head.weight.dtype))[0]
        if precise is not network:
            logits = network(image[None])[0]
        gates = {name: (seen[name][0] > 0).to(image) for name in names}
        picks = {name: functional.max_pool2d(seen[name][0], 2, return_indices=True)[1] for name in network.config.skips}
    return Linearisation(network, image, logits, gates, picks, precise.head.weight.dtype)


def input_image(model: UNet, x: Tensor) -> Tensor:
    """One image (channels, h, w) that the network can be linear at, off any graph.

    A ValueError if x is no single image of finite numbers, if its dtype is half precision or not the network's, or if a
    hook on the network changes its logits: copies that are made of it have no hooks, and would be another network.
    """
    image, dtype = one_image(x, "x"), model.head.weight.dtype
    if image.dtype != dtype:
        raise ValueError(f"x is {image.dtype} and the network {dtype}: convert one of them")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x and the network are {dtype}, too coarse to add contributions up: take .float() of both")
    with full_precision():
        image = image.clone().detach() if image.is_inference() else image.detach()
    if not torch.isfinite(image).all():
        raise ValueError("x holds values that are not finite: there is no affine map at such an input")
    if any(model.hooks()):
        hooked, bare = ask(model, image[None]), ask(model.unhooked(), image[None])
        if not torch.allclose(hooked, bare, rtol=1e-5, atol=1e-5 * float(bare.abs().max())):
            change = float((hooked - bare).abs().max())
            raise ValueError(f"a hook on the network changes its logits by up to {change:.3g}: remove it first")
    return image


class _Walk:
    """One way through the linearised network; None stands for a tangent that is zero everywhere, and costs nothing."""

    def __init__(self, at: Linearisation, tangents: Mapping[Site, Tensor]) -> None:
        self.at = at
        self.waiting = dict(tangents)
        self.layers = at.network.keras_layers()

    def run(self, classes: Sequence[int] | None) -> Tensor:
        config, (_, height, width), (rows, columns) = self.at.network.config, self.at.image.shape, self.at.padded
        blocks = iter(config.blocks)
        t, entrance = self.enter(Site(INPUT), None, tuple(self.at.image.shape)), self.at.network.entrance
        t = t * entrance.scale[:, None, None] if isinstance(entrance, Entrance) and t is not None else t
        t = self.enter(Site(INPUT, after=False), t, tuple(self.at.image.shape))
        t = None if t is None else functional.pad(t, (0, columns - width, 0, rows - height))
        skips = []
        for name in config.skips:
            t = self.block(next(blocks), t)
            skips.append(t)
            t = self.pool(name, t)
        t = self.block(next(blocks), t)
        for name in config.transposes:
            t = _join(self.layer(name, t), skips.pop())
            t = self.block(next(blocks), t)
        t = self.head(config.head, t, classes)
        if self.waiting:
            raise KeyError(f"no such site in a U-Net of depth {config.depth}: {', '.join(map(str, self.waiting))}")
        return t[:, :, :height, :width]

    def block(self, names: tuple[str, str], t: Tensor | None) -> Tensor | None:
        return self.layer(names[1], self.layer(names[0], t))

    def layer(self, name: str, t: Tensor | None) -> Tensor | None:
        gate = self.at.gates[name]
        t = self.enter(Site(name, after=False), _linear(self.layers[name], t), tuple(gate.shape))
        return self.enter(Site(name), None if t is None else t * gate, tuple(gate.shape))

    def pool(self, name: str, t: Tensor | None) -> Tensor | None:
        if t is None:
            return None
        pick = self.at.picks[name]
        # (n, k, 2h, 2w) -> (n, k, 4hw), of which (k, hw) are picked for every tangent -> (n, k, hw) -> (n, k, h, w)
        chosen = t.flatten(2).gather(2, pick.flatten(1).expand(len(t), -1, -1))
        return chosen.reshape(len(t), *pick.shape)

    def head(self, name: str, t: Tensor | None, classes: Sequence[int] | None) -> Tensor:
        head = self.at.network.head
        rows = list(range(head.out_channels)) if classes is None else list(classes)
        t = None if t is None else functional.conv2d(t, head.weight[rows])
        for site in (Site(name, after=False), Site(name)):
            if site in self.waiting:
                self.waiting[site] = self.waiting[site][:, rows]
            t = self.enter(site, t, (len(rows), *self.at.padded))
        if t is None:
            raise ValueError("there is no tangent to push: name at least one site")
        return t

    def enter(self, site: Site, t: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
        """Add the tangent that waits for this site, if one does."""
        tangent = self.waiting.pop(site, None)
        if tangent is None:
            return t
        return tangent.expand(-1, *shape) if t is None else t + tangent


def _linear(layer: Conv, t: Tensor | None) -> Tensor | None:
    """A convolution without its bias."""
    if t is None:
        return None
    if isinstance(layer, nn.ConvTranspose2d):
        return functional.conv_transpose2d(t, layer.weight, stride=2)
    return functional.conv2d(t, layer.weight, padding="same")


def _join(up: Tensor | None, skip: Tensor | None) -> Tensor | None:
    """The decoder's concat, where either half may be zero."""
    if up is None and skip is None:
        return None
    up = torch.zeros_like(cast(Tensor, skip)) if up is None else up
    return torch.cat([up, torch.zeros_like(up) if skip is None else skip.expand(len(up), -1, -1, -1)], dim=1)


Coords = Mapping[str, Sequence[Hashable] | NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Parts:
    """A cut of an image (channels, h, w) into bands, regions, or both: the parts add up to the image."""

    codes: Tensor
    """(h, w) number of each pixel's region, 0..regions-1."""
    coords: Coords
    """Part axes in their order, with the label of each band and region."""

    @classmethod
    def of(cls, image: Tensor, partition: ArrayLike | None, bands: bool) -> "Parts":
        """Cut by band, by the regions of an integer map (h, w), or jointly."""
        channels, height, width = image.shape
        coords: dict[str, Sequence[Hashable] | NDArray[Any]] = {"band": np.arange(channels)} if bands else {}
        codes = torch.zeros((height, width), dtype=torch.long, device=image.device)
        if partition is not None:
            coords["region"], codes = region_codes(partition, image, "partition")
        return cls(codes, coords)

    def __len__(self) -> int:
        return int(np.prod([len(labels) for labels in self.coords.values()]))

    def cut(self, image: Tensor, numbers: range) -> Tensor:
        """Some of the parts, counted with the last axis fastest: (len(numbers), channels, h, w)."""
        regions = len(self.coords.get("region", (0,)))
        cut = image.new_zeros((len(numbers), *image.shape))
        for row, number in enumerate(numbers):
            band, region = divmod(number, regions)
            chosen = slice(band, band + 1) if "band" in self.coords else slice(None)
            cut[row, chosen] = image[chosen] * (self.codes == region)
        return cut


@dataclass(frozen=True, eq=False)
class Output:
    """What is kept of logits (n, classes, h, w): every pixel, or the mean over target regions."""

    classes: tuple[int, ...]
    """Channels of the logits that are computed."""
    averages: Tensor | None
    """(h w, targets) weights of the means; None to keep every pixel."""
    coords: Coords
    """Class and target labels."""

    @classmethod
    def of(cls, at: Linearisation, classes: Sequence[int | str] | None, over: ArrayLike | None) -> "Output":
        """Keep some classes (None for all), at every pixel or averaged over the regions of an integer map (h, w)."""
        names = at.network.config.names
        chosen = range(len(names)) if classes is None else [class_number(at.network, name) for name in classes]
        coords: dict[str, Sequence[Hashable] | NDArray[Any]] = {"class": [names[number] for number in chosen]}
        if over is None:
            return cls(tuple(chosen), None, coords)
        coords["target"], codes = region_codes(over, at.image, "over")
        member = functional.one_hot(codes.flatten(), len(coords["target"])).to(at.image)  # (h w, targets)
        return cls(tuple(chosen), member / member.sum(0), coords)

    def keep(self, logits: Tensor) -> NDArray[Any]:
        """(n, classes, h, w) -> the same or (n, classes, targets), on the CPU."""
        with full_precision():
            # (n, classes, h w) @ (h w, targets) -> (n, classes, targets)
            kept = logits if self.averages is None else logits.flatten(2) @ self.averages
        return np.asarray(kept.detach().cpu().numpy())

    def named(self, values: NDArray[Any], parts: Coords | None = None) -> xr.DataArray:
        """Values with the part axes in front, as a DataArray."""
        axes, kept = parts or {}, ("class", "y", "x") if self.averages is None else ("class", "target")
        # (parts, *kept) -> (band, region, *kept)
        shaped = values.reshape(tuple(len(labels) for labels in axes.values()) + values.shape[-len(kept) :])
        return xr.DataArray(shaped, dims=(*axes, *kept), coords={**axes, **self.coords})


def pushed(at: Linearisation, parts: Parts, image: Tensor, output: Output, memory: int) -> NDArray[Any]:
    """J v for every part v of an image (channels, h, w), pushed in blocks within `memory` bytes: (parts, *kept)."""
    block = at.tangents_within(memory)
    blocks = (range(start, min(start + block, len(parts))) for start in range(0, len(parts), block))
    return np.concatenate(
        [output.keep(at.push({Site(INPUT): parts.cut(image, numbers)}, output.classes)) for numbers in blocks]
    )


def region_codes(partition: ArrayLike | Tensor, image: Tensor, what: str) -> tuple[NDArray[Any], Tensor]:
    """Labels of the regions of an integer map of the image's size, ascending, and each pixel's place among them."""
    regions = partition.detach().cpu().numpy() if isinstance(partition, Tensor) else np.asarray(partition)
    if not np.issubdtype(regions.dtype, np.integer) and regions.dtype != np.bool_:
        raise ValueError(f"{what} must hold integers or booleans, one number a region, got dtype {regions.dtype}")
    if regions.shape != tuple(image.shape[1:]):
        raise ValueError(f"{what} must have the image's size {tuple(image.shape[1:])}, got {regions.shape}")
    labels, codes = np.unique(regions, return_inverse=True)
    return labels, torch.as_tensor(codes.reshape(regions.shape), device=image.device)
