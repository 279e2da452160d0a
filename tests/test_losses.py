"""The mathematics of section 3.4, by hand-computed cases and by enumeration."""

import pytest
import torch
import torch.nn.functional as F

from conftest import tiny_model
from dtram_hub import DTRAM
from dtram_hub.learning.curriculum import Stage, enter_stage
from dtram_hub.learning.losses import (
    REWARDS,
    Counts,
    LossConfig,
    baseline_loss,
    classification_loss,
    delayed_rewards,
    discounted_returns,
    dtram_loss,
)
from dtram_hub.learning.policy_losses import leave_one_out, reinforce_loss
from dtram_hub.models.location import Shared, Surroundings
from dtram_hub.models.records import Rollout
from dtram_hub.models.stopping import first_stop, stop_entropies, stop_log_probs


def test_returns_by_hand() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[0.125, 0.125, 0.125], [0.5, 0.0, 0.0], [0.625, 0.125, 0.125], [0.0, 0.0, 0.0]])
    assert torch.equal(discounted_returns(rewards, 0.5), expected)


def test_rewards_come_at_the_stop_and_only_for_the_right_class() -> None:
    logits = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]]]).expand(4, -1, -1)
    labels, steps = torch.tensor([0, 0, 1, 0]), torch.tensor([1, 2, 2, 3])
    expected = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert torch.equal(delayed_rewards(REWARDS["correct"](logits, labels), steps), expected)


def test_supervision_modes_by_hand() -> None:
    logits = torch.randn(2, 3, 4)
    labels, steps = torch.tensor([1, 3]), torch.tensor([2, 3])
    losses = torch.stack([F.cross_entropy(logits[:, t], labels, reduction="none") for t in range(3)], dim=1)
    taken = (losses[0, :2].sum() + losses[1].sum()) / 2
    torch.testing.assert_close(classification_loss(logits, labels, steps, "taken"), taken)
    torch.testing.assert_close(classification_loss(logits, labels, steps, "all"), losses.sum(1).mean())
    last = (losses[0, 1] + losses[1, 2]) / 2
    torch.testing.assert_close(classification_loss(logits, labels, steps, "last"), last)


