"""What an attribution explains: a fixed weighted sum of the logits of one image.

One type covers a pixel, a region, the map of a class, and anything linear. The weights are frozen when the target is
made: a mask recomputed while the input changes explains a moving number (measured: a class mask that
follows argmax along an integration path broke completeness by 91 %, a frozen one by 0.02 %).

What an input is compared with, or replaced by: a number, a spectrum, or an image.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hsiutils.data.classes import CLASSES

Shape = tuple[int, int, int]
"""(classes, rows, columns) of the logits of one image."""


@dataclass(frozen=True, eq=False)
class Target:
    """The number that is explained: the sum over classes and pixels of weight times logit.

    Attributes
    ----------
    weights : (classes, h, w), kept as a float64 copy of what was given.
    name : for titles and messages.
    """

    weights: Tensor
    name: str

    def __post_init__(self) -> None:
        if self.weights.ndim != 3:
            raise ValueError(f"target {self.name!r}: weights must be (classes, h, w), got {tuple(self.weights.shape)}")
        if not torch.isfinite(self.weights).all():
            raise ValueError(f"target {self.name!r}: weights must be finite numbers")
        if not self.weights.any():
            raise ValueError(f"target {self.name!r}: every weight is zero, there is nothing to explain")
        object.__setattr__(self, "weights", self.weights.detach().to(torch.float64, copy=True))

    @property
    def shape(self) -> Shape:
        """(classes, h, w)."""
        classes, height, width = self.weights.shape
        return classes, height, width

    def value(self, logits: Tensor) -> Tensor:
        """The target's value for logits (n, classes, h, w), one number an image: (n,), differentiable.

        Raises
        ------
        ValueError
            If the logits are not those of n images of the target's shape.
        """
        if logits.ndim != 4 or tuple(logits.shape[1:]) != self.shape:
            raise ValueError(
                f"target {self.name!r} is for logits (n, {', '.join(map(str, self.shape))}), got "
                f"{tuple(logits.shape)}: make the target with this image's logits shape"
            )
        return (logits * self.weights.to(logits)).flatten(1).sum(1)


def pixel(shape: Shape, class_index: int | str, row: int, col: int) -> Target:
    """The logit of one class at one pixel.

    Parameters
    ----------
    shape : (classes, h, w) of the logits.
    class_index : channel of the logits, or one of `hsiutils.data.classes.CLASSES` by name.

    Raises
    ------
    ValueError
        If there is no such class.
    IndexError
        If the pixel is outside the image; negative indices are.
    """
    classes, height, width = shape
    index = class_number(class_index, classes)
    if not (0 <= row < height and 0 <= col < width):
        raise IndexError(f"pixel ({row}, {col}) is outside the image of {height} rows and {width} columns")
    values = torch.zeros(shape, dtype=torch.float64)
    values[index, row, col] = 1
    return Target(values, f"{class_name(index)} at ({row}, {col})")


def region(shape: Shape, class_index: int | str, mask: Tensor, mean: bool = False) -> Target:
    """The sum, or the mean, of the logit of one class over a mask.

    Parameters
    ----------
    shape : (classes, h, w) of the logits.
    class_index : channel of the logits, or class name.
    mask : (h, w) boolean.
    mean : divide by the number of pixels.

    Raises
    ------
    ValueError
        If there is no such class, or the mask has another shape or dtype, or is empty.
    """
    index = class_number(class_index, shape[0])
    if mask.dtype != torch.bool or tuple(mask.shape) != tuple(shape[1:]):
        raise ValueError(f"mask must be boolean of shape {tuple(shape[1:])}, got {mask.dtype} {tuple(mask.shape)}")
    pixels = int(mask.sum())
    if not pixels:
        raise ValueError(f"the mask for class {class_name(index)} is empty: there is no pixel to explain")
    values = torch.zeros(shape, dtype=torch.float64)
    values[index, mask.cpu()] = 1 / pixels if mean else 1
    return Target(values, f"{class_name(index)}, {'mean' if mean else 'sum'} of {pixels} pixels")


def margin(shape: Shape, class_index: int | str, mask: Tensor) -> Target:
    """The margin of a class, its logit less the mean of the others, averaged over a mask.

    A number added to all logits of a pixel changes no prediction and no loss; a margin does not see it.

    Parameters
    ----------
    shape, class_index, mask : as in `region`.

    Raises
    ------
    ValueError
        As `region`, or if there is only one class.
    """
    own = region(shape, class_index, mask, mean=True)
    others = shape[0] - 1
    if not others:
        raise ValueError("a margin needs at least two classes, got 1")
    area = own.weights.sum(0)
    return Target(own.weights * (1 + 1 / others) - area / others, f"margin of {own.name}")


def class_map(logits: Tensor, class_index: int | str, mean: bool = False) -> Target:
    """The logit of a class over the pixels that the network gives to it: the authors' region of interest.

    The mask is taken at these logits once and for all.

    Parameters
    ----------
    logits : (classes, h, w) or (1, classes, h, w).
    class_index : channel of the logits, or class name.
    mean : divide by the number of pixels.

    Raises
    ------
    ValueError
        If there is no such class, or no pixel's largest logit is that of the class.
    """
    image = one_image(logits, "logits")
    index = class_number(class_index, image.shape[0])
    mask = image.argmax(dim=0) == index
    classes, height, width = image.shape
    target = region((classes, height, width), index, mask, mean)
    return Target(target.weights, f"{target.name} predicted so")


def weights(values: Tensor, name: str = "weighted logits") -> Target:
    """Any weights (classes, h, w), e.g. one class minus another over a region."""
    return Target(values, name)


def class_number(class_index: int | str, classes: int) -> int:
    """Channel of the logits that a class has, given by number or by name.

    Raises
    ------
    ValueError
        If it is none of the network's classes.
    """
    names = CLASSES[:classes]
    if isinstance(class_index, str):
        if class_index not in names:
            raise ValueError(f"no class {class_index!r} among the network's classes: {', '.join(names)}")
        return names.index(class_index)
    if not 0 <= class_index < classes:
        raise ValueError(f"no class {class_index}: the network has classes 0..{classes - 1}")
    return class_index


def class_name(index: int) -> str:
    """Name of a channel of the logits; channels beyond the five classes (the authors' void) go by number."""
    return CLASSES[index] if index < len(CLASSES) else f"class {index}"


def one_image(tensor: Tensor, what: str) -> Tensor:
    """Drop the leading axis of a batch of one.

    Parameters
    ----------
    tensor : (c, h, w) or (1, c, h, w).
    what : its name in the message.

    Raises
    ------
    ValueError
        If the tensor is a batch of several images, or no image.
    """
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        return tensor[0]
    if tensor.ndim != 3:
        raise ValueError(f"{what} must be those of one image, (c, h, w) or (1, c, h, w), got {tuple(tensor.shape)}")
    return tensor


def reference_image(reference: ArrayLike | Tensor, image: Tensor) -> Tensor:
    """A reference as an image like the given one.

    Parameters
    ----------
    reference : a number, a spectrum (channels,), or an image (channels, h, w), in the input's units.
    image : (channels, h, w).

    Raises
    ------
    ValueError
        If the reference has another shape, or holds values that are not finite.
    """
    array = reference.detach().cpu().numpy() if isinstance(reference, Tensor) else np.asarray(reference)
    values = torch.as_tensor(array.astype(np.float64)).to(image)
    if values.ndim == 1:
        values = values[:, None, None]
    fits = values.ndim in (0, 3) and values.shape[:1] in ((), image.shape[:1])
    if not fits or values.shape[1:] not in ((), (1, 1), image.shape[1:]) or not torch.isfinite(values).all():
        channels, height, width = image.shape
        raise ValueError(
            f"the reference must be a finite number, a spectrum ({channels},) or an image ({channels}, {height}, "
            f"{width}), got shape {array.shape}"
        )
    return values.expand_as(image).clone()
