"""A pyramid: one image as levels of ever lower resolution, read by region.

A level is anything that has a shape and can be sliced like an array: an array in memory or mapped from a
file, a level of a TIFF, a zarr or HDF5 data set. A context view is cut from a small level and a glimpse from
the largest, so that neither costs more where the image is larger.
"""

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from ..checks import short

MOST_PIXELS = 2**20  # of an image that needs no levels
LEAST_SIDE = 256  # the longer side of the smallest level, in pixels
BAND_BYTES = 64e6  # read at a time while levels are made
IN_MEMORY_BYTES = 256e6  # the largest level that is kept in memory while levels are made
SHOWN_SIDE = 1024  # the longer side of an image in a picture, in pixels
KINDS = "uf"  # unsigned integers and floats, in numpy's letters


class UnreadableImage(ValueError):
    """There is no image in a file, or a part of it cannot be read. The message is the reason, one line."""


class Pyramid:
    """One image as levels of ever lower resolution.

    Args:
        levels: the image (H, W, C) or (H, W), of unsigned integers or floats, and smaller copies of it, the
            largest first. If the smallest has more than MOST_PIXELS, further levels are made, each by the
            mean over areas of 2 x 2 pixels of the one before.

    Raises:
        ValueError: no levels, another shape or dtype, or levels that do not shrink.
        UnreadableImage: a level cannot be read.
    """

    def __init__(self, levels: Sequence[Any]):
        self.levels = list(levels)
        _check_levels(self.levels)
        for _ in sizes_of_levels(self.levels[-1].shape[:2])[1:]:
            self.levels.append(halve(self.levels[-1]))
        self.size = tuple(int(side) for side in self.levels[0].shape[:2])
        self.channels = int(self.levels[0].shape[2]) if len(self.levels[0].shape) == 3 else 1
        self.dtype = np.dtype(self.levels[0].dtype)

    def __len__(self) -> int:
        """The number of levels."""
        return len(self.levels)

    def level_size(self, level: int) -> tuple[int, int]:
        """Height and width of a level in its own pixels."""
        height, width = self.levels[level].shape[:2]
        return int(height), int(width)

    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """Read a region (h, w, C) of a level, which it does not leave.

        Raises:
            UnreadableImage: the region cannot be read, or holds NaN or infinity.
        """
        found = read_region(self.levels[level], top, left, bottom, right)
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise UnreadableImage("it holds NaN or infinity")
        return found


def sizes_of_levels(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Heights and widths of an image and of the levels that it gets; none if it has at most MOST_PIXELS."""
    sizes = [(int(size[0]), int(size[1]))]
    if sizes[0][0] * sizes[0][1] > MOST_PIXELS:
        while max(sizes[-1]) > LEAST_SIDE:
            height, width = sizes[-1]
            sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def read_region(level: Any, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """Slice a region (h, w, C) out of an array-like (H, W, C) or (H, W).

    Raises:
        UnreadableImage: for any error of the array, or a region of another shape.
    """
    try:
        found = np.asarray(level[top:bottom, left:right])
    except Exception as error:  # arrays on disk raise errors of nearly every kind
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UnreadableImage(f"rows {top} to {bottom} cannot be read ({reason})") from error
    if found.shape[:2] != (bottom - top, right - left):
        raise UnreadableImage(f"rows {top} to {bottom} have shape {found.shape}")
    return found if found.ndim == 3 else found[:, :, None]


def halve(level: Any) -> np.ndarray:
    """The mean over areas of 2 x 2 pixels of an array-like (H, W, C) or (H, W), read once from top to bottom.

    Integers are rounded, halves up. At an odd edge the mean is that of the pixels that are there. A result
    that is too large for the memory is mapped from a temporary file.

    Returns:
        (ceil(H / 2), ceil(W / 2), C).
    """
    height, width = level.shape[:2]
    channels = level.shape[2] if len(level.shape) == 3 else 1
    shape, dtype = ((height + 1) // 2, (width + 1) // 2, channels), np.dtype(level.dtype)
    if np.prod(shape, dtype=float) * dtype.itemsize > IN_MEMORY_BYTES:
        with tempfile.TemporaryFile() as file:  # the map lives on when its file is closed
            half = np.memmap(file, dtype, "w+", shape=shape)
    else:
        half = np.empty(shape, dtype)
    rows = max(1, int(BAND_BYTES / (width * channels * dtype.itemsize)) // 512) * 512
    for top in range(0, height, rows):
        band = read_region(level, top, 0, min(top + rows, height), width)
        half[top // 2 : (top + len(band) + 1) // 2] = _mean_of_fours(band)
    return half


def _mean_of_fours(band: np.ndarray) -> np.ndarray:
    """The mean over areas of 2 x 2 pixels of (h, w, C)."""
    height, width = band.shape[:2]
    if height % 2 or width % 2:
        band = np.pad(band, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    whole = band.dtype.kind == "u"
    wide = np.uint16 if band.dtype == np.uint8 else np.uint64 if whole else band.dtype
    total = np.add(band[0::2], band[1::2], dtype=wide)
    total = total[:, 0::2] + total[:, 1::2]
    return (total + 2) >> 2 if whole else total / 4


def _pixels(level: Any) -> int:
    return int(level.shape[0]) * int(level.shape[1])


def _check_levels(levels: list) -> None:
    """ValueError unless the levels are one image in ever lower resolution."""
    if not levels:
        raise ValueError("levels=[] holds no level; accepted is at least the image itself.")
    for level in levels:
        if not hasattr(level, "shape") or not hasattr(level, "dtype"):
            raise ValueError(f"an image is {short(level)}; accepted is an array (height, width, channels).")
        shape, dtype = tuple(level.shape), level.dtype
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"an image has shape {shape}; accepted is (height, width, channels).")
        if np.dtype(dtype).kind not in KINDS:
            raise ValueError(
                f"an image has dtype {short(dtype)}; accepted are unsigned integers, and floats with levels."
            )
    for above, below in pairwise(levels):
        same = above.shape[2:] == below.shape[2:] and above.dtype == below.dtype
        if not same or _pixels(below) >= _pixels(above):
            raise ValueError(
                f"levels of shapes {above.shape} and {below.shape}, of {above.dtype} and {below.dtype}, "
                "are not one image in ever lower resolution."
            )


def small_copy(image: Pyramid, side: int) -> np.ndarray:
    """The smallest level (h, w, C) whose longer side has `side` pixels, or the image if it is smaller."""
    number = max((n for n in range(len(image)) if max(image.level_size(n)) >= side), default=0)
    return image.read(number, 0, 0, *image.level_size(number))


def as_pyramid(image: Any) -> Any:
    """A pyramid of what users have: a tensor (C, H, W), an array-like (H, W, C) or (H, W), or one as it is.

    Raises:
        ValueError: as in `Pyramid`.
    """
    if isinstance(image, torch.Tensor):
        if image.ndim != 3:
            raise ValueError(
                f"an image has shape {tuple(image.shape)}; accepted is (channels, height, width)."
            )
        pixels = image.detach().cpu()
        pixels = pixels.float() if pixels.is_floating_point() else pixels
        return Pyramid([pixels.permute(1, 2, 0).numpy()])
    return image if hasattr(image, "read") and hasattr(image, "level_size") else Pyramid([image])
