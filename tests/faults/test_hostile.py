"""Files and names made to do harm: nothing is run, followed out of its folder, waited for, or shown as markup."""

import io
import json
import os
import struct
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import h5py
import holoviews as hv
import numpy as np
import pandas as pd
import pytest
from fuzz import Subject, faults
from PIL import Image
from scipy.io import savemat
from tiny_hsi_drive import NAMES, TILES, mat73, values_of, write_matlab_release

from hsiutils.data import guard
from hsiutils.data.check import check_dataset
from hsiutils.data.classes import HSI_DRIVE_CLASSES, read_classes
from hsiutils.data.export import to_zarr
from hsiutils.data.files import read_arrays, read_cube, read_labels
from hsiutils.data.hsidrive import is_sealed, read_record, read_settings
from hsiutils.data.layouts import LAYOUTS, DatasetError
from hsiutils.data.source import fingerprint, open_dataset
from hsiutils.models.files import load_model, save
from hsiutils.models.keras import read_keras, write_keras
from hsiutils.models.unet import UNet, UNetConfig
from hsiutils.plots.base import pages, show, start
from hsiutils.plots.tables import cards, sortable, table

VALUES, LAYOUT, SMALL = values_of(NAMES[0]), LAYOUTS[0], UNetConfig(channels=3, classes=6, depth=1, filters=2)


