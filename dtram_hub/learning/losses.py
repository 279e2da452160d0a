"""Learning where to look and when to stop (section 3.4, Eq. 5-8): pure functions of tensors.

N counts rollouts (images times Monte-Carlo samples), T steps, C classes. `steps` (N,) int64 in 1..T is T(n),
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

SUPERVISIONS = ("taken", "all", "last")
BASELINES = ("learned", "leave_one_out")


@dataclass
class LossConfig:
    """The recipe's section `loss`: how the terms of the loss are taken and weighted.

    discount: gamma of Eq. 7, in (0, 1]; smaller makes each further step dearer. A RAM cannot choose how long
        to look, so its reward is not discounted.
    supervision: the steps whose answers are trained, see `classification_loss`.
    policy_weight: of the two REINFORCE terms.
    baseline_weight: of the squared error of the predicted returns.
    entropy_weight: of a bonus for undecided stops, which keeps both actions explored.
    label_smoothing: share of the target that is spread over all classes, in [0, 1].
    reward: a key of REWARDS.
    baseline: the number that advantages count from: the "learned" return to expect (section 3.4), or the
        mean return of the image's other rollouts, "leave_one_out".

    Raises:
        ValueError: a value is not one of these.
    """

    discount: float = 0.95
    supervision: str = "taken"
    policy_weight: float = 1.0
    baseline_weight: float = 1.0
    entropy_weight: float = 0.01
    label_smoothing: float = 0.0
    reward: str = "correct"
    baseline: str = "learned"

    def __post_init__(self):
        check_number("discount", self.discount, 0, 1, open_low=True)
        check_choice("supervision", self.supervision, SUPERVISIONS)
        check_number("label_smoothing", self.label_smoothing, 0, 1)
        check_choice("reward", self.reward, REWARDS)
        check_choice("baseline", self.baseline, BASELINES)


@dataclass
class Counts:
    """The divisors of the terms of a loss.

    rollouts: N.
    steps: the number of steps that all rollouts took together.

    A process that shares a batch with others divides by the counts per process, averaged over processes. The
    mean of the processes' losses, and of their gradients, is then that of the whole batch.
    """

    rollouts: Tensor
    steps: Tensor

    @staticmethod
    def of(steps: Tensor) -> "Counts":
        """Those of one batch of rollouts: `steps` (N,) int64."""
        return Counts(torch.tensor(len(steps), device=steps.device), steps.sum())


@dataclass
class Loss:
    """The training loss and its parts, each a scalar averaged over rollouts; only `total` carries gradient.

    total: the number to minimise.
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


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=-1) == labels[:, None]).to(logits.dtype)


def _log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    right = labels[:, None, None].expand(-1, logits.shape[1], 1)
    return logits.log_softmax(-1).gather(2, right).squeeze(2)


def _probability(logits: Tensor, labels: Tensor) -> Tensor:
    return _log_probability(logits, labels).exp()


def _log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    return (1 + _log_probability(logits, labels) / math.log(logits.shape[2])).clamp(min=0)


# The worth of an answer: logits (N, T, C) and labels (N,) -> (N, T) in [0, 1].
REWARDS = {"correct": _correct, "probability": _probability, "log_likelihood": _log_likelihood}


