"""From a view to what the model sees: the encoder's features, logits and cells; functions of a DTRAM."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from . import input
from .encoder import encode, encode_and_classify, encode_map, encode_with_map
from .glimpse import Images
from .records import Seen


def encode_view(model: nn.Module, view: Tensor, locations: Tensor | None) -> Seen:
    """As `DTRAM.encode_view`; with `recomputes_looks`, activations are computed anew in the backward pass."""
    if not (model.recomputes_looks and torch.is_grad_enabled()):
        return _encode_view(model, view, locations)
    return checkpoint(
        _encode_view,
        model,
        view,
        locations,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _keeping_statistics(model.encoders)),
    )


@contextmanager
def _keeping_statistics(encoders: list[nn.Module]) -> Iterator[None]:
    """Leave the running statistics of batch norm alone, which the first computation has updated."""
    modules = [module for encoder in encoders for module in encoder.modules()]
    changing = [m for m in modules if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    before = [(module.momentum, module.num_batches_tracked.clone()) for module in changing]
    for module in changing:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, (momentum, batches) in zip(changing, before, strict=True):
            module.momentum = momentum
            module.num_batches_tracked.copy_(batches)


def _encode_view(model: nn.Module, view: Tensor, locations: Tensor | None) -> Seen:
    first = locations is None
    if first and model.context_encoder is not None:
        cells = encode_map(model.context_encoder, view, model.map_index)
        return Seen(cells.mean((2, 3)), cells=cells)
    classify = model.num_classes > 0 and (model.answer.asks_first if first else model.answer.asks_later)
    if first and (model.answer.needs_map or model.locator.needs_map):
        return Seen(*encode_with_map(model.encoder, view, model.map_index, classify))
    read = locations if model.encoder_reads_locations else None
    if classify:
        return Seen(*encode_and_classify(model.encoder, view, read))
    return Seen(encode(model.encoder, view, read))


def place_cells(model: nn.Module, images: Images, seen: Seen, rows: Tensor | None) -> Seen:
    """Turn the map (N, K, h, w) of the context view into cells (N, L, K), with their centres and evidence."""
    (height, width), cells = seen.cells.shape[2:], seen.cells.flatten(2).transpose(1, 2)
    placed = input.place_cells(model, images, cells, (height, width), rows)
    return replace(seen, cells=cells, evidence=model.answer.evidence(cells), **placed)
