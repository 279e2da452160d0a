"""Rollouts (Eq. 2): all T steps of every image with every tensor kept, for training and evaluation."""

import torch
from torch import Tensor, nn

from .glimpse import Images
from .records import Noise, Rollout, Seen, State
from .stopping import first_stop


def rollout(
    model: nn.Module,
    images: Images,
    num_rollouts: int,
    noise: Noise | None,
    locations: Tensor | None,
    std: float,
    through_views: bool = False,
    first: Seen | None = None,
) -> Rollout:
    """Take all T steps, then apply the heads to all steps at once.

    Args:
        model: a DTRAM.
        images: as the model reads them.
        num_rollouts: M, the rollouts of one image; they share the context view.
        noise: the randomness of the N = B * M rollouts; None takes the best actions.
        locations: (N, T, 2) locations to look at instead of the policy's. A context view ignores its own.
        std: standard deviation of the location policy.
        through_views: whether a location passes on the gradient of its view to the policy.
        first: `encode_view` of the context views, if it is known.
    """
    start = model.begin(images)
    states, samples = [start.repeat(num_rollouts)], []
    if model.context != "none":
        states.append(model.advance(images, start, None, first).repeat(num_rollouts))
        samples.append(torch.full((len(states[0]), 2), torch.nan, device=start.hidden.device))
    for t in range(len(samples), model.num_steps):
        if locations is None:
            drawn = None if noise is None else noise.location[:, t]
            chosen = _choose(model.locator, states[-1], drawn, std, through_views)
        else:
            chosen = locations[:, t]
        samples.append(chosen.detach())
        states.append(model.advance(images, states[-1], chosen.clamp(-1, 1)))
    return _read_heads(model, states, torch.stack(samples), noise, std if locations is None else None)


def _choose(
    locator: nn.Module, state: State, noise: Tensor | None, std: float, through_views: bool
) -> Tensor:
    """The next location (N, 2) before clipping: the best one, or one sampled by `noise` (N, A)."""
    # Not under `no_grad`: autocast of older versions of torch would keep weights that it casts there, and the
    # heads would read those, without a gradient to the policy.
    plan = locator.plan(state)
    chosen = locator.greedy(plan) if noise is None else locator.sample(plan, noise, std)
    if not through_views:
        return chosen.detach()
    mean = locator.distribution(plan, std).mean
    return chosen.detach() + mean - mean.detach()


def _read_heads(
    model: nn.Module, states: list[State], samples: Tensor, noise: Noise | None, std: float | None
) -> Rollout:
    """Apply the heads to all steps at once: fewer and larger operations, forwards and backwards.

    Args:
        model: a DTRAM.
        states: T + 1 states, before the first step and after each step.
        samples: (T, N, 2), the locations before clipping.
        noise: the randomness of the actions; None if the actions are the best ones.
        std: standard deviation of the location policy; None if the locations were given.
    """
    after = State.over_time(states[1:])
    log_probs = torch.zeros_like(samples[:, :, 0])
    scores = log_probs if model.locator.scores_places else None
    first = int(model.context != "none")  # index of the first step with a location of the policy
    if noise is not None and std is not None and len(samples) > first:
        plan = model.locator.plan(State.over_time(states[first:-1]))
        sampled = model.locator.distribution(plan, std).log_prob(samples[first:])
        log_probs = torch.cat([log_probs[:first], sampled])
        if scores is not None:
            scores = torch.cat([scores[:first], model.locator.score(plan, samples[first:])])
    logits = model.logits(after)
    stop_logits = model.stop_logit(after, logits) if model.dynamic else torch.full_like(log_probs, torch.nan)
    of_glimpses = [model.answer.of_glimpses(state) for state in states[1:]]
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
        glimpse_logits=None if of_glimpses[0] is None else torch.stack(of_glimpses, dim=1),
        location_scores=None if scores is None else scores.T,
    )


def _choose_steps(model: nn.Module, stop_logits: Tensor, noise: Tensor | None) -> Tensor:
    """T(n), the step at which each rollout stops, (N, T) -> (N,) int64 in 1..T.

    A rollout without `noise` stops where its stop probability is first above the threshold.
    """
    if not model.dynamic:
        return torch.full((len(stop_logits),), model.num_steps, device=stop_logits.device)
    if noise is not None:
        return first_stop(model.stopper.sample(stop_logits, noise))
    return first_stop(stop_logits.sigmoid() > model.stop_threshold)
