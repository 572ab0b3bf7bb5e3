"""Every method under one name: its map, its cost, and where it has one its sums at every pixel and class.

A new method is one function (model, x, target, layer, **options) -> Attribution, in a file of its own or beside its
like, and one `Method` in the list below. Loops over all methods (audit, randomisation, leaderboard) find it there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from hsiutils.attribution import cams, decompose, gradients, perturbation
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.sums import Sums
from hsiutils.attribution.targets import Target
from hsiutils.models.unet import UNet


@dataclass(frozen=True)
class Method:
    """One method of attribution.

    Attributes
    ----------
    name : the `Attribution.method` that it returns.
    map : (model, x, target, layer=None, **options) -> Attribution.
    layered : whether it takes any layer; else it explains by the input, and CAM by the head's input only.
    passes : what it costs: "backward" for one backward pass or a few, "layer" for a forward pass a channel of the
        layer, "input" for a forward or backward pass a patch, band, node or noisy copy.
    sums : (Audited, layer, **options) -> what the maps of all single logits sum to; None where there is no form that
        is cheaper than one map after the other.
    summed : where the sums are known: at the "input"; before the "head"; at any of the "layers"; at any "inner" layer,
        being gradient x input at the input; or before the head and only if that is asked for, "last".

    Examples
    --------
    >>> METHODS["GradCAM"].layered, METHODS["occlusion"].passes, METHODS["LRP gamma"].sums
    (True, 'input', None)
    """

    name: str
    map: Callable[..., Attribution]
    layered: bool = False
    passes: Literal["backward", "layer", "input"] = "backward"
    sums: Callable[..., Sums] | None = None
    summed: Literal["input", "head", "layers", "inner", "last"] = "input"

    def __call__(self, model: UNet, x: Tensor, target: Target, layer: str | None = None, **options: Any) -> Attribution:
        """Attribute one target of one image; options as in the method's own function."""
        return replace(self.map(model, x, target, layer, **options), method=self.name)


_ALL = (
    Method("linear decomposition", decompose.linear_decomposition, sums=decompose.linear_sums),
    Method("CAM", cams.cam, sums=cams.cam_sums, summed="head"),
    Method("GradCAM", cams.gradcam, layered=True, sums=cams.gradcam_sums, summed="layers"),
    Method("SegGradCAM", cams.gradcam, layered=True),
    Method("GradCAM++", cams.gradcam_plus_plus, layered=True, sums=cams.gradcam_plus_plus_sums, summed="last"),
    Method("XGradCAM", cams.xgradcam, layered=True, sums=cams.xgradcam_sums, summed="inner"),
    Method("HiResCAM", cams.hirescam, layered=True, sums=cams.hirescam_sums, summed="inner"),
    Method("LayerCAM", cams.layercam, layered=True, sums=cams.layercam_sums, summed="last"),
    Method("ScoreCAM", perturbation.scorecam, True, "layer", perturbation.scorecam_sums, "last"),
    Method("AblationCAM", perturbation.ablationcam, True, "layer", perturbation.ablationcam_sums, "last"),
    Method("EigenCAM", cams.eigencam, layered=True, sums=cams.eigencam_sums, summed="last"),
    Method("gradient", gradients.gradient, sums=gradients.gradient_sums),
    Method("gradient x input", gradients.gradient_x_input, sums=gradients.gradient_x_input_sums),
    Method("Guided BackProp", gradients.guided_backprop),
    Method("Guided GradCAM", gradients.guided_gradcam, layered=True),
    Method("SmoothGrad", gradients.smoothgrad, passes="input", sums=gradients.smoothgrad_sums),
    Method(
        "Integrated Gradients",
        gradients.integrated_gradients,
        passes="input",
        sums=gradients.integrated_gradients_sums,
    ),
    Method("DeepLIFT", gradients.deeplift),
    Method("LRP epsilon", gradients.lrp),
    Method("LRP gamma", partial(gradients.lrp, rule="gamma")),
    Method("occlusion", perturbation.occlusion, passes="input", sums=perturbation.occlusion_sums),
    Method("band occlusion", perturbation.band_occlusion, passes="input", sums=perturbation.band_occlusion_sums),
)
METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _ALL})
"""Name -> method. SegGradCAM is GradCAM of a region, and listed because it is asked for by that name."""


def attribute(
    name: str, model: UNet, x: Tensor, target: Target, layer: str | None = None, **options: Any
) -> Attribution:
    """Explain one target of one image by a method.

    Parameters
    ----------
    name : one of `METHODS`.
    x : (channels, h, w) or (1, channels, h, w).
    target : see `hsiutils.attribution.targets`.
    layer : Keras name, or "input", for methods that take any; None for the method's own.
    **options : of the method's function, e.g. `nodes` of Integrated Gradients, `relu` of GradCAM.

    Raises
    ------
    KeyError
        If there is no such method or layer.
    ValueError
        If x, the target or an option does not fit.

    Examples
    --------
    >>> import torch
    >>> from hsiutils.attribution.targets import pixel
    >>> from hsiutils.models.unet import UNet, UNetConfig
    >>> model = UNet(UNetConfig(channels=3, classes=2, depth=1, filters=2)).eval()
    >>> x = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
    >>> found = attribute("CAM", model, x, pixel(model, x, 0, 1, 2))
    >>> found.layer, found.map.dims, found.closes
    ('conv2d_5', ('y', 'x'), True)
    """
    if name not in METHODS:
        raise KeyError(f"no method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name](model, x, target, layer, **options)
