"""Stop policies (section 3.3, Eq. 6). Each policy is one class and one line of `STOPPERS`.

A policy gives one logit after every step. The sigmoid of the logit is the probability to stop there.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 128  # of the hidden layer of small stop policies


class StopPolicy(nn.Module):
    """The interface of all stop policies. A subclass defines `reads` and the layers that fit its width.

    Attributes:
        net: the layers, from the output of `reads` to the logit.
    """

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.net = nn.Sequential(*layers)
        self.reset(None)

    def reads(self, hidden: Tensor, logits: Tensor, looks: Tensor) -> Tensor:
        """The input (.., N, R) of `net`; arguments as in `logit`, but `logits` have no gradient."""
        raise NotImplementedError

    def logit(self, hidden: Tensor, logits: Tensor, looks: Tensor) -> Tensor:
        """The stop logit (.., N) float32 (f_a of section 3.3).

        Args:
            hidden: (.., N, H), h_t.
            logits: (.., N, C), the answer so far; C may be 0. No gradient reaches them, because the decision
                to stop must not change the answer.
            looks: int64 that broadcasts over (.., N), the number of looks taken.
        """
        return self.net(self.reads(hidden, logits.detach(), looks).to(hidden.dtype)).squeeze(-1).float()

    def sample(self, logit: Tensor, noise: Tensor) -> Tensor:
        """Decide whether to stop: logits (..) and uniform noise (..) -> (..) bool."""
        return noise < logit.sigmoid()

    def reset(self, num_steps: int | None) -> None:
        """Set the probability to stop to 1 / `num_steps` after every step, so that training tries all steps.

        With None the probability is 0.73, so that a greedy prediction stops after its first step.
        """
        last = self.net[-1]
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, 1.0 if num_steps is None else -math.log(max(num_steps - 1, 1)))

    def rates(self) -> dict[str, str]:
        """As in `LocationPolicy`."""
        return {}

    def no_weight_decay(self) -> set[str]:
        """As in `LocationPolicy`."""
        return set()

    def fit(self, weights: dict[str, Tensor], num_steps: int | None = None) -> dict[str, Tensor]:
        """As in `LocationPolicy`."""
        return weights


class Linear(StopPolicy):
    """One linear layer of h (section 3.3)."""

    def __init__(self, hidden_size: int):
        super().__init__(nn.Linear(hidden_size, 1))

    def reads(self, hidden: Tensor, logits: Tensor, looks: Tensor) -> Tensor:
        return hidden


class Confidence(StopPolicy):
    """A small network of h and of `confidence` (the authors' code reads the classifier as well)."""

    def __init__(self, hidden_size: int):
        super().__init__(nn.Linear(hidden_size + 2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def reads(self, hidden: Tensor, logits: Tensor, looks: Tensor) -> Tensor:
        return torch.cat([hidden, confidence(logits).to(hidden.dtype)], dim=-1)


class Margin(StopPolicy):
    """A small network of `margin` and the number of looks: few inputs, for few training images."""

    def __init__(self, hidden_size: int):
        super().__init__(nn.Linear(2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def reads(self, hidden: Tensor, logits: Tensor, looks: Tensor) -> Tensor:
        ahead = margin(logits)
        return torch.stack([ahead, torch.ones_like(ahead) * looks], dim=-1)


STOPPERS: dict[str, type[StopPolicy]] = {"linear": Linear, "confidence": Confidence, "margin": Margin}


def confidence(logits: Tensor) -> Tensor:
    """Log-odds of the most probable class and entropy in nats: (.., C) -> (.., 2) float32.

    Both are 0 if C is 0.
    """
    if not logits.shape[-1]:
        return logits.new_zeros(*logits.shape[:-1], 2)
    log_probs = logits.float().log_softmax(-1)
    best = log_probs.amax(-1).clamp(max=-1e-6)
    log_odds = best - torch.log(-torch.expm1(best))
    return torch.stack([log_odds, -(log_probs.exp() * log_probs).sum(-1)], dim=-1)


def margin(logits: Tensor) -> Tensor:
    """The difference between the two largest logits, in nats: (.., C) -> (..) float32 >= 0; 0 if C < 2."""
    if not logits.shape[-1]:
        return logits.new_zeros(logits.shape[:-1])
    best = logits.float().topk(min(2, logits.shape[-1]), dim=-1).values
    return best[..., 0] - best[..., -1]


def first_stop(stops: Tensor) -> Tensor:
    """The step at which each image stops: the first True, or T if there is none.

    Args:
        stops: (N, T) bool, the decision after each step.

    Returns:
        (N,) int64 in 1..T.
    """
    num_steps = stops.shape[1]
    step = torch.arange(1, num_steps + 1, device=stops.device)
    return torch.where(stops, step, num_steps).amin(dim=1)


def stop_log_probs(stop_logits: Tensor, steps: Tensor) -> Tensor:
    """The log-probability of each action, to continue or to stop (a_t of Eq. 6).

    Args:
        stop_logits: (N, T), the logits of the probability p to stop after each step.
        steps: (N,) int64 in 1..T, the step at which each image stopped.

    Returns:
        (N, T): log(1 - p) before the stop, log p at the stop and 0 after it. Step T has 0 as well, because
        every image stops there.
    """
    num_steps = stop_logits.shape[1]
    step = torch.arange(1, num_steps + 1, device=stop_logits.device)
    steps = steps[:, None]
    log_probs = torch.where(step < steps, F.logsigmoid(-stop_logits), F.logsigmoid(stop_logits))
    return log_probs * ((step <= steps) & (step < num_steps))


def stop_entropies(stop_logits: Tensor) -> Tensor:
    """The entropy in nats of each decision to stop, elementwise: (..) -> (..) in [0, log 2]."""
    return F.softplus(stop_logits) - stop_logits * stop_logits.sigmoid()
