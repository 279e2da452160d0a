"""What the network looks at: the context view of an image, and the glimpses cut from it (section 3.2).

A location is a pair (y, x) in [-1, 1]^2: -1 puts the centre of the glimpse on the top or left edge of the
image, 0 on its middle, 1 on its bottom or right edge. Whatever lies outside the image reads as zero.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CONTEXTS = ("crop", "resize", "none")
CROP_MODES = ("exact", "bilinear")


def glimpse_corners(locations: Tensor, image_size: tuple[int, int], crop: int) -> Tensor:
    """The pixel at which each glimpse begins.

    Args:
        locations: (N, 2) floats in [-1, 1], (y, x).
        image_size: height and width of the images.
        crop: side of the glimpse in pixels.

    Returns:
        (N, 2) int64, (top, left); negative where the glimpse reaches over the top or left edge.
        Halves round up, so that the corners move evenly with the location.
    """
    half = torch.tensor(image_size, device=locations.device) / 2
    return torch.addcmul(half + (1 - crop) / 2, locations.float(), half).floor().long()


def crop_exact(images: Tensor, locations: Tensor, crop: int) -> Tensor:
    """Copy one glimpse out of each image, pixel for pixel, in one vectorised gather.

    Args:
        images: (N, C, H, W).
        locations: (N, 2) floats in [-1, 1], (y, x); they receive no gradient.
        crop: side of the glimpse in pixels.

    Returns:
        (N, C, crop, crop), differentiable in `images`.
    """
    channels, height, width = images.shape[1:]
    corners = glimpse_corners(locations, (height, width), crop)
    pixels = corners[:, :, None] + torch.arange(crop, device=images.device)  # (N, 2, crop): rows and columns
    nearest = pixels.clamp(min=0).minimum(torch.tensor([[height - 1], [width - 1]], device=images.device))
    (rows, cols), (row_inside, col_inside) = nearest.unbind(1), (pixels == nearest).unbind(1)
    index = (rows[:, :, None] * width + cols[:, None, :]).flatten(1)
    glimpses = images.flatten(2).gather(2, index[:, None].expand(-1, channels, -1))
    inside = row_inside[:, None, :, None] & col_inside[:, None, None, :]
    return torch.where(inside, glimpses.unflatten(2, (crop, crop)), 0)


def crop_bilinear(images: Tensor, locations: Tensor, crop: int) -> Tensor:
    """Sample one glimpse out of each image at sub-pixel positions; shapes as in `crop_exact`.

    Where a glimpse falls on whole pixels the result is that of `crop_exact`. Differentiable in `images`
    and in `locations`.
    """
    height, width = images.shape[2:]
    size = torch.tensor([height, width], device=images.device, dtype=images.dtype)
    # A glimpse at location l spans pixels (l + 1) / 2 * size +- crop / 2; pixel centres sit at half integers.
    offsets = (torch.arange(crop, device=images.device, dtype=images.dtype) + 0.5) * 2 - crop
    y = locations[:, :1].to(images.dtype) + offsets / size[0]
    x = locations[:, 1:].to(images.dtype) + offsets / size[1]
    grid = torch.stack([x[:, None, :].expand(-1, crop, -1), y[:, :, None].expand(-1, -1, crop)], dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def resize(images: Tensor, size: int) -> Tensor:
    """(N, C, H, W) -> (N, C, size, size), bilinear with antialiasing; the same tensor when it fits."""
    if tuple(images.shape[2:]) == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)


def glimpses(images: Tensor, locations: Tensor, crop: int, size: int, mode: str = "exact") -> Tensor:
    """What the network sees at `locations`: `crop` pixels around each, resized to `size` when that differs.

    Args:
        images: (N, C, H, W).
        locations: (N, 2) floats in [-1, 1], (y, x).
        crop: side of the glimpse in image pixels.
        size: side of the glimpse as the encoder sees it.
        mode: "exact" or "bilinear".

    Returns:
        (N, C, size, size).
    """
    cut = crop_exact if mode == "exact" else crop_bilinear
    return resize(cut(images, locations, crop), size)


def retina(
    images: Tensor, locations: Tensor, crop: int, size: int, scales: int, mode: str = "exact"
) -> Tensor:
    """Glimpses of growing width around the same place, the wider the coarser: the retina of the original RAM.

    Args:
        images, locations, size, mode: as in `glimpses`.
        crop: side of the narrowest glimpse in image pixels; each further one is twice as wide.
        scales: how many.

    Returns:
        (N, scales * C, size, size), the narrowest first.
    """
    widths = [crop * 2**k for k in range(scales)]
    return torch.cat([glimpses(images, locations, width, size, mode) for width in widths], dim=1)


def context_view(images: Tensor, context: str, size: int) -> Tensor:
    """The first look at each image.

    Args:
        images: (N, C, H, W).
        context: "crop" takes the central `size` pixels at full resolution (section 4.2: 448 of 512);
            "resize" takes the whole image, brought to `size`.
        size: side of the view in pixels.

    Returns:
        (N, C, size, size).
    """
    if context == "resize":
        return resize(images, size)
    height, width = images.shape[2:]
    top, left = (height - size) // 2, (width - size) // 2
    return images[:, :, top : top + size, left : left + size]
