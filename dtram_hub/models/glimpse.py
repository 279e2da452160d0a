"""Where views lie (section 3.2): windows of contexts and glimpses, and the cells of a feature map.

A location is a pair (y, x) in [-1, 1]^2, the centre of a glimpse. -1 is the top or left edge of the image,
0 its middle, 1 its bottom or right edge. What lies outside of the image is zero, after normalisation.

The images of a batch are a tensor (B, C, H, W), or a `Ragged` of images of different sizes. `Sizes` are
their heights and widths: one pair of ints, or (B, 2) int64.
"""

import torch
from torch import Tensor

from ..images import uniform
from ..images.extents import Extents
from ..images.ragged import Ragged
from ..images.views import Normalise

Images = Tensor | Ragged
Sizes = tuple[int, int] | Tensor
# The first look by the keyword `context`, in words.
CONTEXTS = {
    "crop": "the middle of the image",
    "resize": "the whole image",
    "fit": "the whole image",
    "none": "a glimpse",
}


def sizes_of(images: Images, rows: Tensor | None = None) -> Sizes:
    """Height and width of all images, or of each, or of the image of each of `rows` (N,)."""
    if isinstance(images, Tensor):
        height, width = images.shape[2:]
        return height, width
    return images.sizes if rows is None else images.sizes[rows.cpu()]


def context_extents(sizes: Sizes, context: str, size: int) -> Extents:
    """The windows of the first look.

    Args:
        sizes: height and width of the images.
        context: "crop" for the central `size` pixels (section 4.2: 448 of 512), "resize" for the whole image,
            "fit" for the square around the whole image, which keeps its aspect.
        size: side of a cropped context in pixels.
    """
    if isinstance(sizes, Tensor):
        each = [context_extents(tuple(own), context, size) for own in sizes.tolist()]
        return Extents(
            *(torch.tensor(column) for column in zip(*((e.corners, e.sides) for e in each), strict=True))
        )
    height, width = sizes
    if context == "resize":
        return Extents((0, 0), (height, width))
    side = max(height, width) if context == "fit" else size
    return Extents(((height - side) // 2, (width - side) // 2), (side, side))


def glimpse_extents(sizes: Sizes, locations: Tensor, crop: int, mode: str = "exact") -> Extents:
    """The windows of `crop` pixels around locations.

    Args:
        sizes: height and width of the images, or (N, 2), of the image of each location.
        locations: (N, 2) floats in [-1, 1], (y, x).
        crop: side of the windows in pixels.
        mode: a key of `uniform.CROP_MODES`. One of whole pixels rounds each corner, halves always up: equal
            steps of the location then move the window equally.
    """
    half = torch.as_tensor(sizes, device=locations.device) / 2
    if uniform.CROP_MODES[mode].whole_pixels:
        corners = torch.addcmul(half + (1 - crop) / 2, locations.float(), half).floor().long()
    else:
        corners = torch.addcmul((half - crop / 2).to(locations), locations, half.to(locations))
    return Extents(corners, (crop, crop))


def cell_centres(extents: Extents, sizes: Sizes, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The locations of the L cells of a feature map of the context view.

    Args:
        extents: the windows of the context view.
        sizes: height and width of the images.
        grid: rows and columns of the feature map.

    Returns:
        Centres (1 or B, L, 2), row by row, of the parts of cells that lie in the image; and (1 or B, L) bool,
        False for cells that lie outside of it.
    """
    corners, sides, whole = (
        torch.as_tensor(given).view(-1, 2, 1) for given in (extents.corners, extents.sides, sizes)
    )
    along = [
        _cells_along(corners[:, axis], sides[:, axis], whole[:, axis], count)
        for axis, count in enumerate(grid)
    ]
    (rows, rows_seen), (columns, columns_seen) = along
    rows, columns = rows[:, :, None].expand(-1, -1, grid[1]), columns[:, None].expand(-1, grid[0], -1)
    seen = rows_seen[:, :, None] & columns_seen[:, None]
    return torch.stack([rows, columns], dim=-1).flatten(1, 2), seen.flatten(1)


def _cells_along(corner: Tensor, side: Tensor, whole: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Centres of cells along one axis, as locations, and whether they lie in the image, (1 or B, count)."""
    cells = torch.arange(count)
    start, end = corner + cells * side / count, corner + (cells + 1) * side / count
    low, high = start.clamp(min=0), end.minimum(whole.to(end))
    centres = torch.where(
        (start < low) | (end > high), (low + high) / 2, corner + (cells + 0.5) * side / count
    )
    return centres / whole * 2 - 1, high > low


def reach_of(crop: int, sizes: Sizes) -> Tensor:
    """Half the sides of a glimpse of `crop` pixels, as a location: (1 or B, 1, 2)."""
    return (crop / torch.as_tensor(sizes)).view(-1, 1, 2)


def covers(locations: Tensor, centres: Tensor, reach: Tensor | float) -> Tensor:
    """Whether a glimpse at `locations` (N, 2) covers each of `centres` (N, L, 2), as (N, L) bool.

    `reach` is half the side of a glimpse, as a location, or (N, 1, 2) of `reach_of`.
    """
    return ((centres - locations[:, None].to(centres.dtype)).abs() <= reach).all(-1)


def views(
    images: Images,
    extents: Extents,
    size: int,
    mode: str = "exact",
    rows: Tensor | None = None,
    normalise: Normalise | None = None,
) -> Tensor:
    """Cut N windows out of images and resize them to `size`: one resample of the stored pixels.

    Args:
        images: floats that are normalised, stored pixels, or images of different sizes.
        extents: the windows.
        size: side of the views in pixels.
        mode: a key of `uniform.CROP_MODES`.
        rows: (N,) int64, the image of each window; None where N = B and window i lies in image i.
        normalise: for stored pixels.

    Returns:
        (N, C, size, size) floats, differentiable in images that are floats.
    """
    if isinstance(images, Tensor):
        cut = uniform.cut(images, extents, size, mode, rows)
        return cut.values if images.is_floating_point() else normalise.views(cut)
    cut = images.cut(extents, size, mode, rows)
    return cut.values.to(normalise.mean.device) if images.normalised else normalise.views(cut)


def retina(
    images: Images,
    locations: Tensor,
    crop: int,
    size: int,
    scales: int = 1,
    mode: str = "exact",
    rows: Tensor | None = None,
    normalise: Normalise | None = None,
) -> Tensor:
    """Stack glimpses of growing width around one location, the retina of the original RAM (Mnih et al. 2014).

    Args:
        images, size, mode, rows, normalise: as in `views`.
        locations: (N, 2) floats in [-1, 1], (y, x).
        crop: side of the narrowest glimpse in image pixels; each next one is twice as wide.
        scales: the number of glimpses.

    Returns:
        (N, scales * C, size, size), the narrowest glimpse first.
    """
    sizes = sizes_of(images, rows)
    if isinstance(sizes, Tensor):  # regions are read on the CPU
        locations, rows = locations.cpu(), None if rows is None else rows.cpu()
    windows = [glimpse_extents(sizes, locations, crop * 2**k, mode) for k in range(scales)]
    found = [views(images, window, size, mode, rows, normalise) for window in windows]
    return found[0] if scales == 1 else torch.cat(found, dim=1)
