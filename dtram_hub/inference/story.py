"""The story of one image: each look, what the model believed after it, and how sure it was to stop there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..images.pyramid import UnreadableImage
from ..images.views import Normalise
from ..models.dtram import DTRAM
from ..models.glimpse import context_extents, glimpse_extents
from ..models.records import Rollout
from ..prompt import printable
from .answers import class_names
from .prepare import Preparation
from .reader import read_ahead

BELIEFS = 3  # classes that a look tells of


@dataclass(frozen=True)
class Window:
    """Where a look was, in shares of the image's height and width; a window may reach beyond the image."""

    top: float
    left: float
    height: float
    width: float


@dataclass(frozen=True)
class Belief:
    """A class, by its name or else its index, and its probability in [0, 1]."""

    name: str
    prob: float


@dataclass(frozen=True)
class Look:
    """One look.

    number: its step, in 1..T.
    is_context: whether it is the context view; otherwise it is a glimpse.
    window: where it was.
    view: (S, S) or (S, S, 3) uint8, the pixels that the encoder saw.
    beliefs: the most probable classes after it, the best first.
    stop_prob: the probability to stop after it, in [0, 1]; None of a RAM.
    """

    number: int
    is_context: bool
    window: Window
    view: np.ndarray
    beliefs: list[Belief]
    stop_prob: float | None


@dataclass(frozen=True)
class Story:
    """A full pass of one image.

    name: that of the file, or "the image".
    picture: (h, w) or (h, w, 3) uint8, the image as the model reads it, at a size for pictures.
    looks: all T looks.
    warning: why the pixels may be wrong, or "".
    """

    name: str
    picture: np.ndarray
    looks: list[Look]
    warning: str = ""

    def until(self, stop_threshold: float) -> list[Look]:
        """The looks that a prediction takes at a stop threshold in [0, 1]; all looks of a RAM."""
        stops = [look.number for look in self.looks if (look.stop_prob or 0.0) > stop_threshold]
        return self.looks[: min(stops, default=len(self.looks))]


def tell(model: DTRAM, given: Any, prepare: Preparation | None = None) -> Story:
    """Take all looks at one image.

    Args:
        model: a DTRAM with classes, in evaluation mode, for images of one or three channels.
        given: what `Preparation` takes: a path, a photograph of Pillow, the content of a file, pixels.
        prepare: how the image is prepared; as the model wants it by default.

    Raises:
        ValueError: the image cannot be read, or the model's answer is no number. The message is one sentence
            that names the file.
    """
    name = printable(Path(given).name) if isinstance(given, str | Path) else "the image"
    prepare = prepare or Preparation(model)
    read = next(read_ahead([given], prepare, workers=1, ahead=1))
    if read.error:
        raise ValueError(f"{name} {read.error}.")
    image = read.prepared.image
    images = model.open(image[None] if isinstance(image, Tensor) else [image])
    try:
        with torch.no_grad():
            found = model.rollout(images)
            views = _views(model, images, found.locations[0])
    except UnreadableImage as error:  # a part of a file that is read by region
        raise ValueError(f"{name} is no readable image ({error}).") from error
    if not found.logits.isfinite().all():
        raise ValueError(f"{name} has no answer: the model's logits are not finite.")
    height, width = image.shape[1:] if isinstance(image, Tensor) else image.size
    picture = _pixels(prepare.shown(image)[0])
    return Story(name, picture, _looks(model, found, views, (height, width)), read.prepared.warning)


def _looks(model: DTRAM, found: Rollout, views: list[np.ndarray], size: tuple[int, int]) -> list[Look]:
    """The looks of a rollout of one image of `size` (height, width)."""
    names, probs = class_names(model), found.logits[0].softmax(-1)
    stop_probs = found.stop_logits[0].sigmoid().tolist() if model.dynamic else [None] * len(views)
    looks = []
    for step, (view, location) in enumerate(zip(views, found.locations[0], strict=True)):
        best = probs[step].topk(min(BELIEFS, model.num_classes))
        beliefs = [
            Belief(names[index] if names else str(index), prob)
            for prob, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        is_context = bool(location.isnan().any())
        window = _window(model, size, None if is_context else location)
        looks.append(Look(step + 1, is_context, window, view, beliefs, stop_probs[step]))
    return looks


def _window(model: DTRAM, size: tuple[int, int], location: Tensor | None) -> Window:
    """The window of the context, or of a glimpse at `location` (2,), in an image of `size`."""
    if location is None:
        extents = context_extents(size, model.context, model.context_size)
    else:
        extents = glimpse_extents(size, location[None], model.glimpse_crop, model.crop_mode)
    corner, sides = (torch.as_tensor(pair).flatten().tolist() for pair in (extents.corners, extents.sides))
    (top, left), (height, width) = (
        [part / whole for part, whole in zip(pair, size, strict=True)] for pair in (corner, sides)
    )
    return Window(top, left, height, width)


def _views(model: DTRAM, images: Any, locations: Tensor) -> list[np.ndarray]:
    """The pixels that the encoder saw in each look; of several scales those of the narrowest."""
    normalise = Normalise(model.pretrained_cfg)
    views = []
    for location in locations:
        view = model.view(images, None if location.isnan().any() else location[None])[:, : model.in_chans]
        levels = view.float().cpu() * normalise.std + normalise.mean
        views.append(_pixels((levels[0] * 255).round().clamp(0, 255).to(torch.uint8)))
    return views


def _pixels(image: Tensor) -> np.ndarray:
    """(C, h, w) -> (h, w, C), or (h, w) if C is 1."""
    return image.permute(1, 2, 0).squeeze(-1).cpu().numpy()