def delayed_rewards(logits: Tensor, labels: Tensor, steps: Tensor, reward: str = "correct") -> Tensor:
    """The worth of the answer at the step where a rollout stops; 0 at all other steps.

    Args:
        logits: (N, T, C).
        labels: (N,) int64 in 0..C-1.
        steps: (N,) int64 in 1..T.
        reward: "correct" pays 1 for the right class (Eq. 7).
            "probability" pays the probability of the right class. It tells looks apart even where nearly
            every answer is right, as on images that were learned by heart.
            "log_likelihood" pays 1 + log p / log C, or 0 below 0: 1 for certainty, 0 for a guess. A look is
            then worth most where the looks before it went wrong.

    Returns:
        (N, T) float in [0, 1], without gradient.
    """
    last = torch.arange(1, logits.shape[1] + 1, device=steps.device) == steps[:, None]
    return last * REWARDS[reward](logits.detach(), labels)


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """The rewards still to come from each step on, R_t = sum over s >= t of discount^s r_s (Eq. 7 is R_1).

    The discount counts from the start of the episode, as in Eq. 7, so one rollout has one unit of reward
    however late an action is. `rewards` (N, T) -> (N, T).
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
) -> Tensor:
    """Cross-entropy of the answers along the way (Eq. 8), summed over steps and averaged over rollouts.

    Args:
        logits: (N, T, C).
        labels: (N,) int64 in 0..C-1.
        steps: (N,) int64 in 1..T.
        supervision: "taken" asks for the class at every step taken (Eq. 8), "all" at all T steps (the
            authors' code), "last" only where the rollout stopped (no intermediate supervision, Table 9).
        label_smoothing: share of the target that is spread over all classes.
        count: the number of rollouts to average over; N unless given.

    Returns:
        scalar.
    """
    num_steps = logits.shape[1]
    targets = labels[:, None].expand(-1, num_steps)
    losses = F.cross_entropy(
        logits.transpose(1, 2), targets, reduction="none", label_smoothing=label_smoothing
    )
    if supervision == "last":
        losses = losses.gather(1, steps[:, None] - 1)
    elif supervision == "taken":
        losses = losses * step_mask(steps, num_steps)
    return losses.sum() / (len(labels) if count is None else count)


def reinforce_loss(log_probs: Tensor, advantages: Tensor, count: Tensor | None = None) -> Tensor:
    """Its gradient is the policy gradient: -sum over actions of advantage x grad log pi, mean over rollouts.

    Args:
        log_probs: (N, A) of the actions taken; 0 where there was none.
        advantages: (N, A), return minus baseline; treated as constants.
        count: the number of rollouts to average over; N unless given.

    Returns:
        scalar whose value means nothing and whose gradient is the first term of Eq. 5.
    """
    return -(log_probs * advantages.detach()).sum() / (len(log_probs) if count is None else count)


def baseline_loss(baselines: Tensor, returns: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Squared error of the predicted returns, averaged over the steps taken.

    Args:
        baselines: (N, A).
        returns: (N, A); treated as constants.
        mask: (N, A) bool, the steps taken.
        count: the number of steps to average over; those in `mask` unless given.

    Returns:
        scalar.
    """
    errors = F.mse_loss(baselines, returns.detach(), reduction="none") * mask
    return errors.sum() / (mask.sum() if count is None else count)


def leave_one_out(returns: Tensor, num_rollouts: int) -> Tensor:
    """The mean return of the other rollouts of the same image: (N, A) -> (N, A) (leave-one-out REINFORCE).

    All rollouts of an image share its difficulty, the main source of variance in a return. With their mean
    as the baseline, an advantage holds only the difference that a rollout's own actions made.

    Args:
        returns: (N, A); the `num_rollouts` rollouts of one image are neighbours.
        num_rollouts: M, 2 or more.
    """
    groups = returns.unflatten(0, (-1, num_rollouts))
    return ((groups.sum(1, keepdim=True) - groups) / (num_rollouts - 1)).flatten(0, 1)


def dtram_loss(
    rollout: Rollout,
    labels: Tensor,
    config: LossConfig,
    *,
    dynamic: bool,
    num_rollouts: int = 1,
    counts: Counts | None = None,
) -> Loss:
    """The whole loss of one batch of rollouts (Eq. 5): classification, policies, baseline.

    Where each part leads: classification to the heads, the core and the encoder; the policy terms to the
    locator and the stopper, and through h to the core and the encoder; the baseline to its own head.

    Args:
        rollout: a sampled `Rollout` of N.
        labels: (N,) int64 in 0..C-1, repeated like the rollouts.
        config: how the terms are taken and weighted.
        dynamic: whether the stops were chosen; if not (RAM), only locations are learned by reinforcement.
        num_rollouts: M, the neighbours in `rollout` that are of one image.
        counts: what the terms are divided by; this batch's own unless given.

    Raises:
        ValueError: a label is out of range.
    """
    check_labels(labels, rollout.logits.shape[2])
    taken = step_mask(rollout.steps, rollout.logits.shape[1])
    rewards = delayed_rewards(rollout.logits, labels, rollout.steps, config.reward)
    returns = discounted_returns(rewards, config.discount if dynamic else 1.0)
    before, after = rollout.baselines[:, :-1], rollout.baselines[:, 1:]
    counts = counts or Counts.of(rollout.steps)
    error = baseline_loss(after, returns, taken, counts.steps)
    if config.baseline == "leave_one_out" and num_rollouts > 1:  # one look offers no choice: one rollout
        before = after = leave_one_out(returns[:, :1], num_rollouts)

    classification = classification_loss(
        rollout.logits, labels, rollout.steps, config.supervision, config.label_smoothing, counts.rollouts
    )
    policies = reinforce_loss(rollout.location_log_probs * taken, returns - before, counts.rollouts)
    total = classification + config.baseline_weight * error + config.policy_weight * policies
    if dynamic:
        log_probs = stop_log_probs(rollout.stop_logits, rollout.steps)
        stops = reinforce_loss(log_probs, returns - after, counts.rollouts)
        entropy = (stop_entropies(rollout.stop_logits) * taken)[:, :-1].sum() / counts.rollouts
        total = total + config.policy_weight * stops - config.entropy_weight * entropy
    return Loss(
        total=total,
        classification=classification.detach(),
        baseline=error.detach(),
        reward=returns[:, 0].sum() / counts.rollouts,
        steps=rollout.steps.sum() / counts.rollouts,
    )
