"""Cross-sections of town streets, country roads and highways: strips, lanes, and what is painted on them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from hsiutils.data.classes import MARKS, METAL, ROAD, STONE, UNLABELLED, VEGETATION, WATER
from hsiutils.data.names import Conditions
from hsiutils.simulate.builder import Stage
from hsiutils.simulate.roads import Arrow, Bars, Curve, Hatching, Lanes, Line, Mark, Road, SideStreet, Teeth, Zone

KERB_M = 0.12


def lay_road(stage: Stage, conditions: Conditions, widening: float = 1.0) -> Road:
    """Draw a road of the kind that the conditions say.

    Parameters
    ----------
    widening : factor on the width of marks; of as many fewer lines and arrows, so that their area stays.
    """
    build = {"urban": _street, "road": _country_road, "highway": _highway}[conditions.scene]
    road = build(stage, conditions)
    if widening <= 1:
        return road
    kept = [mark for mark in road.marks if not isinstance(mark, Line | Arrow) or stage.chance(1 / widening)]
    return replace(road, marks=tuple(mark.widened(widening) for mark in kept))


def _street(stage: Stage, conditions: Conditions) -> Road:
    width, count = stage.between(3.1, 3.6), int(stage.rng.choice([1, 2, 2, 3]))
    oncoming = int(stage.rng.choice([0, 1, 1, 2])) if count < 3 else int(stage.rng.choice([0, 1]))
    lanes = _lanes(width, oncoming, count)
    own = len(lanes) - 1 - int(stage.rng.integers(count))
    left, right = -oncoming * width - 0.3, count * width + 0.3
    parked = [stage.chance(0.2), stage.chance(0.25)]
    parking = [(left - 1.0, -1)] * parked[0] + [(right + 1.0, 1)] * parked[1]
    edges = left - 2.1 * parked[0], right + 2.1 * parked[1]
    depth = (stage.between(1.3, 2.6), stage.between(1.3, 2.6))
    asphalt, parking_zone = _asphalt(stage), Zone(stage.slot("parking", ROAD, "soil"), "asphalt")
    # Now and then a lawn takes the place of the pavement.
    beside, behind = ([_plot(stage, conditions, green) for _ in range(2)] for green in (0.4, 0.85))
    borders = [edges[0] - depth[0], edges[0], left, right, edges[1], edges[1] + depth[1]]
    zones = [behind[0], beside[0], parking_zone, asphalt, parking_zone, beside[1], behind[1]]
    streets = []
    for edge in edges:
        if stage.chance(0.45):
            start = stage.between(9, 50)
            streets.append(SideStreet(start, start + stage.between(6, 10), edge))
    marks = _street_marks(stage, lanes, width, (left, right), parked, streets)
    road = _road(stage, (1 / 150, 0.5), borders, [*zones, asphalt], lanes, own, marks, (left, right), patched=0.6)
    return replace(road, sides=edges, depths=depth, parking=tuple(parking), side_streets=tuple(streets))


def _plot(stage: Stage, conditions: Conditions, green: float) -> Zone:
    """A strip behind a kerb: lawn with probability `green`, otherwise paved."""
    if stage.chance(green):
        return Zone(_grass(stage, conditions), "green", KERB_M)
    return Zone(stage.slot("sidewalk", STONE, "soil"), "paving", KERB_M)


def _street_marks(
    stage: Stage, lanes: Lanes, width: float, sides: tuple[float, float], parked: list[bool], streets: list[SideStreet]
) -> list[Mark]:
    left, right = sides
    marks: list[Mark] = [
        *_dividers(stage, lanes, width, dash=2.0, gap=stage.between(2.0, 4.0)),
        *(Line(edge, 0.15) for edge, has in zip(sides, parked, strict=True) if has or stage.chance(0.6)),
    ]
    crossing = np.inf
    if stage.chance(0.6):
        crossing = stage.between(7.0, 32.0)
        marks.append(Bars(crossing, crossing + stage.between(3.0, 4.5), left + 0.3, right - 0.3))
        marks.append(Bars(crossing - 1.3, crossing - 0.9, 0.1, right - 0.2, gap=0))
    if stage.chance(0.5) and crossing > 18:
        u = min(stage.between(7, 18), crossing - 9.0)
        marks += [Arrow(u, v, 5.0, int(stage.rng.integers(-1, 2))) for v, direction in lanes if direction > 0]
    if streets and stage.chance(0.6):
        marks.append(Teeth(streets[0].start - 1.5, 0.0, right))
    return marks


def _country_road(stage: Stage, conditions: Conditions) -> Road:
    width, shoulder, climbing = stage.between(3.1, 3.6), stage.between(0.5, 2.0), stage.chance(0.25)
    lanes = _lanes(width, 1, 2 if climbing else 1)
    own = len(lanes) - 1 - int(climbing and stage.chance(0.5))
    left, right = -width, width * (len(lanes) - 1)
    verge = stage.between(0.3, 1.5)
    asphalt, gravel = _asphalt(stage), Zone(stage.slot("gravel", UNLABELLED, "soil"), "bare")
    meadow = [Zone(_grass(stage, conditions), "green") for _ in range(2)]
    borders = [left - shoulder - verge, left - shoulder, right + shoulder, right + shoulder + verge]
    zones = [meadow[0], gravel, asphalt, gravel, meadow[1], asphalt]
    edge_width = stage.between(0.12, 0.2)
    marks = _dividers(stage, lanes, width, dash=stage.between(3, 4), gap=stage.between(3.0, 8.0))
    marks += [Line(left, edge_width), Line(right, edge_width)]
    if stage.chance(0.3):
        # Paint that a longer stretch of road has somewhere: a crossing, arrows, hatching.
        u, choice = stage.between(8, 28), stage.rng.integers(3)
        if choice == 0:
            marks.append(Bars(u, u + 4, lanes[0][0] - 1.5, right))
        elif choice == 1:
            marks += [Arrow(u, v, stage.between(4, 6)) for v, direction in lanes if direction > 0]
        else:
            marks.append(Hatching(u, u + stage.between(20, 40), right - 1.6, right))
    return _road(stage, (1 / 180, 0.25), borders, zones, lanes, own, marks, (borders[1], borders[2]), patched=0.5)


def _highway(stage: Stage, conditions: Conditions) -> Road:
    width, count = stage.between(3.5, 3.75), int(stage.rng.choice([2, 2, 3]))
    hard, inner = stage.between(2.0, 3.0), stage.between(0.8, 1.5)
    median = stage.between(2.0, 6.0)
    far = -inner - median
    lanes = tuple((far - inner - (index + 0.5) * width, -1) for index in reversed(range(count)))
    lanes += tuple(((index + 0.5) * width, 1) for index in range(count))
    own = len(lanes) - 1 - int(stage.rng.integers(count))
    right, left = count * width, far - inner - count * width
    asphalt = _asphalt(stage)
    verge = [Zone(_grass(stage, conditions), "green") for _ in range(3)]
    gravel = Zone(stage.slot("gravel", UNLABELLED, "soil"), "bare")
    borders = [left - hard, far, -inner, right + hard, right + hard + stage.between(0.3, 1.0)]
    middle = verge[0] if median > 2.5 else Zone(stage.slot("concrete", STONE, "soil"), "paving")
    zones = [verge[1], asphalt, middle, asphalt, gravel, verge[2], asphalt]
    dash, gap, phase = 5.0, stage.between(7, 12), stage.between(0, 12)
    between, edge = stage.between(0.15, 0.2), stage.between(0.2, 0.3)
    marks: list[Mark] = [
        *(Line(index * width, between, dash, gap, phase) for index in range(1, count)),
        *(Line(far - inner - index * width, between, dash, gap, phase) for index in range(1, count)),
        *(Line(v, edge) for v in (0.0, right, far - inner, left)),
    ]
    if stage.chance(0.3):
        marks.append(Arrow(stage.between(8, 25), lanes[-1][0], 6.0, int(stage.rng.integers(0, 2))))
    if stage.chance(0.2):
        marks.append(Hatching(stage.between(5, 15), stage.between(40, 80), right + hard, right))
    return _road(stage, (1 / 500, 0.3), borders, zones, lanes, own, marks, (-inner, right + hard), patched=0.3)


def _lanes(width: float, oncoming: int, own: int) -> Lanes:
    """Lanes around v = 0, where the two directions meet."""
    return tuple(((index + 0.5) * width, 1 if index >= 0 else -1) for index in range(-oncoming, own))


def _dividers(stage: Stage, lanes: Lanes, width: float, dash: float, gap: float) -> list[Mark]:
    """Lines between neighbouring lanes: solid or dashed where directions meet, dashed elsewhere."""
    marks: list[Mark] = []
    phase = stage.between(0, dash + gap)
    for (v, direction), (_, beyond) in pairwise(lanes):
        paint_width = stage.between(0.12, 0.18)
        if direction != beyond and stage.chance(0.5):
            offsets = (-0.12, 0.12) if stage.chance(0.3) else (0.0,)
            marks += [Line(v + width / 2 + offset, paint_width) for offset in offsets]
        else:
            marks.append(Line(v + width / 2, paint_width, dash, gap, phase))
    return marks


def _asphalt(stage: Stage) -> Zone:
    return Zone(stage.slot("asphalt", ROAD, "gravel" if stage.chance(0.5) else "soil"), "asphalt")


def _grass(stage: Stage, conditions: Conditions) -> int:
    """Slot of grass by season: mixed with dead blades, in fall with leaves; in summer it may have dried up."""
    if conditions.season == "summer" and stage.chance(0.4):
        return stage.slot("dry_grass", VEGETATION, "grass")
    return stage.slot("grass", VEGETATION, "litter" if conditions.season == "fall" else "dry_grass")


def _road(
    stage: Stage,
    bend: tuple[float, float],
    borders: list[float],
    zones: list[Zone],
    lanes: Lanes,
    own: int,
    marks: list[Mark],
    sealed: tuple[float, float],
    patched: float,
) -> Road:
    """Add what every road has: a course, and repairs (with probability `patched` each) and manhole covers.

    `bend` is the curvature of the sharpest bend, 1/m, and the share of roads that are straight; there are repairs
    between the two v of `sealed`.
    """
    curvature = 0.0 if stage.chance(bend[1]) else stage.between(-bend[0], bend[0])
    slope = stage.between(-0.02, 0.02)
    # The camera is at x = 0 in its lane, nearly along the road.
    beside = lanes[own][0] + stage.between(-0.3, 0.3)
    curve = Curve(-beside * float(np.sqrt(1 + slope**2)), slope, curvature, straight_from=stage.between(60, 140))
    patches = [_patch(stage, sealed) for _ in range(4) if stage.chance(patched)]
    lids = [(stage.between(4, 40), stage.between(*sealed)) for _ in range(4) if stage.chance(patched / 2)]
    return Road(
        curve=curve,
        edges=np.array(borders, dtype=np.float32),
        zones=tuple(zones),
        sides=(borders[0], borders[-1]),
        depths=(1.0, 1.0),
        lanes=lanes,
        own=own,
        marks=tuple(marks),
        paint=stage.slot("street_paint", MARKS, "asphalt"),
        patches=np.array(patches, dtype=np.float32).reshape(-1, 4),
        patch=stage.slot("asphalt_patch", ROAD, "asphalt"),
        lids=np.array(lids, dtype=np.float32).reshape(-1, 2),
        lid=stage.slot("bare_metal", METAL, "soil"),
        kerb=stage.slot("concrete", STONE, "soil"),
        puddle=stage.slot("water", WATER),
    )


def _patch(stage: Stage, sealed: tuple[float, float]) -> tuple[float, float, float, float]:
    """A trench along the road, or a mended stretch across it."""
    u, v = stage.between(3, 45), stage.between(*sealed)
    if stage.chance(0.5):
        return u, u + stage.between(6, 40), v, v + stage.between(0.5, 1.2)
    return u, u + stage.between(1, 6), v, v + stage.between(1.5, 5.0)
