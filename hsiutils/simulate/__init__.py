"""A simulated HSI-Drive: measured materials, modelled sun and sky, road scenes, and the mosaic camera.

`simulate_dataset` writes scenes in the layout of the real data set and opens them; `write_dataset` does so with
settings of your own (`Simulation`), and `render` makes one frame in memory.
"""

from importlib.util import find_spec

if find_spec("pvlib") is None or find_spec("earthlib") is None:
    raise ModuleNotFoundError("simulated scenes need pvlib and earthlib: pip install 'hsiutils[simulate]'")

from hsiutils.simulate.draws import draw_names
from hsiutils.simulate.files import is_complete, simulate_dataset, write_dataset
from hsiutils.simulate.frame import Frame, Simulation, references, render
from hsiutils.simulate.materials import families, reflectance, samples

__all__ = [
    "Frame",
    "Simulation",
    "draw_names",
    "families",
    "is_complete",
    "references",
    "reflectance",
    "render",
    "samples",
    "simulate_dataset",
    "write_dataset",
]
