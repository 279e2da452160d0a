"""Prediction that really stops: every step computes only the images that are still looking."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_number
from .policy import threshold_for


@dataclass
class Prediction:
    """What a DT-RAM says of B images.

    logits (B, C): the answer at the step where each image stopped.
    steps (B,) int64: how many looks it took, in 1..T.
    locations (B, T, 2): where it looked, (y, x) in [-1, 1]; NaN for the context view and for steps not taken.
    stop_probs (B, T): probability to stop after each step; NaN for steps not taken, and all through for RAM.
    features (B, F): what the answer was read from, as `forward_features` gives it.
    """

    logits: Tensor
    steps: Tensor
    locations: Tensor
    stop_probs: Tensor
    features: Tensor


def predict(model, images: Tensor, stop_threshold: float, max_steps: int) -> Prediction:
    """Deterministic prediction with batch compaction.

    Args:
        model: a DTRAM.
        images: (B, C, H, W) floats.
        stop_threshold: an image stops after a step whose stop probability is above this; never, if it is 1.
        max_steps: the most steps an image may take.
    """
    batch = images.shape[0]
    steps = torch.full((batch,), max_steps, device=images.device)
    locations = images.new_full((batch, max_steps, 2), torch.nan)
    stop_probs = images.new_full((batch, max_steps), torch.nan)
    looking = torch.arange(batch, device=images.device)
    hidden, own, answered = model.initial_hidden(images), None, None
    for t in range(max_steps):
        place = None if hidden is None else model.locate(hidden, t)
        if place is not None:
            locations[looking, t] = place.to(locations.dtype)
        features, own_logits = model.look(images if looking.shape[0] == batch else images[looking], place)
        own = model.own_answer(own, own_logits, t + 1)
        hidden = model.step(features, hidden, place)
        if not model.dynamic or images.is_meta:  # meta tensors have no values to decide by
            continue
        logits = model.classify(hidden, own)
        probs = model.stop_logit(hidden, logits, t + 1).sigmoid()
        stop_probs[looking, t] = probs.to(stop_probs.dtype)
        going_on = probs <= stop_threshold
        if t + 1 == max_steps or going_on.all():
            continue
        features = model.join_features(hidden, own)
        answered = features.new_empty(batch, features.shape[1]) if answered is None else answered
        steps[looking[~going_on]] = t + 1
        answered[looking[~going_on]] = features[~going_on]
        looking, hidden, own = looking[going_on], hidden[going_on], None if own is None else own[going_on]
        if looking.shape[0] == 0:
            break
    features = model.join_features(hidden, own)
    if answered is not None:
        answered[looking] = features
        features = answered
    return Prediction(model.forward_head(features), steps, locations, stop_probs, features)


@torch.no_grad()
def calibrate(model, images: Tensor, mean_steps: float = 3.0, batch_size: int = 128) -> float:
    """Set `model.stop_threshold` so that images like these take `mean_steps` looks on average.

    Compute becomes a dial: one trained DT-RAM serves every budget from 1 to T steps.

    Args:
        model: a DTRAM.
        images: (N, C, H, W) floats, held out of training.
        mean_steps: the budget, in 1..T.
        batch_size: images per rollout.

    Returns:
        The threshold, which is also kept in the model and in what is saved of it.

    Raises:
        ValueError: a budget outside of 1..T.
    """
    check_number("mean_steps", mean_steps, 1, model.num_steps)
    training = model.training
    model.eval()
    probs = [model.rollout(batch).stop_logits.sigmoid() for batch in images.split(batch_size)]
    model.train(training)
    model.stop_threshold = threshold_for(torch.cat(probs), mean_steps)
    return model.stop_threshold
