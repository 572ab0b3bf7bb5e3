"""A network that others trained, in the place of one that the run trains: the authors' Keras files.

A file holds arrays and not what they are for. Three things are taken for granted, after the authors' public code: the
outputs are those of `hsiutils.data.classes.CLASSES` in this order, behind void where there are six; 25 channels are the
bands in native order after per-pixel normalisation; and band b was clipped to [0, its published limit] and mapped to
[-1, 1). For other inputs (no PN, or not of full strength) no limits were published. They are learned from the run's own
training scenes then, and may differ from those that the network was trained with.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hsiutils.data.atomic import write_atomically
from hsiutils.data.classes import CLASSES
from hsiutils.data.inputs import FittedVariant, Variant, fit_inputs, variant
from hsiutils.data.sensor import HSI_DRIVE
from hsiutils.data.source import Source
from hsiutils.models.files import HISTORY, MANIFEST, WEIGHTS, load_model, save
from hsiutils.models.keras import read_keras_config
from hsiutils.models.unet import UNet

PAPERS = {1: "1", 3: "3", 25: "25-PN"}
"""The paper's input of so many channels: what a file is taken for where nobody says.

The paper's summary has PN with 25 channels only; the authors' code takes its single band of the cube after PN, which is
called `1-PN` here.
"""
_VOID = 0
"""The sixth output of the authors' head comes first, as void's label code does; it was never trained."""


def read_published(path: Path) -> UNet:
    """Read a published network with one output a class; of six outputs the first, void, is left out.

    Raises as `hsiutils.models.keras.read_keras`, and a ValueError if the head has other outputs than these.
    """
    void = _void_output(path, read_keras_config(path).classes)
    return load_model(path, void_output=void, class_names=CLASSES)


def input_variant(path: Path, wanted: Sequence[str]) -> str:
    """Name of the input that a published network is given.

    Parameters
    ----------
    path : the file.
    wanted : names to choose from. One must fit; of several the one that fits, the paper's where many do; with none, the
        paper's input of as many channels (`PAPERS`).

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such network; if none of the names fits, or several do and none is the paper's.
    """
    config = read_keras_config(path)
    _void_output(path, config.classes)
    channels, papers = config.channels, PAPERS.get(config.channels)
    if not wanted and papers:
        return papers
    sizes = {name: _channels(variant(name)) for name in wanted}
    fitting = [name for name, size in sizes.items() if size == channels]
    if len(fitting) == 1 or papers in fitting:
        return str(papers if papers in fitting else fitting[0])
    known = ", ".join(f"{name} of {size}" for name, size in sizes.items()) or "none"
    verdict = "several fit" if fitting else "none fits"
    example = papers or f"bands:0,1,... with {channels} bands"
    raise ValueError(
        f"{path} takes {channels} channels. The variants named are: {known}; {verdict}. "
        f"Name the one input that it was trained with in `variants`, such as {example}"
    )


def keep(folder: Path, path: Path, name: str, data: Source) -> None:
    """Leave a published network in a folder as `hsiutils.models.train.fit` leaves a trained one.

    The history has the single epoch 0, of which nothing is known.

    Parameters
    ----------
    folder, path : to fill; of the Keras file.
    name : of the input variant that it is given.
    data : whose training scenes set the input's limits where none were published.
    """
    model, fitted = read_published(path), fit_inputs(name, data)
    if model.config.channels != fitted.channels:
        raise ValueError(
            f"{path} takes {model.config.channels} channels, variant {fitted.variant.name} has {fitted.channels}: "
            "name the input that it was trained with in `variants`"
        )
    save(model, folder / WEIGHTS)
    write_atomically(folder / HISTORY, "epoch\n0\n")
    known = {"config": asdict(model.config), "variant": fitted.to_dict()}
    manifest = {**known, "recipe": None, "seed": None, "finished": True, "epochs_run": 0}
    write_atomically(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def remarks(path: Path, fitted: FittedVariant, origin: str) -> tuple[str, ...]:
    """What a reader must know before reading figures of a published network, a sentence each."""
    config, own = read_keras_config(path), fitted.variant
    void = ", void left out" if _void_output(path, config.classes) is not None else ""
    published = own.normalisation == "PN" and own.strength == 1.0 and own.pca is None and not own.extra
    learned = f"the {fitted.percentile} % point of this run's training scenes, the network's own limits being unknown"
    limits = "the limits that the authors published for the camera" if published else learned
    further = "if it learned from real scenes, simulated ones try out the method and say little about the network"
    return (
        f"network: {path.name}, not trained here; depth {config.depth}, {config.filters} filters, "
        f"{config.channels} channels, {config.classes} outputs{void}",
        f"input: {own.name} (the parameter variants may name another); every channel is clipped at {limits}, "
        "and mapped to [-1, 1)",
        "one network: nothing here can be told from the luck of one training, and no two inputs are compared",
        *([further] if origin == "simulated" else []),
    )


def _void_output(path: Path, outputs: int) -> int | None:
    if outputs not in (len(CLASSES), len(CLASSES) + 1):
        raise ValueError(
            f"{path}: the head has {outputs} outputs; expected {len(CLASSES)} ({', '.join(CLASSES)}), or one more with "
            "void first: the chapters ask about these classes"
        )
    return _VOID if outputs > len(CLASSES) else None


def _channels(chosen: Variant) -> int:
    bands = len(HSI_DRIVE.bands if chosen.bands is None else chosen.bands)
    return (chosen.pca or bands) + bool(chosen.extra)
