"""Pointing: whether glimpses cover what the label names, for sources that know its boxes.

No model sees a box in training. Boxes judge its glimpses afterwards.
"""

import torch
from torch import Tensor


def pointing(locations: Tensor, boxes: Tensor, reach: Tensor | float) -> list[float] | None:
    """The share of images with a box in which a glimpse has covered the centre of a box, after each step.

    Args:
        locations: (N, T, 2) in [-1, 1], (y, x); NaN for the context view and for steps not taken.
        boxes: (N, K, 4) in [-1, 1], top, left, bottom, right; NaN where an image has fewer than K.
        reach: half the side of a glimpse, as a location; or (N, 1, 2) of `reach_of`.

    Returns:
        T shares in [0, 1], which rise with the steps; None if no image has a box.
    """
    has_box = ~boxes.isnan().all(-1).all(-1)
    if not has_box.any():
        return None
    if isinstance(reach, Tensor):
        reach = reach.expand(len(boxes), -1, -1)[has_box][:, :, None]
    distances = (locations[has_box][:, :, None] - centres(boxes)[has_box][:, None]).abs()
    covers = (distances <= reach).all(-1).any(-1)  # a comparison with NaN is False
    return covers.cummax(1).values.double().mean(0).tolist()


def centres(boxes: Tensor) -> Tensor:
    """The centres (.., 2) of boxes (.., 4), top, left, bottom, right."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def oracle(locations: Tensor, boxes: Tensor, first: int) -> Tensor:
    """The locations (N, T, 2) with the glimpse of one step moved to the centre of the image's first box.

    Args:
        locations: (N, T, 2) in [-1, 1]; those of an image without a box stay as they are.
        boxes: (N, K, 4), as in `pointing`.
        first: the index of the step.
    """
    truth = centres(boxes)[:, 0]
    moved = locations.clone()
    moved[:, first] = torch.where(truth.isnan(), locations[:, first], truth)
    return moved
