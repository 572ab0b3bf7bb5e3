"""A small data set in the released layout, for a page that shows what to do with the real one."""

import shutil
from pathlib import Path

from hsiutils.dataset import open_hsi_drive
from hsiutils.simulate import Simulation, draw_names, write_dataset
from hsiutils.writers import write_matlab_release

FOLDER = "HSI-Drive"


def write_demonstration(place: Path, scenes: int = 6, tiles: tuple[int, int] = (54, 102)) -> Path:
    """Write simulated scenes as the MATLAB release has them, and the camera's references beside them.

        HSI-Drive/Image_dataset/{cubes_fl32,labels,raw}, white.bin, dark.bin

    The same bytes on every call: the scenes do not depend on a run's profile or seed.

    Parameters
    ----------
    place : folder to write into.
    scenes : number; train, val and test are all there from three on.
    tiles : (rows, columns) of the cubes.

    Returns
    -------
    The folder HSI-Drive.
    """
    made = place / ".made"
    write_dataset(made, draw_names(scenes), Simulation(tiles=tiles), workers=1, progress=False)
    write_matlab_release(open_hsi_drive(made), place / FOLDER)
    for name in ("white.bin", "dark.bin"):
        (made / "references" / name).replace(place / name)
    shutil.rmtree(made)
    return place / FOLDER


def cut_short(path: Path, kept: int) -> None:
    """Keep only the first bytes of a file, as an interrupted download does."""
    path.write_bytes(path.read_bytes()[:kept])
