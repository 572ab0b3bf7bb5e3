"""Programs of torch.export: computed as the network that they were made of, and nothing of a hostile file is run."""

import io
import json
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hsiutils.attribution.audit import audit
from hsiutils.attribution.decompose import decompose
from hsiutils.models.examples import Gate, squeeze
from hsiutils.models.program import read_program

X = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


class Crooked(nn.Module):
    """What exporters meet: sizes that are computed, a constant, a layer called twice, one without parameters."""

    def __init__(self):
        super().__init__()
        self.down, self.act = nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(inplace=True)
        self.inner = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1), nn.PReLU(4), nn.MaxPool2d(3, 2, 1, return_indices=False)
        )
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1), persistent=False)
        self.cat = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        rows, columns = x.shape[-2] // 2, x.shape[-1] // 2
        low = self.act(self.down(x))
        deep = self.act(self.inner(low) * self.scale + torch.ones(1))
        up = functional.interpolate(deep, (rows, columns), mode="bilinear")
        first, second = torch.cat([up, low], 1).chunk(2, dim=1)
        return {"out": self.cat(torch.cat([second, first], 1)), "aux": deep}


def exported(model, path, images=X, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model.eval(), (images,), **options)
        torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    sizes = {0: torch.export.Dim("n", min=1), 2: 2 * torch.export.Dim("rows", min=4), 3: torch.export.Dim.AUTO}
    torch.manual_seed(0)
    exported(Crooked(), folder / "crooked.pt2", dynamic_shapes={"x": sizes})
    exported(squeeze(), folder / "squeeze.pt2", X[:1])
    return folder


def test_a_program_is_the_network_with_its_layers_and_names(saved):
    torch.manual_seed(0)
    own, model = Crooked().eval(), read_program(saved / "crooked.pt2")
    torch.testing.assert_close(model(X), own(X)["out"])
    torch.testing.assert_close(model(X[:1, :, :16]), own(X[:1, :, :16])["out"])  # sizes were left open
    assert model.input_shape == (3, None, None)
    assert not model.training
    state = own.state_dict()
    assert {name: value.shape for name, value in model.state_dict().items() if name in state} == {
        name: value.shape for name, value in state.items()
    }
    names = {name for name, _ in model.named_modules()}
    assert {"down", "act", "inner.0", "inner.1", "inner.2", "cat"} <= names
    found = audit(model.double(), X[0].double(), ["HiResCAM", "linear decomposition"], ["inner.1", "down"])
    expected = audit(own.double(), X[0].double(), ["HiResCAM", "linear decomposition"], ["inner.1", "down"])
    assert found["method"].values.tolist() == expected["method"].values.tolist()
    assert abs(found["residual"] - expected["residual"]).max() < 1e-12
    assert decompose(model, X[0].double(), biases="layers").closes


def test_a_smooth_program_is_named_by_its_layers(saved):
    model = read_program(saved / "squeeze.pt2")
    torch.testing.assert_close(model(X), squeeze()(X)["out"])
    assert model.input_shape == (3, 24, 32)
    with pytest.raises(ValueError, match=r"because of sigmoid in backbone\.5\.gate\.fc\.3: "):
        audit(model, X[0])
    assert isinstance(squeeze().backbone[5].gate, Gate)


class Planted:
    """Leaves a file where it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return Path.touch, (self.place,)


def changed(source, target, **members):
    """A copy of an archive; members by the end of their name: bytes, or a function of the parsed JSON."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            for end, change in members.items():
                if info.filename.endswith(end):
                    content = change if isinstance(change, bytes) else edited(content, change)
            new.writestr(info.filename, content)
    return target


def edited(content, change):
    parsed = json.loads(content)
    change(parsed)
    return json.dumps(parsed).encode()


def nodes(parsed):
    return parsed["graph_module"]["graph"]["nodes"]


def test_no_pickle_and_no_text_of_a_hostile_file_is_run(saved, tmp_path):
    source, place, target = saved / "crooked.pt2", tmp_path / "was here", tmp_path / "hostile.pt2"
    hostile = pickle.dumps(Planted(place))
    text = f"__import__('pathlib').Path({str(place)!r}).touch()"

    def harmless(parsed):  # what torch.export.load evaluates or unpickles, and this reader never looks at
        parsed["guards_code"] = [text]
        parsed["graph_module"]["module_call_graph"] = [{"fqn": text}]
        for size in parsed["graph_module"]["graph"]["sym_int_values"].values():
            size["as_expr"] = {"expr_str": text}
        for node in nodes(parsed):
            node["metadata"] |= {"custom": text, "torch_fn": text, "source_fn_stack": f"a,torch.{text}"}

    model = read_program(changed(source, target, **{"sample_inputs/model.pt": hostile, MODEL: harmless}))
    torch.testing.assert_close(model(X), read_program(source)(X))

    def pickled(parsed):
        parsed["config"]["down.weight"]["use_pickle"] = True

    buffer = io.BytesIO()
    torch.save(Planted(place), buffer)
    for content in (hostile, buffer.getvalue()):
        with pytest.raises(ValueError, match=r"hostile.pt2: down.weight is a pickled object, and nothing is unpickled"):
            read_program(changed(source, target, **{WEIGHTS: pickled, "weight_0": content}))
    for name in ("torch.os.system", "torch.ops.aten.from_file.default", "torch.ops.aten.relu.out", "_operator.call"):

        def renamed(parsed, name=name):
            nodes(parsed)[0]["target"] = name

        with pytest.raises(ValueError, match=f"the operation {name} is not among those"):
            read_program(changed(source, target, **{MODEL: renamed}))
    assert not place.exists()


