"""Prediction with early exit: every step computes only the images that have not stopped."""

import torch
from torch import Tensor, nn

from .records import Prediction


def is_recorded() -> bool:
    """Whether torch records a graph: `torch.export`, ONNX or `torch.jit.trace`, but not `torch.compile`."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or torch.jit.is_tracing()


def predict(model: nn.Module, images: Tensor, stop_threshold: float, max_steps: int) -> Prediction:
    """Take the best actions; the batch shrinks as images stop.

    Args:
        model: a DTRAM.
        images: as the model reads them.
        stop_threshold: in [0, 1]. An image stops at the first step whose stop probability is above it.
        max_steps: the largest number of steps of an image.

    Raises:
        ValueError: a graph of a model with `dynamic=True` is being recorded.
    """
    if model.dynamic and is_recorded():
        raise ValueError(
            "dynamic=True stops at a step that depends on the image, which no graph can; export with "
            "dynamic=False, or look by look with dtram_hub.models.export.export_looks."
        )
    state, answered = model.begin(images), None
    like, batch = state.hidden, state.hidden.shape[0]
    steps = torch.full((batch,), max_steps, device=like.device)
    locations = like.new_full((batch, max_steps, 2), torch.nan)
    stop_probs = like.new_full((batch, max_steps), torch.nan)
    looking = torch.arange(batch, device=like.device)
    for t in range(max_steps):
        location = model.best_location(state) if t else model.first_location(state)
        if location is not None:
            locations[looking, t] = location.to(locations.dtype)
        state = model.advance(images, state, location)
        if not model.dynamic or like.is_meta:  # a meta tensor has no value to compare
            continue
        probs = model.stop_logit(state, model.logits(state)).sigmoid()
        stop_probs[looking, t] = probs.to(stop_probs.dtype)
        going_on = probs <= stop_threshold
        if t + 1 == max_steps or going_on.all():
            continue
        features = model.join_features(state)
        answered = features.new_empty(batch, features.shape[1]) if answered is None else answered
        steps[looking[~going_on]] = t + 1
        answered[looking[~going_on]] = features[~going_on]
        state = state.index(going_on)
        looking = state.rows
        if len(looking) == 0:
            break
    features = model.join_features(state)
    if answered is not None:
        answered[looking] = features
        features = answered
    return Prediction(model.forward_head(features), steps, locations, stop_probs, features)
