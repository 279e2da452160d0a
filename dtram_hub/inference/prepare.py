"""From a file to what a model reads: a square as timm prepares it, the fitted image, or the file as it is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor

from ..data.canvas import MOST_DECODED, centre, fitted, open_photograph
from ..images.pyramid import SHOWN_SIDE, Pyramid, small_copy
from ..images.tiff import is_tiff, open_tiff
from ..images.views import level_range
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
        self.is_square = model.image_size is not None and model.context != "fit"
        config = resolve_model_data_config(model)
        self.transform = create_transform(**config, is_training=False)
        self.keeps_centre = config["crop_mode"] == "center"  # the other modes see all of the image
        self.device = next(model.parameters()).device

    def open(self, path: Path) -> Prepared:
        """Read one file, or only its header if it can be read by region.

        Raises:
            UnreadableImage: as in `open_photograph` and `open_tiff`.
        """
        large, warning = self._by_region(path), ""
        if large is None:
            photograph = open_photograph(
                path, self.model.in_chans, most_pixels=self.most_pixels, levels=self.model.levels
            )
            warning = photograph.info.get("warning", "")
        elif self.model.image_size is not None:
            photograph = Image.fromarray(
                self._eight_bits(small_copy(large, 2 * self.model.image_size)).squeeze(-1)
            )
        if self.is_square:
            image = self.transform(centre(photograph) if self.keeps_centre else photograph)[None]
            return Prepared(image.to(self.device), warning)
        if self.model.image_size is not None:
            photograph, large = fitted(photograph, self.model.image_size), None
        return Prepared([Pyramid([np.asarray(photograph)]) if large is None else large], warning)

    def _by_region(self, path: Path) -> Pyramid | None:
        """A large TIFF; None for all other files."""
        if not path.is_file() or not is_tiff(path):
            return None
        try:
            return open_tiff(path, self.model.in_chans, self.most_pixels)
        except ImportError:
            return None

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
        black, white = level_range(torch.from_numpy(pixels[:0]).dtype, self.model.levels)
        if pixels.dtype == np.uint8:
            return pixels
        return ((pixels.astype("f4") - black) / (white - black) * 255).round().clip(0, 255).astype(np.uint8)
