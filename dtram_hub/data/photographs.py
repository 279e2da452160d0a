"""Splits of photographs: decoded and mapped into memory, or streamed from the Hub."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate.logging import get_logger
from torch import Tensor

from ..prompt import printable
from .cache import Canvases, load_canvases
from .canvas import Form, box_in
from .config import DataConfig
from .layouts import open_hub, open_stream
from .ragged_cache import load_photographs
from .splits import Data, Split, hold_out
from .streaming import Stream, decode_rows, divide, label_fault
from .undecoded import Undecoded

logger = get_logger(__name__)


def load_folder(
    layout: Callable[[Path], datasets.DatasetDict],
    config: DataConfig,
    seed: int,
    form: Form,
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
    return _decoded(found, f"data.root={config.root!r}", config, seed, form)


def load_hub(config: DataConfig, seed: int, form: Form) -> Data:
    """Load a data set of the Hub, streamed or downloaded.

    Raises:
        ValueError: no such data set, unreadable images, or a class without training images.
        ConnectionError: the Hub does not answer.
    """
    name = config.source.removeprefix("hub:")
    if config.streaming:
        return _streamed(*open_stream(name), config, seed, form)
    return _decoded(open_hub(name), f"data.source={config.source!r}", config, seed, form)


def _decoded(
    found: datasets.DatasetDict,
    origin: str,
    config: DataConfig,
    seed: int,
    form: Form,
) -> Data:
    """Decode a source's splits; hold the splits that it lacks out of train."""
    if not form.is_square:
        config.check_regions()
    class_names = found["train"].features["label"].names
    splits, identity, broken, doubtful = {}, {}, [], []
    for name in [name for name in ("train", "validation", "test") if name in found]:
        if name != "train" and all(label in (None, -1) for label in found[name]["label"]):
            logger.info(f"data: {name} of {origin} has no labels and is left out")
            continue
        canvases = _canvases(found[name], name, config, form)
        given = found[name]["label"][:]
        faults = {i: label_fault(label, len(class_names)) for i, label in enumerate(given)} | canvases.faults
        faults = {i: fault for i, fault in faults.items() if fault}
        broken += [f"{_name_of(found[name], name, i)} ({fault})" for i, fault in faults.items()]
        doubtful += [f"{_name_of(found[name], name, i)}: {text}" for i, text in canvases.warnings.items()]
        labels = torch.tensor([-1 if label is None else label for label in given])
        identity[name] = hashlib.sha256(canvases.checksum.encode() + labels.numpy().tobytes()).hexdigest()
        splits[name] = Split(canvases.images, labels, boxes=_boxes(found[name], form))
        if faults:
            good = torch.ones(len(labels), dtype=torch.bool)
            good[list(faults)] = False
            splits[name] = splits[name].take(good)
    if broken and not config.skip_broken:
        listed = "\n  ".join(broken)
        raise ValueError(
            f"{origin} holds {len(broken)} files that are no readable images; repair or remove them, "
            f"or pass data.skip_broken=true:\n  {listed}"
        )
    if doubtful:
        logger.warning(f"data: {len(doubtful)} images may be wrong; {doubtful[0]}, for one")
    for name, split in splits.items():
        _check_classes(split, name, class_names, origin)
    lacking = {name: fraction for name, fraction in _fractions(config).items() if name not in splits}
    for name, fraction in lacking.items():
        splits["train"], splits[name] = hold_out(splits["train"], fraction, seed, name, class_names)
    return Data(splits, class_names, len(broken), identity, tuple(lacking))


def _canvases(split: datasets.Dataset, name: str, config: DataConfig, form: Form) -> Canvases:
    """The images of a split, decoded once, or whenever they are read."""
    if config.keep_decoded:
        keep = load_canvases if form.is_square else load_photographs
        return keep(split, name, form, config.cache)
    # To read all files for a checksum would take as long as an epoch.
    return Canvases(Undecoded(split, form, config.skip_broken), {}, {}, split._fingerprint)


def _boxes(split: datasets.Dataset, form: Form) -> Tensor | None:
    """The boxes of a split (N, 1, 4) in its decoded images; None if the source knows none."""
    if "box" not in split.column_names:
        return None
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(partial(box_in, form=form), split["image"], split["box"]))
    return torch.tensor(found)[:, None]


def _streamed(
    found: datasets.IterableDatasetDict,
    commit: str,
    config: DataConfig,
    seed: int,
    form: Form,
) -> Data:
    """Load train as a stream, and validation and test into memory."""
    if not form.is_square:
        config.check_regions()
    class_names = found["train"].features["label"].names
    train, count, held = divide(found, config.source, seed, _fractions(config))
    splits: dict[str, Any] = {}
    splits["train"] = Stream(train, count, form, len(class_names), config.shuffle_buffer, config.own_shards)
    splits |= {name: Split(*decode_rows(rows, form, len(class_names), name)) for name, rows in held.items()}
    identity = {name: f"{commit}, {len(split)} images" for name, split in splits.items()}
    return Data(splits, class_names, identity=identity)


def _name_of(split: datasets.Dataset, name: str, row: int) -> str:
    path = (split[row]["image"] or {}).get("path")
    return printable(path or f"{name}, row {row}")


def _fractions(config: DataConfig) -> dict[str, float]:
    """The share of train to hold out for each split, in the order of holding out."""
    return {"test": config.test_fraction, "validation": config.validation_fraction}


def _check_classes(split: Split, name: str, class_names: list[str], origin: str) -> None:
    """ValueError for a class without training images; a message for one that another split lacks."""
    if not len(split):
        raise ValueError(f"{origin}: no image of {name} is readable and has a label.")
    present = set(split.labels.tolist())
    lacking = [class_name for label, class_name in enumerate(class_names) if label not in present]
    if name == "train" and lacking:
        raise ValueError(f"{origin}: class {lacking[0]!r} has no images in train.")
    if lacking:
        logger.info(f"data: {name} has no images of {len(lacking)} classes, {lacking[0]!r} for one")
