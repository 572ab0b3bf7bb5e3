"""Executable companion to arXiv 2502.14416: reliable explainability of spatial-spectral classifiers.

The commonest tasks, from a data set to an explanation that is held against the logit it explains:

    import hsiutils as hu

    data = hu.open_dataset(root)                          # or hu.simulate_dataset(folder, scenes=20)
    cube = hu.reflectance_cube(frame, data.sensor, white, dark)
    inputs = hu.fit_inputs("25-PN", data)                 # hu.pn(cube)
    model = hu.load_model("weights.safetensors")          # or hu.train(data, inputs, folder)
    scores = hu.evaluate(model, data.scenes("test", inputs))
    a = hu.attribute("GradCAM", model, x, hu.pixel(model, x, "Road", 40, 50))
    d = hu.decompose(model, x, by=labels, reference=mean)
    r = hu.audit(model, x)                                # hu.audit_scenes(model, data.scenes("test", inputs), store)

`decompose` and `audit` take any torch network of convolutions, ReLUs and poolings, not ours alone; `open_network` reads
one from a file, and unpickles nothing. Names are imported
on first use; `import hsiutils` alone needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hsiutils.attribution.audit import audit
    from hsiutils.attribution.audit_scenes import audit_scenes
    from hsiutils.attribution.decompose import decompose
    from hsiutils.attribution.gates import Affine
    from hsiutils.attribution.methods import METHODS, attribute
    from hsiutils.attribution.result import Attribution, Decomposition
    from hsiutils.attribution.targets import Target, class_map, margin, pixel, region
    from hsiutils.data.check import check_dataset
    from hsiutils.data.classes import Classes
    from hsiutils.data.cube import pn
    from hsiutils.data.inputs import fit_inputs
    from hsiutils.data.raw import reflectance_cube
    from hsiutils.data.sensor import HSI_DRIVE, Sensor
    from hsiutils.data.source import open_dataset
    from hsiutils.models.files import load_model
    from hsiutils.models.metrics import evaluate, predict, scores
    from hsiutils.models.strangers import open_network
    from hsiutils.models.train import train
    from hsiutils.models.unet import UNet, UNetConfig
    from hsiutils.simulate.files import simulate_dataset

__version__ = "0.2.0.dev0"
__all__ = [
    "HSI_DRIVE",
    "METHODS",
    "Affine",
    "Attribution",
    "Classes",
    "Decomposition",
    "Sensor",
    "Target",
    "UNet",
    "UNetConfig",
    "attribute",
    "audit",
    "audit_scenes",
    "check_dataset",
    "class_map",
    "decompose",
    "evaluate",
    "fit_inputs",
    "load_model",
    "margin",
    "open_dataset",
    "open_network",
    "pixel",
    "pn",
    "predict",
    "reflectance_cube",
    "region",
    "scores",
    "simulate_dataset",
    "train",
]
_ROOMS = {
    "attribution.audit": ("audit",),
    "attribution.audit_scenes": ("audit_scenes",),
    "attribution.decompose": ("decompose",),
    "attribution.gates": ("Affine",),
    "attribution.methods": ("METHODS", "attribute"),
    "attribution.result": ("Attribution", "Decomposition"),
    "attribution.targets": ("Target", "class_map", "margin", "pixel", "region"),
    "data.check": ("check_dataset",),
    "data.classes": ("Classes",),
    "data.cube": ("pn",),
    "data.inputs": ("fit_inputs",),
    "data.raw": ("reflectance_cube",),
    "data.sensor": ("HSI_DRIVE", "Sensor"),
    "data.source": ("open_dataset",),
    "models.files": ("load_model",),
    "models.metrics": ("evaluate", "predict", "scores"),
    "models.strangers": ("open_network",),
    "models.train": ("train",),
    "models.unet": ("UNet", "UNetConfig"),
    "simulate.files": ("simulate_dataset",),
}
MODULES = {name: f"{__name__}.{module}" for module, names in _ROOMS.items() for name in names}
"""Where each name of the front door stands."""


def __getattr__(name: str) -> Any:
    """Import a name of the front door when it is first asked for."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = getattr(import_module(MODULES[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
