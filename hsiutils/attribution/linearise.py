"""What is pushed through the affine map of a network, and which logits are kept.

With batch normalisation folded in, every layer of a `UNet` is linear but for ReLU and max-pooling. `linearise` gives
the affine map that a network is at one image (`hsiutils.attribution.gates`), of ours with its normalisation folded in;
`Parts` cuts an input into what is pushed, `Output` says which logits are kept.
"""

import copy
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from hsiutils.attribution.gates import Affine
from hsiutils.attribution.hooks import INPUT, ask, dtype_of, full_precision, layer_sizes
from hsiutils.attribution.rules import RULES
from hsiutils.attribution.tape import Rule
from hsiutils.attribution.targets import class_names, class_number, one_image
from hsiutils.models.unet import UNet

MEMORY = 1 << 30
"""Default limit on the working memory of a computation, bytes: room for tangents of the full-size network in double
precision (0.3 GB each). Results come on top."""


def linearise(
    model: nn.Module, x: Tensor, exact: bool = False, *, freeze: bool = False, rules: Mapping[str, Rule] = RULES
) -> Affine:
    """The affine map that a network, in evaluation, is at one image, (channels, h, w) or (1, channels, h, w).

    Arguments and errors are those of `Affine`. A `UNet` is folded first, so that a bias is all that a layer adds, and
    put into the layout in which a processor is fastest.
    """
    image = input_image(model, x)
    if not isinstance(model, UNet):
        return Affine(model, image, freeze=freeze, exact=exact, rules=rules)
    single = image.dtype == torch.float32
    # As by `UNet.unhooked`, but without the other tables of hooks: to copy them all takes longer than the weights.
    tables = [each for module in model.modules() for key, each in vars(module).items() if key.endswith("hooks")]
    with torch.inference_mode(False):  # what is made in inference mode knows no gradient
        twin = copy.deepcopy(model, {id(each): OrderedDict() for each in tables}).eval().requires_grad_(False)
        twin = twin.double() if exact else twin
        for block in twin.blocks():
            block.fold()
        if single and image.device.type == "cpu":
            twin = twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Affine(twin, image, exact="rounded" if exact and single else False, freeze=freeze, rules=rules)


def bias_names(at: Affine) -> dict[str, str]:
    """Module -> what its bias is called: by Keras name in a `UNet`, where "input" is what batch normalisation adds."""
    if not isinstance(at.model, UNet):
        return {name: name for name in at.biased}
    modules = {module: name for name, module in at.model.named_modules()}
    names = {modules[layer]: name for name, layer in at.model.keras_layers().items()} | {"entrance": INPUT}
    return {module: name for module, name in names.items() if module in at.biased}


def usual_layers(model: nn.Module, image: Tensor) -> list[str]:
    """Layers of a network to look at where none are named, at an image (channels, h, w).

    Of a `UNet` the second convolution, which the first skip connection carries, the base and the last convolution
    before the head, each once; of another network the last layer on the smallest grid of more than a pixel, and the
    last before the logits.
    """
    if isinstance(model, UNet):
        config = model.config
        return list(dict.fromkeys([config.blocks[0][1], config.base, config.last]))
    layers, classes = layer_sizes(model, image), ask(model, image[None]).shape[1]
    leaves = {name for name, module in model.named_modules() if name and not any(module.children())}
    sizes = {name: height * width for name, (_, height, width) in layers.items() if name in leaves}
    inner = [name for name in sizes if layers[name][0] != classes and sizes[name] > 1]
    if not inner:
        return [INPUT]
    smallest = min(sizes[name] for name in inner)
    return list(dict.fromkeys([[name for name in inner if sizes[name] == smallest][-1], inner[-1]]))


