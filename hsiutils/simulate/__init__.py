"""A simulated HSI-Drive: measured materials, modelled sun and sky, road scenes, and the mosaic camera.

`write_dataset` writes a data set in the real layout; `render` makes one frame in memory.
"""

from hsiutils.simulate.conditions import Conditions
from hsiutils.simulate.files import is_complete, read_settings, read_truth, write_dataset, write_scene
from hsiutils.simulate.frame import Frame, Simulation, references, render
from hsiutils.simulate.illumination import Circumstances, Illumination, draw_circumstances, illuminate
from hsiutils.simulate.materials import families, reflectance, samples
from hsiutils.simulate.names import draw_names, split_of
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
