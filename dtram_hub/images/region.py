"""A region: a rectangle of an image, mirrored or rotated, which is read like an image of its own.

Training crops, flips and turns are regions. No pixel is copied until a view reads it.
"""

from dataclasses import dataclass

import numpy as np

from .pyramid import Pyramid


@dataclass(frozen=True)
class Region:
    """A rectangle of an image, first mirrored left to right, then rotated counter-clockwise.

    image: the image.
    box: top, left, height, width in pixels of the image, which it does not leave.
    mirrored: whether left and right are exchanged.
    quarters: the rotation, in quarters of a turn.
    """

    image: Pyramid
    box: tuple[int, int, int, int]
    mirrored: bool = False
    quarters: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._turned(self.box[2:])

    @property
    def channels(self) -> int:
        return self.image.channels

    @property
    def dtype(self) -> np.dtype:
        return self.image.dtype

    def __len__(self) -> int:
        """The number of levels."""
        return len(self.image)

    def level_size(self, level: int) -> tuple[int, int]:
        """Height and width of a level in its own pixels."""
        return self._turned(self._box_at(level)[2:])

    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """As `Pyramid.read`."""
        row, column, _, width = self._box_at(level)
        own, other = self.level_size(level)
        for _ in range(self.quarters % 4):
            # Undone by a quarter, a row counted from the top is a column counted from the right.
            top, left, bottom, right = left, own - bottom, right, own - top
            own, other = other, own
        if self.mirrored:
            left, right = width - right, width - left
        found = self.image.read(level, row + top, column + left, row + bottom, column + right)
        found = found[:, ::-1] if self.mirrored else found
        return np.rot90(found, self.quarters % 4)

    def _turned(self, sides: tuple[int, int]) -> tuple[int, int]:
        return sides[::-1] if self.quarters % 2 else sides

    def _box_at(self, level: int) -> tuple[int, int, int, int]:
        """The box in pixels of a level: corners are rounded, and the box stays inside."""
        whole, own = self.image.size, self.image.level_size(level)
        corners, sides = [], []
        for corner, side, before, after in zip(self.box[:2], self.box[2:], whole, own, strict=True):
            start = min(round(corner * after / before), after - 1)
            corners.append(start)
            sides.append(max(1, min(round(side * after / before), after - start)))
        return corners[0], corners[1], sides[0], sides[1]
