"""Accuracy and steps of a DT-RAM: an `evaluate` metric, and the curve of accuracy against mean steps."""

import datasets
import evaluate
import numpy as np
import torch
from torch import Tensor

from ..models.stopping import first_stop

_DESCRIPTION = "Accuracy of a classifier that chooses how many steps it takes, and the steps it takes."
_INPUTS = """
predictions: class indices. references: class indices. steps: steps taken for each, counted from 1.
Returns accuracy, mean_steps, step_histogram and accuracy_by_steps (both by number of steps, as strings).
"""


class StepAccuracy(evaluate.Metric):
    """Accuracy, mean steps, histogram of steps, and accuracy by number of steps; needs no download.

    >>> metric = StepAccuracy()
    >>> metric.add_batch(predictions=[3, 1], references=[3, 2], steps=[1, 4])
    >>> metric.compute()["mean_steps"]
    2.5
    """

    def _info(self) -> evaluate.MetricInfo:
        column = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": column, "references": column, "steps": column}),
        )

    def _compute(self, predictions: list[int], references: list[int], steps: list[int]) -> dict:
        correct = np.asarray(predictions) == np.asarray(references)
        steps = np.asarray(steps)
        taken = [int(step) for step in np.unique(steps)]
        return {
            "accuracy": float(correct.mean()),
            "mean_steps": float(steps.mean()),
            "step_histogram": {str(step): int((steps == step).sum()) for step in taken},
            "accuracy_by_steps": {str(step): float(correct[steps == step].mean()) for step in taken},
        }


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
