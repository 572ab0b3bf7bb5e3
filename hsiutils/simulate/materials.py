"""What things are made of: families of reflectance spectra, most of them measured, in three disjoint parts.

Measured spectra are those of the package earthlib: urban materials of Santa Barbara (Herold et al. 2004), bark,
litter and wood of the Joint Fire Science Program, soils of ICRAF-ISRIC, and canopies simulated with PROSAIL. What it
lacks (coats of cars and walls, cloth, skin, tyres, glazing, water) comes from small physical models; `families` says
which is which.

Train, val and test scenes draw from disjoint spectra. Repeated measurements of one target carry consecutive names, so
the split cuts them into blocks; canopies and soils, of which the library has a dense cloud, are held out with nothing
near them; and no recipe mixes pigments of two splits.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import earthlib
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hsiutils.simulate.light import LAMPS

Spectra = NDArray[np.float64]
WAVELENGTHS_NM: Final = np.arange(400.0, 1001.0, 10.0)
"""Where every reflectance of the simulator is given, nm."""
SPLITS: Final = ("train", "val", "test")


@dataclass(frozen=True)
class Family:
    """All samples of one material."""

    name: str
    ids: tuple[str, ...]  # name of every sample, those of earthlib where it is measured
    spectra: Spectra  # (samples, 61) reflectance at `WAVELENGTHS_NM`
    splits: tuple[str, ...]  # of every sample
    kind: str  # "measured", "canopy model" (PROSAIL), "measured pigments, mixed", or "model"
    source: str


def families() -> pd.DataFrame:
    """One row a family: kind, source, and how many samples each split has."""
    columns = ["family", "kind", *SPLITS, "source"]
    rows = [(own.name, own.kind, *map(own.splits.count, SPLITS), own.source) for own in map(_family, NAMES)]
    return pd.DataFrame(rows, columns=columns).set_index("family")


@cache
def samples(family: str, split: str | None = None) -> tuple[tuple[str, ...], Spectra]:
    """Names of the samples of a family, of one split or of all, and their (samples, 61) spectra; do not modify.

    Raises
    ------
    ValueError
        If the family or the split is unknown.
    """
    chosen = _family(family)
    if split is None:
        return chosen.ids, chosen.spectra
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    keep = [index for index, own in enumerate(chosen.splits) if own == split]
    return tuple(chosen.ids[index] for index in keep), chosen.spectra[keep]


def reflectance(family: str, sample: int, split: str) -> Spectra:
    """One physical sample of a family: (61,) reflectance at `WAVELENGTHS_NM`.

    The number of the sample is taken modulo the number of samples of this split.
    """
    if sample < 0:
        raise ValueError(f"sample must be 0 or more, got {sample}")
    _, pool = samples(family, split)
    return np.asarray(pool[sample % len(pool)])


def distinct_samples(
    kinds: tuple[str, ...] = ("measured",), step_nm: float = 1.0
) -> tuple[list[str], Spectra, Spectra]:
    """Every distinct sample of the library's families, those that no split uses among them.

    Parameters
    ----------
    kinds : "measured" and "canopy model".
    step_nm : the spectra, given every 10 nm, are interpolated linearly to this step.

    Returns
    -------
    families : of each sample; where families share a sample, the first in order.
    wavelength_nm : (n,)
    spectra : (samples, n) reflectance.
    """
    wavelength = np.arange(WAVELENGTHS_NM[0], WAVELENGTHS_NM[-1] + step_nm / 2, step_nm)
    own: dict[str, tuple[str, Spectra]] = {}
    for family in (*_MEASURED, *_CANOPIES):
        if _family(family).kind in kinds:
            rows = _rows(family)
            for name, spectrum in zip(rows.index, _values(rows), strict=True):
                own.setdefault(str(name), (family, np.interp(wavelength, WAVELENGTHS_NM, spectrum)))
    return [family for family, _ in own.values()], wavelength, np.stack([spectrum for _, spectrum in own.values()])


# --- measured spectra, and canopies of PROSAIL ----------------------------------------------------------------------

_DRY_GRASS: Final = r"(?:deadgras|goldgras|brte_br|woodstrw|nnpnxx.*|Grass_dry.*|D\.spicata)$"
_MEASURED: Final[dict[str, tuple[str, str]]] = {
    # family: (LEVEL_3 groups, start of the name). Santa Barbara names: use, kind, colour (k black, e grey, n brown...).
    "asphalt": ("road", r"rpae|rpak|spae"),
    "asphalt_patch": ("road|parking_lot", r"rprk|pptk|ppok"),
    "parking": ("parking_lot", r"ppae|ppcs"),
    "sidewalk": ("sidewalk", r"spc|spm|mpc|subr"),
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
_PAINTS: Final = {
    "white": {"train": r"trawmm|trawyg", "val": r"trawyf|ppcwmp", "test": r"pprwmg|pprwmm"},
    "yellow": {"train": r"traymg", "val": r"trayyg", "test": r"trayye"},
}
"""Street paints by the start of their names. One name is one paint, so that no paint serves two splits."""
_COLOURS: Final = ("paint", r"ctcg|ctcn|tccr|tpab|toft")
_SIGNS: Final = ("paint", r"tccr|tpab")
_CANOPIES: Final = ("leaves", "conifer", "grass")


@cache
def _library() -> pd.DataFrame:
    """Every earthlib spectrum at `WAVELENGTHS_NM`, joined by name with LEVEL_3 and split.

    A few names occur twice: only the first of each is kept, because the library's rows and its table disagree on
    their order. One name of the table has no spectrum and goes.
    """
    library = earthlib.full_library
    centres = np.round(np.asarray(library.sensor.band_centers, dtype=float) * 1000)  # micrometres, to the nm
    columns = np.searchsorted(centres, WAVELENGTHS_NM)
    if not np.array_equal(centres[columns], WAVELENGTHS_NM):
        raise RuntimeError(f"earthlib {earthlib.__version__} is not on the 10 nm grid that the simulator expects")
    values = np.asarray(library.data[:, columns], dtype=float)
    spectra = pd.DataFrame(values, index=pd.Index(library.names, name="NAME"))
    known = library.metadata[["NAME", "LEVEL_3"]].drop_duplicates("NAME").set_index("NAME")
    table = known.join(spectra[~spectra.index.duplicated()], how="inner").sort_index()
    table.insert(1, "split", _blocks(table))
    return table


def _blocks(table: pd.DataFrame) -> list[str]:
    """60 % train, 20 % val, 20 % test of every run of names that belong together.

    Numbered names (urban targets ``rpaemg.011-``, soil profiles) run in order, so that neighbours stay together;
    all other names stand for themselves and are cut in an order that says nothing about them.
    """
    names = table.index.to_series()
    numbered = names.str.contains(r"^[a-z]{6}\.\d{3}-$|^FS15R_")
    order = names.where(numbered, names.map(lambda name: f"{zlib.crc32(name.encode()):010d}"))
    run = order.groupby([table["LEVEL_3"], names.str[:4].where(numbered, "")])
    place = (run.rank(method="first") - 0.5) / run.transform("size")
    return [SPLITS[index] for index in np.searchsorted(np.cumsum([0.6, 0.2]), place.to_numpy())]


def _select(groups: str, start: str) -> pd.DataFrame:
    table = _library()
    return table[table["LEVEL_3"].isin(groups.split("|")) & table.index.str.match(start)]


def _rows(name: str) -> pd.DataFrame:
    """Those of a family of the library.

    Conifer: thick green needles (PROSAIL has no shoots, so a substitute); grass: thin, open; leaves: the rest.
    """
    if name not in _CANOPIES:
        return _select(*_MEASURED[name])
    rows = _select("canopy", "v-LAI")
    # Its name gives leaf area index, leaf mass per area (g/cm2), and chlorophyll (ug/cm2).
    named = rows.index.str.extract(r"v-LAI-(?P<area>.+)-LMA-(?P<mass>.+)-CHL-(?P<green>.+)-N-")
    traits = named.astype(float).set_axis(rows.index)
    conifer = (traits["mass"] >= 0.016) & (traits["green"] >= 30) & (traits["area"] >= 2)
    grass = ~conifer & (traits["mass"] < 0.010) & (traits["area"] < 4)
    leaves = ~conifer & ~grass & (traits["mass"] < 0.016) & (traits["area"] >= 2.5)
    return rows[{"conifer": conifer, "grass": grass, "leaves": leaves}[name]]


def _held_apart(rows: pd.DataFrame) -> pd.DataFrame:
    """Splits of a dense library: every 24th sample is val, another test, and what is too near to them goes.

    Nothing of another split lies within twice the library's own spacing of a held-out sample, as log PN in 600-1000 nm
    (root mean square) measures it; they come in an order that says nothing about them.
    """
    log_pn = np.log(np.maximum(_values(rows)[:, WAVELENGTHS_NM >= 600], 1e-3))
    log_pn -= log_pn.mean(axis=1, keepdims=True)
    square = np.sum(log_pn**2, axis=1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * log_pn @ log_pn.T, 0))
    np.fill_diagonal(distance, np.inf)
    gap, held = 2 * np.median(distance.min(axis=1)), np.zeros(len(rows), dtype=bool)
    order = np.argsort([zlib.crc32(str(name).encode()) for name in rows.index])
    for index in order:
        held[index] = held.sum() < len(rows) // 12 and distance[index, held].min(initial=np.inf) > gap
    chosen = order[held[order]]
    split = np.where(distance[:, held].min(axis=1) > gap, "train", "")
    split[chosen[::2]], split[chosen[1::2]] = "val", "test"
    return rows.assign(split=split)[split != ""]


def _values(rows: pd.DataFrame) -> Spectra:
    return np.asarray(rows.drop(columns=["LEVEL_3", "split"]), dtype=float)


# --- small physical models: each function draws `count` samples (count, 61) of its material, for a split ------------


def absorption_ratio(reflectance: ArrayLike) -> Spectra:
    """K/S of an opaque layer from its reflectance: (1 - R)^2 / 2R (Kubelka and Munk 1931)."""
    diffuse = np.clip(reflectance, 1e-3, 1.0)
    return np.asarray((1 - diffuse) ** 2 / (2 * diffuse))


def opaque_reflectance(ratio: ArrayLike) -> Spectra:
    """Reflectance of an opaque layer from its K/S, the inverse of `absorption_ratio`."""
    k = np.asarray(ratio, dtype=float)
    # The textbook form 1 + k - sqrt(k^2 + 2k) cancels for dark layers; this one does not.
    return np.asarray(1 / (1 + k + np.sqrt(k**2 + 2 * k)))


def achromatic_coats(whites: Spectra, count: int, rng: np.random.Generator) -> Spectra:
    """White, grey and black car coats: measured white paint, cleaned and let down with carbon black.

    A street's white paint is worn and dirty (R about 0.5); a factor 0.08-0.4 on its K/S gives the 0.65-0.85 of a new
    coat. Carbon black absorbs evenly over 400-1000 nm.
    """
    white = absorption_ratio(_drawn(whites, count, rng))
    clean = rng.uniform(0.08, 0.4, (count, 1))
    carbon_black = np.exp(rng.uniform(np.log(0.01), np.log(12), (count, 1)))
    return opaque_reflectance(clean * white + carbon_black)


def coloured_coats(colours: Spectra, count: int, rng: np.random.Generator) -> Spectra:
    """Coloured coats: measured coloured paint, thinner or stronger, with a little carbon black."""
    pigment = absorption_ratio(_drawn(colours, count, rng))
    strength = rng.uniform(0.4, 2.0, (count, 1))
    carbon_black = np.exp(rng.uniform(np.log(0.005), np.log(0.5), (count, 1)))
    return opaque_reflectance(strength * pigment + carbon_black)


def plasters(split: str, count: int, rng: np.random.Generator) -> Spectra:
    """Rendered walls: white paint tinted by mineral earth (lime or cement render with sand and ochre)."""
    white, earth = (absorption_ratio(_drawn(pool, count, rng)) for pool in (_paint("white", split), _soil(split)))
    clean, tint = rng.uniform(0.15, 0.6, (count, 1)), rng.uniform(0.02, 0.35, (count, 1))
    return opaque_reflectance(clean * white + tint * earth)


def street_paints(split: str, count: int, rng: np.random.Generator) -> Spectra:
    """Marks, one in eight yellow: measured paint, fresh or aged, dirty, with glass beads, worn down to the road.

    Dirt is soil in the coat. A bead reflects F = 4 % on its face and passes what the paint behind it sends back:
    F + (1 - F)^2 R. Wear bares up to a third of the coat, mostly little; what varies within one mark is
    `Surfaces.mix`.
    """
    yellow = count // 8
    pigment = [_drawn(_paint("white", split), count - yellow, rng), _drawn(_paint("yellow", split), yellow, rng)]
    aged, dirt = np.exp(rng.uniform(np.log(0.5), np.log(1.6), (count, 1))), rng.uniform(0, 0.12, (count, 1))
    soil = absorption_ratio(_drawn(_soil(split), count, rng))
    coat = opaque_reflectance(aged * absorption_ratio(np.vstack(pigment)) + dirt * soil)
    beads, wear = rng.uniform(0, 0.35, (count, 1)), rng.random((count, 1)) ** 2 / 3
    coat = (1 - beads) * coat + beads * (0.04 + 0.96**2 * coat)
    return rng.permutation((1 - wear) * coat + wear * _drawn(samples("asphalt", split)[1], count, rng))


def _drawn(pool: Spectra, count: int, rng: np.random.Generator) -> Spectra:
    return pool[rng.integers(len(pool), size=count)]


def cloths(_split: str, count: int, rng: np.random.Generator) -> Spectra:
    """Dyed textiles: a nearly white fibre, one or two dye absorptions in the visible, none in the near infrared.

    Organic dyes stop absorbing at 700-800 nm, so that cloth of any colour is bright beyond; one garment in seven
    is coloured with carbon and stays dark.
    """
    fibre = rng.uniform(0.02, 0.12, (count, 1)) * np.ones_like(WAVELENGTHS_NM)
    ratio = fibre
    for _ in range(2):
        centre, width = rng.uniform(420, 680, (count, 1)), rng.uniform(35, 90, (count, 1))
        strength = np.exp(rng.uniform(np.log(0.1), np.log(20), (count, 1)))
        ratio = ratio + strength * np.exp(-(((WAVELENGTHS_NM - centre) / width) ** 2) / 2)
    carbon = np.where(rng.random((count, 1)) < 1 / 7, rng.uniform(2, 10, (count, 1)), 0.0)
    return opaque_reflectance(ratio + carbon)


def skins(_split: str, count: int, rng: np.random.Generator) -> Spectra:
    """Human skin: a melanin filter over blood-perfused dermis.

    Melanin follows Jacques (2013, Phys. Med. Biol. 58 R37), proportional to wavelength^-3.48 and passed twice; dermis
    has K/S from a baseline falling with wavelength, haemoglobin's Soret and 542/577 nm bands, and water at 970 nm.
    """
    wavelength = WAVELENGTHS_NM
    melanin = rng.uniform(0.05, 0.9, (count, 1)) * (wavelength / 500) ** -3.48
    blood = rng.uniform(0.15, 0.45, (count, 1)) * (
        4 * _bump(wavelength, 418, 18) + 0.5 * _bump(wavelength, 542, 14) + 0.5 * _bump(wavelength, 577, 9)
    )
    base = 0.14 * (wavelength / 600) ** -2 + 0.12 * _bump(wavelength, 970, 28)
    return np.asarray(opaque_reflectance(base + blood) * np.exp(-melanin))


def tyres(_split: str, count: int, rng: np.random.Generator) -> Spectra:
    """Rubber filled with carbon black: 3-7 %, rising slightly towards the infrared, with road dust on it."""
    level, slope = rng.uniform(0.03, 0.07, (count, 1)), rng.uniform(0.0, 0.35, (count, 1))
    return np.asarray(level * (1 + slope * (WAVELENGTHS_NM - 700) / 600))


def glazings(_split: str, count: int, rng: np.random.Generator) -> Spectra:
    """What is seen through a pane, without the reflection on it: a dim interior behind tinted soda-lime glass, twice.

    Ferrous iron absorbs in a broad band at 1050 nm, ferric iron in the blue: the green edge of window glass.
    """
    iron = rng.uniform(0.05, 0.6, (count, 1))
    once = np.exp(-iron * (_bump(WAVELENGTHS_NM, 1050, 190) + 0.25 * _bump(WAVELENGTHS_NM, 380, 40)))
    level, slope = rng.uniform(0.02, 0.10, (count, 1)), rng.uniform(0, 0.6, (count, 1))
    return np.asarray(level * (1 + slope * (WAVELENGTHS_NM - 700) / 600) * once**2)


def waters(_split: str, count: int, rng: np.random.Generator) -> Spectra:
    """Light that comes back from within turbid water: 0.33 b / (a + b) (Gordon 1975), without surface reflection.

    a: pure water (Hale and Querry 1973) and yellow substance; b: backscatter of silt.
    """
    absorption = np.interp(WAVELENGTHS_NM, _WATER_NM, _WATER_PER_M)
    yellow = rng.uniform(0.2, 3.0, (count, 1)) * np.exp(-0.016 * (WAVELENGTHS_NM - 440))
    silt = np.exp(rng.uniform(np.log(0.05), np.log(0.6), (count, 1))) * (WAVELENGTHS_NM / 600) ** -0.8
    return np.asarray(0.33 * silt / (absorption + yellow + silt))


_WATER_NM: Final = (400, 450, 500, 550, 600, 650, 700, 725, 750, 775, 800, 825, 850, 875, 900, 925, 950, 975, 1000)
_WATER_PER_M: Final = (
    *(0.058, 0.028, 0.025, 0.045, 0.23, 0.32, 0.60, 1.59, 2.6, 2.4, 2.0),
    *(2.8, 4.3, 5.6, 6.8, 14.4, 38.8, 44.9, 36.3),
)


def _bump(wavelength: Spectra, centre: float, width: float) -> Spectra:
    return np.asarray(np.exp(-(((wavelength - centre) / width) ** 2) / 2))


_Recipe = Callable[[str, int, np.random.Generator], Spectra]
_COUNTS: Final = {"train": 60, "val": 20, "test": 20}


def _paint(colour: str, split: str) -> Spectra:
    return _values(_select("paint", _PAINTS[colour][split]))


def _soil(split: str) -> Spectra:
    return samples("soil", split)[1]


def _of_split(choice: tuple[str, str], split: str) -> Spectra:
    rows = _select(*choice)
    return _values(rows[rows["split"] == split])


def _car_paint(split: str, count: int, rng: np.random.Generator) -> Spectra:
    """Three cars in four are white, grey or black, as on European roads."""
    grey = achromatic_coats(_paint("white", split), count - count // 4, rng)
    return rng.permutation(np.vstack([grey, coloured_coats(_of_split(_COLOURS, split), count // 4, rng)]))


def _sign_paint(split: str, count: int, rng: np.random.Generator) -> Spectra:
    return coloured_coats(np.vstack([_of_split(_SIGNS, split), _paint("white", split)]), count, rng)


_MODELLED: Final[dict[str, tuple[_Recipe, str, str]]] = {
    "car_paint": (_car_paint, "measured pigments, mixed", "Kubelka-Munk mixtures of earthlib paints and carbon black"),
    "plaster": (plasters, "measured pigments, mixed", "Kubelka-Munk mixtures of earthlib white paint and soil"),
    "sign_paint": (_sign_paint, "measured pigments, mixed", "Kubelka-Munk: earthlib red, blue and white paint"),
    "street_paint": (street_paints, "measured pigments, mixed", "earthlib white and yellow paint, dirt, beads, wear"),
    "cloth": (cloths, "model", "dyed fibre, Kubelka-Munk"),
    "skin": (skins, "model", "melanin and blood, Jacques 2013"),
    "tyre": (tyres, "model", "carbon-black rubber"),
    "glass": (glazings, "model", "dim interior behind soda-lime glass"),
    **dict.fromkeys(LAMPS, (glazings, "model", "a lamp behind soda-lime glass; it may be lit")),
    "water": (waters, "model", "Gordon 1975, Hale and Querry 1973"),
}
NAMES: Final = (*_MEASURED, *_CANOPIES, *_MODELLED)
"""Every family that a `Slot` may name."""


@cache
def _family(name: str) -> Family:
    if name not in NAMES:
        raise ValueError(f"unknown material family {name!r}: one of {', '.join(NAMES)}")
    if name not in _MODELLED:
        rows = _rows(name)[:: 4 if name == "soil" else 1]  # soils are many and much the same
        rows = _held_apart(rows) if name in (*_CANOPIES, "soil") else rows
        kind = "canopy model" if name in _CANOPIES else "measured"
        source = "PROSAIL canopies" if name in _CANOPIES else _MEASURED[name][0]
        return Family(name, tuple(rows.index), _values(rows), tuple(rows["split"]), kind, f"earthlib, {source}")
    recipe, kind, source = _MODELLED[name]
    # The library is one fixed thing, like the measured one: not drawn anew with the seed of a data set.
    parts = [
        recipe(split, count, np.random.default_rng([*name.encode(), SPLITS.index(split)]))
        for split, count in _COUNTS.items()
    ]
    splits = tuple(split for split, count in _COUNTS.items() for _ in range(count))
    ids = tuple(f"{name}-{number:03d}" for number in range(len(splits)))
    return Family(name, ids, np.vstack(parts), splits, kind, source)
