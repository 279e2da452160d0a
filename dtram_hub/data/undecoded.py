"""Images that are decoded whenever they are read, for more images than a disk holds, or for one pass."""

import functools
from dataclasses import dataclass, field

import datasets
import numpy as np
import torch
from torch import Tensor

from ..images.ragged import Ragged
from .canvas import Form, decode_all, size_of


@dataclass
class Undecoded:
    """The images of a split, in the place of its canvases.

    files: a data set with a column `image` of {"path", "bytes"}.
    form: as in `decode`.
    skip_broken: whether unreadable images become black and are noted in `faults`; otherwise they are errors.
    faults: why images are unreadable, by index, of those read so far.
    """

    files: datasets.Dataset
    form: Form
    skip_broken: bool
    faults: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Tensor) -> Tensor | Ragged:
        """The images at `index` (B,) int64, (B, C, S, S) uint8 if they are squares.

        Raises:
            ValueError: an image is unreadable.
        """
        form, numbers = self.form, index.tolist()
        canvases = decode_all(self.files[numbers]["image"], form)
        black = np.zeros(
            (form.channels, form.side, form.side) if form.is_square else (1, 1, form.channels), "u1"
        )
        pixels = []
        for number, canvas in zip(numbers, canvases, strict=True):
            if canvas.fault and not self.skip_broken:
                raise ValueError(
                    f"image {self._name_of(number)} is unreadable ({canvas.fault}); repair or remove it, or "
                    "pass data.skip_broken=true."
                )
            if canvas.fault:
                self.faults[number] = canvas.fault
            pixels.append(black if canvas.fault else canvas.pixels)
        return torch.from_numpy(np.stack(pixels)) if form.is_square else Ragged(pixels)

    @functools.cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of every image, read off its header."""
        if self.form.is_square:
            return [(self.form.side, self.form.side)]
        return [size_of(file, self.form) for file in self.files["image"]]

    def _name_of(self, number: int) -> str:
        return repr((self.files[number]["image"] or {}).get("path") or f"row {number}")
