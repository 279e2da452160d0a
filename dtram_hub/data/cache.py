"""The cache of canvases: decoded images in memory-mapped files.

Every image is decoded once, because few machines decode JPEGs as fast as they train.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from accelerate.logging import get_logger
from datasets import Dataset
from filelock import FileLock
from huggingface_hub import constants
from torch import Tensor
from tqdm.auto import tqdm

from .canvas import Canvas, Form, content_or_nothing, decode_all

logger = get_logger(__name__)
CACHE = Path(constants.HF_HOME) / "dtram-canvases"
CHUNK = 256  # images decoded at a time


@dataclass
class Canvases:
    """The canvases of a split.

    images: (N, C, S, S) uint8, mapped from a file, or images of any size; zero for unreadable ones.
    faults: why an image is unreadable, by index.
    warnings: why the pixels of an image may be wrong, by index.
    checksum: of the content of all images in order, and of the settings.
    """

    images: Any
    faults: dict[int, str]
    warnings: dict[int, str]
    checksum: str


def load_canvases(split: Dataset, name: str, form: Form, cache: Path | str | None = None) -> Canvases:
    """Map all canvases of a split into memory; the first call decodes them into a file.

    The name of the file is a checksum of all images and settings. One of several processes decodes, and the
    others wait. A killed process leaves no file under the final name.

    Args:
        split: a data set with a column `image` of {"path", "bytes"}.
        name: name of the split, for messages.
        form: as in `decode`; of squares.
        cache: folder for the files; CACHE by default.

    Raises:
        ValueError: the disk is full, or the folder cannot be written.
    """
    cache, checksum = folder_of(cache), checksum_of(split, form)
    target = cache / f"{checksum}.npy"
    notes = target.with_suffix(".notes.json")  # older versions, which decode floats, write .json
    with FileLock(target.with_suffix(".lock")):
        found = _read(target, notes)
        if found is None:
            _write(split, name, form, target, notes)
            found = _read(target, notes)
    images, faults, warnings = found
    return Canvases(images, faults, warnings, checksum)


def folder_of(cache: Path | str | None) -> Path:
    """The folder of the cache, made if it is not there; ValueError if it cannot be written."""
    cache = Path(cache or CACHE)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"data.cache={str(cache)!r} cannot be written ({error.strerror}).") from None
    return cache


def _read(target: Path, notes: Path) -> tuple[Tensor, dict[int, str], dict[int, str]] | None:
    """Images, faults and warnings of a file; None for one that is missing or damaged."""
    try:
        # mmap_mode="c" maps private pages: a change of the tensor does not reach the file.
        images = torch.from_numpy(np.load(target, mmap_mode="c"))
        found = json.loads(notes.read_text())
        faults, warnings = ({int(i): text for i, text in noted.items()} for noted in found)
        return images, faults, warnings
    except (OSError, EOFError, ValueError):
        return None


def _write(split: Dataset, name: str, form: Form, target: Path, notes: Path) -> None:
    shape = (len(split), form.channels, form.side, form.side)
    announce(split, name, int(np.prod(shape)), target.parent, "a folder on a larger disk")
    faults: dict[int, str] = {}
    warnings: dict[int, str] = {}
    with whole_file(target) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for canvas in decoded(split, name, form, CHUNK, faults, warnings):
            pixels = np.zeros(shape[1:], np.uint8) if canvas.fault else canvas.pixels
            file.write(pixels.tobytes())
        notes.write_text(json.dumps([faults, warnings], allow_nan=False))


def announce(split: Dataset, name: str, needed: int, folder: Path, accepted: str) -> None:
    """Say what is decoded; ValueError, with what is accepted, unless `folder` has room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"data.cache={str(folder)!r} has {readable(free)} free, and the decoded {name} images "
            f"take {readable(needed)}; accepted is {accepted}."
        )
    logger.info(f"data: decoding {len(split)} {name} images, once, into {readable(needed)} under {folder}")


@contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """A file to write, which gets its name when the block ends; ValueError if the disk refuses anything."""
    partial = target.with_suffix(".partial")
    try:
        # A write reports a full disk or quota. A write through a map would kill the process.
        with partial.open("wb") as file:
            yield file
        os.replace(partial, target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ValueError(f"data.cache={str(target.parent)!r} cannot be written ({error.strerror}).") from None


def decoded(
    split: Dataset, name: str, form: Form, chunk: int, faults: dict[int, str], warnings: dict[int, str]
) -> Iterator[Canvas]:
    """Decode the images of a split in order, `chunk` at a time, and note what is wrong with them by index."""
    for start in tqdm(range(0, len(split), chunk), desc=name, leave=False, disable=None):
        files = split[start : start + chunk]["image"]
        for i, canvas in enumerate(decode_all(files, form), start):
            faults |= {i: canvas.fault} if canvas.fault else {}
            warnings |= {i: canvas.warning} if canvas.warning else {}
            yield canvas


def checksum_of(split: Dataset, form: Form) -> str:
    """The checksum of all images and settings."""
    settings = f"canvas 2, {form.side} pixels, {form.channels} channels"
    if form.keeps_aspect or form.levels:
        settings += f", aspect {form.keeps_aspect}, levels {form.levels}"
    if form.crop_mode != Form.crop_mode:
        settings += f", {form.crop_mode}, colour {form.colour}"
    digest = hashlib.sha256(settings.encode())
    for batch in split.select_columns(["image"]).iter(CHUNK):
        for file in batch["image"]:
            digest.update(hashlib.sha256(content_or_nothing(file)).digest())
    return digest.hexdigest()[:32]


def readable(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
