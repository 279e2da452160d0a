"""Learning where to look and when to stop (section 3.4, Eq. 5-8): pure functions of tensors.

N counts rollouts (images times Monte-Carlo samples), T steps, C classes. `steps` (N,) int64 in 1..T is T(n),
the step at which each rollout stopped.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_labels
from ..models.policy import stop_entropies, stop_log_probs

REWARDS = ("correct", "probability", "likelihood")
SUPERVISIONS = ("taken", "all", "last")
BASELINES = ("learned", "siblings")


@dataclass
class Loss:
    """The training loss and its parts, each a scalar averaged over rollouts; only `total` carries gradient.

    total: what to minimise.
    classification: cross-entropy (Eq. 8).
    baseline: squared error of the predicted returns.
    reward: the return R of Eq. 7, in [0, 1]; higher is better.
    steps: the mean number of steps taken.
    """

    total: Tensor
    classification: Tensor
    baseline: Tensor
    reward: Tensor
    steps: Tensor


def step_mask(steps: Tensor, num_steps: int) -> Tensor:
    """(N,) -> (N, T) bool: the steps that each rollout took."""
    return torch.arange(1, num_steps + 1, device=steps.device) <= steps[:, None]


def delayed_rewards(logits: Tensor, labels: Tensor, steps: Tensor, reward: str = "correct") -> Tensor:
    """What the answer is worth at the step where a rollout stops, 0 everywhere else.

    Args:
        logits: (N, T, C).
        labels: (N,) int64.
        steps: (N,) int64 in 1..T.
        reward: "correct" is 1 for the right class (Eq. 7), "probability" that of the right class, which still
            tells looks apart where nearly every answer is right, as on images that were learned by heart;
            "likelihood" its logarithm, so scaled that certainty is worth 1 and a guess 0: with it a look is
            worth most where the looks before it went wrong, while to a mean of probabilities each look adds
            its own, whatever the others saw.

    Returns:
        (N, T) float in [0, 1].
    """
    num_steps = logits.shape[1]
    last = torch.arange(1, num_steps + 1, device=steps.device) == steps[:, None]
    if reward != "correct":
        right = labels[:, None, None].expand(-1, num_steps, 1)
        log_probs = logits.detach().log_softmax(-1).gather(2, right).squeeze(2)
        if reward == "probability":
            return last * log_probs.exp()
        return last * (1 + log_probs / math.log(logits.shape[2])).clamp(min=0)
    return (last & (logits.argmax(dim=-1) == labels[:, None])).to(logits.dtype)


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """What is still to come from each step on, R_t = sum over s >= t of discount^s r_s (Eq. 7 is R_1).

    The discount counts from the start of the episode, as in Eq. 7, so one rollout has one unit of reward
    however late an action is. `rewards` (N, T) -> (N, T).
    """
    powers = discount ** torch.arange(1, rewards.shape[1] + 1, device=rewards.device, dtype=rewards.dtype)
    return (rewards * powers).flip(1).cumsum(1).flip(1)


def classification_loss(
    logits: Tensor, labels: Tensor, steps: Tensor, supervision: str = "taken", label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of the answers along the way (Eq. 8), summed over steps and averaged over rollouts.

    Args:
        logits: (N, T, C).
        labels: (N,) int64 in 0..C-1.
        steps: (N,) int64 in 1..T.
        supervision: "taken" asks for the class at every step taken (Eq. 8), "all" at all T steps (the
            authors' code), "last" only where the rollout stopped (no intermediate supervision, Table 9).
        label_smoothing: share of the target that is spread over all classes.

    Returns:
        scalar.
    """
    num_steps = logits.shape[1]
    targets = labels[:, None].expand(-1, num_steps)
    losses = F.cross_entropy(
        logits.transpose(1, 2), targets, reduction="none", label_smoothing=label_smoothing
    )
    if supervision == "all":
        return losses.sum(1).mean()
    if supervision == "last":
        return losses.gather(1, steps[:, None] - 1).mean()
    return (losses * step_mask(steps, num_steps)).sum(1).mean()


