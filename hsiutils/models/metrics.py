"""What a segmentation is worth: `predict` gives class maps, `evaluate` counts, `scores` figures of merit of counts.

Counts add up over scenes, so the spread over seeds, a bootstrap over scenes and every average come from the same
Dataset. Void pixels (`hsiutils.data.classes.VOID` in the truth) are never counted. A class that is neither in the truth
nor in the prediction has no IoU: it is NaN, not 0 or 1, and means leave it out.
"""

from collections.abc import Sequence, Sized
from typing import cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hsiutils.data.classes import VOID
from hsiutils.models.unet import UNet

Mask = NDArray[np.bool_]
ClassMap = NDArray[np.integer]


def confusion(predicted: ClassMap, truth: ClassMap, classes: Sequence[str], mask: Mask | None = None) -> xr.DataArray:
    """Count the pixels of every pair of true and predicted class, int64 (truth, predicted), where the mask says so.

    `predicted` and `truth` are class indices of one shape, `VOID` where nobody knows the truth; `classes` their names.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction {predicted.shape} and truth {truth.shape} differ in shape")
    if mask is not None and (mask.shape != truth.shape or mask.dtype != bool):
        raise ValueError(f"mask must be bool {truth.shape}, got {mask.dtype} {mask.shape}")
    for what, values in (("truth", truth[truth != VOID]), ("prediction", predicted)):
        if values.size and (values.min() < 0 or values.max() >= len(classes)):
            raise ValueError(
                f"{what} has class {values.max()}: expected 0..{len(classes) - 1}, or {VOID} for void in the truth"
            )
    from torchmetrics.functional.classification import multiclass_confusion_matrix  # takes a second

    counted = torch.from_numpy(np.where(True if mask is None else mask, truth, VOID).astype(np.int64))
    guess = torch.from_numpy(predicted.astype(np.int64))
    matrix = multiclass_confusion_matrix(guess, counted, len(classes), ignore_index=VOID)
    return xr.DataArray(matrix.numpy(), {"truth": list(classes), "predicted": list(classes)})


def boundary_distance(shape: tuple[int, int], fraction: float = 0.005) -> int:
    """Width of the boundary for an image of (rows, columns) pixels, a share of its diagonal; at least one pixel.

    2 pixels at 216 x 409. Cheng et al. take 0.02 for photographs of large objects; 9 pixels would swallow every road
    mark whole, and the measure would be its plain IoU once more.
    """
    return max(1, round(fraction * float(np.hypot(*shape))))


def boundary(mask: Mask, distance: int) -> Mask:
    """Pixels of a mask (rows, columns) that lie within `distance` (chessboard) of a pixel outside it.

    What lies beyond the image counts as outside, as in the reference implementation of Cheng et al. 2021.
    """
    inside = ndimage.minimum_filter(mask, size=2 * distance + 1, mode="constant", cval=0)
    return np.asarray(mask & ~inside)


def scene_counts(
    predicted: ClassMap,
    truth: ClassMap,
    classes: Sequence[str],
    sunlit: Mask | NDArray[np.floating] | None = None,
    distance: int | None = None,
) -> xr.Dataset:
    """All counts of one scene, (rows, columns) pixels; `predicted`, `truth` and `classes` as in `confusion`.

    Boundary IoU (Cheng et al. 2021, arXiv 2103.16562) compares the two sets of mask pixels near their own contour.
    Label images leave a void strip along most edges; a contour inside it cannot be judged. So void is cut out of the
    truth and of the prediction alike before the contours are drawn: the strip's rim then is a contour of both.

    Parameters
    ----------
    sunlit : share of the sun that reaches each pixel, 0..1 (or True and False); NaN where the question makes no sense:
        in the sky, and under an overcast one. With it there are the regions "sunlit" and "shadowed" beside "all".
    distance : width of the boundary, pixels; None for `boundary_distance` of the image.

    Returns
    -------
    int64 Dataset of confusion (region, truth, predicted), and of the intersection and union of true and predicted
    boundaries, boundary_intersection and boundary_union (region, class).
    """
    regions: dict[str, Mask] = {"all": np.ones(truth.shape, dtype=bool)}
    if sunlit is not None:
        share = np.asarray(sunlit, dtype=float)
        regions |= {"sunlit": share >= 0.5, "shadowed": share < 0.5}  # NaN is neither
    names = xr.Variable("region", list(regions))
    matrix = xr.concat([confusion(predicted, truth, classes, mask) for mask in regions.values()], dim=names)
    if truth.ndim != 2:
        raise ValueError(f"boundaries need one image (rows, columns), got {truth.shape}")
    width, known = distance or boundary_distance((truth.shape[0], truth.shape[1])), truth != VOID
    indices = range(len(classes))
    pairs = [(boundary(truth == one, width), boundary((predicted == one) & known, width)) for one in indices]
    both = [[np.sum(true & guess & known & mask) for true, guess in pairs] for mask in regions.values()]
    either = [[np.sum((true | guess) & known & mask) for true, guess in pairs] for mask in regions.values()]
    edges = {"boundary_intersection": (("region", "class"), both), "boundary_union": (("region", "class"), either)}
    return xr.Dataset({**edges, "confusion": matrix}, {"region": list(regions), "class": list(classes)})


def iou(confusion: xr.DataArray) -> xr.DataArray:
    """Intersection over union: (..., truth, predicted) -> (..., class), NaN where a class is absent."""
    correct, true, predicted = _marginals(confusion)
    union = true + predicted - correct
    return (correct / union.where(union > 0)).rename("iou")


def weighted_iou(confusion: xr.DataArray, frequencies: ArrayLike | None = None) -> xr.DataArray:
    """Mean of the classes' IoU, weighted by the inverse of their frequencies: (..., truth, predicted) -> (...).

    The frequencies (class) are those of the counted pixels, unless given; a class of frequency zero weighs nothing, as
    in `hsiutils.data.classes.inverse_frequency_weights`.
    """
    share = _shares(confusion, frequencies)
    inverse = (1 / share.where(share > 0)).fillna(0.0)
    return iou(confusion).weighted(inverse).mean("class").rename("weighted_iou")


def scores(counts: xr.Dataset, frequencies: ArrayLike | None = None) -> xr.Dataset:
    """Every figure of merit; counts are first summed over the dimension `scene`, if there is one.

    Parameters
    ----------
    counts : of `scene_counts`, or several of them along further dimensions (scene, seed, variant...).
    frequencies : as in `weighted_iou`. Give the same to regions or data sets that are to be compared.

    Returns
    -------
    Dataset of iou and boundary_iou (..., class), and over the classes mean_iou, mean_boundary_iou, global_iou,
    weighted_iou (both as the authors of HSI-Drive define them) and accuracy. A class that is predicted but never true
    has IoU 0; it weighs in mean_iou only, unless `frequencies` says otherwise.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> model = hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2, class_names=("Road", "Sky")))
    >>> counts = hu.evaluate(model, [(torch.rand(3, 4, 6), torch.zeros(4, 6, dtype=torch.long))])
    >>> found = hu.scores(counts).sel(region="all")
    >>> sorted(found)[:3], found["iou"].dims
    (['accuracy', 'boundary_iou', 'global_iou'], ('class',))
    """
    total = counts.sum("scene") if "scene" in counts.dims else counts
    matrix, per_class = total["confusion"], iou(total["confusion"])
    correct, true, _ = _marginals(matrix)
    pixels, union = true.sum("class"), total["boundary_union"]
    edges = total["boundary_intersection"] / union.where(union > 0)
    return xr.Dataset(
        {
            "iou": per_class,
            "boundary_iou": edges,
            "mean_iou": per_class.mean("class"),
            "mean_boundary_iou": edges.mean("class"),
            "global_iou": per_class.weighted(_shares(matrix, frequencies)).mean("class"),
            "weighted_iou": weighted_iou(matrix, frequencies),
            "accuracy": correct.sum("class") / pixels.where(pixels > 0),
        }
    )


def _shares(confusion: xr.DataArray, frequencies: ArrayLike | None) -> xr.DataArray:
    true = _marginals(confusion)[1]
    return true if frequencies is None else xr.DataArray(np.asarray(frequencies, float), {"class": true["class"]})


def _marginals(confusion: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Pixels of each class (..., class) that are right, that are true, that are predicted."""
    diagonal = confusion.where(confusion["truth"] == confusion["predicted"], 0)
    correct, true = (counts.sum("predicted").rename({"truth": "class"}) for counts in (diagonal, confusion))
    return correct, true, confusion.sum("truth").rename({"predicted": "class"})


