"""Rare classes: how often their images are drawn, and how much each image counts."""

import torch
from torch import Tensor

from ..images.ragged import Ragged
from .splits import Joined, Split


def class_shares(labels: Tensor, num_classes: int, power: float = 0.0) -> Tensor:
    """The share of every class among the images of an epoch.

    Args:
        labels: (N,) int64, of all images.
        num_classes: C.
        power: in [0, 1]. An image is drawn in proportion to n^-power, where n is the number of images of its
            class: 0 draws all images alike, 1 all classes.

    Returns:
        (C,) float64, with a sum of 1.
    """
    counts = labels.bincount(minlength=num_classes).double()
    shares = torch.where(counts > 0, counts ** (1 - power), counts)
    return shares / shares.sum()


def class_weights(shares: Tensor, power: float) -> Tensor:
    """How much an image of every class counts in the loss.

    Args:
        shares: (C,), from `class_shares`.
        power: in [0, 1]. The weight of a class is in proportion to share^-power: 0 gives all images the same
            weight, 1 all classes the same share of the loss.

    Returns:
        (C,) float32, 1 in the mean over images; 0 for a class without images.
    """
    weights = torch.where(shares > 0, shares.clamp(min=1e-12) ** -power, 0.0)
    return (weights / (weights * shares).sum()).float()


class Resampled:
    """A split of as many images as another one, drawn from it with replacement.

    Args:
        split: N images.
        power: as in `class_shares`.
        generator: of the draws.
    """

    def __init__(self, split: Split | Joined, power: float, generator: torch.Generator):
        counts = split.labels.bincount().double()
        self.split = split
        self.chosen = torch.multinomial(
            counts[split.labels] ** -power, len(split), replacement=True, generator=generator
        )
        self.labels = split.labels[self.chosen]

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, index: Tensor) -> Tensor | Ragged:
        """As `Split.at`."""
        return self.split.at(self.chosen[index])
