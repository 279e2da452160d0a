"""The losses of a DT-RAM (section 3.4, Eq. 5-8), as pure functions of tensors.

Shapes name N rollouts (B images times M rollouts), T steps and C classes. `steps` (N,) int64 in 1..T is T(n),
the step at which each rollout stopped.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_choice, check_labels, check_number
from ..models.records import Rollout
from ..models.stopping import stop_entropies, stop_log_probs
from .policy_losses import WAYS, Tried, leave_one_out, reinforce_loss

SUPERVISIONS = ("taken", "all", "last")
BASELINES = ("learned", "leave_one_out")


@dataclass
class LossConfig:
    """The recipe's section `loss`: the terms of the loss and their weights.

    discount: gamma of Eq. 7, in (0, 1]. A smaller gamma makes every step more expensive. The return of a RAM
        is not discounted, because a RAM does not choose its number of steps.
    supervision: the steps whose answers are trained, see `classification_loss`.
    policy_weight: weight of the losses of both policies, like all weights >= 0.
    baseline_weight: weight of the baseline's squared error.
    entropy_weight: weight of the entropy of stop decisions, which keeps both actions in the sample.
    glimpse_weight: weight of the cross-entropy of the glimpses alone, for answers that have one. Without this
        term the first look answers for glimpses that cannot read yet, and they learn slowly.
    label_smoothing: share of the target that is spread over all classes, in [0, 1].
    reward: a key of REWARDS.
    baseline: "learned" for the return that the model expects (the authors' code), or "leave_one_out" for the
        mean return of the other rollouts of the same image.
    balance: how much more an image of a rare class counts than one of a frequent class, in [0, 1], see
        `class_balance.class_weights`. 1 gives all classes the same share of the loss.
    where: how the location policy learns. "reinforce" is the policy gradient of the return (Eq. 5). "value"
        fits the score of each place to the reward of the answer after a look there; the policy must score
        places. "pathwise" follows the gradient of the classification loss through the views to the locations,
        for `crop_mode: bilinear`.

    Raises:
        ValueError: a value is out of range.
    """

    discount: float = 0.95
    supervision: str = "taken"
    policy_weight: float = 1.0
    baseline_weight: float = 1.0
    entropy_weight: float = 0.01
    glimpse_weight: float = 1.0
    label_smoothing: float = 0.0
    reward: str = "correct"
    baseline: str = "learned"
    balance: float = 0.0
    where: str = "reinforce"

    def __post_init__(self):
        check_number("discount", self.discount, 0, 1, open_low=True)
        check_choice("supervision", self.supervision, SUPERVISIONS)
        for name in ("policy_weight", "baseline_weight", "entropy_weight", "glimpse_weight"):
            check_number(name, getattr(self, name), 0, math.inf)
        check_number("label_smoothing", self.label_smoothing, 0, 1)
        check_choice("reward", self.reward, REWARDS)
        check_choice("baseline", self.baseline, BASELINES)
        check_number("balance", self.balance, 0, 1)
        check_choice("where", self.where, WAYS)


@dataclass
class Targets:
    """What the answers of N rollouts should be.

    labels: (N,) int64 in 0..C-1. Rewards judge by them.
    weights: (N,) how much each rollout counts, 1 on average; None for 1.
    shares: (N, C) probabilities, the target of the cross-entropy; None for the labels.
    """

    labels: Tensor
    weights: Tensor | None = None
    shares: Tensor | None = None


@dataclass
class Counts:
    """The divisors of the terms of a loss, scalars.

    rollouts: N.
    steps: the sum of the steps of all rollouts.

    Processes that share a batch divide by the mean counts of all processes. The mean of their losses is then
    the loss of the whole batch, and so are the gradients.
    """

    rollouts: Tensor
    steps: Tensor

    @staticmethod
    def of(steps: Tensor) -> "Counts":
        """The counts of one batch with `steps` (N,) int64."""
        return Counts(torch.tensor(len(steps), device=steps.device), steps.sum())


@dataclass
class Loss:
    """The training loss and its parts, scalars. Only `total` has a gradient.

    total: the loss to minimise.
    classification: mean cross-entropy (Eq. 8).
    baseline: mean squared error of the learned baseline.
    mean_return: mean return R (Eq. 7), in [0, 1].
    accuracy: share of the rollouts whose last answer is right.
    steps: mean number of steps.
    """

    total: Tensor
    classification: Tensor
    baseline: Tensor
    mean_return: Tensor
    accuracy: Tensor
    steps: Tensor


def step_mask(steps: Tensor, num_steps: int) -> Tensor:
    """Mark the steps that each rollout took: (N,) int64 -> (N, T) bool."""
    return torch.arange(1, num_steps + 1, device=steps.device) <= steps[:, None]


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=-1) == labels[:, None]).to(logits.dtype)


def _log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    right = labels[:, None, None].expand(-1, logits.shape[1], 1)
    return logits.log_softmax(-1).gather(2, right).squeeze(2)


def _probability(logits: Tensor, labels: Tensor) -> Tensor:
    return _log_probability(logits, labels).exp()


def _log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    return (1 + _log_probability(logits, labels) / math.log(logits.shape[2])).clamp(min=0)


# The reward of an answer: logits (N, T, C) and labels (N,) -> (N, T) in [0, 1]. "correct" is 1 for the right
# class, else 0 (Eq. 7). "probability" is the probability p of the right class. It still distinguishes looks
# when nearly every answer is right. "log_likelihood" is max(0, 1 + log p / log C): certainty earns 1, a guess
# 0. The correction of a wrong answer then earns the most.
REWARDS = {"correct": _correct, "probability": _probability, "log_likelihood": _log_likelihood}


def delayed_rewards(rewards: Tensor, steps: Tensor) -> Tensor:
    """The reward of the answer at the step where a rollout stops, and 0 at all other steps.

    Args:
        rewards: (N, T), of the answer after each step.
        steps: (N,) int64 in 1..T.

    Returns:
        (N, T).
    """
    last = torch.arange(1, rewards.shape[1] + 1, device=steps.device) == steps[:, None]
    return last * rewards


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """The return of each step, R_t = sum over s >= t of discount^s r_s: (N, T) -> (N, T). R_1 is Eq. 7.

    As in Eq. 7, the exponent counts from step 1, not from step t. A late action thus has the same return as
    an early one of the same rollout.
    """
    powers = discount ** torch.arange(1, rewards.shape[1] + 1, device=rewards.device, dtype=rewards.dtype)
    return (rewards * powers).flip(1).cumsum(1).flip(1)


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    steps: Tensor,
    supervision: str = "taken",
    label_smoothing: float = 0.0,
    count: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the answers (Eq. 8), summed over steps and averaged over rollouts.

    Args:
        logits: (N, T, C).
        labels: (N,) int64 in 0..C-1, or (N, C) probabilities.
        steps: (N,) int64 in 1..T.
        supervision: "taken" trains the answers of all steps taken (Eq. 8), "all" those of all T steps (the
            authors' code), "last" that of the last step taken (no intermediate supervision, Table 9).
        label_smoothing: share of the target that is spread over all classes, in [0, 1].
        count: the number of rollouts to divide by; N by default.
        weights: (N,), how much each rollout counts; 1 by default.

    Returns:
        A scalar.
    """
    num_steps = logits.shape[1]
    targets = labels.unsqueeze(-1).expand(*labels.shape, num_steps)
    losses = F.cross_entropy(
        logits.transpose(1, 2), targets, reduction="none", label_smoothing=label_smoothing
    )
    if weights is not None:
        losses = losses * weights[:, None]
    if supervision == "last":
        losses = losses.gather(1, steps[:, None] - 1)
    elif supervision == "taken":
        losses = losses * step_mask(steps, num_steps)
    return losses.sum() / (len(labels) if count is None else count)


def baseline_loss(baselines: Tensor, returns: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Squared error of the learned baseline, averaged over the steps taken.

    Args:
        baselines: (N, T), the expected return after each step.
        returns: (N, T); no gradient reaches them.
        mask: (N, T) bool, the steps taken.
        count: the number of steps to divide by; those in `mask` by default.

    Returns:
        A scalar.
    """
    errors = F.mse_loss(baselines, returns.detach(), reduction="none") * mask
    return errors.sum() / (mask.sum() if count is None else count)


def answers_loss(rollout: Rollout, targets: Targets, config: LossConfig, counts: Counts) -> Tensor:
    """The loss of the answers after every step, and of the glimpses alone where the model answers by them."""
    wanted = targets.labels if targets.shares is None else targets.shares
    words = config.label_smoothing, counts.rollouts, targets.weights
    loss = classification_loss(rollout.logits, wanted, rollout.steps, config.supervision, *words)
    if rollout.glimpse_logits is None or rollout.logits.shape[1] == 1:
        return loss
    own = rollout.glimpse_logits[:, 1:]  # the first look is the context view
    return loss + config.glimpse_weight * classification_loss(own, wanted, rollout.steps, "all", *words)


def dtram_loss(
    rollout: Rollout,
    labels: Tensor | Targets,
    config: LossConfig,
    *,
    dynamic: bool,
    num_rollouts: int = 1,
    counts: Counts | None = None,
    judged: Tensor | None = None,
) -> Loss:
    """The loss of one batch of rollouts (Eq. 5): classification, policies and baseline.

    The classification term trains the head, the core and the encoder. The policy terms train the policies,
    the core and the encoder. The baseline term trains the baseline alone.

    Args:
        rollout: N sampled rollouts.
        labels: (N,) int64 in 0..C-1, one for each rollout, or `Targets`.
        config: the terms and their weights.
        dynamic: whether the stops were sampled (DT-RAM); in a RAM only locations are.
        num_rollouts: M; the rollouts of one image are neighbours.
        counts: the divisors of the terms; those of this batch by default.
        judged: (N, T, C), the answers that earn the rewards; those of the rollouts by default.

    Raises:
        ValueError: a label is out of range.
    """
    targets = labels if isinstance(labels, Targets) else Targets(labels)
    check_labels(targets.labels, rollout.logits.shape[2])
    counts = counts or Counts.of(rollout.steps)
    taken = step_mask(rollout.steps, rollout.logits.shape[1])
    counted = taken if targets.weights is None else taken * targets.weights[:, None]
    answers = rollout.logits.detach() if judged is None else judged
    rewards = REWARDS[config.reward](answers, targets.labels)
    returns = discounted_returns(delayed_rewards(rewards, rollout.steps), config.discount if dynamic else 1.0)
    before, after = rollout.baselines[:, :-1], rollout.baselines[:, 1:]
    error = baseline_loss(after, returns, taken, counts.steps)
    if config.baseline == "leave_one_out" and num_rollouts > 1:  # the context view alone has one rollout
        before = after = leave_one_out(returns[:, :1], num_rollouts)

    classification = answers_loss(rollout, targets, config, counts)
    tried = Tried(rollout.location_log_probs, rollout.location_scores, returns - before, rewards, counted)
    where = WAYS[config.where].loss(tried, counts.rollouts)
    total = classification + config.baseline_weight * error + config.policy_weight * where
    if dynamic:
        log_probs = stop_log_probs(rollout.stop_logits, rollout.steps) * counted
        stops = reinforce_loss(log_probs, returns - after, counts.rollouts)
        entropy = (stop_entropies(rollout.stop_logits) * counted)[:, :-1].sum() / counts.rollouts
        total = total + config.policy_weight * stops - config.entropy_weight * entropy
    last = answers[torch.arange(len(taken)), rollout.steps - 1].argmax(-1)
    return Loss(
        total=total,
        classification=classification.detach(),
        baseline=error.detach(),
        mean_return=returns[:, 0].sum() / counts.rollouts,
        accuracy=(last == targets.labels).sum() / counts.rollouts,
        steps=rollout.steps.sum() / counts.rollouts,
    )
