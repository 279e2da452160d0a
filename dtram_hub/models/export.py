"""One look as a graph of its own, for `torch.export`: a host-side loop around it really stops early.

A graph cannot stop, but whoever calls it can. `FirstLook` takes images, `NextLook` also what the look before
gave; both return the answer so far, the probability that it is good enough, and what the next look needs:

    state = join_features(h_t, own part) (N, F), location (N, 2), stop_prob (N,), logits (N, C)

A model with `dynamic=False` needs none of this: it exports as it is.
"""

import torch
from torch import Tensor, nn

from .dtram import DTRAM


class FirstLook(nn.Module):
    """images (N, C, H, W) -> state, location of the second look, stop_prob, logits."""

    def __init__(self, model: DTRAM):
        super().__init__()
        self.model = model.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        hidden = self.model.initial_hidden(images)
        place = None if hidden is None else self.model.locate(hidden, 0)
        features, own = self.model.look(images, place)
        return _outcome(self.model, self.model.step(features, hidden, place), own, 1)


class NextLook(nn.Module):
    """images (N, C, H, W), state (N, F), location (N, 2), looks taken () int64 -> as `FirstLook`."""

    def __init__(self, model: DTRAM):
        super().__init__()
        self.model = model.eval()

    def forward(
        self, images: Tensor, state: Tensor, location: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        hidden, own = self.model.split_features(state)
        features, own_logits = self.model.look(images, location)
        own = self.model.own_answer(own, own_logits, step + 1)
        return _outcome(self.model, self.model.step(features, hidden, location), own, step + 1)


def _outcome(
    model: DTRAM, hidden: Tensor, own: Tensor | None, step: int | Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logits = model.classify(hidden, own)
    stop_prob = model.stop_logit(hidden, logits, step).sigmoid()
    return model.join_features(hidden, own), model.locate(hidden, step), stop_prob, logits


def export_looks(
    model: DTRAM, batch: int = 2
) -> tuple[torch.export.ExportedProgram, torch.export.ExportedProgram]:
    """`FirstLook` and `NextLook` of a model by `torch.export`, for images of its own size and any batch."""
    images = torch.zeros(batch, model.in_chans, model.image_size, model.image_size)
    images = images.to(model.locator.weight)
    some = torch.export.Dim.AUTO
    first = torch.export.export(FirstLook(model), (images,), dynamic_shapes=({0: some},))
    state, location, _, _ = FirstLook(model)(images)
    step = torch.tensor(1, device=images.device)
    shapes = ({0: some}, {0: some}, {0: some}, None)
    following = torch.export.export(
        NextLook(model), (images, state.detach(), location.detach(), step), dynamic_shapes=shapes
    )
    return first, following
