"""Streams: training images that are read from the Hub during training, in a new order every epoch."""

import functools
import hashlib
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import datasets
import numpy as np
import torch
from accelerate.logging import get_logger
from datasets.distributed import split_dataset_by_node
from torch import Tensor

from ..images.ragged import Ragged
from .canvas import Form, content_or_nothing, decode_all
from .listing import quoted

logger = get_logger(__name__)
READ = 256  # rows read at a time


@dataclass
class Stream:
    """A split of which only a few images are in memory.

    dataset: an `IterableDataset` of undecoded images and labels.
    num_images: number of images in `dataset`.
    form: of decoded images.
    num_classes: labels are below this number.
    buffer: number of undecoded images from which the next one is picked at random.
    own_shards: whether each reader reads files of its own.
    """

    dataset: datasets.IterableDataset
    num_images: int
    form: Form
    num_classes: int
    buffer: int
    own_shards: bool = False

    def __len__(self) -> int:
        return self.num_images

    def batches(self, batch_size: int, seed: int) -> Iterator[list[dict]]:
        """Whole batches of undecoded rows, in an order that depends on the seed alone.

        Every image comes once, except an incomplete last batch.

        Raises:
            ValueError: there are fewer images than `num_images`.
        """
        # In a DataLoader's worker iter(dataset) would give a part of the rows; .iter(READ) gives all.
        chunks = self.dataset.shuffle(seed=seed, buffer_size=self.buffer).iter(READ)
        rows = (
            {"image": image, "label": label}
            for chunk in chunks
            for image, label in zip(chunk["image"], chunk["label"], strict=True)
        )
        for number in range(max(1, len(self) // batch_size)):
            batch = list(itertools.islice(rows, batch_size))
            if len(batch) < min(batch_size, len(self)):
                read = number * batch_size + len(batch)
                raise ValueError(
                    f"the stream of train has {read} images, and its data set claims {len(self)}."
                )
            yield batch

    def own_batches(
        self, batch_size: int, count: int, seed: int, reader: int, readers: int
    ) -> Iterator[list[dict]]:
        """`count` whole batches of undecoded rows from the files of one reader.

        A reader whose files hold fewer images than its share begins them again, in another order.

        Args:
            batch_size: images per batch of this reader.
            count: the number of batches.
            seed: as in `batches`.
            reader, readers: this reader, and the number of readers.
        """
        own = split_dataset_by_node(self.dataset, rank=reader, world_size=readers)
        orders = (own.shuffle(seed=seed + turn, buffer_size=self.buffer) for turn in itertools.count())
        rows = (
            {"image": image, "label": label}
            for order in orders
            for chunk in order.iter(READ)
            for image, label in zip(chunk["image"], chunk["label"], strict=True)
        )
        for _ in range(count):
            yield list(itertools.islice(rows, batch_size))

    def decode(self, rows: list[dict]) -> tuple[Tensor | Ragged, Tensor]:
        """Decode rows into images, (N, C, S, S) uint8 if they are squares, and labels (N,) int64.

        Raises:
            ValueError: an image is unreadable.
        """
        return decode_rows(rows, self.form, self.num_classes)


def divide(
    found: datasets.IterableDatasetDict, source: str, seed: int, fractions: dict[str, float]
) -> tuple[datasets.IterableDataset, int, dict[str, list[dict]]]:
    """Divide a source into a stream of training images and splits in memory.

    Args:
        found: the splits of the source.
        source: name of the source, for messages.
        seed: another seed holds out other images.
        fractions: for each split in memory, the share of train to hold out if the source lacks the split.

    Returns:
        The training images, their number, and the rows of each split in `fractions`.

    Raises:
        ValueError: a split would be empty.
    """
    train, lacking = found["train"], [name for name in fractions if name not in found]
    held = {name: list(found[name]) for name in fractions if name in found}
    info = (train.info.splits or {}).get("train")
    count = info.num_examples if info else None
    if lacking:
        logger.info(
            f"data: {source} has no {' and no '.join(lacking)} split; reading train once to hold images out"
        )
        assigned = functools.partial(assign, seed=seed, shares={name: fractions[name] for name in lacking})
        held |= {name: [] for name in lacking}
        count = 0
        for row in train:
            name = assigned(row)
            count += name == "train"
            if name != "train":
                held[name].append(row)
        train = train.filter(functools.partial(_is_train, assigned))
    elif not count:
        logger.info(f"data: {source} does not give its number of images; reading train once to count them")
        count = sum(1 for _ in train)
    for name, rows in held.items():
        if not rows:
            raise ValueError(f"data.source={source!r}: no images are left for a {name} split.")
    return train, count, held


def assign(row: dict, *, seed: int, shares: dict[str, float]) -> str:
    """The name of a row's split, from a checksum of its image, because the order of rows changes.

    Args:
        row: {"image", ..}, undecoded.
        seed: another seed assigns other rows.
        shares: the share of all rows for each split; the rest is "train".
    """
    digest = hashlib.sha256(b"%d" % seed + content_or_nothing(row["image"])).digest()
    rest = int.from_bytes(digest[:8]) / 2**64
    for name, share in shares.items():
        if rest < share:
            return name
        rest -= share
    return "train"


def label_fault(label: int | None, num_classes: int) -> str:
    """Why a label is none of 0 to `num_classes` - 1; "" for one that is.

    Test images on the Hub often come without their labels, as -1.
    """
    if label is None or label == -1:
        return "it has no label"
    return "" if 0 <= label < num_classes else f"its label {label} is none of 0 to {num_classes - 1}"


def _is_train(assigned: functools.partial, row: dict) -> bool:
    return assigned(row) == "train"


def decode_rows(
    rows: list[dict], form: Form, num_classes: int, split: str = ""
) -> tuple[Tensor | Ragged, Tensor]:
    """Decode rows of `image` and `label` into images, (N, C, S, S) uint8 if they are squares, and (N,) int64.

    Args:
        rows: undecoded rows.
        form: as in `decode`.
        num_classes: labels are below this number.
        split: the name of the split whose rows these are, all and in order; "" for rows of any order.

    Raises:
        ValueError: an image is unreadable, or has no label; the message names it.
    """
    canvases = decode_all([row["image"] for row in rows], form)
    for number, (row, canvas) in enumerate(zip(rows, canvases, strict=True)):
        fault = canvas.fault or label_fault(row["label"], num_classes)
        if fault:
            path = (row["image"] or {}).get("path")
            name = f"{split}, row {number}" if split else "a row of train"
            raise ValueError(
                f"streamed image {quoted(path or name)} is unreadable ({fault}); "
                "data.streaming=false can skip such files."
            )
        if canvas.warning:
            warnings.warn(f"streamed images may be wrong: of one, {canvas.warning}", stacklevel=2)
    labels = torch.tensor([row["label"] for row in rows], dtype=torch.int64)
    pixels = [canvas.pixels for canvas in canvases]
    if not form.is_square:
        return Ragged(pixels), labels
    empty = np.empty((0, form.channels, form.side, form.side), np.uint8)
    return torch.from_numpy(np.stack(pixels) if rows else empty), labels