def test_baseline_loss_by_hand() -> None:
    baselines, returns = torch.tensor([[0.5, 0.0], [1.0, 9.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    mask = torch.tensor([[True, True], [True, False]])
    torch.testing.assert_close(baseline_loss(baselines, returns, mask), torch.tensor((0.25 + 1.0 + 0.0) / 3))


def fixed_rollout(stop_logits: torch.Tensor, logits: torch.Tensor, steps: torch.Tensor) -> Rollout:
    """A rollout whose locations are given, so that only the stops are chance."""
    count, num_steps = stop_logits.shape
    return Rollout(
        logits=logits,
        locations=torch.zeros(count, num_steps, 2),
        location_log_probs=torch.zeros(count, num_steps),
        stop_logits=stop_logits,
        steps=steps,
        baselines=torch.full((count, num_steps + 1), 0.37),
    )


@pytest.mark.parametrize("num_steps", [2, 4])
def test_estimator_mean_is_the_exact_gradient_over_all_stop_patterns(num_steps: int) -> None:
    """Eq. 1 with -R for the first term (Eq. 5): sum over S of grad P(S) (-R_S) + P(S) grad L_S."""
    torch.manual_seed(num_steps)
    features = torch.randn(num_steps, 6, dtype=torch.float64)
    weights = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)  # three classes and a stop logit
    label, discount = torch.tensor([1]), 0.8

    def heads() -> tuple[torch.Tensor, torch.Tensor]:
        out = features @ weights
        return out[None, :, :3], out[None, :, 3]

    logits, stop_logits = heads()
    stop = stop_logits.sigmoid()[0]
    exact = 0.0
    for last in range(1, num_steps + 1):
        prob = torch.prod(1 - stop[: last - 1]) * (stop[last - 1] if last < num_steps else 1)
        correct = (logits[0, last - 1].argmax() == label[0]).double()
        loss = sum(F.cross_entropy(logits[:, t], label) for t in range(last))
        exact = exact - prob * discount**last * correct + prob.detach() * loss
    (exact_gradient,) = torch.autograd.grad(exact, weights)

    mean_gradient = torch.zeros_like(weights)
    for last in range(1, num_steps + 1):
        logits, stop_logits = heads()
        steps = torch.tensor([last])
        prob = stop_log_probs(stop_logits, steps).sum().exp().detach()
        loss = dtram_loss(
            fixed_rollout(stop_logits, logits, steps),
            label,
            LossConfig(discount=discount, baseline_weight=0.0, entropy_weight=0.0),
            dynamic=True,
        )
        (gradient,) = torch.autograd.grad(loss.total, weights)
        mean_gradient += prob * gradient
    torch.testing.assert_close(mean_gradient, exact_gradient, rtol=1e-9, atol=1e-12)


def test_sampled_estimator_agrees_with_enumeration() -> None:
    """Monte Carlo (Eq. 2): the mean of 200,000 sampled stop gradients lies within 4 standard errors."""
    torch.manual_seed(0)
    logits = torch.tensor([-0.5, 0.3, 0.0], dtype=torch.float64)
    rewards = torch.tensor([0.2, 0.9, 0.4], dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    p = leaf.sigmoid()
    (p[0] * rewards[0] + (1 - p[0]) * (p[1] * rewards[1] + (1 - p[1]) * rewards[2])).backward()

    count = 200_000
    samples = logits.expand(count, -1).clone().requires_grad_()
    steps = first_stop(torch.rand(count, 3) < logits.sigmoid())
    advantages = (rewards[steps - 1] - 0.5)[:, None].expand(-1, 3)
    (reinforce_loss(stop_log_probs(samples, steps), advantages) * count).backward()
    errors = samples.grad.std(0) / count**0.5
    assert ((-samples.grad.mean(0) - leaf.grad).abs() <= 4 * errors).all()
    assert errors[:2].gt(0).all()


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_named(label: int) -> None:
    rollout = fixed_rollout(torch.zeros(1, 2), torch.zeros(1, 2, 3), torch.tensor([1]))
    with pytest.raises(ValueError, match=rf"labels run from {label} to {label}; accepted are 0 to 2"):
        dtram_loss(rollout, torch.tensor([label]), LossConfig(), dynamic=True)


def test_location_gradient_is_the_score_function() -> None:
    """-advantage * (draw - mean) / std^2, in closed form."""
    means = torch.tensor([[0.1, -0.2], [0.5, 0.3]], dtype=torch.float64, requires_grad=True)
    draws = torch.tensor([[0.3, 0.1], [0.2, 0.4]], dtype=torch.float64)
    advantages = torch.tensor([[0.7], [-0.4]], dtype=torch.float64)
    policy = Shared(Surroundings(hidden_size=4, num_steps=3, has_context=True)).distribution((means,), 0.25)
    reinforce_loss(policy.log_prob(draws)[:, None], advantages).backward()
    torch.testing.assert_close(means.grad, -advantages * (draws - means.detach()) / 0.25**2 / 2)


def gradients(model: DTRAM, part: str) -> dict[str, float]:
    """Largest absolute gradient of every parameter for one part of the loss; absent where there is none."""
    torch.manual_seed(0)
    rollout = model.rollout(torch.rand(8, 1, 24, 24), sample=True)
    labels = torch.arange(8) % 3
    returns = torch.rand(8, model.num_steps)
    loss = {
        "classification": lambda: classification_loss(rollout.logits, labels, rollout.steps, "all"),
        "location": lambda: reinforce_loss(rollout.location_log_probs, returns),
        "stop": lambda: reinforce_loss(stop_log_probs(rollout.stop_logits, rollout.steps), returns),
        "baseline": lambda: baseline_loss(rollout.baselines[:, 1:], returns, returns > -1),
    }[part]()
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {
        name: parameter.grad.abs().max().item()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }


@pytest.mark.parametrize(
    ("context", "aggregate"),
    [("resize", "last"), ("none", "last"), ("resize", "residual"), ("resize", "average")],
)
def test_which_parameters_each_loss_reaches(context: str, aggregate: str) -> None:
    torch.manual_seed(1)
    model = tiny_model(context, aggregate)
    enter_stage(model, Stage(kind="dtram", num_steps=3))
    for module in (model.stopper.net[-1], model.head):  # off the zeros that they start from
        torch.nn.init.normal_(module.weight)
    heads = ("locator", "stopper", "head", "baseline", "encoder.head")
    core = {name for name, _ in model.named_parameters() if not name.startswith(heads)}
    own = {head: {n for n, _ in model.named_parameters() if n.startswith(head + ".")} for head in heads}
    assert gradients(model, "classification").keys() == core | own["head"] | own["encoder.head"]
    assert gradients(model, "location").keys() == core | own["locator"]
    assert gradients(model, "stop").keys() == core | own["stopper"]
    assert gradients(model, "baseline").keys() == own["baseline"]


@pytest.mark.parametrize("dynamic", [True, False])
def test_whole_loss_by_hand(dynamic: bool) -> None:
    """One rollout of three steps that stops, rightly, after the second; every term written out."""
    steps = torch.tensor([2 if dynamic else 3])
    logits, stop_logits, baselines = torch.randn(1, 3, 3), torch.randn(1, 3), torch.rand(1, 4)
    rollout = Rollout(
        logits, torch.zeros(1, 3, 2), torch.tensor([[0.0, -1.5, -0.7]]), stop_logits, steps, baselines
    )
    last = int(steps)
    label = logits[0, last - 1].argmax()[None]
    found = dtram_loss(rollout, label, LossConfig(discount=0.9, entropy_weight=0.3), dynamic=dynamic)
    reward = 0.9**2 if dynamic else 1.0
    locations = -1.5 * (reward - baselines[0, 1]) + (0 if dynamic else -0.7 * (reward - baselines[0, 2]))
    expected = sum(F.cross_entropy(logits[:, t], label) for t in range(last)) - locations
    expected = expected + ((baselines[0, 1 : last + 1] - reward) ** 2).mean()
    if dynamic:
        actions = stop_log_probs(stop_logits, steps)[0, :2] * (reward - baselines[0, 1:3])
        expected = expected - actions.sum() - 0.3 * stop_entropies(stop_logits[0, :2]).sum()
    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(found.mean_return, torch.tensor(reward))


def test_shares_of_a_batch_add_up_to_the_whole() -> None:
    """Two processes with 1 and 3 of 4 rollouts: the mean of their losses is the loss of all, part by part."""
    torch.manual_seed(3)
    labels, steps = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 3, 2, 3])
    whole = Rollout(
        logits=torch.randn(4, 3, 3),
        locations=torch.zeros(4, 3, 2),
        location_log_probs=torch.randn(4, 3),
        stop_logits=torch.randn(4, 3),
        steps=steps,
        baselines=torch.rand(4, 4),
    )
    config = LossConfig(entropy_weight=0.3, discount=0.9)
    counts = Counts(torch.tensor(4 / 2), torch.tensor(9 / 2))
    shares = [
        dtram_loss(
            Rollout(**{key: value[rows] for key, value in vars(whole).items() if value is not None}),
            labels[rows],
            config,
            dynamic=True,
            counts=counts,
        )
        for rows in (slice(0, 1), slice(1, 4))
    ]
    expected = dtram_loss(whole, labels, config, dynamic=True)
    for part, value in vars(expected).items():
        torch.testing.assert_close((getattr(shares[0], part) + getattr(shares[1], part)) / 2, value)
    assert shares[0].baseline != expected.baseline


def test_label_smoothing_spreads_the_target() -> None:
    logits, labels, steps = torch.randn(4, 3, 5), torch.tensor([0, 1, 4, 2]), torch.tensor([3, 1, 2, 3])
    log_probs = logits.log_softmax(-1)
    right = log_probs[torch.arange(4), :, labels]
    expected = -(0.8 * right + 0.2 * log_probs.mean(-1)).sum(1).mean()
    torch.testing.assert_close(classification_loss(logits, labels, steps, "all", 0.2), expected)


def test_a_reward_of_probability_tells_right_answers_apart() -> None:
    logits, labels, steps = torch.randn(3, 2, 4), torch.tensor([1, 3, 0]), torch.tensor([2, 1, 2])
    found = delayed_rewards(REWARDS["probability"](logits, labels), steps)
    expected = torch.zeros(3, 2)
    for i in range(3):
        expected[i, steps[i] - 1] = logits[i, steps[i] - 1].softmax(0)[labels[i]]
    torch.testing.assert_close(found, expected)


def test_a_reward_of_log_likelihood_by_hand() -> None:
    probs = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0.1, 0.9, 0, 0]])
    rewards = REWARDS["log_likelihood"](probs.log()[:, None], torch.zeros(4).long())
    found = delayed_rewards(rewards, torch.ones(4).long())
    torch.testing.assert_close(found, torch.tensor([[1.0], [0.0], [0.5], [0.0]]))  # log 0.5 / log 4 = -0.5


