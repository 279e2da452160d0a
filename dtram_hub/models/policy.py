"""The two policies of section 3.3, Eq. 4 and 6: where to look next (Gaussian), when to stop (Bernoulli)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_location(means: Tensor, std: float) -> Tensor:
    """Draw where to look, l ~ N(mean, std^2 I): (N, 2) in [-1, 1] -> (N, 2), a constant to autograd.

    The draw may lie outside of the image. It is clipped only to take the glimpse, so that the policy stays an
    exact Gaussian, whose `location_log_probs` carry the gradient.
    """
    return means.detach() + std * torch.randn_like(means)


def location_log_probs(draws: Tensor, means: Tensor, std: float) -> Tensor:
    """log N(draw; mean, std^2 I), summed over y and x: (..., 2), (..., 2) -> (...)."""
    return -((draws - means) ** 2).sum(-1) / (2 * std**2) - 2 * math.log(std * math.sqrt(2 * math.pi))


def first_stop(stops: Tensor) -> Tensor:
    """The step at which each image stops: its first True, or the last step when there is none.

    Args:
        stops: (N, T) bool, the wish to stop after each step.

    Returns:
        (N,) int64 in 1..T.
    """
    num_steps = stops.shape[1]
    step = torch.arange(1, num_steps + 1, device=stops.device)
    return torch.where(stops, step, num_steps).amin(dim=1)


def threshold_for(stop_probs: Tensor, mean_steps: float) -> float:
    """The stop threshold that spends `mean_steps` per image: the largest that stays within it.

    Args:
        stop_probs: (N, T), the probability to stop after every step of N held-out images.
        mean_steps: the budget, at least 1.

    Returns:
        A threshold in [0, 1]; 1, never stopping early, where the budget allows all T steps.
    """
    levels = [0.0, *stop_probs.flatten().unique().tolist(), 1.0]
    low, high = 0, len(levels)
    while high - low > 1:  # mean steps rise with the threshold
        middle = (low + high) // 2
        within = first_stop(stop_probs > levels[middle]).double().mean() <= mean_steps
        low, high = (middle, high) if within else (low, middle)
    return levels[low]


def stop_log_probs(stop_logits: Tensor, steps: Tensor) -> Tensor:
    """Log-probability of each continue or stop action along the way (the a_t of Eq. 6).

    Args:
        stop_logits: (N, T); sigmoid gives the probability to stop after that step.
        steps: (N,) int64 in 1..T, where each image stopped.

    Returns:
        (N, T): log(1 - p) while it continued, log p where it stopped, and 0 after that and at step T,
        where stopping is no choice.
    """
    num_steps = stop_logits.shape[1]
    step = torch.arange(1, num_steps + 1, device=stop_logits.device)
    steps = steps[:, None]
    log_probs = torch.where(step < steps, F.logsigmoid(-stop_logits), F.logsigmoid(stop_logits))
    return log_probs * ((step <= steps) & (step < num_steps))


def confidence(logits: Tensor) -> Tensor:
    """How sure a classifier is: (..., C) -> (..., 2), log-odds of its first choice and entropy in nats."""
    log_probs = logits.float().log_softmax(-1)
    best = log_probs.amax(-1).clamp(max=-1e-6)
    log_odds = best - torch.log(-torch.expm1(best))
    return torch.stack([log_odds, -(log_probs.exp() * log_probs).sum(-1)], dim=-1)


def margin(logits: Tensor) -> Tensor:
    """How far a classifier's first choice is ahead of its second, in nats: (..., C) -> (...) float32."""
    best = logits.float().topk(min(2, logits.shape[-1]), dim=-1).values
    return best[..., 0] - best[..., -1]


def stop_entropies(stop_logits: Tensor) -> Tensor:
    """Entropy in nats of each continue-or-stop decision, elementwise."""
    return F.softplus(stop_logits) - stop_logits * stop_logits.sigmoid()
