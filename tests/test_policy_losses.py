"""The ways to learn where to look: their gradients, and the models that they refuse."""

import pytest
import torch

from dtram_hub import DTRAM
from dtram_hub.learning.losses import LossConfig, dtram_loss
from dtram_hub.learning.policy_losses import value_loss
from dtram_hub.learning.task import check_way
from dtram_hub.models.location import OUTSIDE
from dtram_hub.models.records import Noise


def build(locator: str, **changes) -> DTRAM:
    words = {"num_classes": 3, "num_steps": 3, "image_size": 96, "context": "resize", "context_size": 64}
    words |= {
        "glimpse_crop": 32,
        "hidden_size": 16,
        "locator": locator,
        "dynamic": False,
        "drop_path_rate": 0.0,
    }
    torch.manual_seed(0)
    return DTRAM("test_efficientnet", **words | changes).eval()


def test_the_loss_of_values_is_least_at_the_mean_reward_and_spares_steps_not_taken() -> None:
    scores = torch.zeros(4, 2, requires_grad=True)
    rewards = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    taken = torch.tensor([[True, False]] * 4)
    value_loss(scores, rewards, taken, torch.tensor(4)).backward()
    # The derivative of the cross-entropy by a score s is sigmoid(s) - reward.
    torch.testing.assert_close(scores.grad, (0.5 - rewards) * taken / 4)
    level = torch.full((4, 2), 0.25).logit().requires_grad_(True)
    value_loss(level, rewards, taken, torch.tensor(4)).backward()
    torch.testing.assert_close(level.grad.sum(0), torch.zeros(2), rtol=0, atol=1e-7)


def test_a_place_has_the_score_of_the_nearest_free_cell() -> None:
    policy = build("attend").locator
    centres = torch.tensor([[[-0.5, -0.5], [0.5, 0.5], [0.0, 0.0]]])
    scores = torch.tensor([[1.0, 2.0, OUTSIDE]], requires_grad=True)
    found = policy.score((scores, centres), torch.tensor([[0.1, 0.2]]))
    assert found.item() == 2.0
    assert torch.autograd.grad(found.sum(), scores)[0].tolist() == [[0.0, 1.0, 0.0]]
    assert policy.score((torch.full((1, 3), OUTSIDE), centres), torch.zeros(1, 2)).item() == 0


@pytest.mark.parametrize("locator", ["shared", "stepwise", "attend", "aim"])
def test_the_mean_of_a_policy_is_the_mean_of_its_samples(locator: str) -> None:
    model = build(locator)
    images = torch.rand(1, 3, 96, 96)
    plan = model.locator.plan(model.advance(images, model.begin(images), None))
    wide = tuple(part.expand(20_000, *part.shape[1:]) for part in plan)
    noise = torch.rand(20_000, model.locator.noise_columns).clamp(min=1e-6)
    samples = model.locator.sample(wide, noise, 0.1)
    torch.testing.assert_close(
        model.locator.distribution(plan, 0.1).mean[0], samples.mean(0), rtol=0, atol=0.02
    )


def test_the_gradient_through_views_fits_differences() -> None:
    model = build("shared", crop_mode="bilinear", aggregate="last", num_steps=2).double()
    coarse = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    images = torch.nn.functional.interpolate(coarse, (96, 96), mode="bicubic")
    noise, labels = Noise(torch.full((2, 2, 2), 0.5), torch.full((2, 2), 0.5)), torch.tensor([0, 2])
    model.head.weight.data *= 100  # answers come in single precision
    config = LossConfig(where="pathwise", supervision="all", baseline_weight=0.0)

    def loss(bias: torch.Tensor) -> torch.Tensor:
        model.locator.linear.bias.data.copy_(bias)
        rollout = model.rollout(images, sample=True, noise=noise, std=0.1, through_views=True)
        return dtram_loss(rollout, labels, config, dynamic=False).total

    bias = torch.tensor([0.05, -0.1], dtype=torch.float64)
    model.zero_grad()
    loss(bias).backward()
    found = model.locator.linear.bias.grad.clone()
    step = 1e-3
    for axis in range(2):
        move = torch.zeros(2, dtype=torch.float64)
        move[axis] = step
        difference = (loss(bias + move) - loss(bias - move)).item() / (2 * step)
        assert found[axis].item() == pytest.approx(difference, rel=0.05, abs=1e-5)
    assert found.abs().min() > 1e-4


@pytest.mark.parametrize("where", ["reinforce", "value", "pathwise"])
def test_every_way_reaches_the_policy_and_only_pathwise_passes_through_views(where: str) -> None:
    model = build("attend", crop_mode="bilinear", aggregate="evidence")
    torch.nn.init.normal_(model.answer.of_glimpse.weight)
    config = LossConfig(where=where, supervision="all", baseline_weight=0.0, reward="log_likelihood")
    rollout = model.rollout(
        torch.rand(4, 3, 96, 96), sample=True, num_rollouts=2, through_views=where == "pathwise"
    )
    assert not rollout.locations.requires_grad
    labels = torch.tensor([0, 1, 2, 0]).repeat_interleave(2)
    dtram_loss(rollout, labels, config, dynamic=False, num_rollouts=2).total.backward()
    assert model.locator.query.weight.grad.abs().sum() > 0


def test_a_policy_that_cannot_learn_in_a_way_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^loss.where='value' needs a policy that scores places"):
        check_way(build("shared"), LossConfig(where="value"))
    with pytest.raises(ValueError, match=r"^loss.where='pathwise' needs crop_mode='bilinear', not 'exact'"):
        check_way(build("shared"), LossConfig(where="pathwise"))
    for where in ("reinforce", "value", "pathwise"):
        check_way(build("attend", crop_mode="bilinear"), LossConfig(where=where))
    with pytest.raises(ValueError, match="where='best' is not one of 'reinforce', 'value', 'pathwise'"):
        LossConfig(where="best")