def reinforce_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Its gradient is the policy gradient: -sum over actions of advantage x grad log pi, mean over rollouts.

    Args:
        log_probs: (N, A) of the actions taken; 0 where there was none.
        advantages: (N, A), return minus baseline; treated as constants.

    Returns:
        scalar whose value means nothing and whose gradient is the first term of Eq. 5.
    """
    return -(log_probs * advantages.detach()).sum(1).mean()


def baseline_loss(baselines: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Squared error of the predicted returns, over the entries in `mask`: three (N, A) -> scalar."""
    mask = mask.to(baselines.dtype)
    return (F.mse_loss(baselines, returns.detach(), reduction="none") * mask).sum() / mask.sum().clamp(min=1)


def sibling_returns(returns: Tensor, num_rollouts: int) -> Tensor:
    """What the other rollouts of the same image got, on average: (N, A) -> (N, A).

    As a baseline it leaves in the advantage only what the rollout's own actions changed: how easy the image
    is, most of the variance of a learned baseline's error, is in all of them (leave-one-out REINFORCE).

    Args:
        returns: (N, A); the `num_rollouts` rollouts of one image are neighbours.
        num_rollouts: M, 2 or more.
    """
    groups = returns.unflatten(0, (-1, num_rollouts))
    return ((groups.sum(1, keepdim=True) - groups) / (num_rollouts - 1)).flatten(0, 1)


def dtram_loss(
    rollout,
    labels: Tensor,
    *,
    dynamic: bool,
    discount: float = 0.95,
    supervision: str = "taken",
    policy_weight: float = 1.0,
    baseline_weight: float = 1.0,
    entropy_weight: float = 0.0,
    label_smoothing: float = 0.0,
    reward: str = "correct",
    baseline: str = "learned",
    num_rollouts: int = 1,
) -> Loss:
    """The whole loss of one batch of rollouts (Eq. 5): classification, policies, baseline.

    Where each part leads: classification to the heads, the core and the encoder; the policy terms to the
    locator and the stopper, and through h to the core and the encoder; the baseline to its own head.

    Args:
        rollout: a sampled `Rollout` of N.
        labels: (N,) int64 in 0..C-1, repeated like the rollouts.
        dynamic: whether the stops were chosen; if not (RAM), only locations are learned by reinforcement.
        discount: gamma of Eq. 7; smaller makes each further step dearer. A RAM cannot choose how long to
            look, so its reward is not discounted.
        supervision, label_smoothing: see `classification_loss`.
        reward: see `delayed_rewards`.
        policy_weight, baseline_weight: of the REINFORCE terms and of the baseline's error.
        entropy_weight: bonus for undecided stops, which keeps both actions explored.
        baseline: what advantages are counted from: the "learned" reward to expect (section 3.4), or what the
            "siblings", the other rollouts of the image, got.
        num_rollouts: M, how many neighbours in `rollout` are of one image.
    """
    check_labels(labels, rollout.logits.shape[2])
    num_steps = rollout.logits.shape[1]
    taken = step_mask(rollout.steps, num_steps)
    rewards = delayed_rewards(rollout.logits, labels, rollout.steps, reward)
    returns = discounted_returns(rewards, discount if dynamic else 1.0)
    before, after = rollout.baselines[:, :-1], rollout.baselines[:, 1:]
    error = baseline_loss(after, returns, taken)
    if baseline == "siblings" and num_rollouts > 1:  # one look offers no choice, so it has one rollout
        before = after = sibling_returns(returns[:, :1], num_rollouts)

    classification = classification_loss(rollout.logits, labels, rollout.steps, supervision, label_smoothing)
    total = classification + baseline_weight * error
    total = total + policy_weight * reinforce_loss(rollout.location_log_probs * taken, returns - before)
    if dynamic:
        log_probs = stop_log_probs(rollout.stop_logits, rollout.steps)
        entropy = (stop_entropies(rollout.stop_logits) * taken)[:, :-1].sum(1).mean()
        total = total + policy_weight * reinforce_loss(log_probs, returns - after) - entropy_weight * entropy
    return Loss(
        total=total,
        classification=classification.detach(),
        baseline=error.detach(),
        reward=returns[:, 0].mean(),
        steps=rollout.steps.float().mean(),
    )
