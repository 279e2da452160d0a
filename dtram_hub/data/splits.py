"""Data: every source becomes splits of uint8 images, all of one size, in memory or mapped into it.

Splits are called train, validation, test; the embedded digits also have closeup, for the encoder alone.
Validation is held out of train, with every class in proportion; test is never looked at before the end.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import torch
from torch import Tensor

from ..checks import check_choice, check_labels, check_number, nearest
from .canvas import load_canvases
from .digits import cluttered_digits
from .mnist import read_mnist
from .sources import ROOTED, open_hub
from .stream import Stream, decode_rows, divide

SOURCES = ("digits", "mnist", *ROOTED, "hub:org/name")
DIGITS_OPTIONS = (
    *("num_train", "num_closeup", "num_validation", "num_test"),
    *("zoom", "enlargement", "max_clutter", "fragment"),
)


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

    @property
    def images(self) -> Tensor:
        """All of them, (N, C, S, S) uint8; a copy, unless the split has all canvases."""
        return self.canvases if self.rows is None else self.canvases[self.rows]


@dataclass
class Data:
    """Named splits, the class names in the order of the labels, and how many broken files were left out."""

    splits: dict[str, Split | Stream]
    class_names: list[str]
    skipped: int = 0


def load(
    source: str,
    *,
    seed: int,
    image_size: int,
    in_chans: int,
    root: str | None = None,
    skip_broken: bool = False,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    streaming: bool = False,
    shuffle_buffer: int = 1000,
    cache: str | None = None,
    say: Callable[[str], None] = print,
    **options,
) -> Data:
    """Load every split of a data source.

    Args:
        source: "digits" (embedded, nothing to download), "mnist", "imagefolder" (one folder per class,
            optionally under train/, validation/ and test/), "parquet", "cub" and "cars" (CUB-200-2011 and
            Stanford Cars as they are distributed), or "hub:org/name", a data set of the Hub.
        seed: of what is generated or held out.
        image_size: side S of the images, in pixels.
        in_chans: 1 for grey, 3 for RGB.
        root: the folder of the data; for "mnist" that of its four original .gz files, or None for the Hub's
            copy.
        skip_broken: leave unreadable files out instead of refusing them.
        validation_fraction, test_fraction: what to hold out of train where there is no such split.
        streaming: read train from the Hub while training, instead of downloading and decoding all of it
            before; only for "hub:org/name".
        shuffle_buffer: of a streamed split, how many images are held to be shuffled.
        cache: folder for decoded images; beside the Hub's cache unless given.
        say: told what takes time or room.
        options: of the digits, see DIGITS_OPTIONS: the number of images, and what `cluttered_digits` takes;
            of MNIST, `num_validation`, the training images to hold out.

    Raises:
        ValueError: an unknown source, one without images or with broken ones, too small a class.
        ConnectionError: the Hub does not answer.
    """
    on_hub = source.startswith("hub:")
    if not on_hub:
        check_choice("data.source", source, SOURCES)
    known = {"digits": DIGITS_OPTIONS, "mnist": ("num_validation",)}.get(source, ())
    for name in options:
        if name not in known:
            raise ValueError(
                f"data.options.{name} is unknown to data.source={source!r}.{nearest(name, known)}"
            )
    if source in ("digits", "mnist") and in_chans != 1:
        raise ValueError(f"in_chans={in_chans}; data.source={source!r} is grey and takes in_chans=1.")
    if streaming and not on_hub:
        raise ValueError(
            f"data.streaming=true reads from the Hub; data.source={source!r} is no 'hub:org/name'."
        )
    if streaming and skip_broken:
        raise ValueError("data.skip_broken=true cannot be told in advance of data.streaming=true.")
    if source == "digits":
        return _load_digits(seed, image_size, **options)
    if source == "mnist":
        return _load_mnist(root, seed, image_size, **options)
    fractions = {"test": test_fraction, "validation": validation_fraction}
    if streaming:
        found = open_hub(source.removeprefix("hub:"), streaming=True)
        return _load_stream(found, source, seed, image_size, in_chans, fractions, shuffle_buffer, say)
    if on_hub:
        found, where = open_hub(source.removeprefix("hub:")), f"data.source={source!r}"
    else:
        if root is None or not Path(root).is_dir():
            raise ValueError(f"data.root={root!r} is not a folder; data.source={source!r} reads one.")
        found, where = ROOTED[source](Path(root)), f"data.root={root!r}"
    return _load_photographs(found, where, seed, image_size, in_chans, skip_broken, fractions, cache, say)


def join(splits: list[Split | Stream]) -> Split | Stream:
    """One split after the other; difficulties are dropped. A stream stands alone."""
    if len(splits) == 1:
        return splits[0]
    return Split(torch.cat([split.images for split in splits]), torch.cat([split.labels for split in splits]))


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


def batches(
    split: Split | Stream, batch_size: int, *, seed: int, rank: int = 0, world: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of every batch of one epoch: (B / world, C, S, S) uint8 and (B / world,) int64.

    Every image comes once, over all processes, save those that do not fill a last batch; the order depends on
    the seed alone. Of a stream every process reads all, and decodes its share.

    Raises:
        ValueError: a streamed image is unreadable.
    """
    if isinstance(split, Split):
        for index in index_batches(len(split), batch_size, seed=seed, rank=rank, world=world):
            yield split.at(index), split.labels[index]
        return
    yield from split.batches(batch_size, seed=seed, rank=rank, world=world)


