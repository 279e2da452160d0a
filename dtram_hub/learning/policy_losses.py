"""How policies learn, as pure functions of tensors; each way to learn where to look is one line of `WAYS`.

Shapes name N rollouts and T steps. A location of step t is tried before look t and judged after it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Tried:
    """What the locations of N rollouts have brought. Only the first two fields have gradients.

    log_probs (N, T): the log-probability of each sampled location; 0 where none was sampled.
    scores (N, T): the policy's score of the place that was looked at, if it scores places; 0 as above.
    advantages (N, T): return minus baseline.
    rewards (N, T): the reward, in [0, 1], of the answer after each look.
    taken (N, T): how much each step counts; 0 after the rollout has stopped.
    """

    log_probs: Tensor
    scores: Tensor | None
    advantages: Tensor
    rewards: Tensor
    taken: Tensor


@dataclass(frozen=True)
class Way:
    """A way to learn where to look.

    loss: a scalar from what was tried and the number of rollouts to divide by.
    through_views: whether locations pass on the gradient of the views, which must be cut bilinearly.
    needs_scores: whether the location policy must score places.
    """

    loss: Callable[[Tried, Tensor], Tensor]
    through_views: bool = False
    needs_scores: bool = False


def reinforce_loss(log_probs: Tensor, advantages: Tensor, count: Tensor | None = None) -> Tensor:
    """The sum over A actions of -log pi times advantage, averaged over rollouts (Eq. 5, first term).

    Its gradient estimates the policy gradient. Its value has no meaning.

    Args:
        log_probs: (N, A) of the actions taken; 0 for no action.
        advantages: (N, A), return minus baseline; no gradient reaches them.
        count: the number of rollouts to divide by; N by default.

    Returns:
        A scalar.
    """
    return -(log_probs * advantages.detach()).sum() / (len(log_probs) if count is None else count)


def value_loss(scores: Tensor, rewards: Tensor, taken: Tensor, count: Tensor) -> Tensor:
    """The cross-entropy of the sigmoid of a place's score and the reward of the answer after a look there.

    The scores become a map of what looks are worth, as log-odds. The cross-entropy is least where the sigmoid
    of a score is the mean reward of its place.

    Args:
        scores: (N, T); those of steps without a location have no gradient.
        rewards: (N, T) in [0, 1]; no gradient reaches them.
        taken: (N, T), how much each step counts.
        count: the number of rollouts to divide by.

    Returns:
        A scalar.
    """
    errors = F.binary_cross_entropy_with_logits(scores, rewards.detach(), reduction="none")
    return (errors * taken).sum() / count


def leave_one_out(returns: Tensor, num_rollouts: int) -> Tensor:
    """The leave-one-out baseline: the mean return of the other rollouts of the same image.

    Rollouts of one image share its difficulty, the main source of variance in a return. This baseline
    removes the difficulty from the advantage.

    Args:
        returns: (N, A); the M rollouts of one image are neighbours.
        num_rollouts: M, 2 or more.

    Returns:
        (N, A).
    """
    groups = returns.unflatten(0, (-1, num_rollouts))
    return ((groups.sum(1, keepdim=True) - groups) / (num_rollouts - 1)).flatten(0, 1)


WAYS = {
    "reinforce": Way(
        lambda tried, count: reinforce_loss(tried.log_probs * tried.taken, tried.advantages, count)
    ),
    "value": Way(
        lambda tried, count: value_loss(tried.scores, tried.rewards, tried.taken, count), needs_scores=True
    ),
    # The loss of the answers is all that teaches the policy.
    "pathwise": Way(lambda tried, count: tried.log_probs.new_zeros(()), through_views=True),
}
