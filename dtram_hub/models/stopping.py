"""When to stop: stop policies (section 3.3, Eq. 6), each one class and one line of `STOPPERS`.

A policy gives one logit after every look; its sigmoid is the probability to stop there.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 128  # of the hidden layer of small stop policies


class StopPolicy(nn.Module):
    """What all stop policies answer; a policy of its own says what it reads and how wide that is.

    net: from what it reads to the logit.
    """

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.net = nn.Sequential(*layers)
        self.reset(None)

    def reads(self, hidden: Tensor, logits: Tensor, looks: Tensor) -> Tensor:
        """What the decision depends on, (.., N, R); arguments as in `logit`, `logits` without gradient."""
        raise NotImplementedError

    def logit(self, hidden: Tensor, logits: Tensor, looks: Tensor) -> Tensor:
        """The stop logit (.., N) float32 (f_a of section 3.3).

        Args:
            hidden: (.., N, H), h_t.
            logits: (.., N, C), the answer so far; C may be 0. No gradient reaches them: the answer is read,
                never bent to the decision.
            looks: int64 that broadcasts over (.., N), the looks taken.
        """
        return self.net(self.reads(hidden, logits.detach(), looks).to(hidden.dtype)).squeeze(-1).float()

    def sample(self, logit: Tensor, noise: Tensor) -> Tensor:
        """Whether to stop: (..) logits and (..) uniform noise -> (..) bool."""
        return noise < logit.sigmoid()

    def reset(self, num_steps: int | None) -> None:
        """Stop with probability 1 / `num_steps` after any look, so that every number of steps is tried.

        None: stop after the first look, as before any training.
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
    """Decides from h alone, by one linear layer (the paper)."""

    def __init__(self, hidden_size: int):
        super().__init__(nn.Linear(hidden_size, 1))

    def reads(self, hidden: Tensor, logits: Tensor, looks: Tensor) -> Tensor:
        return hidden


class Confidence(StopPolicy):
    """Reads h and how sure the answer is (the authors' decider reads the classifier as well)."""

    def __init__(self, hidden_size: int):
        super().__init__(nn.Linear(hidden_size + 2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def reads(self, hidden: Tensor, logits: Tensor, looks: Tensor) -> Tensor:
        return torch.cat([hidden, confidence(logits).to(hidden.dtype)], dim=-1)


class Margin(StopPolicy):
    """Reads how far the first choice is ahead of the second, and the looks taken: little, for few images."""

    def __init__(self, hidden_size: int):
        super().__init__(nn.Linear(2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))

    def reads(self, hidden: Tensor, logits: Tensor, looks: Tensor) -> Tensor:
        ahead = margin(logits)
        return torch.stack([ahead, torch.ones_like(ahead) * looks], dim=-1)


STOPPERS: dict[str, type[StopPolicy]] = {"linear": Linear, "confidence": Confidence, "margin": Margin}


def confidence(logits: Tensor) -> Tensor:
    """How sure an answer is: (.., C) -> (.., 2), log-odds of its first choice and entropy in nats."""
    if not logits.shape[-1]:
        return logits.new_zeros(*logits.shape[:-1], 2)
    log_probs = logits.float().log_softmax(-1)
    best = log_probs.amax(-1).clamp(max=-1e-6)
    log_odds = best - torch.log(-torch.expm1(best))
    return torch.stack([log_odds, -(log_probs.exp() * log_probs).sum(-1)], dim=-1)


def margin(logits: Tensor) -> Tensor:
    """How far an answer's first choice is ahead of its second, in nats: (.., C) -> (..) float32."""
    if not logits.shape[-1]:
        return logits.new_zeros(logits.shape[:-1])
    best = logits.float().topk(min(2, logits.shape[-1]), dim=-1).values
    return best[..., 0] - best[..., -1]


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


def stop_entropies(stop_logits: Tensor) -> Tensor:
    """Entropy in nats of each continue-or-stop decision, elementwise."""
    return F.softplus(stop_logits) - stop_logits * stop_logits.sigmoid()
