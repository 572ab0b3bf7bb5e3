"""The residual of every pixel and class at once: how far each method's map for one logit is from summing to it.

A method that explains one pixel at a time would need one backward pass for each pixel and class. The closed forms of
`sums_input`, `sums_cams` and `sums_gradcam` need a pass, a pass a channel, or a pass a changed copy of the image, each
for all logits together.

Four methods have no such form: Guided BackProp, Guided GradCAM and LRP send each logit back by a rule of their own,
and DeepLIFT needs none, because it sums to the logit by construction. `hsiutils.attribution.leaderboard` asks them at
single pixels. Conservativeness: arXiv 2502.14416 Eqs. 5-7.

One image under audit: what the closed forms of every method's sums are made of.

What the other class activation maps sum to at every pixel and class; the maps themselves are in `cams`.

HiResCAM sums to J a, with the layer's activation a as the tangent: one pass. XGradCAM sums to the same. AblationCAM and
ScoreCAM change something and ask again, and an answer holds every logit: one forward pass a channel, for all pixels.
GradCAM++ and LayerCAM take the gradient of each single logit through a ReLU, which no one pass does for all of them;
before the head the gradient of y_c(p) is w_ck at p and zero elsewhere, and their sums are written down at once.

What GradCAM's maps sum to at every pixel and class, with and without its ReLU (Selvaraju 2017; Vinogradova 2020).

GradCAM's weights alpha_k(p), the mean over the layer's Z pixels of the gradient of y(p), are J applied to 1/Z all over
channel k: one pass a channel, for all pixels p. The signed sum needs only the one tangent mean(a_k); with the ReLU, the
sums of the rectified maps follow by a blocked matrix product. At the last convolution J is the head, alpha = w / Z
whatever the pixel, and there is one map for all pixels.

What the maps on the input sum to at every pixel and class; the maps themselves are in `gradients` and elsewhere.

A sum of gradients is J applied to a tangent, one pass for all logits; an average over noisy copies, or over the nodes
of a path, takes a pass a copy. Occlusion asks again, one forward pass a patch or band, and every answer holds all
logits. Guided BackProp and LRP have a rule of their own for each single logit on its way back: no one pass does it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from hsiutils.attribution.cams import eigen_direction, last_layer
from hsiutils.attribution.decompose import gauss_legendre
from hsiutils.attribution.gradients import noisy_copies
from hsiutils.attribution.hooks import INPUT, activations, frozen, full_precision, upsampling_weights
from hsiutils.attribution.linearise import MEMORY, Linearisation, Site, conv_name, input_image, linearise
from hsiutils.attribution.perturbation import channel_masks, logits_without, patches
from hsiutils.attribution.targets import class_name
from hsiutils.models.unet import UNet


class Sums(NamedTuple):
    """What a method's maps sum to, with what it hands out beside them.

    Attributes
    ----------
    pixels : (classes, h, w), the map of each logit.
    regions : (classes,), the map of each class's region, for the sum of its logits there (SegGradCAM).
    """

    pixels: Tensor
    regions: Tensor


@dataclass(frozen=True, eq=False)
class Audited:
    """One image under audit; make it with `Audited.of`.

    Attributes
    ----------
    at : the affine map at the image.
    logits : (classes, h, w) of the network as it is, unfolded.
    seen : layer -> (channels, h', w') activation of the network as it is.
    gains : layer -> (channels,) factor between the layer's tensor and the folded network's at the same site.
    masks : (classes, h, w), 1 where a class has the largest logit.
    memory : limit on working memory, bytes.
    """

    model: UNet
    at: Linearisation
    logits: Tensor
    seen: dict[str, Tensor]
    gains: dict[str, Tensor]
    masks: Tensor
    after: bool
    upsample: bool
    memory: int

    @classmethod
    def of(cls, model: UNet, x: Tensor, layers: Sequence[str], after: bool, upsample: bool, memory: int) -> "Audited":
        """Look once at an image (channels, h, w); arguments as of `hsiutils.attribution.audit.audit`."""
        image = input_image(model, x)
        with torch.no_grad(), full_precision(), frozen(model), activations(model, layers, after) as seen:
            logits = model(image[None])[0]
        inside = {name: value[0] for name, value in seen.items()}
        masks = nn.functional.one_hot(logits.argmax(0), len(logits)).permute(2, 0, 1).to(logits)
        gains = {name: torch.ones(len(inside[name])).to(logits) for name in layers}
        if not after:
            gains |= {name: gain for name, gain in _gains(model).items() if name in gains}
        return cls(model, linearise(model, image), logits, inside, gains, masks, after, upsample, memory)

    @property
    def image(self) -> Tensor:
        """(channels, h, w)."""
        return self.at.image

    def site(self, layer: str) -> Site:
        """Where a tangent enters for the layer's tensor as it was asked for."""
        return Site(layer, after=self.after or layer == INPUT)

    def counts(self, layer: str) -> Tensor:
        """How often each pixel of a layer counts in the sum of its map, (h', w')."""
        values, image = self.seen[layer], self.image.shape[1:]
        if not self.upsample or layer == INPUT:
            return torch.ones_like(values[0])
        rows, columns = values.shape[1:]
        return upsampling_weights((rows, columns), self.at.padded, (image[0], image[1]), values)

    def masses(self, layer: str) -> Tensor:
        """What each channel of a layer sums to, (channels,)."""
        return (self.seen[layer] * self.counts(layer)).sum((1, 2))

    def linear(self, pixels: Tensor) -> Sums:
        """Sums of a method whose map is linear in the target: a region's is the sum of its pixels'."""
        return Sums(pixels, self.over_regions(pixels))

    def over_regions(self, logits: Tensor) -> Tensor:
        """Sum of (..., classes, h, w) over each class's region, (..., classes)."""
        return (logits * self.masks).sum((-2, -1))

    def ask(self, images: Tensor) -> Tensor:
        """Logits (n, classes, h, w) of other images, of the network as it is."""
        with torch.no_grad(), full_precision(), frozen(self.model):
            return cast(Tensor, self.model(images))

    def blocks(self, count: int) -> Iterator[Tensor]:
        """Numbers 0..count-1, as many at a time as may go through the network together within the memory limit."""
        return iter(torch.split(torch.arange(count, device=self.image.device), self.at.tangents_within(self.memory)))


