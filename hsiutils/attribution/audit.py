"""The residual of every pixel and class at once: how far each method's map for one logit is from summing to it.

A method that explains one pixel at a time would need one backward pass for each pixel and class. Forward mode through
the linearised network (`hsiutils.attribution.affine`) needs one pass, or one a channel:

- HiResCAM and gradient x input sum to J a, with the layer's activation a as the tangent: one pass.
- GradCAM's weights alpha_k(p), the mean over the layer's Z pixels of the gradient of y(p), are J applied to 1/Z all
  over channel k: one pass a channel, for all pixels p. Its signed sum needs only the one tangent mean(a_k); with the
  ReLU, the sums of the rectified maps follow by a blocked matrix product.
- At the last convolution J is the head, alpha = w / Z whatever the pixel, and there is one map for all pixels.

Conservativeness: arXiv 2502.14416 Eqs. 5-7. GradCAM: Selvaraju 2017; SegGradCAM: Vinogradova 2020; HiResCAM: Draelos
and Carin 2020.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from hsiutils.attribution.affine import MEMORY, Linearisation, Site, conv_name, input_image, linearise
from hsiutils.attribution.capture import INPUT, activations, frozen, full_precision
from hsiutils.attribution.grid import upsampling_weights
from hsiutils.attribution.targets import class_name
from hsiutils.unet import UNet

CACHE = 1 << 20
"""Numbers in a block of the rectified product: about what a processor keeps at hand."""


class Sums(NamedTuple):
    """What a method's maps sum to.

    Attributes
    ----------
    pixels : (classes, h, w), the map of each logit.
    regions : (classes,), the map of each class's region, for the sum of its logits there (SegGradCAM).
    """

    pixels: Tensor
    regions: Tensor


def audit(
    model: UNet,
    x: Tensor,
    layers: Sequence[str] | None = None,
    *,
    after: bool = True,
    upsample: bool = False,
    memory: int = MEMORY,
) -> xr.Dataset:
    """Residual, total minus logit, of each method at every pixel and class of a batch of images.

    Parameters
    ----------
    x : (n, channels, h, w) or (channels, h, w).
    layers : Keras names, or "input", for GradCAM as published ("GradCAM", with its ReLU), GradCAM without it ("GradCAM
        signed"), and HiResCAM. None for the first skip connection, the base, and the last convolution before the head.
    after : take the layers after batch normalisation and ReLU; else as Keras calls `get_layer(name).output`.
    upsample : sum the maps after bilinear upsampling to the image; else over the layer's own (padded) grid.
    memory : limit on working memory, bytes; the result comes on top.

    Returns
    -------
    Dataset
        `residual` (image, method, class, y, x) and `logit` (image, class, y, x); `region_residual` (image, method,
        class) and `region_logit` (image, class) for the region that the network gives to each class, NaN where it
        gives it none. Coordinates of method: `name` and `layer`. Select by `found.sel({"method": "CAM conv2d_21"})`:
        xarray takes `sel(method=...)` for a way of interpolating.

    Raises
    ------
    KeyError
        If there is no such layer.
    ValueError
        If x does not fit the network, or the memory limit is too small.
    """
    chosen = default_layers(model) if layers is None else list(layers)
    batch = x[None] if x.ndim == 3 else x
    audits = [_one(_Audit.of(model, image, chosen, after, upsample, memory)) for image in batch]
    return xr.concat(audits, dim="image")


def default_layers(model: UNet) -> list[str]:
    """The first skip connection's tensor, the base's last, and the one before the head."""
    depth = model.config.depth
    return [conv_name(1), conv_name(2 * depth + 1), conv_name(4 * depth + 1)]


@dataclass(frozen=True, eq=False)
class _Audit:
    """One image under audit.

    Attributes
    ----------
    at : the affine map at the image.
    logits : (classes, h, w) of the network as it is, unfolded.
    seen : layer -> (channels, h', w') activation of the network as it is.
    gains : layer -> (channels,) factor between the layer's tensor and the folded network's at the same site.
    masks : (classes, h, w), 1 where a class has the largest logit.
    """

    model: UNet
    at: Linearisation
    logits: Tensor
    seen: dict[str, Tensor]
    gains: dict[str, Tensor]
    masks: Tensor
    layers: list[str]
    after: bool
    upsample: bool
    memory: int

    @classmethod
    def of(cls, model: UNet, x: Tensor, layers: list[str], after: bool, upsample: bool, memory: int) -> "_Audit":
        image = input_image(model, x)
        with torch.no_grad(), full_precision(), frozen(model), activations(model, layers, after) as seen:
            logits = model(image[None])[0]
        inside = {name: value[0] for name, value in seen.items()}
        masks = nn.functional.one_hot(logits.argmax(0), len(logits)).permute(2, 0, 1).to(logits)
        gains = {name: torch.ones(len(inside[name])).to(logits) for name in layers}
        if not after:
            gains |= {name: gain for name, gain in _gains(model).items() if name in gains}
        return cls(model, linearise(model, image), logits, inside, gains, masks, layers, after, upsample, memory)

    def site(self, layer: str) -> Site:
        return Site(layer, after=self.after or layer == INPUT)

    def counts(self, layer: str) -> Tensor:
        """How often each pixel of a layer counts in the sum of its map, (h', w')."""
        values, image = self.seen[layer], self.at.image.shape[1:]
        if not self.upsample or layer == INPUT:
            return torch.ones_like(values[0])
        rows, columns = values.shape[1:]
        return upsampling_weights((rows, columns), self.at.padded, (image[0], image[1]), values)

    def linear(self, pixels: Tensor) -> Sums:
        """Sums of a method whose map is linear in the target: a region's is the sum of its pixels'."""
        return Sums(pixels, (pixels * self.masks).sum((1, 2)))

    def hirescam(self, layer: str) -> Sums:
        """Elementwise gradient x activation, summed over the layer's channels and pixels."""
        tangent = self.seen[layer] * self.gains[layer][:, None, None] * self.counts(layer)
        return self.linear(self.at.push({self.site(layer): tangent[None]})[0])

    def signed_gradcam(self, layer: str) -> Sums:
        """GradCAM without its ReLU: one tangent, constant in each channel."""
        values = self.seen[layer]
        mean = (values * self.counts(layer)).sum((1, 2)) / values[0].numel()
        return self.linear(self.at.push({self.site(layer): (self.gains[layer] * mean)[None, :, None, None]})[0])

    def gradcam(self, layer: str) -> Sums:
        """GradCAM with its ReLU; of a region, SegGradCAM."""
        if self.after and layer == default_layers(self.model)[-1]:
            return self.gradcam_before_head(layer)
        pixels = torch.empty_like(self.logits)
        regions = self.logits.new_zeros((len(self.seen[layer]), len(self.logits)))
        for classes, rows in self.windows(len(self.seen[layer])):
            alpha = self.alphas(layer, classes, rows)
            regions[:, classes] += (alpha * self.masks[classes, rows]).sum((2, 3))
            pixels[classes, rows] = self.rectified(layer, alpha.flatten(1)).view(alpha.shape[1:])
        return Sums(pixels, self.rectified(layer, regions))

    def gradcam_before_head(self, layer: str) -> Sums:
        """One map a class, whatever the pixel: alpha = w / Z, and |M| times that for a region of |M| pixels."""
        alpha = self.model.head.weight.detach().flatten(1).T / self.seen[layer][0].numel()
        pixels = self.rectified(layer, alpha)[:, None, None].expand_as(self.logits)
        return Sums(pixels, self.rectified(layer, alpha * self.masks.sum((1, 2))))

    def alphas(self, layer: str, classes: list[int], rows: slice) -> Tensor:
        """GradCAM's channel weights for the logits in a window, (channels, classes, rows, w)."""
        weight = torch.diag(self.gains[layer] / self.seen[layer][0].numel())[:, :, None, None]
        block = self.at.tangents_within(self.memory // 2)
        alpha = self.logits.new_empty((len(weight), *self.logits[classes, rows].shape))
        for start in range(0, len(weight), block):
            chosen = slice(start, start + block)
            alpha[chosen] = self.at.push({self.site(layer): weight[chosen]}, classes)[:, :, rows]
        return alpha

    def rectified(self, layer: str, alpha: Tensor) -> Tensor:
        """Sums over the layer's pixels of ReLU(sum over k of alpha_k a_k), (targets,) for alpha (channels, targets)."""
        values, counts = self.seen[layer].flatten(1), self.counts(layer).flatten()
        block = max(1, min(CACHE, self.memory // (4 * alpha.element_size())) // len(counts))
        with full_precision():
            return torch.cat([(rows @ values).clamp_min_(0) @ counts for rows in torch.split(alpha.T, block)])

    def windows(self, channels: int) -> Iterator[tuple[list[int], slice]]:
        """Cut the logits into windows whose channel weights fit into half the memory."""
        classes, height, width = self.logits.shape
        fitting = self.memory // 2 // (channels * width * self.logits.element_size())
        if not fitting:
            raise ValueError(f"a memory limit of {self.memory} bytes is too small for a layer of {channels} channels")
        if fitting >= height:
            for numbers in torch.split(torch.arange(classes), fitting // height):
                yield numbers.tolist(), slice(None)
            return
        for number in range(classes):
            for start in range(0, height, fitting):
                yield [number], slice(start, start + fitting)


def _one(image: _Audit) -> xr.Dataset:
    with torch.no_grad():
        sums = dict(_methods(image))
        names, layers = zip(*sums, strict=True)
        totals = torch.stack([found.pixels for found in sums.values()])
        regions = torch.stack([found.regions for found in sums.values()])
        region_logit = (image.logits * image.masks).sum((1, 2)).where(image.masks.any(2).any(1), torch.nan)
    coords: dict[str, Any] = {
        "method": [f"{name} {layer}" for name, layer in sums],
        "name": ("method", list(names)),
        "layer": ("method", list(layers)),
        "class": [class_name(number) for number in range(len(image.logits))],
    }
    return xr.Dataset(
        {
            "residual": (("method", "class", "y", "x"), _numpy(totals - image.logits)),
            "logit": (("class", "y", "x"), _numpy(image.logits)),
            "region_residual": (("method", "class"), _numpy(regions - region_logit)),
            "region_logit": (("class",), _numpy(region_logit)),
        },
        coords,
    )


def _methods(image: _Audit) -> Iterator[tuple[tuple[str, str], Sums]]:
    """Every method's sums under (name, layer)."""
    at, last = image.at, default_layers(image.model)[-1]
    gradient_input = at.push({Site(INPUT): at.image[None]})[0]
    yield ("linear decomposition", INPUT), image.linear(gradient_input + at.push(at.biases())[0])
    yield ("gradient x input", INPUT), image.linear(gradient_input)
    yield ("CAM", last), image.linear(_head_contributions(image))
    for layer in image.layers:
        yield ("GradCAM", layer), image.gradcam(layer)
        yield ("GradCAM signed", layer), image.signed_gradcam(layer)
        if layer != INPUT:
            yield ("HiResCAM", layer), image.hirescam(layer)


def _head_contributions(image: _Audit) -> Tensor:
    """The paper's proposal: activations before the head times the head's weights, plus its bias, (classes, h, w)."""
    head, last = image.at.network.head, default_layers(image.model)[-1]
    activation = image.at.activations([last])[last][0]
    height, width = image.logits.shape[1:]
    with full_precision():
        parts = torch.einsum("ck,kyx->cyx", head.weight.flatten(1), activation[:, :height, :width])
    return parts + cast(Tensor, head.bias)[:, None, None]


def _gains(model: UNet) -> dict[str, Tensor]:
    """What batch normalisation multiplies each convolution's output by, in evaluation, (channels,)."""
    norms = [norm for block in model.blocks() for norm in (block.norm1, block.norm2)]
    return {
        conv_name(number): norm.weight.detach() * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
        for number, norm in enumerate(norms)
        if isinstance(norm, nn.BatchNorm2d)
    }


def _numpy(values: Tensor) -> np.ndarray[Any, Any]:
    return np.asarray(values.detach().cpu().numpy())
