"""From what users give to what a model reads: a square as timm makes it, the fitted image, or all pixels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor

from ..data.canvas import MOST_DECODED, UnreadableImage, open_photograph, read_content
from ..data.squares import fitted, square_called
from ..images.pyramid import SHOWN_SIDE, Pyramid, as_pyramid, small_copy
from ..images.tiff import is_tiff, open_tiff
from ..images.views import as_torch, level_range
from ..models.dtram import DTRAM


@dataclass(frozen=True)
class Prepared:
    """One image, ready to be looked at.

    Attributes:
        image: stored pixels (C, S, S) uint8, an image of any size, or a tensor as it was given.
        warning: why the pixels may be wrong, or "".
    """

    image: Tensor | Pyramid
    warning: str = ""


class Preparation:
    """How a model wants its images.

    Args:
        model: a DTRAM. Files and photographs need one of one or three channels.
        most_pixels: of a file that is decoded as a whole.
    """

    def __init__(self, model: DTRAM, most_pixels: int = MOST_DECODED):
        self.model, self.most_pixels = model, most_pixels
        self.pins = next(model.parameters()).device.type == "cuda"  # copies then overlap with computing
        config = resolve_model_data_config(model)
        self.transform = create_transform(**config, is_training=False, normalize=False)
        self.square = square_called(config["crop_mode"])
        self.resized = int(config["input_size"][-1] / config["crop_pct"])  # before timm crops
        self.form: Callable[[Image.Image], Tensor | Pyramid] = self._square
        if model.context == "fit":
            self.form = self._longer_side
        if model.image_size is None:
            self.form = self._as_it_is

    def __call__(self, given: Any) -> Prepared:
        """Prepare one image.

        Args:
            given: a path, the content of a file, a photograph of Pillow, a row of `datasets` with one of
                these; or pixels, as in `DTRAM.open`: a tensor (C, H, W), an array-like (H, W, C), a pyramid.

        Raises:
            UnreadableImage: a file as in `open_photograph` and `open_tiff`.
            ValueError: pixels as in `Pyramid`.
        """
        if isinstance(given, Mapping):
            given = given["image"] if "image" in given else read_content(given)
        if isinstance(given, str | Path):
            return self.open(Path(given))
        if isinstance(given, bytes | Image.Image):
            return self._formed(self._decoded(given))
        if isinstance(given, Tensor):
            as_pyramid(given[:, :1, :1]) if given.ndim == 3 else as_pyramid(given)  # its shape alone
            return Prepared(given)
        return Prepared(as_pyramid(given))

    def open(self, path: Path) -> Prepared:
        """Read one file, or only its header if it can be read by region; errors as above."""
        large = self._by_region(path)
        if large is not None and self.model.image_size is None:
            return Prepared(large)
        return self._formed(self._decoded(path) if large is None else self._small_copy(large))

    def _formed(self, photograph: Image.Image) -> Prepared:
        return Prepared(self.form(photograph), photograph.info.get("warning", ""))

    def _square(self, photograph: Image.Image) -> Tensor:
        image = self.transform(self.square.tame(photograph, self.resized))
        return image.pin_memory() if self.pins else image

    def _longer_side(self, photograph: Image.Image) -> Pyramid:
        return self._as_it_is(fitted(photograph, self.model.image_size))

    def _as_it_is(self, photograph: Image.Image) -> Pyramid:
        return Pyramid([np.asarray(photograph)])

    def _by_region(self, path: Path) -> Pyramid | None:
        """A large TIFF; None for all other files, and without tifffile."""
        if not is_tiff(path):
            return None
        try:
            return open_tiff(path, self.model.in_chans, self.most_pixels)
        except ImportError:
            return None

    def _decoded(self, source: Path | bytes | Image.Image) -> Image.Image:
        try:
            return open_photograph(
                source, self.model.in_chans, most_pixels=self.most_pixels, levels=self.model.levels
            )
        except UnreadableImage as error:
            if not isinstance(source, Path) or not is_tiff(source) or find_spec("tifffile"):
                raise
            hint = "pip install 'dtram-hub[large]' reads a TIFF by region"
            raise UnreadableImage(f"{error}; {hint}") from error

    def _small_copy(self, image: Pyramid) -> Image.Image:
        """A copy of at least twice the size that the model needs."""
        pixels = self._eight_bits(small_copy(image, 2 * self.model.image_size))
        return Image.fromarray(pixels[:, :, 0] if self.model.in_chans == 1 else pixels)

    def shown(self, image: Tensor | Pyramid) -> tuple[Tensor, float]:
        """A prepared file as people see it, (C, h, w) uint8, and its pixels for one of the image's."""
        if isinstance(image, Tensor):
            return image, 1.0
        pixels = self._eight_bits(small_copy(image, SHOWN_SIDE))
        return torch.tensor(pixels).permute(2, 0, 1), len(pixels) / image.size[0]

    def _eight_bits(self, pixels: np.ndarray) -> np.ndarray:
        black, white = level_range(as_torch(pixels.dtype), self.model.levels)
        if pixels.dtype == np.uint8:
            return pixels
        return ((pixels.astype("f4") - black) / (white - black) * 255).round().clip(0, 255).astype(np.uint8)
