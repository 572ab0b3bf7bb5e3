"""Which part each ray meets first: a depth buffer over exact ray-solid intersections."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hsiutils.simulate.noise import Field, Noise
from hsiutils.simulate.rays import NEAR_M, View
from hsiutils.simulate.solids import Faces
from hsiutils.simulate.stage import Part
from hsiutils.simulate.surfaces import Image

_LEAVES: Final = Noise(seed=7)
_LEAF_CLUMP_M = 0.24
_NORMAL: Final = NormalDist()


@dataclass(frozen=True)
class Hits:
    """What each ray meets first.

    Attributes
    ----------
    t : ray parameter, inf where nothing is met.
    part : index of the part, -1 for none.
    face : face of its solid.
    """

    t: Image
    part: NDArray[np.int32]
    face: Faces


def rasterise(view: View, parts: Sequence[Part]) -> Hits:
    """The nearest part along every ray of a view."""
    hits = Hits(
        np.full(view.shape, np.inf, dtype=np.float32),
        np.full(view.shape, -1, dtype=np.int32),
        np.zeros(view.shape, dtype=np.uint8),
    )
    if not parts:
        return hits
    windows = view.windows(np.stack([part.solid.corners for part in parts]))
    visible = (windows[:, 1] > windows[:, 0]) & (windows[:, 3] > windows[:, 2])
    for index in np.flatnonzero(visible):
        _draw(view, parts[int(index)], int(index), windows[index], hits)
    return hits


def _draw(view: View, part: Part, index: int, window: NDArray[np.intp], hits: Hits) -> None:
    top, end, left, right = (int(edge) for edge in window)
    rows, columns, block = np.arange(top, end), np.arange(left, right), np.s_[top:end, left:right]
    t, face = part.solid.meet(view, rows, columns)
    nearer = (t < hits.t[block]) & (t > NEAR_M)
    if part.porosity:
        place = np.nonzero(nearer)
        points = points_at(view, rows[place[0]], columns[place[1]], t[place])
        nearer[place] = _LEAVES.space(points, _LEAF_CLUMP_M) > _NORMAL.inv_cdf(part.porosity)
    np.copyto(hits.t[block], t, where=nearer)
    np.copyto(hits.part[block], np.int32(index), where=nearer)
    np.copyto(hits.face[block], face, where=nearer)


def points_at(view: View, rows: NDArray[np.intp], columns: NDArray[np.intp], t: Field) -> Field:
    """World points (3, n) at parameters t (n,) of the rays in cells (n,), metres."""
    return np.asarray(view.origin.at(rows, columns) + t * view.direction.at(rows, columns))
