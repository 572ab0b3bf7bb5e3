"""Every reader of files that others may have written, with small sound files of it."""

import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import yaml
from fuzz import Subject, text
from PIL import Image
from scipy.io import savemat
from tiny_hsi_drive import NAMES, TILES, codes_of, mat73, npy_bands_last, values_of, write_matlab_release

from hsiutils.data.classes import HSI_DRIVE_CLASSES, read_classes
from hsiutils.data.files import cube_tiles, mat_variables, read_arrays, read_cube, read_labels
from hsiutils.data.hsicity import HSICity
from hsiutils.data.hsidrive import HSIDrive, is_sealed, read_settings
from hsiutils.data.hyko2 import HyKo2
from hsiutils.data.inputs import FittedVariant
from hsiutils.data.inputs import variant as parse_variant
from hsiutils.data.layouts import LAYOUTS, DatasetError
from hsiutils.data.raw import read_frame
from hsiutils.data.rgb_folder import RGBFolder
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.models.examples import squeeze
from hsiutils.models.files import load_model, load_trained, read_history, read_json, save
from hsiutils.models.keras import read_keras_config, write_keras
from hsiutils.models.strangers import open_image, open_network
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.paper.results import read_manifest

MATLAB, PYTHON = (next(one for one in LAYOUTS if one.name == name) for name in ("v2.0 MATLAB", "v2.0 Python"))
SCENE = NAMES[0]
VALUES, CODES = values_of(SCENE), codes_of(SCENE)
CHIP = HSI_DRIVE.resized(TILES)
SMALL = UNetConfig(channels=3, classes=6, depth=1, filters=2)
_MAIN = (SCENE, NAMES[2])


def _written(write: Callable[[Path], object], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def _saved(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _cube(path: Path) -> None:
    layout = PYTHON if path.suffix == ".npy" else MATLAB
    cube_tiles(path, layout, 25)
    read_cube(path, layout, 25, TILES)


def _hyko2(path: Path) -> None:
    mat_variables(path)
    data = HyKo2.open(path.parent)
    for name in data.names():
        data.cube(name)
        data.labels(name)


def _every_scene(open_set: Callable[[Path], Any], root: Path, path: Path) -> None:
    data = open_set(path.parents[len(root.parts)])
    for name in data.names():
        data.cube(name)
        data.labels(name)
        data.truth(name)


def _sealed(path: Path) -> bool:
    return is_sealed(path.parents[1], SCENE)


def mat5(**variables: Any) -> list[bytes]:
    """A level-5 file, plain and packed."""
    others = {"note": "text", "cell": np.array([1, "a"], dtype=object)}
    sets = ({**variables}, {**others, **variables})
    return [
        _saved(lambda out, one=one, packed=packed: savemat(out, one, do_compression=packed))
        for one in sets
        for packed in (False, True)
    ]


def pictures(codes: Any) -> list[bytes]:
    """Label images: grey, with a palette, in colours."""
    palette = np.arange(256, dtype=np.uint8)
    indexed = Image.fromarray(codes, mode="P")
    indexed.putpalette(np.repeat(palette, 3).tolist())
    grey = Image.fromarray(codes)
    return [_saved(partial(one.save, format="PNG")) for one in (grey, indexed, grey.convert("RGB"), grey.convert("LA"))]


def truth() -> list[bytes]:
    """The simulator's truth of a scene."""

    def write(path: Path, packed: str | None) -> None:
        with h5py.File(path, "w", libver="latest" if packed else None) as file:
            for key in ("sunlit", "depth_m"):
                file.create_dataset(key, data=np.ones(TILES, np.float32), compression=packed, track_times=False)

    return [_written(partial(write, packed=packed), "a.h5") for packed in (None, "gzip")]


def described() -> dict[str, Any]:
    """Keras' description of a chain of layers."""
    from hsiutils.models.examples import write_chain

    with tempfile.TemporaryDirectory() as folder:
        write_chain(path := Path(folder) / "a.h5", size=(8, 16))
        with h5py.File(path) as file:
            return dict(json.loads(file.attrs["model_config"]))


def chain(tree: Any) -> bytes:
    """A Keras file of a chain of layers with this description."""
    from hsiutils.models.examples import write_chain

    def write(path: Path) -> None:
        write_chain(path, size=(8, 16))
        with h5py.File(path, "a") as file:
            file.attrs["model_config"] = json.dumps(tree)

    return _written(write, "a.h5")


def network(metadata: Any) -> bytes:
    """A safetensors file with this configuration in its header."""
    from safetensors.torch import save as tensors

    return tensors(UNet(SMALL).state_dict(), {"unet": json.dumps(metadata)})


def safetensors_header(tree: Any) -> bytes:
    """A safetensors file with this header before the same values."""
    whole = network(_config())
    (size,) = struct.unpack("<Q", whole[:8])
    header = text(tree)
    return struct.pack("<Q", len(header)) + header + whole[8 + size :]


def _config() -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(SMALL)


def _header_of(content: bytes) -> Any:
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size])


