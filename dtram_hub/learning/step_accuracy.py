"""Accuracy and steps of a DT-RAM, as a metric of `evaluate`."""

import datasets
import evaluate
import numpy as np

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
