"""Every method under one name and one calling convention, for loops over all of them: audits, sanity, leaderboards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import Tensor

from hsiutils.attribution import cams, gradients, perturbation
from hsiutils.attribution.decompose import spatial
from hsiutils.attribution.hooks import INPUT
from hsiutils.attribution.result import Attribution
from hsiutils.attribution.targets import Target
from hsiutils.models.unet import UNet


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes
    ----------
    attribute : (model, x, target, layer=None, **options) -> Attribution.
    layered : whether it takes any layer; else it explains by the input, and CAM by the head's input only.
    passes : what it costs: "backward" for one backward pass or a few, "layer" for a forward pass a channel of the
        layer, "input" for a forward or backward pass a patch, band, node or noisy copy.
    """

    attribute: Callable[..., Attribution]
    layered: bool = False
    passes: str = "backward"

    def __call__(self, model: UNet, x: Tensor, target: Target, layer: str | None = None, **options: Any) -> Attribution:
        """Attribute one target of one image; options as in the method's own function."""
        return self.attribute(model, x, target, layer, **options)


def linear_decomposition(model: UNet, x: Tensor, target: Target, layer: str | None = None) -> Attribution:
    """The exact decomposition in space (`hsiutils.attribution.decompose.spatial`), called like every other method.

    Raises
    ------
    ValueError
        If a layer other than the input was asked for.
    """
    if layer not in (None, INPUT):
        raise ValueError(f"the linear decomposition attributes to the input, got layer {layer!r}")
    return spatial(model, x, target)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "linear decomposition": Method(linear_decomposition),
        "CAM": Method(cams.cam),
        "GradCAM": Method(cams.gradcam, layered=True),
        "SegGradCAM": Method(cams.seggradcam, layered=True),
        "GradCAM++": Method(cams.gradcam_plus_plus, layered=True),
        "XGradCAM": Method(cams.xgradcam, layered=True),
        "HiResCAM": Method(cams.hirescam, layered=True),
        "LayerCAM": Method(cams.layercam, layered=True),
        "ScoreCAM": Method(perturbation.scorecam, layered=True, passes="layer"),
        "AblationCAM": Method(perturbation.ablationcam, layered=True, passes="layer"),
        "EigenCAM": Method(cams.eigencam, layered=True),
        "gradient": Method(gradients.gradient),
        "gradient x input": Method(gradients.gradient_x_input),
        "Guided BackProp": Method(gradients.guided_backprop),
        "Guided GradCAM": Method(gradients.guided_gradcam, layered=True),
        "SmoothGrad": Method(gradients.smoothgrad, passes="input"),
        "Integrated Gradients": Method(gradients.integrated_gradients, passes="input"),
        "DeepLIFT": Method(gradients.deeplift),
        "LRP epsilon": Method(gradients.lrp),
        "LRP gamma": Method(partial(gradients.lrp, rule="gamma")),
        "occlusion": Method(perturbation.occlusion, passes="input"),
        "band occlusion": Method(perturbation.band_occlusion, passes="input"),
    }
)
"""Name -> method; the name is the `Attribution.method` that it returns."""
