"""A simulated data set on disk, in the layout of HSI-Drive v2.0's MATLAB release.

    Image_dataset/raw/nfSWDS_NNN.bin               raw frame, uint16 little-endian, row after row
    Image_dataset/cubes_fl32/nfSWDS_NNN_TC.mat     `cube`, float32, 25 x rows x columns
    Image_dataset/labels/nfSWDS_NNN.png            label codes 0..10
    references/white.bin, dark.bin                 the camera's reference frames
    truth/nfSWDS_NNN.h5                            for analysis only: what `frame.Frame.truth` says
    scenes/nfSWDS_NNN.json                         exposure, circumstances, SHA-256 of the scene's files
    simulation.json                                settings, splits, exposures; marks the whole as simulated

A camera without noise, or whose bands are not displaced, is none that there is: it gives cubes, and no raw frames.

Same settings, same bytes, whatever the order and number of processes. A scene counts as complete when its record in
scenes/ names the hashes that its files have; the record is written last.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from hsiutils.data import raw
from hsiutils.data.atomic import write_atomically
from hsiutils.data.cluster import scene_by_scene
from hsiutils.data.hsidrive import GENERATOR, file_sha256, is_sealed, read_record, read_settings, record_path
from hsiutils.data.names import split_of
from hsiutils.data.source import Source, open_dataset
from hsiutils.simulate.draws import draw_names
from hsiutils.simulate.frame import VERSION, Frame, Simulation, references, render
from hsiutils.simulate.materials import NAMES

_YOUNGER = {"chip": None, "noise": True, "displaced": True}
"""Fields that older data sets of the same bytes do not name, and what they have there: it is left unsaid."""


def simulate_dataset(
    folder: Path | str,
    scenes: int = 20,
    seed: int = 0,
    tiles: tuple[int, int] = (96, 192),
    workers: int = 2,
    progress: bool = True,
    **settings: Any,
) -> Source:
    """Simulate HSI-Drive: write some of its scenes into a folder and open them.

    Scenes that are there and intact are kept; the first scenes of a larger set are the smaller set.

    Parameters
    ----------
    folder : of the data set; made if it is not there.
    scenes : how many, 1..752, drawn in the real frequencies of split, season, weather, daytime and kind of road.
    seed : of every random choice.
    tiles : (rows, columns) of the cubes, (216, 409) on the real chip.
    workers, progress : see `write_dataset`.
    settings : of `Simulation`, such as `blur_px`, `light_spread` or `exposure_jitter`.

    Examples
    --------
    >>> import tempfile
    >>> import hsiutils as hu
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     data = hu.simulate_dataset(folder, scenes=2, tiles=(8, 16), workers=1, progress=False)
    ...     data.origin, len(data.names()), data.cube(data.names()[0]).shape
    ('simulated', 2, (25, 8, 16))
    """
    write_dataset(Path(folder), draw_names(scenes, seed), Simulation(seed, tiles, **settings), workers, progress)
    return open_dataset(folder)


def write_dataset(
    root: Path, names: Sequence[str], simulation: Simulation, workers: int = 2, progress: bool = True
) -> None:
    """Write every named scene; scenes that are there and intact are kept, so an interrupted run continues.

    Parameters
    ----------
    root : folder of the data set; made if it is not there.
    workers : processes of this machine, unless a cluster is to be taken (`hsiutils.data.cluster`).
    progress : show a bar with the time left.

    Raises
    ------
    ValueError
        If a name is unknown or comes twice, or the folder holds a data set with other settings.
    RuntimeError
        If several workers write, and some scenes fail, naming them; the others are complete.
    """
    if len(set(names)) != len(names):
        raise ValueError(f"names come twice: {sorted({name for name in names if list(names).count(name) > 1})}")
    for name in names:
        split_of(name)  # refuses what is none
    _begin(root, simulation)
    missing = [name for name in names if not is_complete(root, name, simulation)]
    scene_by_scene(partial(write_scene, root.absolute(), simulation=simulation), missing, workers, progress)
    records = [read_record(path) for path in sorted((root / "scenes").glob("nf*.json"))]
    frames = {one["name"]: {"split": one["split"], "exposure_s": one["exposure_s"]} for one in records if one}
    write_atomically(root / "simulation.json", _json({**read_settings(root), "frames": frames}))


def write_scene(root: Path, name: str, simulation: Simulation) -> None:
    """Simulate one image and write all its files, each at once or not at all."""
    _begin(root, simulation)
    frame = render(name, simulation)
    white, dark = (raw.read_frame(path, simulation.sensor) for path in _reference_paths(root))
    absolute = simulation.compensate_exposure
    ratio = float(read_settings(root)["white"]["exposure_s"]) / frame.exposure.time_s if absolute else 1.0
    centre = simulation.displaced
    cube = raw.reflectance_cube(frame.exposure.frame, simulation.sensor, white, dark, ratio, centre, source="simulated")
    contents = _encode(frame, np.asarray(cube.values, np.float32))
    if not (simulation.noise and simulation.displaced):
        del contents[_raw_place(name)]
    for relative, content in contents.items():
        write_atomically(root / relative, content)
    seal = {
        "settings": _digest(_settings(simulation)),
        "sha256": {relative: hashlib.sha256(content).hexdigest() for relative, content in contents.items()},
    }
    write_atomically(record_path(root, name), _json({**frame.describe(), **seal}))


def _encode(frame: Frame, cube: NDArray[np.float32]) -> dict[str, bytes]:
    """The scene's files by their place in the data set: raw frame, cube, labels and truth."""
    mat, png, hdf5 = io.BytesIO(), io.BytesIO(), io.BytesIO()
    savemat(mat, {"cube": cube}, do_compression=False)
    Image.fromarray(frame.labels).save(png, format="PNG")
    with h5py.File(hdf5, "w", libver="latest") as file:
        for key, values in frame.truth.items():
            made = file.create_dataset(key, data=values, compression="gzip", track_times=False)
            made.id.close()  # now, and not when nobody knows it any more: values lie in the order of closing
    # The first 116 bytes of a MATLAB file are free text, in which scipy writes the date.
    header = b"MATLAB 5.0 MAT-file, simulated by hsiutils".ljust(116)
    return {
        _raw_place(frame.name): frame.exposure.frame.astype("<u2").tobytes(),
        f"Image_dataset/cubes_fl32/{frame.name}_TC.mat": header + mat.getvalue()[116:],
        f"Image_dataset/labels/{frame.name}.png": png.getvalue(),
        f"truth/{frame.name}.h5": hdf5.getvalue(),
    }