def keras_archive() -> bytes:
    """A .keras archive of the authors' network with the least description."""
    weights = _written(partial(write_keras, UNet(SMALL)), "model.weights.h5")

    def write(out: io.BytesIO) -> None:
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("model.weights.h5", weights)
            archive.writestr("config.json", json.dumps({"config": {"layers": []}}))

    return _saved(write)


def program() -> bytes:
    """A program of torch.export of a small network."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(squeeze().eval(), (torch.rand(1, 3, 16, 16),))
        return _saved(partial(torch.export.save, exported))


CLASSES_YAML = b"""- {code: 0, name: Sky, rgb: [128, 128, 128]}
- {code: 17, name: Road, rgb: [128, 64, 128]}
- {code: 18, name: Road Marks, rgb: [128, 0, 192], class: Road}
- {code: 30, name: Void, rgb: [0, 0, 0], void: true}
"""


def as_yaml(tree: Any) -> bytes:
    """A tree as YAML."""
    return yaml.safe_dump(tree).encode()


def simulated(folder: Path) -> None:
    """Two simulated scenes, but for their pictures: files of the tiny data set under the simulator's mark."""
    write_matlab_release(folder, _MAIN)
    (folder / "simulation.json").write_bytes(text(MARK))
    for name in _MAIN:
        (folder / "truth").mkdir(exist_ok=True)
        (folder / f"truth/{name}.h5").write_bytes(truth()[0])


def fitted() -> dict[str, Any]:
    """Inputs of a network as a training writes them down."""
    bands = len(HSI_DRIVE.bands)
    made = FittedVariant(parse_variant("25-PN"), (500.0,) * bands, (0.0,) * bands, (1.0,) * bands, 99.0)
    return dict(json.loads(json.dumps(made.to_dict())))


MARK = {
    "generator": "hsiutils.simulate",
    "sensor": {"name": HSI_DRIVE.name, "tiles": list(TILES)},
    "materials": ["asphalt", "leaf"],
    "references": {"white.bin": "0", "dark.bin": "0"},
    "frames": {SCENE: {"split": "test", "exposure_s": 1.0}},
}
RECORD = {
    "name": SCENE,
    "split": "test",
    "exposure_s": 1.0,
    "settings": "0",
    "sha256": {f"Image_dataset/labels/{SCENE}.png": "0", f"truth/{SCENE}.h5": "1"},
}


READERS = [
    "mat 5",
    "mat 7.3",
    "npy",
    "bin",
    "labels png",
    "truth h5",
    "history csv",
    "trained",
    "training json",
    "results json",
    "keras h5",
    "keras size",
    "keras archive",
    "keras chain",
    "safetensors",
    "safetensors config",
    "program",
    "image npy",
    "image",
    "classes yaml",
    "hyko2",
    "hsicity",
    "rgb image",
    "rgb classes",
    "simulated set",
    "settings",
    "record",
]
"""Names of `subjects`, which takes seconds to make."""


