"""Views: pixels cut out of images and resized, and how stored levels become the encoder's numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import short


@dataclass(frozen=True)
class Views:
    """N views, as they were cut.

    values: (N, C, S, S), zero outside of the image.
    covered: (N or 1, 1, S, S), how much of each pixel lies inside of the image; None where all do, or where
        values outside are zero as they should be.
    stored: the dtype of the images.
    """

    values: Tensor
    covered: Tensor | None
    stored: torch.dtype


class Normalise(nn.Module):
    """Subtract the mean of every colour channel and divide by its standard deviation.

    Args:
        pretrained_cfg: timm's configuration of the model. "mean" and "std" hold one number per channel, for
            pixels in [0, 1]. No other key is read.
        levels: the levels of black and white in the stored images; None for those of their dtype.
    """

    def __init__(self, pretrained_cfg: dict, levels: Sequence[float] | None = None):
        super().__init__()
        self.levels = levels
        for name in ("mean", "std"):
            values = torch.tensor(pretrained_cfg[name], dtype=torch.float32)
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)

    def forward(
        self, images: Tensor, covered: Tensor | None = None, stored: torch.dtype | None = None
    ) -> Tensor:
        """Normalise stored levels (B, C, H, W) to float32 of the same shape.

        Args:
            images: the levels, zero outside of the image.
            covered: as in `Views`. What lies outside of the image becomes 0 after normalisation, which is
                the mean; no stored level could be that.
            stored: the dtype of the images, whose largest level is white; that of `images` by default.

        Raises:
            ValueError: floats, of which nobody knows black and white, without `levels`.
        """
        black, white = level_range(stored or images.dtype, self.levels)
        covered = 1 if covered is None else covered.float()
        values = images.float() - black * covered if black else images.float()
        # In place, because fresh memory costs as much as the arithmetic.
        return (values / (white - black)).sub_(self.mean * covered).div_(self.std)

    def views(self, cut: Views) -> Tensor:
        """Normalise views on the device of the mean."""
        device = self.mean.device
        covered = None if cut.covered is None else cut.covered.to(device, non_blocking=True)
        return self(cut.values.to(device, non_blocking=True), covered, cut.stored)


def as_torch(dtype: np.dtype) -> torch.dtype:
    """The dtype of torch for a dtype of numpy."""
    return torch.from_numpy(np.empty(0, dtype)).dtype


def level_range(stored: torch.dtype, levels: Sequence[float] | None) -> tuple[float, float]:
    """The levels of black and white: `levels`, or 0 and the largest number of an unsigned dtype.

    8 bits are always 0 to 255: a program that wrote 8 bits has chosen the range.

    Raises:
        ValueError: floats or signed numbers without `levels`.
    """
    if levels is not None and stored != torch.uint8:
        return levels[0], levels[1]
    if stored not in (torch.uint8, torch.uint16, torch.uint32):
        raise ValueError(
            f"images of dtype {short(stored)} have no known range of levels; accepted are uint8, uint16, or "
            "the levels of black and white in the model's keyword levels."
        )
    return 0, torch.iinfo(stored).max
