"""What an attribution explains: a fixed weighted sum of the logits of one image.

One type covers a pixel, a region, the map of a class, and anything linear. The weights are frozen when the target is
made: a mask recomputed while the input changes explains a moving number (measured: a class mask that follows argmax
along an integration path broke completeness by 91 %, a frozen one by 0.02 %).

Also here: `reference_image`, what an input is compared with or replaced by.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from hsiutils.attribution.hooks import Picker, ask, full_precision, picked
from hsiutils.models.unet import UNet


@dataclass(frozen=True, eq=False)
class Target:
    """The number that is explained: the sum over classes and pixels of weight times logit.

    Any weights make a target; `pixel`, `region`, `margin` and `class_map` make the usual ones.

    Attributes
    ----------
    weights : (classes, h, w), kept as a float64 copy of what was given.
    name : for titles and messages.

    Raises
    ------
    ValueError
        If the weights have another number of axes, are not finite, or all zero.

    Examples
    --------
    >>> import torch
    >>> weights = torch.zeros(2, 3, 4)
    >>> weights[0, 1, 1], weights[1, 1, 1] = 1, -1
    >>> hu.Target(weights, "class 0 minus class 1 at (1, 1)").value(torch.ones(1, 2, 3, 4))
    tensor([0.])
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
        with full_precision():  # a target made in inference mode can be explained by gradients, too
            object.__setattr__(self, "weights", self.weights.clone().detach().double())

    @property
    def shape(self) -> tuple[int, ...]:
        """(classes, h, w)."""
        return tuple(self.weights.shape)

    def value(self, logits: Tensor) -> Tensor:
        """The target's value for logits (n, classes, h, w), one number an image: (n,), differentiable."""
        if logits.ndim != 4 or tuple(logits.shape[1:]) != self.shape:
            raise ValueError(
                f"target {self.name!r} is for logits (n, {', '.join(map(str, self.shape))}), got "
                f"{tuple(logits.shape)}: make the target with this image's logits shape"
            )
        return (logits * self.weights.to(logits)).flatten(1).sum(1)  # (n, classes h w) -> (n,)


def pixel(
    model: nn.Module,
    x: Tensor,
    class_name: str | int,
    row: int,
    col: int,
    *,
    names: Sequence[str] | None = None,
    output: Picker | None = None,
) -> Target:
    """The logit of one class at one pixel.

    Parameters
    ----------
    model : maps (n, channels, h, w) to logits (n, classes, h', w'), or to a dict that has them under "out".
    x : (channels, h, w) or (1, channels, h, w).
    class_name : name, or channel of the logits.
    row, col : of the logits, whose grid may be another than the image's.
    names : of the classes, one a channel. None for a `UNet`'s own, `config.class_names`, and for "class 0", "class 1",
        ... of another network.
    output : picks the logits out of what the network returns, where it returns something else.

    Raises
    ------
    ValueError
        If there is no such class.
    IndexError
        If the pixel is outside the logits; negative indices are.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> model = hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2, class_names=("Road", "Sky")))
    >>> target = hu.pixel(model, torch.zeros(3, 6, 8), "Sky", 2, 5)
    >>> target.name, target.shape
    ('Sky at (2, 5)', (2, 6, 8))
    """
    names, shape = _grid(model, x, names, output)
    index = class_number(names, class_name)
    if not (0 <= row < shape[1] and 0 <= col < shape[2]):
        raise IndexError(f"pixel ({row}, {col}) is outside the logits of {shape[1]} rows and {shape[2]} columns")
    values = torch.zeros(shape, dtype=torch.float64)
    values[index, row, col] = 1
    return Target(values, f"{names[index]} at ({row}, {col})")


def region(
    model: nn.Module,
    x: Tensor,
    class_name: str | int,
    mask: ArrayLike | Tensor,
    mean: bool = False,
    *,
    names: Sequence[str] | None = None,
    output: Picker | None = None,
) -> Target:
    """The sum, or the mean, of the logit of one class over a mask.

    Parameters
    ----------
    mask : boolean, of torch or numpy, in the size of the logits.
    mean : divide by the number of pixels.
    names, output : as of `pixel`.

    Raises
    ------
    ValueError
        If there is no such class, or the mask has another shape or dtype, or is empty.

    Examples
    --------
    >>> import numpy as np, torch
    >>> import hsiutils as hu
    >>> model, x = hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2)), torch.zeros(3, 6, 8)
    >>> labels = np.arange(48).reshape(6, 8) // 12
    >>> hu.region(model, x, 1, labels == 2, mean=True).name
    'class 1, mean of 12 pixels'
    """
    names, shape = _grid(model, x, names, output)
    index = class_number(names, class_name)
    name = names[index]
    chosen = mask.detach().cpu() if isinstance(mask, Tensor) else torch.as_tensor(np.asarray(mask))
    if chosen.dtype != torch.bool or tuple(chosen.shape) != shape[1:]:
        raise ValueError(
            f"the mask must hold booleans and have the logits' shape {shape[1:]}, got {chosen.dtype} "
            f"{tuple(chosen.shape)}: compare labels with a class to make one, e.g. labels == 2"
        )
    pixels = int(chosen.sum())
    if not pixels:
        raise ValueError(f"the mask for class {name} is empty: there is no pixel to explain")
    values = torch.zeros(shape, dtype=torch.float64)
    values[index, chosen] = 1 / pixels if mean else 1
    return Target(values, f"{name}, {'mean' if mean else 'sum'} of {pixels} pixels")


