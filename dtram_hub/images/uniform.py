"""Views of images of one size, which are one tensor."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .extents import Extents
from .resize import in_floats, resize
from .views import Views


def cut(
    images: Tensor, extents: Extents, size: int, mode: str = "exact", rows: Tensor | None = None
) -> Views:
    """Cut N windows out of images and resize them to `size`.

    Args:
        images: (B, C, H, W), of any dtype.
        extents: the windows, all with the same sides.
        size: side of the views in pixels.
        mode: a key of CROP_MODES.
        rows: (N,) int64, the image of each window; None where N = B and window i lies in image i.

    Returns:
        Values (N, C, size, size), differentiable in `images`. Integers that are copied keep their dtype.
    """
    if isinstance(extents.corners, Tensor):
        crop, inside = CROP_MODES[mode].crop, False
    else:
        crop, inside = _slice, _lies_inside(images, extents)
    covered = None
    # The outside of normalised images is zero, so these need no coverage.
    if not images.is_floating_point() and not inside:
        ones = images.new_ones(1, 1, 1, 1).expand(len(images), 1, *images.shape[2:])
        covered = resize(crop(ones, extents, rows), size)
    return Views(resize(crop(images, extents, rows), size), covered, images.dtype)


def _lies_inside(images: Tensor, extents: Extents) -> bool:
    """Whether one window lies inside of the images."""
    corners, sides = extents.corners, extents.sides
    return all(
        corner >= 0 and corner + side <= whole
        for corner, side, whole in zip(corners, sides, images.shape[2:], strict=True)
    )


def _slice(images: Tensor, extents: Extents, rows: Tensor | None) -> Tensor:
    """Slice one window out of all images; without a copy if it lies inside of them."""
    (top, left), (height, width) = extents.corners, extents.sides
    if _lies_inside(images, extents):
        window = images[:, :, top : top + height, left : left + width]
        return window if rows is None else window[rows]
    images = images if rows is None else images[rows]
    down, across = images.shape[2:]
    return F.pad(images, (-left, left + width - across, -top, top + height - down))


def copy(images: Tensor, extents: Extents, rows: Tensor | None) -> Tensor:
    """Copy windows pixel for pixel, in one vectorised gather."""
    channels, height, width = images.shape[1:]
    span = torch.arange(extents.sides[0], device=images.device)  # type: ignore[arg-type]
    pixels = torch.as_tensor(extents.corners)[:, :, None] + span  # (N, 2, side): rows and columns
    nearest = pixels.clamp(min=0).minimum(torch.tensor([[height - 1], [width - 1]], device=images.device))
    (y, x), (y_inside, x_inside) = nearest.unbind(1), (pixels == nearest).unbind(1)
    index = (y[:, :, None] * width + x[:, None, :]).flatten(1)
    if rows is None:
        found = images.flatten(2).gather(2, index[:, None].expand(-1, channels, -1))
    else:  # `take` reads the windows of each row without a copy of its image
        planes = rows[:, None] * channels + torch.arange(channels, device=images.device)
        found = images.take(planes[:, :, None] * (height * width) + index[:, None])
    inside = y_inside[:, None, :, None] & x_inside[:, None, None, :]
    return torch.where(inside, found.unflatten(2, extents.sides), 0)


def sample(images: Tensor, extents: Extents, rows: Tensor | None) -> Tensor:
    """Interpolate windows at sub-pixel positions; equal to `copy` for corners on whole pixels."""
    images, corners = images if rows is None else images[rows], torch.as_tensor(extents.corners)
    # Pixel centres lie at half integers.
    y, x = (
        (corners[:, axis : axis + 1] + torch.arange(side, device=images.device) + 0.5)
        / images.shape[2 + axis]
        * 2
        - 1
        for axis, side in enumerate(extents.sides)
    )
    height, width = extents.sides
    grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=-1)
    whole = in_floats(images)
    sampled = F.grid_sample(
        whole, grid.to(whole.dtype), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled.to(images.dtype) if images.is_floating_point() else sampled


@dataclass(frozen=True)
class CropMode:
    """How windows with corners of their own are cut.

    crop: a function of images (B, C, H, W), of N windows and of the image of each.
    whole_pixels: whether corners are ints.
    """

    crop: Callable[[Tensor, Extents, Tensor | None], Tensor]
    whole_pixels: bool


# "exact" copies whole pixels. "bilinear" interpolates between pixels, and has gradients to the corners.
CROP_MODES = {"exact": CropMode(copy, whole_pixels=True), "bilinear": CropMode(sample, whole_pixels=False)}
