"""Extents: windows of images, in pixels."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Extents:
    """N windows, which may reach over the edges of their images.

    corners: (N, 2) (top, left) of each window in pixels, int64 for whole pixels, else float; or one pair of
        ints for all images.
    sides: the height and the width of all windows in pixels; or (N, 2) int64, those of each window.
    """

    corners: Tensor | tuple[int, int]
    sides: Tensor | tuple[int, int]