def _gains(model: UNet) -> dict[str, Tensor]:
    """What batch normalisation multiplies each convolution's output by, in evaluation, (channels,)."""
    norms = [norm for block in model.blocks() for norm in (block.norm1, block.norm2)]
    return {
        conv_name(number): norm.weight.detach() * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
        for number, norm in enumerate(norms)
        if isinstance(norm, nn.BatchNorm2d)
    }


def cam(image: Audited) -> Sums:
    """The proposal of arXiv 2502.14416: activations before the head times its weights, plus its bias."""
    last = last_layer(image.model)
    with full_precision():
        parts = torch.einsum("ck,kyx->cyx", _head_weights(image), image.at.activations([last])[last][0])
    height, width = image.logits.shape[1:]
    return image.linear(parts[:, :height, :width] + cast(Tensor, image.model.head.bias).detach()[:, None, None])


def hirescam(image: Audited, layer: str) -> Sums:
    """Elementwise gradient x activation, summed over the layer's channels and pixels."""
    tangent = image.seen[layer] * image.gains[layer][:, None, None] * image.counts(layer)
    return image.linear(image.at.push({image.site(layer): tangent[None]})[0])


def xgradcam(image: Audited, layer: str) -> Sums:
    """XGradCAM: each channel's gradient x activation, in the ratio in which upsampling changed the channel's sum."""
    values = image.seen[layer]
    plain = values.sum((1, 2))
    ratio = torch.where(plain == 0, 0, image.masses(layer) / plain) * image.gains[layer]
    return image.linear(image.at.push({image.site(layer): (values * ratio[:, None, None])[None]})[0])


def layercam(image: Audited, layer: str) -> Sums:
    """LayerCAM before the head: positive weights only, at the pixel itself."""
    counts = image.counts(layer)
    with full_precision():
        parts = torch.einsum("ck,kyx->cyx", _head_weights(image).clamp_min(0), image.seen[layer] * counts)
    height, width = image.logits.shape[1:]
    return image.linear(parts[:, :height, :width])


def gradcam_plus_plus(image: Audited, layer: str) -> Sums:
    """GradCAM++ before the head: one map a class, whatever the pixel, as for GradCAM."""
    weights = _head_weights(image)
    alpha = 1 / (2 + weights * image.seen[layer].sum((1, 2)))
    with full_precision():
        each = (alpha * weights.clamp_min(0)) @ image.masses(layer)
    return Sums(each[:, None, None].expand_as(image.logits), each * image.masks.sum((1, 2)))


