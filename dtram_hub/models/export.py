"""Export of one look as a graph. The caller runs the loop over looks, because a graph cannot stop early.

`FirstLook` reads images. `NextLook` reads images and the outputs of the look before it. Both return the
state, the next location, the probability to stop and the answer so far:

    packed (N, F), location (N, 2), stop_prob (N,), logits (N, C)

`packed` is the model's `State` as one tensor, because a graph takes no records. A model with `dynamic=False`
exports as a whole, without this module.
"""

import torch
from torch import Tensor, nn

from .dtram import DTRAM
from .records import State


class Look(nn.Module):
    """The base of both looks: the model, and the packing of its state.

    shapes: shape without rows, and dtype, of each tensor of the state, in the order of packing.
    """

    def __init__(self, model: DTRAM):
        super().__init__()
        self.model = model.eval()
        with torch.no_grad():
            state = self.first(example_images(model, 1))
        self.shapes = [(tensor.shape[1:], tensor.dtype) for tensor in _tensors(state)]
        self.own, self.fixed, self.memory = state.own is not None, len(state.fixed), len(state.memory)

    def first(self, images: Tensor) -> State:
        """The state after the first look."""
        state = self.model.begin(images)
        return self.model.advance(images, state, self.model.first_location(state))

    def outcome(self, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four outputs: packed, location, stop_prob, logits."""
        logits = self.model.logits(state)
        stop_prob = self.model.stop_logit(state, logits).sigmoid()
        packed = torch.cat([tensor.flatten(1).to(state.hidden.dtype) for tensor in _tensors(state)], dim=1)
        return packed, self.model.best_location(state), stop_prob, logits

    def unpack(self, packed: Tensor, looks: Tensor) -> State:
        """Turn packed (N, F) into the state after `looks` () int64."""
        parts = packed.split([shape.numel() for shape, _ in self.shapes], dim=1)
        tensors = [
            part.unflatten(1, shape).to(dtype) if len(shape) > 1 else part.to(dtype)
            for part, (shape, dtype) in zip(parts, self.shapes, strict=True)
        ]
        hidden, rest = tensors[0], tensors[1 + self.own :]
        own = tensors[1] if self.own else None
        fixed, changing = rest[: self.fixed], rest[self.fixed :]
        memory, kept = changing[: self.memory], changing[self.memory :]
        return State(hidden, looks, own, tuple(fixed), tuple(memory), kept=tuple(kept))


class FirstLook(Look):
    """images (N, C, H, W) -> packed, location of the second look, stop_prob, logits."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.outcome(self.first(images))


class NextLook(Look):
    """images (N, C, H, W), packed (N, F), location (N, 2), step () int64 -> as `FirstLook`.

    `step` is the number of looks taken, the new one not included.
    """

    def forward(
        self, images: Tensor, packed: Tensor, location: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.outcome(self.model.advance(images, self.unpack(packed, step), location))


def _tensors(state: State) -> list[Tensor]:
    own = [] if state.own is None else [state.own]
    return [state.hidden, *own, *state.fixed, *state.memory, *state.kept]


def example_images(model: DTRAM, batch: int) -> Tensor:
    """Black images of the model's `usual_side`, dtype and device."""
    side = model.usual_side
    return torch.zeros(batch, model.in_chans, side, side).to(model.input_to_hidden.weight)


def export_looks(
    model: DTRAM, batch: int = 2
) -> tuple[torch.export.ExportedProgram, torch.export.ExportedProgram]:
    """Export `FirstLook` and `NextLook` of a model, for images of `usual_side` and any batch size."""
    images, some = example_images(model, batch), torch.export.Dim.AUTO
    look = FirstLook(model)
    first = torch.export.export(look, (images,), dynamic_shapes=({0: some},))
    packed, location, _, _ = look(images)
    step = torch.tensor(1, device=images.device)
    shapes = ({0: some}, {0: some}, {0: some}, None)
    following = torch.export.export(
        NextLook(model), (images, packed.detach(), location.detach(), step), dynamic_shapes=shapes
    )
    return first, following
