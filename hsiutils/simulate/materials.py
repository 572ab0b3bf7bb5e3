"""What things are made of: families of reflectance spectra, most of them measured, in three disjoint parts.

Measured spectra are those of the package earthlib: urban materials of Santa Barbara (Herold et al. 2004), bark,
litter and wood of the Joint Fire Science Program, soils of ICRAF-ISRIC, and canopies simulated with PROSAIL. What it
lacks (coats of cars and walls, cloth, skin, tyres, glazing, water) comes from `hsiutils.simulate.pigments`; `families`
says which is which.

Train, val and test scenes draw from disjoint spectra. Repeated measurements of one target carry consecutive names, so
the split cuts them into blocks, and no recipe mixes pigments of two splits.

All measured samples of all material families in one table, finely sampled for narrow filters.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import earthlib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hsiutils.simulate import pigments
from hsiutils.simulate.pigments import WAVELENGTHS_NM, Spectra

SPLITS: Final = ("train", "val", "test")
_SHARES: Final = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class Family:
    """All samples of one material.

    Attributes
    ----------
    ids : name of every sample, those of earthlib where it is measured.
    spectra : (samples, 61) reflectance at `WAVELENGTHS_NM`.
    splits : split of every sample.
    kind : "measured", "canopy model" (PROSAIL), "measured pigments, mixed", or "model".
    source : where the spectra come from.
    """

    name: str
    ids: tuple[str, ...]
    spectra: Spectra
    splits: tuple[str, ...]
    kind: str
    source: str


def families() -> pd.DataFrame:
    """One row a family: kind, source, and how many samples each split has."""
    rows = []
    for name in NAMES:
        family = _family(name)
        counts = {split: family.splits.count(split) for split in SPLITS}
        rows.append({"family": name, "kind": family.kind, **counts, "source": family.source})
    return pd.DataFrame(rows).set_index("family")


def samples(family: str, split: str | None = None) -> tuple[tuple[str, ...], Spectra]:
    """Names and spectra of a family, of one split or of all.

    Returns
    -------
    ids : names of the samples
    spectra : (samples, 61) reflectance at `WAVELENGTHS_NM`

    Raises
    ------
    ValueError
        If the family or the split is unknown.
    """
    chosen = _family(family)
    if split is None:
        return chosen.ids, chosen.spectra
    _require_split(split)
    keep = [index for index, own in enumerate(chosen.splits) if own == split]
    return tuple(chosen.ids[index] for index in keep), chosen.spectra[keep]


@cache
def _pool(family: str, split: str) -> Spectra:
    return samples(family, split)[1]


def reflectance(family: str, sample: int, split: str) -> NDArray[np.float64]:
    """One physical sample of a family: (61,) reflectance at `WAVELENGTHS_NM`.

    Parameters
    ----------
    sample : any non-negative number; it is taken modulo the number of samples of this split.
    """
    if sample < 0:
        raise ValueError(f"sample must be 0 or more, got {sample}")
    pool = _pool(family, split)
    return np.asarray(pool[sample % len(pool)])


def _family(name: str) -> Family:
    if name not in NAMES:
        raise ValueError(f"unknown material family {name!r}: one of {', '.join(NAMES)}")
    return _modelled(name) if name in _MODELLED else _measured(name)


def _require_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")


# --- measured -------------------------------------------------------------------------------------------------------

_DRY_GRASS: Final = r"(?:deadgras|goldgras|brte_br|woodstrw|nnpnxx.*|Grass_dry.*|D\.spicata)$"
_MEASURED: Final[dict[str, tuple[str, str]]] = {
    # family: (LEVEL_3 groups, start of the name). Santa Barbara names: use, kind, colour (k black, e grey, n brown...).
    "asphalt": ("road", r"rpae|rpak|spae"),
    "asphalt_patch": ("road|parking_lot", r"rprk|pptk|ppok"),
    "parking": ("parking_lot", r"ppae|ppcs"),
    "sidewalk": ("sidewalk", r"spc|spm|mpc|subr"),
    # White paint on asphalt and concrete; yellow marks (tray) mean road works in Spain. Wear is `Surfaces.mix`.
    "street_paint": ("paint", r"traw|pprw|ppcw"),
    "bare_metal": ("metal|manhole", r""),
    "brick": ("other|driveway", r"mobr|modr"),
    "concrete": ("bridge|road|driveway", r"rbcs|rpcs|spcs"),
    "shingle": ("comp_shingle|wood_shingle", r""),
    "tile": ("tile|concrete_tile", r""),
    "wood": ("wood", r""),
    "bark": ("bark", r""),
    "dry_grass": ("litter", _DRY_GRASS),
    "litter": ("litter|npv", rf"(?!{_DRY_GRASS})"),
    "soil": ("soil|dirt|sand", r""),
    "gravel": ("gravel", r""),
}
_COLOURS: Final = ("paint", r"ctcg|ctcn|tccr|tpab|toft")
_SIGNS: Final = ("paint", r"tccr|tpab|traw|pprw")
_NUMBERED: Final = r"^[a-z]{6}\.\d{3}-$|^FS15R_"


@cache
def _library() -> pd.DataFrame:
    """Every earthlib spectrum in 400-1000 nm, joined by name with what is known of it.

    A few names occur twice: only the first of each is kept, because the library's rows and its table disagree on
    their order. One name of the table has no spectrum and goes.
    """
    library = earthlib.full_library
    spectra = pd.DataFrame(_to_grid(library), index=pd.Index(library.names, name="NAME"))
    known = library.metadata[["NAME", "LEVEL_3"]].drop_duplicates("NAME").set_index("NAME")
    table = known.join(spectra[~spectra.index.duplicated()], how="inner").sort_index()
    table.insert(1, "split", _blocks(table))
    return table


def _to_grid(library: earthlib.Spectra) -> Spectra:
    centres = np.round(np.asarray(library.sensor.band_centers, dtype=float) * 1000)  # micrometres, to the nm
    columns = np.searchsorted(centres, WAVELENGTHS_NM)
    if not np.array_equal(centres[columns], WAVELENGTHS_NM):
        raise RuntimeError(f"earthlib {earthlib.__version__} is not on the 10 nm grid that the simulator expects")
    return np.asarray(library.data[:, columns], dtype=float)


def _blocks(table: pd.DataFrame) -> NDArray[np.str_]:
    """60 % train, 20 % val, 20 % test of every run of names that belong together.

    Numbered names (urban targets ``rpaemg.011-``, soil profiles) run in order, so that neighbours stay together;
    all other names stand for themselves and are cut in an order that says nothing about them.
    """
    names = table.index.to_series()
    numbered = names.str.contains(_NUMBERED)
    order = names.where(numbered, names.map(lambda name: f"{zlib.crc32(name.encode()):010d}"))
    groups = [table["LEVEL_3"], names.str[:4].where(numbered, "")]
    run = order.groupby(groups)
    place = (run.rank(method="first") - 0.5) / run.transform("size")
    which = np.searchsorted(np.cumsum(_SHARES)[:-1], place.to_numpy())
    return np.array([SPLITS[index] for index in which])


def _select(groups: str, start: str) -> pd.DataFrame:
    table = _library()
    return table[table["LEVEL_3"].isin(groups.split("|")) & table.index.str.match(start)]


def _values(rows: pd.DataFrame) -> Spectra:
    return np.asarray(rows.drop(columns=["LEVEL_3", "split"]), dtype=float)


@cache
def _measured(name: str) -> Family:
    rows = _canopies(name) if name in _CANOPIES else _select(*_MEASURED[name])
    return Family(
        name,
        ids=tuple(rows.index),
        spectra=_values(rows),
        splits=tuple(rows["split"]),
        kind="canopy model" if name in _CANOPIES else "measured",
        source="earthlib, PROSAIL canopies" if name in _CANOPIES else f"earthlib, {_MEASURED[name][0]}",
    )


# --- canopies: PROSAIL, told apart by what the leaves and the stand are like ----------------------------------------

_CANOPIES: Final = ("leaves", "conifer", "grass")
_TRAITS: Final = r"v-LAI-(?P<area>.+)-LMA-(?P<mass>.+)-CHL-(?P<green>.+)-N-"
"""How a canopy is named: leaf area index, leaf mass per area (g/cm2), chlorophyll (ug/cm2)."""


def _canopies(name: str) -> pd.DataFrame:
    """Conifer: thick green needles (PROSAIL has no shoots, so a substitute); grass: thin, open; leaves: the rest."""
    rows = _select("canopy", "v-LAI")
    traits = rows.index.str.extract(_TRAITS).astype(float).set_axis(rows.index)
    conifer = (traits["mass"] >= 0.016) & (traits["green"] >= 30) & (traits["area"] >= 2)
    grass = ~conifer & (traits["mass"] < 0.010) & (traits["area"] < 4)
    leaves = ~conifer & ~grass & (traits["mass"] < 0.016) & (traits["area"] >= 2.5)
    return rows[{"conifer": conifer, "grass": grass, "leaves": leaves}[name]]


# --- modelled -------------------------------------------------------------------------------------------------------

_Recipe = Callable[[str, int, np.random.Generator], Spectra]
_COUNTS: Final = {"train": 60, "val": 20, "test": 20}


def _pigments(choice: tuple[str, str], split: str) -> Spectra:
    rows = _select(*choice)
    return _values(rows[rows["split"] == split])


def _car_paint(split: str, count: int, rng: np.random.Generator) -> Spectra:
    """Three cars in four are white, grey or black, as on European roads."""
    coloured = count // 4
    grey = pigments.achromatic_coats(_pool("street_paint", split), count - coloured, rng)
    return rng.permutation(np.vstack([grey, pigments.coloured_coats(_pigments(_COLOURS, split), coloured, rng)]))


def _plaster(split: str, count: int, rng: np.random.Generator) -> Spectra:
    return pigments.plasters(_pool("street_paint", split), _pool("soil", split), count, rng)


def _sign_paint(split: str, count: int, rng: np.random.Generator) -> Spectra:
    return pigments.coloured_coats(_pigments(_SIGNS, split), count, rng)


_MODELLED: Final[dict[str, tuple[_Recipe, str, str]]] = {
    "car_paint": (_car_paint, "measured pigments, mixed", "Kubelka-Munk mixtures of earthlib paints and carbon black"),
    "plaster": (_plaster, "measured pigments, mixed", "Kubelka-Munk mixtures of earthlib white paint and soil"),
    "sign_paint": (_sign_paint, "measured pigments, mixed", "Kubelka-Munk: earthlib red, blue and white paint"),
    "cloth": (lambda _, count, rng: pigments.cloths(count, rng), "model", "dyed fibre, Kubelka-Munk"),
    "skin": (lambda _, count, rng: pigments.skins(count, rng), "model", "melanin and blood, Jacques 2013"),
    "tyre": (lambda _, count, rng: pigments.tyres(count, rng), "model", "carbon-black rubber"),
    "glass": (lambda _, count, rng: pigments.glazings(count, rng), "model", "dim interior behind soda-lime glass"),
    "water": (lambda _, count, rng: pigments.waters(count, rng), "model", "Gordon 1975, Hale and Querry 1973"),
}
NAMES: Final = (*_MEASURED, *_CANOPIES, *_MODELLED)
"""Every family that a `Slot` may name."""


@cache
def _modelled(name: str) -> Family:
    recipe, kind, source = _MODELLED[name]
    parts, splits = [], []
    for split, count in _COUNTS.items():
        # The library is one fixed thing, like the measured one: not drawn anew with the seed of a data set.
        rng = np.random.default_rng([*name.encode(), SPLITS.index(split)])
        parts.append(recipe(split, count, rng))
        splits += [split] * count
    ids = tuple(f"{name}-{number:03d}" for number in range(len(splits)))
    return Family(name, ids, np.vstack(parts), tuple(splits), kind, source)


def distinct_samples(
    kinds: tuple[str, ...] = ("measured",), step_nm: float = 1.0
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Every distinct sample of the families of some kinds, by default of those that were measured.

    Parameters
    ----------
    kinds : as in `hsiutils.simulate.materials.families`: "measured", "canopy model", ...
    step_nm : the spectra, measured every 10 nm, are interpolated linearly to this step.

    Returns
    -------
    families : of each sample; where families share a sample, the first in order.
    wavelength_nm : (n,)
    spectra : (samples, n) reflectance.
    """
    kind = families()["kind"]
    wavelength = np.arange(WAVELENGTHS_NM[0], WAVELENGTHS_NM[-1] + step_nm / 2, step_nm)
    own: dict[str, tuple[str, NDArray[np.float64]]] = {}
    for family in kind.index[kind.isin(kinds)]:
        for name, spectrum in zip(*samples(str(family)), strict=True):
            own.setdefault(name, (str(family), np.interp(wavelength, WAVELENGTHS_NM, spectrum)))
    return [family for family, _ in own.values()], wavelength, np.stack([spectrum for _, spectrum in own.values()])
