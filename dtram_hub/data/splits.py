"""Splits: named sets of uint8 images of one size, in memory or mapped into it.

The names are train, validation and test; the embedded digits add closeup, for the stage of the encoder alone.
Training reads train, chooses weights on validation, and answers test once, at the end.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..checks import check_choice
from ..images.ragged import Ragged
from .streaming import Stream


@dataclass
class Split:
    """N images with their labels; a split and the splits held out of it share their canvases.

    canvases: (M, C, S, S) uint8, in memory, mapped from a file, or composed when they are indexed;
        `Photographs` of any size; or `Undecoded` ones.
    labels: (N,) int64.
    difficulty: (N,) int64, if the source has one.
    rows: (N,) int64, the canvas of each image; None where M = N and canvas i is image i.
    boxes: (N, K, 4) float32 in [-1, 1], top, left, bottom, right of what the label names in each image, if
        the source knows; NaN where there are fewer than K. No model sees them; they judge its glimpses.
    """

    canvases: Any
    labels: Tensor
    difficulty: Tensor | None = None
    rows: Tensor | None = None
    boxes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, index: Tensor) -> Tensor | Ragged:
        """The images at `index` (B,) int64, as a copy (B, C, S, S) uint8, or of different sizes."""
        return self.canvases[index if self.rows is None else self.rows[index]]

    def sizes(self) -> Tensor:
        """Height and width of every image in pixels, (N or 1, 2) int64."""
        if hasattr(self.canvases, "shape"):
            return torch.tensor([self.canvases.shape[2:]])
        sizes = torch.as_tensor(self.canvases.sizes)
        return sizes if self.rows is None or len(sizes) == 1 else sizes[self.rows]

    def faults(self) -> dict[int, str]:
        """Why images are unreadable, by index, of those that were decoded when they were read."""
        found = getattr(self.canvases, "faults", {})
        if self.rows is None or not found:
            return found
        return {i: found[row] for i, row in enumerate(self.rows.tolist()) if row in found}

    def take(self, index: Tensor) -> "Split":
        """A split of the images at `index`, (K,) int64 or a mask (N,) bool, on the same canvases."""
        rows = torch.arange(len(self)) if self.rows is None else self.rows
        kept: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[index]
            for name in ("difficulty", "boxes")
        }
        return replace(self, rows=rows[index], labels=self.labels[index], **kept)


@dataclass
class Joined:
    """Several splits as one, each on its own canvases, which are not copied."""

    parts: list[Split]

    def __post_init__(self) -> None:
        self.labels = torch.cat([part.labels for part in self.parts])
        self.ends = torch.tensor([len(part) for part in self.parts]).cumsum(0)

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, index: Tensor) -> Tensor | Ragged:
        """As `Split.at`."""
        owner = torch.bucketize(index, self.ends, right=True)
        order = owner.argsort(stable=True)
        found: list[Any] = [
            part.at(index[owner == number] - (self.ends[number] - len(part)))
            for number, part in enumerate(self.parts)
            if (owner == number).any()
        ]
        places = order.argsort()
        if isinstance(found[0], Tensor):
            return torch.cat(found)[places]
        images = [image for part in found for image in part.images]
        return Ragged([images[place] for place in places.tolist()])


@dataclass
class Data:
    """The splits of a source.

    splits: by name; each is a `Split`, or a `Stream` in place of train.
    class_names: in the order of the labels.
    skipped: number of unreadable images that were left out.
    identity: a checksum of images and labels for each split as it was read, or a stream's commit; two sources
        with the same identities and class names hold the same data. Empty for generated data.
    held_out: names of the splits that the source lacks, and which were held out of train.
    """

    splits: Mapping[str, Any]
    class_names: list[str]
    skipped: int = 0
    identity: dict[str, str] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()


def join(splits: Mapping[str, Any], names: list[str]) -> Split | Joined | Stream:
    """Join the named splits.

    Raises:
        ValueError: no such split, or a stream among several splits.
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
        seed: seed of the shuffled order; None does not shuffle.
        rank, world: this process and the number of processes.

    Yields:
        (batch_size / world,) int64. An incomplete last batch is dropped if shuffled, and kept otherwise.
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
    """Hold `fraction` of every class, and at least one image, out of a split.

    Returns:
        The rest of the split, and the new split `name`.

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
