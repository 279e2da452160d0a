"""From what users give as images to the views that the encoder sees; functions of a DTRAM."""

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_images
from ..images.extents import Extents
from ..images.ragged import Ragged
from ..images.views import Normalise, level_range
from .arguments import largest_view
from .glimpse import (
    CONTEXTS,
    Images,
    cell_centres,
    context_extents,
    glimpse_extents,
    reach_of,
    retina,
    sizes_of,
    views,
)

Given = Tensor | Ragged | Sequence[Any]
WIDE = (torch.uint16, torch.uint32)  # torch computes nothing in these, so they are cut as arrays
SMALL = "An image is smaller than a view of {} pixels; what is missing is filled with the mean."


def opened(model: nn.Module, images: Given) -> Images:
    """As `DTRAM.open`."""
    if isinstance(images, Tensor):
        check_images(images, model.in_chans)
    if isinstance(images, Tensor) and images.dtype not in WIDE:
        sizes = [tuple(images.shape[2:])]
    else:
        images = images if isinstance(images, Ragged) else Ragged([*images])
        if images.channels != model.in_chans:
            raise ValueError(f"images have {images.channels} channels; accepted are {model.in_chans}.")
        sizes = images.sizes.tolist()
    if not is_normalised(images):
        level_range(images.dtype if isinstance(images, Tensor) else images.stored, model.levels)
    side = largest_view(model.context, model.context_size, model.glimpse_crop)
    if min(map(min, sizes)) < side:
        say_once(SMALL.format(side))
    return images


def is_recorded() -> bool:
    """Whether torch records a graph: `torch.export`, ONNX or `torch.jit.trace`, but not `torch.compile`."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or torch.jit.is_tracing()


@cache
def say_once(sentence: str) -> None:
    """Warn of something once in a process; Python's own filters forget what they have shown."""
    warnings.warn(sentence, stacklevel=5)


def is_normalised(images: Images) -> bool:
    """Whether the pixels are floats that are normalised already, not stored levels."""
    return images.is_floating_point() if isinstance(images, Tensor) else images.normalised


def view(model: nn.Module, images: Images, locations: Tensor | None, rows: Tensor | None) -> Tensor:
    """As `DTRAM.view`."""
    weight = model.input_to_hidden.weight
    # mean and std are read anew, because `pretrained_cfg` may change.
    normalise = (
        None
        if is_normalised(images) and isinstance(images, Tensor)
        else Normalise(model.pretrained_cfg, model.levels).to(weight.device)
    )
    if locations is None:
        extents = context_of(model, images, rows)
        found = views(images, extents, model.context_size, rows=rows, normalise=normalise)
    else:
        sizes = model.glimpse_crop, model.glimpse_size, model.glimpse_scales
        found = retina(images, locations, *sizes, model.crop_mode, rows, normalise)
    found = found if normalise is None else found.to(weight.dtype)
    if model.training or is_recorded():
        return found
    return found.contiguous(memory_format=torch.channels_last)  # in which convolutions are much faster


def context_of(model: nn.Module, images: Images, rows: Tensor | None = None) -> Extents:
    """The windows of the context view, of all images or of those of `rows` (N,)."""
    return context_extents(sizes_of(images, rows), model.context, model.context_size)


def place_cells(
    model: nn.Module, images: Images, cells: Tensor, grid: tuple[int, int], rows: Tensor | None = None
) -> dict[str, Tensor]:
    """`centres`, `valid` and `reach` of `Seen` for the cells (N, L, K) of the views of `context_of`."""
    count = cells.shape[0]  # `len` would become a constant in an exported graph
    sizes = sizes_of(images, rows)
    centres, valid = cell_centres(context_of(model, images, rows), sizes, grid)
    return {
        "centres": centres.to(cells).expand(count, -1, -1),
        "valid": valid.to(cells.device).expand(count, -1),
        "reach": reach_of(model.glimpse_crop, sizes).to(cells).expand(count, -1, -1),
    }


def boxes_of(model: nn.Module, size: tuple[int, int], locations: Tensor) -> Tensor:
    """The windows of the looks at one image, in its pixels.

    Args:
        size: height and width of the image.
        locations: (S, 2) of the looks that were taken; NaN for a context.

    Returns:
        (S, 4) floats: top, left, height and width.
    """
    boxes = []
    for location in locations.float().cpu():
        if location.isnan().any():
            window = context_extents(size, model.context, model.context_size)
        else:
            window = glimpse_extents(size, location[None], model.glimpse_crop, model.crop_mode)
        boxes.append(torch.cat([torch.as_tensor(ends).flatten().float() for ends in vars(window).values()]))
    return torch.stack(boxes)


def looks_in_words(model: nn.Module) -> str:
    """The sentence for pictures that tells the first look of a model from the later ones."""
    first = CONTEXTS[model.context]
    if model.num_steps == 1:
        return f"The only look is {first}."
    if model.context == "none":
        return "Every look is a glimpse."
    return f"Look 1 is {first}. Every later look is a glimpse."