def refused(path: Path, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_cube(path, LAYOUT, 25, TILES)


@pytest.mark.parametrize("kind", ["external", "soft"])
def test_links_inside_a_file_are_not_followed(tmp_path: Path, kind: str) -> None:
    mat73(secret := tmp_path / "secret.h5", VALUES)
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["cube"] = h5py.ExternalLink(str(secret), "cube") if kind == "external" else h5py.SoftLink("/other")
    refused(tmp_path / "a.mat", "a link to another place, which is not followed")
    with pytest.raises(DatasetError, match="a link to another place"):
        read_arrays(tmp_path / "a.mat", TILES)


def test_values_in_other_files_are_not_read(tmp_path: Path) -> None:
    (secret := tmp_path / "secret").write_bytes(bytes(VALUES.nbytes))
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("cube", VALUES.T.shape, "f4", external=[(str(secret), 0, VALUES.nbytes)])
    refused(tmp_path / "a.mat", "lie in other files")
    mat73(tmp_path / "source.h5", VALUES)
    virtual = h5py.VirtualLayout(VALUES.T.shape, "f4")
    virtual[:] = h5py.VirtualSource(str(tmp_path / "source.h5"), "cube", VALUES.T.shape)
    with h5py.File(tmp_path / "b.mat", "w", libver="latest") as file:
        file.create_virtual_dataset("cube", virtual)
    refused(tmp_path / "b.mat", "lie in other files")


def test_promised_and_not_there(tmp_path: Path) -> None:
    """Ten gigabytes by header: of the truth, of weights, of an archive that unpacks to them."""
    shape = (50_000, 50_000)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("sunlit", shape, "f4", chunks=(1000, 1000))
    with pytest.raises(DatasetError, match="promises 10000000000 bytes, and 0 are there"):
        read_arrays(tmp_path / "a.h5", shape)
    write_keras(UNet(SMALL), tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5", "a") as file:
        layers = file["model_weights"]
        del layers["conv2d_6/conv2d_6"]
        head = layers["conv2d_6"].create_group("conv2d_6")
        head.create_dataset("kernel:0", (1, 1, 2, 10**9), "f4", chunks=(1, 1, 1, 1000))
        head.create_dataset("bias:0", (10**9,), "f4", chunks=(1000,))
    with pytest.raises(ValueError, match=r"b\.h5: .*promises \d+ bytes, and 0 are there"):
        read_keras(tmp_path / "b.h5")
    with zipfile.ZipFile(tmp_path / "c.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b"{}")
        archive.writestr("model.weights.h5", bytes(1 << 26))
    with pytest.raises(ValueError, match=r"c\.keras: its \d+ bytes would unpack to 67108866"):
        read_keras(tmp_path / "c.keras")


@pytest.mark.parametrize(
    "change", [{"filters": 10**7}, {"depth": 2**40}, {"channels": 2**62}, {"depth": 12, "filters": 2**50}]
)
def test_weights_of_a_network_that_no_memory_holds(tmp_path: Path, change: dict[str, int]) -> None:
    save(UNet(SMALL), path := tmp_path / "a.safetensors")
    (size,) = struct.unpack("<Q", path.read_bytes()[:8])
    header, body = json.loads(path.read_bytes()[8 : 8 + size]), path.read_bytes()[8 + size :]
    header["__metadata__"]["unet"] = json.dumps({**json.loads(header["__metadata__"]["unet"]), **change})
    told = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(told)) + told + body)
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged"):
        load_model(path)


def test_a_picture_is_none_of_the_formats_that_run_programs_and_of_a_size_that_memory_holds(tmp_path: Path) -> None:
    Image.new("RGB", TILES[::-1]).save(path := tmp_path / "a.png", format="EPS")  # Ghostscript would be started
    with pytest.raises(DatasetError, match=r"a\.png: cannot be read .*cannot identify image file"):
        read_labels(path, TILES, HSI_DRIVE_CLASSES)
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    for size, message in ((10_000, "pixels; expected"), (60_000, "decompression bomb")):
        content[16:24] = struct.pack(">II", size, size)
        content[29:33] = struct.pack(">I", zipfile.crc32(bytes(content[12:29])))  # type: ignore[attr-defined]
        path.write_bytes(bytes(content))
        with pytest.raises(ValueError, match=message), guard.picture(path):
            pass


def test_a_chunk_of_four_gigabytes_is_not_asked_for(tmp_path: Path) -> None:
    """Found by damaged bytes."""
    buffer = io.BytesIO()
    Image.new("L", TILES[::-1]).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[33:35] = b"\xff\xff"
    subject = Subject("a.png", [], lambda path: read_labels(path, TILES, HSI_DRIVE_CLASSES), (DatasetError,))
    assert not faults(subject, [bytes(content)], tmp_path)


def test_nothing_waits_for_a_pipe_or_reads_a_device(tmp_path: Path) -> None:
    root = write_matlab_release(tmp_path / "set", NAMES[:2])
    cube, labels = root / f"Image_dataset/cubes_fl32/{NAMES[0]}_TC.mat", root / f"Image_dataset/labels/{NAMES[0]}.png"
    for path in (cube, labels):
        path.unlink()
        os.mkfifo(path)
    refused(cube, "a pipe, where a file should be; move it away")
    with pytest.raises(DatasetError, match="a pipe, where a file should be"):
        read_labels(labels, TILES, HSI_DRIVE_CLASSES)
    assert fingerprint(root)
    assert "a pipe, where a file should be" in " ".join(check_dataset(root)["found"])
    for name, read in (("simulation.json", lambda p: read_settings(p.parent)), ("classes.yaml", read_classes)):
        (tmp_path / name).symlink_to("/dev/zero")
        with pytest.raises(ValueError, match="a device, where a file should be"):
            read(tmp_path / name)
    (tmp_path / "record.json").symlink_to("/dev/zero")
    assert read_record(tmp_path / "record.json") is None


@pytest.mark.parametrize("place", ["/dev/zero", "../secret", "scenes/../../secret"])
def test_a_record_names_no_file_outside(tmp_path: Path, place: str) -> None:
    (tmp_path / "secret").write_text("x")
    record = {"name": "a", "split": "test", "exposure_s": 1, "settings": "", "sha256": {place: sha256_of("x")}}
    (tmp_path / "set/scenes").mkdir(parents=True)
    (tmp_path / "set/scenes/a.json").write_text(json.dumps(record))
    assert not is_sealed(tmp_path / "set", "a")
    with pytest.raises(ValueError, match="leads out of"):
        guard.inside(tmp_path, place)


def sha256_of(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()


def test_of_two_variables_with_one_name_the_one_that_is_read_is_looked_at(tmp_path: Path) -> None:
    """And what scipy would read as a file of level 4, unchecked, is refused."""
    first, second = io.BytesIO(), io.BytesIO()
    savemat(first, {"cube": VALUES[:, :2]})
    savemat(second, {"cube": VALUES})
    (tmp_path / "a.mat").write_bytes(first.getvalue() + second.getvalue()[128:])
    refused(tmp_path / "a.mat", r"found \(25, 2, 6\)")
    (tmp_path / "b.mat").write_bytes(b"\0" + second.getvalue()[1:])
    refused(tmp_path / "b.mat", "perhaps of level 4")


@pytest.mark.parametrize(
    "text",
    [
        "- {code: 0, name: !!python/object/apply:os.system [touch here]}",
        "- &a {code: 0, name: [x]}",
        "- {code: .inf, name: a}",
        "[" * 1000,
        "a: &a [x, x]\nb: &b [*a, *a]\n",
    ],
)
def test_classes_of_yaml_are_data(tmp_path: Path, text: str) -> None:
    (tmp_path / "classes.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"classes\.yaml: expected a list of"):
        read_classes(tmp_path / "classes.yaml")


def test_a_store_that_would_be_unpickled_is_refused(tmp_path: Path) -> None:
    data = open_dataset(write_matlab_release(tmp_path / "set", NAMES[:2]))
    to_zarr(data, store := tmp_path / "a.zarr", workers=1, progress=False)
    for name in (".zmetadata", "scene/.zarray"):
        before = (store / name).read_text()
        told = json.loads(before)
        own = told["metadata"]["scene/.zarray"] if name == ".zmetadata" else told
        own["filters"] = [{"id": "pickle", "protocol": 5}]
        (store / name).write_text(json.dumps(told))
        with pytest.raises(DatasetError, match=r"packed by .*pickle"):
            to_zarr(data, store, workers=1, progress=False)
        (store / name).write_text(before)


class Tags(HTMLParser):
    """Every element of a page, and what is in its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)


def test_no_name_is_markup() -> None:
    start()
    name = "</script><script>alert(1)</script><img src=x onerror=alert(2)><!--"
    frame = pd.DataFrame({"file": [name], name: [1.0]}, index=pd.Index([name], name=name))
    curve = hv.Curve([1, 2], kdims=name).opts(title=name, tools=["hover"])
    shown = {
        "table": table(frame, name),
        "table without a name": table(frame.rename_axis(None), name),
        "cards": cards(pd.DataFrame({name: [name], "h": [name]}), "h", [name]),
        "sortable": sortable(frame.reset_index(drop=True), caption=name),
        "plot": show(curve * hv.Curve([2, 1], label=name), name),
        "slider": show(pages({name: curve, "b": hv.Curve([2])}, "scene"), name),
    }
    for kind, one in shown.items():
        tags = Tags(one._repr_html_()).found
        assert "img" not in tags, kind
        assert tags.count("script") == {"plot": 1, "slider": 2}.get(kind, 0), kind
    assert np.isfinite(frame[name]).all()
