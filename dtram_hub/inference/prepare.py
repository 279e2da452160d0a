"""From a file to what a model reads: a square as timm prepares it, the fitted image, or the file as it is."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor

from ..data.canvas import MOST_DECODED, UnreadableImage, centre, fitted, open_photograph
from ..images.pyramid import SHOWN_SIDE, Pyramid, small_copy
from ..images.tiff import is_tiff, open_tiff
from ..images.views import as_torch, level_range
from ..models.dtram import DTRAM


@dataclass(frozen=True)
class Prepared:
    """One image, ready to be answered.

    images: a batch of one, as `DTRAM.open` takes it.
    warning: why the pixels may be wrong, or "".
    """

    images: Tensor | list[Pyramid]
    warning: str


class Preparation:
    """How a model wants its files.

    Args:
        model: a DTRAM of one or three channels.
        most_pixels: of a file that is decoded as a whole.
    """

    def __init__(self, model: DTRAM, most_pixels: int = MOST_DECODED):
        self.model, self.most_pixels = model, most_pixels
        self.device = next(model.parameters()).device
        config = resolve_model_data_config(model)
        self.transform = create_transform(**config, is_training=False)
        self.keeps_centre = config["crop_mode"] == "center"  # the other modes see all of the image
        self.form = self._square
        if model.context == "fit":
            self.form = self._longer_side
        if model.image_size is None:
            self.form = self._as_it_is

    def open(self, path: Path) -> Prepared:
        """Read one file, or only its header if it can be read by region.

        Raises:
            UnreadableImage: as in `open_photograph` and `open_tiff`.
        """
        large = self._by_region(path)
        if large is not None and self.model.image_size is None:
            return Prepared([large], "")
        photograph = self._decoded(path) if large is None else self._small_copy(large)
        return Prepared(self.form(photograph), photograph.info.get("warning", ""))

    def _square(self, photograph: Image.Image) -> Tensor:
        image = self.transform(centre(photograph) if self.keeps_centre else photograph)
        return image[None].to(self.device)

    def _longer_side(self, photograph: Image.Image) -> list[Pyramid]:
        return self._as_it_is(fitted(photograph, self.model.image_size))

    def _as_it_is(self, photograph: Image.Image) -> list[Pyramid]:
        return [Pyramid([np.asarray(photograph)])]

    def _by_region(self, path: Path) -> Pyramid | None:
        """A large TIFF; None for all other files, and without tifffile."""
        if not is_tiff(path):
            return None
        try:
            return open_tiff(path, self.model.in_chans, self.most_pixels)
        except ImportError:
            return None

    def _decoded(self, path: Path) -> Image.Image:
        try:
            return open_photograph(
                path, self.model.in_chans, most_pixels=self.most_pixels, levels=self.model.levels
            )
        except UnreadableImage as error:
            if not is_tiff(path) or find_spec("tifffile"):
                raise
            hint = "pip install 'dtram-hub[large]' reads a TIFF by region"
            raise UnreadableImage(f"{error}; {hint}") from error

    def _small_copy(self, image: Pyramid) -> Image.Image:
        """A copy of at least twice the size that the model needs."""
        pixels = self._eight_bits(small_copy(image, 2 * self.model.image_size))
        return Image.fromarray(pixels[:, :, 0] if self.model.in_chans == 1 else pixels)

    def shown(self, prepared: Prepared) -> tuple[Tensor, float]:
        """The image as people see it, (C, h, w) uint8, and its pixels for one of the image's."""
        images = prepared.images
        if isinstance(images, Tensor):
            mean, std = (
                torch.tensor(self.model.pretrained_cfg[key]).view(-1, 1, 1) for key in ("mean", "std")
            )
            return ((images[0].cpu() * std + mean) * 255).round().clamp(0, 255).byte(), 1.0
        pixels = self._eight_bits(small_copy(images[0], SHOWN_SIDE))
        return torch.tensor(pixels).permute(2, 0, 1), len(pixels) / images[0].size[0]

    def _eight_bits(self, pixels: np.ndarray) -> np.ndarray:
        black, white = level_range(as_torch(pixels.dtype), self.model.levels)
        if pixels.dtype == np.uint8:
            return pixels
        return ((pixels.astype("f4") - black) / (white - black) * 255).round().clip(0, 255).astype(np.uint8)