def input_image(model: nn.Module, x: Tensor) -> Tensor:
    """One image (channels, h, w) that the network can be linear at, off any graph.

    A ValueError if x is no single image of finite numbers, if its dtype is half precision or not the network's, or if a
    hook on a `UNet` changes its logits: copies that are made of it have no hooks, and would be another network.
    """
    image = one_image(x, "x")
    dtype = dtype_of(model, image)
    if image.dtype != dtype:
        raise ValueError(f"x is {image.dtype} and the network {dtype}: convert one of them")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x and the network are {dtype}, too coarse to add contributions up: take .float() of both")
    with full_precision():
        image = image.clone().detach() if image.is_inference() else image.detach()
    if not torch.isfinite(image).all():
        raise ValueError("x holds values that are not finite: there is no affine map at such an input")
    if isinstance(model, UNet) and any(model.hooks()):
        hooked, bare = ask(model, image[None]), ask(model.unhooked(), image[None])
        if not torch.allclose(hooked, bare, rtol=1e-5, atol=1e-5 * float(bare.abs().max())):
            change = float((hooked - bare).abs().max())
            raise ValueError(f"a hook on the network changes its logits by up to {change:.3g}: remove it first")
    return image


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

    def pushed(self, at: Affine, image: Tensor, numbers: Sequence[int]) -> Tensor:
        """What some of the parts, counted with the last axis fastest, do to every logit: (n, all classes, h, w).

        `at` is one map, or as many as there are numbers.
        """
        bands, regions = np.divmod(numbers, len(self.coords.get("region", (0,))))
        masks = self.codes == torch.as_tensor(regions, device=image.device)[:, None, None]  # (n, h, w)
        if "band" in self.coords:
            return at.push_channels((image[bands.tolist()] * masks)[:, None], bands.tolist())
        return at.push(image * masks[:, None])


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
    def of(cls, at: Affine, classes: Sequence[int | str] | None, over: ArrayLike | None) -> "Output":
        """Keep some classes (None for all), at every pixel or averaged over the regions of an integer map (h, w)."""
        names = class_names(at.model, len(at.logits))
        chosen = range(len(names)) if classes is None else [class_number(names, name) for name in classes]
        coords: dict[str, Sequence[Hashable] | NDArray[Any]] = {"class": [names[number] for number in chosen]}
        if over is None:
            return cls(tuple(chosen), None, coords)
        coords["target"], codes = region_codes(over, at.logits, "over")
        member = functional.one_hot(codes.flatten(), len(coords["target"])).to(at.logits)  # (h w, targets)
        return cls(tuple(chosen), member / member.sum(0), coords)

    def keep(self, logits: Tensor) -> NDArray[Any]:
        """All logits (n, all classes, h, w) -> (n, classes, h, w) or (n, classes, targets), on the CPU."""
        whole = self.classes == tuple(range(logits.shape[1]))
        logits = logits if whole else logits[:, list(self.classes)]
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


def pushed(at: Affine, parts: Parts, image: Tensor, output: Output, memory: int) -> NDArray[Any]:
    """J v for every part v of an image (channels, h, w), pushed in blocks within `memory` bytes: (parts, *kept)."""
    blocks = np.array_split(range(len(parts)), -(-len(parts) // at.tangents_within(memory)))
    return np.concatenate([output.keep(parts.pushed(at, image, numbers.tolist())) for numbers in blocks])


def region_codes(partition: ArrayLike | Tensor, image: Tensor, what: str) -> tuple[NDArray[Any], Tensor]:
    """Labels of the regions of an integer map of the image's size, ascending, and each pixel's place among them."""
    regions = partition.detach().cpu().numpy() if isinstance(partition, Tensor) else np.asarray(partition)
    if not np.issubdtype(regions.dtype, np.integer) and regions.dtype != np.bool_:
        raise ValueError(f"{what} must hold integers or booleans, one number a region, got dtype {regions.dtype}")
    if regions.shape != tuple(image.shape[1:]):
        raise ValueError(f"{what} must have the image's size {tuple(image.shape[1:])}, got {regions.shape}")
    labels, codes = np.unique(regions, return_inverse=True)
    return labels, torch.as_tensor(codes.reshape(regions.shape), device=image.device)