def of(*path):
    """Set the last of a path to the value before it, deep in parsed JSON."""
    *way, name, value = path

    def change(parsed):
        for step in way:
            parsed = parsed[step]
        parsed[name] = value

    return change


SIGNATURE = ("graph_module", "signature")
ARRAY = ("config", "down.weight", "tensor_meta")


@pytest.mark.parametrize(
    ("member", "change", "message"),
    [
        (MODEL, of("schema_version", "major", 9), "expected a program of format 8, got 9"),
        (MODEL, of(*SIGNATURE, "output_specs", 0, {"buffer_mutation": {}}), "changes its own arrays: .*model.eval"),
        (MODEL, of(*SIGNATURE, "input_specs", 0, {"token": {}}), "takes other things than one tensor"),
        (
            MODEL,
            lambda parsed: nodes(parsed)[0]["inputs"].append({"name": "train", "arg": {"as_bool": True}}),
            "in training",
        ),
        (MODEL, lambda parsed: nodes(parsed)[0]["inputs"][0].update(arg={"as_graph": {}}), "an argument as_graph"),
        (MODEL, of("graph_module", "graph", "nodes", 0, "metadata", None), "cannot be read as a program .*damaged"),
        (WEIGHTS, of(*ARRAY, "sizes", [{"as_int": 1 << 40}]), "down.weight has 108 numbers in the file, too few"),
        (WEIGHTS, of(*ARRAY, "strides", [{"as_int": 999}] * 4), "cannot be read as a program .*out of bounds"),
        (WEIGHTS, of(*ARRAY, "dtype", 9), "down.weight has numbers of kind 9"),
        (WEIGHTS, b"{", r"x\.pt2: Expecting"),
        ("weight_0", b"12345", "down.weight|buffer"),
    ],
)
def test_what_is_damaged_or_of_another_kind_is_said(saved, tmp_path, member, change, message):
    with pytest.raises(ValueError, match=message):
        read_program(changed(saved / "crooked.pt2", tmp_path / "x.pt2", **{member: change}))


def test_a_file_cut_short_anywhere_or_with_wrong_bytes_in_its_directory_is_said_to_be_damaged(tmp_path):
    path = exported(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()), tmp_path / "whole.pt2", X[:1])
    whole, damaged = path.read_bytes(), tmp_path / "damaged.pt2"
    for length in [*range(0, len(whole), len(whole) // 80), *range(len(whole) - 30, len(whole))]:
        damaged.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"damaged\.pt2"):
            read_program(damaged)
    draw, refused = np.random.default_rng(0), 0
    for _ in range(250):
        content = bytearray(whole)
        for _ in range(3):  # at the end of a zip is its directory
            content[-1 - draw.integers(1500)] = draw.integers(256)
        damaged.write_bytes(content)
        try:
            read_program(damaged)
        except ValueError:
            refused += 1
    assert refused > 150


def test_archives_that_torch_does_not_write_are_refused(saved, tmp_path):
    path = tmp_path / "x.pt2"
    with pytest.raises(FileNotFoundError, match="no program at"):
        read_program(path)
    path.write_bytes((saved / "squeeze.pt2").read_bytes()[:5000])
    with pytest.raises(ValueError, match="damaged, cut short"):
        read_program(path)
    with zipfile.ZipFile(saved / "squeeze.pt2") as old:
        name = next(name for name in old.namelist() if name.endswith(MODEL))
        content = old.read(name)
    for mode, names, message in (
        (zipfile.ZIP_DEFLATED, [name], "are compressed"),
        (zipfile.ZIP_STORED, [name, name], "two of its files have one name"),
        (zipfile.ZIP_STORED, ["serialized_exported_program.json"], "a torch before 2.8"),
        (zipfile.ZIP_STORED, ["x/data/aotinductor/model.so"], "no program of torch.export"),
    ):
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", mode) as new:
            warnings.simplefilter("ignore")
            for each in names:
                new.writestr(each, content)
        with pytest.raises(ValueError, match=message):
            read_program(path)