def predict(model: nn.Module, images: Tensor | NDArray[np.floating], batch: int = 8) -> NDArray[np.uint8]:
    """The class with the largest logit, at every pixel.

    Parameters
    ----------
    model : maps (n, channels, h, w) to logits (n, classes, h, w); used in evaluation mode on the device it is on, and
        left in the mode it was in.
    images : (n, channels, h, w).
    batch : images at a time.

    Returns
    -------
    (n, h, w) class indices.

    Raises
    ------
    ValueError
        If the images have another number of axes, or hold values that are not finite.

    Examples
    --------
    >>> import hsiutils as hu
    >>> model = hu.UNet(hu.UNetConfig(channels=25, classes=5, depth=1, filters=2))
    >>> hu.predict(model, torch.rand(2, 25, 10, 12)).shape
    (2, 10, 12)
    """
    like, stack = next(model.parameters()), torch.as_tensor(images)
    if stack.ndim != 4:
        raise ValueError(f"predict expects images (n, channels, h, w), got {tuple(stack.shape)}")
    if broken := [index for index, image in enumerate(stack) if not torch.isfinite(image).all()]:
        raise ValueError(
            f"images {broken} hold values that are not finite, which spread to every pixel within a network's reach: "
            "fill or leave out what was not measured"
        )
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            parts = [model(part.to(like)).argmax(dim=1).to(torch.uint8).cpu() for part in torch.split(stack, batch)]
    finally:
        model.train(training)
    return np.asarray(torch.cat(parts).numpy())


