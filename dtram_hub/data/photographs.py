"""Splits of photographs: decoded and mapped into memory, or streamed from the Hub."""

from collections.abc import Callable
from pathlib import Path

import datasets
import torch
from accelerate.logging import get_logger

from ..checks import check_labels
from .cache import load_canvases
from .config import DataConfig
from .layouts import open_hub
from .splits import Data, Split, hold_out
from .stream import Stream, decode_rows, divide

logger = get_logger(__name__)


def load_folder(
    layout: Callable[[Path], datasets.DatasetDict],
    config: DataConfig,
    seed: int,
    image_size: int,
    in_chans: int,
) -> Data:
    """Load the photographs under `config.root`; `layout` is a function of `layouts`.

    Raises:
        ValueError: no folder, another layout, unreadable images, or a class without training images.
    """
    if config.root is None or not Path(config.root).is_dir():
        raise ValueError(
            f"data.root={config.root!r} is not a folder; data.source={config.source!r} reads one."
        )
    found = layout(Path(config.root))
    return _decoded(found, f"data.root={config.root!r}", config, seed, image_size, in_chans)


def load_hub(config: DataConfig, seed: int, image_size: int, in_chans: int) -> Data:
    """Load a data set of the Hub, streamed or downloaded.

    Raises:
        ValueError: no such data set, unreadable images, or a class without training images.
        ConnectionError: the Hub does not answer.
    """
    found = open_hub(config.source.removeprefix("hub:"), config.streaming)
    if config.streaming:
        return _streamed(found, config, seed, image_size, in_chans)
    return _decoded(found, f"data.source={config.source!r}", config, seed, image_size, in_chans)


def _decoded(
    found: datasets.DatasetDict,
    origin: str,
    config: DataConfig,
    seed: int,
    image_size: int,
    in_chans: int,
) -> Data:
    """Decode a source's splits; hold the splits that it lacks out of train."""
    class_names = found["train"].features["label"].names
    splits, broken = {}, []
    for name in [name for name in ("train", "validation", "test") if name in found]:
        images, bad = load_canvases(found[name], name, image_size, in_chans, config.cache)
        splits[name] = Split(images, torch.tensor(found[name]["label"]))
        if bad:
            broken += [found[name][i]["image"]["path"] or f"{name}, row {i}" for i in bad]
            good = torch.ones(len(images), dtype=torch.bool)
            good[bad] = False
            splits[name] = splits[name].take(good)
    if broken and not config.skip_broken:
        listed = "\n  ".join(broken)
        raise ValueError(
            f"{origin} holds {len(broken)} files that are no readable images; repair or remove them, "
            f"or pass data.skip_broken=true:\n  {listed}"
        )
    for name, split in splits.items():
        _check_classes(split, name, class_names, origin)
    for name, fraction in _fractions(config).items():
        if name not in splits:
            splits["train"], splits[name] = hold_out(splits["train"], fraction, seed, name, class_names)
    return Data(splits, class_names, skipped=len(broken))


def _streamed(
    found: datasets.IterableDatasetDict, config: DataConfig, seed: int, image_size: int, in_chans: int
) -> Data:
    """Load train as a stream, and validation and test into memory."""
    train, count, held = divide(found, config.source, seed, _fractions(config))
    splits = {"train": Stream(train, count, image_size, in_chans, config.shuffle_buffer)}
    splits |= {name: Split(*decode_rows(rows, image_size, in_chans)) for name, rows in held.items()}
    return Data(splits, found["train"].features["label"].names)


def _fractions(config: DataConfig) -> dict[str, float]:
    """The share of train to hold out for each split, in the order of holding out."""
    return {"test": config.test_fraction, "validation": config.validation_fraction}


def _check_classes(split: Split, name: str, class_names: list[str], origin: str) -> None:
    """ValueError for a class without training images; a message for one that another split lacks."""
    check_labels(split.labels, len(class_names))
    present = set(split.labels.tolist())
    lacking = [class_name for label, class_name in enumerate(class_names) if label not in present]
    if name == "train" and lacking:
        raise ValueError(f"{origin}: class {lacking[0]!r} has no images in train.")
    if lacking:
        logger.info(f"data: {name} has no images of {len(lacking)} classes, {lacking[0]!r} for one")
