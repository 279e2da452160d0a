"""All steps of every image, with every tensor kept: for training, and for measuring policies afterwards."""

import torch
from torch import Tensor, nn

from .records import Noise, Rollout, State
from .stopping import first_stop


def rollout(
    model: nn.Module,
    images: Tensor,
    num_rollouts: int,
    noise: Noise | None,
    locations: Tensor | None,
    std: float,
) -> Rollout:
    """Take all T steps, then read the heads of all of them at once.

    Args:
        model: a DTRAM.
        images: (B, C, H, W) floats.
        num_rollouts: M per image; they share the context view.
        noise: of N = B * M rollouts, what actions are drawn by; None takes the best ones.
        locations: (N, T, 2), look there instead of asking the policy; a context step ignores its own.
        std: of the location policy.
    """
    start = model.begin(images)
    states, samples = [start.repeat(num_rollouts)], []
    if model.context != "none":
        states.append(model.advance(images, start, None).repeat(num_rollouts))
        samples.append(torch.full((len(states[0]), 2), torch.nan, device=images.device))
    for t in range(len(samples), model.num_steps):
        if locations is None:
            chosen = _choose(model.locator, states[-1], None if noise is None else noise.location[:, t], std)
        else:
            chosen = locations[:, t]
        samples.append(chosen)
        states.append(model.advance(images, states[-1], chosen.clamp(-1, 1)))
    return _read_heads(model, states, torch.stack(samples), noise, std if locations is None else None)


@torch.no_grad()
def _choose(locator: nn.Module, state: State, noise: Tensor | None, std: float) -> Tensor:
    """Where to look next, (N, 2), not yet clipped: the best location, or one drawn by `noise` (N, A')."""
    plan = locator.plan(state)
    return locator.greedy(plan) if noise is None else locator.sample(plan, noise, std)


def _read_heads(
    model: nn.Module, states: list[State], samples: Tensor, noise: Noise | None, std: float | None
) -> Rollout:
    """What the heads say of all steps, with the steps in front: few, large operations, also backwards.

    Args:
        model: a DTRAM.
        states: before the first look and after each.
        samples: (T, N, 2), where each look went, not clipped.
        noise: what actions were drawn by; None if they were not.
        std: of the policy that chose the locations; None if they were given.
    """
    after = State.over_time(states[1:])
    log_probs = torch.zeros_like(samples[:, :, 0])
    first = int(model.context != "none")  # the first look that a policy chose
    if noise is not None and std is not None and len(samples) > first:
        plan = model.locator.plan(State.over_time(states[first:-1]))
        drawn = model.locator.distribution(plan, std).log_prob(samples[first:])
        log_probs = torch.cat([log_probs[:first], drawn])
    logits = model.logits(after)
    stop_logits = model.stop_logit(after, logits) if model.dynamic else torch.full_like(log_probs, torch.nan)
    begun = states[0].hidden.to(after.hidden.dtype)[None]
    baselines = torch.cat([model.baseline(hidden.detach()) for hidden in (begun, after.hidden)])
    return Rollout(
        logits=logits.float().transpose(0, 1),
        locations=samples.clamp(-1, 1).transpose(0, 1),
        location_log_probs=log_probs.T,
        stop_logits=stop_logits.T,
        steps=_choose_steps(model, stop_logits.T.detach(), None if noise is None else noise.stop),
        baselines=baselines.float().squeeze(-1).T,
        hidden=after.hidden.transpose(0, 1),
        own_logits=None if after.own is None else after.own.transpose(0, 1),
        samples=samples.transpose(0, 1),
    )


def _choose_steps(model: nn.Module, stop_logits: Tensor, noise: Tensor | None) -> Tensor:
    """T(n) of each rollout, (N, T) -> (N,): where it is drawn to stop, or first passes the threshold."""
    if not model.dynamic:
        return torch.full((len(stop_logits),), model.num_steps, device=stop_logits.device)
    if noise is not None:
        return first_stop(model.stopper.sample(stop_logits, noise))
    return first_stop(stop_logits.sigmoid() > model.stop_threshold)
