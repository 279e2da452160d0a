"""Prediction with early exit: every look computes only the images that go on."""

import torch
from torch import Tensor, nn

from .glimpse import Images
from .input import is_recorded
from .limits import Clock, Limits
from .records import Prediction, State
from .trace import Trace


def predict(model: nn.Module, images: Images, limits: Limits) -> Prediction:
    """Take the best actions; the batch shrinks as images stop.

    Args:
        model: a DTRAM.
        images: as the model reads them.
        limits: when images stop.

    Raises:
        ValueError: a graph of a model with `dynamic=True` is being recorded.
    """
    if model.dynamic and is_recorded():
        raise ValueError(
            "dynamic=True stops at a step that depends on the image, which no graph can; export with "
            "dynamic=False, or look by look with dtram_hub.models.export.export_looks."
        )
    state, clock = model.begin(images), limits.clock(model)
    trace = Trace(model, state.hidden, state.count, limits.max_steps)
    take_looks = _stop_above_threshold if limits.mean_steps is None else _stop_the_surest
    trace.finish(take_looks(images, state, trace, clock, limits))
    return trace.prediction()


def _stop_above_threshold(images: Images, state: State, trace: Trace, clock: Clock, limits: Limits) -> State:
    """Every image stops at the first stop probability above the threshold; returns those that never did."""
    for step in range(1, limits.max_steps + 1):
        looked = state.count
        state, probs = trace.look(images, state)
        if step == limits.max_steps:
            break
        if probs is not None and not probs.is_meta:  # a meta tensor has no value to compare
            goes_on = (probs <= limits.stop_threshold).cpu()  # the only wait for the device in a step
            if not goes_on.all():
                trace.finish(state.index(_where(~goes_on, state)))
                state = state.index(_where(goes_on, state))
        clock.measure(looked)
        if state.count == 0 or not clock.allows(state.count):
            break
    return state


def _stop_the_surest(images: Images, state: State, trace: Trace, clock: Clock, limits: Limits) -> State:
    """All images together take a budget of looks; the next look is of the images least sure to stop.

    A round takes half of the looks that are left, so that the images seen again are weighed again. It takes
    more if the rounds to come could not take the rest.
    """
    state, probs = trace.look(images, state)
    clock.measure(len(state))
    left = int((limits.mean_steps - 1) * len(state) + 1e-6)
    for rounds in range(limits.max_steps - 1, 0, -1):
        chosen = min(state.count, max(-(-left // 2), -(-left // rounds)))
        if chosen == 0 or not clock.allows(chosen):
            break
        order = torch.where(state.looks < limits.max_steps, probs, torch.inf).cpu().argsort(stable=True)
        again, rest = (
            state.index(part.to(probs.device)) for part in order.split([chosen, len(order) - chosen])
        )
        more, probs_again = trace.look(images, again)
        clock.measure(chosen)
        rest_probs = probs[order[chosen:].to(probs.device)]
        state, probs = State.cat([more, rest]), torch.cat([probs_again, rest_probs])
        left -= chosen
    return state


def _where(chosen: Tensor, state: State) -> Tensor:
    return chosen.nonzero().squeeze(1).to(state.hidden.device, non_blocking=True)
