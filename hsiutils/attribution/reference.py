"""What an input is compared with, or replaced by: a number, a spectrum, or an image."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


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
