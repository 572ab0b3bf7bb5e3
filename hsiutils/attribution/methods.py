"""Every method under one name: its map, its cost, and where it has one its sums at every pixel and class.

A new method is one function (model, x, target, **options) -> Attribution, in a file of its own or beside its like, and
one `Method` in the list below; for a class activation map a `cams.Rule` is enough. The leaderboard finds it
there, the audit too if it has sums.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor, nn

from hsiutils.attribution import cams, decompose, gradients, lrp, perturbation
from hsiutils.attribution.hooks import INPUT, Picker, picked
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.sums import Sums
from hsiutils.attribution.targets import Target

Passes = Literal["backward", "layer", "input"]
Place = Literal["input", "head", "layers", "inner", "last", "read"]


@dataclass(frozen=True)
class Method:
    """One method of attribution.

    Attributes
    ----------
    name : the `Attribution.method` that it returns.
    map : (model, x, target, **options) -> Attribution, with `layer` after the target where it is layered.
    layered : whether it takes a layer (CAM only that before the head); else it explains by the input.
    passes : what it costs: "backward" for one backward pass or a few, "layer" for a forward pass a channel of the
        layer, "input" for a forward or backward pass a patch, band, node or noisy copy.
    sums : (Audited, layer, **options) -> what the maps of all single logits sum to; None where there is no form that
        is cheaper than one map after the other.
    summed : where the sums are known: at the "input"; before the "head", a 1 x 1 convolution; at any of the "layers";
        at any "inner" layer, being gradient x input at the input; or, only if it is asked for, at the "last" layer, or
        at the last one if it is "read" by a head.

    Examples
    --------
    >>> hu.METHODS["GradCAM"].layered, hu.METHODS["occlusion"].passes, hu.METHODS["LRP gamma"].sums
    (True, 'input', None)
    """

    name: str
    map: Callable[..., Attribution]
    layered: bool = False
    passes: Passes = "backward"
    sums: Callable[..., Sums] | None = None
    summed: Place = "input"

    def __call__(
        self,
        model: nn.Module,
        x: Tensor,
        target: Target,
        layer: str | None = None,
        *,
        output: Picker | None = None,
        **options: Any,
    ) -> Attribution:
        """Attribute one target of one image; see `attribute`."""
        if not self.layered and layer not in (None, INPUT):
            raise ValueError(f"{self.name} attributes to the input, got layer {layer!r}: leave the layer out")
        with picked(model, output):
            found = self.map(model, x, target, *([layer] if self.layered else []), **options)
        return replace(found, method=self.name)


def _cam(name: str, rule: cams.Rule, sums: Callable[..., Sums], summed: Place, passes: Passes = "backward") -> Method:
    return Method(name, partial(cams.cam_map, rule), True, passes, sums, summed)


_ALL = (
    Method("linear decomposition", decompose.linear_decomposition, sums=decompose.linear_sums),
    Method("CAM", cams.cam, True, sums=cams.cam_sums, summed="head"),
    _cam("GradCAM", cams.gradcam, cams.gradcam_sums, "layers"),
    Method("SegGradCAM", partial(cams.cam_map, cams.gradcam), True),
    _cam("GradCAM++", cams.gradcam_plus_plus, cams.gradcam_plus_plus_sums, "read"),
    _cam("XGradCAM", cams.xgradcam, cams.xgradcam_sums, "inner"),
    _cam("HiResCAM", cams.hirescam, cams.hirescam_sums, "inner"),
    _cam("LayerCAM", cams.layercam, cams.layercam_sums, "read"),
    _cam("ScoreCAM", perturbation.scorecam, perturbation.scorecam_sums, "last", "layer"),
    _cam("AblationCAM", perturbation.ablationcam, perturbation.ablationcam_sums, "last", "layer"),
    _cam("EigenCAM", cams.eigencam, cams.eigencam_sums, "last"),
    Method("gradient", gradients.gradient, sums=gradients.gradient_sums),
    Method("gradient x input", gradients.gradient_x_input, sums=gradients.gradient_x_input_sums),
    Method("Guided BackProp", gradients.guided_backprop),
    Method("Guided GradCAM", gradients.guided_gradcam, layered=True),
    Method("SmoothGrad", gradients.smoothgrad, passes="input", sums=gradients.smoothgrad_sums),
    Method("Integrated Gradients", gradients.integrated_gradients, False, "input", gradients.integrated_gradients_sums),
    Method("DeepLIFT", gradients.deeplift),
    Method("LRP epsilon", lrp.lrp),
    Method("LRP gamma", partial(lrp.lrp, rule="gamma")),
    Method("occlusion", perturbation.occlusion, passes="input", sums=perturbation.occlusion_sums),
    Method("band occlusion", perturbation.band_occlusion, passes="input", sums=perturbation.band_occlusion_sums),
)
METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _ALL})
"""Name -> method. SegGradCAM is GradCAM of a region, and listed because it is asked for by that name."""


def attribute(
    name: str,
    model: nn.Module,
    x: Tensor,
    target: Target,
    layer: str | None = None,
    *,
    output: Picker | None = None,
    **options: Any,
) -> Attribution:
    """Explain one target of one image by a method.

    Parameters
    ----------
    name : one of `METHODS`.
    model : any torch network of images (n, channels, h, w) and logits (n, classes, h', w'), or of a dict that has them
        under "out"; it is asked in evaluation. CAM needs a head (`hsiutils.attribution.head`).
    x : (channels, h, w) or (1, channels, h, w).
    target : see `hsiutils.attribution.targets`.
    layer : Keras name of a `UNet`, torch name of another network, or "input", for methods that take any; None for the
        method's own.
    output : picks the logits out of what the network returns, where it returns something else.
    **options : of the method's function, e.g. `nodes` of Integrated Gradients, `relu` of GradCAM (`cams.cam_map`), and
        `freeze` of those that hold gates (the linear decomposition, Guided BackProp, Guided GradCAM, LRP).

    Raises
    ------
    KeyError
        If there is no such method or layer.
    NotPiecewiseLinear
        If the method holds gates and the network has smooth ones; the message names them.
    ValueError
        If x, the target, the layer or an option does not fit, or the method is not for this network.

    Examples
    --------
    >>> import torch
    >>> import hsiutils as hu
    >>> model = hu.UNet(hu.UNetConfig(channels=3, classes=2, depth=1, filters=2)).eval()
    >>> x = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
    >>> found = hu.attribute("CAM", model, x, hu.pixel(model, x, 0, 1, 2))
    >>> found.layer, found.map.dims, found.closes
    ('conv2d_5', ('y', 'x'), True)
    """
    if name not in METHODS:
        raise KeyError(f"no method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name](model, x, target, layer, output=output, **options)
