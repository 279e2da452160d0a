"""Views: windows of an image, resized for the encoder (section 3.2).

A location is a pair (y, x) in [-1, 1]^2, the centre of a glimpse. -1 is the top or left edge of the image,
0 its middle, 1 its bottom or right edge. Pixels outside of the image are zero.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CONTEXTS = ("crop", "resize", "none")


@dataclass(frozen=True)
class Extents:
    """N windows of one height and width.

    corners: (N, 2) (top, left) of each window in pixels, int64 for whole pixels, else float; or one pair of
        ints for all images. A window may reach over the edges of its image.
    height, width: the sides of every window in pixels.
    """

    corners: Tensor | tuple[int, int]
    height: int
    width: int


def context_extents(image_size: tuple[int, int], context: str, size: int) -> Extents:
    """The window of the first look, the same in every image.

    Args:
        image_size: height and width of the images.
        context: "crop" for the central `size` pixels (section 4.2: 448 of 512), "resize" for the whole image.
        size: side of a cropped context in pixels.
    """
    height, width = image_size
    if context == "resize":
        return Extents((0, 0), height, width)
    return Extents(((height - size) // 2, (width - size) // 2), size, size)


def glimpse_extents(
    image_size: tuple[int, int], locations: Tensor, crop: int, mode: str = "exact"
) -> Extents:
    """The windows of `crop` pixels around locations.

    Args:
        image_size: height and width of the images.
        locations: (N, 2) floats in [-1, 1], (y, x).
        crop: side of the windows in pixels.
        mode: "exact" rounds each corner to whole pixels, halves always up: equal steps of the location then
            move the window equally. "bilinear" does not round.
    """
    half = torch.tensor(image_size, device=locations.device) / 2
    if mode == "exact":
        corners = torch.addcmul(half + (1 - crop) / 2, locations.float(), half).floor().long()
    else:
        corners = torch.addcmul((half - crop / 2).to(locations), locations, half.to(locations))
    return Extents(corners, crop, crop)


def cell_centres(
    extents: Extents, image_size: tuple[int, int], grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The locations of the L cells of a feature map of the context view.

    Args:
        extents: the window of the context view.
        image_size: height and width of the image.
        grid: rows and columns of the feature map.

    Returns:
        Centres (L, 2), row by row, and (L,) bool, False for centres outside of the image.
    """
    centres = [
        (corner + (torch.arange(count) + 0.5) * side / count) / whole * 2 - 1
        for corner, side, whole, count in zip(
            extents.corners, (extents.height, extents.width), image_size, grid, strict=True
        )
    ]
    centres = torch.cartesian_prod(*centres)
    return centres, (centres.abs() <= 1).all(-1)


def covers(locations: Tensor, centres: Tensor, reach: float) -> Tensor:
    """Whether a glimpse at `locations` (N, 2) covers each of `centres` (N, L, 2), as (N, L) bool.

    `reach` is half the side of a glimpse, as a location.
    """
    return ((centres - locations[:, None].to(centres.dtype)).abs() <= reach).all(-1)


def views(
    images: Tensor, extents: Extents, size: int, mode: str = "exact", rows: Tensor | None = None
) -> Tensor:
    """Cut N windows out of images and resize them to `size`.

    Args:
        images: (B, C, H, W) floats, normalised.
        extents: the windows.
        size: side of the views in pixels.
        mode: "exact" copies whole pixels. "bilinear" interpolates between pixels and has gradients to the
            corners.
        rows: (N,) int64, the image of each window; None where N = B and window i lies in image i.

    Returns:
        (N, C, size, size), differentiable in `images`.
    """
    if not isinstance(extents.corners, Tensor):
        cut = _slice(images if rows is None else images[rows], extents)
    else:
        cut = CROP_MODES[mode](images, extents, rows)
    return resize(cut, size)


def retina(
    images: Tensor,
    locations: Tensor,
    crop: int,
    size: int,
    scales: int = 1,
    mode: str = "exact",
    rows: Tensor | None = None,
) -> Tensor:
    """Stack glimpses of growing width around one location, the retina of the original RAM (Mnih et al. 2014).

    Args:
        images, size, mode, rows: as in `views`.
        locations: (N, 2) floats in [-1, 1], (y, x).
        crop: side of the narrowest glimpse in image pixels; each next one is twice as wide.
        scales: the number of glimpses.

    Returns:
        (N, scales * C, size, size), the narrowest glimpse first.
    """
    windows = [glimpse_extents(tuple(images.shape[2:]), locations, crop * 2**k, mode) for k in range(scales)]
    found = [views(images, window, size, mode, rows) for window in windows]
    return found[0] if scales == 1 else torch.cat(found, dim=1)


def resize(images: Tensor, size: int) -> Tensor:
    """Resize (N, C, H, W) to (N, C, size, size), bilinear with antialiasing; without a copy if they fit."""
    if tuple(images.shape[2:]) == (size, size):
        return images
    whole = _on_cpu_whole(images)
    resized = F.interpolate(whole, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return resized.to(images.dtype)


def _on_cpu_whole(images: Tensor) -> Tensor:
    """In single precision, if they are in half of it on a CPU, for which torch lacks these operations."""
    is_half = images.dtype in (torch.float16, torch.bfloat16)
    return images.float() if is_half and images.device.type == "cpu" else images


def _slice(images: Tensor, extents: Extents) -> Tensor:
    """Slice one window, which lies inside of the images, out of all of them."""
    top, left = extents.corners
    return images[:, :, top : top + extents.height, left : left + extents.width]


def _copy(images: Tensor, extents: Extents, rows: Tensor | None) -> Tensor:
    """Copy windows pixel for pixel, in one vectorised gather."""
    channels, height, width = images.shape[1:]
    span = torch.arange(extents.height, device=images.device)
    pixels = extents.corners[:, :, None] + span  # (N, 2, side): rows and columns
    nearest = pixels.clamp(min=0).minimum(torch.tensor([[height - 1], [width - 1]], device=images.device))
    (y, x), (y_inside, x_inside) = nearest.unbind(1), (pixels == nearest).unbind(1)
    index = (y[:, :, None] * width + x[:, None, :]).flatten(1)
    if rows is None:
        found = images.flatten(2).gather(2, index[:, None].expand(-1, channels, -1))
    else:  # `take` reads the windows of each row without a copy of its image
        planes = rows[:, None] * channels + torch.arange(channels, device=images.device)
        found = images.take(planes[:, :, None] * (height * width) + index[:, None])
    inside = y_inside[:, None, :, None] & x_inside[:, None, None, :]
    return torch.where(inside, found.unflatten(2, (extents.height, extents.width)), 0)


def _sample(images: Tensor, extents: Extents, rows: Tensor | None) -> Tensor:
    """Interpolate windows at sub-pixel positions; equal to `_copy` for corners on whole pixels."""
    images = images if rows is None else images[rows]
    sides = (extents.height, extents.width)
    # Pixel centres lie at half integers.
    y, x = (
        (extents.corners[:, axis : axis + 1] + torch.arange(side, device=images.device) + 0.5)
        / images.shape[2 + axis]
        * 2
        - 1
        for axis, side in enumerate(sides)
    )
    grid = torch.stack(
        [x[:, None, :].expand(-1, sides[0], -1), y[:, :, None].expand(-1, -1, sides[1])], dim=-1
    )
    whole = _on_cpu_whole(images)
    sampled = F.grid_sample(
        whole, grid.to(whole.dtype), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled.to(images.dtype)


CROP_MODES = {"exact": _copy, "bilinear": _sample}
