"""A budget of looks: by its stop threshold one DT-RAM serves every mean number of steps from 1 to T."""

import torch
from torch import Tensor

from ..checks import check_number
from ..models.dtram import DTRAM
from ..models.stopping import first_stop


def threshold_for(stop_probs: Tensor, mean_steps: float) -> float:
    """The stop threshold that spends `mean_steps` per image: the largest that stays within it.

    Args:
        stop_probs: (N, T), the probability to stop after every step of N held-out images.
        mean_steps: the budget, at least 1.

    Returns:
        A threshold in [0, 1]; 1, never stopping early, where the budget allows all T steps.
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
    """Set `model.stop_threshold` so that images like these take `mean_steps` looks on average.

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
