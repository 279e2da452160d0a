"""Random changes of training images, on batches of uint8; every image has its own."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

DISTORTIONS = ("shift", "rotate", "scale", "bend")
KNOTS = 4  # of the random displacement, along each side


def flip(images: Tensor) -> Tensor:
    """Mirror every other image, on average: (B, C, H, W) -> the same shape."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def crop_and_colour(images: Tensor, least: float = 1.0, colour: float = 0.0) -> Tensor:
    """Enlarge a random part of every photograph to the whole; change brightness, contrast and saturation.

    Args:
        images: (B, C, S, S) uint8.
        least: the smallest part, as a share of the area; 1 keeps the whole.
        colour: the most by which each of the three changes, as a share; hue stays.

    Returns:
        (B, C, S, S) uint8.
    """
    steps = []
    if least < 1:
        steps.append(v2.RandomResizedCrop(images.shape[-1], scale=(least, 1.0), antialias=True))
    if colour:
        steps.append(v2.ColorJitter(colour, colour, colour))
    if not steps:
        return images
    change = v2.Compose(steps)
    return torch.stack([change(image) for image in images])


def distort(
    images: Tensor, *, shift: float = 0, rotate: float = 0, scale: float = 0, bend: float = 0
) -> Tensor:
    """Move, turn, stretch and bend every image a little; what comes in from outside is zero.

    Args:
        images: (B, C, S, S) uint8.
        shift: the most that an image moves each way, in pixels.
        rotate: the most that it turns either way, in degrees.
        scale: the most that it grows or shrinks, height and width apart, as a share of its size.
        bend: standard deviation in pixels of a smooth random displacement (elastic distortion).

    Returns:
        (B, C, S, S) uint8, sampled bilinearly.
    """
    batch, side = len(images), images.shape[-1]

    def uniform(most: float, *shape: int) -> Tensor:
        return (torch.rand(batch, *shape, device=images.device) * 2 - 1) * most

    angle = uniform(math.radians(rotate))
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(batch, 2, 2)
    theta = torch.cat([turn * (1 + uniform(scale, 2, 1)), 2 * uniform(shift, 2, 1) / side], dim=2)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    if bend:
        knots = torch.randn(batch, 2, KNOTS, KNOTS, device=images.device) * (2 * bend / side)
        grid = grid + F.interpolate(knots, (side, side), mode="bicubic").permute(0, 2, 3, 1)
    return F.grid_sample(images.float(), grid, align_corners=False).round().to(torch.uint8)
