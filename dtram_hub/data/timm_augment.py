"""timm's RandAugment and random erasing, as functions of (images, setting, draws).

timm draws from the global generators of Python, numpy and torch. Here the draws of an image seed them, and
they get their states back afterwards.
"""

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import RandAugment, posterize, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from ..checks import short

SEEDS = 2  # draws that seed an image's generators
GREY = 128  # what comes in from outside, as in timm
# timm takes an unknown word for the usual set of changes, or drops it in silence.
POLICY = re.compile(
    r"rand(-(m\d+|n[1-9]|p(0?\.\d+|1)|mstd\d*\.?\d+|mmax[1-9]\d*|inc[01]|t(weights|3aw?)))*", re.ASCII
)


def check_rand_augment(name: str, policy: str | None) -> None:
    """ValueError unless `policy` is None or a policy of timm's `rand_augment_transform`."""
    if policy is not None and not POLICY.fullmatch(policy):
        raise ValueError(
            f"{name}={short(policy)} is no policy of timm; accepted is 'rand', followed by any of -m9, -n2, "
            "-p0.5, -mstd0.5, -mmax10, -inc1, and -tweights, -t3a or -t3aw."
        )


def rand_augment(images: Tensor, policy: str | None, draws: Tensor) -> Tensor:
    """Change colours and shape of every image by a few random operations of Pillow.

    Args:
        images: (B, C, S, S) uint8, C 1 or 3.
        policy: such as "rand-m9-mstd0.5": magnitude 9 of 10, changed by a normal number of deviation 0.5.
        draws: (B, SEEDS).

    Returns:
        (B, C, S, S) uint8.
    """
    if policy is None:
        return images
    transform, changed = _transform(policy, images.shape[1]), []
    for image, own in zip(images, draws, strict=True):
        with seeded_by(own):
            changed.append(tv.pil_to_tensor(transform(tv.to_pil_image(image))))
    return torch.stack(changed)


def erase(images: Tensor, probability: float, draws: Tensor) -> Tensor:
    """Put noise in the place of a random rectangle of some images.

    The rectangle has 2 % to a third of the image's area. The noise is normal, and has the mean and the
    deviation of each colour channel of the image.

    Args:
        images: (B, C, S, S) uint8.
        probability: the share of images that lose a rectangle, in [0, 1].
        draws: (B, SEEDS).

    Returns:
        (B, C, S, S) uint8.
    """
    eraser, changed = RandomErasing(probability, mode="pixel", device="cpu"), []
    for image, own in zip(images, draws, strict=True):
        with seeded_by(own):
            noise = eraser(torch.full(image.shape, torch.nan))
        box = ~noise.isnan()
        if box.any():
            std, mean = torch.std_mean(image.float(), (1, 2), correction=0, keepdim=True)
            image = torch.where(box, (mean + std * noise).round().clamp(0, 255).to(torch.uint8), image)
        changed.append(image)
    return torch.stack(changed)


@contextmanager
def seeded_by(draws: Tensor) -> Iterator[None]:
    """Seed the global generators of Python, numpy and torch, and give them their states back afterwards.

    Args:
        draws: (SEEDS,) float32 in [0, 1), of 24 bits each.
    """
    high, low = (draws.double() * 2**24).long().tolist()
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 (timm's)
    try:
        random.seed(high << 24 | low)
        np.random.seed([high, low])  # noqa: NPY002
        torch.default_generator.manual_seed(high << 24 | low)  # of the CPU alone
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


@cache
def _transform(policy: str, channels: int) -> RandAugment:
    # A fresh dictionary, because timm keeps the policy's deviation in it.
    transform = rand_augment_transform(policy, {"img_mean": GREY if channels == 1 else (GREY,) * channels})
    for operation in transform.ops:
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **_) -> Image.Image:
    """timm's function; the extreme magnitude asks for no bits at all, which Pillow refuses."""
    return posterize(image, max(1, bits))
