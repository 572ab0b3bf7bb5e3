"""Cityscapes: RGB driving scenes of fifty cities, and the labels that other data sets took over from it.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding" (CVPR 2016); label ids, train ids
and colours from the authors' scripts (github.com/mcordts/cityscapesScripts, helpers/labels.py). Their label images hold
the ids 0..33; a licence plate has none. Those of the test images are withheld: what is there in their place is void.
"""

from dataclasses import replace
from pathlib import Path

from hsiutils.data.classes import VOID, Classes, Label
from hsiutils.data.layouts import entries, inside
from hsiutils.data.rgb_folder import RGBImages
from hsiutils.data.splits import SPLITS

_TRAINED = (
    Label(7, "Road", (128, 64, 128)),
    Label(8, "Sidewalk", (244, 35, 232)),
    Label(11, "Building", (70, 70, 70)),
    Label(12, "Wall", (102, 102, 156)),
    Label(13, "Fence", (190, 153, 153)),
    Label(17, "Pole", (153, 153, 153)),
    Label(19, "Traffic Light", (250, 170, 30)),
    Label(20, "Traffic Sign", (220, 220, 0)),
    Label(21, "Vegetation", (107, 142, 35)),
    Label(22, "Terrain", (152, 251, 152)),
    Label(23, "Sky", (70, 130, 180)),
    Label(24, "Person", (220, 20, 60)),
    Label(25, "Rider", (255, 0, 0)),
    Label(26, "Car", (0, 0, 142)),
    Label(27, "Truck", (0, 0, 70)),
    Label(28, "Bus", (0, 60, 100)),
    Label(31, "Train", (0, 80, 100)),
    Label(32, "Motorcycle", (0, 0, 230)),
    Label(33, "Bicycle", (119, 11, 32)),
)
"""In the order of the train ids, 0..18."""
_IGNORED = (
    Label(0, "Unlabelled", (0, 0, 0)),
    Label(1, "Ego Vehicle", (0, 0, 0)),
    Label(2, "Rectification Border", (0, 0, 0)),
    Label(3, "Out of Region of Interest", (0, 0, 0)),
    Label(4, "Static", (0, 0, 0)),
    Label(5, "Dynamic", (111, 74, 0)),
    Label(6, "Ground", (81, 0, 81)),
    Label(9, "Parking", (250, 170, 160)),
    Label(10, "Rail Track", (230, 150, 140)),
    Label(14, "Guard Rail", (180, 165, 180)),
    Label(15, "Bridge", (150, 100, 100)),
    Label(16, "Tunnel", (150, 120, 90)),
    Label(18, "Pole Group", (153, 153, 153)),
    Label(29, "Caravan", (0, 0, 90)),
    Label(30, "Trailer", (0, 0, 110)),
)
_NAMES, _INDEX = tuple(label.name for label in _TRAINED), {label.code: i for i, label in enumerate(_TRAINED)}
_LABELS = tuple(sorted(_TRAINED + _IGNORED, key=lambda label: label.code))
CITYSCAPES_CLASSES = Classes(_NAMES, _LABELS, tuple(_INDEX.get(label.code, VOID) for label in _LABELS))
"""The nineteen classes that are scored, by label id; every other id is void."""
TRAIN_ID_CLASSES = Classes(
    _NAMES,
    (*(replace(label, code=_INDEX[label.code]) for label in _TRAINED), Label(VOID, "Void", (0, 0, 0))),
    (*range(len(_NAMES)), VOID),
)
"""The same classes by train id, 0..18 and 255 for void."""
_IMAGE, _CODES = "_leftImg8bit.png", "_gtFine_labelIds.png"


class Cityscapes(RGBImages):
    """Cityscapes on disk, its finely labelled part."""

    expected = f"leftImg8bit/{{train,val,test}}/CITY/NAME{_IMAGE} with gtFine/{{train,val,test}}/CITY/NAME{_CODES}"

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """See `Source.recognises`."""
        return any(_by_name(inside(root, f"leftImg8bit/{split}"), _IMAGE) for split in SPLITS)

    @classmethod
    def open(cls, root: Path) -> "Cityscapes":
        """Open the folder that holds leftImg8bit and gtFine; the splits are its own.

        Raises
        ------
        DatasetError
            If a name is there twice, or no image has a label image.
        """
        parts = {
            split: (
                _by_name(inside(root, f"leftImg8bit/{split}"), _IMAGE),
                _by_name(inside(root, f"gtFine/{split}"), _CODES),
            )
            for split in SPLITS
        }
        return cls.paired(root, "Cityscapes", parts, CITYSCAPES_CLASSES)


def _by_name(folder: Path, ending: str) -> dict[str, Path]:
    """Files of every city by what precedes the ending."""
    return {
        path.name.removesuffix(ending): path
        for city in entries(folder)
        for path in entries(city)
        if path.name.endswith(ending)
    }
