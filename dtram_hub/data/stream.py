"""Training images that stay on the Hub and are read as they are needed, in a new order every epoch."""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import datasets
import numpy as np
import torch
from torch import Tensor

from .canvas import decode_all, read_content


@dataclass
class Stream:
    """A split of which only a few images are in memory.

    dataset: an `IterableDataset` of undecoded images and labels.
    num_images: how many it holds.
    image_size, in_chans: of the images that come out.
    buffer: how many undecoded images are held to be shuffled.
    """

    dataset: datasets.IterableDataset
    num_images: int
    image_size: int
    in_chans: int
    buffer: int

    def __len__(self) -> int:
        return self.num_images

    def batches(
        self, batch_size: int, *, seed: int, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As `dtram_hub.data.batches`; every process reads all images, and decodes its share."""
        rows = iter(self.dataset.shuffle(seed=seed, buffer_size=self.buffer))
        for _ in range(max(1, len(self) // batch_size)):
            share = list(itertools.islice(rows, batch_size))[rank::world]
            yield decode_rows(share, self.image_size, self.in_chans)


def divide(
    found: datasets.IterableDatasetDict,
    source: str,
    seed: int,
    fractions: dict[str, float],
    say: Callable[[str], None],
) -> tuple[datasets.IterableDataset, int, dict[str, list[dict]]]:
    """What is to be streamed, and what has to be in memory.

    Args:
        found: the splits of the source.
        source: its name, for what is said.
        seed: of what is held out.
        fractions: what to hold out of train for each split that the source lacks.
        say: told what takes time.

    Returns:
        The training images, how many they are, and the rows of each split in `fractions`.

    Raises:
        ValueError: nothing is left for a split.
    """
    train, lacking = found["train"], [name for name in fractions if name not in found]
    held = {name: list(found[name]) for name in fractions if name in found}
    info = (train.info.splits or {}).get("train")
    count = info.num_examples if info else None
    if lacking:
        # By content, since the order changes with every epoch.
        shares = {name: fractions[name] for name in lacking}

        def place(row: dict) -> str:
            digest = hashlib.sha256(b"%d" % seed + read_content(row["image"])).digest()
            drawn = int.from_bytes(digest[:8]) / 2**64
            for name, share in shares.items():
                if drawn < share:
                    return name
                drawn -= share
            return "train"

        say(f"data: {source} has no {' and no '.join(lacking)} split; reading it once to hold some of it out")
        held |= {name: [] for name in lacking}
        count = 0
        for row in train:
            name = place(row)
            count += name == "train"
            if name != "train":
                held[name].append(row)
        train = train.filter(lambda row: place(row) == "train")
    elif not count:
        say(f"data: {source} does not say how many images it has; reading it once to count them")
        count = sum(1 for _ in train)
    for name, rows in held.items():
        if not rows:
            raise ValueError(f"data.source={source!r}: no images are left for a {name} split.")
    return train, count, held


def decode_rows(rows: list[dict], size: int, in_chans: int) -> tuple[Tensor, Tensor]:
    """Rows of `image` and `label` -> (N, in_chans, size, size) uint8 and (N,) int64.

    Raises:
        ValueError: an image is unreadable.
    """
    canvases = decode_all([row["image"] for row in rows], size, in_chans)
    if any(canvas is None for canvas in canvases):
        bad = next(row for row, canvas in zip(rows, canvases, strict=True) if canvas is None)
        raise ValueError(f"streamed image {bad['image']['path']!r} is unreadable; read it without streaming.")
    images = (
        torch.from_numpy(np.stack(canvases))
        if rows
        else torch.empty(0, in_chans, size, size, dtype=torch.uint8)
    )
    return images, torch.tensor([row["label"] for row in rows], dtype=torch.int64)
