"""Geometry of label borders: signed distance to a class's border, and the directions across and along it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from hsiutils.classes import VOID

Mask = NDArray[np.bool_]
Labels = NDArray[np.integer[Any]]

VOID_STRIP = 3
"""Unlabelled pixels at most this far (pixels) from a label are a strip along a border; beyond, nobody knows."""

_SMOOTHING = 1.5
"""Standard deviation (pixels) by which the staircase of a label border is smoothed to read its direction."""


@dataclass(frozen=True)
class Border:
    """Where the pixels of an image lie with respect to the border of one class.

    Attributes
    ----------
    distance : (h, w) pixels to the border, negative inside the class; the border runs half-way between pixels.
    across : (2, h, w) unit vector (row, column) pointing out of the class.
    usable : (h, w) pixels with a label near, whose nearest point of the border is one between labels.
    """

    distance: NDArray[np.float64]
    across: NDArray[np.float64]
    usable: Mask


def border(labels: Labels, class_index: int, strip: int = VOID_STRIP) -> Border | None:
    """The border of one class in a label map (h, w), or None where the class has none.

    Label maps leave a strip unlabelled along most borders. Each pixel in it takes the nearest label, so that the border
    runs in the strip's middle; its place is uncertain by half the strip's width.

    Parameters
    ----------
    labels : class indices with `VOID`.
    class_index : of the class.
    strip : see `VOID_STRIP`.
    """
    if not (labels != VOID).any():
        return None
    away, nearest = ndimage.distance_transform_edt(labels == VOID, return_indices=True)
    inside = labels[tuple(nearest)] == class_index
    if inside.all() or not inside.any():
        return None
    distance, foot = _signed_distance(inside)
    near = away <= strip
    return Border(distance, _across(distance), near & near[tuple(foot)])


def _signed_distance(inside: Mask) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Distance to the border, negative inside, and the nearest pixel (2, h, w) on its other side."""
    within, foot_out = ndimage.distance_transform_edt(inside, return_indices=True)
    without, foot_in = ndimage.distance_transform_edt(~inside, return_indices=True)
    distance = np.where(inside, 0.5 - within, without - 0.5)
    return distance, np.where(inside, foot_out, foot_in)


def _across(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    slope = np.stack(np.gradient(ndimage.gaussian_filter(distance, _SMOOTHING)))
    length = np.hypot(*slope)
    return np.asarray(np.divide(slope, length, out=np.zeros_like(slope), where=length > 1e-9))


def step_along(across: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shortest step along the border that lands on the next row or column: (2, n) for directions across (2, n).

    Such a step falls between two pixels of that row or column and never back on where it started.
    """
    along = np.stack([-across[1], across[0]])
    largest = np.abs(along).max(axis=0)
    return np.asarray(np.divide(along, largest, out=np.zeros_like(along), where=largest > 0))


def sampling(points: NDArray[np.float64], shape: tuple[int, int]) -> sparse.csr_array:
    """Bilinear interpolation at points (2, n) in pixels of images of a shape, as a matrix (n, pixels).

    The matrix times flattened maps (pixels, channels) is their values at the points. Points must lie inside the image.
    """
    height, width = shape
    row, column = (
        np.clip(np.floor(p), 0, size - 2).astype(int) for p, size in zip(points, (height, width), strict=True)
    )
    down, right = points[0] - row, points[1] - column
    weights = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], axis=1)
    corners = (row * width + column)[:, None] + np.array([0, 1, width, width + 1])
    starts = np.arange(0, corners.size + 1, 4)
    matrix = sparse.csr_array((weights.ravel(), corners.ravel(), starts), shape=(points.shape[1], height * width))
    matrix.eliminate_zeros()
    return matrix
