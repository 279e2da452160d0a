"""Data sources: each becomes splits of images in memory, uint8, all of one size.

Splits are called train, validation, test; the embedded digits also have closeup, for the encoder alone.
Validation is held out of train, with every class in proportion; test is never looked at before the end.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .checks import check_choice, check_number, nearest
from .cluttered_digits import cluttered_digits
from .mnist import read_mnist

SOURCES = ("digits", "imagefolder", "mnist")
DIGITS_OPTIONS = (
    *("num_train", "num_closeup", "num_validation", "num_test"),
    *("zoom", "enlargement", "max_clutter", "fragment"),
)


@dataclass
class Split:
    """images (N, C, S, S) uint8, labels (N,) int64; difficulty (N,) int64 where the source knows one."""

    images: Tensor
    labels: Tensor
    difficulty: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Data:
    """Named splits, the class names in the order of the labels, and how many broken files were left out."""

    splits: dict[str, Split]
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
    **options,
) -> Data:
    """Load every split of a data source.

    Args:
        source: "digits" (embedded, nothing to download), "imagefolder" (one folder per class, optionally
            under train/, validation/ and test/) or "mnist".
        seed: of what is generated or held out.
        image_size: side S of the images, in pixels.
        in_chans: 1 for grey, 3 for RGB.
        root: the folder, for "imagefolder"; for "mnist" that of its four original .gz files, or None for the
            Hub's copy.
        skip_broken: leave unreadable files out instead of refusing the folder.
        validation_fraction, test_fraction: what to hold out of train where the folder has no such split.
        options: of the digits, see DIGITS_OPTIONS: the number of images, and what `cluttered_digits` takes;
            of MNIST, `num_validation`, the training images to hold out.

    Raises:
        ValueError: an unknown source, a folder without images or with broken ones, too small a class.
    """
    check_choice("data.source", source, SOURCES)
    known = {"digits": DIGITS_OPTIONS, "mnist": ("num_validation",)}.get(source, ())
    for name in options:
        if name not in known:
            raise ValueError(
                f"data.options.{name} is unknown to data.source={source!r}.{nearest(name, known)}"
            )
    if source != "imagefolder" and in_chans != 1:
        raise ValueError(f"in_chans={in_chans}; data.source={source!r} is grey and takes in_chans=1.")
    if source == "digits":
        return _load_digits(seed, image_size, **options)
    if source == "mnist":
        return _load_mnist(root, seed, image_size, **options)
    return _load_imagefolder(
        root, seed, image_size, in_chans, skip_broken, validation_fraction, test_fraction
    )


def join(splits: list[Split]) -> Split:
    """One split after the other; difficulties are dropped."""
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
    """The images at `index`, indices or a mask."""
    return replace(split, images=split.images[index], labels=split.labels[index])


def _load_imagefolder(
    root: str | None,
    seed: int,
    image_size: int,
    in_chans: int,
    skip_broken: bool,
    validation_fraction: float,
    test_fraction: float,
) -> Data:
    if root is None or not Path(root).is_dir():
        raise ValueError(
            f"data.root={root!r} is not a folder; data.source='imagefolder' takes a folder with one folder "
            "of images per class, optionally under train/, validation/ and test/."
        )
    try:
        found = datasets.load_dataset("imagefolder", data_dir=root)
    except (datasets.exceptions.DatasetGenerationError, FileNotFoundError) as error:
        raise ValueError(
            f"data.root={root!r} holds no images that can be read as a folder per class."
        ) from error
    if "label" not in found["train"].features or found["train"].features["label"].num_classes < 2:
        raise ValueError(f"data.root={root!r} must hold at least two classes, one folder of images for each.")
    class_names = found["train"].features["label"].names
    found = found.cast_column("image", datasets.Image(decode=False))
    splits, broken = {}, []
    for name, split in found.items():
        splits[name], bad = _decode(split["image"], split["label"], image_size, in_chans)
        broken += bad
    if broken and not skip_broken:
        listed = "\n  ".join(broken)
        raise ValueError(
            f"data.root={root!r} holds {len(broken)} files that are no readable images; mend or remove them, "
            f"or pass data.skip_broken=true:\n  {listed}"
        )
    for name, fraction in {"test": test_fraction, "validation": validation_fraction}.items():
        if name not in splits:
            splits["train"], splits[name] = _hold_out(splits["train"], fraction, seed, name, class_names)
    return Data(splits, class_names, skipped=len(broken))


def _decode(files: list[dict], labels: list[int], size: int, in_chans: int) -> tuple[Split, list[str]]:
    """Read images, fit the shorter side to `size` and keep the centre; and the paths that are broken."""

    def read(file: dict) -> np.ndarray | None:
        try:
            with Image.open(file["path"]) as image:
                image = ImageOps.exif_transpose(image).convert("L" if in_chans == 1 else "RGB")
                return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
            return None

    with ThreadPoolExecutor() as pool:
        pixels = list(pool.map(read, files))
    broken = [file["path"] for file, image in zip(files, pixels, strict=True) if image is None]
    good = [i for i, image in enumerate(pixels) if image is not None]
    images = torch.from_numpy(np.stack([pixels[i] for i in good]).reshape(len(good), size, size, in_chans))
    return Split(images.permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)[good]), broken


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
