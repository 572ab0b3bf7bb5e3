"""A contact sheet of a data set: every scene in pseudocolour beside its labels, on one PNG."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from hsiutils.data.atomic import write_atomically
from hsiutils.data.classes import Classes
from hsiutils.data.cube import pseudocolour
from hsiutils.data.layouts import DatasetError
from hsiutils.data.source import Source

_GAP, _CAPTION = 8, 18
"""Pixels between pictures, and for a line of text under each."""
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


def contact_sheet(
    data: Source,
    path: Path | str,
    names: Sequence[str] | None = None,
    *,
    columns: int = 4,
    width: int = 204,
    progress: bool = False,
) -> Path:
    """Write a sheet of scenes: pseudocolour, labels in the official palette, name and split; the palette below.

    A scene that cannot be read takes its place with the words "cannot be read"; see `hsiutils.data.check`. The PNG file
    is written at once or not at all. All scenes are shown by default, so many in a row (`columns`); `width` is that of
    one picture, in pixels.
    """
    path, names = Path(path), data.names() if names is None else list(names)
    if not names or columns < 1 or width < 1:
        raise ValueError(f"need scenes, columns and width, got {len(names)} scenes, {columns=}, {width=}")
    rows, across = data.sensor.tiles
    size = (width, max(1, round(width * rows / across)))
    cells = [_cell(data, name, size) for name in tqdm(names, unit="scene", disable=not progress)]
    info = PngInfo()
    info.add_text("Description", f"{data.origin} scenes of {data.layout}")
    buffer = io.BytesIO()
    _sheet(cells, min(columns, len(cells)), data.classes).save(buffer, format="PNG", optimize=True, pnginfo=info)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())
    return path


def _cell(data: Source, name: str, size: tuple[int, int]) -> Image.Image:
    """Both pictures of a scene side by side, with a caption."""
    width, height = size
    cell = Image.new("RGB", (2 * width, height + _CAPTION), _PAPER)
    caption = f"{name}  {data.table.at[name, 'split']}"
    try:
        colour, codes = pseudocolour(data.cube(name)).values, data.labels(name)
    except DatasetError:
        caption += "  cannot be read"
    else:
        palette = np.zeros((256, 3), dtype=np.uint8)
        palette[[label.code for label in data.classes.labels]] = [label.rgb for label in data.classes.labels]
        picture = Image.fromarray(np.rint(255 * colour).astype(np.uint8))
        cell.paste(picture.resize(size, Image.Resampling.BILINEAR), (0, 0))
        # Colours of a palette must not be mixed: between two classes lies no third.
        cell.paste(Image.fromarray(palette[codes]).resize(size, Image.Resampling.NEAREST), (width, 0))
    ImageDraw.Draw(cell).text((2, height + 2), caption, fill=_INK, font=ImageFont.load_default(12))
    return cell


def _sheet(cells: list[Image.Image], columns: int, classes: Classes) -> Image.Image:
    width, height = cells[0].size
    rows = -(-len(cells) // columns)
    legend = _legend(classes, columns * (width + _GAP) - _GAP)
    whole = (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + legend.height + 2 * _GAP)
    sheet = Image.new("RGB", whole, _PAPER)
    for number, cell in enumerate(cells):
        sheet.paste(cell, (_GAP + number % columns * (width + _GAP), _GAP + number // columns * (height + _GAP)))
    sheet.paste(legend, (_GAP, whole[1] - legend.height - _GAP))
    return sheet


def _legend(classes: Classes, width: int) -> Image.Image:
    """The palette with its names, in as many lines as they need."""
    font, line, x, y = ImageFont.load_default(12), _CAPTION + 2, 0, 0
    places = []
    for label in classes.labels:
        needed = _CAPTION + int(font.getlength(label.name)) + 2 * _GAP
        if x and x + needed > width:
            x, y = 0, y + line
        places.append((x, y))
        x += needed
    legend = Image.new("RGB", (width, y + line), _PAPER)
    draw = ImageDraw.Draw(legend)
    for label, (left, top) in zip(classes.labels, places, strict=True):
        draw.rectangle((left, top + 3, left + 12, top + 15), fill=label.rgb, outline=_INK)
        draw.text((left + _CAPTION, top + 2), label.name, fill=_INK, font=font)
    return legend
