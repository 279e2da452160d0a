"""Budgets: the stop threshold of a DT-RAM for a given mean number of steps (section 4.3)."""

import math
import statistics
import time
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..checks import check_number
from ..models.dtram import DTRAM
from ..models.limits import check_budget
from ..models.stopping import first_stop
from .stream import stream


def threshold_for(stop_probs: Tensor, mean_steps: float) -> float:
    """The largest stop threshold at which the mean steps of N images are at most `mean_steps`.

    Args:
        stop_probs: (N, T), the probability to stop after each step of N held-out images.
        mean_steps: the budget, >= 1.

    Returns:
        A threshold in [0, 1]; 1, at which no image stops early, if the budget allows T steps.
    """
    levels = [0.0, *stop_probs.flatten().unique().tolist(), 1.0]
    low, high = 0, len(levels)
    while high - low > 1:  # mean steps rise with the threshold
        middle = (low + high) // 2
        within = first_stop(stop_probs > levels[middle]).double().mean() <= mean_steps
        low, high = (middle, high) if within else (low, middle)
    return levels[low]


def calibrate(
    model: DTRAM,
    images: Any,
    mean_steps: float | None = None,
    batch_size: int = 32,
    *,
    latency: float | None = None,
) -> float:
    """Set `model.stop_threshold` for a budget of mean steps, from held-out images.

    Args:
        model: a DTRAM.
        images: images that were not used in training: a tensor (N, C, H, W), a split of `datasets`, a
            DataLoader of images or of images and labels, or what `stream` takes.
        mean_steps: the budget, a number in [1, T]; 3 or T, if T is smaller, by default.
        batch_size: images per look.
        latency: in place of mean steps, the mean seconds of a prediction of one image on this machine.

    Returns:
        The new threshold; `save_pretrained` keeps it.

    Raises:
        ValueError: the model is a RAM, the budget lies outside of [1, T], a single look takes longer than the
            latency, or no image can be read.
    """
    check_budget(model)
    if latency is not None:
        if mean_steps is not None:
            raise ValueError(
                f"latency={latency} sets the budget, and so does mean_steps={mean_steps}; accepted is one."
            )
        mean_steps = steps_within(model, latency)
    mean_steps = min(3.0, model.num_steps) if mean_steps is None else mean_steps
    check_number("mean_steps", mean_steps, 1, model.num_steps)
    model.stop_threshold = threshold_for(all_stop_probs(model, images, batch_size), mean_steps)
    return model.stop_threshold


def all_stop_probs(model: DTRAM, images: Any, batch_size: int = 32) -> Tensor:
    """The probabilities (N, T) to stop after each step of N images, for `threshold_for`.

    Images that cannot be read are left out, with a warning. Arguments are as in `calibrate`.

    Raises:
        ValueError: no image can be read.
    """
    training = model.training
    model.eval()
    outcomes = stream(model, _singly(images), batch_size=batch_size, stop_threshold=1.0, in_order=False)
    found = [(outcome.found, outcome.error) for outcome in outcomes]
    model.train(training)
    probs = [prediction.stop_probs for prediction, error in found if not error]
    if len(probs) < len(found):
        first = next(error for _, error in found if error)
        said = f"{len(found) - len(probs)} of {len(found)} images were left out; the first {first}."
        warnings.warn(said, stacklevel=2)
    if not probs:
        raise ValueError("images holds no image that can be read; a threshold needs some.")
    return torch.cat(probs)


def steps_within(model: DTRAM, latency: float, repeats: int = 7) -> float:
    """The mean steps that predictions of one image may take for a mean of `latency` seconds, in [1, T].

    Raises:
        ValueError: a single look takes longer.
    """
    check_number("latency", latency, 0, math.inf, open_low=True)
    like, side = next(model.parameters()), model.usual_side
    image = like.new_zeros(1, model.in_chans, side, side)
    seconds: list[list[float]] = [[], []]
    for _ in range(repeats + 1):
        for steps, times in zip((1, model.num_steps), seconds, strict=True):
            start = time.perf_counter()
            model.predict(image, stop_threshold=1.0, max_steps=steps).logits.cpu()
            times.append(time.perf_counter() - start)
    first, whole = (statistics.median(times[1:]) for times in seconds)  # the first of each warms up
    if latency < first:
        raise ValueError(f"latency={latency} is less than the {first:.4f} seconds of a single look.")
    later = max(whole - first, 1e-9) / max(1, model.num_steps - 1)
    return min(1 + (latency - first) / later, float(model.num_steps))


def _singly(images: Any) -> Iterable[Any]:
    """Single images; those of the batches of a DataLoader, with or without labels."""
    if not isinstance(images, DataLoader):
        return images
    batches = (batch[0] if isinstance(batch, list | tuple) else batch for batch in images)
    return (image for batch in batches for image in batch)
