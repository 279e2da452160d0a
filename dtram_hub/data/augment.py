"""Augmentation: random changes of training images, as pure functions.

Every image has a row of uniform random numbers in [0, 1), its *draws*. The same draws give the same image in
any batch and process. A new augmentation is a function of (images, setting, draws), one line of AUGMENTATIONS
and one field of `Augmentation` for its setting. Images of different sizes are not copied: the functions of
REGIONS change what is read of them.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from ..checks import check_choice, check_number
from ..images.ragged import Ragged
from ..images.region import Region
from .timm_augment import SEEDS, check_rand_augment, erase, rand_augment

DISTORTIONS = ("shift", "rotate", "scale", "bend")
KNOTS = 4  # of the random displacement, along each side
TRIES = 10  # boxes that `crop_boxes` tries before it takes the whole image
ASPECTS = (3 / 4, 4 / 3)  # range of width / height of a box, as in torchvision and timm
COLOUR_ORDERS = list(itertools.permutations((tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)))


def flip(images: Tensor, wanted: bool, draws: Tensor) -> Tensor:
    """Mirror each image with probability 1/2.

    Args:
        images: (B, C, H, W).
        wanted: False changes nothing.
        draws: (B, 1).

    Returns:
        Images of the same shape and dtype.
    """
    if not wanted:
        return images
    mirrored = (draws[:, 0] < 0.5).tolist()
    return torch.stack([image.flip(2) if own else image for image, own in zip(images, mirrored, strict=True)])


def turn(images: Tensor, wanted: bool, draws: Tensor) -> Tensor:
    """Rotate each image by 0, 90, 180 or 270 degrees, which are equally probable.

    Args:
        images: (B, C, S, S).
        wanted: False changes nothing.
        draws: (B, 1).

    Returns:
        Images of the same shape and dtype.
    """
    if not wanted:
        return images
    quarters = (draws[:, 0] * 4).long().tolist()
    return torch.stack([image.rot90(own, (1, 2)) for image, own in zip(images, quarters, strict=True)])


def crop(images: Tensor, least: float, draws: Tensor) -> Tensor:
    """Enlarge a random box of every image to the whole image ("random resized crop").

    Args:
        images: (B, C, S, S) uint8.
        least: the smallest box, as a share of the image's area, in (0, 1].
        draws: (B, 2 * TRIES + 2).

    Returns:
        (B, C, S, S) uint8, resized bilinearly with antialiasing.
    """
    side = images.shape[-1]
    boxes = crop_boxes(least, (side, side), draws).tolist()
    return torch.stack(
        [
            tv.resized_crop(image, *box, [side, side], antialias=True)
            for image, box in zip(images, boxes, strict=True)
        ]
    )


def crop_boxes(least: float, size: Sequence[int], draws: Tensor) -> Tensor:
    """The boxes that `crop` enlarges: area uniform in [least, 1], aspect log-uniform in ASPECTS.

    The aspect is relative to that of the image, so that boxes of a long image are long. The first of TRIES
    boxes that fits into the image is taken, or the whole image if none fits.

    Args:
        least, draws: as in `crop`.
        size: height and width of the images.

    Returns:
        (B, 4) int64: top, left, height, width in pixels.
    """
    areas, aspects = draws[:, :TRIES], draws[:, TRIES : 2 * TRIES]
    height, width = size
    areas = (least + (1 - least) * areas) * (height * width)
    low, high = (math.log(aspect) for aspect in ASPECTS)
    aspects = (low + (high - low) * aspects).exp()
    aspects = aspects * (width / height)
    widths, heights = (areas * aspects).sqrt().round(), (areas / aspects).sqrt().round()
    sizes, whole = (
        torch.stack([heights, widths], dim=2).clamp(min=1),
        torch.tensor([float(height), float(width)]),
    )
    fits = (sizes <= whole).all(2)
    first = fits.int().argmax(1)  # argmax returns the first of equal values
    sizes = torch.where(fits.any(1)[:, None], sizes[torch.arange(len(draws)), first], whole)
    corners = (draws[:, 2 * TRIES :] * (whole - sizes + 1)).floor()
    return torch.cat([corners, sizes], dim=1).long()


def colour(images: Tensor, most: float, draws: Tensor) -> Tensor:
    """Multiply brightness, contrast and saturation of every image, in a random order, by random factors.

    Args:
        images: (B, C, S, S) uint8.
        most: each factor is uniform in [1 - most, 1 + most]; in [0, 1].
        draws: (B, 4): one for each factor, one for the order.

    Returns:
        (B, C, S, S) uint8.
    """
    factors = (1 + most * (2 * draws[:, :3] - 1)).tolist()
    orders = (draws[:, 3] * len(COLOUR_ORDERS)).long().tolist()
    changed = []
    for image, own, order in zip(images, factors, orders, strict=True):
        for adjust, factor in zip(COLOUR_ORDERS[order], own, strict=True):
            image = adjust(image, factor)
        changed.append(image)
    return torch.stack(changed)


def distort(images: Tensor, most: dict[str, float], draws: Tensor) -> Tensor:
    """Shift, rotate, scale and bend every image. Pixels outside of the image are zero.

    Args:
        images: (B, C, S, S) uint8.
        most: the largest "shift" in pixels along each axis, the largest "rotate" in degrees, the largest
            "scale" of height and of width as a share of the side, and "bend", the standard deviation in
            pixels of a smooth random displacement (elastic distortion). A missing key is 0.
        draws: (B, 5 + 2 * KNOTS**2).

    Returns:
        (B, C, S, S) uint8, sampled bilinearly.
    """
    batch, side = len(images), images.shape[-1]
    shift, rotate, scale, bend = (most.get(name, 0) for name in DISTORTIONS)
    even, knots = 2 * draws[:, :5] - 1, draws[:, 5:]
    angle = even[:, 0] * math.radians(rotate)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(batch, 2, 2)
    stretch, move = 1 + scale * even[:, 1:3, None], 2 * shift / side * even[:, 3:5, None]
    grid = F.affine_grid(torch.cat([turn * stretch, move], dim=2), list(images.shape), align_corners=False)
    if bend:
        normal = torch.special.ndtri(knots.clamp(1e-6, 1 - 1e-6)).view(batch, 2, KNOTS, KNOTS)
        smooth = F.interpolate(normal * (2 * bend / side), (side, side), mode="bicubic")
        grid = grid + smooth.permute(0, 2, 3, 1)
    return F.grid_sample(images.float(), grid, align_corners=False).round().to(torch.uint8)


# In the order of application: the function, and the number of draws that it takes for an image.
AUGMENTATIONS: dict[str, tuple[Callable[[Tensor, Any, Tensor], Tensor], int]] = {
    "flip": (flip, 1),
    "turn": (turn, 1),
    "crop": (crop, 2 * TRIES + 2),
    "colour": (colour, 4),
    "distort": (distort, 5 + 2 * KNOTS**2),
    "rand_augment": (rand_augment, SEEDS),
    "erase": (erase, SEEDS),
}

# For images of different sizes: (the images' regions, setting, draws) -> their regions.
REGIONS: dict[str, Callable[[list[Region], Any, Tensor], list[Region]]] = {
    "flip": lambda regions, wanted, draws: [
        replace(region, mirrored=own)
        for region, own in zip(regions, (draws[:, 0] < 0.5).tolist(), strict=True)
    ],
    "turn": lambda regions, wanted, draws: [
        replace(region, quarters=own)
        for region, own in zip(regions, (draws[:, 0] * 4).long().tolist(), strict=True)
    ],
    "crop": lambda regions, least, draws: [
        replace(region, box=tuple(crop_boxes(least, region.image.size, own[None])[0].tolist()))
        for region, own in zip(regions, draws, strict=True)
    ],
}


@dataclass
class Augmentation:
    """The settings of all augmentations, and their composition; the defaults change nothing.

    flip: whether to mirror images at random.
    turn: whether to rotate images by a random multiple of 90 degrees, for images without an upright.
    crop: the smallest box that is enlarged to the whole image, as a share of its area, in (0, 1].
    colour: the largest change of brightness, contrast and saturation, as a share, in [0, 1].
    distort: the largest distortions, see `distort`.
    rand_augment: a policy of timm's RandAugment, such as "rand-m9-mstd0.5"; None for none.
    erase: the share of images of which a random rectangle becomes noise, in [0, 1].

    Raises:
        ValueError: a setting is out of range; the message names its recipe key.
    """

    flip: bool = False
    turn: bool = False
    crop: float = 1.0
    colour: float = 0.0
    distort: dict[str, float] = field(default_factory=dict)
    rand_augment: str | None = None
    erase: float = 0.0

    def __post_init__(self) -> None:
        check_number("data.crop", self.crop, 0, 1, open_low=True)
        check_number("data.colour", self.colour, 0, 1)
        for name, most in self.distort.items():
            check_choice("data.distort", name, DISTORTIONS)
            check_number(f"data.distort.{name}", most, 0, math.inf)
        check_rand_augment("data.rand_augment", self.rand_augment)
        check_number("data.erase", self.erase, 0, 1)

    @property
    def used(self) -> list[str]:
        """The names of the augmentations whose settings differ from the defaults."""
        unchanged = type(self)()
        return [name for name in AUGMENTATIONS if getattr(self, name) != getattr(unchanged, name)]

    def check_regions(self) -> None:
        """ValueError for an augmentation that images of different sizes do not have."""
        for name in self.used:
            if name not in REGIONS:
                known = ", ".join(f"data.{known}" for known in REGIONS)
                raise ValueError(
                    f"data.{name}={getattr(self, name)!r} changes squares; accepted with context='fit' or "
                    f"image_size=null are {known}."
                )

    @property
    def columns(self) -> int:
        """The number of draws of one image."""
        return sum(AUGMENTATIONS[name][1] for name in self.used)

    def __call__(self, images: Tensor | Ragged, draws: Tensor) -> Tensor | Ragged:
        """Apply the augmentations in `used`, in order.

        Args:
            images: (B, C, S, S) uint8, or of different sizes.
            draws: (B, columns) float32 in [0, 1).

        Returns:
            As `images`.
        """
        if isinstance(images, Ragged):
            return self._of_regions(images, draws)
        counts = [AUGMENTATIONS[name][1] for name in self.used]
        for name, own in zip(self.used, draws.split(counts, dim=1), strict=True):
            images = AUGMENTATIONS[name][0](images, getattr(self, name), own)
        return images

    def _of_regions(self, images: Ragged, draws: Tensor) -> Ragged:
        counts = [AUGMENTATIONS[name][1] for name in self.used]
        regions = [Region(image, (0, 0, *image.size)) for image in images.images]
        for name, own in zip(self.used, draws.split(counts, dim=1), strict=True):
            regions = REGIONS[name](regions, getattr(self, name), own)
        return Ragged(regions)
