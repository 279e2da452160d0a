"""How well a DT-RAM answers and how long it looks: an `evaluate` metric, and what to hold it against."""

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
    """Accuracy, mean steps, histogram of steps, and accuracy by number of steps; works without the Hub.

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
    """Accuracy of the answers at the given steps: logits (N, T, C), labels (N,), steps (N,) in 1..T."""
    answers = logits.argmax(-1).gather(1, steps[:, None] - 1).squeeze(1)
    return (answers == labels).double().mean().item()


def threshold_curve(
    scores: Tensor, logits: Tensor, labels: Tensor, thresholds: list[float] | None = None
) -> list[dict]:
    """Accuracy against mean steps of a policy that stops once its score is above a threshold.

    Args:
        scores: (N, T), after each step: `confidences` for the fixed policy of Table 7, or stop probabilities.
        logits: (N, T, C), the answers after each step.
        labels: (N,).
        thresholds: by default quantiles of the scores, from one step for all to T steps for all.

    Returns:
        One {"threshold", "mean_steps", "accuracy"} each, by rising threshold.
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
