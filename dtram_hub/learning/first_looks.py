"""First looks that are computed once in a stage: of a frozen encoder, at images that are not augmented."""

from collections.abc import Iterator

import torch
from accelerate.logging import get_logger
from torch import Tensor

from ..data.augment import Augmentation
from ..data.loader import Loaded
from ..data.splits import Joined, Split
from ..models.records import Seen
from .evaluation import Evaluator

logger = get_logger(__name__)
MOST_BYTES = 2e9  # of the first looks of a stage, in memory


class FirstLooks:
    """The encoder's output for the context view of every image of a split, on the CPU.

    They are computed in the order of the split, so a resumed run has the same to the last bit.

    Args:
        evaluator: its model is that of the stage, its encoder frozen and in evaluation mode.
        split: the images.
    """

    def __init__(self, evaluator: Evaluator, split: Split | Joined):
        parts = []
        for _, images in evaluator.batches(split):
            with torch.no_grad(), evaluator.accelerator.autocast():
                model = evaluator.model
                seen = model.encode_view(model.view(model.open(images), None), None)
            parts.append([None if tensor is None else tensor.cpu() for tensor in _tensors(seen)])
        joined = [None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True)]
        kept = [tensor for tensor in joined if tensor is not None]
        whole = iter(evaluator.gather(kept, len(split)))
        self.tensors = [None if tensor is None else next(whole) for tensor in joined]

    def at(self, index: Tensor, device: torch.device) -> Seen:
        """The output for the images at `index` (B,) int64, as `DTRAM.encode_view` gives it."""
        features, own, cells = (None if t is None else t[index].to(device) for t in self.tensors)
        return Seen(features, own, cells)


def _tensors(seen: Seen) -> Iterator[Tensor | None]:
    yield from (seen.features, seen.own_logits, seen.cells)


def keep_first_looks(evaluator: Evaluator, split: Loaded, augmentation: Augmentation) -> FirstLooks | None:
    """The first looks of a stage, if they are always the same and fit into MOST_BYTES.

    Args:
        evaluator: its model has entered the stage.
        split: the images of the stage.
        augmentation: that of the stage.
    """
    model = evaluator.model.to(evaluator.accelerator.device)
    encoder = model.encoder if model.context_encoder is None else model.context_encoder
    learns = any(parameter.requires_grad for parameter in encoder.parameters())
    if augmentation.used or learns or model.context == "none" or not isinstance(split, Split | Joined):
        return None
    with torch.no_grad():
        view = next(model.parameters()).new_zeros(1, model.in_chans, *[model.context_size] * 2)
        seen = model.eval().encode_view(view, None)
    needed = len(split) * sum(t.numel() * t.element_size() for t in _tensors(seen) if t is not None)
    if needed > MOST_BYTES:
        logger.info(f"first looks of {len(split)} images would take {needed / 1e9:.1f} GB; they are not kept")
        return None
    return FirstLooks(evaluator, split)
