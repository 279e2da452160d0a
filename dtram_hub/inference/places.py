"""Places: the images that are being looked at, as one batch whose rows are taken and freed."""

import torch
from torch import Tensor, nn

from ..images.pyramid import Pyramid, as_pyramid
from ..images.ragged import Ragged
from ..models.glimpse import Images
from ..models.input import WIDE

Image = Tensor | Pyramid


class Places:
    """A fixed number of places for images.

    Images of one shape lie in one tensor on the model's device. Images of different sizes stay where they
    are. A place keeps its image until another takes it.

    Args:
        model: a DTRAM, which will read the images.
        count: the number of places.
    """

    def __init__(self, model: nn.Module, count: int):
        self.model, self.count = model, count
        self.kind: tuple | None = None  # channels and dtype of all images, and whether they are normalised
        self.tensor: Tensor | None = None
        self.listed: list[Image] | None = None

    def put(self, places: list[int], images: Images | list[Image]) -> None:
        """Put images, from `check` or from `DTRAM.open`, into places."""
        if isinstance(images, Ragged):
            images = images.images
        if self.tensor is None and self.listed is None:
            self._begin(images[0])
        if self.tensor is not None and any(
            image.shape != self.tensor.shape[1:]  # type: ignore[union-attr]  # `check` lets no pyramid in
            for image in images
        ):
            self.listed, self.tensor = list(self.tensor.cpu()), None
        if self.listed is not None:
            for place, image in zip(places, images, strict=True):
                self.listed[place] = image
        elif isinstance(images, Tensor):
            self.tensor[torch.tensor(places, device=self.tensor.device)] = images.to(self.tensor.device)
        else:
            for place, image in zip(places, images, strict=True):
                self.tensor[place].copy_(image, non_blocking=True)

    def check(self, image: Image) -> None:
        """ValueError unless an image can lie beside the others."""
        channels = image.shape[0] if isinstance(image, Tensor) else image.channels
        stored = str(image.dtype).removeprefix("torch.")
        kind = channels, stored, isinstance(image, Tensor) and image.is_floating_point()
        if channels != self.model.in_chans:
            raise ValueError(f"it has {channels} channels; accepted are {self.model.in_chans}")
        if self.kind is None:
            self.model.open(
                image[None] if isinstance(image, Tensor) else [image]
            )  # knows which dtypes are accepted
            self.kind = kind
        if kind != self.kind:
            raise ValueError(f"its pixels are {stored}, and those of the first image {self.kind[1]}")

    def batch(self) -> Images:
        """All places, as `DTRAM.open` gives images."""
        return self.model.open(self.listed if self.tensor is None else self.tensor)

    def _begin(self, image: Image) -> None:
        if isinstance(image, Tensor) and image.dtype not in WIDE:
            device = next(self.model.parameters()).device
            self.tensor = torch.zeros(self.count, *image.shape, dtype=image.dtype, device=device)
        else:
            self.listed = [as_pyramid(image)] * self.count
