"""What an annotator would draw: one label a tile, and nothing where a border cannot be placed."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.classes import LABELS

_PURE: Final = 0.75
"""Smallest share of a tile's rays that agree; below it the tile is a border, and stays unlabelled."""
_ROAD, _MARKS = 1, 2


def label_tiles(label: NDArray[np.uint8], tile: tuple[int, int]) -> NDArray[np.uint8]:
    """Label image of the cube from the class of every ray: majority of each tile, 0 along uncertain borders.

    Uncertain is a tile of mixed classes, and a tile next to another class, since demosaicing draws on both sides.
    Marks against road are drawn to the edge, as the real annotators did: they are often just two tiles wide.

    Parameters
    ----------
    label : (rows, columns) class of every ray, codes 1..10.
    tile : (rows, columns) of rays in a tile.

    Returns
    -------
    (tile rows, tile columns) codes 0..10.
    """
    shares = np.stack([tile_mean(label == one.code, tile) for one in LABELS])
    winner = shares.argmax(axis=0).astype(np.uint8)
    unclear = shares.max(axis=0) < _PURE
    return np.where(unclear | _beside_another(winner), 0, winner).astype(np.uint8)


def tile_mean(values: NDArray[np.generic], tile: tuple[int, int]) -> NDArray[np.float64]:
    """Mean of every tile of an image whose size is a whole number of tiles."""
    rows, columns = values.shape[0] // tile[0], values.shape[1] // tile[1]
    return np.asarray(values.reshape(rows, tile[0], columns, tile[1]).mean(axis=(1, 3), dtype=float))


def tile_majority(values: NDArray[np.integer], tile: tuple[int, int]) -> NDArray[np.int32]:
    """Most frequent value of every tile; the smallest of several."""
    rows, columns = values.shape[0] // tile[0], values.shape[1] // tile[1]
    rays = values.reshape(rows, tile[0], columns, tile[1]).swapaxes(1, 2).reshape(rows, columns, -1)
    rays = np.sort(rays, axis=-1)
    count = np.stack([(rays == rays[..., [place]]).sum(axis=-1) for place in range(rays.shape[-1])], axis=-1)
    return np.take_along_axis(rays, count.argmax(axis=-1)[..., None], axis=-1)[..., 0].astype(np.int32)


def _beside_another(winner: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether any of the four neighbours has another class, road and its marks counting as one."""
    surface = np.where(winner == _MARKS, _ROAD, winner)
    padded = np.pad(surface, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray(np.any([side != surface for side in neighbours], axis=0))
