import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from networks import shaken

from hsiutils.attribution.decompose import decompose
from hsiutils.models.files import load_model, save
from hsiutils.models.keras import read_keras, read_keras_config, require_sound_heaps, write_keras
from hsiutils.models.unet import UNet, UNetConfig

SMALL = UNetConfig(channels=3, classes=6, depth=2, filters=4)
LAYOUTS = ("model.h5", "model.weights.h5")


def trained(config: UNetConfig = SMALL) -> UNet:
    """A network in which every array is its own, and none is the identity."""
    return shaken(config, torch.float32)


def written(path: Path, config: UNetConfig = SMALL) -> Path:
    write_keras(trained(config), path)
    return path


def described(*epsilons: float) -> str:
    """A description that tells nothing but the epsilon of each batch normalisation, in the order of computation."""
    names = ["batch_normalization", *(f"batch_normalization_{number}" for number in range(1, 10))]
    named = zip(names, epsilons, strict=True)
    layers = [{"class_name": "BatchNormalization", "config": {"name": n, "epsilon": e}} for n, e in named]
    return json.dumps({"config": {"layers": layers}})


def images() -> torch.Tensor:
    return torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def same_weights(one: UNet, other: UNet) -> bool:
    first, second = one.state_dict(), other.state_dict()
    keys = [key for key in first if "num_batches" not in key]
    return all(torch.equal(first[key], second[key]) for key in keys)