def _raw_place(name: str) -> str:
    return f"Image_dataset/raw/{name}.bin"


def is_complete(root: Path, name: str, simulation: Simulation | None = None) -> bool:
    """Whether the scene's record is there, of these settings if given, and every file has the hash it names."""
    return is_sealed(root, name, _digest(_settings(simulation)) if simulation else None)


def _begin(root: Path, simulation: Simulation) -> None:
    """Settings and references of the data set: checked if they are there, else, or if damaged, written."""
    path, found, settings = root / "simulation.json", {}, _settings(simulation)
    if path.exists():
        found, wanted = read_settings(root), json.loads(_json(settings))
        if differing := [key for key in wanted if found.get(key) != wanted[key]]:
            difference = "; ".join(f"{key}: {found.get(key)!r}, not {wanted[key]!r}" for key in differing)
            raise ValueError(f"{root}: holds a simulation with other settings ({difference}); choose another folder")
    if found.get("references") == {one.name: file_sha256(one) for one in _reference_paths(root)}:
        return
    exposures = {}
    for key, one, place in zip(("white", "dark"), references(simulation), _reference_paths(root), strict=True):
        write_atomically(place, one.frame.astype("<u2").tobytes())
        exposures[key] = {"exposure_s": one.time_s, "saturated": one.saturated}
    hashes = {one.name: file_sha256(one) for one in _reference_paths(root)}
    write_atomically(path, _json({**found, **settings, **exposures, "references": hashes}))


def _settings(simulation: Simulation) -> dict[str, Any]:
    sensor, own = simulation.sensor, asdict(simulation)
    for key, usual in _YOUNGER.items():
        if own[key] == usual:
            del own[key]
    return {
        "generator": GENERATOR,
        "version": VERSION,
        "simulated": True,
        "simulation": own,
        "sensor": {"name": sensor.name, "tiles": sensor.tiles, "frame_shape": sensor.frame_shape},
        "materials": NAMES,
    }


def _reference_paths(root: Path) -> tuple[Path, Path]:
    return root / "references" / "white.bin", root / "references" / "dark.bin"


def _digest(value: Any) -> str:
    return hashlib.sha256(_json(value)).hexdigest()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
