"""Mixup and CutMix, timm's own: two images become one, and so do their labels."""

from dataclasses import dataclass

import numpy as np
import torch
from timm.data import Mixup
from torch import Tensor

from ..checks import check_number


@dataclass
class MixConfig:
    """The recipe's section `mix`. It applies where answers learn from one look, in the stage of the encoder.

    mixup: alpha of Mixup's Beta distribution (Zhang et al. 2018); 0 for none.
    cutmix: alpha of CutMix's (Yun et al. 2019); 0 for none. With both, each batch takes one of them.
    probability: the share of the batches that are mixed, in [0, 1].

    Raises:
        ValueError: a value is out of range.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            check_number(name, getattr(self, name), 0, 100)
        check_number("probability", self.probability, 0, 1)

    @property
    def is_used(self) -> bool:
        """Whether anything is mixed."""
        return bool(self.probability and (self.mixup or self.cutmix))


def mix(
    config: MixConfig, images: Tensor, labels: Tensor, num_classes: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Mix every image of a batch with that at the same place from the end.

    Args:
        config: what to mix.
        images: (B, C, H, W) uint8; B even.
        labels: (B,) int64.
        num_classes: C of the classes.
        seed: of all draws.

    Returns:
        Images of the same shape and dtype, rounded, and the share of every class, (B, classes) float32.
    """
    words = {"label_smoothing": 0.0, "num_classes": num_classes}
    mixup = Mixup(config.mixup, config.cutmix, prob=config.probability, **words)
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002 - timm draws from the global generator
    try:
        mixed, shares = mixup(images.float(), labels)
    finally:
        np.random.set_state(before)  # noqa: NPY002
    return mixed.round().to(torch.uint8), shares