def renamed(source: Path, target: Path, name: Callable[[int, str], str], root: str = "model_weights") -> Path:
    """The same file with other names, made of a layer's place and of its name, under another root."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        names = [name.decode() for name in old["model_weights"].attrs["layer_names"]]
        later = {old_name: name(place, old_name) for place, old_name in enumerate(names)}
        for old_name in names:
            for role, values in old[f"model_weights/{old_name}/{old_name}"].items():
                new[f"{root}/{later[old_name]}/{later[old_name]}/{role}"] = values[...]
        new[root].attrs["layer_names"] = np.array(list(later.values()), "S")
    return target


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Keras on torch, on the CPU. It is imported here: nothing else pays for it, and its settings stay out of HOME."""
    settings = {"KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path_factory.mktemp("keras"))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        import keras

        assert keras.backend.backend() == "torch"
        with keras.device("cpu"):  # a GPU rounds more coarsely
            yield keras


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(
    "config",
    [SMALL, UNetConfig(channels=1, classes=5, depth=1, filters=3, kernel=5), UNetConfig(depth=4, filters=2)],
    ids=["2_3_4", "1_5_3", "4_3_2"],
)
def test_round_trip_is_exact_and_the_size_follows_from_the_shapes(
    tmp_path: Path, config: UNetConfig, name: str
) -> None:
    model = trained(config)
    write_keras(model, tmp_path / name)
    twin = read_keras(tmp_path / name)
    assert twin.config == read_keras_config(tmp_path / name) == config
    assert not twin.training
    assert same_weights(twin, model)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_layout_is_the_one_that_the_authors_checkpoints_have(tmp_path: Path) -> None:
    model = trained()
    write_keras(model, tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5") as file:
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


def test_same_network_same_bytes(tmp_path: Path) -> None:
    for name in LAYOUTS:
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_keras(trained(), tmp_path / folder / name)
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("order", ["position", "name"])
@pytest.mark.parametrize(("start", "depth"), [(5, 2), (23, 5)], ids=["from_5", "second_of_a_process"])
def test_numbers_may_start_anywhere(tmp_path: Path, order: str, start: int, depth: int) -> None:
    """From 5 on: conv2d_9 comes before conv2d_10, though not in the alphabet."""

    def later(_place: int, name: str) -> str:
        kind, _, number = name.rpartition("_") if name[-1].isdigit() else (name, "", "0")
        return f"{kind}_{int(number) + start}"

    config = UNetConfig(channels=3, depth=depth, filters=1)
    path = renamed(written(tmp_path / "first.h5", config), tmp_path / "second.h5", later)
    assert same_weights(read_keras(path, order=order), trained(config))


def test_a_list_in_another_order_can_be_overruled_by_the_names(tmp_path: Path) -> None:
    path = written(tmp_path / "model.h5")
    with h5py.File(path, "a") as file:
        attributes = file["model_weights"].attrs
        attributes["layer_names"] = attributes["layer_names"][::-1]
    assert same_weights(read_keras(path, order="name"), trained())
    with pytest.raises(ValueError, match=r"in another order \(see `order`\)"):
        read_keras(path)


def test_names_of_ones_own_are_read_by_position(tmp_path: Path) -> None:
    def own(place: int, _name: str) -> str:
        return f"{chr(ord('z') - place // 5)}{place % 5}"

    assert same_weights(read_keras(renamed(written(tmp_path / "a.h5"), tmp_path / "b.h5", own, root="/")), trained())


def test_optimiser_and_random_states_are_not_layers(tmp_path: Path) -> None:
    path = written(tmp_path / "model.h5")
    with h5py.File(path, "a") as file:
        file["optimizer_weights/Adam/conv2d/kernel/m:0"] = np.ones((3, 3, 3, 4), np.float32)
        file["model_weights/dropout/seed_generator/vars/0"] = np.zeros(2, np.uint32)
    assert same_weights(read_keras(path), trained())


class TestVoid:
    def test_six_outputs_are_kept_unless_one_is_named(self, tmp_path: Path) -> None:
        path, x = written(tmp_path / "model.h5"), images()
        kept, dropped = read_keras(path), read_keras(path, void_output=0)
        assert (kept.config.classes, dropped.config.classes) == (6, 5)
        torch.testing.assert_close(dropped(x), kept(x)[:, 1:])
        torch.testing.assert_close(read_keras(path, void_output=5)(x), kept(x)[:, :5])

    @pytest.mark.parametrize("output", [-1, 6])
    def test_an_output_that_is_not_there_is_refused(self, tmp_path: Path, output: int) -> None:
        with pytest.raises(ValueError, match=rf"void_output must be .* 0\.\.5, got {output}"):
            read_keras(written(tmp_path / "model.h5"), void_output=output)

    def test_the_only_output_stays(self, tmp_path: Path) -> None:
        path = written(tmp_path / "model.h5", UNetConfig(depth=1, filters=2, classes=1))
        with pytest.raises(ValueError, match="nothing is left"):
            read_keras(path, void_output=0)

    @pytest.mark.parametrize("name", LAYOUTS)
    @pytest.mark.parametrize("place", [0, 5])
    def test_a_head_of_five_goes_back_with_void_that_never_wins(self, tmp_path: Path, name: str, place: int) -> None:
        model, x = trained(UNetConfig(channels=3, depth=2, filters=4)), images()
        write_keras(model, tmp_path / name, void_output=place)
        six = read_keras(tmp_path / name)
        assert six.config.classes == 6
        assert six(x).softmax(dim=1)[:, place].max() == 0
        assert same_weights(read_keras(tmp_path / name, void_output=place), model)

    def test_void_needs_a_place_in_the_head(self, tmp_path: Path) -> None:
        for place in (-1, 7):
            with pytest.raises(ValueError, match=rf"a place among the head's outputs, 0\.\.6, got {place}"):
                write_keras(trained(), tmp_path / "model.h5", void_output=place)
        assert not list(tmp_path.iterdir())


class TestEpsilon:
    def described(self, path: Path, *epsilons: float) -> Path:
        with h5py.File(written(path), "a") as file:
            file.attrs["model_config"] = described(*epsilons)
        return path

    @pytest.mark.parametrize("last", [1e-3, 1e-6], ids=["one", "every_layer_its_own"])
    def test_the_files_own_is_kept_as_part_of_the_variance(self, tmp_path: Path, last: float) -> None:
        model = trained()
        read = read_keras(self.described(tmp_path / "model.h5", *[1e-3] * 9, last))
        for block in model.blocks():
            block.norm1.eps = block.norm2.eps = 1e-3
        model.decoder[-1].block.norm2.eps = last
        torch.testing.assert_close(read(images()), model(images()))
        assert not torch.allclose(read(images()), trained()(images()), rtol=1e-5, atol=1e-5)

    def test_what_the_caller_says_goes_first(self, tmp_path: Path) -> None:
        path = self.described(tmp_path / "model.h5", *[1e-3] * 10)
        assert same_weights(read_keras(path, epsilon=1e-5), trained())
        with pytest.raises(ValueError, match="must be positive, got 0"):
            read_keras(path, epsilon=0)

    def test_a_description_inside_an_archive_is_used(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.write(written(tmp_path / "model.weights.h5"), "model.weights.h5")
            archive.writestr("config.json", described(*[1e-3] * 10).replace('"batch', '"own_batch'))
        read = read_keras(tmp_path / "model.keras")
        difference = read.base.norm1.running_var - trained().base.norm1.running_var
        torch.testing.assert_close(difference, torch.full_like(difference, 1e-3 - 1e-5), rtol=1e-3, atol=1e-7)
        with h5py.File(tmp_path / "model.weights.h5") as file:
            assert file["layers/conv2d_10/vars/0"].shape == (1, 1, 4, 6)


class TestBadFiles:
    def edited(self, path: Path, changes: dict[str, object]) -> Path:
        """A sound file in which some arrays were replaced, or taken out (None)."""
        with h5py.File(written(path), "a") as file:
            for key, values in changes.items():
                layer, role = key.split("/")
                place = f"model_weights/{layer}/{layer}/{role}:0"
                del file[place]
                if values is not None:
                    file[place] = values
        return path

    @pytest.mark.parametrize("read", [read_keras, read_keras_config])
    def test_no_file(self, tmp_path: Path, read: Callable[[Path], object]) -> None:
        with pytest.raises(FileNotFoundError, match=r"none\.h5"):
            read(tmp_path / "none.h5")

    @pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.98])
    def test_a_file_cut_short(self, tmp_path: Path, share: float) -> None:
        path = written(tmp_path / "model.h5")
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match=r"model\.h5: cannot be read .*cut short"):
            read_keras(path)

    def test_an_archive_without_weights(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr("other.txt", "nothing")
        with pytest.raises(ValueError, match=r"model\.keras: cannot be read .*model\.weights\.h5"):
            read_keras(tmp_path / "model.keras")

    def test_a_dense_layer_of_keras_3(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "model.weights.h5", "w") as file:
            file["layers/dense/vars/0"], file["layers/dense/vars/1"] = np.zeros((4, 3)), np.zeros(3)
        with pytest.raises(ValueError, match=r"dense has a kernel \(4, 3\): no U-Net"):
            read_keras(tmp_path / "model.weights.h5")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"batch_normalization_3/moving_variance": None}, r"normalization_3 has .* lacks \['moving_variance'\]"),
            (
                {"conv2d_4/kernel": None, "conv2d_4/bias": None},
                r"model\.h5: found 10 convolutions, 2 transposed ones and 10 .*another network, or layers",
            ),
            ({"conv2d_4/kernel": np.zeros((9, 8), np.float32)}, r"conv2d_4 has a kernel \(9, 8\): no U-Net"),
            (
                {"conv2d_2/kernel": np.zeros((3, 3, 4, 9), np.float32)},
                r"model\.h5: layer conv2d_2: expected .*\(3, 3, 4, 8\).*found .*\(3, 3, 4, 9\)",
            ),
            ({"conv2d_2/bias": np.full(8, np.nan, np.float32)}, "conv2d_2: bias holds values that are not finite"),
            (
                {"batch_normalization/moving_variance": np.full(4, -1, np.float32)},
                "batch_normalization: moving_variance holds negative",
            ),
        ],
        ids=["missing_array", "missing_layer", "dense", "width", "nan", "negative_variance"],
    )
    def test_arrays_of_another_network(self, tmp_path: Path, changes: dict[str, object], message: str) -> None:
        path = self.edited(tmp_path / "model.h5", changes)
        with pytest.raises(ValueError, match=message):
            read_keras(path)
        if "found 10" in message:
            with pytest.raises(ValueError, match=message):
                read_keras_config(path)

    @pytest.mark.parametrize("name", ["model.h5", "model.weights.h5", "stored.keras", "deflated.keras"])
    def test_whatever_was_done_to_the_bytes_the_file_is_named(self, tmp_path: Path, name: str) -> None:
        """Cut short, one byte flipped, four, or many: a network or a ValueError, and nothing else."""
        path, messages = tmp_path / name, []
        whole = self.small(tmp_path, name)
        rng = np.random.default_rng(7)
        for attempt in range(60):
            content = bytearray(whole[: int(rng.integers(len(whole)))] if attempt % 4 == 0 else whole)
            flipped = rng.integers(len(content), size=(0, 1, 4, 64)[attempt % 4])
            for place in flipped:
                content[place] = int(rng.integers(256))
            path.write_bytes(content)
            try:
                read_keras(path)
            except ValueError as error:
                messages.append(str(error))
        assert len(messages) >= 20
        assert all(str(path) in message for message in messages)

    def small(self, folder: Path, name: str) -> bytes:
        plain = written(folder / "plain.weights.h5", UNetConfig(channels=1, depth=1, filters=1))
        if name.endswith(".h5"):
            return written(folder / name, UNetConfig(channels=1, depth=1, filters=1)).read_bytes()
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED if "deflated" in name else 0) as archive:
            archive.write(plain, "model.weights.h5")
            archive.writestr("config.json", json.dumps({"config": {"layers": []}}))
        return (folder / name).read_bytes()

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
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr("model.weights.h5", whole)
            archive.writestr("config.json", "{}")
        for name in ("model.weights.h5", "model.keras"):
            with pytest.raises(ValueError, match=rf"{name}: the heap of names at byte {heap} has a list that never"):
                read_keras(tmp_path / name)

    def test_a_list_that_leaves_the_file_is_left_to_the_library(self, tmp_path: Path) -> None:
        require_sound_heaps(self.bent(tmp_path / "model.h5", 1 << 40)[0])
        with pytest.raises((OSError, RuntimeError, KeyError)), h5py.File(tmp_path / "model.h5") as file:
            list(file["model_weights"])

    def test_the_signature_alone_is_no_heap(self) -> None:
        require_sound_heaps(b"weights HEAP\0\0\0\0")
        require_sound_heaps(b"HEAP\0\0\0\0" + bytes(8) + (1).to_bytes(8, "little") + bytes(8))

    @pytest.mark.parametrize(
        "text",
        ['{"config": 3}', '{"config": {"layers": [1]}}', '{"config": {"layers": null}}', "3", "{'config': 1}", "[]"],
    )
    def test_a_description_of_something_else(self, tmp_path: Path, text: str) -> None:
        with h5py.File(written(tmp_path / "model.h5"), "a") as file:
            file.attrs["model_config"] = text
        if text == "[]":  # as good as none
            read_keras(tmp_path / "model.h5")
            return
        with pytest.raises(ValueError, match=r"model\.h5: cannot be read as a Keras file"):
            read_keras(tmp_path / "model.h5")

    def test_unknown_order(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match='order must be "position" or "name"'):
            read_keras(written(tmp_path / "model.h5"), order="alphabet")

    def test_a_folded_network_or_another_suffix_is_not_written(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="folded away"):
            write_keras(trained().folded(), tmp_path / "model.h5")
        with pytest.raises(ValueError, match=r"not to \.keras"):
            write_keras(trained(), tmp_path / "model.keras")
        assert not list(tmp_path.iterdir())


