"""The mean steps that a budget will take on new images: the interval holds them as often as it says."""

import pytest
import torch
from scipy.stats import beta

from conftest import first_of
from dtram_hub.inference.budget import threshold_for
from dtram_hub.inference.uncertainty import expect_budget, expected_mean_steps
from dtram_hub.models.stopping import first_stop


def draw(count: int, steps: int, generator: torch.Generator) -> torch.Tensor:
    """Stop probabilities (count, steps) of images that are easy or hard, and surer at every step."""
    easiness = 1.5 * torch.randn(count, 1, generator=generator)
    noise = 0.7 * torch.randn(count, steps, generator=generator)
    return (easiness + noise + 0.4 * torch.arange(steps)).sigmoid()


@pytest.mark.parametrize("count", [24, 200])
@pytest.mark.parametrize(("steps", "budget"), first_of([(4, 1.4), (2, 1.4), (4, 1.1), (9, 3.0)]))
def test_the_interval_holds_the_mean_of_new_images(steps: int, budget: float, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    population, held, widths = draw(20_000, steps, generator), 0, []
    for _ in range(200):
        probs = draw(count, steps, generator)
        found = expect_budget(probs, threshold_for(probs, budget), budget)
        assert 1 <= found.low <= found.measured <= found.high <= steps
        mean = first_stop(population > found.stop_threshold).double().mean().item()
        held += found.low <= mean <= found.high
        widths.append(found.high - found.low)
    assert held / 200 > 0.92  # 95 % less two standard deviations of the count
    assert max(widths) < 5.5 * (steps - 1) / count**0.5


def test_two_steps_give_the_interval_of_clopper_and_pearson() -> None:
    probs = torch.linspace(0.01, 0.99, 50)[:, None].repeat(1, 2)
    threshold = threshold_for(probs, 1.3)
    low, high = expected_mean_steps(probs, threshold)
    assert (1 + beta.ppf(0.025, 15, 36), 1 + beta.ppf(0.975, 16, 35)) == pytest.approx((low, high), abs=0.006)


def test_more_images_are_surer_and_a_certain_threshold_is_sure() -> None:
    generator = torch.Generator().manual_seed(1)
    few, many = draw(24, 4, generator), draw(6000, 4, generator)
    found = [expect_budget(probs, threshold_for(probs, 1.4), 1.4) for probs in (few, many)]
    assert [budget.is_wide for budget in found] == [True, False]
    assert found[1].high - found[1].low < 0.06
    assert "24 validation images" in str(found[0])
    assert str(found[0]).endswith(" A narrower range takes more validation images.")
    assert "narrower" not in str(found[1])
    assert found[0] == expect_budget(few, found[0].stop_threshold, 1.4)
    assert expected_mean_steps(few, 0.0) == (1, 1)
    assert expected_mean_steps(few, 1.0) == (4, 4)
