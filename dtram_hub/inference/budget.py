"""Budgets: the stop threshold of a DT-RAM for a given mean number of steps (section 4.3)."""

import torch
from torch import Tensor

from ..checks import check_number
from ..models.dtram import DTRAM
from ..models.stopping import first_stop


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


@torch.no_grad()
def calibrate(model: DTRAM, images: Tensor, mean_steps: float = 3.0, batch_size: int = 128) -> float:
    """Set `model.stop_threshold` for a budget of mean steps, from held-out images.

    Args:
        model: a DTRAM.
        images: (N, C, H, W) floats, not used in training.
        mean_steps: the budget, a number in [1, T].
        batch_size: images per rollout.

    Returns:
        The new threshold; `save_pretrained` keeps it.

    Raises:
        ValueError: the model is a RAM, or the budget lies outside of [1, T].
    """
    if not model.dynamic:
        raise ValueError(
            f"dynamic=False takes {model.num_steps} steps with every image; a budget needs dynamic=True."
        )
    check_number("mean_steps", mean_steps, 1, model.num_steps)
    training = model.training
    model.eval()
    probs = [model.rollout(batch).stop_logits.sigmoid() for batch in images.split(batch_size)]
    model.train(training)
    model.stop_threshold = threshold_for(torch.cat(probs), mean_steps)
    return model.stop_threshold
