"""What the maps on the input sum to at every pixel and class; the maps themselves are in `gradients` and elsewhere.

A sum of gradients is J applied to a tangent, one pass for all logits; an average over noisy copies, or over the nodes
of a path, takes a pass a copy. Occlusion asks again, one forward pass a patch or band, and every answer holds all
logits. Guided BackProp and LRP have a rule of their own for each single logit on its way back: no one pass does it.
"""

import torch
from torch import Tensor

from hsiutils.attribution.affine import Site, linearise
from hsiutils.attribution.audited import Audited, Sums
from hsiutils.attribution.capture import INPUT
from hsiutils.attribution.gradients import noisy_copies
from hsiutils.attribution.path import gauss_legendre
from hsiutils.attribution.perturbation import patches


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
