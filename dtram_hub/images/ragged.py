"""Views of images of different sizes: each view reads a region of one level of its image, on the CPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import uniform
from .extents import Extents
from .pyramid import UnreadableImage, as_pyramid
from .resize import resize
from .views import Views, as_torch

Part = tuple[Tensor, Tensor | None]  # pixels, and how much of each is covered by the image


class Ragged:
    """A batch of B images of any sizes.

    Args:
        images: tensors (C, H, W), array-likes (H, W, C), pyramids or regions of them. Tensors of floats are
            normalised already; none or all images are such tensors.

    sizes: (B, 2) int64, height and width of each.

    Raises:
        ValueError: no images, or images of different channels or dtypes.
    """

    def __init__(self, images: Sequence[Any]):
        floats = [isinstance(image, Tensor) and image.is_floating_point() for image in images]
        self.images = [as_pyramid(image) for image in images]
        if not self.images:
            raise ValueError("images is empty; accepted is at least one image.")
        kinds = {(image.channels, str(image.dtype)) for image in self.images}
        if len(kinds) > 1 or len(set(floats)) > 1:
            listed = " and ".join(sorted(f"{channels} channels of {dtype}" for channels, dtype in kinds))
            raise ValueError(
                f"images of one batch have {listed}; accepted is one number of channels and one dtype, "
                "normalised or not."
            )
        self.normalised = floats[0]
        self.channels = self.images[0].channels
        self.stored = as_torch(self.images[0].dtype)
        self.sizes = torch.tensor([image.size for image in self.images])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor) -> "Ragged":
        """The images at `index` (N,) int64, as a batch of their own."""
        return Ragged([self.images[i] for i in index.tolist()])

    def to(self, device: torch.device | str) -> "Ragged":
        """As the method of a tensor. Only views go to another device, because regions are read on the CPU."""
        return self

    def cut(self, extents: Extents, size: int, mode: str = "exact", rows: Tensor | None = None) -> Views:
        """Cut N windows and resize them to `size`; arguments as in `uniform.cut`, and sides may differ.

        A window of `size` pixels is copied. Any other is read from the smallest level that has at least
        `size` pixels along both sides of the window.

        Raises:
            UnreadableImage: a region cannot be read; the message names the image.
        """
        corners, sides = extents.corners.cpu(), extents.sides  # type: ignore[union-attr]
        rows = range(len(corners)) if rows is None else rows.tolist()
        if not uniform.CROP_MODES[mode].whole_pixels:  # one pixel more is read along each side
            start = corners.floor()
            around = [side + 1 for side in sides]
            parts = [
                self._part(row, own, around, 0) for row, own in zip(rows, start.long().tolist(), strict=True)
            ]
            within = Extents(corners - start, sides)
            values, covered = (
                None if found is None else resize(uniform.sample(found, within, None), size)
                for found in _stacked(parts)
            )
            return Views(values, covered, self.stored)
        each = sides.tolist() if isinstance(sides, Tensor) else [sides] * len(corners)
        parts = [
            _resized(self._window(row, corner, own, size), size)
            for row, corner, own in zip(rows, corners.tolist(), each, strict=True)
        ]
        return Views(*_stacked(parts), self.stored)

    def _window(self, row: int, corner: Sequence[int], sides: Sequence[int], size: int) -> Part:
        """One window, from the level that suits a view of `size` pixels."""
        image, whole = self.images[row], self.images[row].size
        for level in reversed(range(1, len(image))):
            scales = [own / side for own, side in zip(image.level_size(level), whole, strict=True)]
            if min(side * scale for side, scale in zip(sides, scales, strict=True)) >= size:
                start = [round(at * scale) for at, scale in zip(corner, scales, strict=True)]
                extent = [max(1, round(side * scale)) for side, scale in zip(sides, scales, strict=True)]
                return self._part(row, start, extent, level)
        return self._part(row, corner, sides, 0)

    def _part(self, row: int, start: Sequence[int], sides: Sequence[int], level: int) -> Part:
        """A window of one level: its pixels (C, h, w), and what is covered, (1, h, w) or None for all."""
        image = self.images[row]
        bounds = list(zip(start, sides, image.level_size(level), strict=True))
        low = [min(max(at, 0), whole) for at, _, whole in bounds]
        high = [min(max(at + side, 0), whole) for at, side, whole in bounds]
        try:
            found = image.read(level, *low, *high)
        except UnreadableImage as error:
            raise UnreadableImage(f"image {row} of {len(self)}: {error}") from error
        # A copy, because arrays of files may change or must not be written.
        kind = np.uint8 if found.dtype == np.uint8 else np.float32
        pixels = torch.from_numpy(found.astype(kind, order="C")).permute(2, 0, 1)
        if found.shape[:2] == tuple(sides):
            return pixels, None
        inside = tuple(slice(a - at, b - at) for a, b, at in zip(low, high, start, strict=True))
        placed, covered = pixels.new_zeros(self.channels, *sides), torch.zeros(1, *sides)
        placed[:, *inside], covered[:, *inside] = pixels, 1
        return placed, covered


def _resized(part: Part, size: int) -> Part:
    pixels, covered = (found if found is None else resize(found[None], size)[0] for found in part)
    return pixels, covered


def _stacked(parts: list[Part]) -> tuple[Tensor, Tensor | None]:
    """Join parts of one size to (N, C, h, w), and (N, 1, h, w) unless all parts are covered."""
    values, covered = zip(*parts, strict=True)
    if len({value.dtype for value in values}) > 1:  # some were copied, some were resized
        values = [value.float() for value in values]
    whole = torch.ones(1, *values[0].shape[1:])
    some = any(own is not None for own in covered)
    return torch.stack(values), torch.stack(
        [whole if own is None else own for own in covered]
    ) if some else None
