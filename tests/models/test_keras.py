import json
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from networks import shaken

from hsiutils.attribution.decompose import decompose
from hsiutils.data.guard import require_sound_heaps
from hsiutils.models.files import load_model, save
from hsiutils.models.keras import read_keras, read_keras_config, write_keras
from hsiutils.models.unet import UNet, UNetConfig

SMALL = UNetConfig(channels=3, classes=6, depth=2, filters=4)
ONE = UNetConfig(channels=1, depth=1, filters=1)
PAPERS = UNetConfig(channels=25, classes=6, depth=5, filters=2)
"""The paper's network in all but its width; 32 x 64 pixels are the fewest that leave its base a field to look at."""
LAYOUTS = ("model.h5", "model.weights.h5")
WHOLE = ("whole.h5", "whole.keras")


def trained(config: UNetConfig = SMALL) -> UNet:
    """A network in which every array is its own, and none is the identity."""
    return shaken(config, torch.float32)


def written(path: Path, config: UNetConfig = SMALL) -> Path:
    write_keras(trained(config), path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "model.h5")


def epsilons(*values: float) -> str:
    """A description that tells nothing but the epsilon of each batch normalisation, in the order of computation."""
    names = ["batch_normalization", *(f"batch_normalization_{number}" for number in range(1, 10))]
    named = zip(names, values, strict=True)
    layers = [{"class_name": "BatchNormalization", "config": {"name": n, "epsilon": e}} for n, e in named]
    return json.dumps({"config": {"layers": layers}})


def describe(path: Path, text: str) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = text


def archive(path: Path, **members: str | bytes) -> None:
    packing = zipfile.ZIP_DEFLATED if "deflated" in path.name else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", packing) as opened:
        for name, content in members.items():
            opened.writestr({"weights": "model.weights.h5", "config": "config.json"}.get(name, name), content)


def images() -> torch.Tensor:
    return torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def same_weights(one: UNet, other: UNet) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return all(torch.equal(first[key], second[key]) for key in first if "num_batches" not in key)


def renamed(source: Path, name: Callable[[int, str], str], root: str = "model_weights") -> Path:
    """The same file with other names, made of a layer's place and of its name, under another root."""
    target = source.with_name("renamed.h5")
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        names = [name.decode() for name in old["model_weights"].attrs["layer_names"]]
        later = {old_name: name(place, old_name) for place, old_name in enumerate(names)}
        for old_name in names:
            for role, values in old[f"model_weights/{old_name}/{old_name}"].items():
                new[f"{root}/{later[old_name]}/{later[old_name]}/{role}"] = values[...]
        new[root].attrs["layer_names"] = np.array(list(later.values()), "S")
    return target


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(
    "config", [SMALL, UNetConfig(channels=1, classes=5, depth=1, filters=3, kernel=5), UNetConfig(depth=4, filters=2)]
)
def test_round_trip_is_exact_and_the_size_follows_from_the_shapes(
    tmp_path: Path, config: UNetConfig, name: str
) -> None:
    path = written(tmp_path / name, config)
    twin = read_keras(path)
    assert twin.config == read_keras_config(path) == config
    assert not twin.training
    assert same_weights(twin, trained(config))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == written(tmp_path / f"again_{name}", config).read_bytes()


def test_the_layout_is_the_one_that_the_authors_checkpoints_have(path: Path) -> None:
    model = trained()
    with h5py.File(path) as file:
        kernel = file["model_weights/conv2d_1/conv2d_1/kernel:0"]
        assert kernel.shape == (3, 3, 4, 4)
        assert kernel[0, 2, 1, 3] == model.encoder[0].conv2.weight[3, 1, 0, 2]
        up = file["model_weights/conv2d_transpose/conv2d_transpose/kernel:0"]
        assert up.shape == (2, 2, 8, 16)  # (kh, kw, out, in)
        assert up[0, 1, 5, 12] == model.decoder[0].transpose.weight[12, 5, 0, 1]
        norm = file["model_weights/batch_normalization_1/batch_normalization_1"]
        assert np.array_equal(norm["moving_variance:0"], model.encoder[0].norm2.running_var)
        listed = [name.decode() for name in file["model_weights"].attrs["layer_names"]]
    assert listed[:4] == ["conv2d", "batch_normalization", "conv2d_1", "batch_normalization_1"]
    assert " ".join(listed[12:17]) == "conv2d_transpose conv2d_6 batch_normalization_6 conv2d_7 batch_normalization_7"
    assert listed[-1] == "conv2d_10"