@cache
def subjects() -> dict[str, Subject]:
    """Every reader by a short name."""
    from other_kinds import HSICITY, hsd, hsd_parts, hsicity_set, rgb_set, write_hyko2
    from other_kinds import SIZE as OTHER_SIZE

    yaml_tree = yaml.safe_load(CLASSES_YAML)
    frame = np.arange(np.prod(CHIP.frame_shape), dtype="<u2").tobytes()
    damaged, wrong = (DatasetError,), (ValueError, FileNotFoundError)
    hsd_name = next(iter(HSICITY))
    body = np.concatenate([part.ravel() for part in hsd_parts(hsd_name)])
    weights = {name: _written(partial(write_keras, UNet(SMALL)), name) for name in ("model.h5", "model.weights.h5")}
    tensors = network(_config())
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*OTHER_SIZE, 3), dtype=np.uint8))
    formats = [_saved(partial(rgb.save, format=one)) for one in ("PNG", "JPEG", "BMP", "TIFF")]
    keras = keras_archive()
    files = _every_scene
    return {
        "mat 5": Subject("a.mat", mat5(cube=VALUES), _cube, damaged),
        "mat 7.3": Subject("a.mat", [_written(lambda p: mat73(p, VALUES), "a.mat")], _cube, damaged),
        "npy": Subject("a.npy", [_written(lambda p: npy_bands_last(p, VALUES), "a.npy")], _cube, damaged),
        "bin": Subject(
            "a.bin",
            [frame],
            lambda p: read_frame(p, CHIP),
            damaged,
        ),
        "labels png": Subject("a.png", pictures(CODES), lambda p: read_labels(p, TILES, HSI_DRIVE_CLASSES), damaged),
        "truth h5": Subject("a.h5", truth(), lambda p: read_arrays(p, TILES), damaged),
        "history csv": Subject(
            "history.csv", [b"epoch,loss\n1,0.5\n2,0.25\n"], lambda p: read_history(p.parent), wrong
        ),
        "trained": Subject(
            "training.json",
            [text({"finished": True, "variant": None})],
            lambda p: load_trained(p.parent),
            wrong,
            {"finished": True, "variant": fitted(), "epochs": 3},
            text,
            lambda folder: [
                save(UNet(SMALL), folder / "weights.safetensors"),
                (folder / "history.csv").write_text("epoch,loss\n1,0.5\n"),
            ],
        ),
        "training json": Subject("training.json", [text(RECORD)], read_json, wrong, RECORD, text),
        "results json": Subject(
            "a.json",
            [text({**RECORD, "sha256": "0"})],
            lambda p: read_manifest(p.with_suffix(".nc")),
            (ValueError, OSError),
            RECORD,
            text,
            lambda folder: (folder / "a.nc").write_bytes(b"x"),
        ),
        "keras h5": Subject("a.h5", [*weights.values(), chain(described())], open_network, wrong),
        "keras size": Subject("a.h5", list(weights.values()), read_keras_config, wrong),
        "keras archive": Subject("a.keras", [keras], open_network, wrong),
        "keras chain": Subject("a.h5", [chain(described())], open_network, wrong, described(), chain),
        "safetensors": Subject("a.safetensors", [tensors], load_model, wrong, _header_of(tensors), safetensors_header),
        "safetensors config": Subject("a.safetensors", [tensors], load_model, wrong, _config(), network),
        "program": Subject("a.pt2", [program()], open_network, wrong),
        "image npy": Subject("a.npy", [_written(lambda p: np.save(p, VALUES), "a.npy")], open_image, wrong),
        "image": Subject("a.png", formats, open_image, wrong),
        "classes yaml": Subject("classes.yaml", [CLASSES_YAML], read_classes, wrong, yaml_tree, as_yaml),
        "hyko2": Subject("a.mat", [_written(lambda p: write_hyko2(p.parent, p.stem), "scene00.mat")], _hyko2, damaged),
        "hsicity": Subject(
            f"train/{hsd_name}.hsd",
            [hsd(*OTHER_SIZE, 6, 2, body)],
            partial(files, HSICity.open, Path("train")),
            damaged,
            None,
            None,
            hsicity_set,
        ),
        "rgb image": Subject(
            "train/a.png", formats, partial(files, RGBFolder.open, Path("train")), damaged, None, None, rgb_set
        ),
        "rgb classes": Subject(
            "classes.yaml",
            [CLASSES_YAML],
            partial(files, RGBFolder.open, Path()),
            wrong,
            yaml_tree,
            as_yaml,
            rgb_set,
        ),
        "simulated set": Subject(
            "simulation.json", [text(MARK)], partial(files, HSIDrive.open, Path()), wrong, MARK, text, simulated
        ),
        "settings": Subject("simulation.json", [text(MARK)], lambda p: read_settings(p.parent), wrong, MARK, text),
        "record": Subject(
            f"scenes/{SCENE}.json",
            [text(RECORD)],
            _sealed,
            (),
            RECORD,
            text,
            simulated,
        ),
    }
