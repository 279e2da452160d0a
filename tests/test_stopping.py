"""Stop policies: the first stop, log-probabilities, what they read, where they start, budgets."""

import pytest
import torch
import torch.nn.functional as F

from dtram_hub.inference.budget import threshold_for
from dtram_hub.learning.losses import step_mask
from dtram_hub.models.stopping import (
    STOPPERS,
    StopPolicy,
    confidence,
    first_stop,
    margin,
    stop_entropies,
    stop_log_probs,
)


def test_step_mask_and_first_stop() -> None:
    stops = torch.tensor([[False, True, True], [True, False, False], [False, False, False]])
    steps = first_stop(stops)
    assert steps.tolist() == [2, 1, 3]
    assert steps.dtype == torch.int64
    assert step_mask(steps, 3).tolist() == [[True, True, False], [True, False, False], [True, True, True]]


def test_stop_log_probs_by_hand() -> None:
    logits = torch.tensor([0.0, 1.0, -2.0]).expand(3, -1)
    go, stop = F.logsigmoid(-logits[0]), F.logsigmoid(logits[0])
    expected = torch.stack(
        [
            torch.stack([stop[0], go[0] * 0, go[0] * 0]),
            torch.stack([go[0], stop[1], go[0] * 0]),
            torch.stack([go[0], go[1], go[0] * 0]),  # the last step is no choice
        ]
    )
    torch.testing.assert_close(stop_log_probs(logits, torch.tensor([1, 2, 3])), expected)


def test_stop_patterns_are_a_distribution() -> None:
    logits = torch.randn(1, 5).expand(5, -1)
    probs = stop_log_probs(logits, torch.arange(1, 6)).sum(1).exp()
    torch.testing.assert_close(probs.sum(), torch.tensor(1.0))


def test_threshold_for_a_budget_by_hand() -> None:
    probs = torch.tensor([[0.9, 0.5, 0.5], [0.2, 0.8, 0.5], [0.1, 0.3, 0.5], [0.6, 0.1, 0.5]])
    for budget, steps in [
        (1.0, [1, 1, 1, 1]),
        (1.75, [1, 2, 3, 1]),
        (2.4, [1, 2, 3, 3]),
        (3.0, [3, 3, 3, 3]),
    ]:
        threshold = threshold_for(probs, budget)
        found = first_stop(probs > threshold)
        assert found.double().mean() <= budget
        assert found.tolist() == steps, (budget, threshold)


def test_confidence_and_entropy_by_hand() -> None:
    logits = torch.tensor([0.5, 0.25, 0.25]).log()
    expected = torch.tensor([0.0, 1.5 * torch.tensor(2.0).log()])
    torch.testing.assert_close(confidence(logits), expected)
    assert confidence(torch.tensor([1000.0, 0.0])).isfinite().all()
    assert margin(torch.tensor([[1.0, -2.0, 3.5], [4.0, 4.0, 1.0]])).tolist() == [2.5, 0.0]
    assert margin(torch.tensor([[7.0]])).tolist() == [0.0]
    p = torch.tensor([0.1, 0.5, 0.9])
    expected = -(p * p.log() + (1 - p) * (1 - p).log())
    torch.testing.assert_close(stop_entropies(p.logit()), expected)


@pytest.mark.parametrize("policy", STOPPERS.values(), ids=STOPPERS)
def test_a_reset_policy_stops_with_one_probability_after_any_look(policy: type[StopPolicy]) -> None:
    """1 / T for a stage of T steps, 1 / 2 for one step, and above 1 / 2 without a number of steps."""
    stopper, hidden, logits = policy(4), torch.randn(3, 4), torch.randn(3, 5)
    torch.nn.init.normal_(stopper.net[-1].weight)
    for num_steps, expected in {1: 0.5, 2: 0.5, 4: 0.25, 10: 0.1, None: 0.7310586}.items():
        stopper.reset(num_steps)
        for looks in (1, 3):
            found = stopper.logit(hidden, logits, torch.tensor(looks)).sigmoid()
            torch.testing.assert_close(found, torch.full((3,), expected))
