"""What somebody brings to an audit: a network from a file or by the name of a function, and an image from a file.

No file is unpickled. A program of torch.export is read as data (`hsiutils.models.program`), a Keras file as arrays.
"""

import struct
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hsiutils.data import guard
from hsiutils.data.files import stored_array
from hsiutils.models.keras import read_keras
from hsiutils.models.keras_chain import read_keras_chain
from hsiutils.models.program import read_program

_KINDS = "a program of torch.export (.pt2), a Keras model (.h5, .hdf5, .keras), or package.module:function"
_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    LookupError,
    TypeError,
    struct.error,
)
"""What reading a picture raises on bytes that make no sense to it."""


def open_network(where: str | Path) -> nn.Module:
    """A network of anybody's, in evaluation mode.

    Parameters
    ----------
    where : a program that `torch.export.save` wrote (.pt2, see `hsiutils.models.program.read_program`); a Keras file,
        of the authors' network or of any chain of layers; or "package.module:function", a function that is imported
        and called without arguments, and returns the network.

    Raises
    ------
    FileNotFoundError, ModuleNotFoundError
        If there is no such file or module.
    ValueError
        If it is none of these, the file holds more than arrays, or the function returns something else.

    Examples
    --------
    >>> import hsiutils as hu
    >>> type(hu.open_network("hsiutils.models.examples:fcn")).__name__
    'FCN'
    """
    path = Path(where).expanduser()
    if path.suffix == ".pt2":
        return read_program(path)
    if path.suffix in (".h5", ".hdf5", ".keras"):
        try:
            return read_keras(path)
        except ValueError as authors:
            try:
                return read_keras_chain(path)
            except ValueError as chain:
                raise ValueError(f"neither the authors' network ({authors}) nor a chain of layers ({chain})") from chain
    module, separator, function = str(where).partition(":")
    if path.suffix in (".pt", ".pth", ".ckpt", ".pkl", ".bin"):
        raise ValueError(
            f"{path}: pickles run code as they are opened, and are refused. Load the weights yourself in a function "
            "that returns the network, named as package.module:function, or save the network by torch.export (.pt2)"
        )
    if not separator or not function.isidentifier() or not all(map(str.isidentifier, module.split("."))):
        raise ValueError(f"a network is {_KINDS}, got {str(where)!r}")
    make = getattr(import_module(module), function, None)
    if not callable(make):
        raise ValueError(f"{module} has no function {function!r}")
    model = make()
    if not isinstance(model, nn.Module):
        raise ValueError(f"{where} returned a {type(model).__name__}, expected a torch.nn.Module")
    return model.eval()


def open_image(where: str | Path) -> Tensor:
    """An image (channels, h, w) in float32 from a file.

    Parameters
    ----------
    where : .npy with numbers (channels, h, w) in the units that the network was trained on; or a picture, whose red,
        green and blue are 0 to 1: what training did to them besides has to be done by the network.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is neither, damaged, of another shape, or holds values that are not finite.
    """
    path = Path(where).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no image at {path}")
    try:
        if path.suffix == ".npy":
            with stored_array(path) as stored:
                values = stored.values()
        elif path.suffix.lower() in guard.PICTURES:
            with guard.picture(path) as picture:
                # (h, w, 3) -> (3, h, w)
                values = np.asarray(picture.convert("RGB")).transpose(2, 0, 1) / np.float32(255)
        else:
            raise ValueError(f"an image is .npy or one of {', '.join(guard.PICTURES)}")
        if values.ndim != 3 or values.dtype.kind not in "uif":
            raise ValueError(f"expected numbers (channels, h, w), got {values.dtype} {values.shape}")
    except _DAMAGED as error:
        raise ValueError(f"{path}: {error}") from error
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: some values are not finite; replace them before")
    return torch.from_numpy(values.astype(np.float32))
