"""How a network is trained, as plain settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called after every epoch: epochs done, epochs in all, the newest row of the history."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the defaults are the authors', as far as their public code tells.

    Attributes
    ----------
    epochs : at most; early stopping may end sooner. The authors' number is not public.
    batch : whole images a step.
    learning_rate : of Adam (0.9, 0.999): the first one of "step", the largest one of "one-cycle".
    schedule : "step" multiplies the rate by `drop_factor` at `drop_epoch`; "one-cycle" (Smith 2018) rises and falls
        once over all steps, and gets more from few epochs.
    l2 : penalty l2 * sum(kernel**2) on convolution kernels only, as Keras defines it.
    class_weights : of the cross-entropy. "inverse-frequency" of the training labels, "published" of the frequencies
        that the data set's authors published (`hsiutils.models.train.train` takes them from its `classes`), "none"
        equal, or one number per class. Rescaled so that the mean over the labelled pixels is one.
    weight_power : the class weights are raised to this power at the first step, and to the second number at the last,
        in a line between: 1 leaves them, 0 makes all equal. Falling, rare classes are found first and their size then.
    dice : weight of the soft Dice loss (Milletari 2016) that is added to the cross-entropy: one minus twice the overlap
        of probability and label over their sum, a mean over the classes that the batch has.
    keep : weights that are kept: "best" those of the epoch with the best weighted IoU on the validation scenes, "last"
        those of the last epoch. A rate that falls to zero wants "last": the best of few epochs would be one at another
        rate in each training.
    patience, min_delta : training stops when the validation loss has not fallen by `min_delta` for so many validations;
        not where the last weights are kept.
    validate_every : epochs from one validation to the next.
    flip : mirror half of the training images left to right.
    brightness : standard deviation of the logarithm of a random factor on the brightness of every training image, as
        free exposure is; inputs must be plain values from zero on.
    order_seed : of the order of the images, of mirroring and of brightness, where it is not to be that of the training.
    precision : of Lightning; "auto" as `precision` has it.
    """

    epochs: int = 200
    batch: int = 2
    learning_rate: float = 1e-3
    schedule: Literal["step", "one-cycle"] = "step"
    drop_epoch: int = 30
    drop_factor: float = 0.1
    l2: float = 1e-4
    class_weights: Literal["inverse-frequency", "published", "none"] | tuple[float, ...] = "inverse-frequency"
    weight_power: tuple[float, float] = (1.0, 1.0)
    dice: float = 0.0
    keep: Literal["best", "last"] = "best"
    patience: int = 80
    min_delta: float = 5e-3
    validate_every: int = 1
    flip: bool = False
    brightness: float = 0.0
    order_seed: int | None = None
    precision: Literal["auto"] | Precision = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "drop_epoch", "patience", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"Recipe.{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0 or min(self.l2, self.dice, self.brightness) < 0:
            found = f"{self.learning_rate}, {self.l2}, {self.dice} and {self.brightness}"
            raise ValueError(f"Recipe needs learning_rate > 0, and l2, dice and brightness >= 0, got {found}")
        if self.schedule not in ("step", "one-cycle"):
            raise ValueError(f"Recipe.schedule must be 'step' or 'one-cycle', got {self.schedule!r}")
        if self.keep not in ("best", "last"):
            raise ValueError(f"Recipe.keep must be 'best' or 'last', got {self.keep!r}")
        if self.epochs % self.validate_every:
            raise ValueError(
                f"Recipe.epochs ({self.epochs}) must be a multiple of validate_every ({self.validate_every}), "
                "or the last epoch is never judged"
            )

    def order(self, seed: int) -> int:
        """Seed of the order of the images, of mirroring and of brightness, in a training of this seed."""
        return seed if self.order_seed is None else self.order_seed


AUTHORS = Recipe()
"""The recipe of the paper, from the authors' public code (arXiv 2411.19274); no augmentation."""


def precision(wanted: str, device: str = "auto") -> Precision:
    """The number format that a recipe's precision means on a device ("auto", "cpu", "cuda:1").

    "auto" is mixed precision in bfloat16 where GPU or processor have instructions for it, else in float16 on a GPU and
    float32 on a processor. Weights, their updates, batch statistics and the loss are float32 in all of them.
    """
    if wanted != "auto":
        return cast(Precision, wanted)
    if is_gpu(device):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    able = torch.cpu.get_capabilities()
    return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"


def is_gpu(device: str) -> bool:
    """Whether a device ("auto", "cpu", "cuda:1") is one."""
    return torch.cuda.is_available() if device == "auto" else device.startswith("cuda")
