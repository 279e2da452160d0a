"""The cache of images that keep their aspect: one flat file of all pixels, which is mapped into memory.

A large image has its smaller levels beside it, so that no view reads more than it needs.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset
from filelock import FileLock
from torch import Tensor

from ..images.pyramid import Pyramid, sizes_of_levels
from ..images.ragged import Ragged
from .cache import Canvases, announce, checksum_of, decoded, folder_of, whole_file
from .canvas import Form, size_of

CHUNK = 16  # images decoded at a time, which may be large


@dataclass(frozen=True)
class Stored:
    """A level of an image in a flat file, read when it is sliced. It is small, so processes can pass it on.

    path: the file.
    start: the place of its first byte.
    shape: (H, W, C).
    """

    path: Path
    start: int
    shape: tuple[int, int, int]
    dtype = np.dtype(np.uint8)

    def __getitem__(self, where: tuple[slice, ...]) -> np.ndarray:
        count = int(np.prod(self.shape))
        return mapped(self.path)[self.start : self.start + count].reshape(self.shape)[where]


@functools.cache
def mapped(path: Path) -> np.ndarray:
    """All bytes of a file, mapped into memory once in each process."""
    return np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)


@dataclass(frozen=True)
class Photographs:
    """N images of any sizes in a flat file.

    path: the file.
    starts: the place of the first byte of each image.
    sizes: the height and width of each image.
    channels: C.
    """

    path: Path
    starts: list[int]
    sizes: list[tuple[int, int]]
    channels: int

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: Tensor) -> Ragged:
        """The images at `index` (B,) int64. No pixel is read."""
        return Ragged([self._image(i) for i in index.tolist()])

    def _image(self, number: int) -> Pyramid:
        levels, start = [], self.starts[number]
        for height, width in sizes_of_levels(self.sizes[number]):
            levels.append(Stored(self.path, start, (height, width, self.channels)))
            start += height * width * self.channels
        return Pyramid(levels)


def load_photographs(split: Dataset, name: str, form: Form, cache: Path | str | None = None) -> Canvases:
    """Map all images of a split; the first call decodes them into a file.

    Arguments, errors and the name of the file are as in `load_canvases`.
    """
    folder, checksum = folder_of(cache), checksum_of(split, form)
    target = folder / f"{checksum}.flat"
    notes = target.with_suffix(".flat.json")
    with FileLock(target.with_suffix(".lock")):
        found = _read(target, notes, form)
        if found is None:
            _write(split, name, form, target, notes)
            found = _read(target, notes, form)
    return Canvases(*found, checksum)


def _read(target: Path, notes: Path, form: Form) -> tuple[Photographs, dict[int, str], dict[int, str]] | None:
    """Images, faults and warnings of a file; None for one that is missing or damaged."""
    try:
        sizes, faults, warnings = json.loads(notes.read_text())
        sizes = [(height, width) for height, width in sizes]
        counts = [form.channels * sum(h * w for h, w in sizes_of_levels(size)) for size in sizes]
        starts = np.cumsum([0, *counts]).tolist()
        if target.stat().st_size != starts[-1]:
            return None
    except (OSError, ValueError, TypeError):
        return None
    images = Photographs(target, starts[:-1], sizes, form.channels)
    faults, warnings = ({int(i): text for i, text in noted.items()} for noted in (faults, warnings))
    return images, faults, warnings


def _write(split: Dataset, name: str, form: Form, target: Path, notes: Path) -> None:
    expected = [size_of(file, form) for file in split["image"]]
    needed = form.channels * sum(h * w for size in expected for h, w in sizes_of_levels(size))
    announce(split, name, needed, target.parent, "a folder on a larger disk, or an image_size")
    faults: dict[int, str] = {}
    warnings: dict[int, str] = {}
    sizes = []
    with whole_file(target) as file:
        for canvas in decoded(split, name, form, CHUNK, faults, warnings):
            pixels = np.zeros((1, 1, form.channels), np.uint8) if canvas.fault else canvas.pixels
            for level in Pyramid([pixels]).levels:
                file.write(np.ascontiguousarray(level).tobytes())
            sizes.append(pixels.shape[:2])
        notes.write_text(json.dumps([sizes, faults, warnings], allow_nan=False))
