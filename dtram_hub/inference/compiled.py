"""Compiled looks: the encoder as fused graphs of a few batch sizes, to which smaller batches are padded."""

from typing import Any

import torch
from torch import Tensor

from ..checks import check_integer
from ..models.dtram import DTRAM
from ..models.records import Seen
from ..models.seeing import encode_view

# For a CPU, weights become constants, and batch norm a part of its convolution. For CUDA, the launches of all
# kernels become one graph.
OPTIONS: dict[str, dict[str, Any]] = {
    "cpu": {"options": {"freezing": True}},
    "cuda": {"mode": "reduce-overhead"},
}


class CompiledLooks:
    """`DTRAM.encode_view` of a model in evaluation mode, compiled by torch.

    Args:
        model: a DTRAM in evaluation mode, on its device. Its weights must not change afterwards.
        batch_size: the largest batch; a larger one is taken in parts.

    sizes: the batch sizes that are compiled: 1, a quarter of `batch_size`, and `batch_size`.
    graphs: the number of graphs so far, at most one for each size and kind of look.
    """

    def __init__(self, model: DTRAM, batch_size: int):
        check_integer("batch_size", batch_size, 1)
        self.model = model
        self.sizes = sorted({1, -(-batch_size // 4), batch_size})
        kind = next(model.parameters()).device.type
        self.compiled = torch.compile(self._encode, dynamic=False, fullgraph=True, **OPTIONS.get(kind, {}))
        self.seen: set[tuple] = set()

    @property
    def graphs(self) -> int:
        return len(self.seen)

    def __call__(self, view: Tensor, locations: Tensor | None) -> Seen:
        """As `DTRAM.encode_view`."""
        parts = []
        for start in range(0, len(view), self.sizes[-1]):
            part = slice(start, start + self.sizes[-1])
            parts.append(self._padded(view[part], None if locations is None else locations[part]))
        return Seen(
            *(None if column[0] is None else torch.cat(column) for column in zip(*parts, strict=True))
        )

    def _padded(self, view: Tensor, locations: Tensor | None) -> list[Tensor | None]:
        """Encode a batch, repeated up to the next size of `sizes`."""
        count = len(view)
        size = next(size for size in self.sizes if size >= count)
        rows = torch.arange(size, device=view.device) % count
        view = view if size == count else view[rows]
        locations = locations if locations is None or size == count else locations[rows]
        view = view.contiguous(memory_format=torch.channels_last)
        self.seen.add((tuple(view.shape), locations is None))
        # A later call of a CUDA graph overwrites what an earlier one returned.
        return [
            None if tensor is None else tensor[:count].clone() for tensor in self.compiled(view, locations)
        ]

    def _encode(self, view: Tensor, locations: Tensor | None) -> tuple[Tensor | None, ...]:
        seen = encode_view(self.model, view, locations)
        return seen.features, seen.own_logits, seen.cells


def compile_looks(model: DTRAM, batch_size: int) -> CompiledLooks:
    """Let a model encode its views by compiled graphs from now on, which are made at their first use.

    Predictions and streams take them without further ado. `del model.encode_view` undoes it.

    Args:
        model, batch_size: as in `CompiledLooks`.

    Raises:
        ValueError: the model is in training mode.
    """
    if model.training:
        raise ValueError(
            "the model is in training mode; accepted is model.eval(), because weights become fixed."
        )
    model.encode_view = CompiledLooks(model, batch_size)  # type: ignore[method-assign]
    return model.encode_view