def evaluate(
    model: nn.Module,
    scenes: Dataset[tuple[Tensor, Tensor]],
    names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    sunlit: Sequence[Mask | NDArray[np.floating]] | None = None,
    distance: int | None = None,
    batch: int = 8,
) -> xr.Dataset:
    """Counts of every scene; `scores` makes figures of merit of them.

    Parameters
    ----------
    model, batch : as in `predict`.
    scenes : pairs of image (channels, h, w) and class indices (h, w) with `hsiutils.data.classes.VOID`, all of one
        size, such as `data.scenes("test", inputs)`.
    names : of the scenes, in their order; None for their own `names`, or their numbers.
    classes : names, in the order of the outputs; None for those of the network's `config`.
    sunlit : for every scene, as in `scene_counts`; None when that is not known.
    distance : as in `scene_counts`.

    Returns
    -------
    Dataset of confusion (scene, region, truth, predicted), boundary_intersection and boundary_union (scene, region,
    class).

    Raises
    ------
    ValueError
        If names or masks are not as many as the scenes, or labels are none of the classes.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> model = hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2, class_names=("Road", "Sky")))
    >>> scenes = [(torch.zeros(3, 4, 6), torch.zeros(4, 6, dtype=torch.long))]
    >>> counts = hu.evaluate(model, scenes)  # without biases every logit is zero, and the first class wins
    >>> float(hu.scores(counts)["iou"].sel({"region": "all", "class": "Road"}))
    1.0
    """
    count = len(cast(Sized, scenes))
    names = [str(name) for name in getattr(scenes, "names", range(count))] if names is None else names
    classes = cast(UNet, model).config.names if classes is None else classes
    masks: Sequence[Mask | NDArray[np.floating] | None] = sunlit if sunlit is not None else [None] * len(names)
    if not count == len(names) == len(masks):
        raise ValueError(f"{len(names)} names and {len(masks)} masks were given for {count} scenes")
    parts: list[xr.Dataset] = []  # one a batch: small Datasets, of a scene each, take ten times the memory of counts
    for place, (images, labels) in enumerate(DataLoader(scenes, batch, generator=torch.Generator())):
        own = slice(batch * place, batch * (place + 1))
        for image, name in zip(images, names[own], strict=True):
            if not torch.isfinite(image).all():
                raise ValueError(f"scene {name}: its image holds values that are not finite; fill or leave them out")
        seen = zip(predict(model, images, batch), labels.numpy(), masks[own], strict=True)
        counts = [scene_counts(predicted, truth, classes, mask, distance) for predicted, truth, mask in seen]
        parts.append(xr.concat(counts, dim="scene"))
    return xr.concat(parts, dim="scene").assign_coords(scene=list(names))