def eigencam(image: Audited, layer: str) -> Sums:
    """EigenCAM: one map, whatever the class and the pixel."""
    direction = eigen_direction(image.seen[layer])
    total = direction @ image.masses(layer)
    return Sums(total.expand_as(image.logits), total.expand(len(image.logits)))


def ablationcam(image: Audited, layer: str) -> Sums:
    """AblationCAM: one forward pass a channel."""
    masses, pixels = image.masses(layer), torch.zeros_like(image.logits)
    for numbers in image.blocks(len(masses)):
        falls = image.logits - logits_without(image.model, image.image, layer, numbers, image.after)
        pixels += torch.einsum("k,kcyx->cyx", masses[numbers], falls)
    return Sums(pixels / image.logits, image.over_regions(pixels) / image.over_regions(image.logits))


def scorecam(image: Audited, layer: str) -> Sums:
    """ScoreCAM: one forward pass a channel; the softmax over channels is taken along the way."""
    height, width = image.image.shape[1:]
    masks = channel_masks(image.seen[layer], layer, image.at.padded, (height, width))
    masses = image.masses(layer)
    pixels, regions = _SoftmaxMean(image.logits), _SoftmaxMean(image.logits.sum((1, 2)))
    for numbers in image.blocks(len(masses)):
        scores = image.ask(image.image * masks[numbers])
        pixels.add(scores, masses[numbers])
        regions.add(image.over_regions(scores), masses[numbers])
    return Sums(pixels.mean, regions.mean)


class _SoftmaxMean:
    """Mean of values weighted by the softmax of scores that come in blocks; nothing but running sums is held."""

    def __init__(self, like: Tensor) -> None:
        self.highest = torch.full_like(like, -torch.inf)
        self.weight, self.total = torch.zeros_like(like), torch.zeros_like(like)

    def add(self, scores: Tensor, values: Tensor) -> None:
        """Scores (n, ...) with a value each, (n,)."""
        highest = torch.maximum(self.highest, scores.amax(0))
        before, now = (self.highest - highest).exp(), (scores - highest).exp()
        self.weight = self.weight * before + now.sum(0)
        self.total = self.total * before + torch.einsum("n,n...->...", values, now)
        self.highest = highest

    @property
    def mean(self) -> Tensor:
        return self.total / self.weight


def _head_weights(image: Audited) -> Tensor:
    """(classes, channels)."""
    return image.model.head.weight.detach().flatten(1)


CACHE = 1 << 20
"""Numbers in a block of the rectified product: about what a processor keeps at hand."""


def signed_gradcam(image: Audited, layer: str) -> Sums:
    """GradCAM without its ReLU: one tangent, constant in each channel."""
    mean = image.masses(layer) / image.seen[layer][0].numel()
    return image.linear(image.at.push({image.site(layer): (image.gains[layer] * mean)[None, :, None, None]})[0])


def gradcam(image: Audited, layer: str) -> Sums:
    """GradCAM with its ReLU; of a region, SegGradCAM."""
    if image.after and layer == last_layer(image.model):
        return _before_head(image, layer)
    pixels = torch.empty_like(image.logits)
    regions = image.logits.new_zeros((len(image.seen[layer]), len(image.logits)))
    for classes, rows in windows(image, len(image.seen[layer])):
        alpha = _alphas(image, layer, classes, rows)
        regions[:, classes] += (alpha * image.masks[classes, rows]).sum((2, 3))
        pixels[classes, rows] = _rectified(image, layer, alpha.flatten(1)).view(alpha.shape[1:])
    return Sums(pixels, _rectified(image, layer, regions))


def _before_head(image: Audited, layer: str) -> Sums:
    """One map a class, whatever the pixel: alpha = w / Z, and |M| times that for a region of |M| pixels."""
    alpha = image.model.head.weight.detach().flatten(1).T / image.seen[layer][0].numel()
    pixels = _rectified(image, layer, alpha)[:, None, None].expand_as(image.logits)
    return Sums(pixels, _rectified(image, layer, alpha * image.masks.sum((1, 2))))