def test_with_log_likelihood_a_look_is_worth_most_where_the_first_one_fails() -> None:
    """Two kinds of images, two locations: A shows much of the first kind, B less of the second."""
    shown = torch.tensor([[0.9, 0.1], [0.1, 0.7]])  # (kind, location): probability of the right class
    first, labels, steps = shown[:, 0], torch.zeros(2).long(), torch.ones(2).long()

    def worth(location: int, reward: str) -> float:
        right = (first + shown[:, location]) / 2
        wrong = (1 - right)[:, None].expand(-1, 49) / 49
        logits = torch.cat([right[:, None], wrong], dim=1).log()[:, None]
        return delayed_rewards(REWARDS[reward](logits, labels), steps).mean().item()

    assert worth(0, "probability") > worth(1, "probability")
    assert worth(0, "log_likelihood") < worth(1, "log_likelihood")


def test_leave_one_out_is_the_mean_of_the_other_rollouts_of_the_image() -> None:
    returns = torch.tensor([[1.0], [0.0], [0.5], [0.2], [0.2], [0.8]])
    expected = torch.tensor([[0.25], [0.75], [0.5], [0.5], [0.5], [0.2]])
    torch.testing.assert_close(leave_one_out(returns, 3), expected)


def test_a_return_that_all_rollouts_of_an_image_got_teaches_no_policy() -> None:
    logits = torch.tensor([[[4.0, 0.0]], [[4.0, 0.0]], [[0.0, 4.0]], [[4.0, 0.0]]])
    log_probs = torch.zeros(4, 1, requires_grad=True)
    rollout = Rollout(
        logits=logits,
        locations=torch.zeros(4, 1, 2),
        location_log_probs=log_probs,
        stop_logits=torch.full((4, 1), torch.nan),
        steps=torch.ones(4, dtype=torch.int64),
        baselines=torch.full((4, 2), 0.3),
    )
    labels = torch.zeros(4, dtype=torch.int64)
    config = LossConfig(baseline="leave_one_out")
    dtram_loss(rollout, labels, config, dynamic=False, num_rollouts=2).total.backward()
    # The first image's two rollouts are both right, of the second's the first is wrong and the other right.
    torch.testing.assert_close(log_probs.grad.flatten(), torch.tensor([0.0, 0.0, 1.0, -1.0]) / 4)
