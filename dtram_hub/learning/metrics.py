"""Accuracy at the steps of any stop policy, and the curve of accuracy against mean steps."""

import torch
from torch import Tensor

from ..models.stopping import first_stop


def accuracy_at(logits: Tensor, labels: Tensor, steps: Tensor) -> float:
    """The accuracy in [0, 1] of the answers at `steps`.

    Args:
        logits: (N, T, C), the answers after each step.
        labels: (N,) int64.
        steps: (N,) int64 in 1..T.
    """
    answers = logits.argmax(-1).gather(1, steps[:, None] - 1).squeeze(1)
    return (answers == labels).double().mean().item()


def threshold_curve(
    scores: Tensor, logits: Tensor, labels: Tensor, thresholds: list[float] | None = None
) -> list[dict]:
    """Accuracy against mean steps of a policy that stops at the first score above a threshold.

    Args:
        scores: (N, T) in [0, 1], after each step: stop probabilities, or `confidences` as in Table 7.
        logits: (N, T, C), the answers after each step.
        labels: (N,) int64.
        thresholds: by default 0, quantiles of the scores, and 1.

    Returns:
        One {"threshold", "mean_steps", "accuracy"} for each threshold, in rising order.
    """
    if thresholds is None:
        levels = torch.quantile(scores[:10_000].flatten().double(), torch.linspace(0, 1, 101).double())
        thresholds = [0.0, *levels.tolist(), 1.0]
    curve = []
    for threshold in sorted(thresholds):
        steps = first_stop(scores > threshold)
        point = {"mean_steps": steps.double().mean().item(), "accuracy": accuracy_at(logits, labels, steps)}
        curve.append({"threshold": float(threshold)} | point)
    return curve


def confidences(logits: Tensor) -> Tensor:
    """The highest class probability: (..., C) -> (...)."""
    return logits.softmax(-1).amax(-1)