def _load_digits(
    seed: int,
    image_size: int,
    num_train: int = 30_000,
    num_closeup: int = 30_000,
    num_validation: int = 2_000,
    num_test: int = 4_000,
    zoom: int = 4,
    **options,
) -> Data:
    sizes = {"train": num_train, "validation": num_validation, "test": num_test}
    made = {
        name: cluttered_digits(name, size, seed=seed, canvas=image_size, **options)
        for name, size in sizes.items()
    }
    made["closeup"] = cluttered_digits(
        "train", num_closeup, seed=seed, canvas=image_size, zoom=zoom, **options
    )
    splits = {
        name: Split(
            torch.from_numpy(split.images)[:, None],
            torch.from_numpy(split.labels),
            torch.from_numpy(split.clutter),
        )
        for name, split in made.items()
    }
    return Data(splits, class_names=[str(digit) for digit in range(10)])


def _load_mnist(root: str | None, seed: int, image_size: int, num_validation: int = 5_000) -> Data:
    """MNIST as it is; `num_validation` of its training images, drawn by the seed, are held out."""
    if image_size != 28:
        raise ValueError(f"image_size={image_size}; data.source='mnist' has images of 28 pixels.")
    check_number("data.options.num_validation", num_validation, 1, 59_999)
    whole = {}
    for name in ("train", "test"):
        images, labels = read_mnist(root, name)
        whole[name] = Split(torch.tensor(images)[:, None], torch.tensor(labels).long())
    order = torch.randperm(len(whole["train"]), generator=torch.Generator().manual_seed(seed))
    held, kept = order[:num_validation].sort().values, order[num_validation:].sort().values
    splits = {"train": _take(whole["train"], kept), "validation": _take(whole["train"], held)}
    return Data(splits | {"test": whole["test"]}, class_names=[str(digit) for digit in range(10)])


def _take(split: Split, index: Tensor) -> Split:
    """The images at `index`, indices or a mask; the canvases stay where they are."""
    rows = torch.arange(len(split)) if split.rows is None else split.rows
    return replace(split, rows=rows[index], labels=split.labels[index])


def _load_photographs(
    found: datasets.DatasetDict,
    where: str,
    seed: int,
    image_size: int,
    in_chans: int,
    skip_broken: bool,
    fractions: dict[str, float],
    cache: str | None,
    say: Callable[[str], None],
) -> Data:
    """Decode a source's splits, and hold out of train those that it lacks."""
    class_names = found["train"].features["label"].names
    splits, broken = {}, []
    for name in [name for name in ("train", "validation", "test") if name in found]:
        images, bad = load_canvases(found[name], name, image_size, in_chans, cache, say)
        splits[name] = Split(images, torch.tensor(found[name]["label"]))
        if bad:
            broken += [found[name][i]["image"]["path"] or f"{name}, row {i}" for i in bad]
            good = torch.ones(len(images), dtype=torch.bool)
            good[bad] = False
            splits[name] = _take(splits[name], good)
    if broken and not skip_broken:
        listed = "\n  ".join(broken)
        raise ValueError(
            f"{where} holds {len(broken)} files that are no readable images; mend or remove them, "
            f"or pass data.skip_broken=true:\n  {listed}"
        )
    for name, split in splits.items():
        check_labels(split.labels, len(class_names))
        lacking = [class_names[i] for i in range(len(class_names)) if not (split.labels == i).any()]
        if name == "train" and lacking:
            raise ValueError(f"{where}: class {lacking[0]!r} has no images in train.")
        if lacking:
            say(f"data: {name} has no images of {len(lacking)} classes, {lacking[0]!r} for one")
    for name, fraction in fractions.items():
        if name not in splits:
            splits["train"], splits[name] = _hold_out(splits["train"], fraction, seed, name, class_names)
    return Data(splits, class_names, skipped=len(broken))


def _hold_out(
    split: Split, fraction: float, seed: int, name: str, class_names: list[str]
) -> tuple[Split, Split]:
    """Take `fraction` of every class, at least one image, out of a split."""
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
    return _take(split, ~held), _take(split, held)


def _load_stream(
    found: datasets.IterableDatasetDict,
    source: str,
    seed: int,
    image_size: int,
    in_chans: int,
    fractions: dict[str, float],
    buffer: int,
    say: Callable[[str], None],
) -> Data:
    """Train as a stream; validation and test in memory."""
    class_names = found["train"].features["label"].names
    train, count, held = divide(found, source, seed, fractions, say)
    splits = {"train": Stream(train, count, image_size, in_chans, buffer)}
    splits |= {name: Split(*decode_rows(rows, image_size, in_chans)) for name, rows in held.items()}
    return Data(splits, class_names)