@pytest.mark.parametrize("order", ["position", "name"])
@pytest.mark.parametrize(("start", "depth"), [(5, 2), (23, 5)], ids=["from_5", "second_of_a_process"])
def test_numbers_may_start_anywhere(tmp_path: Path, order: str, start: int, depth: int) -> None:
    """From 5 on: conv2d_9 comes before conv2d_10, though not in the alphabet."""

    def later(_place: int, name: str) -> str:
        kind, _, number = name.rpartition("_") if name[-1].isdigit() else (name, "", "0")
        return f"{kind}_{int(number) + start}"

    config = UNetConfig(channels=3, depth=depth, filters=1)
    assert same_weights(read_keras(renamed(written(tmp_path / "a.h5", config), later), order=order), trained(config))


def test_a_list_in_another_order_can_be_overruled_by_the_names(path: Path) -> None:
    with h5py.File(path, "a") as file:
        attributes = file["model_weights"].attrs
        attributes["layer_names"] = attributes["layer_names"][::-1]
    assert same_weights(read_keras(path, order="name"), trained())
    with pytest.raises(ValueError, match=r"in another order \(see `order`\)"):
        read_keras(path)


def test_names_of_ones_own_are_read_by_position(path: Path) -> None:
    own = renamed(path, lambda place, _name: f"{chr(ord('z') - place // 5)}{place % 5}", root="/")
    assert same_weights(read_keras(own), trained())


