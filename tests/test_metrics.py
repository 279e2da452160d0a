"""Metrics and the fixed stopping policy, by hand-computed cases."""

import pytest
import torch

from dtram_hub.learning.metrics import accuracy_at, confidences, threshold_curve
from dtram_hub.learning.step_accuracy import StepAccuracy
from dtram_hub.models.flops import accuracy_at_mean_steps


def test_step_accuracy_by_hand() -> None:
    metric = StepAccuracy(keep_in_memory=True)
    metric.add_batch(
        predictions=torch.tensor([1, 2, 0]), references=torch.tensor([1, 0, 0]), steps=torch.tensor([1, 3, 3])
    )
    metric.add_batch(predictions=[4], references=[4], steps=[1])
    assert metric.compute() == {
        "accuracy": 0.75,
        "mean_steps": 2.0,
        "step_histogram": {"1": 2, "3": 2},
        "accuracy_by_steps": {"1": 1.0, "3": 0.5},
    }


def logits_of(probabilities: list[list[list[float]]]) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def test_threshold_policy_by_hand() -> None:
    # Two images, three steps, two classes; the right class is 0 and 1.
    logits = logits_of([[[0.6, 0.4], [0.3, 0.7], [0.9, 0.1]], [[0.8, 0.2], [0.45, 0.55], [0.2, 0.8]]])
    labels = torch.tensor([0, 1])
    curve = threshold_curve(confidences(logits), logits, labels, [0.0, 0.65, 0.75, 1.0])
    assert [point["mean_steps"] for point in curve] == [1.0, 1.5, 2.0, 3.0]
    assert [point["accuracy"] for point in curve] == [0.5, 0.0, 0.5, 1.0]
    assert accuracy_at_mean_steps(curve, 2.5) == pytest.approx(0.75)
    assert accuracy_at_mean_steps(curve, 1.25) == pytest.approx(0.25)


def test_default_thresholds_run_from_one_step_to_all() -> None:
    logits = torch.randn(50, 4, 3)
    curve = threshold_curve(confidences(logits), logits, torch.randint(3, (50,)))
    steps = [point["mean_steps"] for point in curve]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (1.0, 4.0)


def test_accuracy_is_scored_at_the_given_step_not_at_a_lucky_one() -> None:
    logits = logits_of([[[0.9, 0.1], [0.1, 0.9]], [[0.9, 0.1], [0.1, 0.9]]])
    labels = torch.tensor([0, 0])
    assert accuracy_at(logits, labels, torch.tensor([2, 2])) == 0.0
    assert accuracy_at(logits, labels, torch.tensor([1, 2])) == 0.5
