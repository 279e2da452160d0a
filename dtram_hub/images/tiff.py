"""TIFF files that are read by region, so that an image may be larger than the memory.

tifffile finds the levels of pyramids by any of the customs that microscopes and scanners have, and zarr
slices them; both are plain wheels on every platform. They come with `pip install 'dtram-hub[large]'`.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .pyramid import MOST_PIXELS, Pyramid, UnreadableImage

logger = logging.getLogger(__name__)
MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the first bytes of TIFF and of BigTIFF
AXES = ("YX", "YXS")
LARGEST_CHUNK = 2**28  # bytes of a tile or a strip, decoded
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # as in Pillow's conversion to grey


@dataclass(frozen=True)
class Converted:
    """A level (H, W) or (H, W, 1, 3 or 4) with one or three channels, converted when it is sliced."""

    level: Any
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return *self.level.shape[:2], self.channels

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.level.dtype)

    def __getitem__(self, where: tuple[slice, slice]) -> np.ndarray:
        found = np.asarray(self.level[where])
        found = found[:, :, None] if found.ndim == 2 else found[:, :, :3]  # without transparency
        if found.shape[2] == self.channels:
            return found
        if self.channels == 3:
            return found.repeat(3, 2)
        grey = found @ LUMA
        return (grey.round() if self.dtype.kind == "u" else grey).astype(self.dtype)[:, :, None]


def is_tiff(path: Path) -> bool:
    """Whether there is a regular file that begins as a TIFF does; others might never end to be read."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(4) in MARKS
    except OSError:
        return False


def open_tiff(path: Path, in_chans: int, most_pixels: int) -> Pyramid | None:
    """Open a large TIFF by region; None for one that is small, or that cannot be read by region.

    Args:
        path: a TIFF.
        in_chans: 1 for grey, 3 for RGB.
        most_pixels: of an image without smaller levels, which has to be read as a whole once.

    Raises:
        ImportError: tifffile or zarr is not installed.
        UnreadableImage: a damaged file, one of other axes, or one of too many pixels without levels.
    """
    import tifffile
    import zarr

    try:
        file = tifffile.TiffFile(path)
        series = file.series[0]
        pages = [level.keyframe for level in series.levels]
        height, width = series.sizes["height"], series.sizes["width"]
        kind = tifffile.PHOTOMETRIC(pages[0].photometric).name
    except Exception as error:  # of nearly every kind, as for other decoders
        raise UnreadableImage(f"it is a damaged TIFF ({type(error).__name__})") from error
    by_region = pages[0].is_tiled or len(pages) > 1 or height * width > most_pixels
    if height * width <= MOST_PIXELS or not by_region:
        file.close()
        return None
    if series.axes not in AXES or kind in ("PALETTE", "MINISWHITE"):
        raise UnreadableImage(f"it is a TIFF of kind {kind} with axes {series.axes!r}, neither grey nor RGB")
    for page in pages:
        if np.prod(page.chunks, dtype=float) * page.dtype.itemsize > LARGEST_CHUNK:
            raise UnreadableImage(f"its tiles of {page.chunks} are larger than {LARGEST_CHUNK:,} bytes")
    stores = [series.aszarr(level=level) for level in range(len(pages))]
    levels = [Converted(zarr.open_array(store, mode="r"), in_chans) for store in stores]
    smallest = levels[-1].shape[0] * levels[-1].shape[1]
    if smallest > most_pixels:
        raise UnreadableImage(
            f"it has {smallest:,} pixels and no smaller levels, more than {most_pixels:,}; "
            "--max-pixels allows them"
        )
    if smallest > MOST_PIXELS:
        logger.warning(
            "%s has no small level; one is made, which reads %s pixels once.", path, f"{smallest:,}"
        )
    return Pyramid(levels)