def test_optimiser_and_random_states_are_not_layers(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["optimizer_weights/Adam/conv2d/kernel/m:0"] = np.ones((3, 3, 3, 4), np.float32)
        file["model_weights/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
    describe(path, "[]")  # an empty description is as good as none
    assert same_weights(read_keras(path), trained())


class TestVoid:
    def test_six_outputs_are_kept_unless_one_is_named(self, path: Path) -> None:
        x, kept, dropped = images(), read_keras(path), read_keras(path, void_output=0)
        assert (kept.config.classes, dropped.config.classes) == (6, 5)
        torch.testing.assert_close(dropped(x), kept(x)[:, 1:])
        torch.testing.assert_close(read_keras(path, void_output=5)(x), kept(x)[:, :5])

    @pytest.mark.parametrize("name", LAYOUTS)
    @pytest.mark.parametrize("place", [0, 5])
    def test_a_head_of_five_goes_back_with_void_that_never_wins(self, tmp_path: Path, name: str, place: int) -> None:
        model, x = trained(UNetConfig(channels=3, depth=2, filters=4)), images()
        write_keras(model, tmp_path / name, void_output=place)
        six = read_keras(tmp_path / name)
        assert six.config.classes == 6
        assert six(x).softmax(dim=1)[:, place].max() == 0
        assert same_weights(read_keras(tmp_path / name, void_output=place), model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"void_output": -1}, r"void_output must be .* 0\.\.5, got -1"),
        ({"void_output": 6}, r"void_output must be .* 0\.\.5, got 6"),
        ({"epsilon": 0}, "must be positive, got 0"),
        ({"order": "alphabet"}, 'order must be "position" or "name"'),
    ],
)
def test_wrong_options_of_reading(path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_keras(path, **options)


def test_the_only_output_stays(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing is left"):
        read_keras(written(tmp_path / "model.h5", replace(ONE, classes=1)), void_output=0)


@pytest.mark.parametrize(
    ("model", "name", "place", "message"),
    [
        (trained(), "model.h5", -1, r"a place among the head's outputs, 0\.\.6, got -1"),
        (trained(), "model.h5", 7, r"a place among the head's outputs, 0\.\.6, got 7"),
        (trained().folded(), "model.h5", None, "folded away"),
        (trained(), "model.keras", None, r"not to \.keras"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, model: UNet, name: str, place: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_keras(model, tmp_path / name, void_output=place)
    assert not list(tmp_path.iterdir())


class TestEpsilon:
    @pytest.mark.parametrize("last", [1e-3, 1e-6], ids=["one", "every_layer_its_own"])
    def test_the_files_own_is_kept_as_part_of_the_variance(self, path: Path, last: float) -> None:
        describe(path, epsilons(*[1e-3] * 9, last))
        read, model = read_keras(path), trained()
        for block in model.blocks():
            block.norm1.eps = block.norm2.eps = 1e-3
        model.decoder[-1].block.norm2.eps = last
        torch.testing.assert_close(read(images()), model(images()))
        assert not torch.allclose(read(images()), trained()(images()), rtol=1e-5, atol=1e-5)
        assert same_weights(read_keras(path, epsilon=1e-5), trained())  # what the caller says goes first

    def test_a_description_inside_an_archive_is_used(self, tmp_path: Path) -> None:
        content = written(tmp_path / "model.weights.h5").read_bytes()
        config = epsilons(*[1e-3] * 10).replace('"batch', '"own_batch')
        archive(tmp_path / "model.keras", weights=content, config=config)
        read = read_keras(tmp_path / "model.keras")
        difference = read.base.norm1.running_var - trained().base.norm1.running_var
        torch.testing.assert_close(difference, torch.full_like(difference, 1e-3 - 1e-5), rtol=1e-3, atol=1e-7)
        with h5py.File(tmp_path / "model.weights.h5") as file:
            assert file["layers/conv2d_10/vars/0"].shape == (1, 1, 4, 6)


def cut(share: float) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def edited(**changes: np.ndarray | None) -> Callable[[Path], object]:
    """Replace arrays, named by layer and role with two underscores between, or take them out (None)."""

    def edit(path: Path) -> None:
        with h5py.File(path, "a") as file:
            for key, values in changes.items():
                layer, role = key.split("__")
                place = f"model_weights/{layer}/{layer}/{role}:0"
                del file[place]
                if values is not None:
                    file[place] = values

    return edit


def dense(path: Path) -> None:
    """Of Keras 3."""
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"], file["layers/dense/vars/1"] = np.zeros((4, 3)), np.zeros(3)


TEXTS = ('{"config": 3}', '{"config": {"layers": [1]}}', '{"config": {"layers": null}}', "3", "{'config': 1}")
BROKEN = "cannot be read as a Keras file .*cut short"
VARIANCE = "batch_normalization_3__moving_variance"


class TestBadFiles:
    def test_no_file(self, tmp_path: Path) -> None:
        for read in (read_keras, read_keras_config):
            with pytest.raises(FileNotFoundError, match=r"none\.h5"):
                read(tmp_path / "none.h5")

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            *((cut(share), BROKEN) for share in (0, 0.02, 0.5, 0.98)),
            (lambda path: archive(path, other="nothing"), r"cannot be read .*model\.weights\.h5"),
            *((lambda path, text=text: describe(path, text), BROKEN) for text in TEXTS),
            (dense, r"dense has a kernel \(4, 3\): no U-Net"),
            (edited(**{VARIANCE: None}), r"normalization_3 has .* lacks \['moving_variance'\]"),
            (
                edited(conv2d_4__kernel=None, conv2d_4__bias=None),
                "found 10 convolutions, 2 .* 10 .* or layers are missing",
            ),
            (edited(conv2d_4__kernel=np.zeros((9, 8), "f4")), r"conv2d_4 has a kernel \(9, 8\): no U-Net"),
            (
                edited(conv2d_2__kernel=np.zeros((3, 3, 4, 9), "f4")),
                r"layer conv2d_2: expected .*\(3, 3, 4, 8\).*found .*\(3, 3, 4, 9\)",
            ),
            (edited(conv2d_2__bias=np.full(8, np.nan, "f4")), "conv2d_2: bias holds values that are not finite"),
            (edited(**{VARIANCE: np.full(8, -1, "f4")}), "normalization_3: moving_variance holds negative"),
        ],
    )
    def test_what_is_wrong_is_named(self, path: Path, damage: Callable[[Path], object], message: str) -> None:
        damage(path)
        with pytest.raises(ValueError, match=rf"model\.h5: .*{message}"):
            read_keras(path)
        if "holds" not in message:  # the size does not need the values
            with pytest.raises(ValueError, match=rf"model\.h5: .*{message}"):
                read_keras_config(path)

    @pytest.mark.parametrize("name", ["model.h5", "model.weights.h5", "stored.keras", "deflated.keras"])
    def test_whatever_was_done_to_the_bytes_the_file_is_named(self, tmp_path: Path, name: str) -> None:
        """Cut short, one byte flipped, four, or many: a network or a ValueError, and nothing else."""
        path, messages = tmp_path / name, []
        if name.endswith(".keras"):
            plain = written(tmp_path / "plain.weights.h5", ONE).read_bytes()
            archive(path, weights=plain, config='{"config": {"layers": []}}')
        else:
            written(path, ONE)
        whole, rng = path.read_bytes(), np.random.default_rng(7)
        for attempt in range(60):
            content = bytearray(whole[: int(rng.integers(len(whole)))] if attempt % 4 == 0 else whole)
            for place in rng.integers(len(content), size=(0, 1, 4, 64)[attempt % 4]):
                content[place] = int(rng.integers(256))
            path.write_bytes(content)
            try:
                read_keras(path)
            except ValueError as error:
                messages.append(str(error))
        assert len(messages) >= 20
        assert all(str(path) in message for message in messages)

    def bent(self, path: Path, target: int | None = None) -> tuple[bytes, int]:
        """Make the first free place of the first heap name another as the next one, or itself; and the heap's place."""
        content = bytearray(written(path).read_bytes())
        heap = content.find(b"HEAP")
        free, start = (int.from_bytes(content[heap + at : heap + at + 8], "little") for at in (16, 24))
        assert free != 1
        content[start + free : start + free + 8] = (free if target is None else target).to_bytes(8, "little")
        path.write_bytes(content)
        return bytes(content), heap

    def test_a_heap_of_names_that_never_ends(self, tmp_path: Path) -> None:
        """The HDF5 library would take all memory, and the system would kill the process."""
        whole, heap = self.bent(tmp_path / "model.weights.h5")
        archive(tmp_path / "model.keras", weights=whole, config="{}")
        for name in ("model.weights.h5", "model.keras"):
            with pytest.raises(ValueError, match=rf"{name}: the heap of names at byte {heap} has a list that never"):
                read_keras(tmp_path / name)

    def test_a_list_that_leaves_the_file_is_left_to_the_library(self, tmp_path: Path) -> None:
        require_sound_heaps(self.bent(tmp_path / "model.h5", 1 << 40)[0])
        with pytest.raises((OSError, RuntimeError, KeyError)), h5py.File(tmp_path / "model.h5") as file:
            list(file["model_weights"])
        require_sound_heaps(b"weights HEAP\0\0\0\0")  # the signature alone is no heap
        require_sound_heaps(b"HEAP\0\0\0\0" + bytes(8) + (1).to_bytes(8, "little") + bytes(8))


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Keras on torch, on the CPU. It is imported here: nothing else pays for it, and its settings stay out of HOME."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        import keras

        assert keras.backend.backend() == "torch"
        with keras.device("cpu"):  # a GPU rounds more coarsely
            yield keras


@contextmanager
def description(path: Path) -> Iterator[dict[str, Any]]:
    """That of a file, to be changed."""
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        yield config["config"]
        file.attrs["model_config"] = json.dumps(config)


def files(model: Any, folder: Path, names: tuple[str, ...] = (*WHOLE, "alone.weights.h5")) -> Iterator[Path]:
    """What Keras writes of a model, in every form that has these names."""
    for name in names:
        (model.save_weights if "weights" in name else model.save)(folder / name)
        yield folder / name


def logits(model: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def agree(ours: UNet, theirs: Any, least: float = 1e-2) -> None:
    """On random images, all of whose logits depend on the place."""
    side = 2 * ours.config.stride
    for seed in range(3):
        x = torch.randn(2, ours.config.channels, side // 2, side, generator=torch.Generator().manual_seed(seed))
        expected = logits(theirs, x)
        assert expected.std(dim=(2, 3)).min() > least
        assert (ours(x) - expected).abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras under numpy 2
class TestAgainstKeras:
    """Keras itself, on the torch backend, builds the authors' network; both must say the same of the same image."""

    def network(self, keras: ModuleType, config: UNetConfig = SMALL, epsilon: float = 1e-5, **other: Any) -> Any:
        """The authors' build but for what `other` says, every layer alive and of the size of one."""
        layers = keras.layers
        entrance = x = layers.Input((None, None, config.channels))
        x = other["first"](layers)(x) if "first" in other else x

        def block(x: Any, width: int) -> Any:
            for _ in range(2):
                x = layers.Conv2D(width, config.kernel, padding="same", **other.get("conv", {}))(x)
                norm = layers.BatchNormalization(epsilon=epsilon)
                active = other["active"](layers) if "active" in other else layers.ReLU()
                x = norm(active(x)) if other.get("late_norm") else active(norm(x))
            return x

        skips = []
        for level, width in enumerate(config.widths[:-1]):
            x = block(x, width)
            skips.append(layers.Dropout(0.5)(x) if level else x)
            x = getattr(layers, other.get("pool", "MaxPooling2D"))(2)(skips[-1])
        x = layers.Dropout(0.5)(block(x, config.widths[-1]))
        for width, skip in zip(config.widths[-2::-1], reversed(skips), strict=True):
            up = {"kernel_size": 2, "activation": "relu", "padding": "same", **other.get("up", {})}
            x = layers.Conv2DTranspose(width, strides=2, **up)(x)
            x = block(layers.Concatenate()([skip, x] if other.get("swapped") else [x, skip]), width)
        model = keras.Model(entrance, layers.Conv2D(config.classes, 1, **other.get("head", {}))(x))
        rng = np.random.default_rng(3)
        for layer in model.layers:
            shapes = [array.shape for array in layer.get_weights()]
            if len(shapes) == 4:  # gamma, beta, mean, variance
                lows = (0.5, 0, 0, 0.5)
                layer.set_weights([rng.uniform(low, low + 1, own) for low, own in zip(lows, shapes, strict=True)])
            elif shapes and len(shapes[0]) == 4:
                size = np.prod(shapes[0][:3])
                layer.set_weights([rng.normal(0, size**-0.5, shapes[0]), rng.normal(0, 0.1, shapes[1])])
        return model

    @pytest.mark.parametrize("config", [SMALL, PAPERS], ids=["2_3_4", "5_3_2"])
    def test_keras_loads_what_we_write_and_we_what_it_writes(
        self, keras: ModuleType, tmp_path: Path, config: UNetConfig
    ) -> None:
        self.network(keras)  # the names of the next network start where these end
        theirs = self.network(keras, config)
        theirs.compile("adam", "mse")
        theirs.train_on_batch(np.ones((1, 32, 32, config.channels)), np.ones((1, 32, 32, config.classes)))
        for path in files(theirs, tmp_path):
            ours = read_keras(path)  # with the optimiser's moments in it, since there was a step
            assert ours.config == config
            agree(ours, theirs)
        for name in LAYOUTS:
            theirs.set_weights([0 * values for values in theirs.get_weights()])
            theirs.load_weights(written(tmp_path / name, config))
            agree(trained(config), theirs)

    def test_keras_default_epsilon_is_seen(self, keras: ModuleType, tmp_path: Path) -> None:
        theirs = self.network(keras, epsilon=1e-3)
        for path in files(theirs, tmp_path, WHOLE):
            agree(read_keras(path), theirs)
            with pytest.raises(AssertionError):
                agree(read_keras(path, epsilon=1e-5), theirs)

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"swapped": True}, r"joins \[.*\], expected what a Conv2DTranspose with ReLU upsamples first"),
            ({"active": lambda layers: layers.LeakyReLU(0.1)}, "is LeakyReLU, expected ReLU after batch normal"),
            ({"active": lambda layers: layers.ReLU(6.0)}, "has max_value 6.0, expected None"),
            ({"active": lambda layers: layers.Activation("elu")}, "has activation 'elu', expected 'relu'"),
            ({"late_norm": True}, "is BatchNormalization, expected ReLU after batch normalisation"),
            ({"pool": "AveragePooling2D"}, "is AveragePooling2D, expected max-pooling"),
            ({"conv": {"dilation_rate": 2}}, "has dilation_rate 2, expected 1"),
            ({"conv": {"activation": "relu"}}, "has activation 'relu', expected 'linear'"),
            ({"up": {"activation": "linear"}}, "has activation 'linear', expected 'relu'"),
            ({"up": {"kernel_size": 3}}, "has kernel_size 3, expected 2"),
            ({"first": lambda layers: layers.Rescaling(1 / 255)}, r"\(Rescaling\) stands between the input and the"),
            ({"head": {"activation": "tanh"}}, "has activation 'tanh', expected 'linear' or 'softmax'"),
        ],
    )
    def test_another_network_is_refused_by_its_description(
        self, keras: ModuleType, tmp_path: Path, other: dict[str, Any], message: str
    ) -> None:
        paths = files(self.network(keras, **other), tmp_path, WHOLE)
        for path, read in product(paths, (read_keras, read_keras_config)):
            with pytest.raises(ValueError, match=rf"{path.name}: .*{message}"):
                read(path)

    def test_the_same_network_written_otherwise_is_read(self, keras: ModuleType, tmp_path: Path) -> None:
        other = {"active": lambda layers: layers.Activation("relu"), "up": {"padding": "valid"}}
        theirs, x = self.network(keras, head={"activation": "softmax"}, **other), images()
        for path in files(theirs, tmp_path, WHOLE):
            torch.testing.assert_close(read_keras(path)(x).softmax(1), logits(theirs, x), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("swapped", [False, True])
    def test_descriptions_of_keras_2_are_read_too(self, keras: ModuleType, tmp_path: Path, swapped: bool) -> None:
        """The authors' own kind: inbound nodes are nested lists, and a convolution may have its activation apart."""
        path, theirs = tmp_path / "whole.h5", self.network(keras, swapped=swapped)
        theirs.save(path)
        with description(path) as config:
            for layer in config["layers"]:
                tensors = re.findall(r"'keras_history': \['(\w+)'", str(layer["inbound_nodes"]))
                layer["inbound_nodes"] = [[[name, 0, 0, {}] for name in tensors]] if tensors else []
            config["output_layers"] = [config["output_layers"]]
        if swapped:
            with pytest.raises(ValueError, match="upsamples first"):
                read_keras(path)
        else:
            agree(read_keras(path), theirs)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda layers: layers[-1]["inbound_nodes"].append([]), "is used 2 times, expected once"),
            (lambda layers: layers[-3]["config"].update(axis=1), "has axis 1, expected -1 or 3"),
        ],
    )
    def test_a_description_that_was_edited(self, keras: ModuleType, tmp_path: Path, change: Any, message: str) -> None:
        self.network(keras).save(tmp_path / "whole.h5")
        with description(tmp_path / "whole.h5") as config:
            change(config["layers"])
        with pytest.raises(ValueError, match=message):
            read_keras(tmp_path / "whole.h5")

    def test_a_normalisation_of_the_input_is_the_networks_entrance(self, keras: ModuleType, tmp_path: Path) -> None:
        """The authors' implicitNorm. At the border a shift is not a bias: what is padded is what it shifts to."""
        theirs = self.network(keras, first=lambda layers: layers.BatchNormalization(epsilon=1e-5))
        for path in files(theirs, tmp_path):
            ours = read_keras(path)
            assert ours.config == replace(SMALL, entrance=True)
            agree(ours, theirs, least=5e-4)
        save(ours, tmp_path / "weights.safetensors")
        assert torch.equal(load_model(tmp_path / "weights.safetensors")(images()), ours(images()))
        found = decompose(ours.double(), images()[0].double(), biases="layers")
        assert found.closes
        assert found.bias["layer"].values[-1] == "input"
        with pytest.raises(ValueError, match="normalises its input cannot be written"):
            write_keras(ours, tmp_path / "again.h5")

    def test_transposed_convolutions_of_weights_alone_go_by_their_name(self, keras: ModuleType, tmp_path: Path) -> None:
        self.network(keras, up={"kernel_size": 3}).save_weights(tmp_path / "model.weights.h5")
        with pytest.raises(ValueError, match=r"conv2d_transpose: expected .*\(2, 2, 8, 16\).* found .*\(3, 3, 8, 16\)"):
            read_keras(tmp_path / "model.weights.h5")