def margin(
    model: nn.Module,
    x: Tensor,
    class_name: str | int,
    mask: ArrayLike | Tensor,
    *,
    names: Sequence[str] | None = None,
    output: Picker | None = None,
) -> Target:
    """The margin of a class, its logit less the mean of the others, averaged over a mask.

    A number added to all logits of a pixel changes no prediction and no loss; a margin does not see it. Arguments and
    errors are those of `region`, and a ValueError if there is only one class.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> model, x = hu.UNet(hu.UNetConfig(channels=3, classes=3, depth=1, filters=2)), torch.zeros(3, 2, 2)
    >>> hu.margin(model, x, 0, torch.ones(2, 2, dtype=torch.bool)).weights[:, 0, 0]
    tensor([ 0.2500, -0.1250, -0.1250], dtype=torch.float64)
    """
    own = region(model, x, class_name, mask, mean=True, names=names, output=output)
    others = own.shape[0] - 1
    if not others:
        raise ValueError("a margin needs at least two classes, got 1")
    area = own.weights.sum(0)
    return Target(own.weights * (1 + 1 / others) - area / others, f"margin of {own.name}")


def class_map(
    model: nn.Module,
    x: Tensor,
    class_name: str | int,
    mean: bool = False,
    *,
    names: Sequence[str] | None = None,
    output: Picker | None = None,
) -> Target:
    """The logit of a class over the pixels that the network gives to it: the authors' region of interest.

    The mask is taken at this image's logits once and for all. Arguments are those of `region`; a ValueError if there is
    no such class, or no pixel's largest logit is that of the class.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> model = hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2))
    >>> hu.class_map(model, torch.zeros(3, 2, 4), 0).name  # all logits are equal, and the first class wins
    'class 0, sum of 8 pixels predicted so'
    """
    with picked(model, output):
        logits = ask(model, one_image(x, "x")[None])[0]
    index = class_number(class_names(model, len(logits), names), class_name)
    target = region(model, x, index, logits.argmax(0) == index, mean, names=names, output=output)
    return Target(target.weights, f"{target.name} predicted so")


def class_names(model: nn.Module, count: int, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Names as given, or what a `UNet` calls its classes, or "class 0", "class 1", ... of another network."""
    if names is None:
        return model.config.names if isinstance(model, UNet) else tuple(f"class {number}" for number in range(count))
    if isinstance(names, str) or len(names) != count:
        raise ValueError(f"names must be one a class, {count} of them, got {names!r}")
    return tuple(names)


def _grid(
    model: nn.Module, x: Tensor, names: Sequence[str] | None, output: Picker | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of the classes, and (classes, h, w) of the logits, for which another network than a `UNet` is asked."""
    image = one_image(x, "x")
    with picked(model, output):
        if isinstance(model, UNet):
            return class_names(model, model.config.classes, names), (model.config.classes, *image.shape[1:])
        shape = tuple(ask(model, image[None]).shape[1:])
    if len(shape) != 3:
        raise ValueError(
            f"the logits must be (n, classes, h, w), got (n, {', '.join(map(str, shape))}): pick by output="
        )
    return class_names(model, shape[0], names), shape


def class_number(names: Sequence[str], class_name: str | int) -> int:
    """Channel of the logits that a class has, given by name or by number; a ValueError if there is none."""
    if isinstance(class_name, str):
        if class_name not in names:
            raise ValueError(f"no class {class_name!r} among the network's classes: {', '.join(names)}")
        return names.index(class_name)
    if not 0 <= class_name < len(names):
        raise ValueError(f"no class {class_name}: the network has classes 0..{len(names) - 1}")
    return int(class_name)


def one_image(tensor: Tensor, what: str) -> Tensor:
    """(c, h, w) of a tensor (c, h, w) or (1, c, h, w); a ValueError that names it for anything else."""
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        return tensor[0]
    if tensor.ndim != 3:
        raise ValueError(f"{what} must be those of one image, (c, h, w) or (1, c, h, w), got {tuple(tensor.shape)}")
    return tensor


def reference_image(reference: ArrayLike | Tensor, image: Tensor) -> Tensor:
    """A finite number, spectrum (channels,) or image (channels, h, w), in the input's units, as an image like another.

    A ValueError if it has another shape, or holds values that are not finite.
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