PAPERS = UNetConfig(channels=25, classes=6, depth=5, filters=2)
"""The paper's network in all but its width; 32 x 64 pixels are the fewest that leave its base a field to look at."""


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras under numpy 2
class TestAgainstKeras:
    """Keras itself, on the torch backend, builds the authors' network; both must say the same of the same image."""

    def network(self, keras: ModuleType, config: UNetConfig = SMALL, epsilon: float = 1e-5, **other: Any) -> Any:
        """The authors' build, but for what `other` says."""
        layers = keras.layers
        active = other.get("active", layers.ReLU)
        entrance = x = layers.Input((None, None, config.channels))
        x = other["first"](layers)(x) if "first" in other else x

        def block(x: Any, width: int) -> Any:
            for _ in range(2):
                x = layers.Conv2D(width, config.kernel, padding="same", **other.get("conv", {}))(x)
                norm = layers.BatchNormalization(epsilon=epsilon)
                x = norm(active()(x)) if other.get("late_norm") else active()(norm(x))
            return x

        skips, pool = [], other.get("pool", layers.MaxPooling2D)
        for level, width in enumerate(config.widths[:-1]):
            x = block(x, width)
            skips.append(layers.Dropout(0.5)(x) if level else x)
            x = pool()(skips[-1])
        x = layers.Dropout(0.5)(block(x, config.widths[-1]))
        for width, skip in zip(config.widths[-2::-1], reversed(skips), strict=True):
            up = {"kernel_size": 2, "activation": "relu", "padding": "same", **other.get("up", {})}
            x = layers.Conv2DTranspose(width, strides=2, **up)(x)
            x = block(layers.Concatenate()([skip, x] if other.get("swapped") else [x, skip]), width)
        return keras.Model(entrance, layers.Conv2D(config.classes, 1, **other.get("head", {}))(x))

    def randomised(self, keras: ModuleType, config: UNetConfig = SMALL, epsilon: float = 1e-5, **other: Any) -> Any:
        """Every layer alive and of the size of one, so that 1e-5 means something."""
        model, rng = self.network(keras, config, epsilon, **other), np.random.default_rng(3)
        for layer in model.layers:
            arrays = layer.get_weights()
            if len(arrays) == 4:  # gamma, beta, mean, variance
                layer.set_weights(
                    [rng.uniform(low, low + 1, a.shape) for low, a in zip((0.5, 0, 0, 0.5), arrays, strict=True)]
                )
            elif arrays and arrays[0].ndim == 4:
                size = np.prod(arrays[0].shape[:3])
                layer.set_weights([rng.normal(0, size**-0.5, arrays[0].shape), rng.normal(0, 0.1, arrays[1].shape)])
        return model

    def logits(self, model: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def agree(self, ours: UNet, theirs: Any, seeds: int = 3, least: float = 1e-2) -> None:
        """On random images, all of whose logits depend on the place."""
        side = 2 * ours.config.stride
        for seed in range(seeds):
            x = torch.randn(2, ours.config.channels, side // 2, side, generator=torch.Generator().manual_seed(seed))
            expected = self.logits(theirs, x)
            assert expected.std(dim=(2, 3)).min() > least
            assert (ours(x) - expected).abs().max() < 1e-5

    @pytest.mark.parametrize("config", [SMALL, PAPERS], ids=["2_3_4", "5_3_2"])
    @pytest.mark.parametrize("name", LAYOUTS)
    def test_keras_loads_what_we_write(self, keras: ModuleType, tmp_path: Path, name: str, config: UNetConfig) -> None:
        ours, theirs = trained(config), self.network(keras, config)
        write_keras(ours, tmp_path / name)
        theirs.load_weights(tmp_path / name)
        self.agree(ours, theirs)

    @pytest.mark.parametrize("config", [SMALL, PAPERS], ids=["2_3_4", "5_3_2"])
    @pytest.mark.parametrize("name", ["whole.h5", "alone.weights.h5", "whole.keras"])
    def test_we_read_what_keras_writes(self, keras: ModuleType, tmp_path: Path, name: str, config: UNetConfig) -> None:
        self.network(keras)  # the names of the next network start where these end
        theirs = self.randomised(keras, config)
        theirs.compile("adam", "mse")
        theirs.train_on_batch(np.ones((1, 32, 32, config.channels)), np.ones((1, 32, 32, config.classes)))
        (theirs.save_weights if "weights" in name else theirs.save)(tmp_path / name)
        ours = read_keras(tmp_path / name)  # with the optimiser's moments in it, since there was a step
        assert ours.config == config
        self.agree(ours, theirs)

    @pytest.mark.parametrize("name", ["whole.h5", "whole.keras"])
    def test_keras_default_epsilon_is_seen(self, keras: ModuleType, tmp_path: Path, name: str) -> None:
        theirs = self.randomised(keras, epsilon=1e-3)
        theirs.save(tmp_path / name)
        self.agree(read_keras(tmp_path / name), theirs)
        with pytest.raises(AssertionError):
            self.agree(read_keras(tmp_path / name, epsilon=1e-5), theirs)

    @pytest.mark.parametrize("name", ["whole.h5", "whole.keras"])
    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"swapped": True}, r"joins \[.*\], expected what a Conv2DTranspose with ReLU upsamples first"),
            ({"active": lambda: keras_layers().LeakyReLU(0.1)}, "is LeakyReLU, expected ReLU after batch normal"),
            ({"active": lambda: keras_layers().ReLU(6.0)}, "has max_value 6.0, expected None"),
            ({"active": lambda: keras_layers().Activation("elu")}, "has activation 'elu', expected 'relu'"),
            ({"late_norm": True}, "is BatchNormalization, expected ReLU after batch normalisation"),
            ({"pool": lambda: keras_layers().AveragePooling2D(2)}, "is AveragePooling2D, expected max-pooling"),
            ({"conv": {"dilation_rate": 2}}, "has dilation_rate 2, expected 1"),
            ({"conv": {"activation": "relu"}}, "has activation 'relu', expected 'linear'"),
            ({"up": {"activation": "linear"}}, "has activation 'linear', expected 'relu'"),
            ({"up": {"kernel_size": 3}}, "has kernel_size 3, expected 2"),
            (
                {"first": lambda layers: layers.Rescaling(1 / 255)},
                r"\(Rescaling\) stands between the input and the first",
            ),
            ({"head": {"activation": "tanh"}}, "has activation 'tanh', expected 'linear' or 'softmax'"),
        ],
    )
    def test_another_network_is_refused_by_its_description(
        self, keras: ModuleType, tmp_path: Path, name: str, other: dict[str, Any], message: str
    ) -> None:
        self.randomised(keras, **other).save(tmp_path / name)
        for read in (read_keras, read_keras_config):
            with pytest.raises(ValueError, match=rf"{name}: .*{message}"):
                read(tmp_path / name)

    @pytest.mark.parametrize("name", ["whole.h5", "whole.keras"])
    def test_the_same_network_written_otherwise_is_read(self, keras: ModuleType, tmp_path: Path, name: str) -> None:
        other = {"active": lambda: keras.layers.Activation("relu"), "up": {"padding": "valid"}}
        self.network(keras)  # the names of the next network start where these end
        theirs = self.randomised(keras, head={"activation": "softmax"}, **other)
        theirs.save(tmp_path / name)
        x = images()
        torch.testing.assert_close(read_keras(tmp_path / name)(x).softmax(1), self.logits(theirs, x), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("swapped", [False, True])
    def test_descriptions_of_keras_2_are_read_too(self, keras: ModuleType, tmp_path: Path, swapped: bool) -> None:
        """The authors' own kind: inbound nodes are nested lists, and a convolution may have its activation apart."""
        path, theirs = tmp_path / "whole.h5", self.randomised(keras, swapped=swapped)
        theirs.save(path)
        with h5py.File(path, "a") as file:
            description = json.loads(file.attrs["model_config"])
            for layer in description["config"]["layers"]:
                tensors = re.findall(r"'keras_history': \['(\w+)'", str(layer["inbound_nodes"]))
                layer["inbound_nodes"] = [[[name, 0, 0, {}] for name in tensors]] if tensors else []
            description["config"]["output_layers"] = [description["config"]["output_layers"]]
            file.attrs["model_config"] = json.dumps(description)
        if swapped:
            with pytest.raises(ValueError, match="upsamples first"):
                read_keras(path)
        else:
            self.agree(read_keras(path), theirs)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda layers: layers[-1]["inbound_nodes"].append([]), "is used 2 times, expected once"),
            (lambda layers: layers[-3]["config"].update(axis=1), "has axis 1, expected -1 or 3"),
        ],
    )
    def test_a_description_that_was_edited(self, keras: ModuleType, tmp_path: Path, change: Any, message: str) -> None:
        path = tmp_path / "whole.h5"
        self.randomised(keras).save(path)
        with h5py.File(path, "a") as file:
            description = json.loads(file.attrs["model_config"])
            change(description["config"]["layers"])
            file.attrs["model_config"] = json.dumps(description)
        with pytest.raises(ValueError, match=message):
            read_keras(path)

    @pytest.mark.parametrize("name", ["whole.h5", "alone.weights.h5", "whole.keras"])
    def test_a_normalisation_of_the_input_is_the_networks_entrance(
        self, keras: ModuleType, tmp_path: Path, name: str
    ) -> None:
        """The authors' implicitNorm. At the border a shift is not a bias: what is padded is what it shifts to."""
        theirs = self.randomised(keras, first=lambda layers: layers.BatchNormalization(epsilon=1e-5))
        (theirs.save_weights if "weights" in name else theirs.save)(tmp_path / name)
        ours = read_keras(tmp_path / name)
        assert ours.config == replace(SMALL, entrance=True)
        self.agree(ours, theirs, least=5e-4)
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


def keras_layers() -> Any:
    """Of Keras as the fixture set it up; importing it earlier would be without its settings."""
    import keras

    return keras.layers
