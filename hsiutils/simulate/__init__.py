"""A simulated HSI-Drive: measured materials, modelled sun and sky, road scenes, and the mosaic camera.

`write_dataset` writes a data set in the real layout; `render` makes one frame in memory.
"""

from importlib.util import find_spec

if find_spec("pvlib") is None or find_spec("earthlib") is None:
    raise ModuleNotFoundError("simulated scenes need pvlib and earthlib: pip install 'hsiutils[simulate]'")

from hsiutils.data.hsidrive import read_settings
from hsiutils.data.names import Conditions, split_of
from hsiutils.simulate.draws import draw_names
from hsiutils.simulate.files import is_complete, read_truth, write_dataset, write_scene
from hsiutils.simulate.frame import Frame, Simulation, references, render
from hsiutils.simulate.light import Circumstances, Illumination, draw_circumstances, illuminate
from hsiutils.simulate.materials import families, reflectance, samples
from hsiutils.simulate.surfaces import Slot, Surfaces

__all__ = [
    "Circumstances",
    "Conditions",
    "Frame",
    "Illumination",
    "Simulation",
    "Slot",
    "Surfaces",
    "draw_circumstances",
    "draw_names",
    "families",
    "illuminate",
    "is_complete",
    "read_settings",
    "read_truth",
    "references",
    "reflectance",
    "render",
    "samples",
    "split_of",
    "write_dataset",
    "write_scene",
]
