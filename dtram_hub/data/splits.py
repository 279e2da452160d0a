"""Splits: named sets of uint8 images, all of one size, in memory or mapped into it.

Splits are called train, validation, test; the embedded digits also have closeup, for the encoder alone.
Validation is held out of train, with every class in proportion; test is never looked at before the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..checks import check_choice
from .stream import Stream


@dataclass
class Split:
    """Images with their labels; splits that were held out of one another share their canvases.

    canvases: (M, C, S, S) uint8, mapped from a file where they may be larger than memory.
    labels: (N,) int64.
    difficulty: (N,) int64 where the source knows one.
    rows: (N,) int64, the canvas of each image; None where they are in order, and M = N.
    """

    canvases: Tensor
    labels: Tensor
    difficulty: Tensor | None = None
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, index: Tensor) -> Tensor:
        """A copy of the images at `index` (B,) int64: (B, C, S, S) uint8."""
        return self.canvases[index if self.rows is None else self.rows[index]]

    def take(self, index: Tensor) -> "Split":
        """The images at `index`, indices (K,) int64 or a mask (N,) bool, as a split on the same canvases."""
        rows = torch.arange(len(self)) if self.rows is None else self.rows
        difficulty = None if self.difficulty is None else self.difficulty[index]
        return replace(self, rows=rows[index], labels=self.labels[index], difficulty=difficulty)


@dataclass
class Joined:
    """Splits one after the other, each on its own canvases; nothing is copied but the images asked for."""

    parts: list[Split]

    def __post_init__(self) -> None:
        self.labels = torch.cat([part.labels for part in self.parts])
        self.ends = torch.tensor([len(part) for part in self.parts]).cumsum(0)

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, index: Tensor) -> Tensor:
        """A copy of the images at `index` (B,) int64: (B, C, S, S) uint8."""
        owner = torch.bucketize(index, self.ends, right=True)
        images = self.parts[0].canvases.new_empty(len(index), *self.parts[0].canvases.shape[1:])
        for number, part in enumerate(self.parts):
            mine = owner == number
            images[mine] = part.at(index[mine] - (self.ends[number] - len(part)))
        return images


@dataclass
class Data:
    """Named splits, the class names in the order of the labels, and how many broken files were left out."""

    splits: dict[str, Split | Stream]
    class_names: list[str]
    skipped: int = 0


def join(splits: dict[str, Split | Stream], names: list[str]) -> Split | Joined | Stream:
    """The named splits as one.

    Raises:
        ValueError: no such split, or a stream among several: a stream stands alone.
    """
    for name in names:
        check_choice("split", name, splits)
    if len(names) == 1:
        return splits[names[0]]
    for name in names:
        if isinstance(splits[name], Stream):
            raise ValueError(
                f"split={'+'.join(names)!r} joins the streamed split {name!r} with another; accepted is "
                f"split={name!r}, or data.streaming=false."
            )
    return Joined([splits[name] for name in names])


def index_batches(
    num_images: int, batch_size: int, *, seed: int | None, rank: int = 0, world: int = 1
) -> Iterator[Tensor]:
    """This process's share of every batch of one epoch, as indices.

    Args:
        num_images: size of the split.
        batch_size: images per batch over all processes.
        seed: of the shuffling, the whole order depends on nothing else; None keeps the order and the rest.
        rank, world: this process and the number of processes.

    Yields:
        (batch_size / world,) int64. Shuffled epochs drop the last, incomplete batch, unordered ones keep it.
    """
    if seed is None:
        order, end = torch.arange(num_images), num_images
    else:
        order = torch.randperm(num_images, generator=torch.Generator().manual_seed(seed))
        end = max(num_images // batch_size * batch_size, min(num_images, batch_size))
    for start in range(0, end, batch_size):
        yield order[start : start + batch_size][rank::world]


def hold_out(
    split: Split, fraction: float, seed: int, name: str, class_names: list[str]
) -> tuple[Split, Split]:
    """What is left of a split, and `fraction` of every class of it, at least one image, as the split `name`.

    Raises:
        ValueError: a class has fewer than two images.
    """
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(split), dtype=torch.bool)
    for label, class_name in enumerate(class_names):
        members = (split.labels == label).nonzero().squeeze(1)
        if len(members) < 2:
            raise ValueError(
                f"class {class_name!r} has {len(members)} images in train, "
                f"too few to hold out a {name} split."
            )
        count = max(1, round(fraction * len(members)))
        held[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return split.take(~held), split.take(held)