def _alphas(image: Audited, layer: str, classes: list[int], rows: slice) -> Tensor:
    """GradCAM's channel weights for the logits in a window, (channels, classes, rows, w)."""
    weight = torch.diag(image.gains[layer] / image.seen[layer][0].numel())[:, :, None, None]
    block = image.at.tangents_within(image.memory // 2)
    alpha = image.logits.new_empty((len(weight), *image.logits[classes, rows].shape))
    for start in range(0, len(weight), block):
        chosen = slice(start, start + block)
        alpha[chosen] = image.at.push({image.site(layer): weight[chosen]}, classes)[:, :, rows]
    return alpha


def _rectified(image: Audited, layer: str, alpha: Tensor) -> Tensor:
    """Sums over the layer's pixels of ReLU(sum over k of alpha_k a_k), (targets,) for alpha (channels, targets)."""
    values, counts = image.seen[layer].flatten(1), image.counts(layer).flatten()
    block = max(1, min(CACHE, image.memory // (4 * alpha.element_size())) // len(counts))
    with full_precision():
        return torch.cat([(rows @ values).clamp_min_(0) @ counts for rows in torch.split(alpha.T, block)])


def windows(image: Audited, channels: int) -> Iterator[tuple[list[int], slice]]:
    """Cut the logits into windows whose channel weights fit into half the memory.

    Raises
    ------
    ValueError
        If the memory limit is too small for one row.
    """
    classes, height, width = image.logits.shape
    fitting = image.memory // 2 // (channels * width * image.logits.element_size())
    if not fitting:
        raise ValueError(f"a memory limit of {image.memory} bytes is too small for a layer of {channels} channels")
    if fitting >= height:
        for numbers in torch.split(torch.arange(classes), fitting // height):
            yield numbers.tolist(), slice(None)
        return
    for number in range(classes):
        for start in range(0, height, fitting):
            yield [number], slice(start, start + fitting)


def linear_decomposition(image: Audited) -> Sums:
    """All parts of the input together, and all biases."""
    return image.linear(gradient_x_input(image).pixels + image.at.push(image.at.biases())[0])


def gradient_x_input(image: Audited) -> Sums:
    """The input's part of the linear decomposition."""
    return image.linear(image.at.push({Site(INPUT): image.image[None]})[0])


def gradient(image: Audited) -> Sums:
    """The sum of the gradient's entries: what an input brighter by one everywhere would add, were the map affine."""
    return image.linear(image.at.push({Site(INPUT): torch.ones_like(image.image)[None]})[0])


def smoothgrad(image: Audited, samples: int = 16, noise: float = 0.15, seed: int = 0) -> Sums:
    """The mean over noisy copies of the same, `hsiutils.attribution.gradients.smoothgrad`'s own copies."""
    total, ones = torch.zeros_like(image.logits), torch.ones_like(image.image)[None]
    for copy in noisy_copies(image.image, samples, noise, seed):
        total += linearise(image.model, copy).push({Site(INPUT): ones})[0]
    return image.linear(total / samples)


def integrated_gradients(image: Audited, nodes: int = 32) -> Sums:
    """From zero input along the straight path, with the logit of zero input, which the method hands out beside."""
    total = image.ask(torch.zeros_like(image.image)[None])[0]
    for node, weight in gauss_legendre(nodes):
        total += weight * linearise(image.model, node * image.image).push({Site(INPUT): image.image[None]})[0]
    return image.linear(total)


def occlusion(image: Audited, patch: int = 8) -> Sums:
    """The falls of every logit when one patch after the other becomes zero."""
    height, width = image.image.shape[1:]
    return image.linear(_falls(image, patches(height, width, patch)))


def band_occlusion(image: Audited) -> Sums:
    """The falls of every logit when one band after the other becomes zero."""
    return image.linear(_falls(image, torch.arange(len(image.image))[:, None, None]))


def _falls(image: Audited, labels: Tensor) -> Tensor:
    """Sum over the labels of what every logit loses when the input is zero there, (classes, h, w)."""
    labels, total = labels.to(image.image.device), torch.zeros_like(image.logits)
    for numbers in image.blocks(int(labels.max()) + 1):
        kept = image.image * (labels != numbers[:, None, None, None])
        total += (image.logits - image.ask(kept)).sum(0)
    return total


AT_INPUT: Mapping[str, Callable[..., Sums]] = MappingProxyType(
    {
        "linear decomposition": linear_decomposition,
        "gradient x input": gradient_x_input,
        "gradient": gradient,
        "SmoothGrad": smoothgrad,
        "Integrated Gradients": integrated_gradients,
        "occlusion": occlusion,
        "band occlusion": band_occlusion,
    }
)
"""Methods that explain by the input."""
AT_LAYERS: Mapping[str, Callable[[Audited, str], Sums]] = MappingProxyType(
    {
        "GradCAM": gradcam,
        "GradCAM signed": signed_gradcam,
        "HiResCAM": hirescam,
        "XGradCAM": xgradcam,
    }
)
"""Methods that have a closed form at any layer. At the input, HiResCAM and XGradCAM are gradient x input."""
BEFORE_HEAD: Mapping[str, Callable[[Audited, str], Sums]] = MappingProxyType(
    {
        "LayerCAM": layercam,
        "GradCAM++": gradcam_plus_plus,
        "EigenCAM": eigencam,
        "AblationCAM": ablationcam,
        "ScoreCAM": scorecam,
    }
)
"""Methods that are audited at the head's input only: elsewhere they have no closed form, or cost a pass a channel."""
AUDITED: tuple[str, ...] = ("CAM", *AT_INPUT, *AT_LAYERS, *BEFORE_HEAD)
"""Names of all methods that can be audited, as in `hsiutils.attribution.methods`; "GradCAM signed" has no ReLU."""


def audit(
    model: UNet,
    x: Tensor,
    layers: Sequence[str] | None = None,
    *,
    methods: Sequence[str] = AUDITED,
    after: bool = True,
    upsample: bool = False,
    patch: int = 8,
    memory: int = MEMORY,
) -> xr.Dataset:
    """Residual, total minus logit, of each method at every pixel and class of a batch of images.

    Parameters
    ----------
    x : (n, channels, h, w) or (channels, h, w).
    layers : Keras names, or "input", for the methods of `AT_LAYERS` (GradCAM as published, with its ReLU) and, where
        the head's input is among them, for those of `BEFORE_HEAD`. None for the first skip connection, the base, and
        the last convolution before the head.
    methods : names of `AUDITED`.
    after : take the layers after batch normalisation and ReLU; else as Keras calls `get_layer(name).output`.
    upsample : sum the maps after bilinear upsampling to the image; else over the layer's own (padded) grid.
    patch : side of occlusion's patches, pixels: it takes a forward pass a patch.
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
        If there is no such method, x does not fit the network, or the memory limit is too small.
    """
    if unknown := [name for name in methods if name not in AUDITED]:
        raise ValueError(f"no audit of {', '.join(unknown)}: every pixel can be asked of {', '.join(AUDITED)}")
    chosen = default_layers(model) if layers is None else list(layers)
    batch = x[None] if x.ndim == 3 else x
    looks = (Audited.of(model, image, chosen, after, upsample, memory) for image in batch)
    return xr.concat([_one(look, dict(_sums(look, methods, patch))) for look in looks], dim="image")


def default_layers(model: UNet) -> list[str]:
    """The first skip connection's tensor, the base's last, and the one before the head."""
    return [conv_name(1), conv_name(2 * model.config.depth + 1), last_layer(model)]


def _sums(image: Audited, methods: Sequence[str], patch: int) -> Iterator[tuple[tuple[str, str], Sums]]:
    """Every method's sums under (name, layer)."""
    last = last_layer(image.model)
    with torch.no_grad():
        if "CAM" in methods:
            yield ("CAM", last), cam(image)
        for name in (name for name in AT_INPUT if name in methods):
            options = {"patch": patch} if name == "occlusion" else {}
            yield (name, INPUT), AT_INPUT[name](image, **options)
        for layer in image.seen:
            for name in (name for name in AT_LAYERS if name in methods):
                if layer != INPUT or name.startswith("GradCAM"):
                    yield (name, layer), AT_LAYERS[name](image, layer)
        if image.after and last in image.seen:
            for name in (name for name in BEFORE_HEAD if name in methods):
                yield (name, last), BEFORE_HEAD[name](image, last)


def _one(image: Audited, sums: Mapping[tuple[str, str], Sums]) -> xr.Dataset:
    names, layers = zip(*sums, strict=True)
    totals = torch.stack([found.pixels for found in sums.values()])
    regions = torch.stack([found.regions for found in sums.values()])
    region_logit = image.over_regions(image.logits).where(image.masks.any(2).any(1), torch.nan)
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


def _numpy(values: Tensor) -> np.ndarray[Any, Any]:
    return np.asarray(values.detach().cpu().numpy())
